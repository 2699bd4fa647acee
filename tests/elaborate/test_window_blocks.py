"""`windows` and `grid`: what their bodies meet, the sizes they need, what they cost and compute, and their errors."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from archdsl import SpecError, dims
from archdsl.analysis.costs import costs
from archdsl.analysis.memory import memory
from archdsl.analysis.receptive import receptive_fields
from archdsl.graph.verifying import BrokenGraph, verify
from archdsl.ops import BLOCKS
from archdsl.ops.base import Example, Rules
from archdsl.ops.partition import Cut, Join
from archdsl.report.explain import explain
from tests.helpers import graph_of, net_text
from tests.modules import class_of
from tests.ops.forms import Built
from tests.random_checks import holds

SIZES = "x[4, H = 12, W = 12]"


def valid(body: str, inputs: str = SIZES) -> str:
    return graph_of(net_text(body, inputs)).valid


@pytest.mark.parametrize(
    ("body", "sizes"),
    [
        ("windows(4) { linear(3) }", "H, W: multiples of 4"),
        ("windows(4x2) { linear(3) }", "H: multiples of 4; W: multiples of 2"),
        ("windows([4, 2]) { linear(3) }", "H: multiples of 4; W: multiples of 2"),
        ("grid(3) { linear(3) } -> windows(2) { relu }", "H, W: multiples of 6"),
        ("windows(4, pad) { linear(3) }", "any H, W"),
        ("windows(4, 1, pad) { linear(3) }", "any H, W"),
        ("conv(4, 3, pad = valid) -> windows(2) { relu }", "H, W: multiples of 2, at least 4"),
        ("windows(4) { windows(2) { relu } }", "H, W: multiples of 4"),
    ],
)
def test_valid_sizes(body: str, sizes: str) -> None:
    assert valid(body) == sizes


def test_a_window_must_fit_into_a_window() -> None:
    with pytest.raises(SpecError, match="`windows` of 3×3 needs multiples of 3: a size is 4"):
        graph_of(net_text("windows(4) { windows(3) { relu } }", SIZES))


def test_nodes_know_their_windows() -> None:
    graph = graph_of(net_text("a: conv(4, 1) -> windows(4) { windows(2) { b: relu } -> c: relu } -> d: relu", SIZES))
    found = {node.name: node for node in graph.nodes()}
    assert found["a"].samples == found["d"].samples == ()
    assert found["c"].windows is not None and found["b"].windows is not None
    assert found["b"].windows.around is found["c"].windows
    assert [dims.evaluate(d, graph.examples) for d in found["b"].samples] == [2, 2, 3, 3]
    moved = replace(found["d"], windows=found["c"].windows)
    graph.replace(moved)
    moved.scope.members[-1] = moved
    with pytest.raises(BrokenGraph, match="other windows"):
        verify(graph)


def test_costs_count_every_window() -> None:
    whole = graph_of(net_text("conv(6, 1)", SIZES))
    windows = graph_of(net_text("windows(4) { conv(6, 1) }", SIZES))
    nested = graph_of(net_text("windows(4) { grid(2) { conv(6, 1) } }", SIZES))
    padded = graph_of(net_text("windows(5, pad) { conv(6, 1) }", SIZES))
    assert costs(whole).total.macs == costs(windows).total.macs == costs(nested).total.macs == 12 * 12 * 24
    assert costs(padded).total.macs == 15 * 15 * 24
    saved = [memory(graph).saved.sample for graph in (whole, windows)]
    assert saved[0] == saved[1] == 4 * 12 * 12 * 4  # the input of the convolution


@pytest.mark.parametrize(
    ("body", "sizes"),
    [
        ("windows(4) { conv(4, 3) }", (2, 3)),
        ("windows(4) { conv(4, 5) -> conv(4, 5) }", (4, 4)),
        ("windows(4) { (it, global_avgpool) -> mul }", (4, 4)),
        ("windows(4) { conv(4, 3) } -> conv(4, 3)", (4, 5)),
        ("windows(4, shift = 2) { linear(4) }", (1, 1)),
        ("windows(4) { conv(4, 7) } -> windows(2) { gelu }", (4, 4)),
        ("windows(4) { windows(2) { conv(4, 3) } }", (2, 2)),
        ("windows(4) { grid(2) { conv(4, 3) } }", (3, 3)),
        ("grid(2) { conv(4, 3) }", (7, 7)),
    ],
)
def test_fields_stay_within_windows(body: str, sizes: tuple[int, int]) -> None:
    """Compared with the gradient: the elements of the input on which each element of the output depends."""
    graph = graph_of(net_text(body, "x[1, 12, 8]"))
    output = graph.outputs[0].tensor
    fields = receptive_fields(graph)[output]
    assert fields is not None
    (field,) = fields.values()
    module = class_of(graph)().double()
    x = torch.randn(1, 1, 12, 8, dtype=torch.float64, requires_grad=True)
    y = module(x).abs().sum(1)
    for i in range(12):
        for j in range(8):
            (seen,) = torch.autograd.grad(y[0, i, j], x, retain_graph=True)
            for axis, at in enumerate((i, j)):
                index = seen[0, 0].nonzero()[:, axis]
                low, high = field[axis].at(at)
                assert max(low, 0) == index.min() and min(high, (11, 7)[axis]) == index.max()
    assert field[0].extents(6) == sizes


def test_explanations_say_how_many_windows_there_are() -> None:
    said = explain(graph_of(net_text("windows(4) { a: conv(4, 3) }", SIZES)), "a")
    assert "Each of 9 windows is a sample of its own here." in said


# ---------------------------------------------------------------- what is computed


@pytest.mark.parametrize(("cls", "example"), [(cls, e) for cls in BLOCKS.values() for e in cls.examples])
def test_a_cut_and_its_join_undo_each_other(cls: type[Cut], example: Example) -> None:
    cut = cls.parse(example.arguments)
    (shape,) = example.inputs
    (size,) = cut.infer((shape,), Rules())
    x = torch.randn(2, *shape)
    windows = Built(cut, (shape,))(x)
    assert list(windows.shape) == [2 * prod(cut.counts(shape)), *size]
    assert Join(cut=cut).infer((size, shape), Rules()) == (shape,)
    assert torch.equal(Built(Join(cut=cut), (size, shape))(windows, x), x)
    assert cls.__doc__ and cut.caption(len(shape) - 1)


def windowed(x: Tensor, size: int) -> Tensor:
    """[N, C, H, W] → [N · windows, C, size, size], by PyTorch's unfold."""
    n, c, *_ = x.shape
    found = F.unfold(x, size, stride=size).reshape(n, c, size, size, -1)
    return found.permute(0, 4, 1, 2, 3).reshape(-1, c, size, size)


