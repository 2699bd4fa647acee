"""The PyTorch forms of the operations of a class, with their arguments as expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from archdsl.backends.torch_source.expressions import Binary, Const, Expr, Layer, Tuple, simplify
from archdsl.backends.torch_source.fold import CannotMerge, Leaf, refuse
from archdsl.backends.torch_source.numbers import Numbers
from archdsl.backends.torch_source.plan import Made
from archdsl.graph import Node
from archdsl.ops.forms import Argument, FunctionForm, ModuleForm, ParameterForm, TorchForm


@dataclass(slots=True, eq=False)
class Forms:
    """Brings the forms that a leaf has in different calls to one."""

    numbers: Numbers
    overwrites: Callable[[Node], bool]
    """Whether a node's module overwrites its input."""

    def layer(self, leaf: Leaf, label: list[str | Expr], hints: list[Expr], called: str) -> None:
        """A member whose class is an argument, with the numbers that are its own; the others are given to it here."""
        forms = [s.form for s in leaf.steps if isinstance(s.form, ModuleForm)]
        first = forms[0]
        plain = len(forms) == len(leaf.steps) and not any(f.frozen or f.fill or f.start for f in forms)
        positional = [[a.value for a in f.arguments if a.name is None] for f in forms]
        if not plain or any(f.factory != first.factory for f in forms):
            refuse(leaf.group)
        arguments: list[tuple[str | None, Expr]] = []
        if first.factory:
            if len({len(p) for p in positional}) > 1:
                refuse(leaf.group)
            for number, row in enumerate(zip(*positional, strict=True)):
                arguments.append((None, self.numbers.resolve(row, leaf.group, hints, f"{called}_{number}")))
        layers: list[Layer] = []
        for step, form in zip(leaf.steps, forms, strict=True):
            assert isinstance(step.member, Node)
            own = [(a.name, a.value) for a in form.arguments if not (first.factory and a.name is None)]
            own += [("inplace", True)] if self.overwrites(step.member) else []
            layers.append(Layer(form.constructor, tuple(own)))
        self.numbers.plan.made[leaf] = Made(
            called, arguments, label, first, layer=self.numbers.resolve(layers, leaf.group, [], called)
        )

    def module(self, leaf: Leaf, label: list[str | Expr], hints: list[Expr], stated: Mapping[str, Expr]) -> None:
        forms = [s.form for s in leaf.steps]
        first = forms[0]
        assert isinstance(first, ModuleForm)
        arguments: list[tuple[str | None, Expr]] = []
        kernel: Expr | None = None
        for argument, row in self.rows(leaf):
            name = argument.name or argument.called
            more = [half(kernel), *hints] if name == "padding" and kernel is not None else hints
            said = stated.get(name, more[0] if name == "padding" and isinstance(kernel, Tuple) else None)
            expr = self.numbers.resolve(spread(row, said), leaf.group, more, name, stated.get(name))
            kernel = expr if name == "kernel_size" else kernel
            arguments.append((argument.name, expr))
        self.numbers.plan.made[leaf] = Made(first.constructor, arguments, label, first, std=self.std(leaf, hints))

    def std(self, leaf: Leaf, hints: list[Expr]) -> Expr | None:
        """The standard deviation that the weight is drawn with, where one is said."""
        starts = [s.form.start for s in leaf.steps if isinstance(s.form, ModuleForm) and s.form.start is not None]
        row = [start.std for start in starts if start.std is not None]
        return self.numbers.resolve(row, leaf.group, hints, "std") if row else None

    def rows(self, leaf: Leaf) -> Iterator[tuple[Argument, list[object]]]:
        """The arguments of a leaf's forms that any of them has to give, with one value per lane.

        Raises CannotMerge where forms differ in more than numbers.
        """
        forms = [s.form for s in leaf.steps]
        if not alike(forms):
            refuse(leaf.group)
        lanes = [accepted(form) for form in forms]
        names = [a.name for a in lanes[0]]
        if any([a.name for a in lane] != names for lane in lanes):
            raise CannotMerge
        for row in zip(*lanes, strict=True):
            if any(a.is_given for a in row):
                yield row[0], [a.value for a in row]

    def function(self, leaf: Leaf, label: list[str | Expr], hints: list[Expr], stated: Mapping[str, Expr]) -> None:
        first = leaf.steps[0].form
        assert isinstance(first, FunctionForm)
        rows = {str(argument.name): row for argument, row in self.rows(leaf)}
        if isinstance(sizes := stated.get("sizes"), Tuple) and len(sizes.items) == len(rows):
            stated = dict(zip(rows, sizes.items, strict=True))
        arguments: list[tuple[str | None, Expr]] = []
        for name, row in rows.items():
            arguments.append((name, self.numbers.resolve(row, leaf.group, hints, name, stated.get(name))))
        self.numbers.plan.made[leaf] = Made(first.template, arguments, label, first)

    def weight(self, leaf: Leaf, label: list[str | Expr], hints: list[Expr]) -> None:
        forms = [s.form for s in leaf.steps]
        first = forms[0]
        assert isinstance(first, ParameterForm)
        if not alike(forms):
            refuse(leaf.group)
        every = [f for f in forms if isinstance(f, ParameterForm)]
        arguments: list[tuple[str | None, Expr]] = []
        for axis, sizes in enumerate(zip(*[f.shape for f in every], strict=True)):
            called = "width" if len(first.shape) == 1 else f"size{axis}"
            arguments.append(("size", self.numbers.resolve(sizes, leaf.group, hints, called)))
        for argument, row in self.rows(leaf):
            called = str(argument.name)
            arguments.append((called, self.numbers.resolve(row, leaf.group, hints, called)))
        std: Expr | None = None
        if first.made:
            for place, each in enumerate(zip(*[f.numbers for f in every], strict=True)):
                arguments.append(("number", self.numbers.resolve(each, leaf.group, hints, f"window{place}")))
        elif first.start is None:
            arguments.append(("fill", self.numbers.resolve([f.fill for f in every], leaf.group, hints, "init")))
        else:
            spread = [f.start.std for f in every if f.start is not None]
            std = self.numbers.resolve(spread, leaf.group, hints, "std")
        self.numbers.plan.made[leaf] = Made(first.template, arguments, label, first, std=std)


