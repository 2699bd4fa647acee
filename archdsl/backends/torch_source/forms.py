"""The PyTorch forms of the operations of a class, with their arguments as expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.control import Control
from archdsl.backends.torch_source.expressions import Binary, Const, Expr, Layer
from archdsl.backends.torch_source.fold import Leaf, Unlike
from archdsl.backends.torch_source.plan import Made
from archdsl.graph import Node
from archdsl.ops.base import FunctionForm, ModuleForm, ParameterForm, TorchForm

PYTORCH_DEFAULTS: Mapping[str, object] = {
    "stride": 1,
    "padding": 0,
    "output_padding": 0,
    "dilation": 1,
    "groups": 1,
    "bias": True,
    "padding_mode": "zeros",
    "ceil_mode": False,
    "count_include_pad": True,
    "eps": 1e-5,
    "momentum": 0.1,
    "affine": True,
    "track_running_stats": False,
    "mode": "nearest",
}
"""What an argument is where an operation leaves it out, by its name in PyTorch."""

ARGUMENT_NAMES: Mapping[str, Sequence[str]] = {
    "Conv": ("in_channels", "out_channels", "kernel_size"),
    "Linear": ("in_features", "out_features"),
    "Pool": ("kernel_size",),
    "Norm": ("num_features",),
    "Dropout": ("p",),
    "DropPath": ("p",),
}
"""What PyTorch calls the arguments that are given by position, by a part of the constructor's name."""


SLICE = "{0}[:, {start}:{stop}]"
"""A slice of the channels, which does without a bound that is the first or last one."""

PYTORCH_NAMES: Mapping[str, str] = {
    "out": "out_channels",
    "kernel": "kernel_size",
    "pad": "padding",
    "output_pad": "output_padding",
    "pad_mode": "padding_mode",
    "ceil": "ceil_mode",
    "count_pad": "count_include_pad",
}
"""What PyTorch calls parameters of operations that have another name in a spec."""


