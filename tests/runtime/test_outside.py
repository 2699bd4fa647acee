"""Code from outside (`extern`): what runs it, what refuses to, and how a declaration that is wrong is found."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import archdsl
import archdsl.importer  # what imports .arch files
from archdsl import cli
from archdsl.common.source import Source
from archdsl.compiler import prove_build
from archdsl.diagnostics import SpecError
from archdsl.proof import Unproved, prove
from archdsl.runtime.export import proved_export
from archdsl.runtime.look import look
from archdsl.runtime.probe import probe
from tests import modules
from tests.helpers import graph_of, net_text, source_of
from tests.outside import Outside
from tests.test_injection import HOSTILE, literal

ALLOWED = ["tests", "tests.outside:bend", "tests.outside:blend"]
OUTSIDE = """extern outside(width, bias = true) = "tests.outside:Outside" {
    input x[C, H, W]
    output [width, H, W]
    call (C, width, bias = bias)
    weight weight[width, C]
    buffer shift[width]
    weight "inner.bias"[width] if bias
}
extern fn bend(factor) = "tests.outside:bend" {
    input x[C, H, W]
    output [C, H, W]
}"""
BODY = "(outside(6), conv(6, 1)) -> add -> bend(0.5) -> relu\nglobal_avgpool -> flatten -> linear(3)"
SPEC = net_text(BODY, "x[3, H = 32, W = 32]", OUTSIDE)


def codes(error: SpecError) -> list[str]:
    return [d.code for d in error.diagnostics]


def extern(target: str, *lines: str, name: str = "odd", sizes: str = "[C, H, W]") -> str:
    inner = "\n    ".join(["input x[C, H, W]", *lines, f"output {sizes}"])
    return net_text(name, "x[4, 8, 8]", f'extern {name} = "{target}" {{\n    {inner}\n}}')


# ---------------------------------------------------------------- what it computes


def test_a_network_with_layers_from_outside_computes_as_in_pytorch() -> None:
    network = archdsl.load(source_of(SPEC), allow_extern=ALLOWED, dtype=torch.double)
    assert isinstance(network.get_submodule("0"), Outside)
    x = torch.randn(2, 3, 8, 8, dtype=torch.double, requires_grad=True)
    outside, conv, linear = (network.get_submodule(name) for name in ("0", "1", "7"))
    hidden = torch.relu(torch.tanh(0.5 * (Outside.forward(outside, x) + conv(x))))  # type: ignore[arg-type]
    wanted = linear(hidden.mean((2, 3)))
    outside.shift.sub_(1)  # type: ignore[union-attr, operator]
    found = network(x)
    torch.testing.assert_close(found, wanted)
    (ours,) = torch.autograd.grad(found.sum(), x)
    (theirs,) = torch.autograd.grad(wanted.sum(), x)
    torch.testing.assert_close(ours, theirs)


def test_state_is_placed_as_asked() -> None:
    network = archdsl.load(source_of(SPEC), allow_extern=ALLOWED, device="meta", dtype=torch.float16)
    assert {(t.device.type, t.dtype) for t in network.state_dict().values()} == {("meta", torch.float16)}


def test_the_form_for_inference_starts_in_evaluation() -> None:
    network = archdsl.load(source_of(SPEC), allow_extern=ALLOWED, inference=True)
    assert not any(module.training for module in network.modules())


def test_recomputing_sees_the_buffers_of_the_first_run() -> None:
    body = "repeat 4 { unit }\nglobal_avgpool -> flatten -> linear(3)"
    before = (
        f"{OUTSIDE}\nblock unit {{ conv(4, 1) -> batchnorm -> tanh -> conv(32, 1) -> tanh -> outside(6) -> bend(2.0) }}"
    )
    source = source_of(net_text(body, "x[3, 8, 8]", before))
    plain, again = (
        archdsl.load(source, allow_extern=ALLOWED, dtype=torch.double, recompute=mode)  # type: ignore[arg-type]
        for mode in ("none", "blocks")
    )
    again.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 8, 8, dtype=torch.double)
    for network in (plain, again):
        network(x).square().sum().backward()
    for (name, ours), (_, theirs) in zip(plain.named_parameters(), again.named_parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    torch.testing.assert_close(dict(plain.named_buffers()), dict(again.named_buffers()))


@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
def test_it_is_exported(ending: str, tmp_path: Path) -> None:
    graph = graph_of(SPEC)
    found = proved_export(graph, tmp_path / f"net{ending}", allow_extern=ALLOWED)
    assert found.data and not found.pins


def test_it_is_compiled() -> None:
    network = archdsl.load(source_of(SPEC), allow_extern=ALLOWED).eval()
    x = torch.randn(1, 3, 8, 8)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), network(x))


def test_probe_and_look_run_it_where_it_is_allowed(tmp_path: Path) -> None:
    graph = graph_of(SPEC)
    assert probe(graph, allow_extern=ALLOWED).as_table()
    image = tmp_path / "image.png"
    assert cli.run(["draw", "lenet:lenet", "-o", str(image)]) == 0
    assert look(graph, image, allow_extern=ALLOWED).data(".svg")
    for command in (lambda: probe(graph), lambda: look(graph, image)):
        with pytest.raises(SpecError) as caught:
            command()
        assert codes(caught.value) == ["E0603", "E0603"]


# ---------------------------------------------------------------- what a build says


def test_a_build_names_what_it_imports_at_its_top() -> None:
    text = archdsl.build(graph_of(SPEC))
    head = " ".join(text.split('"""')[1].split())
    assert (
        "code from outside, which archdsl has neither read nor proved: tests.outside:Outside, tests.outside:bend"
        in head
    )
    assert "from tests.outside import Outside\nfrom tests.outside import bend\n" in text
    for kind in ({}, {"inference": True}):
        assert prove_build(graph_of(SPEC), **kind).plainness == 0  # type: ignore[arg-type]


