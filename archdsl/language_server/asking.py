"""Requests about a name: its hover text, declaration and uses."""

from __future__ import annotations

from collections.abc import Sequence

from lsprotocol import types

from archdsl.editing import hover, navigation
from archdsl.editing.sizes import Call
from archdsl.language_server.conversion import SYMBOLS, markup, paragraphs
from archdsl.language_server.documents import Document, View
from archdsl.language_server.server import Server

MOST_SYMBOLS = 500
"""The number of symbols of the workspace that are listed."""


async def hovering(ls: Server, params: types.HoverParams) -> types.Hover | None:
    found = await ls.current(params.text_document)
    if found is None:
        return None
    document, view = found
    offset = ls.convert.offset(view.source, params.position)
    return await ls.beside(lambda: _hover(ls, document, view, offset))


def _hover(ls: Server, document: Document, view: View, offset: int) -> types.Hover | None:
    found = view.names.at(offset)
    if found is None:
        return None
    span, symbol = found
    resolved = ls.documents.project.resolved(symbol, document.path)
    call = view.calls().around(offset)
    calls: Sequence[Call] = view.calls().of.get(symbol.name, []) if symbol.kind in ("block", "model") else []
    parts = [*hover.of_symbol(resolved, calls, call)]
    item = hover.item_at(view.analysis.syntax, span.start)
    if item is not None:
        parts += hover.of_item(item.span, call)
    text = paragraphs(parts)
    return types.Hover(markup(text, ls.hover_formats), ls.convert.range(span)) if text else None


async def definition(ls: Server, params: types.DefinitionParams) -> list[types.Location] | None:
    found = await ls.current(params.text_document)
    if found is None:
        return None
    document, view = found
    symbol = ls.symbol_at(view, ls.convert.offset(view.source, params.position))
    module = navigation.module_at(view.analysis.syntax, ls.convert.offset(view.source, params.position))
    if module is not None:
        return [types.Location(ls.uri_of(module), types.Range(types.Position(0, 0), types.Position(0, 0)))]
    if symbol is None:
        return None
    project = ls.documents.project
    spans = await ls.beside(lambda: navigation.definition(symbol, document.path, project))
    return [ls.location(document, span) for span in spans]


async def references(ls: Server, params: types.ReferenceParams) -> list[types.Location] | None:
    found = await ls.symbol(params)
    if found is None:
        return None
    document, _, symbol = found
    wanted = params.context.include_declaration
    project = ls.documents.project
    spans = await ls.beside(lambda: navigation.references(symbol, document.path, project, declaration=wanted))
    return [ls.location(document, span) for span in spans]


async def highlight(ls: Server, params: types.DocumentHighlightParams) -> list[types.DocumentHighlight] | None:
    found = await ls.symbol(params)
    if found is None:
        return None
    _, _, symbol = found
    kinds = types.DocumentHighlightKind
    return [types.DocumentHighlight(ls.convert.range(s), kinds.Write) for s in symbol.spans] + [
        types.DocumentHighlight(ls.convert.range(s), kinds.Read) for s in symbol.uses
    ]


async def workspace_symbol(ls: Server, params: types.WorkspaceSymbolParams) -> list[types.SymbolInformation]:
    project = ls.documents.project
    found = await ls.beside(lambda: list(navigation.symbols(project, params.query, MOST_SYMBOLS)))
    return [
        types.SymbolInformation(types.Location(ls.uri_of(path), ls.convert.range(s.spans[0])), s.name, SYMBOLS[s.kind])
        for s, path in found
    ]


def register(server: Server) -> None:
    server.feature(types.TEXT_DOCUMENT_HOVER)(hovering)
    server.feature(types.TEXT_DOCUMENT_DEFINITION)(definition)
    server.feature(types.TEXT_DOCUMENT_REFERENCES)(references)
    server.feature(types.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT)(highlight)
    server.feature(types.WORKSPACE_SYMBOL)(workspace_symbol)
