"""The computation of a graph, as terms, and its weights: the reference for a text."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import CodeType
from typing import Any

from archdsl.graph import Graph, Node, Scope
from archdsl.graph import Tensor as Edge
from archdsl.ops.base import FunctionForm, ModuleForm, Operation, ParameterForm, Shape, TorchForm
from archdsl.ops.base import Weight as OwnWeight
from archdsl.ops.init import RULES
from archdsl.proof.layers import LAYERS, Parts, Spec, compute, spec_of
from archdsl.proof.library import Library, Run, full
from archdsl.proof.modules import DEVICE, DTYPE, Filled, Parameter
from archdsl.proof.reader import helpers
from archdsl.proof.terms import Table, Tensor, Term


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of the state_dict: its size and initialisation."""

    key: str
    shape: tuple[int, ...]
    trainable: bool
    buffer: bool
    start: object


@dataclass(slots=True, eq=False)
class Declared:
    """An operation's declarations for given sizes: its form, its weights by name, what its gradient needs."""

    form: TorchForm
    spec: Spec | None
    weights: tuple[Weight, ...]
    is_plain: bool
    """Whether the weights are those that the layer's constructor creates."""
    saves: tuple[bool, bool]
    in_place: tuple[bool, bool] | None
    fresh: bool
    values: Mapping[str, object]


@dataclass(slots=True, eq=False)
class Owner:
    """A layer, or a bare parameter, at its path."""

    path: str
    declared: Declared

    def weights(self) -> list[Weight]:
        return [replace(w, key=f"{self.path}.{w.key}" if w.key else self.path) for w in self.declared.weights]


class Meaning:
    """The terms of a graph in one mode, and the owners of its weights."""

    def __init__(self, graph: Graph, *, training: bool, gradients: bool) -> None:
        self.graph = graph
        self.table = Table(gradients=gradients)
        self.library = Library(Run(self.table))
        self.terms: dict[Edge, Term] = {}
        self.inputs: list[Term] = []
        self.statistics: dict[str, list[tuple[int, ...]]] = {}
        """The paths of the layers that keep statistics and run, with the terms that they count, in order."""
        self.helpers: dict[str, None] = {}
        """The texts of helpers that a file of this graph may contain."""
        self.outside: set[str] = set()
        """The names of the helpers around functions from outside, which may draw at random."""
        outputs = [o for o in graph.outputs if training or not o.training]
        self.outputs = [(o.name, None if o not in outputs else o.tensor) for o in graph.outputs]
        self.live = graph.ancestors(o.tensor for o in outputs)
        self._declared: dict[object, Declared] = {}
        self.members: dict[str, Owner] = {}
        """The owners of weights, and layers in containers of their own (`mix.relu`), in order of placement."""
        self._met: set[Scope] = set()
        for node in graph.declared():
            self._declare(node)
        for node in graph.nodes():
            self._place(node)
        self.ran = +self.table.ran
        self.table.ran.clear()
        self.table.open = False

    def _declare(self, node: Node) -> None:
        """Gives a node's weights their owner."""
        if node.operation.is_input:
            return
        found = self.declared(node)
        for scope in node.scope.calls():
            if scope in self._met:
                break
            self._met.add(scope)
            if "." in scope.name:  # its container exists by now, even without weights
                path = f"{scope.path}.\0"  # no member has this name
                self.members[path] = Owner(path, replace(found, weights=()))
        if found.weights or (found.spec is not None and "." in node.name):
            self.members[node.path] = Owner(node.path, found)

    def _place(self, node: Node) -> None:
        if node.operation.family == "input":
            shape = self.graph.shape(Edge(node.id))
            term = self.table.source(("input", len(self.inputs)), shape)
            self.inputs.append(term)
            self.terms[Edge(node.id)] = term
            return
        found = self.declared(node)
        if node.id not in self.live:
            return
        tensors = [Tensor(self.table, self.terms[t]) for t in node.inputs]
        if found.spec is not None and found.spec.has_statistics:
            self.statistics.setdefault(node.path, []).append(tuple([t.read().number for t in tensors]))
        known = len(self.table.entries)
        self.table.several = len(node.shapes) if len(node.shapes) > 1 else 0
        given = (
            compute(found.spec, node.path, tensors) if found.spec is not None else self._function(node, found, tensors)
        )
        self.table.several = 0
        made = given if isinstance(given, list) else [given]
        for i, tensor in enumerate(made):
            tensor.term.shape = node.shapes[i]
            self.terms[Edge(node.id, i)] = tensor.term
        # A template of several steps, such as `(a + b) / 2`, is identified by its steps.
        if len(self.table.entries) == known + 1:
            entry = next(reversed(self.table.entries.values()))
            entry.saves, entry.in_place, entry.fresh = found.saves, found.in_place, found.fresh

    def declared(self, node: Node) -> Declared:
        """The operation's declarations, computed once for equal operations."""
        shapes = self.graph.shapes(node.inputs)
        key = (id(node.operation), shapes)
        if key not in self._declared:
            outputs = tuple(self.graph.shape(Edge(node.id, i)) for i in range(len(node.shapes)))
            self._declared[key] = _declared(node.operation, shapes, outputs)
            form = self._declared[key].form
            if isinstance(form, ModuleForm | FunctionForm) and form.helper is not None:
                self.helpers[form.helper] = None
                self.outside.update({h.name for h in helpers(form.helper)} if node.operation.outside() else ())
                for helper in helpers(form.helper):
                    draws = helper.name in self.outside
                    self.library.functions[helper.name] = self.library.function(helper.name, draws)
        return self._declared[key]

    def _function(self, node: Node, found: Declared, tensors: list[Tensor]) -> Any:
        """The result of a template for given tensors."""
        form = found.form
        names: dict[str, object] = {f"_{i}": tensor for i, tensor in enumerate(tensors)}
        if isinstance(form, ParameterForm):
            weight = Parameter(Filled(form.shape, None, True))
            weight.bind(self.table, node.path)
            names["parameter"] = weight
        code = _code(form.template, len(tensors))  # type: ignore[union-attr]
        scope = {"torch": self.library.torch, "F": self.library.torch.nn.functional, **self.library.functions}
        return eval(code, {"__builtins__": {}}, {**scope, **found.values, **names})


