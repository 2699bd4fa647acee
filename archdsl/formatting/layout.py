"""The lines of a spec: what does not fit on one is broken, outermost first, as a hand would."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from archdsl.formatting.columns import WIDTH, align
from archdsl.formatting.pieces import Bracket, Comment, Item, Link, Part, Word, flat_text

STEP: Final = 4
"""The indentation of a level, in spaces."""
FARTHEST: Final = 40
"""Comments behind neighbouring lines are aligned unless the lengths of the lines differ by more."""

_DEFINITIONS: Final = frozenset({"BLOCK", "MODEL", "AUGMENT", "EXTERN"})
_LEVELS: Final = ({"IF", "ELSE"}, {"OR"}, {"AND"}, {"COMPARISON"}, {"SIGN"}, {"SCALE"})
"""The operators before which a value may be broken, those that bind least first."""


class _Note(NamedTuple):
    """A comment behind a line; those of one owner may be aligned."""

    line: int
    text: str
    owner: int


def lay_out(whole: Bracket) -> str:
    """The text of a file."""
    lines = _Lines()
    lines.file(whole)
    return lines.text()


class _Lines:
    def __init__(self) -> None:
        self.done: list[str] = []
        self.line = ""
        self.notes: list[_Note] = []

    def text(self) -> str:
        self.done.append(self.line)
        self.attach_notes()
        text = "\n".join(self.done).strip("\n")
        return f"{text}\n" if text else ""

    def attach_notes(self) -> None:
        """Puts the comments behind their lines, those of neighbouring lines in a column."""
        runs = groupby(enumerate(self.notes), lambda pair: (pair[1].owner, pair[1].line - pair[0]))
        for _, run in runs:
            notes = [note for _, note in run]
            widths = [len(self.done[note.line]) for note in notes]
            column = max(widths) if max(widths) - min(widths) <= FARTHEST else 0
            for note, width in zip(notes, widths, strict=True):
                self.done[note.line] += " " * (max(column - width, 0) + 2) + note.text

    def start(self, indent: int, blank: bool = False) -> None:
        """Begins a line."""
        self.done.append(self.line)
        if blank:
            self.done.append("")
        self.line = " " * indent

    def comments(self, comments: Sequence[Comment], indent: int, first: bool = False) -> None:
        """Comments on lines of their own; above the `first` no line is left empty."""
        for index, comment in enumerate(comments):
            self.start(indent, comment.blank and not (first and index == 0))
            self.line += comment.text

    def note(self, comment: Comment | None, owner: object) -> None:
        if comment is not None:
            self.notes.append(_Note(len(self.done), comment.text, id(owner)))

    def fits(self, width: int) -> bool:
        return len(self.line) + width <= WIDTH

    # ------------------------------------------------------------ items

    def file(self, whole: Bracket) -> None:
        above = False
        for index, item in enumerate(whole.items):
            words = [part for part in item.links[0].parts if isinstance(part, Word)]
            large = words[0].kind in _DEFINITIONS and (item.flat is None or len(item.flat) > WIDTH)
            loose = item.blank or any(comment.blank for comment in item.before)
            if index and (above or large) and not loose:
                self.done.append(self.line)
                self.line = ""
            self.comments(item.before, 0)
            self.start(0, item.blank)
            self.item(item, 0, "", whole)
            self.note(item.after, whole)
            above = large
        self.comments(whole.last, 0)

    def items(self, bracket: Bracket, indent: int) -> None:
        """The items of a bracket, each on a line of its own, except that plain words share lines."""
        align(bracket, indent)
        commas = bracket.role not in ("body", "choices")
        filled = bracket.role == "list" and all(map(_is_plain, bracket.items))
        for index, item in enumerate(bracket.items):
            last = index == len(bracket.items) - 1
            tail = "," if commas and (not last or bracket.comma) else ""
            self.comments(item.before, indent, first=not index)
            above = bracket.items[index - 1].after if index else None
            fresh = not index or item.fresh or item.before or above or not self.fits(len(item.flat or "") + 2)
            if filled and not fresh:
                self.line += " "
            else:
                self.start(indent, item.blank and (index > 0 or bool(item.before)))
            self.item(item, indent, tail, bracket)
            self.line += tail
            self.note(item.after, bracket)
        self.comments(bracket.last, indent, first=not bracket.items)

    def item(self, item: Item, indent: int, tail: str, bracket: Bracket) -> None:
        values = bracket.role in ("call", "group", "list", "index")
        if item.flat is not None and self.fits(len(item.flat) + len(tail)):
            self.line += item.flat
        elif len(item.links) == 1:
            self.link(item.links[0], indent, tail, (0 if len(bracket.items) == 1 else STEP) if values else None)
        elif not item.split() and (broken := self.flowing(item, indent, tail)) is not None:
            for index, link in enumerate(item.links):
                self.line += " -> " if index else ""
                self.parts(link.parts, broken[index], indent)
        else:
            for index, link in enumerate(item.links):
                step = STEP if index else 0
                if index:
                    self.comments(link.before, indent + STEP)
                    self.start(indent + STEP)
                    self.line += "-> "
                self.link(link, indent + step, tail if link is item.links[-1] else "", None)
                self.note(link.after, item)

    def flowing(self, item: Item, indent: int, tail: str) -> list[set[int]] | None:
        """The brackets of each link to break, so that a chain fits without a line for each link; None if none do."""
        if any(isinstance(part, Comment) for link in item.links for part in link.parts):
            return None
        hard = [_hard(link.parts) for link in item.links]
        branches = [places | _branches(link.parts) for places, link in zip(hard, item.links, strict=True)]
        for broken in (hard, branches):
            width: int | None = len(self.line) - len(" -> ")
            for link, places in zip(item.links, broken, strict=True):
                rest = len(tail) if link is item.links[-1] else 0
                width = _width(link.parts, places, width + len(" -> "), indent, rest) if width is not None else None
            if width is not None:
                return broken
        return None

    # ------------------------------------------------------------ links

    def link(self, link: Link, indent: int, tail: str, step: int | None) -> None:
        """One link. `step` is the indentation of its operators if it is a value that may be broken before them."""
        parts = link.parts
        if any(isinstance(part, Comment) for part in parts):
            self.ragged(parts, indent)
        elif link.flat is not None and self.fits(len(link.flat) + len(tail)):
            self.line += link.flat
        else:
            hard = _hard(parts)
            fits = _width(parts, hard, len(self.line), indent, len(tail)) is not None
            value = _value(parts) if step is None else 0
            pieces = _operands(parts[value:]) if value is not None and not fits else []
            if pieces and step is None:
                self.bracketed(parts[:value], pieces, indent)
            elif pieces:
                self.operands(pieces, indent, tail, step or 0)
            else:
                self.parts(parts, self.chosen(parts, hard, indent, len(tail)), indent)

    def operands(self, pieces: list[Link], indent: int, tail: str, step: int) -> None:
        """A value with a line for each of its operands."""
        for index, piece in enumerate(pieces):
            if index:
                self.start(indent + step)
            last = index == len(pieces) - 1
            self.link(piece, indent + (step if index else 0), tail if last else "", step)

    def bracketed(self, head: Sequence[Part], pieces: list[Link], indent: int) -> None:
        """A value that gets brackets, since no newline may be outside of them."""
        self.parts(head, (), indent)
        self.line += " ("
        self.start(indent + STEP)
        self.operands(pieces, indent + STEP, "", 0)
        self.start(indent)
        self.line += ")"

    def chosen(self, parts: Sequence[Part], hard: set[int], indent: int, rest: int) -> set[int]:
        """The brackets to break, by their places: as few as will do, bodies before others, the last first."""

        def enough(broken: set[int]) -> bool:
            return _width(parts, broken, len(self.line), indent, rest) is not None

        soft = [i for i, part in enumerate(parts) if isinstance(part, Bracket) and part.items and i not in hard]
        bodies = {i for i in soft if _bracket(parts[i]).opening == "{"}
        for more in (set[int](), bodies, *(bodies | {i} for i in reversed(soft)), *({i} for i in reversed(soft))):
            if enough(hard | more):
                return hard | more
        return hard | set(soft)

    def parts(self, parts: Sequence[Part], broken: Collection[int], indent: int) -> None:
        for index, part in enumerate(parts):
            if isinstance(part, Comment):
                continue
            self.line += " " if part.space and index else ""
            if isinstance(part, Word):
                self.line += part.text
            elif index in broken:
                self.broken(part, indent)
            else:
                self.line += part.flat or ""

    def ragged(self, parts: Sequence[Part], indent: int) -> None:
        """A link with comments between its words: each comment ends its line."""
        begun, inner = True, indent
        for part in parts:
            if isinstance(part, Comment):
                begun, inner = False, indent + STEP
                if part.own:
                    self.comments([part], inner, first=True)
                else:
                    self.note(part, part)
                continue
            if not begun:
                inner = indent if isinstance(part, Word) and part.kind == "ELSE" else inner
                self.start(inner)
                begun = True
            elif part.space:
                self.line += " "
            if isinstance(part, Word):
                self.line += part.text
            elif part.flat is not None and self.fits(len(part.flat)):
                self.line += part.flat
            else:
                self.broken(part, inner)

    # ------------------------------------------------------------ brackets

    def broken(self, bracket: Bracket, indent: int) -> None:
        """A bracket whose items are on lines of their own."""
        self.line += bracket.opening
        self.note(bracket.note, bracket.opening)
        inner = _hugged(bracket)
        if inner is not None and _width(inner.parts, _hard(inner.parts), len(self.line), indent, 1) is not None:
            self.parts(inner.parts, _hard(inner.parts), indent)
        elif self.joins(bracket, indent):
            self.start(indent + STEP)
            comma = "," if bracket.role == "call" and len(bracket.items) > 1 else ""
            self.line += ", ".join(item.flat or "" for item in bracket.items) + comma
            self.start(indent)
        else:
            self.items(bracket, indent + STEP)
            self.start(indent)
        self.line += bracket.closing

    def joins(self, bracket: Bracket, indent: int) -> bool:
        """Whether all arguments are on one line, below that of their bracket."""
        if bracket.hard or bracket.role not in ("call", "group", "index"):
            return False
        return indent + STEP + sum(len(item.flat or "") + 2 for item in bracket.items) <= WIDTH + 1


def _bracket(part: Part) -> Bracket:
    assert isinstance(part, Bracket)
    return part


def _hard(parts: Sequence[Part]) -> set[int]:
    """The places of the brackets that take several lines whatever their length."""
    return {index for index, part in enumerate(parts) if isinstance(part, Bracket) and part.flat is None}


def _branches(parts: Sequence[Part]) -> set[int]:
    """The places of the brackets that hold branches."""
    return {index for index, part in enumerate(parts) if isinstance(part, Bracket) and part.role == "parallel"}


def _hugged(bracket: Bracket) -> Link | None:
    """The single content of a bracket that may share its lines: `f([ … ])`, `(for x in xs { … })`."""
    if len(bracket.items) != 1 or bracket.note or bracket.last:
        return None
    item = bracket.items[0]
    link = item.links[0]
    if len(item.links) > 1 or item.before or item.after or any(isinstance(part, Comment) for part in link.parts):
        return None
    end = link.parts[-1]
    alone = bracket.role in ("call", "group") and all(isinstance(part, Word) for part in link.parts[:-1])
    loop = bracket.role == "parallel" and not item.fresh
    return link if (alone or loop) and isinstance(end, Bracket) and end.flat is None else None


def _width(parts: Sequence[Part], broken: Collection[int], width: int, indent: int, rest: int) -> int | None:
    """Where the last line of parts ends if some brackets are broken, before the `rest` of it; None if a line is too
    long. `width` is the length of the line so far."""
    for index, part in enumerate(parts):
        if isinstance(part, Comment):
            continue
        width += bool(part.space and index)
        if isinstance(part, Word):
            width += len(part.text)
        elif index in broken:
            if width >= WIDTH:
                return None
            inner = _hugged(part)
            inside = _width(inner.parts, _hard(inner.parts), width + 1, indent, 1) if inner is not None else None
            width = indent + 1 if inside is None else inside + 1
        else:
            width += len(part.flat or "")
    return width if width + rest <= WIDTH else None


def _is_plain(item: Item) -> bool:
    """Whether an item is a word or a number with a sign."""
    parts = item.links[0].parts
    return len(item.links) == 1 and len(parts) <= 2 and all(isinstance(part, Word) for part in parts)


def _value(parts: Sequence[Part]) -> int | None:
    """The place of the value of a `let` or `fn`; None in other statements, and if it takes several lines."""
    kinds = [part.kind if isinstance(part, Word) else "" for part in parts]
    if kinds[0] not in ("LET", "FN") or "EQUAL" not in kinds or _hard(parts):
        return None
    return kinds.index("EQUAL") + 1


def _operands(parts: Sequence[Part]) -> list[Link]:
    """A value cut before the operators that bind least."""
    kinds = [part.kind if isinstance(part, Word) else "" for part in parts]
    for level in _LEVELS:
        places = [index for index, kind in enumerate(kinds) if kind in level and index]
        if places:
            cuts = [list(parts[a:b]) for a, b in zip([0, *places], [*places, len(parts)], strict=True)]
            return [Link(cut, flat=flat_text(cut)) for cut in cuts]
    return []
