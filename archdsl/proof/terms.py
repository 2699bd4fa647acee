"""The terms of a computation: every result of an operation is a term, and equal terms have one number.

The graph fills the table with everything that may be computed. A text is then executed on the same table, now closed: a
step that is not in it is not a step of the network, and ends the proof.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from archdsl.dims import Dim, Expr
from archdsl.proof.errors import Unproved

Key: TypeAlias = Hashable
Sizes: TypeAlias = tuple[Dim, ...]
Order: TypeAlias = tuple[int, ...]
"""Which axis of a term each axis of a tensor is, with the batch first; empty if all are in their places."""


@dataclass(slots=True, eq=False)
class Term:
    """A result: `number` identifies it, `key` is its derivation, `shape` its size without the batch, if known."""

    number: int
    key: Key
    shape: Sizes | None = None
    batched: bool = True
    """Whether it has the batch; else it is one sample for the whole batch."""
    may_be_none: bool = False
    """Whether it is None in some runs, where nothing can be asked of it."""


@dataclass(slots=True, eq=False)
class Entry:
    """An operation on given terms, with its results. `says` names it in messages.

    `saves` says whether its gradient needs its inputs, and its outputs; `in_place` the same if it runs in place, None
    if it cannot. `fresh`: its results have their own memory.
    """

    results: tuple[Term, ...]
    says: str
    saves: tuple[bool, bool] = (True, True)
    in_place: tuple[bool, bool] | None = None
    fresh: bool = False

    @property
    def kept(self) -> str:
        return f"what {self.says} still needs"


@dataclass(slots=True, eq=False)
class Storage:
    """Memory that tensors share. `version` counts overwrites, `kept` says what still needs it, `needs` how many do."""

    version: int = 0
    kept: str = ""
    needs: int = 0

    def keep(self, by: str) -> None:
        self.kept = self.kept or by
        self.needs += 1


@dataclass(slots=True, eq=False)
class Joint:
    """The parts of a concat: the last one and those before, so a chain takes linear time. Equal ones are shared."""

    before: Joint | None
    part: Key

    def parts(self) -> list[Key]:
        found: list[Key] = []
        at: Joint | None = self
        while at is not None:
            found.append(at.part)
            at = at.before
        return found[::-1]


@dataclass(slots=True, eq=False)
class Table:
    """The terms. While it is `open`, a new operation gets an entry; later it is an error."""

    entries: dict[Key, Entry] = field(default_factory=dict)
    terms: list[Term] = field(default_factory=list)
    open: bool = True
    ran: Counter[Key] = field(default_factory=Counter)
    """How often each operation that draws at random ran."""
    drawn: list[Key] = field(default_factory=list)
    """These operations, in order."""
    counted: list[tuple[Any, tuple[int, ...]]] = field(default_factory=list)
    """The layers that counted statistics in a run, and the terms that they counted."""
    gradients: bool = True
    """Whether a backward pass may follow."""
    several: int = 0
    """The number of results of the next new operation, if not one."""
    sources: dict[Key, Term] = field(default_factory=dict)
    joints: dict[Key, Joint] = field(default_factory=dict)
    concats: dict[int, tuple[Joint, Key]] = field(default_factory=dict)
    """The operands of concats: the tensors, and the axis."""
    moved: dict[Key, tuple[Key, Order]] = field(default_factory=dict)
    """Operations on tensors with moved axes that compute what others do: of these, with the order of the results."""
    latest: Key = None
    """The operation that ran last."""

    def clear(self) -> None:
        """Forgets all operations, for those of another mode; sources stay."""
        self.open = True
        for known in (self.entries, self.ran, self.drawn, self.counted, self.joints, self.concats, self.moved):
            known.clear()

    def draw(self, key: Key) -> Key:
        """The key of the next run of an operation that draws at random."""
        number = self.ran[key]
        self.ran[key] = number + 1
        self.drawn.append(key)
        return (key, number)

    def rewind(self, count: int) -> list[Key]:
        """Forgets all draws but the first `count`; returns the others."""
        undone = self.drawn[count:]
        del self.drawn[count:]
        for key in undone:
            self.ran[key] -= 1
        return undone

    def source(self, key: Key, shape: Sizes | None = None) -> Term:
        """A term that nothing computes: an input or a weight."""
        if key not in self.sources:
            if not self.open:
                raise Unproved("has a weight that the network has not got")
            self.sources[key] = self.made(key, shape)
        return self.sources[key]

    def joined(self, parts: Iterable[Key], axis: Key) -> Joint:
        """The parts of a concat, with nested concats along the same axis flattened."""
        joint: Joint | None = None
        for part in parts:
            _, number, *order = part  # type: ignore[misc]  # a frozen tensor
            inner, along = self.concats.get(number, (None, None))  # type: ignore[arg-type, has-type]
            if inner is None or along != axis or order:  # type: ignore[has-type]
                joint = self._joint(joint, part)
            elif joint is None:
                joint = inner
            else:
                for each in inner.parts():
                    joint = self._joint(joint, each)
        if joint is None:
            raise Unproved("concatenates nothing")
        return joint

    def _joint(self, before: Joint | None, part: Key) -> Joint:
        key = (before, part)
        if key not in self.joints:
            self.joints[key] = Joint(before, part)
        return self.joints[key]

    def made(self, key: Key, shape: Sizes | None = None) -> Term:
        term = Term(len(self.terms), key, shape)
        self.terms.append(term)
        return term

    def new(self, key: Key, says: str) -> Entry:
        """The entry of a new operation."""
        if not self.open:
            raise Unproved(f"computes {says}, which is no step of the network at this place")
        entry = Entry(tuple(self.made((key, i)) for i in range(self.several or 1)), says)
        self.entries[key] = entry
        return entry

    def gave(self, key: Key, tensors: Sequence[Tensor]) -> bool:
        """Whether tensors are all the results of an operation, one that draws at random as it did last."""
        entry = self.entries.get(key) or self.entries.get((key, self.ran[key] - 1))
        return entry is not None and [t.term for t in tensors] == [*entry.results]


def _operators(sign: str) -> Iterator[Callable[[Tensor, object], Tensor]]:
    """An operator of tensors, and the same in place."""
    yield lambda tensor, other: one(apply(tensor.table, sign, (tensor, other), {}))
    yield lambda tensor, other: tensor.in_place(sign, other)


class Tensor:
    """A tensor of a run: a term in memory, as of its creation, with its axes in some order."""

    __slots__ = ("order", "storage", "table", "term", "version")

    def __init__(self, table: Table, term: Term, storage: Storage | None = None, order: Order = ()) -> None:
        self.table = table
        self.term = term
        self.storage = storage or Storage()
        self.version = self.storage.version
        self.order = order

    def read(self) -> Term:
        """The term, for an operation. Raises Unproved if the memory has been overwritten."""
        if self.storage.version != self.version:
            raise Unproved("reads a tensor after it was overwritten")
        return self.term

    def overwrite(self, by: str) -> None:
        """Marks the memory as overwritten: the old value must not be read again."""
        self.read()
        if self.storage.kept:
            raise Unproved(f"{by} overwrites {self.storage.kept}")
        self.storage.version += 1

    # ------------------------------------------------------------ what a text may ask of a tensor

    @property
    def shape(self) -> tuple[object, ...]:
        term = self.read()
        if term.shape is None:
            raise Unproved("asks for the size of a part of an operation")
        sizes = (BATCH if term.batched else 1, *map(seen, term.shape))
        return tuple(sizes[axis] for axis in self.order) if self.order else sizes

    def permute(self, *axes: object) -> Tensor:
        """The same tensor with its axes in another order: a view, and no step of a network by itself."""
        term = self.read()
        if term.may_be_none and not self.table.open:
            raise Unproved("permutes what may be None")
        given = axes[0] if len(axes) == 1 and isinstance(axes[0], tuple | list) else axes
        order = tuple([axis for axis in given if type(axis) is int])
        rank = len(self.order) or (len(given) if term.shape is None else len(term.shape) + 1)
        if order[:1] != (0,) or sorted(order) != list(range(rank)) or len(order) != len(given):
            raise Unproved("permutes other axes than those behind the batch, each once")
        return Tensor(self.table, term, self.storage, composed(self.order, order))

    def __getitem__(self, index: object) -> Tensor:
        return one(apply(self.table, "[]", (self, indices(self, index)), {}))

    __add__, __iadd__ = _operators("+")
    __sub__, __isub__ = _operators("-")
    __mul__, __imul__ = _operators("*")
    __truediv__, __itruediv__ = _operators("/")

    def in_place(self, name: str, other: object) -> Tensor:
        made = one(apply(self.table, name, (self, other), {}))
        ours, theirs = made.term, self.term
        is_alike = (ours.shape, ours.batched, made.order) == (theirs.shape, theirs.batched, self.order)
        if ours.shape is None or not is_alike:
            raise Unproved(f"`{name}=` gives another size than that of the tensor that it overwrites")
        if self.table.gradients and name in SAVING:
            raise Unproved(f"`{name}=` overwrites what its own gradient needs")
        self.overwrite(f"`{name}=`")
        return Tensor(self.table, made.term, self.storage, made.order)

    def __iter__(self) -> object:
        raise Unproved("unpacks a tensor")

    def __bool__(self) -> bool:
        raise Unproved("decides by what a tensor holds")

    def __eq__(self, other: object) -> bool:
        raise Unproved("decides by what a tensor holds")

    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> object:
        if name.startswith("_") or name in Tensor.__slots__:
            raise AttributeError(name)
        return lambda *args, **kwargs: apply(self.table, f".{name}", (self, *args), kwargs)


class Batch:
    """The batch size, on which nothing may depend."""

    def __repr__(self) -> str:
        return "N"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        raise Unproved("decides by the size of the batch")

    def __bool__(self) -> bool:
        raise Unproved("decides by the size of the batch")

    __hash__ = object.__hash__


BATCH = Batch()


@dataclass(frozen=True, slots=True, eq=False)
class Size:
    """A size derived from those of the input: a text may compute with it, but not branch on it."""

    _dim: Expr

    def __eq__(self, other: object) -> bool:
        raise Unproved("decides by a size of its input")

    __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise Unproved("decides by a size of its input")

    def __add__(self, other: object) -> object:
        return seen(self._dim + dim_of(other))

    __radd__ = __add__

    def __sub__(self, other: object) -> object:
        return seen(self._dim - dim_of(other))

    def __rsub__(self, other: object) -> object:
        return seen(dim_of(other) - self._dim)

    def __mul__(self, other: object) -> object:
        return seen(self._dim * dim_of(other))

    __rmul__ = __mul__

    def __floordiv__(self, other: object) -> object:
        return seen(self._dim // dim_of(other))

    def __neg__(self) -> object:
        return seen(-self._dim)


def seen(dim: Dim) -> object:
    """A size as a text sees it."""
    return Size(dim) if isinstance(dim, Expr) else dim


def dim_of(size: object) -> Dim:
    """The size that a text gave."""
    if isinstance(size, Size):
        return size._dim
    if type(size) is not int:
        raise Unproved("computes with sizes and something else")
    return size


class Several(list[Tensor]):
    """The results of an operation with several."""


def one(result: Tensor | Several) -> Tensor:
    if isinstance(result, Tensor):
        return result
    raise Unproved("takes several tensors for one")


FRESH = frozenset({"+", "-", "*", "/", "torch.cat", "torch.maximum"})
"""Functions whose results have their own memory."""

SAVING = frozenset({"*", "torch.maximum"})
"""Functions whose gradient needs their inputs."""

VIEWS = frozenset({"[]", ".chunk", ".split", ".flatten", ".reshape", "torch.unflatten"})
"""Functions whose gradient needs nothing, and whose results may be views of their inputs."""

POINTWISE = frozenset({"+", "-", "*", "/", "torch.maximum"})
"""Functions that compute each element from those at its place, whatever the order of the axes."""


def composed(first: Order, then: Order) -> Order:
    """One order after another."""
    order = tuple([first[axis] for axis in then]) if first else then
    return () if order == tuple(range(len(order))) else order


def inverse(order: Order) -> Order:
    """The order that leads back."""
    return tuple([order.index(axis) for axis in range(len(order))])


def apply(
    table: Table, name: str, args: Sequence[object], kwargs: dict[str, object], draws: bool = False
) -> Tensor | Several:
    """The result of a function, method or operator of PyTorch; `draws`: each call has another one."""
    tensors: list[Tensor] = []
    given: tuple[Any, ...] = tuple([frozen(arg, tensors) for arg in args])
    if name in POINTWISE and (order := tensors[0].order) and all(t.order == order for t in tensors):
        back = [a.permute(inverse(order)) if isinstance(a, Tensor) else a for a in args]
        return one(apply(table, name, back, kwargs)).permute(order)
    if name in ("+", "*"):  # bitwise equal in either order
        given = tuple(sorted(given, key=repr))
    elif name == "torch.cat":
        parts, *axis = given
        joint = table.joined(parts, tuple(axis))
        if joint.before is None:  # a copy
            return Tensor(table, tensors[0].term, order=tensors[0].order)
        given = (joint, *axis)
    more = tuple((k, frozen(kwargs[k], tensors)) for k in sorted(kwargs)) if kwargs else ()
    table.latest = (name, given, more)
    key, order = table.moved.get(table.latest, (table.latest, ()))
    if draws:
        key = table.draw(key)
    entry = table.entries.get(key)
    if entry is None:
        entry = table.new(key, f"`{name.strip('.')}`")
        entry.fresh = name in FRESH
        saving = name in SAVING or (name == "/" and len(tensors) > 1)
        entry.saves = (name not in VIEWS and (saving or name not in FRESH), False)
        if name == "torch.cat":
            table.concats[entry.results[0].number] = (joint, tuple(axis))
    return results(table, entry, tensors, order=order)


def results(
    table: Table, entry: Entry, tensors: Sequence[Tensor], overwritten: Storage | None = None, order: Order = ()
) -> Tensor | Several:
    """The tensors that an operation gives: in their own memory, in an input's, or in that of what it overwrote.

    `order` is that of their axes.
    """
    storage = overwritten
    saves = entry.saves if storage is None else entry.in_place or (True, True)
    if storage is None:
        if table.gradients and saves[0]:
            for tensor in tensors:
                tensor.storage.keep(entry.kept)
        if not entry.fresh and tensors:
            storage = tensors[0].storage
            for tensor in tensors[1:]:  # treated as a view of any of them: none may be overwritten any more
                tensor.storage.keep(entry.kept)
    made = [Tensor(table, term, storage, order) for term in entry.results]
    if table.gradients and saves[1]:
        for tensor in made:
            tensor.storage.keep(entry.kept)
    return made[0] if len(made) == 1 else Several(made)


def named(tensor: Tensor) -> tuple[Key, ...]:
    """A tensor as part of a key."""
    number = tensor.read().number
    return (number, tensor.order) if tensor.order else (number,)


def frozen(value: object, tensors: list[Tensor]) -> Key:
    """A value as part of a key; tensors in it are read, and added to the list."""
    match value:
        case Tensor():
            tensors.append(value)
            return ("tensor", *named(value))
        case list() | tuple():
            return tuple(frozen(v, tensors) for v in value)
        case slice():
            return ("slice", *(frozen(part, tensors) for part in (value.start, value.stop, value.step)))
        case Size():
            return value._dim
        case bool():
            return ("bool", value)
        case float() if value.is_integer():  # PyTorch does not accept 2.0 for 2
            return ("float", value)
        case int() | float() | str() | None:
            return value
    if isinstance(value, Hashable):
        return value
    raise Unproved(f"gives an operation {type(value).__name__}")


def indices(tensor: Tensor, index: object) -> object:
    """An index with explicit bounds, so that `x[:, 2:]` and `x[:, 2:8]` are equal for eight channels."""
    parts = index if isinstance(index, tuple) else (index,)
    if any(part is None for part in parts):
        return parts
    shape = tensor.shape
    if parts[0] is Ellipsis:
        parts = ((slice(None),) * (len(shape) - len(parts) + 1)) + parts[1:]
    if len(parts) > len(shape):
        raise Unproved("indexes an axis that is not there")
    return tuple(_bounds(part, size) for part, size in zip(parts, shape, strict=False))


def _bounds(part: object, size: object) -> object:
    if not isinstance(part, slice):
        return part
    step = () if part.step is None else (frozen(part.step, []),)
    if size is BATCH:
        return (part.start, part.stop, *step)
    start = part.start or 0
    stop = size if part.stop is None else part.stop
    if isinstance(start, int) and start < 0:
        start = size + start  # type: ignore[operator]  # a size that is no batch
    if isinstance(stop, int) and stop < 0:
        stop = size + stop  # type: ignore[operator]
    return ("slice", frozen(start, []), frozen(stop, []), *step)
