"""A session with one editor: which function answers which message, from `initialize` to `exit`."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any, cast

from lsprotocol import types

from archdsl.editing.positions import Change, Encoding
from archdsl.language_server import asking, changing, showing
from archdsl.language_server.conversion import path_of
from archdsl.language_server.server import Server


def initialize(ls: Server, params: types.InitializeParams) -> None:
    encoding = str(getattr(ls.workspace.position_encoding, "value", ls.workspace.position_encoding))
    ls.documents.encoding = ls.convert.encoding = cast(Encoding, encoding)
    folders = [f.uri for f in params.workspace_folders or ()] or ([params.root_uri] if params.root_uri else [])
    ls.documents.project.folders = [p for p in map(path_of, folders) if p is not None]
    ls.configure(params.initialization_options)


async def initialized(ls: Server, params: types.InitializedParams) -> None:
    """Asks to be notified of specs that change outside the editor, where it can."""
    workspace = ls.client_capabilities.workspace
    watching = workspace.did_change_watched_files if workspace is not None else None
    if watching is not None and watching.dynamic_registration:
        options = types.DidChangeWatchedFilesRegistrationOptions([types.FileSystemWatcher("**/*.arch")])
        registration = types.Registration("specs", types.WORKSPACE_DID_CHANGE_WATCHED_FILES, options)
        ls.client_register_capability(types.RegistrationParams([registration]))


def shutdown(ls: Server, params: None) -> None:
    ls.documents.end()


def did_open(ls: Server, params: types.DidOpenTextDocumentParams) -> None:
    opened = params.text_document
    ls.documents.open(opened.uri, path_of(opened.uri), opened.text, opened.version)


def did_change(ls: Server, params: types.DidChangeTextDocumentParams) -> None:
    document = params.text_document
    ls.documents.change(document.uri, [_change(c) for c in params.content_changes], document.version)


def _change(change: types.TextDocumentContentChangeEvent) -> Change:
    if isinstance(change, types.TextDocumentContentChangePartial):
        start, end = change.range.start, change.range.end
        return Change((start.line, start.character, end.line, end.character), change.text)
    return Change(None, change.text)


def did_close(ls: Server, params: types.DidCloseTextDocumentParams) -> None:
    uri = params.text_document.uri
    ls.documents.close(uri)
    ls.sent.pop(uri, None)
    ls.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))


def did_save(ls: Server, params: types.DidSaveTextDocumentParams) -> None:
    """Nothing: an open document counts with its text, saved or not."""


def files_changed(ls: Server, params: types.DidChangeWatchedFilesParams) -> None:
    """Reads again what changed on disk, unless it is open here."""
    paths = [path_of(change.uri) for change in params.changes]
    opened = {document.path for document in ls.documents.all.values()}
    created = any(change.type != types.FileChangeType.Changed for change in params.changes)
    if created or any(path not in opened for path in paths):
        ls.documents.renew()


def configured(ls: Server, params: types.DidChangeConfigurationParams) -> None:
    ls.configure(params.settings)
    ls.refresh()


def folders_changed(ls: Server, params: types.DidChangeWorkspaceFoldersParams) -> None:
    folders = ls.documents.project.folders
    gone = {path_of(folder.uri) for folder in params.event.removed}
    added = [path for folder in params.event.added if (path := path_of(folder.uri)) is not None]
    ls.documents.project.folders = [f for f in folders if f not in gone] + added


def make_server(**options: Any) -> Server:
    """A server that answers all this; `options` are those of pygls' LanguageServer."""
    server = Server(**options)
    server.feature(types.INITIALIZE)(initialize)
    server.feature(types.INITIALIZED)(initialized)
    server.feature(types.SHUTDOWN)(shutdown)
    server.feature(types.TEXT_DOCUMENT_DID_OPEN)(did_open)
    server.feature(types.TEXT_DOCUMENT_DID_CHANGE)(did_change)
    server.feature(types.TEXT_DOCUMENT_DID_CLOSE)(did_close)
    server.feature(types.TEXT_DOCUMENT_DID_SAVE)(did_save)
    server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)(files_changed)
    server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)(configured)
    server.feature(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)(folders_changed)
    for part in (showing, asking, changing):
        part.register(server)
    return server


def main() -> None:
    """Serves one editor until it says `exit`."""
    gc.disable()  # `Documents` collects at times of its own
    gc.freeze()
    sys.setswitchinterval(0.001)  # so that an answer does not wait for the work beside it
    # The server closes its streams, and anything else that is printed must not get among the messages.
    stdin, stdout = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    make_server().start_io(stdin, stdout)
