"""Random networks of everything that a spec can say: what is built is what the graph says, in every form.

Held against an interpretation of the graph (tests/interpreter.py), which shares nothing with the generator: the keys,
shapes, types and starts of the state_dict; outputs and gradients in evaluation, at two sizes where sizes are free;
outputs, gradients and statistics of a step of training; the form for inference with `fold_batchnorms`; the forms that
recompute dense connections and blocks. Numbers are in double precision and agree within 1e-9.

By default these are 60 seeds. `make test-long` takes 20,000, an hour on one core; docs/proof.md says what has been
run. Four in five of the seeds are a network; these have 32 nodes on average, 700 at most. What fails is made
small by `python -m tests.shrinking FIRST LAST`.
"""

from __future__ import annotations

import gc
import keyword
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from archdsl.backends.torch_source import write_module
from archdsl.graph import Graph, Node, Scope
from archdsl.ops import OPERATIONS
from tests import random_checks
from tests.helpers import graph_of, net_text
from tests.interpreter import Interpreter
from tests.ops.forms import Built, tensors
from tests.random_checks import Held, Wrong, holds
from tests.random_specs import spec, takes_long

QUICK, SHARD, LONG = 20, 1_000, 20_000
SHARE = 0.75
"""The minimum fraction of seeds that give a network; it is 0.86 of many, and less in a small sample."""
PLAINER = 0.02
"""The maximum fraction of networks that are not proved at the first attempt; two may be in a small sample."""
TINY = 0.1
"""The maximum fraction of tensors that are below the tolerance."""
ROUNDED = 0.03
"""The maximum fraction of networks with a tensor that is sensitive to rounding; 48 of 4,273 networks were (1.1 %).

Tensors are no measure: 1,180 of the 1,599 among the seeds 8,000 – 8,999 are of one network of 18 attentions in turn.
"""
OVERFLOWING = 0.05
"""The maximum fraction of networks with numbers so large that their comparison says nothing."""

WRITTEN = {
    "for": r"^ *for ",
    "no round": r"(repeat 0|in 0\.\.0|in 1\.\.=0) ",
    "else if": r"^ *else if ",
    "residual via": r"residual via ",
    "residual if": r"residual if ",
    "dense": r"dense \{",
    "pattern": r"\): split\(",
    "list": r"-> \w+: it ->",
    "branch a round": r"\((?:.*, )?for \w+ in ",
    "branch by a condition": r"[(,] ?if ",
    "share": r"^ *share ",
    "scope": r"(?:^|: )scope \{",
    "computed label": r'"[^"]*\{\w+\}[^"]*": ',
    "dotted label": r'"[^"{]*\.[^"{]*": ',
    "label with two dots": r'"[^"{]*\.[^"{]*\.[^"]*": ',
    "label with -": r'"a-b',
    "let": r"^ +let ",
    "default": r"^ *default ",
    "block in a parameter": r"\((?:.*[ (=])?(?:thin|plain)[,)]",
    "word in a parameter": r"= (?:crop|pad|valid|same|nearest|bilinear)[,)]",
    "family": r"^model \w+ = ",
    "output of training": r"^ +output .* if training",
    "renamed output": r"^ +output .*\w = \w",
    "import": r"^from ",
    "extern": r"(?:^|-> |: )outside\(",
    "extern fn": r"-> (?:bend|blend)\(",
    "part of a list of tensors": r"\w\[[\w()]+\.\.[^\]]*\](?: ->| \{|,|\))",
    "tensors of a list in zip": r"for \w+, \w+ in zip\(\w+, \[2, 4, 6, 2, 4\]",
    "list into a block": r"in enumerate\(it\)",
    "share of a body": r"^ *share .*\{$",
    "bias for parts": r"linear\([^)]*bias = \[",
}


def features(text: str, graph: Graph) -> set[str]:
    """The language features that a network uses."""
    found = {name for name, pattern in WRITTEN.items() if re.search(pattern, text, re.MULTILINE)}
    shapes = [n.shapes[0] for n in graph.input_nodes]
    found |= {f"{len(shape) - 1} axes" for shape in shapes if isinstance(shape, tuple)}
    found |= {"free sizes"} if graph.free else {"pinned sizes"}
    found |= {"several inputs"} if len(shapes) > 1 else set()
    found |= {"several outputs"} if len(graph.outputs) > 1 else set()
    attending = [n for n in graph.nodes() if n.operation.attends]
    found |= {"attention in windows"} if any(n.windows for n in attending) else set()
    found |= {"attention in shifted windows"} if any(is_masked(graph, n) for n in attending) else set()
    found |= {f"{n.operation.name} of {len(n.inputs)}" for n in attending}
    found |= {"attention to other positions"} if any(looks_elsewhere(graph, n) for n in attending) else set()
    again = {n.operation.name for nodes in graph.called_again().values() for n in nodes}
    found |= {f"shared {kind}" for kind in ("attention", "batchnorm", "conv", "linear") if kind in again}
    parts = max((len(n.inputs) for n in graph.nodes()), default=0)
    found |= {f"merge of {n} parts or more" for n in (5, 50, 200) if parts >= n}
    calls: dict[int, set[str]] = {}
    for scope in graph.root.scopes():
        names = [scope.name, *(m.name for m in scope.members)]
        found |= {"name of 40 characters or more"} if max(map(len, names)) >= 40 else set()
        found |= {"keyword of Python"} if any(keyword.iskeyword(n) for n in names) else set()
        if scope.definition is not None and scope.kind == "block":
            given = ", ".join(f"{k}={v}" for k, v in sorted(scope.arguments.items()))
            calls.setdefault(id(scope.definition.syntax), set()).add(given)
            found |= {"recursion"} if is_inside_itself(scope) else set()
    found |= {"block called with other arguments"} if any(len(c) > 1 for c in calls.values()) else set()
    return found