@dataclass(slots=True, eq=False, kw_only=True)
class Forms(Control):
    """Brings the forms that a leaf has in different calls to one."""

    overwrites: Callable[[Node], bool]
    """Whether a node's module overwrites its input."""

    def layer(self, leaf: Leaf, label: list[str | Expr], hints: list[Expr], called: str) -> None:
        """A member whose class is an argument, with the numbers that are its own; the others are given to it here."""
        forms = [s.form for s in leaf.steps if isinstance(s.form, ModuleForm)]
        first = forms[0]
        plain = len(forms) == len(leaf.steps) and not any(f.frozen or f.fill or f.start for f in forms)
        positional = [[a.value for a in f.arguments if a.name is None] for f in forms]
        if not plain or any(f.factory != first.factory for f in forms):
            self.unlike(leaf.group)
        arguments: list[tuple[str | None, Expr]] = []
        if first.factory:
            if len({len(p) for p in positional}) > 1:
                self.unlike(leaf.group)
            for number, row in enumerate(zip(*positional, strict=True)):
                arguments.append((None, self.resolve(row, leaf.group, hints, f"{called}_{number}")))
        layers: list[Layer] = []
        for step, form in zip(leaf.steps, forms, strict=True):
            assert isinstance(step.member, Node)
            own = [(a.name, a.value) for a in form.arguments if not (first.factory and a.name is None)]
            own += [("inplace", True)] if self.overwrites(step.member) else []
            layers.append(Layer(form.constructor, tuple(own)))
        self.plan.made[leaf] = Made(called, arguments, label, first, layer=self.resolve(layers, leaf.group, [], called))

    def module(self, leaf: Leaf, label: list[str | Expr], hints: list[Expr], stated: Mapping[str, Expr]) -> None:
        forms = [s.form for s in leaf.steps]
        first = forms[0]
        assert isinstance(first, ModuleForm)
        rows = self.rows(leaf)
        names = argument_names(first.constructor)
        resolved: dict[str | int, Expr] = {}
        for key, row in rows.items():
            name = key if isinstance(key, str) else (names[key] if key < len(names) else f"value{key + 1}")
            more = hints
            if key == "padding" and 2 in resolved:
                more = [Binary("//", resolved[2], Const(2)), *hints]
                if "dilation" in resolved:
                    more = [resolved["dilation"], *more]
            resolved[key] = self.resolve(row, leaf.group, more, name, stated.get(name))
        arguments: list[tuple[str | None, Expr]] = []
        for key, expr in resolved.items():
            if (
                isinstance(key, str)
                and isinstance(expr, Const)
                and self.is_default(key, expr, resolved, first.constructor)
            ):
                continue
            arguments.append((key if isinstance(key, str) else None, expr))
        self.plan.made[leaf] = Made(first.constructor, arguments, label, first, std=self.std(leaf, hints))

    def std(self, leaf: Leaf, hints: list[Expr]) -> Expr | None:
        """The standard deviation that the weight is drawn with, where one is said."""
        starts = [s.form.start for s in leaf.steps if isinstance(s.form, ModuleForm) and s.form.start is not None]
        row = [start.std for start in starts if start.std is not None]
        return self.resolve(row, leaf.group, hints, "std") if row else None

    @staticmethod
    def is_default(key: str, expr: Const, resolved: Mapping[str | int, Expr], constructor: str) -> bool:
        if key == "stride" and "Pool" in constructor:
            return expr == resolved.get(0)
        return key in PYTORCH_DEFAULTS and ex.same(pytorch_default(key, constructor), expr.value)

    def rows(self, leaf: Leaf) -> dict[str | int, list[object]]:
        """The arguments of a leaf's forms by position or name, one value a lane. Raises Unlike where forms differ."""
        forms = [s.form for s in leaf.steps]
        first = forms[0]
        if not alike(forms):
            self.unlike(leaf.group)
        assert not isinstance(first, ParameterForm | None)
        tables: list[dict[str | int, object]] = []
        for form in forms:
            assert isinstance(form, ModuleForm | FunctionForm)
            tables.append({i if a.name is None else a.name: a.value for i, a in enumerate(form.arguments)})
        keys = list(dict.fromkeys(k for t in tables for k in t))
        if any(t.keys() != tables[0].keys() for t in tables):
            order = list(PYTORCH_DEFAULTS)
            keys.sort(key=lambda k: order.index(k) if k in order else -1)
        found: dict[str | int, list[object]] = {}
        for key in keys:
            row = [t[key] if key in t else self.default(key, t, first) for t in tables]
            found[key] = row
        return found

    def default(self, key: str | int, table: Mapping[str | int, object], form: TorchForm) -> object:
        if isinstance(form, ModuleForm) and isinstance(key, str):
            if key == "stride" and "Pool" in form.constructor:
                return table[0]
            if key in PYTORCH_DEFAULTS:
                return pytorch_default(key, form.constructor)
        raise Unlike

    def function(
        self,
        leaf: Leaf,
        label: list[str | Expr],
        hints: list[Expr],
        widths: Sequence[object],
        stated: Mapping[str, Expr],
    ) -> None:
        """`widths` are the channels that flow in, one number a call."""
        first = leaf.steps[0].form
        assert isinstance(first, FunctionForm)
        edges = {"start": [0] * len(widths), "stop": list(widths)} if first.template == SLICE else {}
        arguments: list[tuple[str | None, Expr]] = []
        for key, row in self.rows(leaf).items():
            if key in edges and edges[str(key)] == row:
                continue
            arguments.append((str(key), self.resolve(row, leaf.group, hints, str(key), stated.get(str(key)))))
        self.plan.made[leaf] = Made(first.template, arguments, label, first)

    def weight(self, leaf: Leaf, label: list[str | Expr], hints: list[Expr]) -> None:
        forms = [s.form for s in leaf.steps]
        first = forms[0]
        assert isinstance(first, ParameterForm)
        if any(not isinstance(f, ParameterForm) or f.template != first.template for f in forms):
            self.unlike(leaf.group)
        shapes = [f.shape for f in forms if isinstance(f, ParameterForm)]
        size = self.resolve([s[0] for s in shapes], leaf.group, hints, "width")
        fill = self.resolve([f.fill for f in forms if isinstance(f, ParameterForm)], leaf.group, hints, "init")
        self.plan.made[leaf] = Made(first.template, [("size", size), ("fill", fill)], label, first)


def alike(forms: Sequence[TorchForm | None]) -> bool:
    """Whether forms differ in numbers at most."""
    first = forms[0]
    return all(f is first or (type(f) is type(first) and kind(f) == kind(first)) for f in forms)


def pytorch_default(key: str, constructor: str) -> object:
    """What an argument of a constructor is where it is left out."""
    if key == "affine" and "InstanceNorm" in constructor:
        return False
    return PYTORCH_DEFAULTS[key]


def argument_names(constructor: str) -> Sequence[str]:
    return next((names for part, names in ARGUMENT_NAMES.items() if part in constructor), ())


def kind(form: TorchForm | None) -> object:
    """What a form is, but for its numbers."""
    match form:
        case ModuleForm():
            rule = form.start.rule if form.start is not None else ""
            return (form.constructor, form.helper, form.factory, form.frozen, repr(form.fill), rule)
        case FunctionForm():
            return (form.template, form.helper, form.results)
        case ParameterForm():
            return form.template
        case None:
            return None
