"""The layers of torch.nn and of helpers, as a built file makes them: their arguments determine what they compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

from archdsl.proof.errors import Unproved
from archdsl.proof.modules import DEVICE, DTYPE, ONES, ZEROS, Buffer, Filled, Module, Parameter
from archdsl.proof.pytorch import EXTENDED, INNER, REQUIRED, SIGNATURES, WEIGHTY, weights
from archdsl.proof.terms import Table, Tensor, frozen, named, results


class Spec:
    """The arguments of a layer: equal specs with equal weights and inputs compute the same."""

    __slots__ = ("arguments", "hash", "is_random", "key", "kind", "outside", "overwrites", "parts", "placed")

    def __init__(
        self, made: type[Layer], args: tuple[object, ...], kwargs: dict[str, object], parts: Parts | None = None
    ) -> None:
        signature, self.kind = made.signature, made.kind
        given = dict(zip(signature, args, strict=False))
        if len(args) > len(signature) or given.keys() & kwargs.keys():
            raise Unproved(f"gives {self.kind} too many arguments")
        kwargs = dict(kwargs)
        self.placed = True
        if made.is_placed():
            self.placed = kwargs.pop("device", None) is DEVICE and kwargs.pop("dtype", None) is DTYPE
        if unknown := kwargs.keys() - signature.keys():
            raise Unproved(f"gives {self.kind} the argument `{min(unknown)}`, which it has not got")
        given |= kwargs
        values = {**signature, **given}
        if missing := [n for n, v in values.items() if v is REQUIRED]:
            raise Unproved(f"makes {self.kind} without `{missing[0]}`")
        _check_types(self.kind, given, rank_of(made.base))
        self.overwrites = bool(values.pop("inplace", False))
        if "kernel_size" in values and values.get("stride", 1) is None:
            values["stride"] = values["kernel_size"]
        for name in ("kdim", "vdim"):
            if name in values and values[name] is None:
                values[name] = values["embed_dim"]
        self.arguments = {k: _collapsed(v) if k != "normalized_shape" else v for k, v in values.items()}
        self.key = (self.kind, frozen(tuple(self.arguments.values()), []))
        self.hash = hash(self.key)
        self.outside = made.outside
        self.is_random = "Drop" in self.kind or made.outside or bool(self.arguments.get("dropout"))
        if made.outside:
            if parts is not None:
                made.declared[self.key] = parts
            if self.key not in made.declared:
                raise Unproved(f"makes {self.kind} with arguments that the network does not give it")
            self.parts = made.declared[self.key]
            return
        norm = "Norm" in made.base
        parameters, buffers = weights(made.base, self.arguments)
        self.parts = [
            (n, s, False, (ONES if n == "weight" else ZEROS) if norm else None) for n, s in parameters.items()
        ]
        if made.has_gain:
            first, *rest = parameters["weight"]
            self.parts.append(("gain", (first, *[1] * len(rest)), False, ONES))
        self.parts += [(n, s, True, None) for n, s in buffers.items()]

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Spec) and self.key == other.key)

    @property
    def has_statistics(self) -> bool:
        return bool(self.parts) and self.parts[-1][2]


Parts: TypeAlias = list[tuple[str, tuple[int, ...], bool, object]]
"""The weights of a layer: name, shape, whether it is a buffer, initialisation unless that is the constructor's own."""

_specs: dict[object, Spec] = {}
"""Those of the running proofs."""


def forget() -> None:
    """Releases the specs of a proof."""
    _specs.clear()


def spec_of(made: type[Layer], args: tuple[object, ...], kwargs: dict[str, object], parts: Parts | None = None) -> Spec:
    """The spec of a layer, the same object for equal arguments while it is cached.

    `parts` are the weights of a layer from outside, as its network declares them.
    """
    values = (*args, *kwargs.values())
    types = tuple(
        [(type(v), tuple(map(type, v)) if type(v) is tuple else None) for v in values]
    )  # 3.0 == 3 == True + 2
    key = (made, args, tuple(kwargs.items()), types)
    try:
        found = _specs.get(key)
    except TypeError:  # a list among the arguments
        return Spec(made, args, kwargs, parts)
    if found is None:
        found = _specs[key] = Spec(made, args, kwargs, parts)
    return found


