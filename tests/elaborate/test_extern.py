"""`extern`: what a declaration says of a call, and what is wrong with one."""

from __future__ import annotations

import pytest

from archdsl import build
from archdsl.analysis.costs import costs
from archdsl.analysis.receptive import receptive_fields
from archdsl.compiler import diff, prove_build
from archdsl.diagnostics import SpecError
from archdsl.dims import text
from archdsl.graph import Graph, Tensor
from archdsl.report.compare.rendering import table, totals
from archdsl.report.explain import explain
from archdsl.report.layers import Layers, Options
from tests.helpers import graph_of, net_text

DEFORM = """extern deform(out, kernel = 3, bias = true) = "torchvision.ops:DeformConv2d" {
    "A convolution whose taps move."
    input x[C, H, W], offset[2 * kernel * kernel, H, W]
    let half = kernel // 2
    call (C, out, kernel, padding = half, bias = bias)
    weight weight[out, C, kernel, kernel]
    weight bias[out] if bias
    macs C * kernel * kernel
    field (kernel, pad = half)
    output [out, H, W]
}"""
SHRINK = """extern fn shrink(factor) = "mine.layers:shrink" {
    input x[C, H, W]
    output [C, H / factor, W / factor]
}"""


def extern(*lines: str, head: str = 'extern odd(n) = "mine:Odd"') -> str:
    return "\n".join([head + " {", *lines, "}"])


def net(body: str, before: str, size: str = "x[4, H = 16, W = 16]") -> Graph:
    return graph_of(net_text(body, size, before))


def error(body: str, before: str, size: str = "x[4, H = 16, W = 16]") -> tuple[str, str]:
    """The code and the message of the only error."""
    with pytest.raises(SpecError) as caught:
        net(body, before, size)
    (found,) = caught.value.diagnostics
    return found.code, found.message


def sizes(graph: Graph) -> list[list[str]]:
    *_, last = graph.nodes()
    return [[text(d) for d in graph.shape(Tensor(last.id, i))] for i in range(len(last.shapes))]


# ---------------------------------------------------------------- what it says


def test_sizes_and_weights_are_those_declared() -> None:
    graph = net("(it, conv(18, 3)) -> d: deform(8)", DEFORM)
    assert sizes(graph) == [["8", "H", "W"]]
    weights = [(w.key(n.path), w.shape) for n, w in graph.weights()][2:]
    assert weights == [("d.weight", (8, 4, 3, 3)), ("d.bias", (8,))]
    graph = net("(it, conv(18, 3)) -> d: deform(8, bias = false)", DEFORM)
    assert [w.key(n.path) for n, w in graph.weights()][2:] == ["d.weight"]


def test_divisions_narrow_the_valid_sizes() -> None:
    graph = net("shrink(4)", SHRINK)
    assert sizes(graph) == [["4", "⌊H/4⌋", "⌊W/4⌋"]]
    assert graph.valid == "H, W: multiples of 4"


def test_two_inputs_must_agree() -> None:
    assert net("(it, conv(18, 3, stride = 1)) -> deform(8)", DEFORM)
    code, message = error("(it, conv(18, 3, stride = 2)) -> deform(8)", DEFORM, "x[4, 16, 16]")
    assert code == "E0301" and "`offset` of `deform` is [18, 8, 8]; 8 here should be 16 (net.arch, line 3:" in message


def test_values_blocks_and_loops_pass_their_numbers() -> None:
    before = f"{SHRINK}\nblock unit(width, layer) {{ conv(width, 3) -> layer(2) }}\nlet widths = [4, 8]"
    graph = net("for w in widths { unit(w, shrink) }", before, "x[4, 16, 16]")
    assert sizes(graph) == [["8", "4", "4"]]
    assert prove_build(graph).plainness == 0
    assert build(graph).count(", factor=2)") == 1


def test_functions_and_constants_of_the_file_count() -> None:
    before = "let twice = 2\nfn grown(n, by = twice) = n * by + (1 if n > 100 else 0)\n"
    before += extern("input x[C, H, W]", "output [grown(C), max(H, 2) - 1, W ** 1]", "call ([C, n][1], n..5)")
    graph = net("odd(3)", before, "x[4, 16, 16]")
    assert sizes(graph) == [["8", "15", "16"]]
    assert prove_build(graph).plainness == 0


def test_several_results_have_names_in_a_pattern() -> None:
    before = extern("input x[C, H, W]", "output a[n, H, W], b[C - n, H, W]")
    graph = net("(l, r): odd(1)\n(r, l) -> concat", before)
    assert sizes(graph) == [["4", "H", "W"]]
    assert prove_build(graph).plainness == 0


def test_a_function_may_take_free_sizes() -> None:
    before = extern(
        "input x[C, H, W]", "call ([2 * H, W], n)", "output [C, 2 * H, W]", head='extern fn odd(n) = "mine:odd"'
    )
    assert "call_outside(what, odd, x, (2 * h, w), n)" in build(net("odd(3)", before))


