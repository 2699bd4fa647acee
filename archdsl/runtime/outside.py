"""Code from outside, which a spec names in an `extern`: it is imported only where the user allows it by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType

from archdsl.diagnostics import Diagnostic, SpecError
from archdsl.graph import Graph
from archdsl.ops.extern import Kind


@dataclass(frozen=True, slots=True)
class Allowed:
    """Code that the user allows: packages, modules, and single names in them (`package.module:name`).

    `show` gets each thing before it is used.
    """

    names: frozenset[str] = frozenset()
    show: Callable[[str], None] | None = None

    def has(self, kind: Kind) -> bool:
        """Whether an extern may be used. A function must be allowed by its full name."""
        parts = kind.module.split(".")
        around = {".".join(parts[: i + 1]) for i in range(len(parts))}
        return kind.path in self.names or (not kind.is_function and not around.isdisjoint(self.names))


NOTHING = Allowed()

_allowed: ContextVar[Allowed] = ContextVar("allowed", default=NOTHING)


def allowed() -> frozenset[str]:
    """The code that is allowed here."""
    return _allowed.get().names


@contextmanager
def allowing(names: str | Iterable[str], show: Callable[[str], None] | None = None) -> Iterator[None]:
    """Allows code from outside in the context, besides what is allowed around it; see Allowed."""
    before = _allowed.get()
    more = {names} if isinstance(names, str) else set(names)
    token = _allowed.set(Allowed(before.names | more, show or before.show))
    try:
        yield
    finally:
        _allowed.reset(token)


def permit(graph: Graph) -> None:
    """Imports what a network uses from outside. Raises SpecError unless all of it is allowed, and is what it must be.

    Nothing is imported before everything is found to be allowed.
    """
    granted = _allowed.get()
    refused = [kind for kind in graph.outside if not granted.has(kind)]
    if refused:
        raise SpecError([_refusal(kind) for kind in refused])
    for kind in graph.outside:
        module = _imported(kind)
        thing = _found(kind, module)
        if granted.show is not None:
            what = "function" if kind.is_function else "class"
            origin = getattr(module, "__file__", None) or "no file"
            granted.show(f"`{kind.name}` ({kind.where}) runs the {what} {kind.path} of {origin}")
        _check(kind, thing)


def _refusal(kind: Kind) -> Diagnostic:
    package = kind.path if kind.is_function else kind.module.partition(".")[0]
    message = f"`{kind.name}` ({kind.where}) would run code from outside, {kind.path}, which is not allowed"
    help = f'if you trust it, allow it: `--allow-extern {package}`, or `allow_extern=["{package}"]` in Python'
    if kind.is_function:
        help += "; a function must be allowed by its full name"
    return Diagnostic("E0603", message, help=help)


def _wrong(kind: Kind, message: str, help: str | None = None) -> SpecError:
    return SpecError([Diagnostic("E0604", f"`{kind.name}` ({kind.where}): {message}", help=help)])


def _imported(kind: Kind) -> ModuleType:
    """The module that an extern names; it may be a file beside the spec."""
    top = kind.module.partition(".")[0]
    beside = None if kind.folder is None else _beside(kind.folder, top)
    path = list(sys.path)
    if beside is not None and kind.folder is not None:
        sys.path.append(str(kind.folder))
    try:
        module = import_module(kind.module)
    except Exception as error:  # the module's code may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise _wrong(kind, f"{kind.module} cannot be imported: {reason}") from error
    finally:
        sys.path[:] = [p for p in sys.path if p in path or beside is None or p != str(kind.folder)]
    first = sys.modules.get(top)
    file = getattr(first, "__file__", None)
    if beside is not None and (file is None or Path(file).resolve() != beside):
        message = f"{top} is already another module here, {file}, than the file beside the spec"
        raise _wrong(kind, message, "give one of the two another name")
    return module


def _beside(folder: Path, top: str) -> Path | None:
    """The file of a module or package in a folder."""
    for path in (folder / f"{top}.py", folder / top / "__init__.py"):
        if path.is_file():
            return path.resolve()
    return None


def _found(kind: Kind, module: ModuleType) -> object:
    if kind.target not in vars(module) and not hasattr(module, kind.target):
        raise _wrong(kind, f"{kind.module} has no `{kind.target}`")
    return getattr(module, kind.target)


def _check(kind: Kind, thing: object) -> None:
    """Raises SpecError unless it is a module class or a function, which its own package defines."""
    from torch import nn

    if kind.is_function:
        if not isinstance(thing, FunctionType | BuiltinFunctionType):
            raise _wrong(kind, f"{kind.path} is no function", "declare a class as `extern NAME(…)`, without `fn`")
    elif not (isinstance(thing, type) and issubclass(thing, nn.Module)):
        help = None if isinstance(thing, type) else "declare a function as `extern fn NAME(…)`"
        raise _wrong(kind, f"{kind.path} is no class of modules (nn.Module)", help)
    home = getattr(thing, "__module__", None)
    if not isinstance(home, str) or home.partition(".")[0] != kind.module.partition(".")[0]:
        message = f"{kind.path} is defined in {home or 'no module'}, so {kind.module} only passes it on"
        raise _wrong(kind, message, "name it where it is defined, and allow that package")
