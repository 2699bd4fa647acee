"""Which tensor of the network each value is, and where its axes are.

PyTorch code moves the channels to the end and back, cuts and merges axes; a spec has the channels first. A value of the
recording is a view of a tensor of the network. Only where an operation needs a tensor of its own are there items that
move numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from math import prod

from torch import Tensor

from archdsl.runtime.importing.functions import shape_of
from archdsl.runtime.importing.layers import NoOperation
from archdsl.runtime.importing.network import Item
from archdsl.runtime.importing.recorded import Call, Owned, Value
from archdsl.runtime.importing.settling import Settling
from archdsl.runtime.importing.views import Order, View, order_of, permuted, whole


def channels_last(rank: int) -> Order:
    return (*range(1, rank), 0)


def unknown(call: Call) -> None:
    raise NoOperation(f"`{call.name}`")


class Layouts:
    """The view that each value is; `moved` collects the items that move numbers for the current call.

    `inside` has the cut of each tensor of windows.
    """

    def __init__(
        self,
        keys: Collection[str],
        start: Callable[[str], dict[str, object]],
        numbers: Callable[[str], Tensor],
    ) -> None:
        self.keys, self.start, self.numbers = keys, start, numbers
        """`start` gives the argument for the initial value of a parameter that has one number, `numbers` a buffer."""
        self.views: dict[Value, View] = {}
        self.inside: dict[Value, Item] = {}
        self.maps: dict[Value, Value] = {}
        """The maps of tensors that have their positions in a row."""
        self.moved: list[Item] = []
        self.divided: dict[object, list[Value]] = {}
        """The parts of tensors that were split in the module that runs."""
        self.held: dict[object, Value] = {}
        """The parameters that the module that runs has used, by their keys and sizes."""
        self.repeated: dict[Value, Value] = {}
        """Tensors that are others repeated along axes."""
        self.stacks: dict[Value, list[Value]] = {}
        """Tensors along a new first axis."""
        self.roots: dict[Value, tuple[Value, float]] = {}
        """Inverse roots of the mean of a tensor's squares over its channels: that tensor, and what is added."""
        self.makers: dict[Value, Call] = {}
        """The calls of functions by their results."""
        self.normal: dict[Value, Item] = {}
        """The normalisations without a weight, by what they give."""
        self.lowered: dict[Value, tuple[Value, tuple[tuple[int, int], ...]]] = {}
        """Maps that are padded with -inf: what is padded, and by how much before and behind each axis."""
        self.padded: dict[Value, Call] = {}
        """Tensors that are padded up to the size of another one, by the calls that do that."""
        self.rolled: set[Value] = set()
        """Maps whose positions are rolled, for windows that are shifted."""
        self.empty: set[Value] = set()
        """Parts without any element."""
        self.scores: dict[Value, object] = {}
        self.translate: Callable[[Call], None] = unknown
        """Says what a call computes; the translator sets it."""
        self.of_parameters: Callable[[object, int], Value] = lambda given, rank: Value([])
        """What is computed of parameters alone, for each sample, with so many axes; the translator sets it."""

    def is_kept(self, key: str) -> bool:
        """Whether a parameter or buffer is in the state_dict."""
        return key in self.keys

    def refuse_unkept(self, owned: Owned) -> None:
        """Raises NoOperation for a buffer that no checkpoint has; others become parameters, which a note says."""
        if not self.is_kept(owned.key):
            raise NoOperation(f"the buffer `{owned.key}`, which is not in the state_dict")

    def is_scores(self, value: Value) -> bool:
        return value in self.scores

    def add(self, item: Item) -> None:
        """Adds an item, which is in the windows in which its inputs are."""
        self.moved.append(item)
        if (opened := next((self.inside[v] for v in item.inputs if v in self.inside), None)) is not None:
            self.inside.update(dict.fromkeys(item.outputs, opened))

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Takes back the items that were added within, if NoOperation is raised."""
        known, held = len(self.moved), dict(self.held)
        try:
            yield
        except NoOperation:
            del self.moved[known:]
            self.held.clear()
            self.held.update(held)
            raise

    def forget(self, known: int) -> None:
        """Forgets all but the first so many views."""
        for value in [*self.views][known:]:
            del self.views[value]

    def view(self, value: Value) -> View:
        """The view that a value is."""
        return self.views.get(value) or whole(value)

    def settle(self, view: View, *, anyhow: bool = True) -> View | None:
        """A view that only permutes the axes of a tensor; None if there is none. See `Settling`."""
        known = len(self.moved)
        found = Settling(self.moved, self.inside, self.maps).settled(view, anyhow=anyhow)
        if found is None:
            del self.moved[known:]
        return found

    def place(self, value: Value) -> tuple[Value, Order]:
        """The tensor of the network and the order of its axes. Raises NoOperation if the value is no such tensor."""
        if value in self.scores:
            raise NoOperation("scores, the product of queries and keys")
        found = self.settle(self.view(value))
        order = None if found is None else order_of(found)
        if found is None or order is None:
            raise NoOperation(f"a tensor of size {list(value.shapes[0])}, whose axes are parts of others")
        return found.base, order

    def order(self, value: Value) -> Order:
        """The order of axes that `place` gives, without items for it."""
        known = len(self.moved)
        order = self.place(value)[1]
        del self.moved[known:]
        return order

    def is_whole(self, value: Value) -> bool:
        """Whether a value is a tensor with its axes in some order."""
        return order_of(self.view(value)) is not None

    def is_plain(self, value: Value) -> bool:
        order = order_of(self.view(value))
        return order is not None and order == (*range(len(order)),)

    def is_last(self, value: Value) -> bool:
        order = order_of(self.view(value))
        return order is not None and order == channels_last(len(order))

    def set(self, value: Value, view: View) -> None:
        """Says which view a value is: that of a tensor of its own, if a plain operation makes one."""
        self.views[value] = (self.settle(view, anyhow=False) if view.axes else None) or view

    def same(self, value: Value, other: Value) -> None:
        """Says that a value is another one."""
        self.views[value] = self.view(other)

    def made(self, value: Value, order: Order) -> Value:
        """The tensor of the network for a new value that has its axes in this order."""
        if order == (*range(len(order)),):
            return value
        axes = [order.index(axis) for axis in range(len(order))]
        shapes = [(shape[0], *(shape[1 + axis] for axis in axes)) for shape in value.shapes]
        base = Value(shapes, value.dtype)
        self.views[value] = permuted(whole(base), [0, *(axis + 1 for axis in order)])
        return base

    def made_last(self, value: Value) -> Value:
        """The tensor of the network for a new value that has its channels at the end."""
        return self.made(value, channels_last(len(value.shapes[0]) - 1))

    def made_like(self, value: Value, view: View) -> Value:
        """The tensor of the network for a new value whose axes are those of a view, as are its sizes."""
        base = Value([*view.base.shapes], value.dtype)
        self.views[value] = View(base, view.axes)
        return base

    def ordered(self, value: Value, wanted: Order | None = None) -> Value:
        """The tensor of the network that is a value with its axes in this order (None: as PyTorch has them)."""
        base, order = self.place(value)
        wanted = (*range(len(order)),) if wanted is None else wanted
        if order == wanted:
            return base
        if len(order) != len(wanted):
            raise NoOperation("tensors with other numbers of axes")
        axes = [0] * len(order)
        for have, want in zip(order, wanted, strict=True):
            axes[want] = have
        return self.turned(base, tuple(axes))

    def turned(self, base: Value, axes: Order) -> Value:
        """A tensor of the network with its axes in another order."""
        for item in self.moved:  # of the same call
            if item.inputs == [base] and item.arguments == {"axes": axes}:
                return item.outputs[0]
        shapes = [(shape[0], *(shape[1 + axis] for axis in axes)) for shape in base.shapes]
        turned = Value(shapes, base.dtype)
        self.moved.append(Item("permute", {"axes": axes}, [base], [turned]))
        if base in self.inside:
            self.inside[turned] = self.inside[base]
        return turned

    # ------------------------------------------------------------ parameters

    def learned(self, owned: Owned, order: Order, batches: Sequence[int], line: str) -> Value:
        """A parameter as a tensor of the network, which takes nothing, for tensors whose axes have this order.

        Raises NoOperation if it is stored in another way.
        """
        rank = len(order)
        sizes = (1,) * (rank + 1 - len(owned.shape)) + owned.shape
        turned = tuple(sizes[1 + order.index(axis)] for axis in range(rank))
        options = {"plain": turned, "maps": (1, *turned)}
        if rank > 1:
            options |= {"tokens": (1, *turned[1:], turned[0]), "rows": (*turned[1:], turned[0])}
        options |= {"flat": (prod(turned),), **({"scalar": ()} if prod(turned) == 1 else {})}
        self.refuse_unkept(owned)
        stored = next((name for name, shape in options.items() if shape == owned.stored), None)
        if sizes[0] != 1 or len(owned.shape) > rank + 1 or stored is None:
            raise NoOperation(f"the parameter `{owned.key}` of size {list(owned.stored)} as a tensor of {list(turned)}")
        if (value := self.held.get((owned.key, turned))) is not None:
            return value
        value = self.held[owned.key, turned] = Value([(batch, *turned) for batch in batches])
        arguments = {"sizes": turned, **({} if stored == "plain" else {"stored": stored})}
        self.moved.append(Item("parameter", arguments, [], [value], owned.key, True, line))
        return value


def stored_factor(factor: Owned, rank: int, channels: int, at: int) -> dict[str, object] | None:
    """The argument of `scale` for a factor of each channel, which are axis `at`; None if it cannot be stored so."""
    sizes = (1,) * (rank + 1 - len(factor.shape)) + factor.shape
    if sizes != tuple(channels if axis == at else 1 for axis in range(rank + 1)):
        return None
    if factor.stored == (channels,):
        return {}
    return {"stored": "maps"} if factor.stored == (channels, *[1] * (rank - 1)) else None


__all__ = ["Layouts", "channels_last", "shape_of", "stored_factor"]
