"""Where a name is declared and used, in its document and in the files around it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from archdsl.common.source import Source, Span
from archdsl.diagnostics import Diagnostics
from archdsl.editing.files import Files
from archdsl.editing.names import ImportedName, Names, Symbol, names_of
from archdsl.elaborate.spec_files import find_import, library_folder, real_path
from archdsl.syntax import tree
from archdsl.syntax.parser import parse

MOST_FILES = 2_000
"""The number of files of a workspace that are searched."""

Identity = tuple[Path, str, str]
"""The identity of a name in all files: the file that declares it, its name, and its parameter's name or ""."""


@dataclass(slots=True, eq=False)
class Project:
    """The specs around a document: open ones, those of the workspace's folders, and the library."""

    files: Files
    folders: list[Path] = field(default_factory=list)
    _names: dict[Path, tuple[Source, Names]] = field(default_factory=dict)

    def names(self, path: Path) -> Names | None:
        """The names of a file; None if it cannot be read."""
        source = self.files.text(path)
        if source is None:
            return None
        known = self._names.get(path)
        if known is None or known[0] is not source:
            known = self._names[path] = (source, names_of(parse(source, Diagnostics())))
        return known[1]

    def paths(self) -> list[Path]:
        """The paths of all specs, each once."""
        found: dict[Path, None] = dict.fromkeys(self.files.opened)
        for folder in (*self.folders, library_folder()):
            for path in sorted(folder.rglob("*.arch")):
                if len(found) < MOST_FILES and not any(p.startswith(".") for p in path.relative_to(folder).parts):
                    found[real_path(path)] = None
        return list(found)

    def is_fixed(self, path: Path | None) -> bool:
        """Whether a file is of the library, and that is not what the user works on."""
        library = real_path(library_folder())
        inside = path is not None and real_path(path).is_relative_to(library)
        return inside and not any(library.is_relative_to(real_path(folder)) for folder in self.folders)

    # ------------------------------------------------------------ what a name means

    def identity(self, symbol: Symbol, path: Path) -> Identity | None:
        """The identity of a symbol in all files; None if only its own file sees it."""
        if symbol.owner is not None:
            owner = self.identity(symbol.owner, path)
            return (*owner[:2], symbol.name) if owner is not None and not owner[2] else None
        if symbol.kind == "import":
            return self.origin(symbol, path)
        return (path, symbol.name, "") if symbol.top else None

    def origin(self, symbol: Symbol, path: Path) -> Identity | None:
        """The identity of an imported name in the file that declares it."""
        seen: set[Identity] = set()
        while isinstance(node := symbol.node, ImportedName):
            source = self.files.text(path)
            found = find_import(node.declaration.module.name.split("."), source) if source is not None else None
            if found is None:
                return None
            path = real_path(found)
            there = self.names(path)
            name = node.imported.name.name
            if there is None or name not in there.top.symbols or (path, name, "") in seen:
                return None
            seen.add((path, name, ""))
            symbol = there.top.symbols[name]
        return path, symbol.name, ""

    def declaration(self, identity: Identity) -> Symbol | None:
        """The symbol where it is declared."""
        names = self.names(identity[0])
        found = names.top.symbols.get(identity[1]) if names is not None else None
        if found is None or not identity[2]:
            return found
        found = found.parameters.get(identity[2])
        return found if found is not None and found.spans else None

    def resolved(self, symbol: Symbol, path: Path | None) -> Symbol:
        """The symbol itself, or the one that it imports."""
        if path is None or (symbol.kind != "import" and symbol.spans):
            return symbol
        identity = self.identity(symbol, path)
        found = self.declaration(identity) if identity is not None else None
        return found or symbol

    def everywhere(self, symbol: Symbol, path: Path | None) -> Iterator[tuple[Symbol, Path | None]]:
        """The symbols of all files that mean the same."""
        identity = self.identity(symbol, path) if path is not None else None
        if identity is None or path is None:
            yield symbol, path
            return
        wanted = identity[2] or identity[1]
        for other in self.paths():
            source = self.files.text(other)
            if source is None or wanted not in source.text:
                continue
            names = self.names(other)
            seen: set[Symbol] = set()
            for _, found in names.occurrences if names is not None else ():
                if found not in seen:
                    seen.add(found)
                    may_be = found.name == wanted or found.kind == "import"
                    if may_be and self.identity(found, other) == identity:
                        yield found, other


def definition(symbol: Symbol, path: Path | None, project: Project) -> list[Span]:
    """Where a symbol is declared: in another file, if it is imported."""
    return project.resolved(symbol, path).spans


def references(symbol: Symbol, path: Path | None, project: Project, *, declaration: bool) -> list[Span]:
    """Where a symbol is used, in all files, and where it is declared."""
    found: list[Span] = []
    for same, _ in project.everywhere(symbol, path):
        if declaration or same.kind == "import":
            found += same.spans
        found += same.uses
    return found


