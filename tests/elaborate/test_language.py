"""The meaning of the language, rule by rule: what a spec elaborates to."""

from __future__ import annotations

from pathlib import Path

import pytest

from archdsl import build, check
from archdsl.diagnostics import SpecError
from archdsl.dims import describe_sizes, text
from archdsl.graph import Graph, Tensor
from tests.helpers import graph_of, net_text, source_of


def net(body: str, before: str = "", size: str = "[4, 16, 16]") -> Graph:
    return graph_of(net_text(body, f"x{size}", before))


def paths(found: Graph) -> list[str]:
    return [n.path for n in found.nodes() if n.operation.name != "input"]


def operations(found: Graph) -> list[str]:
    return [n.operation.name for n in found.nodes() if n.operation.name != "input"]


def out(found: Graph) -> list[str]:
    return [text(d) for d in found.shape(found.outputs[0].tensor)]


def code(spec: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        graph_of(spec)
    return [d.code for d in caught.value.diagnostics]


# ---------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("conv(8, 3) -> batchnorm -> relu", ["0", "1", "2"]),
        ("conv1: conv(8, 3) -> batchnorm -> fc: relu", ["conv1", "1", "fc"]),
        ("{ conv(8, 3) } -> { { relu } }", ["0", "1"]),
        ("features: { conv(8, 3) -> relu }\nrelu", ["features.0", "features.1", "1"]),
        ("repeat 2 { conv(8, 3) }", ["0", "1"]),
        ('for i in 0..2 { "layer{i}": conv(8, 3) }', ["layer0", "layer1"]),
        ('for i in 1..=2 { "convs.{i}": { relu } }', ["convs.1.0", "convs.2.0"]),
        ("if 1 < 2 { relu }\nelu", ["0", "1"]),
        ("residual { conv(4, 3) }\nrelu", ["0", "1", "2"]),
        ("mix: residual { conv(4, 3) }\nrelu", ["mix.0", "mix.1", "1"]),
        ("residual via conv(8, 1) { conv(8, 3) }", ["0", "1", "2"]),
        ("residual via down: { conv(8, 1) } { conv(8, 3) }", ["down.0", "1", "2"]),
        ("dense { conv(8, 3) }", ["0", "1"]),
        ("(relu, a: conv(4, 3)) -> add", ["0", "a", "2"]),
        ("a: relu\nit -> elu\na -> tanh\n(it, a) -> add", None),
        ("{ }\nrelu -> { }", ["0"]),
        ('"1": relu\nelu', ["1", "2"]),
        ('"1": relu\nconv(4, 3)', ["1", "1"]),
        ('"with-hyphen": conv(8, 3)', ["with-hyphen"]),
    ],
)
def test_paths(body: str, expected: list[str] | None) -> None:
    if expected is None or len(set(expected)) < len(expected):
        with pytest.raises(SpecError):
            net(body)
    else:
        assert paths(net(body)) == expected


def test_a_block_that_comes_to_nothing_is_not_counted() -> None:
    block = "block maybe(yes) { if yes { relu } }"
    assert paths(net("maybe(false) -> conv(8, 3)\nlater: maybe(false)\nmaybe(true)", block)) == ["0", "1.0"]


def test_a_call_opens_a_scope_and_a_label_names_it() -> None:
    block = "block unit(width) { conv1: conv(width, 3) -> relu }"
    assert paths(net("unit(8)\nlayer: unit(8)", block)) == ["0.conv1", "0.1", "layer.conv1", "layer.1"]


# ---------------------------------------------------------------- names in scope


def test_labels_are_seen_from_the_next_statement_to_the_end_of_their_body() -> None:
    assert operations(net("a: relu\nelu\n(it, a) -> add")) == ["relu", "elu", "add"]
    assert code("model net {\n input x[4, 8, 8]\n { a: relu }\n (it, a) -> add\n}") == ["E0201"]
    assert code("model net {\n input x[4, 8, 8]\n a: relu -> (it, a) -> add\n}") == ["E0201"]
    assert operations(net("a: relu\n{ elu -> { (it, a) -> add } }")) == ["relu", "elu", "add"]


def test_loops_and_conditions_open_no_scope_of_names() -> None:
    assert operations(net("if true { a: relu }\nelu\n(it, a) -> add")) == ["relu", "elu", "add"]
    assert out(net("for w in [8, 12] { let last = w\nconv(w, 3) }\nconv(2 * last, 3)"))[0] == "24"


def test_parentheses_around_an_operation_call_it_even_under_a_label() -> None:
    assert operations(net("relu: conv(4, 3)\nrelu()")) == ["conv", "relu"]


def test_names_that_are_keywords_elsewhere() -> None:
    spec = """
block block(input, scale, conv) {
    output: conv(input, conv)
    repeat: conv(scale, conv) -> batchnorm
}
model model {
    input image[3, 8, 8]
    model: block(8, scale = 4, conv = 3)
}
"""
    assert paths(graph_of(spec)) == ["model.output", "model.repeat", "model.2"]