def is_masked(graph: Graph, node: Node) -> bool:
    """Whether it keeps strangers in a shifted window apart."""
    return any(graph.node(t).operation.name == "strangers" for t in node.inputs)


def looks_elsewhere(graph: Graph, node: Node) -> bool:
    shapes = graph.shapes(node.inputs)
    return len(shapes) > 1 and shapes[0][1:] != shapes[1][1:]


def is_inside_itself(scope: Scope) -> bool:
    outer = (s.definition for s in list(scope.calls())[1:] if s.definition is not None)
    return scope.definition is not None and any(d.syntax is scope.definition.syntax for d in outer)


def arguments(graph: Graph) -> set[tuple[str, str]]:
    """The operation arguments with other values than their defaults."""
    operations = {id(n.operation): n.operation for n in graph.nodes()}.values()
    return {
        (op.name, name)
        for op in operations
        for name, parameter in type(op).fields.items()
        if parameter.is_required or getattr(op, name) != parameter.default
    }


def collected_seldom(seeds: range) -> Iterator[int]:
    """The seeds, with garbage collected once in twenty: else a fifth of the time is spent on what torch holds."""
    gc.disable()
    try:
        for seed in seeds:
            if seed % 20 == 0:
                gc.collect()
            yield seed
    finally:
        gc.enable()


def hold(seeds: range) -> tuple[Counter[str], Counter[tuple[str, str]], Counter[str]]:
    """Compares the networks of these seeds: counts of forms, arguments and features."""
    counts: Counter[str] = Counter()
    given: Counter[tuple[str, str]] = Counter()
    met: Counter[str] = Counter()
    wrong: list[str] = []
    for seed in collected_seldom(seeds):
        found = spec(seed)
        if found is None:
            continue
        text, graph = found
        counts["networks"] += 1
        counts["nodes"] += len(graph)
        met.update(features(text, graph))
        met.update({n.operation.name for n in graph.nodes()})
        given.update(arguments(graph))
        try:
            these = holds(graph)
            counts += these
            counts["networks with overflow"] += these["overflow"] > 0
            counts["networks with rounding"] += these["hang on rounding"] > 0
        except Wrong as error:
            wrong.append(f"seed {seed}: {error}\n{text}")
    assert not wrong, f"{len(wrong)} of {counts['networks']} networks are built wrong\n" + "\n".join(wrong[:3])
    assert counts["networks"] >= SHARE * len(seeds)
    assert counts["plainer"] <= max(2, PLAINER * counts["networks"])
    assert counts["networks with rounding"] <= max(3, ROUNDED * counts["networks"]), "networks with rounding"
    assert counts["networks with overflow"] <= max(4, OVERFLOWING * counts["networks"])
    assert counts["tensors below the tolerance"] <= TINY * counts["tensors"]
    return counts, given, met


SMALL = """
    model m {
        input x[3, H = 6, W = 6]
        conv(4, 3) -> norm: batchnorm -> relu
        residual { conv(4, 3, pad_mode = reflect) -> batchnorm -> silu -> droppath(0.2) }
        fixed: conv(4, weight = [[1, 2, 1]], bias = false, trainable = false)
    }
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("self.norm", "self.norm_", "keys"),
        ("nn.BatchNorm2d(4", "nn.BatchNorm2d(4, eps=1e-4", "evaluation: output"),
        ("nn.BatchNorm2d(4", "nn.BatchNorm2d(4, momentum=0.2", "training: .*running_mean"),
        ("nn.ReLU(inplace=True)", "nn.SiLU()", "evaluation: (output|gradient)"),
        ("reflect", "replicate", "evaluation: output"),
        ("frozen=True", "frozen=False", "is built as"),
        ("DropPath(0.2)", "DropPath(0.1)", "training: output"),
        ("1, 2, 1", "1, 3, 1", "starts from"),
    ],
)
def test_what_is_built_wrong_is_found(old: str, new: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: Any, **named: Any) -> str:
        text = write_module(*arguments, **named)
        return text.replace(old, new)

    graph = graph_of(SMALL)
    assert old in write_module(graph)
    holds(graph)
    monkeypatch.setattr(random_checks, "write_module", wrong)
    monkeypatch.setattr(random_checks, "prove", lambda *given, **more: None)  # it would be found first
    with pytest.raises(Wrong, match=message):
        holds(graph)


def test_numbers_whose_squares_overflow_count_as_overflow() -> None:
    """PyTorch's layer normalisation gives nan then; the module is not built wrong."""
    body = "input x[3, 4, 4]\n repeat 9 { (it, it) -> mul }\n layernorm"
    counts = holds(graph_of(f"model m {{ {body} }}"))
    assert counts["overflow"] > 0
    calm = holds(graph_of(f"model m {{ {body.replace('9', '2')} }}"))
    assert calm["tensors"] == counts["tensors"] and not calm["overflow"]


