"""Requests that change the text: completion, signature help, fixes, renames, formatting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lsprotocol import types
from pygls.exceptions import JsonRpcException

from archdsl.common.source import Span
from archdsl.diagnostics import Diagnostic, SpecError
from archdsl.editing import completion, fixes, navigation, signature
from archdsl.editing.names import Names
from archdsl.language_server.conversion import completion_item, markup
from archdsl.language_server.documents import Document, View
from archdsl.language_server.server import Server

REQUEST_FAILED = -32803
TRIGGERS = [".", "(", ",", ">", " "]


async def complete(ls: Server, params: types.CompletionParams) -> types.CompletionList | None:
    document = ls.document(params.text_document)
    if document is None:
        return None
    offset = ls.convert.offset(document.source, params.position)
    return await ls.beside(lambda: _complete(ls, document, offset))


def _complete(ls: Server, document: Document, offset: int) -> types.CompletionList:
    source = document.source
    names, delta = _known(ls, document, offset)
    found = completion.completions(source, offset, names, ls.documents.project, delta)
    range = ls.convert.between(source, found.start, offset)
    defaults = types.CompletionItemDefaults(edit_range=range) if ls.takes_default_ranges else None
    snippets, formats = ls.snippets, ls.completion_formats
    own = None if defaults else range
    items = [completion_item(item, own, snippets=snippets, formats=formats) for item in found.items]
    return types.CompletionList(False, items, item_defaults=defaults)


def _known(ls: Server, document: Document, offset: int) -> tuple[Names, int]:
    """The names of the last text that was read, and how much further the offset is in it."""
    known = ls.documents.known(document, offset)
    if known is None:
        return ls.documents.read(document).names, 0
    view, there = known
    return view.names, there - offset


async def signature_help(ls: Server, params: types.SignatureHelpParams) -> types.SignatureHelp | None:
    document = ls.document(params.text_document)
    if document is None:
        return None
    offset = ls.convert.offset(document.source, params.position)

    def work() -> signature.Signature | None:
        names, delta = _known(ls, document, offset)
        return signature.signature(document.source, offset, names, ls.documents.project, delta)

    found = await ls.beside(work)
    if found is None:
        return None
    formats = ls.signature_formats
    parameters = [
        types.ParameterInformation(part, markup(doc, formats) if doc else None)
        for part, doc in zip(found.parts, found.docs, strict=True)
    ]
    # A number beyond the last parameter marks none.
    active = found.active if found.active is not None else len(parameters)
    doc = markup(found.doc, formats) if found.doc else None
    return types.SignatureHelp([types.SignatureInformation(found.text, doc, parameters, active)], 0, active)


# ---------------------------------------------------------------- fixes


async def code_action(ls: Server, params: types.CodeActionParams) -> list[types.CodeAction] | None:
    document = ls.document(params.text_document)
    only = params.context.only or []
    wanted = [kind for kind in (types.CodeActionKind.QuickFix, types.CodeActionKind.SourceFixAll) if _asked(kind, only)]
    if document is None or not wanted:
        return None
    found = await ls.mended(document)
    if found is None:
        return None
    start, end = (ls.convert.offset(found.source, p) for p in (params.range.start, params.range.end))
    return await ls.beside(lambda: list(_actions(ls, document, found, (start, end), wanted)))


def _asked(kind: str, only: Iterable[str]) -> bool:
    kinds = list(only)
    return not kinds or any(kind == k or kind.startswith(f"{k}.") for k in kinds)


def _actions(
    ls: Server, document: Document, view: View, at: tuple[int, int], wanted: list[types.CodeActionKind]
) -> Iterable[types.CodeAction]:
    project, analysis = ls.documents.project, view.analysis
    if types.CodeActionKind.QuickFix in wanted:
        for diagnostic in fixes.fixes(analysis, project, *at):
            shown = ls.convert.diagnostic(diagnostic, analysis, document.uri, ls.uri_of)
            yield types.CodeAction(
                title=diagnostic.help or "fix",
                kind=types.CodeActionKind.QuickFix,
                diagnostics=[shown],
                is_preferred=True,
                edit=_edit(ls, document, _changes([diagnostic])),
            )
    if types.CodeActionKind.SourceFixAll in wanted:
        together = fixes.together(analysis, project)
        if len(together) > (types.CodeActionKind.QuickFix in wanted):
            edit = _edit(ls, document, _changes(together))
            yield types.CodeAction("fix all that can be fixed", types.CodeActionKind.SourceFixAll, edit=edit)


def _changes(found: Iterable[Diagnostic]) -> dict[Span, str]:
    return {d.fix.span: d.fix.text for d in found if d.fix is not None}


def _edit(ls: Server, document: Document, changes: Mapping[Span, str]) -> types.WorkspaceEdit:
    """The changes of one or several files, for the version of each open document that they were made for."""
    by_uri: dict[str, list[types.TextEdit | types.AnnotatedTextEdit | types.SnippetTextEdit]] = {}
    for span, text in changes.items():
        uri = ls.location(document, span).uri
        by_uri.setdefault(uri, []).append(types.TextEdit(ls.convert.range(span), text))
    if not ls.takes_versions:
        plain = {uri: [e for e in edits if isinstance(e, types.TextEdit)] for uri, edits in by_uri.items()}
        return types.WorkspaceEdit(changes=plain)
    versions = {uri: opened.version for uri, opened in ls.documents.all.items()}
    return types.WorkspaceEdit(
        document_changes=[
            types.TextDocumentEdit(types.OptionalVersionedTextDocumentIdentifier(uri, versions.get(uri)), edits)
            for uri, edits in by_uri.items()
        ]
    )


# ---------------------------------------------------------------- renames


async def prepare_rename(ls: Server, params: types.PrepareRenameParams) -> types.Range | None:
    found = await ls.current(params.text_document)
    if found is None:
        return None
    document, view = found
    at = view.names.at(ls.convert.offset(view.source, params.position))
    if at is None:
        return None
    span, symbol = at
    try:
        navigation.renamable(symbol, document.path, ls.documents.project)
    except navigation.NotRenamed as error:
        raise JsonRpcException(str(error), REQUEST_FAILED) from None
    return ls.convert.range(span)


async def rename(ls: Server, params: types.RenameParams) -> types.WorkspaceEdit | None:
    found = await ls.symbol(params)
    if found is None:
        return None
    document, view, symbol = found
    project = ls.documents.project
    try:
        changes = await ls.beside(
            lambda: navigation.rename(symbol, view.names, document.path, params.new_name, project)
        )
    except navigation.NotRenamed as error:
        raise JsonRpcException(str(error), REQUEST_FAILED) from None
    return _edit(ls, document, changes)


# ---------------------------------------------------------------- the format


async def formatting(ls: Server, params: types.DocumentFormattingParams) -> list[types.TextEdit] | None:
    """The canonical style; a text with syntax errors stays as it is."""
    document = ls.document(params.text_document)
    if document is None:
        return None
    source = document.source
    try:
        found = await ls.beside(lambda: fixes.formatting(source))
    except SpecError as error:
        raise JsonRpcException(f"not formatted: {error.diagnostics[0].message}", REQUEST_FAILED) from None
    return [types.TextEdit(ls.convert.range(fix.span), fix.text) for fix in found]


def register(server: Server) -> None:
    server.feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=TRIGGERS))(complete)
    server.feature(types.TEXT_DOCUMENT_SIGNATURE_HELP, types.SignatureHelpOptions(["(", ","]))(signature_help)
    kinds = [types.CodeActionKind.QuickFix, types.CodeActionKind.SourceFixAll]
    server.feature(types.TEXT_DOCUMENT_CODE_ACTION, types.CodeActionOptions(kinds))(code_action)
    server.feature(types.TEXT_DOCUMENT_FORMATTING)(formatting)
    server.feature(types.TEXT_DOCUMENT_PREPARE_RENAME)(prepare_rename)
    server.feature(types.TEXT_DOCUMENT_RENAME, types.RenameOptions(prepare_provider=True))(rename)