def _declared(operation: Operation, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Declared:
    form = operation.torch(shapes, outputs)
    declared = operation.weights(shapes)
    spec = _spec(form, declared) if isinstance(form, ModuleForm) else None
    own = tuple(_weight(weight, form, spec) for weight in declared)
    saves = operation.saves(shapes, outputs, False)
    in_place = operation.saves(shapes, outputs, True) if operation.inplace else None
    return Declared(
        form,
        spec,
        own,
        spec is not None
        and (
            spec.outside or own == tuple(Weight(n, s, not buffer, buffer, start) for n, s, buffer, start in spec.parts)
        ),
        (saves.inputs, saves.outputs),
        None if in_place is None else (in_place.inputs, in_place.outputs),
        operation.own or operation.family in ("activation", "normalisation"),
        {a.name or "": a.value for a in form.arguments} if isinstance(form, FunctionForm) else {},
    )


def _spec(form: ModuleForm, declared: Iterable[OwnWeight]) -> Spec:
    name = form.constructor.removeprefix("nn.")
    made = {h.name: h.made for h in helpers(form.helper)} if form.helper else {}
    kind = made.get(name) or LAYERS[name]
    kwargs = {a.name: a.value for a in form.arguments if a.name is not None}
    if kind.is_placed():
        kwargs |= {"device": DEVICE, "dtype": DTYPE}
    parts: Parts = [(w.name, w.shape, w.buffer, None) for w in declared]
    given = tuple(a.value for a in form.arguments if a.name is None)
    return spec_of(kind, given, kwargs, parts if kind.outside else None)


@lru_cache(maxsize=256)
def _code(template: str, count: int) -> CodeType:
    """A function's template as code, with its tensors called _0, _1, …"""
    parts: list[str] = []
    for text, name, _, _ in string.Formatter().parse(template):
        parts.append(text)
        if name == "all":
            parts.append(", ".join(f"_{i}" for i in range(count)))
        elif name is not None:
            parts.append(f"_{name}" if name.isdigit() else name)
    return compile("".join(parts), "<meaning>", "eval")


# ---------------------------------------------------------------- weights


def _weight(weight: OwnWeight, form: TorchForm, spec: Spec | None) -> Weight:
    """A weight as an operation declares it, with its initialisation; its key is its name below the operation."""
    start: object = None
    if isinstance(form, ParameterForm):
        start = full(form.fill)
    elif spec is not None and isinstance(form, ModuleForm):
        start = next((start for name, _, _, start in spec.parts if name == weight.name), None)
        if weight.name in form.fill:
            start = ("numbers", _lists(form.fill[weight.name]))
        elif form.start is not None and not weight.buffer:
            start = _start(form.start.rule, form.start.std, weight.name)
    return Weight(weight.name, weight.shape, weight.trainable and not weight.buffer, weight.buffer, start)


def _lists(value: object) -> object:
    return tuple(_lists(v) for v in value) if isinstance(value, tuple | list) else value


@lru_cache(maxsize=256)
def _start(rule: str, std: float | None, name: str) -> object:
    """The initialisation of a weight by a rule of `ops.init`; biases start at 0."""
    call = "nn.init.zeros_({0})" if name == "bias" else RULES[rule].call
    weight = Parameter(Filled((), None, True))
    nn = Library(Run(Table())).torch.nn
    eval(
        compile(call.format("weight", std=repr(std)), "<meaning>", "eval"),
        {"__builtins__": {}},
        {"nn": nn, "weight": weight},
    )
    return weight.start


def in_order(members: Iterable[Owner]) -> Iterator[Owner]:
    """The owners of weights in PyTorch's order of a state_dict: a module's parameters before its members'.

    `members` are in the order of creation.
    """
    tree: dict[str, Any] = {}
    for owner in members:
        *path, name = owner.path.split(".")
        inner = tree
        for part in path:
            inner = inner.setdefault(part, {})
        inner[name] = owner
    stack = [tree]
    while stack:
        module = stack.pop()
        if isinstance(module, Owner):
            if module.declared.weights:
                yield module
            continue
        bare = (o for o in module.values() if isinstance(o, Owner) and o.declared.spec is None)
        yield from (o for o in bare if o.declared.weights)
        stack.extend(m for m in reversed(module.values()) if isinstance(m, dict) or m.declared.spec is not None)
