"""The open documents: their texts, and the work on each that runs beside the loop and ends when its text changes."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Literal

from archdsl.common.limits import Brake, Stopped
from archdsl.common.source import Source
from archdsl.common.threads import cached_property
from archdsl.diagnostics import Diagnostic
from archdsl.editing.analysis import Analysis, read_document
from archdsl.editing.files import Files
from archdsl.editing.names import Names, names_of
from archdsl.editing.navigation import Project
from archdsl.editing.positions import Change, Encoding, changed, plain
from archdsl.editing.sizes import Call, Calls, Choice, Hint, definition_at, hints, merged
from archdsl.editing.tokens import Token, scanned, tokens
from archdsl.elaborate.spec_files import real_path
from archdsl.syntax.lexer import Lexeme

logger = logging.getLogger(__name__)

PAUSE = 0.015
"""Seconds without another edit before work on a text begins."""

FIRST = 0.03
"""Seconds for which models are checked before the first answer; the others follow."""

ANSWERING = 0.05
"""Seconds after the first answer for the editor's questions, before work goes on."""

IDLE = 0.3
"""Seconds after the last answer before fixes are tried."""

MOST_UNTIDY = 25
"""The number of analyses after which their garbage is collected, even while somebody types."""

WORKERS = 8
STACK = 64 * 1024**2
"""Bytes of the stack of a worker: a nested spec becomes recursion."""

Stage = Literal["first", "checked", "mended"]


@dataclass(eq=False)
class View:
    """The state of one text of a document. `chosen` are the calls of blocks that the user wants to see."""

    analysis: Analysis
    chosen: Choice

    @property
    def source(self) -> Source:
        return self.analysis.source

    @cached_property
    def names(self) -> Names:
        return names_of(self.analysis.syntax)

    @cached_property
    def lexemes(self) -> list[Lexeme]:
        return scanned(self.source)

    @cached_property
    def tokens(self) -> list[Token]:
        return list(tokens(self.names, self.lexemes))

    def calls(self) -> Calls:
        """The calls of its blocks, of the models that have been checked by now."""
        known: tuple[int, Calls] | None = self.__dict__.get("_calls")
        number = len(self.analysis.models)
        if known is None or known[0] != number:
            known = number, Calls(self.analysis, self.chosen)
            self.__dict__["_calls"] = known
        return known[1]

    def hints(self) -> list[Hint]:
        """The sizes behind lines, computed once for the models that have been checked and the user's choice."""
        calls = self.calls()
        known: tuple[Calls, Choice, list[Hint]] | None = self.__dict__.get("_hints")
        if known is None or known[0] is not calls or known[1] != self.chosen:
            known = calls, dict(self.chosen), hints(self.analysis, calls)
            self.__dict__["_hints"] = known
        return known[2]


@dataclass(eq=False)
class Document:
    """An open document. `view` is that of its last text that was analysed, which may be older than its text."""

    uri: str
    path: Path | None
    source: Source
    version: int | None
    chosen: Choice = field(default_factory=dict)
    view: View | None = None
    good: View | None = None
    brake: Brake = field(default_factory=Brake)
    ready: asyncio.Future[View] | None = None
    finished: asyncio.Future[View] | None = None
    mended: asyncio.Future[View] | None = None
    timer: asyncio.TimerHandle | None = None
    hurry: threading.Event = field(default_factory=threading.Event)
    """Set if somebody waits for the fixes."""


Deliver = Callable[[Document, View, Stage, list[Diagnostic]], None]