def test_a_network_with_more_elements_than_a_float_can_count_takes_long() -> None:
    body = "repeat {} {{ upsample(100) }}"
    assert [takes_long(graph_of(net_text(body.format(n), "x[1, 1, 1]"))) for n in (1, 90)] == [False, True]


ROUNDS = "conv(4, 1) -> batchnorm\n repeat 5 { (it, it) -> mul }"
"""The gradient of the bias is 0, and off by the rounding of numbers as large as those behind the batchnorm."""


def test_only_few_networks_may_hang_on_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [net_text(body) for body in (ROUNDS, ROUNDS.replace("batchnorm", "tanh"))]
    restless, calm = ((text, graph_of(text)) for text in texts)
    monkeypatch.setattr("tests.test_random_specs.spec", lambda seed: restless if seed < 4 else calm)
    counts, _, _ = hold(range(1, 5))
    assert counts["networks"] == 4 and counts["networks with rounding"] == 3
    with pytest.raises(AssertionError, match="networks with rounding"):
        hold(range(5))


@pytest.mark.parametrize(
    ("body", "inputs", "gradients"),
    [
        (
            "repeat 6 { rescale(100, 0) -> attention(1) }",
            "x[4, T = 5]",
            False,
        ),  # where one score is far above the others
        ("repeat 12 { rescale(10, 0) -> attention(1) }", "x[4, T = 1]", True),  # where there is one
    ],
)
def test_weights_of_attention_that_are_1_hang_on_no_rounding(body: str, inputs: str, gradients: bool) -> None:
    """Else what is measured grows from layer to layer, and any number would be right.

    PyTorch rounds the gradients of scores far above the others; seed 7639 has one of 10^47 for 0.
    """
    held = Held(graph_of(net_text(body, inputs)))
    held.keys = random_checks.says(held.graph)
    held.state = random_checks.filled(held.keys)
    (sizes, *_) = held.sizes()
    (exact, _), (other, _) = (held.graph_run(sizes, False, gradients, by) for by in (0.0, random_checks.ROUNDING))
    for name, x in exact.items():
        changed = other[name]
        assert x is not None and changed is not None
        assert random_checks.size(changed - x) < 1e-8 * max(1.0, random_checks.size(x)), name


@pytest.mark.parametrize("name", [name for name in OPERATIONS if hasattr(Interpreter, f"_{name}")])
def test_what_is_not_interpreted_by_hand_is_run_by_its_form(name: str) -> None:
    for example in OPERATIONS[name].examples:
        operation = OPERATIONS[name].parse(example.arguments)
        built = Built(operation, example.inputs, dtype=torch.float64)
        state = {f"path{key.removeprefix('op')}": tensor for key, tensor in built.state_dict().items()}
        interpreter = Interpreter(graph_of(SMALL), state, {})
        given = [x.double() for x in tensors(example.inputs)]
        by_hand = getattr(interpreter, f"_{name}")(operation, "path", *given)
        by_form = interpreter.by_its_form(operation, "path", *given)
        torch.testing.assert_close(list(by_form), list(by_hand), equal_nan=True)


EVERY = {*WRITTEN, *OPERATIONS, "1 axes", "2 axes", "3 axes", "free sizes", "pinned sizes", "several inputs"}
EVERY |= {"several outputs", "merge of 5 parts or more", "keyword of Python", "recursion"}
EVERY |= {"attention in windows", "attention in shifted windows", "attention to other positions"}
EVERY |= {*(f"attention of {n}" for n in (1, 2, 3, 4)), "attend of 3", "attend of 4"}
EVERY |= {*(f"shared {kind}" for kind in ("attention", "batchnorm", "conv", "linear"))}
EVERY |= {"block called with other arguments", "name of 40 characters or more"}


@pytest.mark.parametrize("first", [0, QUICK])
def test_what_is_built_is_what_the_graph_says(first: int) -> None:
    hold(range(first, first + QUICK))


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, LONG, SHARD))
def test_what_is_built_is_what_the_graph_says_of_many(first: int) -> None:
    counts, given, met = hold(range(first, first + SHARD))
    print(counts)
    few = {name: met[name] for name in EVERY if met[name] < 3}
    assert not few, f"hardly met: {few}"
    every = {(op.name, name) for op in OPERATIONS.values() for name in op.fields}
    assert every - given.keys() == {("stdconv", "init")}, "only what is refused is not drawn"
