"""An editor for tests: it opens and changes documents, and asks about places that are named by the text around them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Set
from pathlib import Path

from lsprotocol import types
from pytest_lsp import LanguageClient, make_test_lsp_client

EDITORS = ["visual_studio_code@v1.65.2", "neovim@v0.11.0", "emacs@v29.1"]
"""The editors whose capabilities the tests declare."""

ANSWERED = [
    types.WORKSPACE_INLAY_HINT_REFRESH,
    types.WORKSPACE_CODE_LENS_REFRESH,
    types.CLIENT_REGISTER_CAPABILITY,
]

CODECS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}

PATIENCE = 20
"""Seconds to wait for an answer: the machine may be busy."""


def make_client() -> LanguageClient:
    """A client that answers what an editor answers, and keeps the version of diagnostics."""
    client = make_test_lsp_client()
    client.versions = {}

    def keep(params: types.PublishDiagnosticsParams) -> None:
        client.diagnostics[params.uri] = params.diagnostics
        client.versions[params.uri] = params.version

    client.protocol.fm.features[types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS] = keep
    for method in ANSWERED:
        client.feature(method)(lambda params: None)
    return client


class Editor:
    """An editor with a folder of specs."""

    def __init__(self, client: LanguageClient, folder: Path) -> None:
        self.client, self.folder = client, folder
        self.documents: list[Document] = []

    def open(self, name: str, text: str) -> Document:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        self.documents.append(Document(self, path, text))
        return self.documents[-1]

    def close(self) -> None:
        for document in self.documents:
            document.close()


class Document:
    """An open document."""

    def __init__(self, editor: Editor, path: Path, text: str) -> None:
        self.client, self.path, self.text, self.version = editor.client, path, text, 1
        self.uri = path.as_uri()
        self.identifier = types.TextDocumentIdentifier(self.uri)
        self.client.versions.pop(self.uri, None)
        item = types.TextDocumentItem(self.uri, "arch", self.version, text)
        self.client.text_document_did_open(types.DidOpenTextDocumentParams(item))

    def close(self) -> None:
        self.path.unlink(missing_ok=True)
        self.client.text_document_did_close(types.DidCloseTextDocumentParams(self.identifier))

    # ------------------------------------------------------------ places and changes

    def position(self, offset: int) -> types.Position:
        before = self.text[:offset]
        column = before.rpartition("\n")[2]
        return types.Position(before.count("\n"), self.units(column))

    def units(self, text: str) -> int:
        """The length of a text as the editor and the server have agreed to count."""
        codec, width = CODECS[self.client.encoding]
        return len(text.encode(codec)) // width

    def at(self, place: str) -> types.Position:
        """The position of § in a piece of the text."""
        assert self.text.count(place.replace("§", "")) >= 1, place
        return self.position(self.text.index(place.replace("§", "")) + place.index("§"))

    def replace(self, old: str, new: str) -> None:
        start = self.text.index(old)
        span = types.Range(self.position(start), self.position(start + len(old)))
        self.version += 1
        self.client.text_document_did_change(
            types.DidChangeTextDocumentParams(
                types.VersionedTextDocumentIdentifier(version=self.version, uri=self.uri),
                [types.TextDocumentContentChangePartial(span, new)],
            )
        )
        self.text = self.text[:start] + new + self.text[start + len(old) :]

    # ------------------------------------------------------------ questions

    async def checked(self) -> list[types.Diagnostic]:
        """The diagnostics of the current text, once they have come."""
        async with asyncio.timeout(PATIENCE):
            while self.client.versions.get(self.uri) != self.version:
                await asyncio.sleep(0.01)
        return list(self.client.diagnostics[self.uri])

    @property
    def whole(self) -> types.Range:
        return types.Range(types.Position(0, 0), self.position(len(self.text)))

    async def hints(self) -> dict[int, str]:
        """The sizes by line, counted from 1."""
        found = await self.client.text_document_inlay_hint_async(types.InlayHintParams(self.identifier, self.whole))
        return {hint.position.line + 1: str(hint.label) for hint in found or ()}

    async def hover(self, place: str) -> str:
        found = await self.client.text_document_hover_async(types.HoverParams(self.identifier, self.at(place)))
        return found.contents.value if found is not None else ""  # type: ignore[union-attr]

    async def definition(self, place: str) -> list[tuple[str, str]]:
        """The files and texts of the declarations."""
        found = await self.client.text_document_definition_async(
            types.DefinitionParams(self.identifier, self.at(place))
        )
        return [(Path(f.uri).name, text_of(f)) for f in found or ()]  # type: ignore[union-attr,arg-type]

    async def references(self, place: str) -> list[tuple[str, int]]:
        """The files and lines, counted from 1, of all uses and declarations."""
        context = types.ReferenceContext(include_declaration=True)
        params = types.ReferenceParams(context, self.identifier, self.at(place))
        found = await self.client.text_document_references_async(params)
        return sorted((Path(f.uri).name, f.range.start.line + 1) for f in found or ())

    async def renamed(self, place: str, name: str) -> dict[str, str]:
        """The texts of the files that a rename changes. Raises JsonRpcException if it is refused."""
        params = types.RenameParams(self.identifier, self.at(place), name)
        found = await self.client.text_document_rename_async(params)
        assert found is not None
        return {name: applied((self.path.parent / name).read_text("utf-8"), e) for name, e in edits_of(found).items()}

    async def actions(self, place: str, *only: str) -> list[types.CodeAction]:
        at = self.at(place)
        params = types.CodeActionParams(
            self.identifier, types.Range(at, at), types.CodeActionContext([], list(only) or None)
        )
        return list(await self.client.text_document_code_action_async(params) or ())  # type: ignore[arg-type]

    async def lenses(self) -> dict[str, list[types.Command]]:
        """The lenses above each declaration, by its name."""
        found: dict[str, list[types.Command]] = {}
        for lens in await self.client.text_document_code_lens_async(types.CodeLensParams(self.identifier)) or ():
            lens = await self.client.code_lens_resolve_async(lens)
            name = self.text.split("\n")[lens.range.start.line][lens.range.start.character : lens.range.end.character]
            found.setdefault(name, []).append(lens.command)  # type: ignore[arg-type]
        return found

    async def completion(self, place: str) -> Set[str]:
        return (await self.written(place)).keys()

    async def written(self, place: str) -> dict[str, types.TextEdit]:
        """What each proposal would write, by its label."""
        params = types.CompletionParams(self.identifier, self.at(place))
        found = await self.client.text_document_completion_async(params)
        range = found.item_defaults.edit_range if found.item_defaults is not None else None
        return {
            item.label: item.text_edit or types.TextEdit(range, item.text_edit_text or item.label)
            for item in found.items
        }


def text_of(location: types.Location) -> str:
    """The text at a place in one line of a file."""
    lines = Path(location.uri.removeprefix("file://")).read_text("utf-8").split("\n")
    line = lines[location.range.start.line].encode("utf-16-le")
    return line[2 * location.range.start.character : 2 * location.range.end.character].decode("utf-16-le")


def applied(text: str, edits: Iterable[types.TextEdit]) -> str:
    """The text after these edits, which all count in it."""
    lines = text.split("\n")

    def offset(position: types.Position) -> int:
        line = lines[position.line].encode("utf-16-le")[: 2 * position.character].decode("utf-16-le")
        return sum(len(found) + 1 for found in lines[: position.line]) + len(line)

    for edit in sorted(edits, key=lambda e: offset(e.range.start), reverse=True):
        text = text[: offset(edit.range.start)] + edit.new_text + text[offset(edit.range.end) :]
    return text


def edits_of(edit: types.WorkspaceEdit) -> dict[str, list[types.TextEdit]]:
    """The edits of each file by its name, in whatever form the editor asked for."""
    found: dict[str, list[types.TextEdit]] = {}
    for change in edit.document_changes or ():
        found.setdefault(Path(change.text_document.uri).name, []).extend(change.edits)  # type: ignore[union-attr,arg-type]
    for uri, edits in (edit.changes or {}).items():
        found.setdefault(Path(uri).name, []).extend(edits)
    return found