NOTHING: Mapping[str, Module] = MappingProxyType({})
"""The members of a layer, which a text must not extend."""


class Layer(Module):
    """A layer of PyTorch, or of a helper. Its weights are created on demand."""

    kind = ""
    base = ""
    """The class of torch.nn that it is or extends; empty for a helper that extends only nn.Module."""
    signature: Mapping[str, object] = {}
    has_gain = False
    """Whether it has a factor for each of its kernels besides."""
    outside = False
    """Whether its code is not known (`extern`): it may draw at random, and its weights are as declared."""
    declared: dict[object, Parts]
    """The weights of a layer from outside, by its arguments."""

    @classmethod
    def is_placed(cls) -> bool:
        """Whether it takes `device` and `dtype`."""
        return cls.outside or cls.base.startswith(WEIGHTY)

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.__dict__.update(spec=spec_of(type(self), args, kwargs), path="", runs=[], training=True, _modules=NOTHING)

    def _changes(self, counts: bool = False) -> None:
        if not counts:
            raise Unproved(f"changes a {self.kind} after it was made")

    @property
    def _inside(self) -> tuple[Module, ...]:
        """The layers within a layer, which PyTorch's `modules` gives, too; they share its weights."""
        inner = INNER.get(self.base)
        if inner is None:
            return ()
        if "_inner" not in self.__dict__:
            self.__dict__["_inner"] = tuple([self._within(*pair) for pair in inner.items()])
        return self.__dict__["_inner"]  # type: ignore[no-any-return]

    def _within(self, name: str, kind: str) -> Layer:
        made = object.__new__(LAYERS[kind])
        own = {n.removeprefix(f"{name}."): p for n, p in self._parameters.items() if n.startswith(f"{name}.")}
        made.__dict__.update(path="", runs=0, training=True, _modules=NOTHING, _parameters=own, _buffers={})
        return made

    def train(self, mode: bool = True) -> Module:
        if self.__dict__.get("_sealed", False):
            self._changes()
        self.__dict__["training"] = mode
        return self

    def _seal(self) -> None:
        self.__dict__["_sealed"] = True
        if not self.is_as_made:
            for weight in self._parameters.values():
                weight.fixed = True

    def __getattr__(self, name: str) -> Any:
        if name not in ("_parameters", "_buffers"):
            own = {**self._parameters, **self._buffers}
            if name not in own and name in ("weight", "bias") and self.base.startswith(WEIGHTY) and not self._inside:
                return None  # one that the layer may have
            return own[name] if name in own else super().__getattr__(name)
        spec: Spec = self.__dict__["spec"]
        parameters = {n: Parameter(Filled(s, start, spec.placed)) for n, s, buffer, start in spec.parts if not buffer}
        buffers = {n: Buffer(Filled(s, None, spec.placed)) for n, s, buffer, _ in spec.parts if buffer}
        for buffer in buffers.values():
            buffer.updates = list(self.__dict__["runs"])
        for parameter in parameters.values():
            parameter.fixed = "_sealed" in self.__dict__
        self.__dict__.update(_parameters=parameters, _buffers=buffers)
        return self.__dict__[name]

    @property
    def is_as_made(self) -> bool:
        """Whether its weights have not been requested yet."""
        return "_parameters" not in self.__dict__

    def reset(self) -> None:
        """Forgets the updates of its statistics."""
        self.__dict__["runs"] = []
        if not self.is_as_made:
            for buffer in self._buffers.values():
                buffer.updates = []

    @property
    def updates(self) -> list[tuple[int, ...]] | None:
        """The terms that went into its statistics, in order; None if they disagree."""
        if self.is_as_made:
            return self.__dict__["runs"]  # type: ignore[no-any-return]
        first, *others = [b.updates for b in self._buffers.values()]
        return first if all([updates == first for updates in others]) else None

    def counting(self, taken: tuple[int, ...], table: Table) -> None:
        """Updates its statistics by these terms."""
        table.counted.append((self, taken))
        if self.is_as_made:
            self.__dict__["runs"].append(taken)
        else:
            for buffer in self._buffers.values():
                buffer.updates.append(taken)

    def forward(self, *inputs: Any) -> Any:
        spec: Spec = self.__dict__["spec"]
        if not inputs or not all(isinstance(x, Tensor) for x in inputs):
            raise Unproved(f"gives {spec.kind} something else than tensors")
        if (spec.is_random or spec.has_statistics) and "_sealed" not in self.__dict__:
            raise Unproved(f"runs a {spec.kind} that is no member of the model, and never leaves its mode")
        if spec.has_statistics:
            self.counting(tuple([x.read().number for x in inputs]), inputs[0].table)
        return compute(spec, self.__dict__["path"], inputs)


