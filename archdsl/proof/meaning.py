"""The computation of a graph, as terms, and its weights: the reference for a text."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from types import CodeType
from typing import Any, NamedTuple

from archdsl.graph import Graph, Node, Scope
from archdsl.graph import Tensor as Edge
from archdsl.ops.base import Operation, Saves, Shape
from archdsl.ops.base import Weight as OwnWeight
from archdsl.ops.forms import ModuleForm, ParameterForm, TorchForm
from archdsl.ops.init import RULES
from archdsl.proof.errors import Unproved
from archdsl.proof.layers import LAYERS, Parts, Spec, compute, spec_of
from archdsl.proof.library import Library, Run, full
from archdsl.proof.modules import DEVICE, DTYPE, Buffer, Filled, Parameter
from archdsl.proof.reader import helpers
from archdsl.proof.terms import Order, Sizes, Table, Tensor, Term, inverse

MARK = "\0"
"""The name below a scope of its mark, which no member has."""


class Weight(NamedTuple):
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
    shapes: tuple[Shape, ...]
    """Those of the results."""
    may_be_none: bool
    last: Declared | None = None
    """The same for tensors with the channels last, if there is such a form and a text may use it."""


@dataclass(slots=True, eq=False)
class Owner:
    """A layer, or a bare parameter, at its path."""

    path: str
    declared: Declared

    def weights(self) -> list[Weight]:
        return [w._replace(key=f"{self.path}.{w.key}" if w.key else self.path) for w in self.declared.weights]


class Meaning:
    """The terms of a graph, and the owners of its weights.

    `moves` says whether a text may move axes.
    """

    def __init__(self, graph: Graph, *, gradients: bool, moves: bool = True) -> None:
        self.graph = graph
        self.table = Table(gradients=gradients)
        self.library = Library(Run(self.table))
        self.values: dict[int, list[tuple[Term, Order]]] = {}
        """The meaning of each result of each node: a term, with its axes in some order."""
        self.inputs: list[Term] = []
        self.statistics: dict[str, list[tuple[int, ...]]] = {}
        """The paths of the layers that keep statistics and run, with the terms that they count, in order."""
        self.makers: dict[str, dict[tuple[int, ...], tuple[int, ...]]] = {}
        """The shapes of the buffers that helpers make, by the numbers that they take."""
        self.helpers: dict[str, None] = {}
        """The texts of helpers that a file of this graph may contain."""
        self.outside: set[str] = set()
        """The names of the helpers around functions from outside, which may draw at random."""
        self._known: dict[object, Declared] = {}
        self._moves = moves and any(n.operation.layout == "last" for n in graph.nodes())
        """Whether moved axes matter: only a network with an operation that prefers the channels last moves any."""
        self._declarations = {n.id: self._declared(n) for n in graph.nodes() if not n.operation.is_input}
        self.members: dict[str, Owner] = {}
        """The owners of weights, and layers in containers of their own (`mix.relu`), in order of placement."""
        self._met: set[Scope] = set()
        for node in graph.declared():
            if not node.operation.is_input:
                self._own(node, self._declarations[node.id])
        self._scope: dict[str, object] = {
            **{"__builtins__": {}, "torch": self.library.torch, "F": self.library.torch.nn.functional},
            **self.library.functions,
        }

    def compute(self, training: bool) -> None:
        """Fills the table with the steps of one mode, and no others; inputs and weights keep their terms."""
        self.table.clear()
        self.inputs.clear()
        self.values.clear()
        self.statistics.clear()
        outputs = [o for o in self.graph.outputs if training or not o.training]
        self.outputs = [(o.name, o.tensor if o in outputs else None) for o in self.graph.outputs]
        self.live = self.graph.ancestors(o.tensor for o in outputs)
        for node in self.graph.nodes():
            if node.operation.is_input:
                term = self.table.source(("input", len(self.inputs)), self.graph.shape(Edge(node.id)))
                self.inputs.append(term)
                self.values[node.id] = [(term, ())]
            elif node.id in self.live:
                self._place(node, self._declarations[node.id])
        self.ran = +self.table.ran
        self.table.rewind(0)
        self.table.open = False

    def _own(self, node: Node, found: Declared) -> None:
        """Gives a node's weights their owner."""
        for scope in node.scope.calls():
            if scope in self._met:
                break
            self._met.add(scope)
            if "." in scope.name:  # its container exists by now, even without weights
                path = f"{scope.path}.{MARK}"
                self.members[path] = Owner(path, replace(found, weights=()))
        if found.weights or (found.spec is not None and "." in node.name):
            self.members[node.path] = Owner(node.path, found)

    def _place(self, node: Node, found: Declared) -> None:
        """Computes the results of a node."""
        table = self.table
        values = [self.values[t.node][t.index] for t in node.inputs]
        tensors = [Tensor(table, term, order=order) for term, order in values]
        if len(node.shapes) > 1 and len({term.batched for term, _ in values}) > 1:
            raise Unproved(f"`{node.path}` gives several tensors, of which only some would have the batch")
        if found.spec is not None and found.spec.has_statistics:
            self.statistics.setdefault(node.path, []).append(tuple([term.number for term, _ in values]))
        known, table.latest = len(table.entries), None
        made = self._computed(node, found, tensors)
        for shape, tensor in zip(found.shapes, made, strict=True):
            term = tensor.term
            if term.shape is None:
                term.shape = _unmoved(shape, tensor.order)
            term.batched, term.may_be_none = node.batched, found.may_be_none
        self.values[node.id] = [(tensor.term, tensor.order) for tensor in made]
        # A template of several steps, such as `(a + b) / 2`, is identified by its steps.
        if len(table.entries) == known + 1:
            entry = next(reversed(table.entries.values()))
            entry.saves, entry.in_place, entry.fresh = found.saves, found.in_place, found.fresh
        if found.last is not None:
            self._allow_last(node, found.last, tensors, made)

    def _computed(self, node: Node, found: Declared, tensors: list[Tensor]) -> list[Tensor]:
        """The results of an operation in one of its forms."""
        self.table.several = len(node.shapes) if len(node.shapes) > 1 else 0
        if found.spec is not None:
            given = compute(found.spec, node.path, tensors)
        else:
            given = self._function(node, found, tensors)
        self.table.several = 0
        return given if isinstance(given, list) else [given]

    def _allow_last(self, node: Node, last: Declared, tensors: list[Tensor], made: list[Tensor]) -> None:
        """Makes known that an operation gives the same where its tensors have the channels last.

        So it declares; what a text computes then is found by the operation and the order of its inputs' axes.
        """
        table = self.table
        inputs, wanted = [_with_last(t) for t in tensors], [_with_last(t) for t in made]
        first, _ = table.moved.get(table.latest, (table.latest, ()))
        known, drawn = len(table.entries), len(table.drawn)
        given = self._computed(node, last, inputs)
        orders = {t.order for t in wanted}
        made_now = [*islice(reversed(table.entries), len(table.entries) - known)]
        if made_now and len(orders) == 1 and table.gave(first, made) and table.gave(table.latest, given):
            del table.entries[made_now.pop(0)]
            table.moved[table.latest] = first, orders.pop()
        else:
            for key in made_now:
                del table.entries[key]
        table.rewind(drawn)

    def _declared(self, node: Node) -> Declared:
        """The operation's declarations, computed once for equal operations."""
        shapes = self.graph.shapes(node.inputs)
        key = (id(node.operation), shapes)
        found = self._known.get(key)
        if found is None:
            outputs = tuple([self.graph.shape(Edge(node.id, i)) for i in range(len(node.shapes))])
            form = node.operation.torch(shapes, outputs)
            gradients = self.table.gradients
            found = self._known[key] = _declared(node.operation, shapes, outputs, form, gradients)
            self._know(found.form, node.operation.outside())
            if self._moves and any(len(shape) > 1 for shape in (*shapes, *outputs)):
                last = node.operation.torch_last(shapes, outputs)
                if last is not None:
                    found.last = _declared(node.operation, shapes, outputs, last, gradients)
                    self._know(last, node.operation.outside())
        return found

    def _know(self, form: TorchForm, outside: object) -> None:
        """Takes in the helper of a form; `outside`: of an operation from elsewhere."""
        if isinstance(form, ParameterForm) and form.made:
            self.makers.setdefault(form.made, {})[form.numbers] = form.shape
            self.helpers[form.making] = None
        if form.helper is not None:
            self.helpers[form.helper] = None
            self.outside.update({h.name for h in helpers(form.helper)} if outside else ())
            for helper in helpers(form.helper):
                draws = helper.name in self.outside
                self.library.functions[helper.name] = self.library.function(helper, draws)

    def _function(self, node: Node, found: Declared, tensors: list[Tensor]) -> Any:
        """The result of a template for given tensors."""
        form = found.form
        names: dict[str, object] = {f"_{i}": tensor for i, tensor in enumerate(tensors)}
        if isinstance(form, ParameterForm):
            weight = (Buffer if form.made else Parameter)(Filled(form.shape, None, True))
            weight.bind(self.table, node.path)
            names["parameter"] = weight
        code = _code(form.template, len(tensors))  # type: ignore[union-attr]
        return eval(code, self._scope, {**found.values, **names})


