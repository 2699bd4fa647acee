"""Positions as editors count them: lines from 0, and columns in code units of UTF-16, UTF-8 or UTF-32."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from typing import Literal, NamedTuple

Encoding = Literal["utf-16", "utf-8", "utf-32"]

LINE_END = re.compile(r"\r\n|\r|\n")


class Position(NamedTuple):
    """A line and a column, both from 0."""

    line: int
    column: int


class Lines:
    """A text and where its lines start. Lines end with `\\n`, `\\r\\n` or `\\r`, as in the protocol and in specs."""

    __slots__ = ("ends", "starts", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts, self.ends = [0], []
        for match in LINE_END.finditer(text):
            self.ends.append(match.start())
            self.starts.append(match.end())
        self.ends.append(len(text))

    def position(self, offset: int, encoding: Encoding) -> Position:
        """The position of an offset of the text."""
        line = bisect_right(self.starts, offset) - 1
        before = self.text[self.starts[line] : min(offset, self.ends[line])]
        return Position(line, units(before, encoding))

    def offset(self, line: int, column: int, encoding: Encoding) -> int:
        """The offset of a position; one outside the text becomes the nearest inside."""
        if line < 0:
            return 0
        if line >= len(self.starts):
            return len(self.text)
        start, end = self.starts[line], self.ends[line]
        text = self.text[start:end]
        if text.isascii() or encoding == "utf-32":
            return min(start + max(column, 0), end)
        width = 0
        for i, character in enumerate(text):
            if width >= column:
                return start + i
            width += units(character, encoding)
        return end


def units(text: str, encoding: Encoding) -> int:
    """The length of a text in code units."""
    if encoding == "utf-32" or text.isascii():
        return len(text)
    return len(text.encode("utf-8")) if encoding == "utf-8" else len(text) + sum(c > "\uffff" for c in text)


class Change(NamedTuple):
    """A range of a text, as line and column of its start and end, and what replaces it; None: the whole text."""

    range: tuple[int, int, int, int] | None
    text: str


def changed(text: str, changes: Iterable[Change], encoding: Encoding) -> str:
    """The text after these changes, each of which counts in the text that the one before has left."""
    for change in changes:
        if change.range is None:
            text = change.text
            continue
        lines = Lines(text)
        first, first_column, last, last_column = change.range
        start = lines.offset(first, first_column, encoding)
        end = max(start, lines.offset(last, last_column, encoding))
        text = text[:start] + change.text + text[end:]
    return text


def plain(text: str) -> str:
    """The text with its lines ended by `\\n`, as the parser reads it; lines and columns stay the same."""
    return LINE_END.sub("\n", text) if "\r" in text else text


class LineMap:
    """Which line of a new text was which one of an old text: those before and after the lines that differ."""

    __slots__ = ("added", "after", "same")

    def __init__(self, old: str, new: str) -> None:
        before, after = old.split("\n"), new.split("\n")
        most = min(len(before), len(after))
        self.same = next((i for i in range(most) if before[i] != after[i]), most)
        rest = next((i for i in range(most - self.same) if before[-1 - i] != after[-1 - i]), most - self.same)
        self.after, self.added = len(before) - rest, len(after) - len(before)

    def line(self, number: int) -> int | None:
        """The line in the new text of one of the old text, both from 0; None if it has changed."""
        if number < self.same:
            return number
        return number + self.added if number >= self.after else None
