"""The generated module of any graph: odd names, blocks that call each other, sizes, what is overwritten in place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch
from torch import nn

from archdsl.backends.torch_source import write_module
from archdsl.backends.torch_source.names import is_attribute, is_owned
from archdsl.compiler import check, prove_build
from tests import random_blocks
from tests.helpers import ROOT, graph_of, net_text, random_graph
from tests.modules import class_of, inputs
from tests.random_checks import READABLE, holds

GOLDEN = ROOT / "tests" / "golden"


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "vgg16_bn", "fcdensenet103", "edges", "lenet"])
def test_golden(name: str, update: bool) -> None:
    path = GOLDEN / f"{name}.py"
    source = write_module(check(f"{name.rstrip('_bn0123456789')}:{name}"))
    if update:
        path.write_text(source, encoding="utf-8")
    assert source == path.read_text(encoding="utf-8")


def test_the_same_bytes_whatever_the_hash_seed() -> None:
    code = "import sys, archdsl; sys.stdout.buffer.write(archdsl.build(archdsl.check('densenet:densenet121')).encode())"
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, capture_output=True, check=True, env={"PYTHONHASHSEED": s}) for s in ("1", "2")]
    assert runs[0].stdout == runs[1].stdout != b""


# ---------------------------------------------------------------- any graph


# The network of seed 0 takes longer than the others together.
@pytest.mark.parametrize("seed", [*range(1, 6), *(pytest.param(s, marks=pytest.mark.long) for s in (0, *range(6, 60)))])
def test_random_blocks(seed: int) -> None:
    _, graph = random_graph(random_blocks.network, Random(seed), nodes=600, weights=300_000)
    holds(graph, READABLE)


ODD_NAMES = """
    block train(x) { forward: conv(x, 3) -> "state_dict": conv(x, 3) -> "a-b": batchnorm -> "_modules": conv(x, 1) }
    block tensor(class, range) { "in": conv(class, 1) -> "__mangled": conv(range, 1) -> scale -> "gains.0": scale }
    model net(type = 2) {
        input super[2, 8, 8], image[2, 8, 8]
        (super, image) -> concat
        train(4) -> train(6) -> "modules.0": train(3) -> "modules.1": tensor(3, 4) -> tensor(4, 5)
        children: { conv(3, 1) -> "1x": conv(2, 1) }
        "parameters.x": { "half": conv(3, 1) -> relu -> conv(2, 1) }
    }
"""
SEVERAL_OUTPUTS = """
    block head(n) { global_avgpool -> flatten -> fc: linear(n) }
    model net {
        input x[3, 8, 8]
        stem: conv(8, 3) -> relu
        middle: conv(8, 3)
        side: head(3)
        middle -> relu -> logits: head(5)
        output logits, count = stem, aux = side if training, spare = middle if training
    }
"""
TWO_SIZES = """
    block up {
        input small[C, _, _], large[_, H, W]
        small -> resize(to = large.size) -> wide: conv(C, 3)
        (it, large) -> concat
    }
    model net {
        input x[2, H = 17, W = 11]
        a: conv(3, 3)
        b: maxpool(2)
        (b, a) -> up
        c: conv(4, 3, stride = 2)
        c -> resize(to = x.size)
    }
"""
GATES = """
    block gate(width) {
        input x[C, H, W], g[_, H, W]
        (x -> conv(width, 1), g -> conv(width, 1)) -> add -> relu -> conv(1, 1) -> sigmoid
        (x, it) -> mul
    }
    model net {
        input x[4, 8, 8]
        skip: conv(3, 3)
        deep: conv(6, 3)
        (skip, deep) -> gate(2)
        (it, deep) -> gate(3)
        (it, deep) -> concat -> relu -> slice(0, 6) -> (left, right): split(2)
        (right, left) -> sub -> squeeze: { (it, it -> global_avgpool -> conv(3, 1) -> sigmoid) -> mul }
    }
"""
RECURSION = """
    block unit(width, stride) {
        residual via skip: { if stride != 1 or it.channels != width { conv(width, 1, stride) } } {
            conv: conv(width, 3, stride) -> bn: batchnorm -> relu
        }
    }
    block level(width, depth) {
        a: unit(width, 1)
        if depth > 0 { (it, { maxpool(2) -> inner: level(2 * width, depth - 1) -> upsample(2) }) -> align -> concat }
    }
    block grow(count) { for i in 0..count { dense { "layer{i}": conv(2, 3) } } }
    model net {
        input x[2, H = 16, W = 24]
        level(2, 2)
        grow(3) -> grow(5)
        "half-way": conv(3, 1)
        global_avgpool -> flatten
    }