def half(kernel: Expr) -> Expr:
    """The padding that keeps the size under an odd kernel."""
    if isinstance(kernel, Tuple):
        return Tuple(tuple(simplify(Binary("//", item, Const(2))) for item in kernel.items))
    return Binary("//", kernel, Const(2))


def spread(row: list[object], stated: Expr | None) -> list[object]:
    """The values of an argument as tuples, where they are some in other calls and the spec says one: 1 for (1, 1)."""
    if not isinstance(stated, Tuple) or not any(isinstance(v, tuple) for v in row):
        return row
    return [(v,) * len(stated.items) if isinstance(v, int) else v for v in row]


def alike(forms: Sequence[TorchForm | None]) -> bool:
    """Whether forms differ in numbers at most."""
    first = forms[0]
    return all(f is first or (type(f) is type(first) and kind(f) == kind(first)) for f in forms)


def accepted(form: TorchForm | None) -> Sequence[Argument]:
    """The arguments of a form, with those that PyTorch has defaults for."""
    match form:
        case ModuleForm():
            return form.accepted
        case FunctionForm() | ParameterForm():
            return form.arguments
        case None:
            return ()


def kind(form: TorchForm | None) -> object:
    """The kind of a form, without its numbers."""
    match form:
        case ModuleForm():
            rule = form.start.rule if form.start is not None else ""
            return (form.constructor, form.helper, form.factory, form.frozen, repr(form.fill), rule, form.method)
        case FunctionForm():
            return (form.template, form.helper, form.results)
        case ParameterForm():
            rule = form.start.rule if form.start is not None else ""
            return (form.template, form.helper, form.made, len(form.shape), len(form.numbers), rule)
        case None:
            return None
