"""Tensors that are computed from parameters alone, as tensors of the network.

PyTorch computes them without a batch, or for one sample; in a spec they are like all others, and the same for every
sample. So they are views that lack the batch. They are made only where something takes them as tensors: most weights
are those of a layer, and most biases of scores come from a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from archdsl.runtime.importing.batches import batch_of, is_sequence_first, renamed, translated
from archdsl.runtime.importing.functions import plain_name
from archdsl.runtime.importing.layers import NoOperation
from archdsl.runtime.importing.layouts import Layouts
from archdsl.runtime.importing.moves import MOVERS, sliced
from archdsl.runtime.importing.network import Item
from archdsl.runtime.importing.recorded import Call, Constant, Derived, Owned, Value
from archdsl.runtime.importing.views import View, axis_of, reshaped, sizes_of
from archdsl.runtime.importing.weighted import FUNCTIONS, with_its_layer

BY_VIEW = frozenset(MOVERS[name] for name in ("to", "reshape", "permute", "split", "getitem", "softmax", "expand"))
"""What works on any view, with a batch or without."""
AXES = {**dict.fromkeys(("cat", "concat", "concatenate", "stack", "mean", "sum", "amax", "max"), 1), "normalize": 2}
"""Functions with an axis, and its position among their arguments."""
FILLED = {"zeros_like": 0, "ones_like": 1}
"""Functions that give a tensor of one number."""


class Learned:
    """Makes tensors of the network of parameters, and of what is computed from these alone.

    `items` are what that takes, in order, and `calls` the calls that they were made for; they have no place in the
    network yet.
    """

    def __init__(self, layouts: Layouts, module: nn.Module, batches: Sequence[int]) -> None:
        self.layouts, self.module, self.batches = layouts, module, tuple(batches)
        self.items: list[Item] = []
        self.calls: dict[int, Call] = {}
        self.known: dict[object, Value] = {}
        self.done: dict[int, NoOperation | None] = {}
        """The calls that were translated, and why they could not be."""

    # ------------------------------------------------------------ values

    def value(self, given: object) -> Value:
        """A tensor that lacks the batch. Raises NoOperation."""
        if isinstance(given, Owned):
            return self.parameter(given)
        if not isinstance(given, Derived):
            raise NoOperation("a tensor that is neither computed from the input nor from parameters")
        call = given.call
        if id(call) not in self.done:
            self.done[id(call)] = None
            try:
                self.translate(call)
            except NoOperation as reason:
                self.done[id(call)] = reason
        if (known := self.done[id(call)]) is not None:
            raise known
        return given.value

    def for_each_sample(self, given: object, rank: int) -> Value:
        """A tensor with the batch in front, and with so many axes. Raises NoOperation."""
        return self.with_batch(self.value(given), 0, rank)

    def parameter(self, owned: Owned) -> Value:
        """A view of a parameter. Raises NoOperation for a buffer."""
        self.layouts.refuse_buffer(owned)
        runs = len(self.batches)
        if owned.key not in self.known:
            sizes, stored = laid_out(owned.stored)
            base = self.known[owned.key] = Value([(n, *sizes) for n in self.batches])
            arguments = {"sizes": sizes, **({} if stored == "plain" else {"stored": stored})}
            self.items.append(Item("parameter", arguments, [], [base], owned.key, True))
        if owned not in self.known:
            base = self.known[owned.key]
            order = [*range(1, len(base.shapes[0]))]
            if laid_out(owned.stored)[1] in ("tokens", "rows"):
                order = [*order[1:], 1]
            view = reshaped(
                View(base, tuple(axis_of(base, axis) for axis in order)), [(n,) * runs for n in owned.shape]
            )
            if view is None:
                raise NoOperation(f"the parameter `{owned.key}` in another shape")
            shapes = [owned.shape] * runs
            if owned.repeated:
                view = View(base, (axis_of(base, 0), *view.axes[1:]))
                shapes = [(batch, *owned.shape[1:]) for batch in self.batches]
            value = self.known[owned] = Value(shapes)
            self.layouts.views[value] = view
        return self.known[owned]

    def translate(self, call: Call) -> None:
        """Adds the items of a call that takes parameters alone. Raises NoOperation."""
        layouts = self.layouts
        outer = layouts.moved, layouts.divided, layouts.held
        layouts.moved, layouts.divided, layouts.held = [], {}, {}
        try:
            self.meant(call)
            for item in layouts.moved:
                item.line = item.line or call.line
                self.calls[id(item)] = call
            self.items += layouts.moved
        finally:
            layouts.moved, layouts.divided, layouts.held = outer

    def meant(self, call: Call) -> None:
        if any(len(value.shapes) != len(self.batches) for value in call.results):
            raise NoOperation(f"`{call.name}` of parameters, which depends on the size of the input")
        if isinstance(call.module, nn.Embedding):
            self.looked_up(call)
            return
        call, name = self.with_values(call), plain_name(call)
        if name in FILLED:
            self.filled(call, FILLED[name])
        elif (call.module is None and MOVERS.get(name) in BY_VIEW) or isinstance(
            call.module, nn.Flatten | nn.Unflatten
        ):
            self.layouts.translate(call)
        else:
            self.lifted(call)

    def filled(self, call: Call, number: int) -> None:
        """A tensor of one number with the size of another one."""
        view = self.layouts.view(call.inputs[0])
        given = {"scale": 0, **({"offset": number} if number else {})}
        self.layouts.add(Item("rescale", given, [view.base], [self.layouts.made_like(call.results[0], view)]))

    def looked_up(self, call: Call) -> None:
        """Rows of a table in order. Raises NoOperation for other ones."""
        given = call.arguments[0]
        numbers = given.numbers if isinstance(given, Constant | Derived) else None
        weight = call.module.weight if call.module is not None else None
        assert isinstance(weight, torch.Tensor)
        if numbers is None or numbers.ndim == 0 or not numbers.numel():
            raise NoOperation("rows of a table by numbers that are not known")
        start, rows = int(numbers.flatten()[0]), numbers.numel()
        if not torch.equal(numbers.flatten(), torch.arange(start, start + rows)):
            raise NoOperation("rows of a table in another order")
        table = self.parameter(Owned(f"{call.path}.weight", tuple(weight.shape), tuple(weight.shape)))
        one = slice(start, start + rows)
        view = reshaped(sliced(self.layouts, self.layouts.view(table), 0, one, one), sizes_of(call.results[0]))
        if view is None:
            raise NoOperation("rows of a table, whose number depends on the size of the input")
        self.layouts.views[call.results[0]] = view

    # ------------------------------------------------------------ calls

    def with_values(self, call: Call) -> Call:
        """A call with values for what is computed of parameters alone; its weights stay. Raises NoOperation."""
        names = FUNCTIONS.get(call.name, ((),))[0] if call.module is None else ()
        if names:
            arguments = (*(self.within(part) for part in call.arguments[:1]), *call.arguments[1:])
            named = {key: self.within(part) if key == names[0] else part for key, part in call.named.items()}
            return with_its_layer(replace(call, arguments=arguments, named=named), self.module)
        named = {key: self.within(part) for key, part in call.named.items()}
        return replace(call, arguments=self.within(call.arguments), named=named)

    def within(self, given: Any) -> Any:
        if isinstance(given, tuple):
            return tuple(self.within(part) for part in given)
        return self.value(given) if isinstance(given, Owned | Derived) else given

    def lifted(self, call: Call) -> None:
        """Translates a call for each sample, of tensors that may lack the batch. Raises NoOperation."""
        layouts = self.layouts
        if not call.inputs:
            raise NoOperation(f"`{call.name}` of numbers that are no parameters")
        at, rank = batch_of(call, layouts)
        if at is not None:
            given = {value: self.with_batch(value, at, rank) for value in call.inputs}
            translated(layouts, renamed(call, given))
            return
        at = chosen(call, rank)
        put = at is None  # in front of all
        if put:
            given = {value: self.with_batch(value, 0, rank + 1) for value in call.inputs}
            call = with_axis(call, rank)
        else:
            assert at is not None
            given = {value: self.with_batch(value, at, rank) for value in call.inputs}
        wanted = call.results[:1] if isinstance(call.module, nn.MultiheadAttention) else call.results
        results = [self.result(value, at) for value in wanted]
        translated(layouts, replace(renamed(call, given), results=results))
        for value, found in zip(wanted, results, strict=True):
            view = layouts.view(found)
            where = 0 if at is None else at
            if layouts.is_scores(found) or view.axes[where] != axis_of(view.base, 0):
                raise NoOperation(f"`{call.name}` of parameters alone")
            axes = [*view.axes]
            axes[where : where + 1] = [] if put else [()]
            layouts.views[value] = View(view.base, tuple(axes))

    def result(self, value: Value, at: int | None) -> Value:
        """The result of a call for each sample; `at` is the axis of one sample, None if there is none."""
        shapes = []
        for shape, batch in zip(value.shapes, self.batches, strict=True):
            if at is not None and shape[at : at + 1] != (1,):
                raise NoOperation("a tensor of parameters whose batch is no longer an axis")
            shapes.append((batch, *shape) if at is None else (*shape[:at], batch, *shape[at + 1 :]))
        return Value(shapes, value.dtype)

    def with_batch(self, value: Value, at: int, rank: int) -> Value:
        """The same tensor with its batch as this axis, and with so many axes. Raises NoOperation."""
        layouts = self.layouts
        view = layouts.view(value)
        batch = axis_of(view.base, 0)
        axes = [*((),) * (rank - len(view.axes)), *view.axes]
        if axes[at] == batch:
            return value
        if axes[at] or any(atom.axis == 0 for axis in axes for atom in axis) or layouts.is_scores(value):
            raise NoOperation("a tensor of parameters that has numbers where others have the batch")
        axes[at] = batch
        found = View(view.base, tuple(axes))
        made = Value([*zip(*found.sizes, strict=True)], value.dtype)
        layouts.views[made] = found
        return made


def laid_out(stored: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
    """The sizes of a parameter, channels first, and how it is stored. Of rows, the channels are last."""
    if not stored:
        return (1,), "scalar"
    one = len(stored) > 1 and stored[0] == 1
    sizes = stored[1:] if one else stored
    kinds = ("tokens", "maps") if one else ("rows", "plain")
    if len(sizes) == 2:
        return sizes[::-1], kinds[0]
    return sizes, kinds[1]


def chosen(call: Call, rank: int) -> int | None:
    """The axis of one sample in tensors of parameters alone; None if they have none."""
    largest = [value.shapes[0] for value in call.inputs if len(value.shapes[0]) == rank]
    if is_sequence_first(call):
        return 1
    axis = axis_in(call)
    taken = None if axis is None else axis % max(rank, 1)
    for at in range(rank - 1):
        if at != taken and all(shape[at] == 1 for shape in largest):
            return at
    return None


def axis_in(call: Call) -> int | None:
    """The axis that a function is called with."""
    name = plain_name(call)
    if call.module is not None or name not in AXES:
        return None
    at = AXES[name]
    found = call.arguments[at] if len(call.arguments) > at else call.named.get("dim", call.named.get("axis"))
    if found is None and name in ("cat", "concat", "concatenate", "stack"):
        return 0
    if isinstance(found, tuple) and len(found) == 1:
        (found,) = found
    if isinstance(found, int):
        return found
    raise NoOperation(f"`{call.name}` of parameters over several axes")


def with_axis(call: Call, rank: int) -> Call:
    """A call on tensors with a batch in front: its axis is counted from the end."""
    if (axis := axis_in(call)) is None:
        return call
    many = rank + (plain_name(call) == "stack")
    at = AXES[plain_name(call)]
    arguments = call.arguments[:at]
    named = {key: value for key, value in call.named.items() if key not in ("dim", "axis")}
    return replace(call, arguments=arguments, named={**named, "dim": axis % many - many})