"""


LOOPS = {
    "parameters": "linear(8) -> tanh\nrepeat 4 { scale(0.5) }\nlinear(8)",
    "parameters and others": "for i in 0..4 { scale(0.5) -> gelu }\nconv(8, 3)",
    "buffers": """
        repeat 2 {
            linear(36) -> split(3) -> (a, b, c): it
            (a, b, c, parameter([1, 15], init = ones, stored = rows) -> relative(2x3, stored = matrix)) -> attend(1)
        }
    """,
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_over_numbered_members(name: str) -> None:
    holds(graph_of(f"model net {{\ninput x[12, 6]\n{LOOPS[name]}\n}}"), READABLE)


SHARED_NORM = """
    model net {
        input x[4, H = 8, W = 8]
        share n: batchnorm
        residual via n { conv(4, 3) -> n }
        relu
    }
"""


def test_a_shared_batchnorm_counts_in_the_order_of_the_spec() -> None:
    holds(graph_of(SHARED_NORM), READABLE)


WIDTHS = """
    block attending {
        (conv(6, 1), avgpool(2)) -> (asks, memory): { }
        (asks, memory -> conv(3, 1), memory) -> attention(1)
    }
    model net {
        input x[4, H = 8, W = 8]
        attending
        attending
    }
"""


def test_one_class_for_attention_to_several_widths() -> None:
    assert prove_build(graph_of(WIDTHS)).plainness == 0


@pytest.mark.parametrize("text", [ODD_NAMES, SEVERAL_OUTPUTS, TWO_SIZES, GATES, RECURSION])
def test_odd_networks(text: str, tmp_path: Path) -> None:
    graph = graph_of(text)
    holds(graph, READABLE)
    (tmp_path / "net.py").write_text(write_module(graph), encoding="utf-8")
    for command in (["ruff", "check"], ["ruff", "format", "--diff"]):
        done = subprocess.run(
            [sys.executable, "-m", *command, "--isolated", "net.py"], cwd=tmp_path, capture_output=True
        )
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_one_class_calls_itself() -> None:
    source = write_module(graph_of(RECURSION))
    assert source.count("class Level") == source.count("class Unit") == source.count("class Grow") == 1


def test_outputs_of_training_are_none_else() -> None:
    graph = graph_of(SEVERAL_OUTPUTS)
    model = class_of(graph)()
    (x,) = [x.float() for x in inputs(graph)]
    trained, given = model(x), model.eval()(x)
    assert trained.aux.shape == (2, 3) and trained.spare.shape == (2, 8, 8, 8)
    assert given._fields == ("logits", "count_", "aux", "spare")
    assert given.aux is None and given.spare is None and given.logits.shape == (2, 5)


HOSTILE = [
    '"""',
    "\\",
    'ends with "',
    '"starts',
    "a\nb\n\n  c ",
    "\x00\u202e\u2028",
    "{x} %s",
    "x" * 200,
    "word " * 60,
    "\\N{DASH}",
]


@pytest.mark.parametrize("doc", HOSTILE)
def test_documentation_is_data(doc: str) -> None:
    written = "".join(c if c.isprintable() and c not in '"\\' else f"\\u{ord(c):04x}" for c in doc)
    graph = graph_of(f'model net {{\n "{written}"\n input x[1, 4, 4]\n a: conv(1, 1)\n}}')
    found = class_of(graph).__doc__
    assert found is not None and found.split() == doc.split()


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("unet:unet_padded", (3, 96, 9), "unet_padded: W must be a multiple of 16, got 9; the nearest is 16"),
        (
            "unet:unet",
            (1, 188, 190),
            "unet: W must be ≡ 12 (mod 16), at least 188, got 190; the nearest are 188 and 204",
        ),
        ("alexnet:alexnet", (3, 40, 224), "alexnet: H must be at least 63, got 40; the nearest is 63"),
    ],
)
def test_sizes_of_the_input_are_checked(spec: str, shape: tuple[int, ...], message: str) -> None:
    model = class_of(check(spec))(device="meta")
    with pytest.raises(ValueError) as caught:
        model(torch.empty(1, *shape, device="meta"))
    assert str(caught.value) == message


def test_a_model_for_every_size_does_not_check() -> None:
    assert "check_size" not in write_module(check("resnet:resnet18"))


# ---------------------------------------------------------------- in place


