"""Runs the PyTorch form of an operation, as a generated module would."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archdsl import dims
from archdsl.ops.base import Operation, Rules, Shape
from archdsl.ops.forms import FunctionForm, ModuleForm
from archdsl.ops.init import RULES


def names(helper: str | None) -> dict[str, object]:
    """The names that a form may use, including its helper."""
    found: dict[str, object] = {"torch": torch, "nn": nn, "F": F, "Tensor": Tensor}
    if helper is not None:
        exec(helper, found)
    return found


def value(argument: object, sizes: Mapping[str, int]) -> object:
    if isinstance(argument, tuple):
        return tuple(value(a, sizes) for a in argument)
    return dims.evaluate(argument, sizes) if isinstance(argument, dims.Expr) else argument


class Built(nn.Module):
    """A module with one operation, called `op` if it has weights; `sizes` are values of free sizes.

    `last`: its form for tensors with the channels last.
    """

    def __init__(
        self,
        operation: Operation,
        shapes: tuple[Shape, ...],
        sizes: Mapping[str, int] | None = None,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        last: bool = False,
    ) -> None:
        super().__init__()
        made = (operation.torch_last if last else operation.torch)(shapes, operation.infer(shapes, Rules()))
        assert made is not None
        self.form = form = made
        known = names(form.helper)
        tensors = [f"x[{i}]" for i in range(len(shapes))]
        if isinstance(form, ModuleForm):
            constructor = eval(form.constructor, known)
            positional = [value(a.value, sizes or {}) for a in form.arguments if a.name is None]
            named = {a.name: value(a.value, sizes or {}) for a in form.arguments if a.name is not None}
            self.op = constructor(*positional, **named, **({"device": device, "dtype": dtype} if form.factory else {}))
            for name, start in form.fill.items():
                with torch.no_grad():
                    self.op.get_parameter(name).copy_(torch.tensor(start, dtype=dtype))
            for name in form.frozen:
                self.op.get_parameter(name).requires_grad_(False)
            self.run = lambda x: self.op(*x)
            return
        if isinstance(form, FunctionForm):
            literals = {a.name: repr(value(a.value, sizes or {})) for a in form.arguments}
            source = form.template.format(*tensors, all=", ".join(tensors), **literals)
        else:
            known = names((form.helper and f"{form.helper}\n\n{form.making}") or form.making or None)
            if form.made:
                self.register_buffer("op", known[form.made](*form.numbers, device=device, dtype=dtype))  # type: ignore[operator]
            else:
                values = torch.full(form.shape, form.fill, dtype=dtype)
                if form.start is not None:
                    eval(RULES[form.start.rule].call.format("values", std=form.start.std), {"nn": nn, "values": values})
                self.op = nn.Parameter(values)
            literals = {a.name: repr(value(a.value, sizes or {})) for a in form.arguments}
            joined = ", ".join(tensors)
            source = form.template.format(*tensors, parameter="op", all=joined, **literals)
        function = eval(f"lambda x, op: {source}", known)
        self.run = lambda x: function(x, getattr(self, "op", None))

    def forward(self, *x: Tensor) -> object:
        return self.run(x)


def tensors(shapes: tuple[tuple[int, ...], ...], batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, *shape, generator=generator) for shape in shapes]


def shapes_of(result: object) -> tuple[tuple[int, ...], ...]:
    """The sizes of one tensor or several, without the batch."""
    found = [result] if isinstance(result, Tensor) else list(result)  # type: ignore[call-overload]
    return tuple(tuple(t.shape[1:]) for t in found)
