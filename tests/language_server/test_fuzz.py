"""Random edits of the library's specs: the server says nothing of its own errors, and knows what a fresh one knows."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
from functools import cache
from math import ceil
from pathlib import Path
from random import Random
from time import process_time
from typing import Any

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.protocol import default_converter
from pygls.workspace import Workspace

from archdsl.common.limits import Brake
from archdsl.common.source import Source
from archdsl.editing.analysis import read_document
from archdsl.editing.files import Files
from archdsl.elaborate.spec_files import library_families, library_folder
from archdsl.language_server.documents import MOST_UNTIDY
from archdsl.language_server.session import make_server

SMALL = ["lenet", "alexnet", "squeezenet", "autoencoder", "dcgan", "edges", "wavenet"]
"""Families whose models are checked quickly."""

PIECES = [
    *(
        "conv(8, 3)",
        " -> ",
        "relu",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "\n",
        "it",
        ".channels",
        "let x = 2\n",
        "x: ",
        "# é😀",
    ),
    *(
        '"',
        '"{i}": ',
        "residual { ",
        "for i in 0..3 {\n",
        "if true { relu }\n",
        "block b(n) {\n",
        "}\n",
        "output ",
        "1x",
        "7",
    ),
    *(
        "expect [_, H, W]\n",
        "from resnet import basic\n",
        "from nowhere import x\n",
        "default conv(bias = false)\n",
        ", ",
        "=",
    ),
    *(
        "model m = ",
        "unknown(3)\n",
        "repeat 2 { relu }\n",
        "share s: conv(4, 1)\n",
        "windows(7) { relu }\n",
        "\t",
        "\r\n",
    ),
]


converter = cache(default_converter)
"""One for all servers: it takes longer to make than a check."""


class Pipe:
    """What the server sends: the diagnostics that it published last for each document."""

    def __init__(self) -> None:
        self.diagnostics: dict[str, Any] = {}

    def write(self, data: bytes) -> None:
        message = json.loads(data.partition(b"\r\n\r\n")[2] or data)
        if message.get("method") == types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS:
            self.diagnostics[message["params"]["uri"]] = message["params"]["diagnostics"]


class Session:
    """A server without a wire, and the answers that it gives about one document."""

    def __init__(self, uri: str, text: str) -> None:
        self.server, self.pipe, self.uri = make_server(converter_factory=converter), Pipe(), uri
        self.server.documents._tidy = lambda: None  # type: ignore[method-assign]  # `run` collects
        self.identifier = types.TextDocumentIdentifier(uri)
        protocol = self.server.protocol
        protocol.client_capabilities = types.ClientCapabilities()
        protocol._workspace = Workspace(None)
        protocol.set_writer(self.pipe, include_headers=False)
        item = types.TextDocumentItem(uri, "arch", 1, text)
        self.call(types.TEXT_DOCUMENT_DID_OPEN, types.DidOpenTextDocumentParams(item))
        self.version = 1

    def call(self, method: str, params: Any) -> Any:
        return self.server.protocol.fm.features[method](params)

    async def ask(self, method: str, params: Any) -> Any:
        try:
            found = await self.call(method, params)
        except JsonRpcException as error:
            return str(error)
        return json.loads(json.dumps(found, default=self.server.protocol._serialize_message))

    def change(self, changes: list[Any]) -> None:
        self.version += 1
        identifier = types.VersionedTextDocumentIdentifier(version=self.version, uri=self.uri)
        self.call(types.TEXT_DOCUMENT_DID_CHANGE, types.DidChangeTextDocumentParams(identifier, changes))

    async def state(self) -> dict[str, Any]:
        """What it knows of the document by itself."""
        whole = types.Range(types.Position(0, 0), types.Position(100_000, 0))
        actions = types.CodeActionParams(self.identifier, whole, types.CodeActionContext([]))
        found = {
            "fixes": await self.ask(types.TEXT_DOCUMENT_CODE_ACTION, actions),
            "diagnostics": self.pipe.diagnostics[self.uri],
            "tokens": await self.ask(
                types.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL, types.SemanticTokensParams(self.identifier)
            ),
            "folds": await self.ask(types.TEXT_DOCUMENT_FOLDING_RANGE, types.FoldingRangeParams(self.identifier)),
            "symbols": await self.ask(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL, types.DocumentSymbolParams(self.identifier)),
        }
        lenses = await self.call(types.TEXT_DOCUMENT_CODE_LENS, types.CodeLensParams(self.identifier))
        found["lenses"] = [await self.ask(types.CODE_LENS_RESOLVE, lens) for lens in lenses]
        hints = types.InlayHintParams(self.identifier, whole)
        view = self.server.documents.all[self.uri].view
        assert view is not None
        if not view.analysis.is_broken:  # else some are of the text before
            found["hints"] = await self.ask(types.TEXT_DOCUMENT_INLAY_HINT, hints)
        else:
            await self.ask(types.TEXT_DOCUMENT_INLAY_HINT, hints)
        return found

    async def probe(self, position: types.Position) -> dict[str, Any]:
        """What it answers about a place."""
        at = self.identifier, position
        found = {
            "hover": await self.ask(types.TEXT_DOCUMENT_HOVER, types.HoverParams(*at)),
            "definition": await self.ask(types.TEXT_DOCUMENT_DEFINITION, types.DefinitionParams(*at)),
            "highlight": await self.ask(types.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT, types.DocumentHighlightParams(*at)),
        }
        await self.ask(types.TEXT_DOCUMENT_COMPLETION, types.CompletionParams(*at))
        await self.ask(types.TEXT_DOCUMENT_SIGNATURE_HELP, types.SignatureHelpParams(*at))
        return found

    def end(self) -> None:
        self.server.documents.end()


def random_edit(random: Random, text: str) -> tuple[int, int, str]:
    """The start and end of what is replaced, and what replaces it."""
    lines = text.split("\n")
    line = random.randrange(len(lines))
    start = sum(len(found) + 1 for found in lines[:line])
    end = start + len(lines[line])
    match random.randrange(6):
        case 0:  # a line is gone
            return start, min(end + 1, len(text)), ""
        case 1:  # a line comes twice
            return start, start, lines[line] + "\n"
        case 2:  # a part of a line is gone
            a, b = sorted((random.randint(start, end), random.randint(start, end)))
            return a, b, ""
        case _:  # something is written
            at = random.randint(start, end)
            return at, at, random.choice(PIECES)


def position(text: str, offset: int) -> types.Position:
    before = text[:offset].replace("\r\n", "\n")
    return types.Position(before.count("\n"), len(before.rpartition("\n")[2].encode("utf-16-le")) // 2)


async def edit_one(path: Path, number: int, random: Random, every: int) -> None:
    """Edits one spec, and compares the server with a fresh one after every so many edits."""
    original = text = path.read_text("utf-8")
    uri = path.as_uri()
    session = Session(uri, text)
    for i in range(number):
        if i % MOST_UNTIDY == 0:
            gc.collect()
        if i % 8 == 7:  # back to what is right, so that it does not end as noise
            text = original
            session.change([types.TextDocumentContentChangeWholeDocument(text)])
        else:
            start, end, new = random_edit(random, text)
            where = types.Range(position(text, start), position(text, end))
            text = text[:start] + new + text[end:]
            session.change([types.TextDocumentContentChangePartial(where, new)])
            text = text.replace("\r\n", "\n")
        at = position(text, random.randint(0, len(text)))
        if (i + 1) % every:
            await session.probe(at)
        else:
            await compare(session, text, at, (path.name, i))
    session.end()


async def compare(session: Session, text: str, at: types.Position, where: object) -> None:
    """Compares what a server knows and answers with a fresh server."""
    fresh = Session(session.uri, text)
    async with asyncio.timeout(60):
        state, new_state = await session.state(), await fresh.state()
    state |= await session.probe(at)
    new_state |= await fresh.probe(at)
    fresh.end()
    assert session.server.documents.all[session.uri].source.text == text
    for key, value in new_state.items():
        assert forget_version(state[key]) == forget_version(value), (where, key)


def forget_version(value: object) -> object:
    """An answer without the version of the document that it is for."""
    if isinstance(value, dict):
        return {k: forget_version(v) for k, v in value.items() if k != "version"}
    return [forget_version(v) for v in value] if isinstance(value, list) else value


def run(numbers: dict[str, int], every: int, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """Edits each family as often as it says."""
    random = Random(seed)
    gc.disable()
    with caplog.at_level(logging.WARNING):
        for family, number in numbers.items():
            asyncio.run(edit_one(library_folder() / f"{family}.arch", number, random, every))
    gc.enable()
    assert [r.getMessage() for r in caplog.records if r.name.startswith("archdsl")] == []


def test_random_edits(caplog: pytest.LogCaptureFixture) -> None:
    run(dict.fromkeys(SMALL, 12), 5, 0, caplog)


def shares(edits: int) -> dict[str, int]:
    """So many edits shared among the families: each gets some, those that are checked quickly more."""
    seconds = {}
    for family in library_families():
        begun = process_time()
        path = library_folder() / f"{family}.arch"
        analysis = read_document(Source(path.name, path.read_text("utf-8"), path), Files(), Brake())
        while analysis.waiting:
            analysis.check_next(Brake())
        seconds[family] = process_time() - begun
    rest = edits / sum(time**-2 for time in seconds.values())
    return {family: ceil(rest * time**-2) for family, time in seconds.items()}


def resident() -> float:
    """The memory of this process, in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.long
def test_ten_thousand_random_edits(caplog: pytest.LogCaptureFixture) -> None:
    """In ten rounds through the library, between which the memory does not grow."""
    memory = []
    for round_ in range(10):
        run(shares(1_000), 1, round_, caplog)
        caplog.clear()
        gc.collect()
        memory.append(resident())
        print(f"{(round_ + 1) * 1000:,} edits: {memory[-1]:.0f} MiB", flush=True)
    assert max(memory[5:]) < 1.05 * max(memory[:5]), memory
