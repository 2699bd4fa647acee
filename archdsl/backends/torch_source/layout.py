"""Lines of Python laid out as ruff format and Black lay them out, from statements written on one line."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from archdsl.backends.torch_source.expressions import escaped

WIDTH = 88
OPENING, CLOSING = "([{", ")]}"


def statement(text: str, indent: int, comment: str = "") -> list[str]:
    """A simple statement. A comment that does not fit behind it is left out."""
    pad = " " * indent
    if indent + len(text) + len(comment) + 2 <= WIDTH and comment:
        return [f"{pad}{text}  # {comment}"] if indent + len(text) + len(comment) + 4 <= WIDTH else [pad + text]
    if indent + len(text) <= WIDTH:
        return [pad + text]
    head, value = _target(text)
    if value is None:
        return _split(text, indent, "")
    lines = _value(value, indent, len(head))
    targets = _commas(head.removesuffix(" = "))
    if len(targets) > 1 and indent + len(head) + len(lines[0]) > WIDTH:
        return [f"{pad}(", *[f"{pad}    {target}," for target in targets], *statement(f") = {value}", indent)]
    return [pad + head + lines[0], *lines[1:]]


def header(text: str, indent: int) -> list[str]:
    """The head of a compound statement, its colon included."""
    pad = " " * indent
    if indent + len(text) <= WIDTH:
        return [pad + text]
    keyword, _, rest = text[:-1].partition(" ")
    if keyword == "if":
        inner = _operands(rest, indent + 4)
        return [f"{pad}if (", *inner, f"{pad}):"]
    return _split(text, indent, "")


def _target(text: str) -> tuple[str, str | None]:
    """`self.conv = ` and the rest; `return ` likewise."""
    if text.startswith("return "):
        return "return ", text[7:]
    for sign in (" = ", " += ", " -= "):
        place = _find(text, sign)
        if place is not None:
            return text[: place + len(sign)], text[place + len(sign) :]
    return "", None


def _value(text: str, indent: int, used: int) -> list[str]:
    """The right side of an assignment that does not fit on its line; the first line comes without its indentation."""
    condition = _find(text, " if ")
    operators = [sign for sign in (" | ", " + ", " - ", " * ", " / ") if _find(text, sign) is not None]
    if condition is not None or operators or not text.endswith(tuple(CLOSING)):
        scaled = re.fullmatch(r"\((.*)\)( [*/] \w+)", text)
        if scaled and _first_bracket(text) == scaled.end(1):
            return ["(", *_operands(scaled[1], indent + 4), " " * indent + ")" + scaled[2]]
        body = [" " * (indent + 4) + text] if indent + 4 + len(text) <= WIDTH else []
        if not body and condition is not None:
            otherwise = _find(text, " else ")
            assert otherwise is not None
            parts = [text[:condition], text[condition + 1 : otherwise], text[otherwise + 1 :]]
            for part in parts:
                body += _item(part, indent + 4, "")
        elif not body and operators:
            body = _operands(text, indent + 4)
        elif not body:
            return [text]
        return ["(", *body, " " * indent + ")"]
    lines = _split(text, indent, "")
    return [lines[0].lstrip(), *lines[1:]]


def _operands(text: str, indent: int) -> list[str]:
    """A chain of operators, each with what is behind it on a line."""
    pad = " " * indent
    if indent + len(text) <= WIDTH:
        return [pad + text]
    for signs in ((" or ",), (" and ",), (" | ",), (" + ", " - "), (" * ", " / ")):
        cuts = sorted(place for sign in signs for place in _all(text, sign))
        if cuts:
            parts = [text[a:b] for a, b in zip([0, *[c + 1 for c in cuts]], [*cuts, len(text)], strict=True)]
            return [line for part in parts for line in _item(part, indent, "")]
    return [pad + text]


def _item(text: str, indent: int, end: str) -> list[str]:
    """Something on a line of its own, `end` behind it."""
    if indent + len(text) + len(end) <= WIDTH or not text.endswith(tuple(CLOSING)):
        return [" " * indent + text + end]
    return _split(text, indent, end)


def _split(text: str, indent: int, end: str) -> list[str]:
    """A call, list, tuple or comprehension with its inside on lines of its own."""
    pad = " " * indent
    open_at, close_at = _last_bracket(text)
    head, inside, tail = text[: open_at + 1], text[open_at + 1 : close_at], text[close_at:]
    if not inside:
        return [pad + text + end]
    inner = indent + 4
    fits = inner + len(inside) <= WIDTH
    clause = _find(inside, " for ")
    if clause is not None:
        parts = [inside] if fits else [inside[:clause], inside[clause + 1 :]]
        lines = [line for part in parts for line in _item(part, inner, "")]
        return [pad + head, *lines, pad + tail + end]
    parts = _commas(inside)
    is_literal = not (open_at and (text[open_at - 1].isalnum() or text[open_at - 1] in "_])"))
    if len(parts) == 1 and not inside.endswith(",") and head[-1] == ("(" if is_literal else "["):
        return [pad + head, *_operands(inside, inner), pad + tail + end]  # a comma would make it a tuple
    if fits and not (is_literal and len(parts) > 1) and not inside.endswith(","):
        return [pad + head, " " * inner + inside, pad + tail + end]
    lines = [line for part in parts for line in _item(part, inner, ",")]
    return [pad + head, *lines, pad + tail + end]


def _first_bracket(text: str) -> int:
    """Where the bracket ends that a text begins with."""
    depth = 0
    for i, char in _code(text):
        depth += (char in OPENING) - (char in CLOSING)
        if depth == 0:
            return i
    return len(text)


def _last_bracket(text: str) -> tuple[int, int]:
    """The last pair of brackets that stands in no other."""
    depth, start, found = 0, 0, (len(text), len(text))
    for i, char in _code(text):
        if char in OPENING:
            if depth == 0:
                start = i
            depth += 1
        elif char in CLOSING:
            depth -= 1
            if depth == 0:
                found = (start, i)
    return found


def _commas(text: str) -> list[str]:
    """The parts between the commas that stand in no brackets."""
    cuts = [i for i, char in _top(text) if char == ","]
    parts = [text[a:b].strip() for a, b in zip([0, *[c + 1 for c in cuts]], [*cuts, len(text)], strict=True)]
    return [p for p in parts if p]


def _find(text: str, wanted: str) -> int | None:
    return next(iter(_all(text, wanted)), None)


def _all(text: str, wanted: str) -> list[int]:
    """Where a piece of text stands, outside of brackets and strings."""
    if wanted not in text:
        return []
    return [i for i, char in _top(text) if char == wanted[0] and text.startswith(wanted, i)]


def _top(text: str) -> list[tuple[int, str]]:
    depth = 0
    found: list[tuple[int, str]] = []
    for i, char in _code(text):
        if char in OPENING:
            depth += 1
        elif char in CLOSING:
            depth -= 1
        elif depth == 0:
            found.append((i, char))
    return found


def _code(text: str) -> list[tuple[int, str]]:
    """The characters that stand in no string literal."""
    found: list[tuple[int, str]] = []
    quote = ""
    escape = False
    for i, char in enumerate(text):
        if quote:
            if escape:
                escape = False
            elif char == "\\":
                escape = True
            elif char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
        else:
            found.append((i, char))
    return found


def docstring(text: str, indent: int) -> list[str]:
    """A documentation string, whatever it holds; long paragraphs are wrapped."""
    pad = " " * indent
    text = text.encode(
        "utf-8", "backslashreplace"
    ).decode()  # halves of characters, which no class can have as its text
    paragraphs = [
        " ".join(p.split(" ")) for p in text.replace("\r\n", "\n").replace("\t", " ").strip(" \n").split("\n")
    ]
    # No quote may meet another one, or those around the text.
    lines = [re.sub(r'^"|"(?="|$)', r'\\"', escaped(p.strip(" "))) for p in paragraphs]
    if len(lines) == 1 and indent + len(lines[0]) + 6 <= WIDTH:
        return [f'{pad}"""{lines[0]}"""'] if lines[0] else []
    wrapped: list[str] = []
    for line in lines:
        width = WIDTH - indent - (0 if wrapped else 3)
        parts = textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
        if not wrapped and len(parts) > 1:
            parts = [
                parts[0],
                *textwrap.wrap(" ".join(parts[1:]), WIDTH - indent, break_long_words=False, break_on_hyphens=False),
            ]
        wrapped += parts or [""]
    if len(wrapped) == 1:  # one line with its quotes would be too long, and formatters would join them
        first, _, last = wrapped[0].rpartition(" ")
        if not first:
            return [f'{pad}"""{last}"""']
        wrapped = [first, last]
    body = [pad + line if line else "" for line in wrapped[1:]]
    return [f'{pad}"""{wrapped[0]}', *body, f'{pad}"""']


def blocks(parts: Sequence[Sequence[str]]) -> str:
    """A file of parts with two empty lines between them."""
    return "\n\n\n".join("\n".join(part) for part in parts) + "\n"
