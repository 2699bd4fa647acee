"""A document as far as it is understood: its tree, its models, and what is wrong with them.

It is made in steps, so that the first answers come early: reading the text, then checking one model after the other,
then trying the fixes that errors propose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from archdsl.checker.lints import lints
from archdsl.checker.spec import examine, tried
from archdsl.common.limits import Brake, limited
from archdsl.common.source import Source, Span
from archdsl.common.threads import cached_property
from archdsl.diagnostics import Diagnostic, Diagnostics, SpecError
from archdsl.editing.alone import as_models
from archdsl.editing.files import Files
from archdsl.elaborate.spec_files import SpecFile, family, find_import, reporting
from archdsl.graph import Graph
from archdsl.report.layers import Layers, Options
from archdsl.syntax import tree
from archdsl.values import BlockValue


@dataclass(eq=False)
class Model:
    """A model of the document. `graph` is as far as it is right, `found` what is wrong or doubtful in it.

    `hidden` are places that could not be checked.
    """

    name: str
    graph: Graph | None
    found: tuple[Diagnostic, ...]
    hidden: frozenset[Span] = frozenset()
    texts: dict[int, str] = field(default_factory=dict)
    """The sizes of its graph as text, by identity, each made once."""

    @property
    def is_right(self) -> bool:
        """Whether all of it could be checked, and nothing is wrong."""
        return self.graph is not None and not self.hidden and not any(d.severity == "error" for d in self.found)

    @cached_property
    def layers(self) -> Layers | None:
        """Its numbers, at its example sizes; None while it is wrong."""
        return Layers(self.graph, Options()) if self.graph is not None and self.is_right else None


@dataclass(eq=False)
class Analysis:
    """The analysis of one text. `models` grows as they are checked; `waiting` are the names of those still to come."""

    source: Source
    spec_file: SpecFile
    loaded: Diagnostics
    models: dict[str, Model] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    mended: dict[str | None, tuple[Diagnostic, ...]] = field(default_factory=dict)
    """The diagnostics of a model (None: of the file) after its fixes have been tried."""
    alone: Analysis | None = None
    """For a file of blocks alone: the same text, and a model behind it for each block that can be checked by itself."""

    @property
    def syntax(self) -> tree.File:
        return self.spec_file.syntax

    @cached_property
    def is_broken(self) -> bool:
        """Whether its text, or that of a file that it imports, has errors, so that parts of it are not known."""
        return bool(self.loaded.errors)

    def misses(self, path: Path | None) -> bool:
        """Whether it imports a file of this name that was not found."""
        missing = [d for d in self.loaded.items if d.code == "E0003"]
        return path is not None and any(path.stem in d.message for d in missing)

    # ------------------------------------------------------------ the steps

    def check_next(self, brake: Brake) -> None:
        """Checks the next model that is waiting. Raises Stopped."""
        name = self.waiting[0]
        model = self._checked(name, brake)
        self.models[name] = model
        self.waiting.pop(0)

    def _checked(self, name: str, brake: Brake) -> Model:
        diagnostics = Diagnostics()
        graph: Graph | None = None
        with limited(brake=brake), suppress(SpecError):
            graph = examine(self.spec_file, name, {}, diagnostics)
        return Model(name, graph, tuple(diagnostics.items), frozenset(diagnostics.hidden))

    def look_for_mistakes(self, brake: Brake) -> None:
        """Adds the warnings of the models that are right. Raises Stopped."""
        for model in [] if self.is_broken else list(self.models.values()):
            if model.graph is not None and model.is_right:
                with limited(brake=brake) as budget:
                    budget.step()
                    diagnostics = Diagnostics(list(model.found))
                    for warning in lints(model.graph, self.spec_file):
                        diagnostics.add(warning)
                    model.found = tuple(diagnostics.items)

    def try_fixes(self, brake: Brake) -> bool:
        """Tries the proposed fixes; whether there were any. Raises Stopped."""
        parts: list[tuple[str | None, Sequence[Diagnostic], frozenset[Span]]] = [
            (None, self.loaded.items, frozenset(self.loaded.hidden))
        ]
        if not self.is_broken:
            parts += [(model.name, model.found, model.hidden) for model in self.models.values()]
        done: set[object] = set()
        for name, found, hidden in parts:
            # Models of one file have the same mistakes: each is tried once.
            fresh = [d for d in found if d.proposals and _key(d) not in done]
            done |= {_key(d) for d in fresh}
            if fresh and name not in self.mended:
                with limited(brake=brake):
                    self.mended[name] = tried(self.spec_file, name, found, hidden)
        return bool(self.mended)

    # ------------------------------------------------------------ what is wrong

    def diagnostics(self) -> list[Diagnostic]:
        """All diagnostics, in the order of the text: each mistake once, whatever the number of models that have it."""
        found: dict[tuple[object, ...], Diagnostic] = {}
        others: dict[tuple[object, ...], dict[str, None]] = {}
        for diagnostic in self.mended.get(None, tuple(self.loaded.items)):
            found.setdefault((diagnostic.message, *_key(diagnostic)), diagnostic)
        broken = {line for d in found.values() for line in self._lines(d)}
        for model in list(self.models.values()):
            for diagnostic in self.mended.get(model.name, model.found):
                key = _key(diagnostic)
                if self.is_broken and broken.intersection(self._lines(diagnostic)):
                    continue  # it probably follows from what is written there
                if key not in found:
                    found[key] = diagnostic
                elif found[key].message != diagnostic.message:
                    others.setdefault(key, {})[model.name] = None
        for key, names in others.items():
            more = f"and in {', '.join(f'`{name}`' for name in list(names)[:4])}{', …' * (len(names) > 4)}, similarly"
            found[key] = replace(found[key], notes=(*found[key].notes, more))
        return sorted(found.values(), key=lambda d: self.place(d).start)

    def _lines(self, diagnostic: Diagnostic) -> Iterator[int]:
        """The lines of its cause in this text."""
        if diagnostic.marks and diagnostic.marks[0].span.source is self.source:
            yield diagnostic.marks[0].span.line

    def place(self, diagnostic: Diagnostic) -> Span:
        """Where the document shows it: its first mark here, or the import of the file that it is in, or the top."""
        for mark in diagnostic.marks:
            if mark.span.source is self.source:
                return mark.span
        if diagnostic.marks:
            wrong = diagnostic.marks[0].span.source
            for declaration in self.syntax.declarations:
                if isinstance(declaration, tree.Import) and self._leads_to(declaration, wrong):
                    return declaration.module.span
        return Span(self.source, 0, len(self.source.line(1)))

    def _leads_to(self, declaration: tree.Import, wrong: Source) -> bool:
        path = find_import(declaration.module.name.split("."), self.source)
        return any(s.source.path == path and wrong in s.sources() for s in self.spec_file.imports)


def _key(diagnostic: Diagnostic) -> tuple[object, ...]:
    spans = [(m.span.source.name, m.span.start, m.span.end) for m in diagnostic.marks[:1]]
    return diagnostic.code, *spans, *([] if spans else [diagnostic.message])


def read_document(source: Source, files: Files, brake: Brake, first: Sequence[str] = ()) -> Analysis:
    """The document as it is read, with none of its models checked yet; `first` are models to check before others."""
    diagnostics = Diagnostics()
    with limited(brake=brake):
        spec_file = files.load(source, diagnostics)
        complete = [name for name in spec_file.models if _is_complete(spec_file, name)]
    complete.sort(key=lambda name: first.index(name) if name in first else len(first))
    found = Analysis(source, spec_file, diagnostics, waiting=complete)
    if not spec_file.models and not found.is_broken and (models := as_models(spec_file.syntax)):
        found.alone = read_document(Source(source.name, source.text + models, source.path), files, brake)
        while found.alone.waiting:
            found.alone.check_next(brake)
    return found


def _is_complete(spec_file: SpecFile, name: str) -> bool:
    """Whether a model can be checked without further values. One that is wrong is checked, to say what is wrong."""
    found: tuple[BlockValue, dict[str, object]] | None = None
    with reporting(Diagnostics()):
        found = family(spec_file.models[name])
    if found is None:
        return True
    block, given = found
    return all(p.default is not None or p.name.name in given for p in block.syntax.parameters)
