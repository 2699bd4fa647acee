"""A network of a file as a PyTorch module: its steps are layers and functions, in modules as the file names them.

Each step is run on tensors without data as it is added, so that the next one can ask for sizes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import Parameter, Signature
from typing import Any

import torch
from torch import nn

from archdsl.runtime.importing.files.batching import TIMES, Batches, as_list, tried
from archdsl.runtime.importing.places import working_at
from archdsl.runtime.importing.recorded import tensors_in
from archdsl.runtime.refusal import ImportRefused

MOST_NUMBERS = 1 << 28
"""The most numbers of a tensor that flows."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A call of a module in the file. `kind` is its class with its package, empty if the file does not say.

    Classes of one name get a number (NAME@NUMBER). `plain`: it is a sequence, and its class says nothing. `call`
    distinguishes several calls of one module.
    """

    path: str
    kind: str = ""
    plain: bool = False
    call: str = ""


@dataclass(frozen=True, slots=True)
class Ref:
    """A value by name, as an argument."""

    name: str


@dataclass(frozen=True, slots=True)
class Key:
    """A parameter by its key, as an argument."""

    key: str


@dataclass(frozen=True, slots=True)
class Step:
    """A call: `run` gets the arguments `takes`, also within lists, and gives the values named `gives`."""

    run: Callable[..., Any]
    takes: tuple[object, ...]
    gives: tuple[str, ...]
    scopes: tuple[Scope, ...]
    place: str
    kind: str = ""
    """The operator of the file."""

    def names(self) -> Iterator[str]:
        return names_in(self.takes)


def names_in(given: object) -> Iterator[str]:
    """The names of values in arguments."""
    if isinstance(given, Ref):
        yield given.name
    elif isinstance(given, tuple | list):
        for part in given:
            yield from names_in(part)


@dataclass(frozen=True, slots=True)
class Body:
    """The content of one call of a module: steps and calls of modules within."""

    members: tuple[Step | Inner, ...]
    takes: tuple[str, ...]
    gives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inner:
    """A call of a module within a module."""

    part: Part
    body: Body


class Part(nn.Module):  # type: ignore[misc]
    """A module of the file. Each one's class is its own subclass, with the name in the file."""

    plain = False
    """Whether the class says nothing of what is in it."""

    def forward(self, body: Body, root: nn.Module, *given: Any) -> tuple[Any, ...]:
        values = dict(zip(body.takes, given, strict=True))
        run(body, root, values)
        return tuple(values[name] for name in body.gives)


class Holder(nn.Module):  # type: ignore[misc]
    """A module that only holds others."""


def run(body: Body, root: nn.Module, values: dict[str, Any]) -> None:
    """Runs the members of a body, and adds their results to the values."""
    for member in body.members:
        if isinstance(member, Inner):
            found = member.part(member.body, root, *(values[name] for name in member.body.takes))
            values.update(zip(member.body.gives, found, strict=True))
        else:
            with working_at(member.place):
                result = member.run(*(resolved(part, root, values) for part in member.takes))
            keep(result, member.gives, values)


def keep(result: Any, gives: Sequence[str], values: dict[str, Any]) -> None:
    if len(gives) == 1:
        values[gives[0]] = result
    else:
        values.update(zip(gives, result, strict=False))


def resolved(given: object, root: nn.Module, values: Mapping[str, Any]) -> Any:
    """An argument with the values for their names."""
    if isinstance(given, Ref):
        return values[given.name]
    if isinstance(given, Key):
        path, _, name = given.key.rpartition(".")
        return getattr(root.get_submodule(path), name)
    if isinstance(given, tuple | list):
        return type(given)(resolved(part, root, values) for part in given)
    return given


class Net(nn.Module):  # type: ignore[misc]
    """The network of a file: a subclass for each."""

    body: Body
    outputs: Mapping[str, str]

    def compute(self, *given: torch.Tensor) -> Any:
        values: dict[str, Any] = dict(zip(self.body.takes, given, strict=True))
        run(self.body, self, values)
        if len(self.outputs) == 1:
            return values[next(iter(self.outputs.values()))]
        return {name: values[value] for name, value in self.outputs.items()}