@pytest.mark.parametrize(
    ("body", "overwrites"),
    [
        ("conv(2, 1) -> relu", True),
        ("relu", False),  # the caller's tensor
        ("a: conv(2, 1) -> relu\n (it, a) -> add", False),  # read again
        ("sigmoid -> relu", False),  # its gradient needs its result
        ("conv(2, 1) -> silu", False),  # keeps a copy of its input
        ("conv(2, 1) -> leaky_relu(-0.1)", False),  # its gradient needs the sign of the input
        ("conv(4, 1) -> slice(0, 2) -> relu", False),  # a view
        ("conv(2, 1) -> dropout(0.5) -> relu", False),  # the same tensor in eval mode
        ("conv(2, 1) -> droppath(0.5) -> relu", True),
        ("conv(2, 1) -> droppath(0) -> relu", True),
        ("sigmoid -> droppath(0) -> relu", False),  # the same tensor in training, too
        ("a: conv(2, 1)\n droppath(0.5) -> relu\n (it, a) -> add", False),  # the same tensor in eval mode
        ("residual { conv(2, 1) } \n relu", True),
    ],
)
def test_activations_overwrite_where_nothing_else_needs_their_input(body: str, overwrites: bool) -> None:
    graph = graph_of(net_text(body, "x[2, 4, 4]"))
    assert ("inplace=True" in write_module(graph)) is overwrites
    holds(graph, READABLE)


def test_droppath_of_nothing_draws_no_numbers() -> None:
    graph = graph_of(net_text("conv(2, 1) -> droppath(0)", "x[2, 4, 4]"))
    model = class_of(graph)(dtype=torch.double).train()
    before = torch.get_rng_state()
    model(*inputs(graph))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("body", "grows"),
    [
        ("residual { conv(2, 1) -> batchnorm }", True),
        ("residual { conv(2, 1) -> relu }", False),  # relu's gradient needs its result
        ("residual { conv(2, 1) -> sigmoid }", False),
        ("a: conv(2, 1)\n b: conv(2, 1)\n (a, b) -> add\n (it, a, b) -> concat", False),
        ("(conv(2, 1), conv(1, 1)) -> mul", False),
    ],
)
def test_sums_grow_in_place_where_nothing_else_needs_the_operand(body: str, grows: bool) -> None:
    graph = graph_of(net_text(body, "x[2, 4, 4]"))
    assert (" += " in write_module(graph)) is grows
    holds(graph, READABLE)


# ---------------------------------------------------------------- ready for torch.compile and export


def test_compiles_without_a_break_and_exports_with_free_sizes() -> None:
    graph = graph_of(RECURSION)
    model = class_of(graph)().eval()
    (x,) = [x.float() for x in inputs(graph)]
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    auto = torch.export.Dim.AUTO
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: auto, 2: auto, 3: auto},)).module()
    other = torch.randn(5, 2, 36, 20)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))
        torch.testing.assert_close(exported(other), model(other))


# ---------------------------------------------------------------- names and lines


def test_knows_what_every_module_owns() -> None:
    owned = set(dir(nn.Sequential())) | set(dir(nn.Module()))
    assert all(is_owned(name) for name in owned)
    assert not any(is_attribute(name) for name in owned)


@pytest.mark.parametrize("merge", ["add", "mul", "sub", "maximum", "mean"])
@pytest.mark.parametrize("count", [3, 17, 400])
def test_merges_of_any_number_of_tensors(merge: str, count: int) -> None:
    holds(
        graph_of(f"model net {{\n input x[{count}, 2, 2]\n conv({count}, 1) -> split({count}) -> {merge}\n relu\n}}"),
        READABLE,
    )


def test_merges_of_long_names() -> None:
    names = [f"deep_supervision_head_{n}" for n in range(1, 5)]
    heads = "\n".join(f"x -> {name}: conv(2, 1)" for name in names)
    text = f"{heads}\n({', '.join(names)}) -> average: mean\n average -> last: relu\n output last, {', '.join(names)}"
    holds(graph_of(net_text(text, "x[2, 4, 4]")), READABLE)


@pytest.mark.parametrize(
    "body",
    [
        "residual via skip: { factor: scale() } { conv: conv(4, 1) }",
        'residual via "l.2": { c: conv(4, 1) } { ("l.0": { c: conv(4, 3) }, "l.1": { c: conv(4, 5) }) -> add }',
    ],
)
def test_a_skip_may_be_a_learned_factor_or_an_element_of_a_list(body: str) -> None:
    graph = graph_of(net_text(body, "x[4, 8, 8]"))
    assert {*class_of(graph)().state_dict()} == {weight.key(node.path) for node, weight in graph.weights()}
