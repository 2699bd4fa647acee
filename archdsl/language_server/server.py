"""The server: which function of `archdsl.editing` answers which message."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from archdsl import __version__
from archdsl.diagnostics import Diagnostic
from archdsl.editing import completion, hover, navigation
from archdsl.editing.names import Symbol
from archdsl.editing.positions import Change
from archdsl.editing.sizes import Call
from archdsl.language_server.conversion import Converter, completion_item, paragraphs, path_of, uri_of
from archdsl.language_server.documents import Document, Documents, Stage, View
from archdsl.syntax import tree

T = TypeVar("T")

CONTENT_MODIFIED = -32801


class Server(LanguageServer):
    """A language server for specs."""

    def __init__(self) -> None:
        super().__init__("archdsl", __version__)
        self.documents = Documents(self.deliver)
        self.convert = Converter("utf-16")
        self.shows_hints = True

    # ------------------------------------------------------------ what is sent

    def deliver(self, document: Document, view: View, stage: Stage, found: list[Diagnostic]) -> None:
        items = [self.convert.diagnostic(d, view.analysis, document.uri, self.uri_of) for d in found]
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

    def uri_of(self, path: Any) -> str:
        """The address of a file: that by which the editor has opened it, if it has."""
        for document in self.documents.all.values():
            if document.path == path:
                return document.uri
        return uri_of(path)

    # ------------------------------------------------------------ what is asked

    def document(self, identifier: types.TextDocumentIdentifier) -> Document | None:
        return self.documents.all.get(identifier.uri)

    async def current(self, identifier: types.TextDocumentIdentifier) -> tuple[Document, View] | None:
        """A document with what is known of its current text; a request for an older one is dropped."""
        document = self.document(identifier)
        if document is None or document.ready is None:
            return None
        try:
            return document, await asyncio.shield(document.ready)
        except asyncio.CancelledError:
            if document.ready.cancelled():
                raise JsonRpcException("the text has changed", CONTENT_MODIFIED) from None
            raise

    async def beside(self, work: Callable[[], T]) -> T:
        """Runs work in a thread, so that the loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(self.documents.pool, work)

    @property
    def snippets(self) -> bool:
        """Whether the editor takes snippets in completions."""
        found = self.client_capabilities.text_document
        item = found.completion.completion_item if found is not None and found.completion is not None else None
        return bool(item is not None and item.snippet_support)

    @property
    def hover_markdown(self) -> bool:
        """Whether the editor renders Markdown when the mouse rests on a word."""
        found = self.client_capabilities.text_document
        formats = found.hover.content_format if found is not None and found.hover is not None else None
        return types.MarkupKind.Markdown in (formats or ())

    @property
    def completion_markdown(self) -> bool:
        found = self.client_capabilities.text_document
        item = found.completion.completion_item if found is not None and found.completion is not None else None
        return item is not None and types.MarkupKind.Markdown in (item.documentation_format or ())

    def symbol_at(self, view: View, offset: int) -> Symbol | None:
        found = view.names.at(offset)
        return found[1] if found is not None else None