@dataclass(slots=True, eq=False)
class Program:
    """The steps of a file, as they are added. `inputs` are values by name, with the sizes of the batch first.

    `state` are the tensors by key; `layers` the layers by path. `file` is the name for messages.
    """

    file: str
    kind: str = ""
    batches: Batches | None = None
    """The batch that the file fixes; None if it is free."""
    notes: list[str] = field(default_factory=list)
    """Notes for the user on how the file was read."""
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    state: dict[str, torch.Tensor] = field(default_factory=dict)
    layers: dict[str, nn.Module] = field(default_factory=dict)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    """The value of each name on tensors without data: a tensor, or a number or array of sizes."""

    def take(self, name: str, sizes: Sequence[int]) -> None:
        """Declares an input."""
        if math.prod(sizes) > MOST_NUMBERS:
            raise ImportRefused(f"its input of size {list(sizes)} is too large")
        self.inputs[name] = tuple(sizes)
        self.values[name] = torch.empty(*sizes, device="meta")

    def fix_batch(self, batch: int) -> None:
        """Says that the file fixes the batch."""
        self.batches = Batches(batch)
        for name, sizes in self.inputs.items():
            other = torch.empty(batch * TIMES, *sizes[1:], device="meta")
            self.batches.note([name], [self.values[name]], [other], ())

    def has_batch_first(self, name: str) -> bool:
        """Whether the batch is the first axis of a value, as far as that is known."""
        return self.batches is None or name not in self.batches.places or self.batches.places[name].axis == 0

    def add(
        self,
        run: Callable[..., Any],
        takes: Sequence[object],
        gives: Sequence[str],
        scopes: Sequence[Scope] = (),
        place: str = "",
    ) -> None:
        """Adds a step. Raises ImportRefused if it cannot run."""
        step = Step(run, tuple(takes), tuple(gives), tuple(scopes), place)
        result = tried(run, self.example(step.takes), f"{place} cannot be computed")
        for tensor in tensors_in(result):
            if tensor.numel() > MOST_NUMBERS:
                raise ImportRefused(f"{place} makes a tensor of size {list(tensor.shape)}, which is too large")
        if (batches := self.batches) is not None:
            alone = f"{place} can be computed with a batch of {batches.batch} alone, which the file fixes"
            other = tried(run, self.example(step.takes, batches.values), alone)
            batches.note(gives, as_list(result, gives), as_list(other, gives), [*step.names()])
        self.steps.append(step)
        keep(result, gives, self.values)

    def layer(
        self,
        path: str,
        make: Callable[[], nn.Module],
        weights: Mapping[str, torch.Tensor],
        takes: Sequence[object],
        gives: Sequence[str],
        scopes: Sequence[Scope] = (),
        place: str = "",
    ) -> None:
        """Adds a step of a layer with its tensors, or one more call of it."""
        if path not in self.layers:
            with torch.device("meta"):
                self.layers[path] = make()
            self.state |= {f"{path}.{name}": tensor for name, tensor in weights.items()}
        inside = [scope for scope in scopes if path.startswith(f"{scope.path}.")]
        self.add(self.layers[path], takes, gives, inside, place)

    def attention(
        self,
        path: str,
        make: Callable[[], nn.Module],
        state: Mapping[str, torch.Tensor],
        takes: Sequence[object],
        gives: Sequence[str],
        scopes: Sequence[Scope],
        place: str,
    ) -> None:
        """Adds a step of a torch.nn.MultiheadAttention: of queries, keys and values."""
        with torch.device("meta"):
            layer = self.layers.setdefault(path, make())
        self.state |= {f"{path}.{name}": tensor for name, tensor in state.items()}
        self.add(lambda *given: layer(*given, need_weights=False)[0], takes, gives, scopes, place)

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Forgets, at the end of the context, all that was added in it."""
        before = [*self.steps], dict(self.state), dict(self.layers), dict(self.parameters), dict(self.values)
        batches, self.batches = self.batches, None
        try:
            yield
        finally:
            self.steps, self.state, self.layers, self.parameters, self.values = before
            self.batches = batches

    def parameter(self, key: str, tensor: torch.Tensor) -> Key:
        """A tensor of the file as a parameter."""
        self.parameters[key] = nn.Parameter(torch.empty_like(tensor, device="meta"))
        self.state[key] = tensor
        return Key(key)

    def example(self, given: object, values: Mapping[str, Any] | None = None) -> Any:
        """An argument on tensors without data; `values` are others than those of the example."""
        if isinstance(given, Key):
            return self.parameters[given.key]
        if isinstance(given, Ref):
            return (self.values if values is None else values)[given.name]
        if isinstance(given, tuple | list):
            return type(given)(self.example(part, values) for part in given)
        return given

    def give(self, name: str, value: str) -> None:
        """Declares an output; of two with one name, the second gets a number."""
        wish, number = name if name.isidentifier() or name.isdigit() else identifier_of(name), 2
        base = wish
        while wish in self.outputs:
            wish, number = f"{base}_{number}", number + 1
        self.outputs[wish] = value

    # ------------------------------------------------------------ the module

    def module(self, *, random: bool = False) -> Net:
        """The module, with its tensors; with random ones for a file that has none."""
        root = self.network_class()()
        # A layer's own name may also be around operators that belong to it, such as those that move axes.
        self.steps = [replace(s, scopes=tuple(c for c in s.scopes if c.path not in self.layers)) for s in self.steps]
        tree: dict[str, nn.Module] = {"": root}
        wanted: dict[str, nn.Module] = {**self.layers}
        for step in self.steps:
            for scope in step.scopes:
                if scope.path not in wanted:
                    wanted[scope.path] = classes(scope)()
        for path in sorted(wanted, key=lambda p: p.count(".")):
            place(tree, path, wanted[path])
        for key, parameter in self.parameters.items():
            path, _, name = key.rpartition(".")
            if path not in tree:
                place(tree, path, Holder())
            tree[path].register_parameter(name, parameter)
        self.steps = together(self.adopted(self.early()))
        members = nest(self.steps, 0, self.users(), tree, 0)
        root.body = Body(members, tuple(self.inputs), tuple(self.outputs.values()))
        root.outputs = self.outputs
        if random:
            start(root)
        else:
            self.fill(root)
        root.eval()
        return root

    def network_class(self) -> type[Net]:
        """The class of the network, whose `forward` has the inputs' names."""

        def forward(self: Net, *given: torch.Tensor) -> Any:
            return self.compute(*given)

        plain = len(self.inputs) == 1 and _PLAIN.fullmatch(next(iter(self.inputs)))
        names = ("self", "x") if plain else ("self", *map(identifier_of, self.inputs))
        forward.__signature__ = Signature(  # type: ignore[attr-defined]
            [Parameter(name, Parameter.POSITIONAL_ONLY) for name in names]
        )
        package, _, name = self.kind.rpartition(".")
        return type(name or "Network", (Net,), {"__module__": package or "network", "forward": forward})

    def early(self) -> list[Step]:
        """The steps with those that only compute sizes right behind what they take, in the same module."""
        makers = {name: at for at, step in enumerate(self.steps) for name in step.gives}
        anchors: list[tuple[int, int]] = []
        found = [*self.steps]
        for at, step in enumerate(self.steps):
            if any(isinstance(self.values.get(name), torch.Tensor) for name in step.gives):
                anchors.append((at, -1))
                continue
            anchor = max((anchors[makers[name]][0] for name in step.names() if name in makers), default=-1)
            anchors.append((anchor, at))
            found[at] = replace(step, scopes=self.steps[anchor].scopes if anchor >= 0 else ())
        return [found[at] for at in sorted(range(len(found)), key=lambda at: anchors[at])]

    def adopted(self, steps: list[Step]) -> list[Step]:
        """The steps, those between calls of a module whose scope the file does not say within it."""
        makers = {name: at for at, step in enumerate(steps) for name in step.gives}
        users: dict[str, list[int]] = {}
        for at, step in enumerate(steps):
            for name in step.names():
                users.setdefault(name, []).append(at)
        ends = set(self.outputs.values())
        found = [*steps]
        for at, step in enumerate(steps):
            around = [found[makers[name]].scopes for name in step.names() if name in makers]
            around += [found[user].scopes for name in step.gives for user in users.get(name, ())]
            known = bool(around) and all(n in makers for n in step.names()) and not ends & set(step.gives)
            common = shared_start(around) if known else ()
            if len(common) > len(step.scopes) and common[: len(step.scopes)] == step.scopes:
                found[at] = replace(step, scopes=common)
        return found

    def fill(self, root: nn.Module) -> None:
        """Gives the module its tensors."""
        state = dict(self.state)
        for key, tensor in root.state_dict().items():
            if key not in state:
                if not key.endswith("num_batches_tracked"):
                    raise ImportRefused(f"the file has no tensor for `{key}`")
                state[key] = torch.tensor(0)
            elif state[key].shape != tensor.shape:
                raise ImportRefused(
                    f"the tensor `{key}` has the size {list(state[key].shape)}, not {list(tensor.shape)}"
                )
        root.load_state_dict(state, strict=True, assign=True)

    def users(self) -> dict[str, list[int]]:
        """The positions of the steps that use each value; that of the outputs is behind all."""
        found: dict[str, list[int]] = {}
        for number, step in enumerate(self.steps):
            for name in step.names():
                found.setdefault(name, []).append(number)
        for name in self.outputs.values():
            found.setdefault(name, []).append(len(self.steps))
        return found