def test_it_is_what_flows_in() -> None:
    assert out(net("conv(2 * it.channels, 3) -> conv(it.channels + 1, 3)"))[0] == "9"
    assert operations(net("relu\n(it, x) -> add")) == ["relu", "add"]
    assert out(net("(it, it -> conv(2, 1)) -> concat"))[0] == "6"


def test_a_pattern_names_the_results_of_a_parallel() -> None:
    assert operations(net("(left, right): split(2)\n(left, right -> relu) -> concat")) == ["split", "relu", "concat"]
    assert out(net("(_, right): split(2)\nright"))[0] == "2"


# ---------------------------------------------------------------- blocks, models, defaults


def test_blocks_take_blocks_operations_and_functions() -> None:
    spec = """
fn twice(n) = 2 * n
block unit(width) { conv(width, 3) }
block both(f, act, width, size) { f(size(width)) -> act }
model net {
    input x[4, 8, 8]
    both(unit, relu, 8, twice)
}
"""
    found = graph_of(spec)
    assert operations(found) == ["conv", "relu"]
    assert out(found)[0] == "16"


def test_what_is_passed_may_have_arguments_already() -> None:
    spec = """
block unit(width, groups = 1, act = relu) { conv(width, 3, groups = groups) -> act }
block both(kind, act) { kind(8) -> act -> kind(12, groups = 4) }
model net(kind = unit(groups = 2)) {
    input x[4, 8, 8]
    both(kind, leaky_relu(0.3))
    let wide = unit(act = gelu(approximate = tanh))
    both(wide(groups = 4), act = silu)
}
"""
    found = graph_of(spec)
    convs = [n.operation for n in found.nodes() if n.operation.name == "conv"]
    assert [(c.out, c.groups) for c in convs] == [(8, 2), (12, 4), (8, 4), (12, 4)]  # type: ignore[attr-defined]
    assert operations(found)[1:3] == ["relu", "leaky_relu"] and operations(found)[-1] == "gelu"


def test_defaults_are_lexical_and_the_nearest_wins() -> None:
    spec = """
block before { conv(8, 3) }
default conv(bias = false)
block after { conv(8, 3) }
model net {
    input x[4, 8, 8]
    conv(8, 3)
    { default conv(bias = true, stride = 2)
      conv(8, 3) -> conv(8, 3, stride = 1) -> after }
    conv(8, 3, bias = true)
    before
}
"""
    convs = [n.operation for n in graph_of(spec).nodes() if n.operation.name == "conv"]
    assert [(c.bias, c.stride) for c in convs] == [
        (False, 1),
        (True, 2),
        (True, 1),
        (False, 1),
        (True, 1),
        (True, 1),
    ]


def test_members_bind_parameters_and_set_changes_them() -> None:
    spec = """
model family(width, classes = 10) {
    input x[3, H, W]
    conv(width, 3) -> conv(classes, 1)
}
model small = family(8)
model smaller = small(classes = 2)
"""
    source = source_of(spec)
    from archdsl.checker.spec import check_model, locate
    from archdsl.diagnostics import Diagnostics

    spec_file, _ = locate(source, Diagnostics())
    assert len(check_model(spec_file, "smaller", {}, Diagnostics())) == 3
    assert out(check_model(spec_file, "small", {}, Diagnostics()))[0] == "10"
    assert out(check_model(spec_file, "smaller", {}, Diagnostics()))[0] == "2"
    assert out(check_model(spec_file, "small", {"classes": 7}, Diagnostics()))[0] == "7"


def test_a_model_is_a_block_that_declares_its_inputs() -> None:
    spec = """
model backbone {
    input image[3, H, W]
    stem: conv(8, 3, stride = 2)
}
model net {
    input photo[3, H = 64, W = 64]
    body: backbone
    expect [8, (H + 1) // 2, (W + 1) // 2]
}
"""
    source = source_of(spec)
    from archdsl.checker.spec import check_model, locate
    from archdsl.diagnostics import Diagnostics

    spec_file, _ = locate(source, Diagnostics())
    assert paths(check_model(spec_file, "net", {}, Diagnostics())) == ["body.stem"]


def test_inputs_of_a_block_bind_and_match_sizes() -> None:
    gate = """
block gate(width) {
    input x[C, H, W], g[_, H, W]
    (x -> conv(width, 1), g -> conv(width, 1)) -> add -> relu -> conv(1, 1) -> sigmoid
    (x, it) -> mul
    expect [C, H, W]
}
"""
    assert out(net("(conv(8, 3), relu) -> gate(2)", gate)) == ["8", "16", "16"]
    spec = gate + "model net {\n input x[4, 16, 16]\n (conv(8, 3), maxpool(2)) -> gate(2)\n}\n"
    assert "E0307" in code(spec)


def test_outputs() -> None:
    found = net("side: conv(2, 1)\nx -> logits: conv(3, 1)\noutput logits, aux = side if training")
    assert [(o.name, o.training) for o in found.outputs] == [("logits", False), ("aux", True)]
    assert out(found)[0] == "3"