def test_names_of_python_do_no_harm() -> None:
    lines = ["input self[C, lambda, W]", "let class = type + 1", "call (type, super, C)", "output [C, lambda, class]"]
    before = extern(*lines, "weight w[type]", head='extern Conv2d(type, super = 3, _x = 1) = "mine:Tensor"')
    graph = net("Conv2d(15)\nTensor: { conv(4, 1) }", before, "x[4, 16, 16]")
    assert prove_build(graph).plainness == 0
    compile(build(graph), "net.py", "exec")


def test_equal_names_in_one_file_are_told_apart() -> None:
    lines = ["input x[C, H, W]", "output [C, H, W]"]
    before = "\n".join(
        extern(*lines, head=f'extern {name} = "{target}"')
        for name, target in [("a_b", "p:Blur"), ("aB", "q:Blur"), ("Net", "p:Blur"), ("c", "q:Dynamic")]
    )
    graph = net("a_b -> aB -> Net -> c -> conv(4, 1)", before)
    found = prove_build(graph)
    assert found.plainness == 0 and "from q import Blur as Blur2" in found.text


def test_names_of_the_files_own_helpers_are_told_apart() -> None:
    lines = ["input x[C, H, W]", "output [C, H, W]"]
    targets = {"a": "timm.layers:DropPath", "partial": "p:wraps", "crop": "p:crop_to_smallest", "drop_path": "p:D"}
    before = "\n".join(extern(*lines, head=f'extern {name} = "{target}"') for name, target in targets.items())
    body = (
        "a -> partial -> (conv(4, 3), conv(4, 3, pad = 0)) -> align(crop) -> add -> drop_path -> droppath(0.1)\ncrop()"
    )
    found = prove_build(net(body, before))
    assert found.plainness == 0
    for line in ("timm.layers import DropPath as DropPath2", "p import crop_to_smallest as crop_to_smallest_"):
        assert f"from {line}\n" in found.text


# ---------------------------------------------------------------- reports


def test_cost_and_field_are_those_declared_or_unknown() -> None:
    body = "(it, conv(18, 3)) -> deform(8) -> shrink(2)"
    layers = Layers(net(body, f"{DEFORM}\n{SHRINK}", "x[4, 16, 16]"), Options(flops=True))
    cells = {row["path"]: row for row in layers.table.as_data()}  # type: ignore[union-attr]
    assert cells["1"]["macs"] == 8 * 4 * 9 * 256 and cells["2"]["macs"] == cells["2"]["flops"] == "unknown"
    assert cells["1"]["field"] == "5" and cells["2"]["field"] == "everything"
    said = dict(layers.totals())
    assert said["MACs"] == f"{8 * 36 * 256 + 18 * 36 * 256:,} + unknown"
    assert [t for n, t in layers.totals() if n == "unknown"] == [
        "the memory inside of code from outside: `1`, `2`",
        "the MACs of `2`: its `extern` does not say them",
    ]
    data = layers.as_data()["total"]
    assert data["macs_unknown"] == ["2"] and data["memory_unknown"] == ["1", "2"]  # type: ignore[index]


def test_macs_of_free_sizes_are_a_formula() -> None:
    layers = Layers(net("(it, conv(18, 3)) -> deform(8)", DEFORM), Options())
    cells = {row["path"]: row for row in layers.table.as_data()}  # type: ignore[union-attr]
    assert cells["1"]["macs"] == "288·H·W"


def test_no_field_means_everything() -> None:
    graph = net("conv(4, 1) -> shrink(2)", SHRINK, "x[4, 16, 16]")
    *_, last = graph.nodes()
    (axes,) = (receptive_fields(graph, {})[Tensor(last.id)] or {}).values()
    assert all(axis.sees_all for axis in axes)
    assert [n.path for n in costs(graph).uncounted()] == ["1"]


def test_an_explanation_says_where_it_comes_from() -> None:
    graph = net("(it, conv(18, 3)) -> d: deform(8)", DEFORM, "x[4, 16, 16]")
    said = explain(graph, "d")
    assert "torchvision.ops.DeformConv2d(4, 8, 3, padding=1, bias=True), declared in net.arch, line 1" in said
    assert "archdsl does not know what it computes" in said


def test_a_comparison_names_parameters_and_what_is_called() -> None:
    before, after = (net(f"shrink({n})", SHRINK, "x[4, 16, 16]") for n in (2, 4))
    found = diff(before, after)
    assert "factor: 2 → 4" in str(table(found).rows[0])
    assert ("unknown", "the MACs of `0`, which count as 0 here") in totals(found)
    other = net("shrink(2)", SHRINK.replace("mine.layers", "theirs"), "x[4, 16, 16]")
    assert "mine.layers:shrink" in str(table(diff(before, other)).rows[0])


# ---------------------------------------------------------------- what is wrong

GOOD = ("input x[C, H, W]", "output [C, H, W]")