CHANGES = {
    "another module": ("from tests.outside import Outside", "from tests.other import Outside"),
    "another name": ("import Outside\n", "import Halves as Outside\n"),
    "another import": ("import torch\n", "import torch\nimport os\n"),
    "a stranger's class of its own": ("from tests.outside import Outside\n", "class Outside(nn.Module):\n    pass\n"),
    "another argument": ("AsDeclared(3, 6,", "AsDeclared(3, 5,"),
    "the class itself": ("OutsideAsDeclared(3, 6, **kw)", "Outside(3, 6)"),
    "no device": ("OutsideAsDeclared(3, 6, **kw)", "OutsideAsDeclared(3, 6)"),
    "another factor": ("factor=0.5)", "factor=1.5)"),
    "a check left out": ("if found != list(declared):", "if False:"),
    "another import in a function": ("result = call_outside(what, bend", "result = call_outside(what, torch.tanh"),
    "run twice": ("checked_bend(y", "checked_bend(checked_bend(y, factor=0.5)"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_text_that_uses_it_otherwise_is_not_proved(name: str) -> None:
    graph = graph_of(SPEC)
    text = archdsl.build(graph)
    old, new = CHANGES[name]
    assert old in text
    prove(text, graph)
    with pytest.raises(Unproved):
        prove(text.replace(old, new, 1), graph)


def test_one_call_does_not_stand_for_two() -> None:
    """Code from outside may draw at random."""
    graph = graph_of(net_text("(bend(0.5), bend(0.5)) -> add", "x[3, 8, 8]", OUTSIDE))
    text = archdsl.build(graph)
    once = text.replace(
        "x = checked_bend(x, factor=0.5) + checked_bend(x, factor=0.5)",
        "x = checked_bend(x, factor=0.5)\n        x = x + x",
    )
    assert once != text
    with pytest.raises(Unproved):
        prove(once, graph)


# ---------------------------------------------------------------- safety


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a package that leaves a mark where it is imported."""
    folder = tmp_path / "strange"
    folder.mkdir()
    text = "from pathlib import Path\nfrom torch import nn\nPath(__file__).with_name('imported').touch()\n"
    (folder / "__init__.py").write_text(text)
    (folder / "layers.py").write_text(
        "from torch import nn\nclass Same(nn.Module):\n    def forward(self, x): return x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [n for n in sys.modules if n.partition(".")[0] == "strange"]:
        del sys.modules[name]


def was_imported(package: Path) -> bool:
    return (package / "imported").exists()


def test_nothing_is_imported_unless_allowed(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "net.arch"
    spec.write_text(extern("strange.layers:Same"))
    name = str(spec)
    for command in (["check"], ["show"], ["explain"], ["draw", "-o", str(tmp_path / "n.svg")], ["build"]):
        assert cli.run([command[0], name, *command[1:]]) == 0
    assert cli.run(["diff", name, name]) == 0
    graph = archdsl.check(spec)
    graph._repr_mimebundle_()
    state = tmp_path / "state.pt"
    torch.save({"0.weight": torch.zeros(3)}, state)
    assert cli.run(["weights", name, str(state)]) == 2  # which has none, and says so
    assert "no tensor of" in capsys.readouterr().err
    capsys.readouterr()
    assert cli.run(["export", name, "-o", str(tmp_path / "n.pt2")]) == 1
    assert "E0603" in capsys.readouterr().err
    assert cli.run(["export", name, "-o", str(tmp_path / "n.pt2"), "--allow-extern", "other"]) == 1
    assert cli.run(["export", name, "-o", str(tmp_path / "n.pt2"), "--allow-extern", "strange_"]) == 1
    for allowed in ([], ["stran"], "strange.layers.Same", ["strange.other"], ["layers"]):
        with pytest.raises(SpecError) as caught:
            archdsl.load(spec, allow_extern=allowed)
        assert codes(caught.value) == ["E0603"]
    assert not was_imported(package)
    capsys.readouterr()
    assert cli.run(["export", name, "-o", str(tmp_path / "n.pt2"), "--allow-extern", "strange"]) == 0
    assert "runs the class strange.layers:Same of " in capsys.readouterr().err
    assert was_imported(package)


def test_all_must_be_allowed_before_any_is_imported(package: Path) -> None:
    text = extern("strange.layers:Same").replace("    odd\n", "    odd -> other\n")
    text = 'extern other = "unknown:Other" {\n    input x[C, H, W]\n    output [C, H, W]\n}\n' + text
    with pytest.raises(SpecError) as caught:
        archdsl.load(source_of(text), allow_extern=["strange"])
    assert codes(caught.value) == ["E0603"] and not was_imported(package)


def test_a_class_allowed_once_is_not_allowed_for_good() -> None:
    archdsl.load(source_of(SPEC), allow_extern=ALLOWED)
    with pytest.raises(SpecError):
        archdsl.load(source_of(SPEC))


def test_an_unused_extern_is_not_asked_for(package: Path) -> None:
    text = extern("strange.layers:Same").replace("    odd\n", "    relu\n")
    archdsl.load(source_of(text))
    assert not was_imported(package)


def test_an_import_of_a_spec_obeys_the_same_rule(package: Path, tmp_path: Path) -> None:
    (tmp_path / "foreign.arch").write_text(extern("strange.layers:Same").replace("model net", "model same"))
    same = importlib.import_module("foreign").same
    with pytest.raises(SpecError) as caught:
        same()
    assert codes(caught.value) == ["E0603"] and not was_imported(package)
    assert same(allow_extern=["strange"])(torch.zeros(1, 4, 8, 8)).shape == (1, 4, 8, 8)


WRONG = {
    "no nn.Module": ("tests.outside:Plain", "no class of modules"),
    "a value": ("tests.outside:value", "no class of modules"),
    "a function": ("tests.outside:bend", "no class of modules"),
    "not there": ("tests.outside:Nothing", "has no `Nothing`"),
    "no such module": ("tests.nothing:Layer", "cannot be imported: ModuleNotFoundError"),
    "passed on": ("tests.helpers:Path", "no class of modules"),
    "passed on, a module": ("tests.runtime.test_outside:Outside", ""),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_named_must_be_a_module_class(name: str) -> None:
    target, says = WRONG[name]
    source = source_of(extern(target, "call ()"))
    if not says:  # from the same package: that is how packages offer their layers
        with pytest.raises(TypeError, match="required positional arguments"):
            archdsl.load(source, allow_extern=["tests"])
        return
    with pytest.raises(SpecError) as caught:
        archdsl.load(source, allow_extern=["tests"])
    assert codes(caught.value) == ["E0604"] and says in str(caught.value)


def function(target: str) -> str:
    return extern(target).replace("extern odd", "extern fn odd")


def test_a_function_needs_its_full_name() -> None:
    for allowed in (["tests"], ["tests.outside"], ["tests.outside:blend"], ["outside:bend"]):
        with pytest.raises(SpecError) as caught:
            archdsl.load(source_of(function("tests.outside:bend")), allow_extern=allowed)
        assert codes(caught.value) == ["E0603"] and "full name" in str(caught.value)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("tests.outside:passed_on", "only passes it on"),
        ("tests.outside:Outside", "is no function"),
        ("tests.outside:value", "is no function"),
        ("torch.nn.functional:torch", "is no function"),
    ],
)
def test_a_function_is_taken_where_it_is_defined(target: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        archdsl.load(source_of(function(target)), allow_extern=[target])
    assert codes(caught.value) == ["E0604"] and says in str(caught.value)


def test_a_function_of_pytorch_runs() -> None:
    network = archdsl.load(source_of(function("torch:relu")), allow_extern="torch:relu")
    assert network(-torch.ones(1, 4, 8, 8)).sum() == 0


def test_a_built_file_does_not_make_what_is_no_module() -> None:
    _, built = modules.module_of(archdsl.build(graph_of(extern("tests.outside:Plain"))))
    with pytest.raises(TypeError, match=r"`odd` .* is tests\.outside\.Plain, which is no nn\.Module"):
        built()


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_text_of_a_spec_is_data(text: str, tmp_path: Path) -> None:
    said = literal(text)
    lines = [said, "input x[C, H, W]", f"call (word, note = [{said}, {said} + word])", "output [C, H, W]"]
    lines.append(f"require x_ == {said}, {said}")
    declared = "\n    ".join(lines)
    before = f'let word = {said}\nextern echo(x_ = {said}) = "tests.outside:Echo" {{\n    {declared}\n}}'
    name = re.sub(r"[/\x00]", "_", text)[:60] + ".arch"
    source = Source(name, net_text("echo", "x[4, 8, 8]", before), tmp_path / "net.arch")
    network = archdsl.load(source, allow_extern="tests")
    echo: Any = network.get_submodule("0")
    assert (echo.text, echo.note) == (text, (text, text + text))
    assert network(torch.ones(1, 4, 8, 8)).shape == (1, 4, 8, 8)
    with pytest.raises(SpecError) as caught:
        archdsl.check(Source(name, net_text('echo("other")', "x[4, 8, 8]", before)))
    assert "\x1b" not in str(caught.value) and len(codes(caught.value)) == 1


# ---------------------------------------------------------------- a file beside the spec


def test_a_file_beside_the_spec_is_found(tmp_path: Path) -> None:
    (tmp_path / "own_layers.py").write_text("from torch import nn\nclass Own(nn.ReLU):\n    pass\n")
    (tmp_path / "net.arch").write_text(extern("own_layers:Own"))
    before = list(sys.path)
    network = archdsl.load(tmp_path / "net.arch", allow_extern="own_layers")
    assert sys.path == before
    assert network(-torch.ones(1, 4, 8, 8)).sum() == 0
    other = tmp_path / "other"
    other.mkdir()
    (other / "own_layers.py").write_text("raise SystemError\n")
    (other / "net.arch").write_text(extern("own_layers:Own"))
    with pytest.raises(SpecError, match="is already another module here"):
        archdsl.load(other / "net.arch", allow_extern="own_layers")
    del sys.modules["own_layers"]
    with pytest.raises(SpecError, match="cannot be imported: SystemError"):
        archdsl.load(other / "net.arch", allow_extern="own_layers")


# ---------------------------------------------------------------- declarations that are wrong


def load(text: str) -> nn.Module:
    return archdsl.load(source_of(text), allow_extern=[*ALLOWED, "tests.outside:untrue"])


OUTSIDES = extern(
    "tests.outside:Outside", "call (C, C)", "weight weight[C, C]", "buffer shift[C]", 'weight "inner.bias"[C]'
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("weight weight[C, C]", "weight weight[C, C, 1]"),
        ("weight weight[C, C]", "frozen weight[C, C]"),
        ("weight weight[C, C]", "weight kernel[C, C]"),
        ("buffer shift[C]", "counter shift[C]"),
        ("buffer shift[C]", "weight shift[C]"),
        ("    buffer shift[C]\n", ""),
        ('weight "inner.bias"[C]', 'weight "inner.bias"[C], more[1]'),
    ],
)
def test_weights_that_are_not_as_declared_are_found_when_it_is_made(old: str, new: str) -> None:
    load(OUTSIDES)
    assert old in OUTSIDES
    with pytest.raises(ValueError, match=r"`odd` \(net.arch, line 1\) is tests.outside.Outside: the spec declares"):
        load(OUTSIDES.replace(old, new))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            OUTSIDES.replace("output [C, H, W]", "output [C + 1, H, W]"),
            r"declares \[\(1, 5, 8, 8\)\], and it gives \[\(1, 4",
        ),
        (OUTSIDES.replace("output [C, H, W]", "output [C, H, W - 1]"), r"declares \[\(1, 4, 8, 7\)\], and it gives"),
        (OUTSIDES.replace("output [C, H, W]", "output [C, H]"), r"declares \[\(1, 4, 8\)\], and it gives"),
        (
            extern("tests.outside:Halves"),
            r"declares \[\(1, 4, 8, 8\)\], and it gives \[\(1, 2, 8, 8\), \(1, 2, 4, 8\)\]",
        ),
        (function("tests.outside:untrue"), r"and it gives \[\(1, 4, 7, 8\)\]"),
        (extern("tests.outside:Overwriting"), "it overwrites its input"),
    ],
)
def test_sizes_that_are_not_as_declared_are_found_when_it_runs(text: str, says: str) -> None:
    network = load(text)
    with pytest.raises(ValueError, match=rf"`odd` \(net.arch, line 1\) is tests.outside\.\w+: .*{says}"):
        network(torch.ones(1, 4, 8, 8))


def test_several_results_are_compared_one_by_one() -> None:
    text = extern("tests.outside:Halves", sizes="a[C / 2, H, W], b[C / 2, (H + 1) // 2, W]")
    text = text.replace("    odd\n", "    (a, b): odd\n    output a, b\n")
    found = load(text)(torch.ones(1, 4, 8, 8))
    assert [tuple(x.shape) for x in found] == [(1, 2, 8, 8), (1, 2, 4, 8)]
