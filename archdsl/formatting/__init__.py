"""The formatter: a spec in its one canonical style, which docs/formatting.md describes."""

from __future__ import annotations

import re
from typing import Final

from archdsl.common.limits import deep_calls, limited
from archdsl.common.source import Source
from archdsl.diagnostics import Diagnostic, Diagnostics, Mark, SpecError
from archdsl.formatting.layout import lay_out
from archdsl.formatting.pieces import read_pieces
from archdsl.formatting.proof import Difference, comments_difference, text_difference, tree_difference
from archdsl.syntax import tree
from archdsl.syntax.lexer import Lexeme
from archdsl.syntax.parser import parse_tokens

BOM: Final = "\ufeff"


def format_text(text: str, name: str) -> str:
    """A spec in canonical form; `name` is for messages. A BOM and Windows' line ends stay.

    Before it returns, it proves that the result has the same syntax tree and the same comments in their order, and that
    formatting it again changes nothing. Raises SpecError for a syntax error, or if that cannot be proved (E0605).
    """
    mark = BOM if text.startswith(BOM) else ""
    first = re.search(r"\r\n|\r|\n", text)
    windows = first is not None and first[0] == "\r\n"
    plain = text.removeprefix(BOM).replace("\r\n", "\n").replace("\r", "\n")
    done = format_source(Source(name, plain))
    return mark + (done.replace("\n", "\r\n") if windows else done)


def format_source(source: Source) -> str:
    """As `format_text`, for a text whose lines end with a line feed."""
    diagnostics = Diagnostics()
    with limited(), deep_calls():
        file, tokens = parse_tokens(source, diagnostics)
        diagnostics.stop_on_errors()
        text = lay_out(read_pieces(source.text, tokens))
        if text != source.text and (found := _difference(source, file, tokens, text)) is not None:
            message = f"{source.name} could not be formatted: {found.what}"
            help = "this is a bug in archdsl, which writes only what it can prove: please report the spec"
            raise SpecError([Diagnostic("E0605", message, (Mark(found.span),), help=help)])
    return text


def _difference(source: Source, file: tree.File, tokens: list[Lexeme], text: str) -> Difference | None:
    """The objection to a result; None if there is none."""
    diagnostics = Diagnostics()
    result = Source(source.name, text)
    again, new_tokens = parse_tokens(result, diagnostics)
    if diagnostics.errors:
        return Difference(diagnostics.errors[0].marks[0].span, "the result would have a syntax error")
    return (
        tree_difference(file, again)
        or comments_difference((source, tokens), (result, new_tokens))
        or text_difference(result, lay_out(read_pieces(text, new_tokens)))
    )
