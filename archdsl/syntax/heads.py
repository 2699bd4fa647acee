"""Heads of blocks and models that have a mistake: what can be read of them, so that the body is not lost."""

from __future__ import annotations

from collections.abc import Iterator

from archdsl.syntax.lexer import Lexeme
from archdsl.syntax.machine import Language, is_value


def mended_parameters(language: Language, tokens: list[Lexeme]) -> list[Lexeme]:
    """The parameters that can be read in a broken head, as tokens. A default that cannot has the name of nothing."""
    found: list[Lexeme] = []
    for name, default in _parameters(tokens):
        found += [*([Lexeme("COMMA", ",", name.start, name.start)] if found else []), name]
        if default is not None:
            lost = [Lexeme("NAME", "", name.end, name.end)]
            found += [Lexeme("EQUAL", "=", name.end, name.end), *(default if is_value(language, default) else lost)]
    if not found:
        return []
    start, end = found[0].start, found[-1].end
    return [Lexeme("LPAR", "(", start, start), *found, Lexeme("RPAR", ")", end, end)]


def _parameters(tokens: list[Lexeme]) -> Iterator[tuple[Lexeme, list[Lexeme] | None]]:
    """The names of a head's parameters, each with the tokens behind its `=`, if there is one."""
    depth, typed = 0, False
    name: Lexeme | None = None
    default: list[Lexeme] | None = None
    for token in [*tokens, Lexeme("COMMA", ",", 0, 0)]:
        typed = typed and token.kind not in ("COMMA", "EQUAL")  # `width: int`, as in Python
        outer = depth <= 1  # within the list's own bracket, or without it
        depth += (token.kind in ("LPAR", "LSQB")) - (token.kind in ("RPAR", "RSQB"))
        if outer and (token.kind == "COMMA" or (token.kind == "RPAR" and depth == 0)):
            if name is not None:
                yield name, default
            name = default = None
        elif outer and token.kind == "COLON":
            typed = True
        elif outer and token.kind == "EQUAL" and name is not None and default is None:
            default = []
        elif default is not None:
            default.append(token)
        elif outer and token.kind == "NAME" and not typed:
            if name is not None:
                yield name, None
            name = token