class NotRenamed(Exception):
    """A name that cannot be renamed, with the reason."""


def renamable(symbol: Symbol, path: Path | None, project: Project) -> Symbol:
    """The declared symbol that a rename changes. Raises NotRenamed."""
    found = project.resolved(symbol, path) if _keeps_name(symbol) else symbol
    if found.kind in ("operation", "builtin", "word", "it"):
        raise NotRenamed(f"`{symbol.name}` is a part of the language")
    if not found.spans:
        raise NotRenamed(f"it is not known where `{symbol.name}` is declared")
    return found


def _keeps_name(symbol: Symbol) -> bool:
    """Whether a rename of it renames what it imports, not only its name here."""
    return not (isinstance(symbol.node, ImportedName) and symbol.spans and symbol.node.is_renamed)


def rename(symbol: Symbol, names: Names, path: Path | None, new: str, project: Project) -> dict[Span, str]:
    """The changes that rename a symbol in all files; `names` are those of its own. Raises NotRenamed.

    Afterwards every name of the changed files means what it meant before, or the rename is refused.
    """
    target = renamable(symbol, path, project)
    if not (new.isascii() and new.isidentifier()) or new == "it":
        raise NotRenamed(f"`{new}` is not a name: use letters a to z, digits and `_`; `it` is reserved")
    changes: dict[Span, str] = {}
    changed: dict[Source, Names] = {}
    for same, where in _same(symbol, path, project):
        if same is not symbol and not _keeps_name(same):
            continue  # it goes by another name there
        of_file = names if same is symbol or where is None else project.names(where) or names
        _refuse_unknown(same, of_file)
        for span in (*same.spans, *same.uses):
            # The label of `output logits` names the output, too, which keeps its name.
            output = span.start in of_file.unnamed_outputs
            changes[span] = f"{same.name} = {new}" if output else new
            changed[span.source] = of_file
    if any(project.is_fixed(source.path) for source in changed):
        raise NotRenamed(f"`{target.name}` is a part of the library that ships with archdsl")
    for source, before in changed.items():
        _verify(source, before, changes, new)
    return changes


def _same(symbol: Symbol, path: Path | None, project: Project) -> Iterator[tuple[Symbol, Path | None]]:
    if not _keeps_name(symbol) or path is None or project.identity(symbol, path) is None:
        yield symbol, path
        return
    yield from project.everywhere(symbol, path)


def _refuse_unknown(symbol: Symbol, names: Names) -> None:
    """Refuses a parameter that may be passed by name through a block that is itself a parameter."""
    for passed, span in names.passed if symbol.owner is not None else ():
        if passed == symbol.name:
            message = f"line {span.line} passes `{passed}` to a block that is itself a parameter: rename it by hand"
            raise NotRenamed(message)


def _verify(source: Source, before: Names, changes: Mapping[Span, str], new: str) -> None:
    """Checks that each name of a changed text means what it meant before. Raises NotRenamed."""
    text = source.text
    for span in sorted((s for s in changes if s.source is source), key=lambda s: -s.start):
        text = text[: span.start] + changes[span] + text[span.end :]
    diagnostics = Diagnostics()
    after = names_of(parse(Source(source.name, text, source.path), diagnostics))
    pairs = zip_longest(_meanings(before), _meanings(after))
    for (span, _), (was, is_) in zip(before.occurrences, pairs, strict=False):
        if was != is_:
            raise NotRenamed(f"`{new}` would change what `{span.text}` in line {span.line} means")
    if len(before.occurrences) != len(after.occurrences):
        raise NotRenamed(f"`{new}` cannot be a name there")


def _meanings(names: Names) -> Iterator[tuple[int, str]]:
    """For each occurrence in order, the number of its symbol, by first occurrence, and its kind."""
    numbers: dict[Symbol, int] = {}
    for _, symbol in names.occurrences:
        yield numbers.setdefault(symbol, len(numbers)), symbol.kind


# ---------------------------------------------------------------- other questions


def module_at(file: tree.File, offset: int) -> Path | None:
    """The file of the module that is named at an offset, in an import."""
    for declaration in file.declarations:
        if isinstance(declaration, tree.Import):
            span = declaration.module.span
            if span.start <= offset <= span.end:
                return find_import(declaration.module.name.split("."), file.source)
    return None


def symbols(project: Project, query: str, most: int) -> Iterator[tuple[Symbol, Path]]:
    """The declarations of all files whose name has the letters of the query in their order."""
    pattern = re.compile(".*".join(map(re.escape, query)), re.IGNORECASE)
    number = 0
    for path in project.paths():
        names = project.names(path)
        for symbol in names.top.symbols.values() if names is not None else ():
            if symbol.kind != "import" and pattern.search(symbol.name) and number < most:
                number += 1
                yield symbol, path