def folded(windows: Tensor, n: int, size: tuple[int, int]) -> Tensor:
    c, *kernel = windows.shape[1:]
    columns = windows.reshape(n, -1, c * kernel[0] * kernel[1]).transpose(1, 2)
    return F.fold(columns, size, tuple(kernel), stride=tuple(kernel))


def test_windows_are_those_of_unfold() -> None:
    graph = graph_of(net_text("windows(4, pad) { conv(6, 3) }", "x[4, 10, 7]"))
    module = class_of(graph)()
    x = torch.randn(3, 4, 10, 7)
    wanted = folded(module[next(iter(module))](windowed(F.pad(x, (0, 1, 0, 2)), 4)), 3, (12, 8))[:, :, :10, :7]
    torch.testing.assert_close(module(x), wanted)


def test_a_grid_takes_positions_from_afar() -> None:
    graph = graph_of(net_text("grid(2) { conv(4, 3) }", "x[4, 6, 8]"))
    module = class_of(graph)()
    conv = module[next(iter(module))]
    x = torch.randn(2, 4, 6, 8)
    y = module(x)
    for i in range(3):
        for j in range(4):
            torch.testing.assert_close(y[:, :, i::3, j::4], conv(x[:, :, i::3, j::4]))


def test_a_shift_rolls_before_and_back() -> None:
    graph = graph_of(net_text("windows(4, shift = 1x2) { batchnorm }", "x[4, 8, 4]"))
    module = class_of(graph)().train()
    x = torch.randn(2, 4, 8, 4)
    torch.testing.assert_close(module(x), F.batch_norm(x, None, None, training=True))


@pytest.mark.parametrize(
    ("inputs", "body"),
    [
        (
            "x[3, H = 9, W = 8]",
            "windows(4, pad) { conv(5, 3) -> batchnorm -> relu } -> windows(2, 1, pad) { linear(4) -> gelu }",
        ),
        (
            "x[3, T = 12]",
            "windows(4, shift = 1) { layernorm -> linear(6) -> droppath(0.5) } -> grid(3) { conv(2, 3) -> softmax }",
        ),
        ("x[2, 4, 6, 4]", "windows(2x3x2) { residual { conv(2, 3) -> batchnorm } } -> grid(2) { conv(3, 3) }"),
        (
            "x[4, 8, 8], y[2, 8, 8]",
            "(x, y) -> windows(4, pad) { concat -> conv(4, 3) -> (relu, tanh) } -> grid(2) { mul }",
        ),
        ("x[4, 8, 8]", "for i in 0..3 { windows(4, shift = i, pad) { linear(4) -> silu } }"),
        ("x[4, 8, 8]", "windows(4) { a: conv(4, 3) -> windows(2) { conv(4, 3) } -> b: conv(4, 3) }"),
        ("x[4, 8, 8]", "windows(4) { (it, global_avgpool -> conv(4, 1) -> sigmoid) -> mul }"),
        ("x[4, 8, 8]", "windows(8) { relu -> conv(4, 3) }"),
    ],
)
def test_every_form_computes_what_the_graph_says(inputs: str, body: str) -> None:
    counts = holds(graph_of(net_text(body, inputs)))
    assert not counts["plainer"]


ATTENTION = "linear(12) -> split(3) -> attend(2)"
BIASED = "(linear(12) -> split(3), parameter([2, 49], init = normal(1.0), stored = rows) -> relative(4)) -> attend(2)"