_PLAIN = re.compile(r"(onnx::\w+|(t|x|v|arg|args|input|inputs|data|img|image|images|pixel_values)[._:]?\d*)")
"""Names of the only input that say nothing."""


def start(root: nn.Module) -> None:
    """Gives the layers of a module their random tensors, the same in each run."""
    root.to_empty(device="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for layer in root.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()


def identifier_of(name: str) -> str:
    """A name of the file as one of Python."""
    found = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name).strip("_")
    return f"x{found}" if not found or found[0].isdigit() else found


_CLASSES: dict[tuple[str, bool], type[Part]] = {}


def classes(scope: Scope) -> type[nn.Module]:
    """The class for modules of this kind: one for each kind."""
    if scope.plain:
        return _class("Sequence", True)
    return _class(scope.kind or scope.path.rpartition(".")[2], False)


def _class(kind: str, plain: bool) -> type[Part]:
    if (kind, plain) not in _CLASSES:
        package, _, name = kind.rpartition(".")
        body: dict[str, object] = {"plain": plain, "__module__": package or "network"}
        if not package:
            body["says"] = ""  # there is no class in Python
        _CLASSES[kind, plain] = type(name.partition("@")[0], (Part,), body)
    return _CLASSES[kind, plain]


def place(tree: dict[str, nn.Module], path: str, module: nn.Module) -> None:
    """Puts a module at its path, below modules that only hold others where there are none."""
    parent, _, name = path.rpartition(".")
    if parent not in tree:
        place(tree, parent, Holder())
    tree[parent].add_module(name, module)
    tree[path] = module


