"""Spec files and their definitions: imports, constants, blocks, models; and the library that ships with archdsl."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import assert_never, cast

from archdsl.common.limits import Exceeded, budget, deep_calls, ongoing
from archdsl.common.source import Source, Span
from archdsl.diagnostics import Diagnostics, Fix, Mark, Proposal, renamed
from archdsl.ops import OPERATIONS, aliases
from archdsl.syntax import tree
from archdsl.syntax.parser import parse, read
from archdsl.values import (
    FAILED,
    AugmentValue,
    BlockValue,
    Defaults,
    ExternValue,
    Failure,
    FunctionValue,
    MemberValue,
    Misbound,
    Namespace,
    Poisoned,
    Signature,
    Thunk,
    bind,
    bind_operation,
    evaluate,
    name_span,
    values_in,
)


def library_folder() -> Path:
    """The folder of the library specs: in the installed package, or next to it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "specs"
    return inside if inside.is_dir() else package.parent / "specs"


def library_families() -> list[str]:
    return sorted(p.stem for p in library_folder().glob("*.arch"))


def library_tasks() -> dict[str, list[str]]:
    """The families of the library by task, in the order of `tasks.toml`."""
    import tomllib  # only the list of the library needs it

    found: dict[str, list[str]] = tomllib.loads((library_folder() / "tasks.toml").read_text("utf-8"))
    return found


@contextmanager
def reporting(diagnostics: Diagnostics) -> Iterator[None]:
    """Evaluates values of a spec; an error in them ends the context and goes to `diagnostics`."""
    try:
        with ongoing(), deep_calls():
            yield
    except Failure as failure:
        diagnostics.error(
            failure.code,
            failure.message,
            failure.span,
            *failure.others,
            help=failure.help,
            proposals=failure.proposals,
        )
    except Exceeded as error:
        diagnostics.error(error.code, error.message, *([error.span] if error.span else []), help=error.help)
    except Poisoned:
        pass


@dataclass(slots=True, eq=False)
class SpecFile:
    """A parsed file: its names in order of declaration, and its models. `syntax` is its tree."""

    source: Source
    names: Namespace
    syntax: tree.File
    imports: list[SpecFile] = field(default_factory=list)
    models: dict[str, BlockValue | MemberValue] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)

    def sources(self) -> Iterator[Source]:
        """The text of this file and of each file that it imports, directly or not."""
        found: dict[SpecFile, None] = {}
        waiting = [self]
        while waiting:
            spec_file = waiting.pop()
            if spec_file not in found:
                found[spec_file] = None
                yield spec_file.source
                waiting.extend(spec_file.imports)

    def files(self) -> tuple[tuple[str, str], ...]:
        """The name and text of this file and of each file that it imports, directly or not."""
        return tuple((str(source.path or source.name), source.text) for source in self.sources())

    def changed(self, changed: Source, diagnostics: Diagnostics) -> SpecFile | None:
        """This file, parsed again if it or a file that it imports has another text; no other file is parsed again."""
        sources = [changed if s.name == changed.name and s.path == changed.path else s for s in self.sources()]
        loader = Loader(diagnostics, texts={real_path(s.path): s for s in sources if s.path is not None})
        return loader.load_source(sources[0]) if sources[0].path is None else loader.load_file(sources[0].path)


