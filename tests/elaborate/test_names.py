"""Any legal label works, and keeps its key in the state_dict; no two labels become one."""

import builtins
import keyword

import pytest
import torch

import archdsl
from archdsl.diagnostics import SpecError
from archdsl.graph import Tensor
from archdsl.ops import OPERATIONS
from archdsl.syntax import parser
from tests.helpers import graph_of, net_text, source_of

OWNED = sorted({*dir(torch.nn.Module()), *dir(torch.nn.Sequential()), *dir(torch.nn.ModuleDict())})
WORDS = """
    torch nn F kw self x y input output device dtype factory Factory Tensor Any layers in_channels NamedTuple TypedDict
    super model block conv relu scale let fn if import residual dense repeat true none training m M net count index
    a0 _ __ ___ _a a_ __init__ __class__ __dict__ __name__ _fields _asdict _replace T N zip range len int print Module
"""
NAMES = sorted(
    {
        *(k for k in keyword.kwlist + keyword.softkwlist if k != "_"),
        *dir(builtins),
        *OWNED,
        *WORDS.split(),
    }
    - {"it", "__debug__", "training"}  # `training` is rejected as a label: a module stores its mode there
)
"""Names that are legal in a spec but special in Python, torch or the generated code."""

QUOTED = ["0", "7a", "a-b", "a_b", "a--b", "-", "--", "1-1", "class-", "a-", "A_B", "a_B", "9" * 40, "x" * 300]


def keys(text: str) -> list[str]:
    module = archdsl.load(source_of(text))
    width = module(torch.zeros(2, 1, 8, 8)).shape[1]
    assert width == 1
    return list(module.state_dict())


def chunks(names: list[str], size: int = 60) -> list[list[str]]:
    return [names[i : i + size] for i in range(0, len(names), size)]


@pytest.mark.parametrize("names", chunks([*NAMES, *QUOTED]), ids=lambda names: names[0])
@pytest.mark.parametrize("where", ["layer", "block", "body"])
def test_any_label_keeps_its_key(names: list[str], where: str) -> None:
    item = {"layer": "conv(1, 1)", "block": "unit", "body": "{ conv(1, 1) -> relu }"}[where]
    lines = "".join(f'"{name}": {item}\n' for name in names)
    found = keys("block unit { inner: conv(1, 1) -> relu }\nmodel m {\ninput x[1, 8, 8]\n" + lines + "}")
    part = {"layer": "", "block": "inner.", "body": "0."}[where]
    assert found == [f"{name}.{part}{kind}" for name in names for kind in ("weight", "bias")]


@pytest.mark.parametrize(
    "names",
    chunks([n for n in NAMES if n.isidentifier() and n not in {"m", "_", *OPERATIONS}]),
    ids=lambda names: names[0],
)
def test_any_name_can_be_referred_to(names: list[str]) -> None:
    """Labels without quotes, which also name tensors: each is added to the next tensor."""
    lines = "".join(f"{n}: conv(1, 1)\nrelu()\n({n}, it) -> add\n" for n in names)
    found = keys("model m {\ninput image[1, 8, 8]\n" + lines + "}")
    assert found == [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_for_a_block_model_and_parameter(name: str) -> None:
    text = f"""
block {name}_({name}) {{ "a": conv({name}, 1) -> conv(1, 1) }}
model {name}(width = 2) {{
    input {name}_input[1, H, W]
    {name}_(width)
    "b": {name}_(width + 1)
}}
"""
    try:
        found = keys(text)
    except archdsl.SpecError as error:
        assert name in ("_",) or name in parser.language().scanner.keywords, error
        return
    assert len(found) == 8


def test_labels_that_differ_by_a_hyphen_stay_apart() -> None:
    labels = ["a-b", "a_b", "a--b", "a__b", "ab", "a-b-", "a_b_", "A-b"]
    lines = "".join(f'"{label}": conv(1, 1)\n' for label in labels)
    assert keys("model m {\ninput x[1, 8, 8]\n" + lines + "}") == [
        f"{label}.{kind}" for label in labels for kind in ("weight", "bias")
    ]


@pytest.mark.parametrize(
    "label",
    [
        "é",
        "e\u0301",
        "\u0430",
        "\uff41",
        "\ufb01",
        "\U0001d431",
        "²",
        "٣",
        "a\u200b",
        "a\u202eb",
        "",
        ".",
        "a..b",
        "a b",
        "a/b",
    ],
)
@pytest.mark.parametrize("quote", [True, False])
def test_labels_are_ascii(label: str, quote: bool) -> None:
    """No look-alikes, no second normal form of a label, nothing invisible."""
    text = f'"{label}"' if quote else label
    with pytest.raises(archdsl.SpecError):
        graph_of(f"model m {{\ninput x[1, 8, 8]\n{text}: relu\n}}")


@pytest.mark.parametrize(
    "names",
    chunks([n for n in NAMES if n.isidentifier() and n not in {"net", "_", *OPERATIONS}], 20),
    ids=lambda names: names[0],
)
def test_any_name_for_inputs_and_outputs(names: list[str]) -> None:
    inputs = "".join(f"{name}[1, H, W], " for name in names)
    convolutions = "\n".join(f"    {name} -> conv_{width}: conv({width}, 1)" for width, name in enumerate(names, 2))
    outputs = ", ".join(f"{name} = conv_{width}" for width, name in enumerate(names, 2))
    text = f"""
model net {{
    input {inputs}other_[1, H, W]
    ({", ".join(names)}, other_) -> add
    conv(1, 1) -> first_: batchnorm
{convolutions}
    output first_, {outputs}
}}
"""
    module = archdsl.load(source_of(text))
    found = module(*[torch.zeros(2, 1, 8, 8)] * (len(names) + 1))
    assert [y.shape[1] for y in found] == [*range(1, len(names) + 2)]


@pytest.mark.parametrize("name", ["square", "tokens"])
def test_a_label_by_the_name_of_a_later_operation_is_the_label(name: str) -> None:
    """Specs of version 1 keep their meaning; `square()` calls the operation."""
    body = f"{name}: conv(4, 1)\nconv(4, 3)\n({name}, it) -> add -> out: it\n{name} -> last: relu\noutput out, last"
    graph = graph_of(net_text(body, "x[4, 8, 8]"))
    first, added, last = (
        next(n for n in graph.nodes() if n.operation.name == kind) for kind in ("conv", "add", "relu")
    )
    assert Tensor(first.id) in added.inputs and last.inputs == (Tensor(first.id),)
    with pytest.raises(SpecError, match="E0224"):
        graph_of(net_text(f"{name}: conv(4, 1)\nrelu -> {name}", "x[4, 8, 8]"))
