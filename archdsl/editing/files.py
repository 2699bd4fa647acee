"""The files of specs as an editor sees them: documents that are open count with their text, others as they are saved.

A file that is imported is parsed once, for all documents, as long as neither it nor a file that it imports changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from archdsl.common.source import Source
from archdsl.diagnostics import Diagnostics
from archdsl.elaborate.spec_files import Loader, SpecFile, real_path
from archdsl.syntax.parser import read

Stamp = object
"""A version of a file: its Source if it is open, else its time and size."""


@dataclass(slots=True, eq=False)
class _Kept:
    """An imported file without errors, with the state of each file that it consists of."""

    spec_file: SpecFile
    stamps: dict[Path, Stamp]


@dataclass(slots=True, eq=False)
class Files:
    """The texts of open documents by path, and the imported files that need not be parsed again."""

    opened: dict[Path, Source] = field(default_factory=dict)
    _kept: dict[Path, _Kept] = field(default_factory=dict)
    _texts: dict[Path, tuple[Stamp, Source]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def open(self, path: Path, source: Source) -> None:
        self.opened[real_path(path)] = source

    def close(self, path: Path) -> None:
        self.opened.pop(real_path(path), None)

    def forget(self) -> None:
        """Reads every file again that is not open: which ones there are may have changed."""
        self._kept.clear()
        self._texts.clear()

    def load(self, source: Source, diagnostics: Diagnostics) -> SpecFile:
        """The parsed document; errors in it and in its imports go to `diagnostics`."""
        loader = _Loader(diagnostics, texts=dict(self.opened), files=self)
        if source.path is not None:
            loader.open.append(real_path(source.path))
        return loader.load_source(source)

    def text(self, path: Path) -> Source | None:
        """The text of a file, None if it cannot be read."""
        key = real_path(path)
        if key in self.opened:
            return self.opened[key]
        stamp = self.stamp(key)
        known = self._texts.get(key)
        if known is not None and known[0] == stamp:
            return known[1]
        source = read(path, Diagnostics())
        if source is not None:
            self._texts[key] = (stamp, source)
        return source

    def stamp(self, path: Path) -> Stamp:
        if path in self.opened:
            return self.opened[path]
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def kept(self, path: Path) -> SpecFile | None:
        """An imported file as it was parsed before, if nothing of it has changed."""
        with self._lock:
            found = self._kept.get(path)
            if found is None:
                return None
            if any(self.stamp(p) != stamp for p, stamp in found.stamps.items()):
                del self._kept[path]
                return None
            return found.spec_file

    def keep(self, path: Path, spec_file: SpecFile, stamps: dict[Path, Stamp]) -> None:
        with self._lock:
            self._kept[path] = _Kept(spec_file, stamps)


@dataclass(slots=True, eq=False)
class _Loader(Loader):
    """A loader that keeps imported files which have no errors, from one check to the next."""

    files: Files = field(default_factory=Files)

    def load_file(self, path: Path) -> SpecFile | None:
        key = real_path(path)
        if key in self.loaded:
            return self.loaded[key]
        if (kept := self.files.kept(key)) is not None:
            self.loaded[key] = kept
            return kept
        stamp = self.files.stamp(key)  # before it is read, so that a change meanwhile is seen
        before = len(self.diagnostics.items)
        found = Loader.load_file(self, path)
        if found is not None and len(self.diagnostics.items) == before:
            stamps = {p: self.files.stamp(p) for p in _paths(found)}
            self.files.keep(key, found, {**stamps, key: stamp})
        return found


def _paths(spec_file: SpecFile) -> Iterator[Path]:
    return (real_path(source.path) for source in spec_file.sources() if source.path is not None)