def _unmoved(shape: Sizes, order: Order) -> Sizes:
    """The sizes of a term, whose axes give those of `shape` in this order."""
    return tuple([shape[axis - 1] for axis in inverse(order)[1:]]) if order else shape


def _with_last(tensor: Tensor) -> Tensor:
    """A tensor with the channels last."""
    shape = tensor.term.shape
    rank = len(tensor.shape if shape is None else shape) + (shape is not None)
    return tensor.permute(0, *range(2, rank), 1) if rank > 2 else tensor


def _declared(
    operation: Operation, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], form: TorchForm, gradients: bool
) -> Declared:
    declared = operation.weights(shapes)
    spec = _spec(form, declared) if isinstance(form, ModuleForm) else None
    own = tuple([_weight(weight, form, spec) for weight in declared])
    saves: list[tuple[bool, bool]] = []
    for is_in_place in (False, True) if operation.inplace else (False,):
        kept = operation.saves(shapes, outputs, is_in_place) if gradients else Saves()
        saves.append((kept.inputs, kept.outputs))
    return Declared(
        form,
        spec,
        own,
        spec is not None
        and (
            spec.outside
            or own == tuple([Weight(n, s, not buffer, buffer, start) for n, s, buffer, start in spec.parts])
        ),
        saves[0],
        saves[1] if operation.inplace else None,
        operation.own or operation.family in ("activation", "normalisation"),
        {a.name or "": a.value for a in form.arguments} if not isinstance(form, ModuleForm) else {},
        outputs,
        operation.may_be_none(shapes),
    )


def _spec(form: ModuleForm, declared: Iterable[OwnWeight]) -> Spec:
    name = form.constructor.removeprefix("nn.")
    made = {h.name: h.made for h in helpers(form.helper)} if form.helper else {}
    kind = made.get(name) or LAYERS[name]
    arguments = form.arguments
    kwargs = {a.name: a.value for a in arguments if a.name is not None}
    if kind.is_placed():
        kwargs |= {"device": DEVICE, "dtype": DTYPE}
    parts: Parts = [(w.name, w.shape, w.buffer, None) for w in declared]
    given = tuple([a.value for a in arguments if a.name is None])
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
    if isinstance(form, ParameterForm) and form.made:
        start = (form.made, form.numbers)
    elif isinstance(form, ParameterForm) and form.start is not None:
        start = _start(form.start.rule, form.start.std, "weight")
    elif isinstance(form, ParameterForm):
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
        own = [o for o in bare if o.declared.weights]
        yield from sorted(own, key=lambda o: o.declared.weights[0].buffer)  # parameters before buffers
        stack.extend(m for m in reversed(module.values()) if isinstance(m, dict) or m.declared.spec is not None)
