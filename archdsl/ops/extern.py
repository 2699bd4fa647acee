"""Operations from outside: a module or function of a package, or of the user's own, as an `extern` declares it."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from archdsl.dims import Demanded, Dim, Expr
from archdsl.ops.base import Operation, Rules, Saves, Weight, Window
from archdsl.ops.declaration import OperationError
from archdsl.ops.facts import Shape
from archdsl.ops.fields import shape_text, shown
from archdsl.ops.forms import Argument, FunctionForm, ModuleForm, TorchForm
from archdsl.ops.formulas import Section, Sizes

Arguments: TypeAlias = tuple[tuple[str, object], ...]
"""The values of an extern's parameters, in order."""


@dataclass(frozen=True, slots=True)
class Declared:
    """The declaration of an extern for the arguments and input sizes of one call.

    `passed` are the arguments of Python's call, with the names of those that are given by keyword. `own` are those of
    the checked class or function in the built file. `macs` are the multiply-accumulates per element of the first
    result, None where the spec does not say.
    """

    outputs: tuple[Shape, ...]
    weights: tuple[Weight, ...] = ()
    passed: tuple[tuple[str | None, object], ...] = ()
    own: tuple[Argument, ...] = ()
    macs: Dim | None = None
    demands: tuple[tuple[Demanded, str], ...] = ()


@dataclass(eq=False, repr=False)
class Kind:
    """An `extern` of a spec: its name, and that of a module and of what this defines. Nothing is imported by them.

    `where` is its file and line, `folder` that file's folder, `names` are the inputs. `rule` gives what it declares for
    a call, `window` the one that slides over its inputs, of so many spatial axes, None where the spec does not say;
    both raise OperationError. `write` makes its part of a built file, in which `made` is the class or function around
    it, and `imported` the name that it is imported by.
    """

    name: str
    module: str
    target: str
    is_function: bool
    where: str
    folder: Path | None
    made: str
    imported: str
    names: tuple[str, ...]
    results: int
    rule: Callable[[Arguments, tuple[Shape, ...]], Declared]
    window: Callable[[Arguments, int], Window | None]
    write: Callable[["Kind"], str]
    _known: dict[object, Declared] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"{self.name} = {self.module}:{self.target}"

    @property
    def path(self) -> str:
        """`torchvision.ops:DeformConv2d`."""
        return f"{self.module}:{self.target}"

    @cached_property
    def source(self) -> str:
        """Its part of a built file: the checked class or function, with what that needs."""
        return self.write(self)

    def declared(self, arguments: Arguments, shapes: tuple[Shape, ...]) -> Declared:
        """The declaration for a call. Raises OperationError."""
        key = (repr(arguments), shapes)
        if key not in self._known:
            self._known[key] = self.rule(arguments, shapes)
        return self._known[key]


class Extern(Operation):
    """A layer from outside, as the spec declares it."""

    family = "extern"
    needs_batches = sys.maxsize
    implied = True
    examples = ()
    kind: Kind
    arguments: Arguments = ()

    @property
    def name(self) -> str:  # type: ignore[override]  # each extern has its own
        return self.kind.name

    @property
    def inputs(self) -> Literal["one", "many"]:  # type: ignore[override]  # as declared
        return "one" if len(self.kind.names) == 1 else "many"

    @property
    def is_join(self) -> bool:
        return False

    def outside(self) -> Kind:
        return self.kind

    def takes(self, count: int) -> bool:
        return count == len(self.kind.names)

    def parameters(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.arguments)

    def values(self) -> Mapping[str, object]:
        return dict(self.arguments)

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        if len(shapes) != len(self.kind.names):
            takes = f"`{self.name}` takes {len(self.kind.names)} tensors: {', '.join(self.kind.names)}"
            raise OperationError(f"{takes}; {len(shapes)} flow in", help="pass them in parallel: `(a, b) -> …`")
        declared = self.kind.declared(self.arguments, shapes)
        for demand, message in declared.demands:
            rules.require(demand, message)
        return declared.outputs

    def results(self, count: int) -> int:
        return self.kind.results

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        return self.kind.declared(self.arguments, shapes).weights

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> TorchForm:
        declared, source = self.kind.declared(self.arguments, shapes), self.kind.source
        if not self.kind.is_function:
            return ModuleForm(self.kind.made, declared.own, helper=source, factory=True)
        tensors = [f"{{{i}}}" for i in range(len(shapes))]
        given = [f"{a.name}={{{a.name}}}" for a in declared.own]
        call = f"{self.kind.made}({', '.join([*tensors, *given])})"
        return FunctionForm(call, declared.own, results=len(outputs), helper=source)

    def is_counted(self, shapes: tuple[Shape, ...]) -> bool:
        return self.kind.declared(self.arguments, shapes).macs is not None

    def products(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        if any(0 in shape for shape in (*shapes, *outputs)):
            return ()  # only a module in training computes it, at larger sizes
        macs = self.kind.declared(self.arguments, shapes).macs
        if isinstance(macs, Expr):
            return ((1, (macs, *outputs[0])),)
        return ((macs, outputs[0]),) if macs else ()

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(inputs=True, outputs=True)

    def window(self, shapes: tuple[Shape, ...]) -> Window | None:
        found = self.kind.window(self.arguments, len(shapes[0]) - 1)
        return Window(whole=True) if found is None else found

    def caption(self, rank: int = 2) -> str:
        given = [shown(value) for _, value in self.arguments]
        return " ".join([self.name, ", ".join(given)]) if given else self.name

    def explanation(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[Section]:
        kind = self.kind
        declared = kind.declared(self.arguments, tuple(shapes))
        given = ", ".join(f"{name}={value!r}" if name else repr(value) for name, value in declared.passed)
        what = "function" if kind.is_function else "module"
        call = f"{kind.module}.{kind.target}({', '.join(filter(None, ['…' if kind.is_function else '', given]))})"
        yield Section(
            "extern",
            f"the {what} {call}, declared in {kind.where}",
            "archdsl does not know what it computes: sizes and weights are as declared, and compared when it runs",
        )
        names = zip(kind.names, shapes, strict=True)
        sizes = ", ".join(f"{name} {shape_text(shape)}" for name, shape in names)
        yield Section("sizes", f"{sizes} → {', '.join(map(shape_text, outputs))}")
