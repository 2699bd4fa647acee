"""Operators of PyTorch and Keras that ONNX files write as several: activations, normalisations, biases.

A pattern is written as nested tuples: (operator, part, …). A text is a value by name, equal wherever it occurs; a
number is a constant of that value; "#name" any constant; None anything at all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeAlias

from archdsl.runtime.importing.files.onnx_file import Node, OnnxGraph

Pattern: TypeAlias = Any

_ERF = ("Erf", ("Div", "x", math.sqrt(2)))
_ERF_2 = ("Erf", ("Mul", "x", math.sqrt(0.5)))
_CUBE = ("Add", "x", ("Mul", ("Pow", "x", 3), 0.044715))
_CUBE_2 = ("Add", "x", ("Mul", ("Mul", "x", ("Mul", "x", "x")), 0.044715))
_CUBE_3 = ("Add", "x", ("Mul", ("Mul", ("Mul", "x", 0.044715), "x"), "x"))
_SIX = ("Clip", ("Add", "x", 3), 0, 6)
_MEAN = ("ReduceMean", "x", "#axes")
_CENTRED = ("Sub", "x", _MEAN)
_SPREAD = ("Sqrt", ("Add", ("ReduceMean", ("Pow", _CENTRED, 2), "#axes"), "#eps"))
_SPREAD_2 = ("Sqrt", ("Add", ("ReduceMean", ("Mul", _CENTRED, _CENTRED), "#axes"), "#eps"))

PATTERNS: tuple[tuple[str, Pattern, Mapping[str, Any]], ...] = (
    *(
        ("Gelu", pattern, {})
        for erf in (_ERF, _ERF_2)
        for pattern in (
            ("Mul", ("Mul", "x", ("Add", erf, 1)), 0.5),
            ("Mul", ("Mul", "x", 0.5), ("Add", erf, 1)),
            ("Mul", "x", ("Mul", ("Add", erf, 1), 0.5)),
        )
    ),
    *(
        ("Gelu", pattern, {"approximate": "tanh"})
        for cube in (_CUBE, _CUBE_2, _CUBE_3)
        for tanh in [("Tanh", ("Mul", cube, math.sqrt(2 / math.pi)))]
        for pattern in (
            ("Mul", ("Mul", "x", 0.5), ("Add", tanh, 1)),
            ("Mul", ("Mul", "x", ("Add", tanh, 1)), 0.5),
            ("Mul", "x", ("Mul", ("Add", tanh, 1), 0.5)),
        )
    ),
    ("Swish", ("Mul", "x", ("Sigmoid", "x")), {}),
    ("HardSwish", ("Mul", "x", ("HardSigmoid", "x", {"alpha": 1 / 6, "beta": 0.5})), {}),
    ("HardSwish", ("Mul", "x", ("Div", _SIX, 6)), {}),
    ("HardSwish", ("Mul", "x", ("Mul", _SIX, 1 / 6)), {}),
    ("HardSwish", ("Div", ("Mul", "x", _SIX), 6), {}),
    ("HardSwish", ("Mul", ("Mul", "x", _SIX), 1 / 6), {}),
    ("HardSigmoid", ("Div", _SIX, 6), {"alpha": 1 / 6, "beta": 0.5}),
    ("HardSigmoid", ("Mul", _SIX, 1 / 6), {"alpha": 1 / 6, "beta": 0.5}),
    ("Mish", ("Mul", "x", ("Tanh", ("Softplus", "x"))), {}),
    *(
        ("LayerNormalization", ("Add", ("Mul", ("Div", _CENTRED, spread), "#w"), "#b"), {})
        for spread in (_SPREAD, _SPREAD_2)
    ),
)
"""The operator that stands for a pattern, and its attributes."""


class Matcher:
    """Finds patterns in a graph."""

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph, self.makers, self.users = graph, graph.makers(), graph.users()
        self.found: dict[str, str] = {}
        self.used: list[Node] = []

    def matches(self, pattern: Pattern, name: str) -> bool:
        """Whether a value is made like this. On failure, `found` and `used` are as before."""
        before, used = dict(self.found), len(self.used)
        if self._matches(pattern, name):
            return True
        self.found = before
        del self.used[used:]
        return False

    def _matches(self, pattern: Pattern, name: str) -> bool:
        if isinstance(pattern, str):
            if pattern.startswith("#") and name not in self.graph.constants:
                return False
            return self.same(self.found.setdefault(pattern, name), name)
        if isinstance(pattern, int | float):
            constant = self.graph.constants.get(name)
            return constant is not None and constant.size == 1 and math.isclose(constant.item(), pattern, rel_tol=1e-5)
        node = self.makers.get(name)
        operator, *parts = pattern
        wanted = parts.pop() if isinstance(parts[-1], dict) else {}
        if node is None or node.operator != operator or not attributes_agree(node, wanted):
            return False
        given = arguments(node, self.graph)
        if len(given) < len(parts):
            return False
        self.used.append(node)
        orders = [given[: len(parts)]]
        if operator in ("Mul", "Add"):
            orders.append(given[: len(parts)][::-1])
        return any(self.all_match(parts, order) for order in orders)

    def same(self, one: str, two: str) -> bool:
        """Whether two names are the same value, or constants with the same numbers."""
        import numpy

        constants = self.graph.constants
        return one == two or (
            one in constants and two in constants and bool(numpy.array_equal(constants[one], constants[two]))
        )

    def all_match(self, parts: list[Pattern], names: list[str]) -> bool:
        before, used = dict(self.found), len(self.used)
        if all(self.matches(part, name) for part, name in zip(parts, names, strict=True)):
            return True
        self.found = before
        del self.used[used:]
        return False


def arguments(node: Node, graph: OnnxGraph) -> list[str]:
    """The inputs of a node; axes and bounds that are attributes become constants."""
    import numpy

    given = [*node.inputs]
    for operator, names in (("ReduceMean", ("axes",)), ("Clip", ("min", "max"))):
        if node.operator == operator and len(given) == 1:
            for name in names:
                if name in node.attributes:
                    key = f"{node.outputs[0]}/{name}"
                    graph.constants[key] = numpy.array(node.attributes[name])
                    given.append(key)
    return given


def attributes_agree(node: Node, wanted: Mapping[str, float]) -> bool:
    defaults = {"alpha": 0.2, "beta": 0.5}
    return all(
        math.isclose(node.attributes.get(key, defaults[key]), value, rel_tol=1e-5) for key, value in wanted.items()
    )


def rewrite(graph: OnnxGraph) -> None:
    """Replaces patterns by the operators that they stand for."""
    constants(graph)
    clean(graph)
    matcher = Matcher(graph)
    for operator, pattern, attributes in PATTERNS:
        for at, node in enumerate(graph.nodes):
            if node.operator != pattern[0]:
                continue
            matcher.found, matcher.used = {}, []
            if matcher.matches(pattern, node.outputs[0]) and is_alone(matcher, node):
                graph.nodes[at] = made = replacement(operator, attributes, node, matcher)
                matcher.makers[node.outputs[0]] = made
    biases(graph)
    clean(graph)


def constants(graph: OnnxGraph) -> None:
    """Moves the constants of nodes to those of the graph."""
    kept = []
    for node in graph.nodes:
        if node.operator == "Constant" and (found := constant_of(node)) is not None:
            graph.constants[node.outputs[0]] = found
        elif node.operator == "Identity" and node.inputs[0] in graph.constants and node.outputs[0] not in graph.outputs:
            graph.constants[node.outputs[0]] = graph.constants[node.inputs[0]]
        else:
            kept.append(node)
    graph.nodes = kept


def constant_of(node: Node) -> Any:
    import numpy

    for name, kind in (("value", None), ("value_float", "float32"), ("value_int", "int64")):
        if name in node.attributes:
            return numpy.asarray(node.attributes[name], kind)
    for name, kind in (("value_floats", "float32"), ("value_ints", "int64")):
        if name in node.attributes:
            return numpy.asarray(node.attributes[name], kind)
    return None


def is_alone(matcher: Matcher, last: Node) -> bool:
    """Whether nothing else uses what is made on the way."""
    used = {id(node): node for node in matcher.used}.values()
    taken = Counter(name for node in used for name in node.inputs)
    within = {name for node in used if node is not last for name in node.outputs}
    return all(matcher.users[name] == taken[name] for name in within)


def replacement(operator: str, attributes: Mapping[str, Any], node: Node, matcher: Matcher) -> Node:
    """The node for a pattern."""
    found, constants = matcher.found, matcher.graph.constants
    inputs, more = [found["x"]], dict(attributes)
    if operator == "LayerNormalization":
        axes = [int(axis) for axis in constants[found["#axes"]].reshape(-1)]
        inputs += [found["#w"], found["#b"]]
        more = {"axes": tuple(axes), "epsilon": float(constants[found["#eps"]].item())}
    return Node(operator, node.name, inputs, node.outputs, more, node.scopes, node.leaf)


def biases(graph: OnnxGraph) -> None:
    """An addition of constants after a product with weights or a convolution without a bias is its bias."""
    makers, users = graph.makers(), graph.users()
    gone: set[int] = set()
    for node in graph.nodes:
        if node.operator != "Add":
            continue
        for value, constant in (node.inputs, node.inputs[::-1]):
            first = makers.get(value)
            bias = graph.constants.get(constant)
            if first is None or bias is None or users[value] != 1 or len(first.inputs) != 2:
                continue
            weight = graph.constants.get(first.inputs[1])
            if weight is None or id(first) in gone:
                continue
            if first.operator == "MatMul" and weight.ndim == 2 and bias.shape == weight.shape[1:]:
                kind = "MatMul"
            elif first.operator == "Conv" and bias.size == weight.shape[0] and bias.ndim >= weight.ndim - 1:
                if [n for n in bias.shape if n != 1] not in ([weight.shape[0]], []) or bias.shape[
                    1 - weight.ndim
                ] != weight.shape[0]:
                    continue
                kind = "Conv"
                constant = f"{constant}/bias"
                graph.constants[constant] = bias.reshape(-1)
            else:
                continue
            gone.add(id(first))
            node.operator, node.inputs, node.attributes = kind, [*first.inputs, constant], first.attributes
            node.scopes, node.leaf, node.name = first.scopes, first.leaf, first.name
            break
    graph.nodes = [node for node in graph.nodes if id(node) not in gone]


def clean(graph: OnnxGraph) -> None:
    """Leaves out nodes whose results nothing uses."""
    wanted = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if wanted & {name for name in node.outputs if name}:
            kept.append(node)
            wanted |= set(node.inputs)
    graph.nodes = kept[::-1]