def test_recursion_builds_a_u() -> None:
    level = """
block level(width, depth) {
    encode: conv(width, 3)
    if depth > 0 {
        (it, { maxpool(2)
               inner: level(2 * width, depth - 1)
               up: upconv(width, 2) }) -> concat
        decode: conv(width, 3)
    }
}
"""
    found = net("level(4, 2)", level, "[1, H, W]")
    assert "0.inner.inner.encode" in paths(found)
    assert describe_sizes(found.sizes) == "H, W: multiples of 4"


def test_imports(tmp_path: Path) -> None:
    (tmp_path / "layers.arch").write_text("let width = 8\nblock unit(w) { conv(w, 3) -> batchnorm }\n")
    (tmp_path / "net.arch").write_text(
        "from layers import unit as u, width\nfrom archdsl.resnet import basic\n"
        "model net {\n    input x[3, H, W]\n    u(width) -> basic(width)\n}\n"
    )
    assert operations(check(tmp_path / "net.arch"))[:2] == ["conv", "batchnorm"]


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7 // 2 + 7 % 4", 6),
        ("6 / 2", 3),
        ("min(3, 9) + max([1, 2])", 5),
        ("sum([1, 2, 3]) + len([4, 5])", 8),
        ("abs(-3) + int(2.9) + round(2.6) + floor(1.5) + ceil(1.5)", 11),
        ("len(range(2, 8, 2)) + len(0..3) + len(0..=3)", 10),
        ("[5, 6, 7][1]", 6),
        ("[5, 6, 7][-1]", 7),
        ("sum([5, 6, 7, 8][1..3])", 13),
        ("len([5, 6, 7, 8][2..=3] + [9][0..0])", 2),
        ("1 if 2 < 3 and not false else 4", 1),
        ("1 if 2 == 3 or 2 != 2 else 4", 4),
        ("enumerate([7, 8], 1)[1][0] + zip([1], [2])[0][1]", 4),
        ("2 + 3 * 4 - -1", 15),
        ("x.channels + x.size[0] + len(x.shape)", 23),
        ("2 ** 3 ** 2 + -2 ** 2 * 2", 504),
        ("int(2 ** -1 * 8) + int(0.25 ** 0.5 * 2) + (-2) ** 2", 9),
    ],
)
def test_values(value: str, expected: int) -> None:
    assert out(net(f"conv({value}, 1)"))[0] == str(expected)


def test_a_power_that_nobody_takes_costs_nothing() -> None:
    module = build(net("let wide = x.channels\n    conv(8 if wide == 4 else 10 ** 10 ** 10, 1)"))
    assert "nn.Conv2d(4, 8, 1" in module


def test_a_chain_goes_over_lines_and_statements_end_at_them() -> None:
    assert operations(net("conv(8, 3)\n    -> relu ->\n    batchnorm\nelu")) == ["conv", "relu", "batchnorm", "elu"]
    assert operations(net("conv(\n  8,\n  3,\n) -> (relu,\n elu,\n) -> add")) == ["conv", "relu", "elu", "add"]


def test_free_sizes_are_symbolic() -> None:
    found = net("conv(8, 3, stride = 2) -> maxpool(2)\nexpect [8, (H + 1) // 4, _]", size="[3, H = 32, W]")
    assert out(found) == ["8", "⌊(H + 1)/4⌋", "⌊(W + 1)/4⌋"]
    resized = net("conv(8, 3, stride = 2) -> resize(x.size)", size="[3, H, W]")
    assert [text(d) for d in resized.shape(Tensor(2))] == ["8", "H", "W"]


def test_exact_division_of_a_size_narrows_it() -> None:
    found = net("conv(8, 3, stride = 2)\nexpect [8, H / 2, _]", size="[3, H, W]")
    assert describe_sizes({"H": found.sizes["H"]}) == "H: multiples of 2"


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_one_name_serves_every_rank(rank: int) -> None:
    letters = ["T", "H", "W"][:rank]
    found = net("conv(8, 3, stride = 2) -> batchnorm -> maxpool(2) -> upconv(4, 2)", size=f"[3, {', '.join(letters)}]")
    assert len(found.shape(found.outputs[0].tensor)) == rank + 1


def test_words_that_name_operations_too_come_through_parameters() -> None:
    body = "block join(how) { (maxpool(2), it) -> align(how) -> add }\n"
    graph = net("join(crop) -> join(pad) -> join(resize if 1 < 2 else pad)", body)
    modes = [n.operation.values()["mode"] for n in graph.nodes() if n.operation.name == "align"]
    assert modes == ["crop", "pad", "resize"]
    *_, up = net("up(linear)", "block up(how) { upsample(2, mode = how) }\n", "[2, 8]").nodes()
    assert up.operation.values()["mode"] == "linear"
    assert code(net_text("join(crop(1))", "x[2, 8, 8]", body)) == ["E0228"]  # with arguments it is no word
