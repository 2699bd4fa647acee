"""Requests that an editor makes by itself: inlay hints, lenses, colours, folds, the outline, the picture."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lsprotocol import types

from archdsl.common.source import Span
from archdsl.diagnostics import SpecError
from archdsl.editing import lenses, outline, tokens
from archdsl.editing.analysis import Model
from archdsl.language_server.conversion import SYMBOLS, uri_of
from archdsl.language_server.documents import View
from archdsl.language_server.server import Server

NEXT_CALL: Final = "archdsl.nextCall"
DRAW: Final = "archdsl.draw"
SHOW_CALL: Final = "archdsl.showCall"
CALLS: Final = "archdsl/calls"
MODELS: Final = "archdsl/models"
PREVIEW: Final = "archdsl/preview"


async def inlay_hint(ls: Server, params: types.InlayHintParams) -> list[types.InlayHint] | None:
    found = await ls.current(params.text_document)
    if found is None or not ls.shows_hints:
        return None
    document, view = found
    start = ls.convert.offset(view.source, params.range.start)
    end = ls.convert.offset(view.source, params.range.end)
    return [
        types.InlayHint(ls.convert.position(view.source, h.offset), h.text, tooltip=h.tooltip, padding_left=True)
        for h in await ls.beside(lambda: ls.documents.hints(document, view))
        if start <= h.offset <= end
    ]


# ---------------------------------------------------------------- lenses


async def code_lens(ls: Server, params: types.CodeLensParams) -> list[types.CodeLens] | None:
    found = await ls.current(params.text_document)
    if found is None:
        return None
    document, view = found
    return [
        types.CodeLens(ls.convert.range(p.span), data={"uri": document.uri, "lens": p.lens, "name": p.name})
        for p in lenses.lenses(view.analysis)
    ]


async def resolve_lens(ls: Server, lens: types.CodeLens) -> types.CodeLens:
    data: Any = lens.data
    document = ls.documents.all.get(data["uri"])
    view = await ls.finished(document) if document is not None else None
    name = data["name"]
    if view is None:
        lens.command = types.Command("…", "")
    elif data["lens"] == "numbers":
        lens.command = types.Command(await ls.beside(lambda: lenses.numbers(view.analysis, name)), "")
    elif data["lens"] == "draw":
        lens.command = types.Command("draw", ls.preview_command or DRAW, arguments=[data["uri"], name])
    else:
        calls = view.calls()
        several = lenses.next_call(calls, name) is not None
        command = (ls.call_command or NEXT_CALL) if several else ""
        lens.command = types.Command(
            lenses.call_title(calls, name), command, arguments=[data["uri"], name] if several else None
        )
    return lens


async def next_call(ls: Server, uri: str, name: str) -> None:
    """Shows the sizes of the next call of a block that has others."""
    document = ls.documents.all.get(uri)
    view = await ls.finished(document) if document is not None else None
    call = lenses.next_call(view.calls(), name) if view is not None else None
    if document is not None and call is not None:
        ls.choose(document, name, call.key)


def show_call(ls: Server, uri: str, name: str, model: str, path: str) -> None:
    """Shows the sizes of a call of a block."""
    document = ls.documents.all.get(uri)
    if document is not None:
        ls.choose(document, name, (model, path))


async def calls(ls: Server, params: Any) -> list[dict[str, str]]:
    """The calls of a block that have different sizes."""
    document = ls.documents.all.get(params.uri)
    view = await ls.finished(document) if document is not None else None
    found: dict[object, dict[str, str]] = {}
    for call in view.calls().of.get(params.name, []) if view is not None else ():
        flows = [", ".join(call.sizes(t)) or "?" for t in (call.scope.inputs, call.scope.outputs)]
        entry = {"title": call.title, "sizes": " → ".join(flows), "model": call.key[0], "path": call.key[1]}
        found.setdefault((call.model.name, *flows), entry)
    return list(found.values())


async def models(ls: Server, params: Any) -> list[str]:
    """The models of a document that can be built without further values."""
    document = ls.documents.all.get(params.uri)
    view = await ls.finished(document) if document is not None else None
    return [model.name for model in view.analysis.models.values() if model.is_right] if view is not None else []


# ---------------------------------------------------------------- pictures


def shown_model(view: View, name: str | None, offset: int | None) -> Model | None:
    """The model to draw: the named one, else the one around the cursor, else the first that is right."""
    models = view.analysis.models
    if name is not None:
        return models.get(name)
    if offset is not None:
        for declaration in view.analysis.syntax.declarations:
            if declaration.span.start <= offset <= declaration.span.end:
                found = getattr(getattr(declaration, "name", None), "name", None)
                if found in models:
                    return models[found]
        call = view.calls().around(offset)
        if call is not None:
            return call.model
    return next((model for model in models.values() if model.is_right), None)


async def preview(ls: Server, params: Any) -> dict[str, Any] | None:
    """The picture of a model: SVG, its boxes with their ranges of the text; or what is wrong."""
    document = ls.documents.all.get(params.uri)
    view = await ls.finished(document) if document is not None else None
    if view is None:
        return None
    position = getattr(params, "position", None)
    offset = ls.convert.offset(view.source, types.Position(position.line, position.character)) if position else None
    model = shown_model(view, getattr(params, "model", None), offset)
    if model is None or not model.is_right or model.graph is None:
        return {"model": model.name if model is not None else None, "error": _wrong(view)}
    graph = model.graph

    def draw() -> dict[str, Any]:
        from archdsl.backends.diagram.drawing import DrawingError
        from archdsl.editing.preview import preview as drawn

        try:
            found = drawn(graph, view.source, theme=getattr(params, "theme", None) or "light")
        except (DrawingError, SpecError) as error:
            return {"model": graph.name, "error": str(error)}
        boxes = [
            {
                "id": box.id,
                "goesTo": _range(ls, box.goes_to) if box.goes_to is not None else None,
                "file": ls.uri_of(box.goes_to.source.path) if box.goes_to and box.goes_to.source.path else None,
                "covers": [_range(ls, span) for span in box.covers],
            }
            for box in found.boxes
        ]
        return {"model": graph.name, "svg": found.svg, "boxes": boxes}

    return await ls.beside(draw)


def _wrong(view: View) -> str:
    errors = [d for d in view.analysis.diagnostics() if d.severity == "error"]
    if errors:
        return f"line {view.analysis.place(errors[0]).line}: {errors[0].message}"
    return "this file has no model that can be drawn"


def _range(ls: Server, span: Span) -> list[int]:
    found = ls.convert.range(span)
    return [found.start.line, found.start.character, found.end.line, found.end.character]


async def draw(ls: Server, uri: str, name: str) -> None:
    """Draws a model into a file, and asks the editor to show it."""
    document = ls.documents.all.get(uri)
    view = await ls.finished(document) if document is not None else None
    model = view.analysis.models.get(name) if view is not None else None
    if model is None or model.graph is None or not model.is_right:
        ls.say(f"{name} has errors, so it cannot be drawn", types.MessageType.Warning)
        return
    graph = model.graph

    def write() -> Path:
        from archdsl import compiler

        path = Path(tempfile.gettempdir()) / f"archdsl-{name}.svg"
        compiler.draw(graph).save(path)
        return path

    path = await ls.beside(write)
    window = ls.client_capabilities.window
    if window is not None and window.show_document is not None and window.show_document.support:
        ls.window_show_document(types.ShowDocumentParams(uri_of(path), external=True))
    else:
        ls.say(f"{name} is drawn in {path}", types.MessageType.Info)


# ---------------------------------------------------------------- colours, folds, outline

LEGEND: Final = types.SemanticTokensLegend(list(tokens.TYPES), list(tokens.MODIFIERS))


async def semantic_tokens(ls: Server, params: types.SemanticTokensParams) -> types.SemanticTokens | None:
    found = await ls.current(params.text_document)
    if found is None:
        return None
    _, view = found
    return types.SemanticTokens(await ls.beside(lambda: _encoded(ls, view, 0, len(view.source.text))))


async def semantic_tokens_range(ls: Server, params: types.SemanticTokensRangeParams) -> types.SemanticTokens | None:
    found = await ls.current(params.text_document)
    if found is None:
        return None
    _, view = found
    start, end = (ls.convert.offset(view.source, p) for p in (params.range.start, params.range.end))
    return types.SemanticTokens(await ls.beside(lambda: _encoded(ls, view, start, end)))


def _encoded(ls: Server, view: View, start: int, end: int) -> Sequence[int]:
    """The tokens as the protocol packs them: five numbers each, positions relative to the token before."""
    data: list[int] = []
    line = column = 0
    for token in view.tokens:
        if token.end <= start or token.start >= end:
            continue
        first, last = ls.convert.position(view.source, token.start), ls.convert.position(view.source, token.end)
        modifiers = sum(1 << tokens.MODIFIERS.index(m) for m in token.modifiers)
        if first.line != line:
            column = 0
        data += [first.line - line, first.character - column, last.character - first.character]
        data += [tokens.TYPES.index(token.type), modifiers]
        line, column = first.line, first.character
    return data


async def folding(ls: Server, params: types.FoldingRangeParams) -> list[types.FoldingRange] | None:
    found = await ls.current(params.text_document)
    if found is None:
        return None
    _, view = found
    return [types.FoldingRange(a - 1, b - 1, kind=k) for a, b, k in tokens.folds(view.source, view.lexemes)]


async def document_symbol(ls: Server, params: types.DocumentSymbolParams) -> list[types.DocumentSymbol] | None:
    found = await ls.current(params.text_document)
    if found is None:
        return None
    _, view = found
    return [_symbol(ls, entry) for entry in outline.outline(view.analysis.syntax)]


def _symbol(ls: Server, entry: outline.Entry) -> types.DocumentSymbol:
    return types.DocumentSymbol(
        name=entry.name,
        kind=SYMBOLS[entry.kind],
        range=ls.convert.range(entry.span),
        selection_range=ls.convert.range(entry.name_span),
        detail=entry.detail or None,
        children=[_symbol(ls, child) for child in entry.children],
    )


def register(server: Server) -> None:
    server.feature(types.TEXT_DOCUMENT_INLAY_HINT)(inlay_hint)
    server.feature(types.TEXT_DOCUMENT_CODE_LENS, types.CodeLensOptions(resolve_provider=True))(code_lens)
    server.feature(types.CODE_LENS_RESOLVE)(resolve_lens)
    server.feature(types.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL, LEGEND)(semantic_tokens)
    server.feature(types.TEXT_DOCUMENT_SEMANTIC_TOKENS_RANGE, LEGEND)(semantic_tokens_range)
    server.feature(types.TEXT_DOCUMENT_FOLDING_RANGE)(folding)
    server.feature(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL)(document_symbol)
    server.feature(CALLS)(calls)
    server.feature(MODELS)(models)
    server.feature(PREVIEW)(preview)
    server.command(NEXT_CALL)(next_call)
    server.command(SHOW_CALL)(show_call)
    server.command(DRAW)(draw)