class Documents:
    """The open documents. `deliver` is called in the loop with what was found, stage by stage."""

    def __init__(self, deliver: Deliver) -> None:
        self.deliver = deliver
        self.files = Files()
        self.project = Project(self.files)
        self.all: dict[str, Document] = {}
        self.encoding: Encoding = "utf-16"
        self.untidy = 0
        threading.stack_size(STACK)
        self.pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="archdsl")

    # ------------------------------------------------------------ texts

    def open(self, uri: str, path: Path | None, text: str, version: int | None) -> Document:
        document = self.all.get(uri)
        if document is None:
            document = self.all[uri] = Document(uri, path, Source("", ""), None)
        self._set(document, plain(text), version)
        return document

    def change(self, uri: str, changes: list[Change], version: int | None) -> None:
        document = self.all.get(uri)
        if document is not None:
            changes = [Change(c.range, plain(c.text)) for c in changes]
            self._set(document, changed(document.source.text, changes, self.encoding), version)

    def close(self, uri: str) -> None:
        document = self.all.pop(uri, None)
        if document is None:
            return
        self._stop(document)
        if document.path is not None:
            self.files.close(document.path)
            self._renew_others(document)

    def end(self) -> None:
        """Ends all work."""
        for document in self.all.values():
            self._stop(document)
        self.pool.shutdown(wait=False, cancel_futures=True)

    def _set(self, document: Document, text: str, version: int | None) -> None:
        name = document.path.name if document.path is not None else document.uri.rpartition("/")[2] or document.uri
        document.source = Source(name, text.removeprefix("\ufeff"), document.path)
        document.version = version
        if document.path is not None:
            self.files.open(document.path, document.source)
        self.start(document)

    # ------------------------------------------------------------ work

    def start(self, document: Document) -> None:
        """Begins the work on a text, once nothing has been typed for a moment; ends that on an older one."""
        self._stop(document)
        loop = asyncio.get_running_loop()
        document.brake = Brake()
        document.hurry = threading.Event()
        document.ready, document.finished, document.mended = (loop.create_future() for _ in range(3))
        document.timer = loop.call_later(PAUSE, self._begin, document, loop)

    def renew(self) -> None:
        """Begins the work on all documents again, since files have changed."""
        self.files.forget()
        for document in self.all.values():
            self.start(document)

    def _begin(self, document: Document, loop: asyncio.AbstractEventLoop) -> None:
        document.timer = None
        self.pool.submit(self._work, document, document.source, document.brake, loop)

    def _stop(self, document: Document) -> None:
        document.brake.on = True
        document.hurry.set()
        if document.timer is not None:
            document.timer.cancel()
            document.timer = None
        for future in (document.ready, document.finished, document.mended):
            if future is not None and not future.done():
                future.cancel()

    def _renew_others(self, document: Document) -> None:
        """Begins the work on the documents that import this one, or miss a file."""
        path = real_path(document.path) if document.path is not None else None
        for other in self.all.values():
            if other is document or other.view is None:
                continue
            sources = other.view.analysis.spec_file.sources()
            imports = any(s.path is not None and real_path(s.path) == path for s in sources if s is not other.source)
            if imports or other.view.analysis.misses(document.path):
                self.start(other)

    def _work(self, document: Document, source: Source, brake: Brake, loop: asyncio.AbstractEventLoop) -> None:
        """Analyses a text, in a thread of its own."""
        self.untidy += 1
        if self.untidy > MOST_UNTIDY:
            self._tidy()
        try:
            begun = perf_counter()
            first = [model for model, _ in document.chosen.values()]
            analysis = read_document(source, self.files, brake, first)
            view = View(analysis, document.chosen)

            def give(stage: Stage) -> None:
                found = analysis.diagnostics()
                view.hints()
                try:
                    loop.call_soon_threadsafe(self._given, document, view, stage, found, brake)
                except RuntimeError:  # the loop has ended
                    raise Stopped from None

            while analysis.waiting and (not analysis.models or perf_counter() - begun < FIRST):
                analysis.check_next(brake)
            give("first")
            document.hurry.wait(ANSWERING)
            while analysis.waiting:
                analysis.check_next(brake)
            analysis.look_for_mistakes(brake)
            give("checked")
            document.hurry.wait(IDLE)
            analysis.try_fixes(brake)
            give("mended")
            self._tidy()
        except Stopped:
            pass
        except Exception:
            logger.exception("while analysing %s", document.uri)
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._failed, document, brake)

    def _failed(self, document: Document, brake: Brake) -> None:
        """Ends the waiting for what will not come."""
        if document.brake is brake:
            self._stop(document)

    def _tidy(self) -> None:
        """Frees what older texts have left: the collector runs only here, not while somebody waits."""
        self.untidy = 0
        gc.collect()

    def _given(self, document: Document, view: View, stage: Stage, found: list[Diagnostic], brake: Brake) -> None:
        """Takes what was found of a text, in the loop, unless the text has changed since."""
        if brake.on or document.brake is not brake:
            return
        if stage == "first":
            document.view = view
            if not view.analysis.is_broken:
                document.good = view
        futures = {"first": document.ready, "checked": document.finished, "mended": document.mended}
        self.deliver(document, view, stage, found)
        future = futures[stage]
        if future is not None and not future.done():
            future.set_result(view)
        if stage == "checked":
            self._renew_others(document)

    # ------------------------------------------------------------ answers

    def read(self, document: Document) -> View:
        """The current text, read at once, with no model checked."""
        return View(read_document(document.source, self.files, document.brake), document.chosen)

    def hints(self, document: Document, view: View) -> list[Hint]:
        """The sizes behind lines; where the text is broken, those of lines below that have not changed stay."""
        good = document.good
        if not view.analysis.is_broken or good is None or good is view:
            return view.hints()
        return merged(view.hints(), view.source, good.hints(), good.source)

    def known(self, document: Document, offset: int) -> tuple[View, int] | None:
        """The last view that knows the block around an offset of the text, and the offset in its text."""
        for view in (document.view, document.good):
            if view is None:
                continue
            there = moved(offset, document.source.text, view.source.text)
            if definition_at(view.analysis.syntax, there) is not None or view is document.good:
                return view, there
        return (document.view, offset) if document.view is not None else None


def moved(offset: int, text: str, other: str) -> int:
    """The offset in another text of the same document: the same before the first difference, else from its end."""
    if text == other:
        return offset
    if other.startswith(text[:offset]):
        return offset
    if other.endswith(text[offset:]):
        return len(other) - (len(text) - offset)
    low, high = 0, min(offset, len(other))
    while low < high:  # the longest common beginning
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text[:middle] == other[:middle] else (low, middle - 1)
    return low


__all__ = ["Call", "Document", "Documents", "View", "moved"]