def shared_start(lists: Sequence[tuple[Scope, ...]]) -> tuple[Scope, ...]:
    """The longest common prefix of tuples."""
    first, *others = lists
    end = len(first)
    for other in others:
        while first[:end] != other[:end]:
            end -= 1
    return first[:end]


def together(steps: Sequence[Step]) -> list[Step]:
    """The steps with those of one call of a module next to each other, as far as what they take allows it."""
    found: list[Step] = []
    ends: dict[tuple[Scope, ...], int] = {}
    """Where the steps of a call end, so far."""
    for step in steps:
        at = len(found)
        for depth in range(len(step.scopes), 0, -1):
            end = ends.get(step.scopes[:depth])
            if end is None or end == at:
                continue
            between = {name for other in found[end:] for name in other.gives}
            if not between & set(step.names()):
                at = end
            break
        found.insert(at, step)
        if at < len(found) - 1:
            ends = {scopes: end + (end > at) for scopes, end in ends.items()}
        for depth in range(1, len(step.scopes) + 1):
            ends[step.scopes[:depth]] = max(ends.get(step.scopes[:depth], 0), at + 1)
    return found


def nest(
    steps: Sequence[Step], start: int, users: Mapping[str, list[int]], tree: Mapping[str, nn.Module], depth: int
) -> tuple[Step | Inner, ...]:
    """Steps from number `start` on, with those of a module within as one call of it."""
    found: list[Step | Inner] = []
    at = 0
    while at < len(steps):
        step = steps[at]
        if len(step.scopes) <= depth:
            found.append(step)
            at += 1
            continue
        scope = step.scopes[depth]
        end = at + 1
        while end < len(steps) and steps[end].scopes[depth : depth + 1] == (scope,):
            end += 1
        part = tree[scope.path]
        assert isinstance(part, Part)
        inside = steps[at:end]
        made = {name for one in inside for name in one.gives}
        takes = dict.fromkeys(name for one in inside for name in one.names() if name not in made)
        outside = range(start + at, start + end)
        gives = [n for one in inside for n in one.gives if any(user not in outside for user in users.get(n, ()))]
        members = nest(inside, start + at, users, tree, depth + 1)
        found.append(Inner(part, Body(members, tuple(takes), tuple(gives))))
        at = end
    return tuple(found)