@pytest.mark.parametrize(
    ("inputs", "body"),
    [
        ("x[4, H = 7, W = 8]", f"windows(4, shift = 2, pad) {{ {ATTENTION} }}"),
        ("x[4, 8, 4]", f"for i in 0..2 {{ windows(4, 2 * i) {{ {BIASED} }} }}"),
        ("x[4, T = 9]", f"windows(3, 1) {{ {ATTENTION} }}"),
        ("x[2, 4, 4, 2]", f"windows(2, 1x0x1) {{ {ATTENTION} }}"),
        ("x[4, 8, 8]", f"grid(4) {{ {BIASED} }}"),
        ("x[4, 8, 8]", f"windows(4) {{ windows(2, 1) {{ {ATTENTION} }} }}"),
        ("x[4, 7, 8]", "for i in 0..2 { windows(4, 2 * i, pad) { layernorm -> attention(2) } }"),
        ("x[4, 8, 8]", "windows(4, 1) { (it, linear(2)) -> attention(2) }"),
    ],
)
def test_attention_among_windows_computes_what_the_graph_says(inputs: str, body: str) -> None:
    assert not holds(graph_of(net_text(body, inputs)))["plainer"]


@pytest.mark.parametrize("attention", [ATTENTION, "attention(2)"])
def test_strangers_do_not_see_each_other(attention: str) -> None:
    """Each output of shifted windows depends on no more than on what its receptive field says."""
    graph = graph_of(net_text(f"windows(4, shift = 1, pad) {{ {attention} }}", "x[4, 10, 12]"))
    field = next(iter((receptive_fields(graph)[graph.outputs[0].tensor] or {}).values()))
    module = class_of(graph)().double()
    x = torch.randn(1, 4, 10, 12, dtype=torch.float64, requires_grad=True)
    y = module(x).abs().sum(1)
    for i, j in ((0, 0), (1, 3), (4, 4), (9, 11), (5, 0), (0, 7)):
        (seen,) = torch.autograd.grad(y[0, i, j], x, retain_graph=True)
        for axis, at in enumerate((i, j)):
            index = seen[0].abs().sum(0).nonzero()[:, axis]
            low, high = field[axis].at(at) or (0, 0)
            assert (index.min(), index.max()) == (max(low, 0), min(high, (9, 11)[axis]))


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("body", "code", "message", "help"),
    [
        ("windows(5) { relu }", "E0302", "needs multiples of 5: a size is 16", "windows(5, pad = true)"),
        ("windows(4) { conv(4, 3, 2) }", "E0301", "must keep the size of a window, 4×4", "pad = same"),
        ("windows(4) { flatten }", "E0301", "must keep the size of a window", ""),
        ("windows(4) { }", "E0229", "the body of `windows` is empty", "add an operation"),
        ("windows(4, 4) { relu }", "E0302", "`shift` must be smaller than the window", "shift = 2"),
        ("windows(4, 1) { conv(4, 3) }", "E0302", "`conv` looks at other positions", "use `attention`"),
        ("windows(4, 1) { instancenorm }", "E0302", "`instancenorm` looks at other positions", "use `attention`"),
        ("a: relu\nwindows(4) { (it, a) -> add }", "E0239", "`a` is a tensor of the whole map", "(it, a) -> windows"),
        ("(it, conv(4, 3, 2)) -> windows(4) { add }", "E0301", "cut together need equal sizes", "align"),
        ("grid(4)", "E0201", "no operation, block or label named `grid`", "maps"),
        ("windows { relu }", "E0101", "found `{`", "windows(7)"),
        ("windows(4, padd) { relu }", "E0201", "no value named `padd`", "`pad`"),
        ("windows(4, shift = 1, 2) { relu }", "E0108", "a positional argument follows a named one", ""),
        ("flatten -> windows(4) { relu }", "E0302", "needs a tensor with spatial axes", ""),
        ("windows(4x4x4) { relu }", "E0302", "has 3 numbers", ""),
        ("windows(4, pad, pad) { relu }", "E0206", "`pad` is given twice", ""),
    ],
)
def test_errors(body: str, code: str, message: str, help: str) -> None:
    with pytest.raises(SpecError) as caught:
        graph_of(net_text(body))
    first = caught.value.diagnostics[0]
    assert first.code == code and message in first.message
    assert help in str(caught.value)


def test_words_are_keywords_by_their_place_alone() -> None:
    text = net_text("windows: relu -> grid: conv(4, 1)\nwindows -> pad: relu\n(it, grid) -> add")
    assert [n.name for n in graph_of(text).nodes()][1:4] == ["windows", "grid", "pad"]


def test_a_switch_is_turned_on_by_its_name() -> None:
    on = graph_of(net_text("conv(4, 1) -> maxpool(3, 2, ceil)"))
    assert [n.operation.caption() for n in on.nodes()][2] and on.root.outputs
    assert [getattr(n.operation, "ceil", None) for n in on.nodes()] == [None, None, True]