@dataclass(slots=True, eq=False)
class Loader:
    """Parses files and their imports, each once. `open` is the chain from the first file to the current one."""

    diagnostics: Diagnostics
    loaded: dict[Path, SpecFile | None] = field(default_factory=dict)
    open: list[Path] = field(default_factory=list)
    texts: Mapping[Path, Source] = field(default_factory=dict)
    """Files whose text is given, and is not read again."""
    full: bool = False
    """Whether too many files have been reported."""

    def load_file(self, path: Path) -> SpecFile | None:
        """The spec file at a path; None, with diagnostics, if it cannot be read."""
        key = real_path(path)
        if key in self.loaded:
            return self.loaded[key]
        source = self.texts.get(key) or read(path, self.diagnostics)
        self.loaded[key] = None
        if source is None:
            return None
        self.open.append(key)
        self.loaded[key] = self.load_source(source)
        self.open.pop()
        return self.loaded[key]

    def load_source(self, source: Source) -> SpecFile:
        file = parse(source, self.diagnostics)
        spec_file = SpecFile(source, Namespace(), file)
        defaults: dict[str, dict[str, object]] = {}
        thunks: list[Thunk] = []
        # Names first, so that blocks may call each other in any order; then the values, once.
        for declaration in file.declarations:
            match declaration:
                case tree.Import():
                    self._import(declaration, spec_file)
                case tree.Let():
                    thunk = Thunk(declaration.name, partial(evaluate, declaration.value, spec_file.names))
                    thunks.append(thunk)
                    self._declare(spec_file, declaration.name, thunk)
                case tree.Function():
                    self._declare(spec_file, declaration.name, FunctionValue(declaration, spec_file.names))
                case tree.Block():
                    value = BlockValue(declaration, spec_file.names, cast(Defaults, dict(defaults)))
                    self._declare(spec_file, declaration.name, value)
                case tree.Model():
                    value = BlockValue(declaration, spec_file.names, cast(Defaults, dict(defaults)))
                    self._declare(spec_file, declaration.name, value)
                    spec_file.models[declaration.name.name] = value
                case tree.Member():
                    member = MemberValue(declaration, spec_file.names)
                    self._declare(spec_file, declaration.name, member)
                    spec_file.models[declaration.name.name] = member
                case tree.Extern():
                    self._extern(declaration, spec_file)
                case tree.Augment():
                    self._declare(spec_file, declaration.name, AugmentValue(declaration, spec_file.names))
                case tree.Default():
                    with reporting(self.diagnostics):
                        extend_defaults(defaults, declaration, spec_file.names)
                case tree.Missing():
                    spec_file.names.poisoned = True
                case _:
                    assert_never(declaration)
        for thunk in thunks:
            with reporting(self.diagnostics):
                thunk.force()
        return spec_file

    def _declare(self, spec_file: SpecFile, name: tree.Name, value: object) -> None:
        if name.name == "it":
            self.diagnostics.error("E0106", "`it` is reserved for the incoming tensor", name.span)
            return
        if name.name in spec_file.spans:
            self.diagnostics.error(
                "E0208",
                f"`{name.name}` is defined twice in this file",
                Mark(name.span, "again here"),
                Mark(spec_file.spans[name.name], "first here"),
                help="rename one of them",
            )
            return
        spec_file.spans[name.name] = name.span
        spec_file.names.values[name.name] = value

    def _extern(self, declaration: tree.Extern, spec_file: SpecFile) -> None:
        from archdsl.elaborate.extern import declare  # only if a spec has one

        value: object = FAILED
        if not any(d.code.startswith("E01") for d in self.diagnostics.errors):  # some of its lines may be missing
            with reporting(self.diagnostics):
                value = declare(declaration, spec_file.names)
        self._declare(spec_file, declaration.name, value)

    # ------------------------------------------------------------ imports

    def _import(self, declaration: tree.Import, spec_file: SpecFile) -> None:
        found: SpecFile | None = None
        with reporting(self.diagnostics):
            found = self._find(declaration, spec_file)
        if found is not None:
            spec_file.imports.append(found)
        for imported in declaration.names:
            value: object = FAILED
            if found is not None:
                name = imported.name.name
                if name in found.spans:
                    value = found.names.values[name]
                else:
                    self.diagnostics.error(
                        "E0202",
                        f"{found.source.name} defines no `{name}`",
                        imported.name.span,
                        help=_defines(found),
                        proposals=[
                            proposal
                            for p in renamed(imported.name.span, name, found.spans)
                            for proposal in (p, Proposal(p.help, Fix(p.fix.span, f"{p.fix.text} as {name}")))
                        ],
                    )
            self._declare(spec_file, imported.alias, value)

    def _find(self, declaration: tree.Import, spec_file: SpecFile) -> SpecFile | None:
        parts = declaration.module.name.split(".")
        span = declaration.module.span
        path = find_import(parts, spec_file.source)
        if path is None:
            known = {p.stem for p in spec_file.source.path.parent.glob("*.arch")} if spec_file.source.path else set()
            families = library_families()
            self.diagnostics.error(
                "E0003",
                f"there is no spec `{declaration.module.name}` in the folder of {spec_file.source.name} "
                "or in the library",
                span,
                help="the library has: " + ", ".join(families),
                proposals=renamed(span, declaration.module.name, known | set(families)),
            )
            return None
        key = real_path(path)
        if key in self.open:
            way = [p.name for p in self.open[self.open.index(key) :]] + [key.name]
            self.diagnostics.error(
                "E0008",
                "circular import: " + " → ".join(way),
                span,
                help="move the shared definitions into a third file, and import that from both",
                proposals=_of_library(declaration.module, self.open[-1] == key),
            )
            return None
        limits = budget().limits
        if len(self.loaded) >= limits.imports:
            if self.full:
                raise Poisoned
            self.full = True
            raise Exceeded("imports", f"more than {limits.imports:,} files are imported", span)
        if len(self.open) >= limits.import_depth:
            raise Exceeded("import_depth", f"imports are nested more than {limits.import_depth} deep", span)
        return self.load_file(path)


def _of_library(module: tree.Name, itself: bool) -> Iterator[Proposal]:
    """The family of the library that has the name of the importing file."""
    if itself and module.name in library_families():
        name = f"archdsl.{module.name}"
        yield Proposal(f"`{module.name}` is this file itself; `{name}` is that of the library", Fix(module.span, name))


