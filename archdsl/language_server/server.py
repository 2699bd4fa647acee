"""The server: its documents, what it knows of the editor, and what it sends by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from archdsl import __version__
from archdsl.common.source import Source, Span
from archdsl.diagnostics import Diagnostic
from archdsl.editing.names import Symbol
from archdsl.editing.positions import LineMap
from archdsl.language_server.conversion import Converter, Formats, uri_of
from archdsl.language_server.documents import Document, Documents, Stage, View

T = TypeVar("T")

CONTENT_MODIFIED = -32801


@dataclass(slots=True, eq=False)
class Sent:
    """The diagnostics that were sent last of a document, and what its stages found: `late` in the text `source`."""

    version: int | None = None
    items: list[types.Diagnostic] = field(default_factory=list)
    early: list[types.Diagnostic] = field(default_factory=list)
    late: list[types.Diagnostic] = field(default_factory=list)
    source: Source | None = None

    def later(self, source: Source) -> list[types.Diagnostic]:
        """Diagnostics of the later stages, moved to a newer text; those in changed lines are dropped."""
        if self.source is None or not self.late:
            return []
        lines = LineMap(self.source.text, source.text)
        found = []
        for item in self.late:
            start, end = lines.line(item.range.start.line), lines.line(item.range.end.line)
            if start is not None and end is not None:
                range = types.Range(
                    types.Position(start, item.range.start.character), types.Position(end, item.range.end.character)
                )
                found.append(evolve(item, range=range))
        return found


class Server(LanguageServer):
    """A language server for specs."""

    def __init__(self, **options: Any) -> None:
        super().__init__("archdsl", __version__, **options)
        self.documents = Documents(self.deliver)
        self.convert = Converter("utf-16")
        self.shows_hints = True
        self.preview_command = self.call_command = ""
        """The editor's own commands for a preview, and to choose a call of a block, if it has them."""
        self.sent: dict[str, Sent] = {}

    # ------------------------------------------------------------ what is sent

    def deliver(self, document: Document, view: View, stage: Stage, found: list[Diagnostic]) -> None:
        """Sends what was found of a document, unless it has just been sent."""
        items = [self.convert.diagnostic(d, view.analysis, document.uri, self.uri_of) for d in found]
        sent = self.sent.setdefault(document.uri, Sent())
        if stage == "first":
            sent.early = items
            # What later stages found in the last text stays until they have looked at this one.
            items = [*items, *sent.later(view.source)]
        else:
            sent.late = [item for item in items if item not in sent.early]
            sent.source = view.source
        if (sent.version, sent.items) != (document.version, items):
            sent.version, sent.items = document.version, items
            self.text_document_publish_diagnostics(
                types.PublishDiagnosticsParams(document.uri, items, version=document.version)
            )
        if stage != "mended":
            self.refresh()

    def refresh(self) -> None:
        """Asks the editor to ask again for what it shows, where it can."""
        workspace = self.client_capabilities.workspace
        if workspace is None:
            return
        if workspace.inlay_hint is not None and workspace.inlay_hint.refresh_support:
            self.workspace_inlay_hint_refresh(None)
        if workspace.code_lens is not None and workspace.code_lens.refresh_support:
            self.workspace_code_lens_refresh(None)

    def say(self, message: str, type: types.MessageType) -> None:
        self.window_show_message(types.ShowMessageParams(type, message))

    def choose(self, document: Document, name: str, key: tuple[str, str]) -> None:
        """Shows the sizes of another call of a block."""
        document.chosen[name] = key
        self.refresh()

    # ------------------------------------------------------------ documents

    def document(self, identifier: types.TextDocumentIdentifier) -> Document | None:
        return self.documents.all.get(identifier.uri)

    async def current(self, identifier: types.TextDocumentIdentifier) -> tuple[Document, View] | None:
        """A document with what is known of its current text; a request for an older one is dropped."""
        document = self.document(identifier)
        if document is None or document.ready is None:
            return None
        return document, await _of_this_text(document.ready)

    async def finished(self, document: Document) -> View | None:
        """The state of a document once all its models are checked."""
        return await _of_this_text(document.finished) if document.finished is not None else None

    async def mended(self, document: Document) -> View | None:
        """The state of a document once the fixes of its errors have been tried, which begins now."""
        document.hurry.set()
        return await _of_this_text(document.mended) if document.mended is not None else None

    async def beside(self, work: Callable[[], T]) -> T:
        """Runs work in a thread, so that the loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(self.documents.pool, work)

    def uri_of(self, path: Path) -> str:
        """The address of a file: that by which the editor has opened it, if it has."""
        for document in self.documents.all.values():
            if document.path == path:
                return document.uri
        return uri_of(path)

    def location(self, document: Document, span: Span) -> types.Location:
        path = span.source.path
        return types.Location(document.uri if path is None else self.uri_of(path), self.convert.range(span))

    async def symbol(
        self, params: types.ReferenceParams | types.DocumentHighlightParams | types.RenameParams
    ) -> tuple[Document, View, Symbol] | None:
        """The document of a request, its state, and the symbol at the position; None if there is none."""
        found = await self.current(params.text_document)
        if found is None:
            return None
        document, view = found
        symbol = self.symbol_at(view, self.convert.offset(view.source, params.position))
        return None if symbol is None else (document, view, symbol)

    def symbol_at(self, view: View, offset: int) -> Symbol | None:
        found = view.names.at(offset)
        return found[1] if found is not None else None

    # ------------------------------------------------------------ what the editor can do

    def configure(self, settings: Any) -> None:
        """Takes the settings of the editor: `inlayHints`, and the commands of its own."""
        if not isinstance(settings, dict):
            return
        settings = settings.get("archdsl", settings)
        if not isinstance(settings, dict):
            return
        hints, previews, calls = (settings.get(k) for k in ("inlayHints", "previewCommand", "callCommand"))
        if isinstance(hints, bool):
            self.shows_hints = hints
        if isinstance(previews, str):
            self.preview_command = previews
        if isinstance(calls, str):
            self.call_command = calls

    @property
    def _completion_item(self) -> types.ClientCompletionItemOptions | None:
        found = self.client_capabilities.text_document
        return found.completion.completion_item if found is not None and found.completion is not None else None

    @property
    def snippets(self) -> bool:
        """Whether the editor takes snippets in completions."""
        return bool(self._completion_item is not None and self._completion_item.snippet_support)

    @property
    def takes_default_ranges(self) -> bool:
        """Whether a list of completions may say once what all of them replace."""
        found = self.client_capabilities.text_document
        known = found.completion.completion_list if found is not None and found.completion is not None else None
        return known is not None and "editRange" in (known.item_defaults or ())

    @property
    def completion_formats(self) -> Formats:
        item = self._completion_item
        return (item.documentation_format or ()) if item is not None else ()

    @property
    def hover_formats(self) -> Formats:
        found = self.client_capabilities.text_document
        return (found.hover.content_format or ()) if found is not None and found.hover is not None else ()

    @property
    def signature_formats(self) -> Formats:
        found = self.client_capabilities.text_document
        help = found.signature_help.signature_information if found is not None and found.signature_help else None
        return (help.documentation_format or ()) if help is not None else ()

    @property
    def takes_versions(self) -> bool:
        """Whether the editor takes changes for a certain version of a document."""
        found = self.client_capabilities.workspace
        return bool(found is not None and found.workspace_edit is not None and found.workspace_edit.document_changes)


async def _of_this_text(future: asyncio.Future[View]) -> View:
    """The result of work on a text. Raises JsonRpcException if the text has changed meanwhile."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if future.cancelled():
            raise JsonRpcException("the text has changed", CONTENT_MODIFIED) from None
        raise