def compute(spec: Spec, path: str, inputs: Sequence[Tensor]) -> Any:
    """The result of a layer."""
    if spec.kind in ("Identity", "Flatten"):
        if spec.kind == "Identity":
            return inputs[0]
        if tuple(spec.arguments.values()) == (1, -1):
            return inputs[0].flatten(1)  # type: ignore[operator]  # a method, as any other name of a tensor
    table = inputs[0].table
    table.latest = (spec, path if spec.parts else "", tuple([named(x) for x in inputs]))
    key, order = table.moved.get(table.latest, (table.latest, ()))
    if spec.is_random:
        key = table.draw(key)
    entry = table.entries.get(key)
    if entry is None:
        entry = table.new(key, f"{spec.kind}{f' at `{path}`' if path else ''}")
    if not spec.overwrites:
        return results(table, entry, inputs, order=order)
    if entry.in_place is None or (table.gradients and entry.in_place[0]):
        raise Unproved(f"{entry.says} overwrites what its own gradient needs")
    inputs[0].overwrite(entry.says)
    return results(table, entry, (), inputs[0].storage, order)


def rank_of(base: str) -> int:
    """The number of spatial axes of a torch.nn class; 0 if it has no fixed number."""
    return int(base[-2]) if base[-2:] in ("1d", "2d", "3d") else 0


def _check_types(kind: str, values: Mapping[str, object], rank: int) -> None:
    """Raises Unproved if PyTorch would require an int, a bool or a tuple of another length."""
    for name, value in values.items():
        if name in BOOLS and not isinstance(value, bool):
            raise Unproved(f"gives {kind} {value!r} for `{name}`")
        if name in INTS and not isinstance(value, str | None):
            parts = value if isinstance(value, tuple) else (value,)
            lengths = {rank * 2 if "Pad" in kind else rank} if rank else {len(parts)}
            if any(type(p) is not int for p in parts) or (isinstance(value, tuple) and len(value) not in lengths):
                raise Unproved(f"gives {kind} {value!r} for `{name}`")
        elif isinstance(value, bool) and name not in BOOLS and name in FLOATS:
            raise Unproved(f"gives {kind} {value!r} for `{name}`")


_DEFAULTS = [(name, default) for signature in SIGNATURES.values() for name, default in signature.items()]
BOOLS = frozenset(name for name, default in _DEFAULTS if isinstance(default, bool))
INTS = frozenset(name for name, default in _DEFAULTS if default is REQUIRED or type(default) is int) | {"dim"}
FLOATS = frozenset(name for name, default in _DEFAULTS if isinstance(default, float)) | {"scale_factor"}


def _collapsed(value: object) -> object:
    """A single number for a tuple of equal ones."""
    if isinstance(value, tuple) and value and all(v == value[0] for v in value):
        return value[0]
    return value


def layer_class(
    kind: str, base: str, signature: Mapping[str, object], extends: type[Layer] = Layer, has_gain: bool = False
) -> type[Layer]:
    return type(kind, (extends,), {"kind": kind, "base": base, "signature": signature, "has_gain": has_gain})


def outside_class(kind: str, signature: Mapping[str, object]) -> type[Layer]:
    """The class around a layer from outside."""
    return type(kind, (Layer,), {"kind": kind, "signature": signature, "outside": True, "declared": {}})


def _layers() -> dict[str, type[Layer]]:
    found: dict[str, type[Layer]] = {}
    for name in sorted(SIGNATURES, key=EXTENDED.__contains__):
        found[name] = layer_class(name, name, SIGNATURES[name], found[EXTENDED[name]] if name in EXTENDED else Layer)
    return found


LAYERS: Mapping[str, type[Layer]] = _layers()
"""The layers of torch.nn."""
