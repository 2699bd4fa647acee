"""Biases of the scores of attention: tables of relative positions, and what is computed of parameters alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt, prod

from torch import nn

from archdsl.runtime.importing.fixed import difference_scale
from archdsl.runtime.importing.functions import OPERATIONS_OF, element_functions, layer_classes, plain, shape_of
from archdsl.runtime.importing.layers import NoOperation, Wording, said
from archdsl.runtime.importing.layouts import Layouts
from archdsl.runtime.importing.network import Item
from archdsl.runtime.importing.recorded import Call, Constant, Derived, Owned, Value
from archdsl.runtime.importing.views import Order

VIEWS = frozenset(
    {"view", "reshape", "permute", "movedim", "contiguous", "unsqueeze", "flatten", "transpose", "expand", "squeeze"}
)
"""Methods that only move the numbers of a bias; whether they move them rightly the proof finds."""


def bias_of(layouts: Layouts, given: object, queries: Value, keys: Value, call: Call) -> Value | None:
    """A bias of scores as a tensor of the network; None for the mask of shifted windows, which they imply.

    Raises NoOperation for other tensors than a table of relative positions, or what is computed of parameters.
    """
    try:
        with layouts.undone():
            return from_table(layouts, given, queries, keys, call)
    except NoOperation:
        if not isinstance(given, Owned | Derived) or is_mask(layouts, given):
            raise
        return layouts.ordered(layouts.of_parameters(given, RANK))


RANK = 4
"""The axes of scores: samples, heads, queries and keys."""


def from_table(layouts: Layouts, given: object, queries: Value, keys: Value, call: Call) -> Value | None:
    """A bias that is looked up in a table. Raises NoOperation."""
    inner = given
    while isinstance(inner, Derived) and plain(inner.name) in VIEWS:
        inner = inner.arguments[0]
    if isinstance(inner, Derived) and OPERATIONS_OF.get(plain(inner.name)) == "add":
        given = inner.arguments[:2]
    if isinstance(given, tuple):
        parts = [bias_of(layouts, part, queries, keys, call) for part in given]
        tensors = [part for part in parts if part is not None]
        if len(tensors) > 1:
            raise NoOperation("attention with two biases")
        return tensors[0] if tensors else None
    opened = layouts.inside.get(queries)
    if is_mask(layouts, given) and opened is not None and opened.inputs[0] in layouts.rolled:
        return None
    if isinstance(given, Constant | Derived) and (numbers := given.numbers) is not None and not numbers.any():
        return None  # the mask of a shift that one window has no need of
    if not isinstance(given, Derived):
        raise NoOperation("scores of attention plus a mask or bias that is no table of relative positions")
    counts = (prod(queries.shapes[0][2:]), prod(keys.shapes[0][2:]))
    given_size = opened.arguments["size"] if opened is not None else None
    size = given_size or (keys.shapes[0][2:] if len(keys.shapes[0]) == 4 else isqrt(counts[1]))
    sides = sides_of((size, size) if isinstance(size, int) else size)
    branch = Branch(layouts, sides, counts, [shape[0] for shape in queries.shapes], call, queries)
    return branch.of_pairs(branch.of(given))


def is_mask(layouts: Layouts, given: object) -> bool:
    """Whether a tensor is made by the module without parameters; the numbers of that are compared by the proof."""
    if isinstance(given, Derived) and plain(given.name) in VIEWS:
        return is_mask(layouts, given.arguments[0])
    return isinstance(given, Constant) or (isinstance(given, Owned) and not layouts.is_kept(given.key))


def sides_of(sides: object) -> tuple[int, ...]:
    assert isinstance(sides, tuple)
    return tuple(int(side) for side in sides)


@dataclass(slots=True)
class Branch:
    """Makes a tensor of the network of one that is computed from parameters alone: a bias of positions in a window."""

    layouts: Layouts
    sides: tuple[int, ...]
    counts: tuple[int, int]
    """The numbers of queries and of keys."""
    batches: list[int]
    call: Call
    queries: Value | None = None
    """The tensor of the window, or of a map as tokens."""

    def of_pairs(self, bias: Value) -> Value:
        """A bias of all pairs of positions; one of their differences is looked up."""
        if shape_of(bias)[1:] != tuple(2 * side - 1 for side in self.sides):
            return bias
        given: dict[str, object] = {"window_size": self.window, "stored": None}
        return self.item("relative", given, bias, (shape_of(bias)[0], *self.counts))

    def differences(self, owned: Owned) -> Value:
        """Differences of positions that are kept in a buffer, or computed; they follow from the size of the window."""
        scale = difference_scale(self.layouts.numbers(owned.key), self.sides)
        if scale is None or self.queries is None:
            raise NoOperation(f"the buffer `{owned.key}` of size {list(owned.stored)} as a bias of scores")
        tensor = self.queries
        if len(tensor.shapes[0]) == 3:
            tensor = self.item("maps", {"to": self.sides}, tensor, (shape_of(tensor)[0], *self.sides))
        given: dict[str, object] = {} if scale == "relative" else {"scale": scale}
        return self.item("differences", given, tensor, (2, *(2 * side - 1 for side in self.sides)))

    def of(self, given: object) -> Value:
        """The tensor of the network, which is made once in a module."""
        held = self.layouts.held
        if given not in held:
            held[given] = self.made(given)
        return held[given]

    def made(self, given: object) -> Value:
        if isinstance(given, Owned):
            return self.parameter(given)
        if not isinstance(given, Derived):
            raise NoOperation("a bias of scores that is computed from other tensors than parameters")
        name = plain(given.name)
        if name in VIEWS:
            return self.of(given.arguments[0])
        if name == "getitem" and isinstance(index := last_of(given.arguments[1]), Owned):
            return self.looked_up(given.arguments[0], index)
        if name == "getitem" and type(number := given.arguments[1]) is int and number >= 0:
            inner = self.of(given.arguments[0])
            part: dict[str, object] = {"start": number, "stop": number + 1}
            return self.item("slice", part, inner, (1, *shape_of(inner)[1:]))
        if name in ("mul", "rmul") and (numbers := [a for a in given.arguments if isinstance(a, int | float)]):
            (tensor,) = (a for a in given.arguments if not isinstance(a, int | float))
            return self.item("rescale", {"scale": numbers[0]}, self.of(tensor))
        if given.module is None and name != "sigmoid":
            raise NoOperation(f"a bias of scores that is computed by `{given.name}`")
        inner = self.of(given.arguments[0])
        layer = given.module if given.module is not None else nn.Sigmoid()
        size = shape_of(inner)
        out = getattr(layer, "out_features", size[0])
        found = said(layer, (size,), ((out, *size[1:]),), last=True)
        if found is None:
            return inner
        return self.item(found.operation, dict(found.arguments), inner, (out, *size[1:]), given.path, layer)

    def item(
        self,
        operation: str,
        arguments: dict[str, object],
        inner: Value | None,
        sizes: tuple[int, ...] = (),
        path: str = "",
        layer: nn.Module | None = None,
    ) -> Value:
        sizes = sizes or (shape_of(inner) if inner is not None else ())
        made = Value([(batch, *sizes) for batch in self.batches])
        owns = bool(path) and (layer is None or bool(layer.state_dict()))
        inputs = [] if inner is None else [inner]
        self.layouts.add(Item(operation, arguments, inputs, [made], path, owns, self.call.line))
        return made

    def parameter(self, owned: Owned) -> Value:
        """A table [differences, heads], or the coordinates of differences."""
        differences = tuple(2 * side - 1 for side in self.sides)
        if not self.layouts.is_kept(owned.key) and owned.stored[-1:] == (2,) and len(self.sides) == 2:
            return self.differences(owned)
        if owned.stored == (1, *differences, 2) and self.layouts.is_kept(owned.key):
            return self.item("coordinates", {"window_size": self.window}, None, (2, *differences), owned.key)
        if len(owned.stored) != 2 or not (known := {*self.kinds()} & {*owned.stored}):
            raise NoOperation(f"the parameter `{owned.key}` of size {list(owned.stored)} as a bias of scores")
        rows = owned.stored[0] in known
        sizes = owned.stored[::-1] if rows else owned.stored
        return self.item("parameter", {"sizes": sizes, **({"stored": "rows"} if rows else {})}, None, sizes, owned.key)

    @property
    def window(self) -> object:
        return self.sides[0] if len(set(self.sides)) == 1 else self.sides

    def kinds(self) -> dict[int, dict[str, object]]:
        """The numbers of differences that `relative` may look up, with its arguments."""
        signed, absolute = prod(2 * side - 1 for side in self.sides), prod(self.sides)
        if self.counts[1] == prod(self.sides) + 1:
            return {signed + 3: {"class_token": True}}
        step = next((n for n in range(1, 8) if prod(-(-s // n) for s in self.sides) == self.counts[0]), 1)
        more: dict[str, object] = {"step": step} if step > 1 else {}
        return {absolute: {"signed": False, **more}, signed: more}

    def looked_up(self, table: object, index: Owned) -> Value:
        """The biases of all pairs of positions."""
        queries, keys = self.counts
        if index.stored not in ((queries * keys,), (queries, keys)):
            raise NoOperation(f"`{index.key}` of size {list(index.stored)} as the numbers of differences")
        inner = self.of(table)
        differences = prod(shape_of(inner)[1:])
        if differences not in (kinds := self.kinds()):
            raise NoOperation(f"a bias of scores by {differences} differences of positions")
        given: dict[str, object] = {"window_size": self.window}
        if not self.layouts.is_kept(index.key):
            given["stored"] = None
        elif len(index.stored) == 2:
            given["stored"] = "matrix"
        path = index.key if self.layouts.is_kept(index.key) else ""
        return self.item("relative", given | kinds[differences], inner, (shape_of(inner)[0], queries, keys), path)


def last_of(index: object) -> object:
    """The last part of an index, behind parts that take all."""
    if isinstance(index, tuple) and index and all(part == slice(None) for part in index[:-1]):
        return index[-1]
    return index


# ---------------------------------------------------------------- tensors that are computed from parameters


def computed(layouts: Layouts, given: Owned | Derived, order: Order, tensor: Value, call: Call) -> Value:
    """A parameter, or what is computed of one, as a tensor of the network, for `tensor`, whose axes have this order.

    Raises NoOperation.
    """
    batches = [shape[0] for shape in tensor.shapes]
    try:
        with layouts.undone():
            return elementwise(layouts, given, given.shape, order, batches, call)
    except NoOperation:
        if len(tensor.shapes[0]) != 4 or order != (0, 1, 2) or isinstance(given, Owned):
            raise
    queries, keys = tensor.shapes[0][2:]
    side = isqrt(keys)
    with layouts.undone():
        found = Branch(layouts, (side, side), (queries, keys), batches, call).of(given)
        if shape_of(found)[1:] != (queries, keys):
            raise NoOperation(f"a bias of size {list(shape_of(found))} for scores of {queries} by {keys}")
    return found


def elementwise(
    layouts: Layouts, given: object, shape: tuple[int, ...], order: Order, batches: list[int], call: Call
) -> Value:
    """A function of each number of a parameter, which has this shape in the end. Raises NoOperation."""
    if isinstance(given, Owned):
        return layouts.learned(replace(given, shape=shape), order, batches, call.line)
    if not isinstance(given, Derived):
        raise NoOperation("a tensor that is neither computed from the input nor from parameters")
    name = plain(given.name)
    if name in VIEWS and given.module is None:
        return elementwise(layouts, given.arguments[0], shape, order, batches, call)
    if name == "getitem" and isinstance(given.arguments[0], Owned | Derived):
        return part_of(layouts, given, shape, order, batches, call)
    numbers = [part for part in given.arguments if isinstance(part, int | float)]
    tensors = [part for part in given.arguments if isinstance(part, Owned | Derived)]
    if len(tensors) != 1 or tensors[0].shape != given.shape or len(given.arguments) > 2:
        raise NoOperation(f"a tensor that is computed from parameters by `{given.name}`")
    inner = elementwise(layouts, tensors[0], shape, order, batches, call)
    if (operation := OPERATIONS_OF.get(name)) is not None:
        arguments = affine(operation, numbers[0] if numbers else 0, given.arguments[0] is tensors[0])
        found: Wording | None = Wording("rescale", arguments)
    elif name in element_functions() and not numbers:
        found = Wording(name, {})
    else:
        cls = layer_classes().get(name)
        layer = given.module if given.module is not None else None if cls is None or numbers else cls()
        if layer is None or any(True for _ in layer.state_dict()):
            raise NoOperation(f"a tensor that is computed from parameters by `{given.name}`")
        found = said(layer, (shape_of(inner),), (shape_of(inner),))
    if found is None:
        return inner
    made = Value([*inner.shapes])
    layouts.moved.append(Item(found.operation, dict(found.arguments), [inner], [made], line=call.line))
    return made


def part_of(
    layouts: Layouts, given: Derived, shape: tuple[int, ...], order: Order, batches: list[int], call: Call
) -> Value:
    """A part of a parameter along one axis, as the embeddings of positions without that of a class token.

    Raises NoOperation.
    """
    whole = given.arguments[0].shape
    index = given.arguments[1] if isinstance(given.arguments[1], tuple) else (given.arguments[1],)
    cut = [(i, part) for i, part in enumerate(index) if part != slice(None)]
    plain = len(cut) == 1 and isinstance(cut[0][1], slice) and len(whole) == len(shape) == len(order) + 1
    if not plain or given.shape != shape or not cut[0][0]:
        raise NoOperation("a part of a parameter, other than positions one after the other")
    ((axis, part),) = cut
    start, stop, step = part.indices(whole[axis])
    if step != 1:
        raise NoOperation("a part of a parameter, with steps")
    inner = elementwise(layouts, given.arguments[0], whole, order, batches, call)
    on = order[axis - 1]
    more = {} if stop == whole[axis] else {"stop": stop}
    sizes = [(n[0], *(stop - start if at == on else size for at, size in enumerate(n[1:]))) for n in inner.shapes]
    made = Value(sizes)
    arguments = {"start": start, **more, **({"axis": on} if on else {})}
    layouts.moved.append(Item("slice", arguments, [inner], [made], line=call.line))
    return made


def affine(operation: str, number: float, is_first: bool) -> dict[str, float]:
    """The arguments of `rescale` for arithmetic with a number; `is_first`: the number is behind. Raises NoOperation."""
    factors = {
        "add": (1, number),
        "sub": (1, -number) if is_first else (-1, number),
        "mul": (number, 0),
        "neg": (-1, 0),
        **({"div": (1 / number, 0)} if is_first and number else {}),
    }
    if operation not in factors:
        raise NoOperation(f"`{operation}` of parameters")
    by, plus = factors[operation]
    return {"scale": by, **({"offset": plus} if plus else {})}