def find_import(parts: Sequence[str], source: Source) -> Path | None:
    """The file of the module with these parts of its name; None if there is none.

    In the importing file's folder first, then in the library; never outside either, with links resolved.
    """
    roots = [source.path.parent] if source.path is not None else []
    places = [(root, parts) for root in roots] + [(library_folder(), parts)]
    if parts[0] == "archdsl" and len(parts) > 1:
        places.append((library_folder(), parts[1:]))
    for root, names in places:
        path = root.joinpath(*names[:-1], names[-1] + ".arch")
        # A name too long for a file, a circular link, a folder without permission: not a spec.
        with suppress(OSError, RuntimeError):
            if path.is_file() and real_path(path).is_relative_to(real_path(root)):
                return path
    return None


def real_path(path: Path) -> Path:
    """The path with its links resolved, or unchanged if they are circular, or nothing can have this name."""
    try:
        return path.resolve()
    except (RuntimeError, ValueError):
        return path.absolute()


def _defines(spec_file: SpecFile) -> str:
    names = ", ".join(f"`{n}`" for n in list(spec_file.spans)[:12])
    return f"it defines {names}" if names else "it defines nothing"


# ---------------------------------------------------------------- members of families


def says_augment(spec_file: SpecFile, model: str) -> bool:
    """Whether a file declares an `augment`, or one of its models or their families is augmented."""
    if any(isinstance(value, AugmentValue) for value in spec_file.names.values.values()):
        return True
    target: object = spec_file.models[model]
    seen: list[object] = []
    while isinstance(target, MemberValue) and target not in seen:
        if target.syntax.augmented is not None:
            return True
        seen.append(target)
        target = target.module.find(target.syntax.family.name)
    return (
        isinstance(target, BlockValue) and isinstance(target.syntax, tree.Model) and target.syntax.augmented is not None
    )


def family(target: BlockValue | MemberValue) -> tuple[BlockValue, dict[str, object]]:
    """The model of a member, and the arguments of the members on the way. Raises Failure."""
    seen: list[MemberValue] = []
    given: dict[str, object] = {}
    most = budget().limits.depth
    while isinstance(target, MemberValue):
        member = target
        if len(seen) >= most:
            span = member.syntax.name.span
            raise Exceeded("depth", f"members of families are nested more than {most} deep", span)
        if member in seen:
            raise Failure("E0210", f"`{member.name}` is defined in terms of itself", member.syntax.name.span)
        seen.append(member)
        found = member.module.find(member.syntax.family.name)
        if found is FAILED:
            raise Poisoned
        name = member.syntax.family.name
        if isinstance(found, BlockValue) and isinstance(found.syntax, tree.Block):
            help = f"a family is a model with parameters: `model {name}(…) {{ input image[3, H, W] … }}`"
            raise Failure("E0211", f"`{name}` is a block, not a model", member.syntax.family.span, help)
        if not isinstance(found, BlockValue | MemberValue):
            models = {n for n in member.module.names() if is_model(member.module.find(n))}
            span = member.syntax.family.span
            message = f"there is no model named `{name}`"
            raise Failure("E0201", message, span, proposals=renamed(span, name, models))
        target = found
    block = target
    for member in reversed(seen):
        signature = Signature(member.syntax.family.name, [p.name.name for p in block.syntax.parameters])
        given.update(bind(signature, member.syntax.arguments, values_in(member.module)).values)
    return block, given


def is_model(value: object) -> bool:
    return isinstance(value, MemberValue) or (isinstance(value, BlockValue) and isinstance(value.syntax, tree.Model))


# ---------------------------------------------------------------- defaults


def extend_defaults(defaults: dict[str, dict[str, object]], declaration: tree.Default, names: Namespace) -> None:
    """Adds a `default OP(args)` to those in force, in place. Raises Failure if it does not fit the operation."""
    name = declaration.operation.name
    cls = OPERATIONS.get(name)
    if cls is None:
        span = declaration.operation.span
        message = f"there is no operation `{name}` to set defaults for"
        if isinstance(names.find(name), BlockValue | ExternValue):
            help = "give its parameter its default in the declaration, as in `block NAME(width = 64) { … }`"
            raise Failure("E0204", message, span, help)
        here = aliases.operation(name, OPERATIONS)
        if here is not None:
            advice = aliases.called(name, here)
            raise Failure("E0204", message, span, advice, proposals=[Proposal(advice, Fix(span, here))])
        raise Failure("E0204", message, span, aliases.missing(name), proposals=renamed(span, name, OPERATIONS))

    def advise(error: Misbound) -> None:
        meant = aliases.PARAMETERS.get(error.argument.name or "")
        if meant is not None and meant in cls.fields:
            fix = Fix(name_span(error.argument), meant)
            error.proposals = (Proposal(f"did you mean `{meant}`?", fix), *error.proposals)

    bound = bind_operation(cls, declaration.arguments, names, advise)
    defaults[name] = {**defaults.get(name, {}), **bound.values}
