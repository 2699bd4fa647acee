"""From spans and strings to the types of the protocol."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from lsprotocol import types
from pygls import uris

from archdsl.common.source import Source, Span
from archdsl.diagnostics import Diagnostic
from archdsl.editing.analysis import Analysis
from archdsl.editing.completion import Completion
from archdsl.editing.positions import Encoding, Lines

SEVERITIES: Final = {"error": types.DiagnosticSeverity.Error, "warning": types.DiagnosticSeverity.Warning}

Formats = Sequence[types.MarkupKind]
"""The formats of documentation that an editor shows."""

FENCES: Final = re.compile(r"^```.*\n?", re.MULTILINE)

KINDS: Final = {
    "operation": types.CompletionItemKind.Function,
    "block": types.CompletionItemKind.Class,
    "model": types.CompletionItemKind.Class,
    "extern": types.CompletionItemKind.Class,
    "augment": types.CompletionItemKind.Class,
    "function": types.CompletionItemKind.Function,
    "builtin": types.CompletionItemKind.Function,
    "value": types.CompletionItemKind.Constant,
    "size": types.CompletionItemKind.Constant,
    "parameter": types.CompletionItemKind.Field,
    "attribute": types.CompletionItemKind.Property,
    "label": types.CompletionItemKind.Variable,
    "input": types.CompletionItemKind.Variable,
    "shared": types.CompletionItemKind.Variable,
    "it": types.CompletionItemKind.Variable,
    "import": types.CompletionItemKind.Reference,
    "word": types.CompletionItemKind.EnumMember,
    "keyword": types.CompletionItemKind.Keyword,
    "module": types.CompletionItemKind.Module,
}

SYMBOLS: Final = {
    "block": types.SymbolKind.Class,
    "model": types.SymbolKind.Module,
    "extern": types.SymbolKind.Class,
    "augment": types.SymbolKind.Class,
    "function": types.SymbolKind.Function,
    "value": types.SymbolKind.Constant,
    "label": types.SymbolKind.Field,
    "input": types.SymbolKind.Interface,
    "shared": types.SymbolKind.Object,
}


class Converter:
    """Converts positions in the encoding that the editor chose, keeping the lines of each text."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self._lines: dict[int, tuple[Source, Lines]] = {}

    def lines(self, source: Source) -> Lines:
        known = self._lines.get(id(source))
        if known is None or known[0] is not source:
            if len(self._lines) > 64:
                self._lines.clear()
            known = self._lines[id(source)] = (source, Lines(source.text))
        return known[1]

    def offset(self, source: Source, position: types.Position) -> int:
        return self.lines(source).offset(position.line, position.character, self.encoding)

    def position(self, source: Source, offset: int) -> types.Position:
        return types.Position(*self.lines(source).position(offset, self.encoding))

    def range(self, span: Span) -> types.Range:
        return self.between(span.source, span.start, span.end)

    def between(self, source: Source, start: int, end: int) -> types.Range:
        return types.Range(self.position(source, start), self.position(source, end))

    def location(self, span: Span, uri_of: Callable[[Path], str]) -> types.Location | None:
        """The place of a span; None for text that is in no file."""
        if span.source.path is None:
            return None
        return types.Location(uri_of(span.source.path), self.range(span))

    def diagnostic(
        self, found: Diagnostic, analysis: Analysis, uri: str, uri_of: Callable[[Path], str]
    ) -> types.Diagnostic:
        place = analysis.place(found)
        if place.start == place.end:  # an editor shows nothing of an empty range
            place = _widened(place)
        related = []
        for mark in found.marks:
            where = types.Location(uri, self.range(mark.span)) if mark.span.source is analysis.source else None
            where = where or self.location(mark.span, uri_of)
            if where is not None and (mark.span is not place or mark.text) and where.range != self.range(place):
                related.append(types.DiagnosticRelatedInformation(where, mark.text or found.message))
        own = next((m.text for m in found.marks if m.span is place and m.text), "")
        lines = [found.message + (f" ({own})" if own else ""), *(f"note: {note}" for note in found.notes)]
        if found.help:
            lines.append(f"help: {found.help}")
        return types.Diagnostic(
            range=self.range(place),
            message="\n".join(lines),
            severity=SEVERITIES[found.severity],
            code=found.code,
            source="archdsl",
            related_information=related or None,
        )


def _widened(span: Span) -> Span:
    """A span of at least one character of its line."""
    text = span.source.text
    if span.end < len(text) and text[span.end] != "\n":
        return Span(span.source, span.start, span.end + 1)
    if span.start > 0 and text[span.start - 1] != "\n":
        return Span(span.source, span.start - 1, span.end)
    return span


def completion_item(
    item: Completion, range: types.Range | None, *, snippets: bool, formats: Formats
) -> types.CompletionItem:
    """A completion that replaces `range`, None for that of its list; without snippets, its name alone is written."""
    text = item.text or item.name
    is_snippet = item.is_snippet and snippets
    if item.is_snippet and not snippets:
        text = item.name
    return types.CompletionItem(
        label=item.name,
        kind=KINDS.get(item.kind),
        detail=item.detail or None,
        documentation=markup(item.doc, formats) if item.doc else None,
        sort_text=f"{item.rank}{item.name}",
        insert_text_format=types.InsertTextFormat.Snippet if is_snippet else None,
        text_edit=types.TextEdit(range, text) if range is not None else None,
        text_edit_text=text if range is None and text != item.name else None,
    )


def markup(text: str, formats: Formats) -> types.MarkupContent | str:
    """Markdown as it is, or where an editor does not show that, as plain text without the marks of code."""
    if types.MarkupKind.Markdown in formats:
        return types.MarkupContent(types.MarkupKind.Markdown, text)
    plain = FENCES.sub("", text).replace("`", "")
    return types.MarkupContent(types.MarkupKind.PlainText, plain) if formats else plain


def paragraphs(lines: Iterable[str]) -> str:
    return "\n\n".join(line for line in lines if line)


def path_of(uri: str) -> Path | None:
    """The path of a file; None for a document that is in no file."""
    if not uri.startswith("file:"):
        return None
    found = uris.to_fs_path(uri)
    return Path(found) if found else None


def uri_of(path: Path) -> str:
    return uris.from_fs_path(str(path.absolute())) or path.as_uri()
