"""One spec that is made again: what came of it, and which files it is made of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from archdsl.diagnostics import Diagnostic, Diagnostics, SpecError
from archdsl.elaborate.spec_files import SpecFile

PAUSE = 0.05
"""Seconds until a file that is missing is read again: some editors remove it before they write it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one round: the result if there is one, errors and warnings, and the seconds that it took."""

    result: bytes | None
    diagnostics: tuple[Diagnostic, ...]
    seconds: float
    trouble: str = ""
    """Why nothing could be made, if not for the spec: no Graphviz, a full disk."""

    @property
    def failed(self) -> bool:
        return self.result is None


@dataclass(slots=True)
class Follower:
    """Makes something of a spec, again and again.

    `make` gives what is shown and the warnings; `read` parses the spec, for the files that it consists of.
    """

    spec: Path
    read: Callable[[], SpecFile | None]
    make: Callable[[], tuple[bytes, tuple[Diagnostic, ...]]]
    files: set[Path] = field(default_factory=set)
    times: dict[Path, int] = field(default_factory=dict)
    """When each file was last changed, at the last round."""

    def round(self) -> Outcome:
        """Makes it once. Errors are part of the outcome."""
        started = time.perf_counter()
        if not self.spec.exists():
            time.sleep(PAUSE)
        self.files |= {self.spec}
        self.times = self._times()
        result: bytes | None = None
        diagnostics: tuple[Diagnostic, ...] = ()
        trouble = ""
        try:
            result, diagnostics = self.make()
        except SpecError as error:
            diagnostics = error.diagnostics
        except OSError as error:
            trouble = error.strerror or str(error)
        with suppress(SpecError):
            if (found := self.read()) is not None:
                self.files = {self.spec, *(source.path for source in found.sources() if source.path is not None)}
                self.times = {**self._times(), **self.times}
        return Outcome(result, diagnostics, time.perf_counter() - started, trouble)

    def _times(self) -> dict[Path, int]:
        found = {}
        for path in self.files:
            with suppress(OSError):
                found[path] = path.stat().st_mtime_ns
        return found

    def is_stale(self) -> bool:
        """Whether a file was changed since the last round began."""
        return self._times() != self.times

    def folders(self) -> set[Path]:
        """The folders to watch. An import that is missing may appear in any of them."""
        return {path.resolve().parent for path in self.files}

    def concerns(self, path: str) -> bool:
        """Whether a change of a file may change the result."""
        return path.endswith(".arch") or Path(path) in {file.resolve() for file in self.files}


def changes(follower: Follower, stop: threading.Event | None = None) -> Iterator[None]:
    """Comes back whenever a file that concerns the spec was saved; ends when `stop` is set.

    The folders of the files are watched, since many editors write a new file and rename it. Each second it also looks
    at the times of the files, for what happened before the watch began, and for file systems that report nothing.
    """
    from watchfiles import watch  # slow to import

    stop = stop or threading.Event()
    while not stop.is_set():
        folders = follower.folders()
        watched = watch(
            *folders,
            watch_filter=lambda _, path: follower.concerns(path),
            step=20,
            debounce=200,
            stop_event=stop,
            recursive=False,
            rust_timeout=1000,
            yield_on_timeout=True,
        )
        for found in watched:
            if found or follower.is_stale():
                yield
            if follower.folders() != folders:
                break


def reader(spec: str) -> tuple[Path, Callable[[], SpecFile | None]]:
    """The file of a SPEC, and the function that parses it. Raises SpecError if there is none of that name."""
    from archdsl.checker.spec import read, split_spec

    path, _ = split_spec(spec, Diagnostics())
    return path, lambda: read(spec, Diagnostics())[0]