def make_server() -> Server:
    server = Server()

    @server.feature(types.INITIALIZE)
    def initialize(ls: Server, params: types.InitializeParams) -> None:
        encodings = params.capabilities.general.position_encodings if params.capabilities.general else None
        chosen = next((e for e in encodings or () if e in ("utf-8", "utf-16", "utf-32")), "utf-16")
        ls.documents.encoding = ls.convert.encoding = str(getattr(chosen, "value", chosen))  # type: ignore[assignment]
        folders = [f.uri for f in params.workspace_folders or ()] or ([params.root_uri] if params.root_uri else [])
        ls.documents.project.folders = [p for p in map(path_of, folders) if p is not None]

    @server.feature(types.SHUTDOWN)
    def shutdown(ls: Server, params: None) -> None:
        ls.documents.end()

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def did_open(ls: Server, params: types.DidOpenTextDocumentParams) -> None:
        opened = params.text_document
        ls.documents.open(opened.uri, path_of(opened.uri), opened.text, opened.version)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def did_change(ls: Server, params: types.DidChangeTextDocumentParams) -> None:
        ls.documents.change(
            params.text_document.uri, [_change(c) for c in params.content_changes], params.text_document.version
        )

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def did_close(ls: Server, params: types.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        ls.documents.close(uri)
        ls.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))

    @server.feature(types.TEXT_DOCUMENT_INLAY_HINT)
    async def inlay_hint(ls: Server, params: types.InlayHintParams) -> list[types.InlayHint] | None:
        found = await ls.current(params.text_document)
        if found is None or not ls.shows_hints:
            return None
        _, view = found
        source = view.source
        start, end = ls.convert.offset(source, params.range.start), ls.convert.offset(source, params.range.end)
        return [
            types.InlayHint(ls.convert.position(source, h.offset), h.text, tooltip=h.tooltip, padding_left=True)
            for h in await ls.beside(view.hints)
            if start <= h.offset <= end
        ]

    @server.feature(types.TEXT_DOCUMENT_HOVER)
    async def hovering(ls: Server, params: types.HoverParams) -> types.Hover | None:
        found = await ls.current(params.text_document)
        if found is None:
            return None
        document, view = found
        offset = ls.convert.offset(view.source, params.position)
        return await ls.beside(lambda: _hover(ls, document, view, offset))

    @server.feature(types.TEXT_DOCUMENT_DEFINITION)
    async def definition(ls: Server, params: types.DefinitionParams) -> list[types.Location] | None:
        found = await ls.current(params.text_document)
        if found is None:
            return None
        document, view = found
        symbol = ls.symbol_at(view, ls.convert.offset(view.source, params.position))
        if symbol is None:
            return None
        project = ls.documents.project
        spans = await ls.beside(lambda: navigation.definition(symbol, document.path, project))
        return [types.Location(_uri(ls, document, s.source), ls.convert.range(s)) for s in spans]

    @server.feature(
        types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=[".", "(", ",", ">", " "])
    )
    async def complete(ls: Server, params: types.CompletionParams) -> types.CompletionList | None:
        document = ls.document(params.text_document)
        if document is None:
            return None
        source = document.source
        offset = ls.convert.offset(source, params.position)
        return await ls.beside(lambda: _complete(ls, document, offset))

    return server


def _change(change: types.TextDocumentContentChangeEvent) -> Change:
    if isinstance(change, types.TextDocumentContentChangePartial):
        start, end = change.range.start, change.range.end
        return Change((start.line, start.character, end.line, end.character), change.text)
    return Change(None, change.text)


def _uri(ls: Server, document: Document, source: Any) -> str:
    return document.uri if source.path is None else ls.uri_of(source.path)


def _hover(ls: Server, document: Document, view: View, offset: int) -> types.Hover | None:
    found = view.names.at(offset)
    if found is None:
        return None
    span, symbol = found
    project = ls.documents.project
    resolved = project.resolved(symbol, document.path)
    call = view.calls().around(offset)
    calls: Sequence[Call] = view.calls().of.get(symbol.name, []) if symbol.kind in ("block", "model") else []
    parts = [*hover.of_symbol(resolved, calls, call)]
    item = item_at(view.analysis.syntax, span.start)
    if item is not None:
        parts += hover.of_item(item.span, call)
    content = paragraphs(parts, markdown=ls.hover_markdown)
    return types.Hover(content, ls.convert.range(span)) if content is not None else None


def item_at(file: tree.File, offset: int) -> tree.Call | None:
    """The call whose name is at an offset."""
    from archdsl.syntax.walk import parts

    for declaration in file.declarations:
        if declaration.span.start <= offset <= declaration.span.end:
            for part in parts(declaration):
                if isinstance(part, tree.Call) and part.name.span.start <= offset <= part.name.span.end:
                    return part
                if isinstance(part, tree.Call) and part.label is not None and part.label.span.start == offset:
                    return part
    return None


def _complete(ls: Server, document: Document, offset: int) -> types.CompletionList:
    project, source = ls.documents.project, document.source
    known = ls.documents.known(document, offset)
    if known is not None:
        view, there = known
        names, delta = view.names, there - offset
    else:
        from archdsl.diagnostics import Diagnostics
        from archdsl.editing.names import names_of
        from archdsl.syntax.parser import parse

        names, delta = names_of(parse(source, Diagnostics())), 0
    found = completion.completions(source, offset, names, project, delta)
    range = ls.convert.between(source, found.start, offset)
    options = {"snippets": ls.snippets, "markdown": ls.completion_markdown}
    return types.CompletionList(False, [completion_item(item, range, **options) for item in found.items])


def main() -> None:
    """Serves one editor until it says `exit`."""
    gc.set_threshold(200_000, 50, 50)
    # The server closes its streams, and anything else that is printed must not get among the messages.
    stdin, stdout = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    make_server().start_io(stdin, stdout)