DECLARATIONS = {
    'extern odd = "mine:Odd" { output [3] }': "has no line `input`",
    'extern odd = "mine:Odd" { input x[C] }': "has no line `output`",
    extern(*GOOD, GOOD[1]): "two lines `output`",
    extern(*GOOD, "weight a[1], a[2]"): "two weights `a`",
    extern(*GOOD, 'weight "a/b"[1]'): "is not a valid path",
    extern(*GOOD, "weight w[C]", head='extern fn odd(n) = "mine:odd"'): "is a function, which has no weights",
    extern(*GOOD, "call (C, lambda = 1)"): "Python has no arguments with the name `lambda`",
    extern(*GOOD, "call (C, __x = 1)"): "Python has no arguments with the name `__x`",
    extern(*GOOD, head='extern odd(from) = "mine:Odd"'): "Python has no arguments with the name `from`",
}


@pytest.mark.parametrize(("before", "says"), DECLARATIONS.items(), ids=DECLARATIONS.values())
def test_a_wrong_declaration_is_an_error(before: str, says: str) -> None:
    code, message = error("relu", before)
    assert code in ("E0235", "E0226") and says in message


TARGETS = [
    "os:system",
    "builtins:eval",
    "subprocess:run",
    "os.path:join",
    "importlib:import_module",
    "torch",
    "torch:",
    ":relu",
    "torch.nn:__class__",
    "torch.nn:_private",
    "torch.__init__:x",
    "mine._hidden:Layer",
    "torch.nn:Linear.forward",
    "torch.nn:Linear()",
    "torch.nn :Linear",
    "torch.nn:Linear\\n",
    "../mine:Layer",
    ".mine:Layer",
    "a..b:C",
    "if:then",
    "mine:lambda",
    "mine:None",
    "a:b:c",
    "a:1b",
    "mïne:Layer",
    "a;import os:b",
    'a\\"b:c',
    "archdsl.built:execute",
    "",
    "x" * 70 + "-:y",
]


@pytest.mark.parametrize("target", TARGETS)
def test_only_public_names_of_other_packages_are_taken(target: str) -> None:
    code, message = error("relu", extern(*GOOD, head=f'extern odd(n) = "{target}"'))
    assert code == "E0235" and len(message) < 160


CALLS = {
    "odd": ("E0207", "`odd` needs a value for `n`", ()),
    "odd(1, 2)": ("E0206", "one too many", ()),
    "odd(m = 2)": ("E0205", "no parameter `m`", ()),
    "odd(H)": ("E0228", "cannot depend on a free input size", ()),
    "odd(conv)": ("E0228", "numbers, strings and lists, not the operation `conv`", ()),
    "odd([it])": ("E0228", "numbers, strings and lists, not a tensor", ()),
    "odd(10000000000 * 10000000000)": ("E0228", "too large", ()),
    "(it, it) -> odd(1)": ("E0227", "`odd` takes 1 tensor: x; 2 flow in", ()),
    "flatten -> odd(1)": ("E0302", "has 3 sizes; [", ()),
    "odd(1) ": ("E0302", "depends on a free input size (net.arch, line 4: `call (H)`)", ("call (H)",)),
    "odd(1)  ": ("E0302", "cannot depend on a free input size (net.arch, line 4:", ("weight w[H]",)),
    "odd(0)": ("E0302", "a size is from 1 to 2,147,483,647, not 0", ("weight w[n]",)),
    "odd(2)": ("E0302", "no odd numbers (net.arch, line 4", ('require n % 2 == 1, "no odd numbers"',)),
    "odd(3)": ("E0302", "`n < 3` is false", ("require n < 3",)),
    "odd(4)": ("E0302", "there is no value named `K` here", ("let k = K",)),
    "odd(5)": ("E0302", "an extern cannot use `normal(0.1)`", ("call (normal(0.1))",)),
    "odd(6)": ("E0302", "`field` cannot take this", ("field (3, width = 2)",)),
    "odd(7)": ("E0302", "`kernel` must be a number, or one for each of 2 axes", ("field (3x3x3)",)),
    "odd(8)": ("E0302", "`macs` must be an int", ('macs "many"',)),
}


@pytest.mark.parametrize("body", CALLS)
def test_a_wrong_call_is_an_error(body: str) -> None:
    code, says, more = CALLS[body]
    found = error(body.strip(), extern(*GOOD, *more), "x[4, 16, 16]" if "flatten" in body else "x[4, H = 16, W = 16]")
    assert found[0] == code and says in found[1]


FUNCTIONS = [
    "fn f(n) = n + n",
    "fn f(n) = f(n - 1) if n > 0 else 1",
    "fn f(n) = f(n) + f(n)",
    "fn f(n) = " + "(" * 40 + "n" + " + 1)" * 40,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=["doubling", "recursion", "both", "deep"])
def test_a_rule_that_would_be_too_long_is_refused_at_once(function: str) -> None:
    many = "f(" * 30 + "n" + ")" * 30
    found = error("odd(3)", f"{function}\n" + extern(*GOOD, f"call ({many})"), "x[4, 16, 16]")
    assert found[0] in ("E0302", "E0502", "E0503", "E0501", "E0504")


def test_a_line_that_is_none_is_named() -> None:
    code, message = error("relu", extern(*GOOD, "conv(3)"))
    assert code == "E0101" and "a line of an extern" in message
