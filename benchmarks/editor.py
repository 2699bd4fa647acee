"""How fast the language server answers: real messages, small edits of every spec of the library and of two large ones.

For each edit it measures the time to its diagnostics and to the sizes behind all lines of the document, and that of a
completion. `cpu` is the processor time that the server spends until both are there, which says more where the machine
is busy; the 15 ms for which the server waits for another edit are in the wall time alone.

    python benchmarks/editor.py [FAMILY…] [--edits N]    all, and `10,000 nodes` and `5,000 lines`, if none is named
    python benchmarks/editor.py --memory [FAMILY]      edits one spec 10,000 times, and prints the server's memory
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import perf_counter

from lsprotocol import types
from pygls.lsp.client import LanguageClient

from archdsl.elaborate.spec_files import library_families, library_folder

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")

UNIT = """\
block unit{0}(width) {{
    "Two convolutions around a skip."
    residual {{
        conv(width, 3) -> batchnorm -> relu
        conv(width, 3) -> batchnorm
    }}
    relu
}}
"""
HEAD = "model net {\n    input image[3, H = 224, W = 224]\n    conv(64, 3)\n"
TAIL = "    global_avgpool -> flatten -> linear(10)\n}\n"
LARGE = {
    "10,000 nodes": UNIT.format("") + HEAD + "    repeat 1428 { unit(64) }\n" + TAIL,
    "5,000 lines": "".join(UNIT.format(i) + "\n" for i in range(500))
    + HEAD
    + "".join(f"    unit{i}(64)\n" for i in range(500))
    + TAIL,
}


@dataclass
class Times:
    """Milliseconds of each edit."""

    diagnostics: list[float] = field(default_factory=list)
    hints: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    completion: list[float] = field(default_factory=list)
    completion_cpu: list[float] = field(default_factory=list)


def most(numbers: list[float]) -> float:
    """That within which 95 % of the numbers are."""
    return statistics.quantiles(numbers, n=20)[-1] if len(numbers) > 1 else numbers[0]


class Session:
    """A server, and the time at which it last published diagnostics for each version."""

    def __init__(self) -> None:
        self.client = LanguageClient("benchmark", "1")
        self.published: dict[tuple[str, int | None], float] = {}
        self.cpu_then: dict[tuple[str, int | None], float] = {}
        self.event = asyncio.Event()

        @self.client.feature(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def keep(params: types.PublishDiagnosticsParams) -> None:
            self.published.setdefault((params.uri, params.version), perf_counter())
            self.event.set()

    async def start(self) -> None:
        await self.client.start_io(sys.executable, "-m", "archdsl", "lsp")
        hover = types.HoverClientCapabilities(content_format=[types.MarkupKind.Markdown])
        lists = types.CompletionListCapabilities(["commitCharacters", "editRange", "insertTextFormat"])
        completion = types.CompletionClientCapabilities(completion_list=lists)  # those of VS Code and Neovim
        document = types.TextDocumentClientCapabilities(hover=hover, completion=completion)
        capabilities = types.ClientCapabilities(text_document=document)
        await self.client.initialize_async(types.InitializeParams(capabilities))
        self.client.initialized(types.InitializedParams())
        self.process = self.client._server.pid  # type: ignore[attr-defined]

    def cpu(self) -> float:
        """The processor time of the server, in milliseconds, by a clock of nanoseconds where there is one."""
        tasks = Path(f"/proc/{self.process}/task")
        total = 0
        for task in tasks.iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except OSError:
                continue
        return total / 1e6

    def memory(self) -> float:
        """Its resident memory, in MiB."""
        return int(Path(f"/proc/{self.process}/statm").read_text().split()[1]) * PAGE / 2**20

    async def settle(self, uri: str) -> None:
        """Waits until the server has nothing left to do for a document."""
        whole = types.Range(types.Position(0, 0), types.Position(0, 0))
        context = types.CodeActionContext([])
        await self.client.text_document_code_action_async(
            types.CodeActionParams(types.TextDocumentIdentifier(uri), whole, context)
        )
        before = -1.0
        while (now := self.cpu()) - before > 1:  # it tidies up behind its last answer
            before = now
            await asyncio.sleep(0.15)

    async def edit(self, uri: str, version: int, change: types.TextDocumentContentChangePartial, times: Times) -> None:
        identifier = types.VersionedTextDocumentIdentifier(version=version, uri=uri)
        cpu, start = self.cpu(), perf_counter()
        self.client.text_document_did_change(types.DidChangeTextDocumentParams(identifier, [change]))
        whole = types.Range(types.Position(0, 0), types.Position(100_000, 0))
        params = types.InlayHintParams(types.TextDocumentIdentifier(uri), whole)
        hints = self.client.text_document_inlay_hint_async(params)
        await hints
        times.hints.append((perf_counter() - start) * 1000)
        while (uri, version) not in self.published:
            self.event.clear()
            await self.event.wait()
        times.cpu.append(self.cpu() - cpu)
        times.diagnostics.append((self.published[uri, version] - start) * 1000)

    async def complete(self, uri: str, position: types.Position, times: Times) -> None:
        cpu, start = self.cpu(), perf_counter()
        params = types.CompletionParams(types.TextDocumentIdentifier(uri), position)
        await self.client.text_document_completion_async(params)
        times.completion.append((perf_counter() - start) * 1000)
        times.completion_cpu.append(self.cpu() - cpu)


def edits(text: str, number: int, random: Random) -> list[tuple[types.Position, str, str]]:
    """Places of the text where something is written, and undone by the next edit: numbers, letters, half a line."""
    lines = text.split("\n")
    inside = [i for i, line in enumerate(lines) if line.startswith("    ") and line.strip() not in ("{", "}")]
    found = []
    for _ in range(number):
        line = random.choice(inside)
        numbers = [m.end() for m in re.finditer(r"\b[0-9]+\b", lines[line])]
        kind = random.randrange(3)
        if kind == 0 and numbers:
            found.append((types.Position(line, random.choice(numbers)), "1", lines[line]))
        elif kind == 1:
            found.append((types.Position(line, len(lines[line])), " -> re", lines[line]))
        else:
            found.append((types.Position(line, 4), "relu\n    ", lines[line]))
    return found


async def measure(session: Session, uri: str, text: str, number: int, random: Random) -> Times:
    item = types.TextDocumentItem(uri, "arch", 0, text)
    session.client.text_document_did_open(types.DidOpenTextDocumentParams(item))
    await session.settle(uri)
    times, version = Times(), 0
    for at, written, _ in edits(text, number, random):
        rows = written.split("\n")
        end = types.Position(at.line + len(rows) - 1, len(rows[-1]) + (at.character if len(rows) == 1 else 0))
        version += 1
        await session.edit(uri, version, types.TextDocumentContentChangePartial(types.Range(at, at), written), times)
        await session.complete(uri, end, times)
        await session.settle(uri)
        version += 1
        await session.edit(uri, version, types.TextDocumentContentChangePartial(types.Range(at, end), ""), times)
        await session.settle(uri)
    session.client.text_document_did_close(types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(uri)))
    return times


async def latency(families: list[str], number: int) -> None:
    session = Session()
    await session.start()
    chosen = families or [*library_families(), *LARGE]
    print("95 % of edits within, in ms    wall: diagnostics  hints   cpu of both    completion  its cpu")
    for name in chosen:
        path = library_folder() / f"{name}.arch"
        uri = f"untitled:{name}" if name in LARGE else path.as_uri()
        text = LARGE[name] if name in LARGE else path.read_text("utf-8")
        times = await measure(session, uri, text, number, Random(0))
        shown = [times.diagnostics, times.hints, times.cpu, times.completion, times.completion_cpu]
        print(f"{name:30} " + "".join(f"{most(numbers):12.0f}" for numbers in shown), flush=True)
    await session.client.shutdown_async(None)
    session.client.exit(None)
    await session.client.stop()


async def growth(family: str) -> None:
    """Edits one spec 10,000 times, and prints the memory of the server."""
    session = Session()
    await session.start()
    path = library_folder() / f"{family}.arch"
    text, uri, random = path.read_text("utf-8"), path.as_uri(), Random(0)
    session.client.text_document_did_open(types.DidOpenTextDocumentParams(types.TextDocumentItem(uri, "arch", 0, text)))
    await session.settle(uri)
    version, times = 0, Times()
    for round_ in range(11):
        print(f"{round_ * 1000:6,} edits: {session.memory():6.1f} MiB", flush=True)
        for at, written, _ in edits(text, 500 if round_ < 10 else 0, random):
            rows = written.split("\n")
            end = types.Position(at.line + len(rows) - 1, len(rows[-1]) + (at.character if len(rows) == 1 else 0))
            for where, new in ((types.Range(at, at), written), (types.Range(at, end), "")):
                version += 1
                await session.edit(uri, version, types.TextDocumentContentChangePartial(where, new), times)
            session.published.clear()
        await session.settle(uri)
    await session.client.shutdown_async(None)
    session.client.exit(None)
    await session.client.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY")
    parser.add_argument("--edits", type=int, default=10, help="of each spec, each written and undone")
    parser.add_argument("--memory", action="store_true", help="edit one spec 10,000 times, and print the memory")
    options = parser.parse_args()
    asyncio.run(
        growth(options.families[0] if options.families else "unet")
        if options.memory
        else latency(options.families, options.edits)
    )


if __name__ == "__main__":
    main()
