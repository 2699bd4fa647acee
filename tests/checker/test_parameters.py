"""The values of a model's parameters that come from Python."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archdsl
from archdsl import cli
from archdsl.runtime import loading

TEXT = """
fn double(n) = 2 * n
block thin(w = 4) { conv(w, 3) }
let steep = leaky_relu(0.3)

model net(act = relu, widths = [8, 16], p = 0.1, deep = false, again = none) {
    input x[3, 8, 8]
    for w in widths { conv(w, 3) -> act }
    if deep { conv(8, 3) }
    if again != none { again }
    dropout(p)
}
model net_thin = net(thin)
"""
NET = archdsl.Source("net.arch", TEXT)
ONE = archdsl.Source("net.arch", TEXT.partition("model net_thin")[0])


def built(**values: Any) -> str:
    return archdsl.build(archdsl.check(ONE, **values))


class Width(enum.IntEnum):
    WIDE = 32


class Kind(enum.StrEnum):
    SMOOTH = "gelu"


class OwnInt:
    def __index__(self) -> int:
        return 3


@pytest.mark.parametrize(
    "text",
    [
        "gelu",
        "leaky_relu",
        "leaky_relu(0.2)",
        "leaky_relu( slope = 0.2 )",
        "steep",
        "thin",
        "thin(5)",
        "thin(double(3))",
    ],
)
def test_an_operation_or_block_is_given_as_on_the_command_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "net.arch").write_text(ONE.text)
    assert cli.run(["build", f"{tmp_path / 'net.arch'}", "--set", f"act={text}", "-o", f"{tmp_path / 'net.py'}"]) == 0
    assert built(act=text) == (tmp_path / "net.py").read_text()
    assert built(act=text) != built()


def test_load_takes_operations_by_name() -> None:
    network = archdsl.load(ONE, act="leaky_relu(0.25)", again="gelu")
    slopes = [layer.negative_slope for layer in network.modules() if isinstance(layer, torch.nn.LeakyReLU)]
    assert slopes == [0.25, 0.25]
    assert type(archdsl.load(ONE, act="leaky_relu(0.25)", again="gelu")) is type(network)


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ({"widths": np.array([4, 5])}, {"widths": [4, 5]}),
        ({"widths": torch.tensor([4, 5])}, {"widths": [4, 5]}),
        ({"widths": (4, np.int64(5))}, {"widths": [4, 5]}),
        ({"widths": range(4, 6)}, {"widths": [4, 5]}),
        ({"widths": [Width.WIDE, OwnInt()]}, {"widths": [32, 3]}),
        ({"p": np.float32(0.5)}, {"p": 0.5}),
        ({"p": np.float64(0.3)}, {"p": 0.3}),
        ({"p": torch.tensor(0.25)}, {"p": 0.25}),
        ({"deep": np.bool_(True)}, {"deep": True}),
        ({"deep": torch.tensor(True)}, {"deep": True}),
        ({"act": np.str_("gelu"), "again": Kind.SMOOTH}, {"act": "gelu", "again": "gelu"}),
    ],
)
def test_numbers_and_lists_of_other_packages(given: dict[str, Any], plain: dict[str, Any]) -> None:
    assert built(**given) == built(**plain) != built()


def test_a_bool_is_no_int() -> None:
    for value in (True, np.bool_(True), torch.tensor(True)):
        with pytest.raises(archdsl.SpecError, match="`out` must be an int of at least 1; got true"):
            archdsl.check(ONE, widths=[value])


@pytest.mark.parametrize(
    ("values", "said", "help_"),
    [
        ({"widths": {8, 16}}, "`widths` is given a value of the type `set`", "a set has no order: give a list"),
        ({"widths": (w for w in [8])}, "`widths` is given the generator `<genexpr>`", "range or array of them"),
        ({"widths": [8, {}]}, "`widths` is given a value of the type `dict`", "give a number, a string, a boolean"),
        ({"widths": torch.zeros(3, device="meta")}, "`widths` is given a value of the type `Tensor`", "give a number"),
        ({"p": 1j}, "`p` is given a value of the type `complex`", "give a number"),
        ({"p": b"0.1"}, "`p` is given a value of the type `bytes`", "give a number"),
        ({"act": torch.nn.GELU}, "`act` is given the class `GELU`", 'by its name here: act="gelu"'),
        ({"act": torch.nn.LeakyReLU(0.2)}, "`act` is given a value of the type `LeakyReLU`", 'act="leaky_relu"'),
        ({"act": torch.relu}, "`act` is given the builtin_function_or_method `relu`", 'act="relu"'),
        ({"act": lambda x: x}, "`act` is given the function `<lambda>`", "a block or operation by its name"),
        ({"p": 10**5000}, "`p`: the number is too large", "raise the limit"),
        ({"widths": range(10**30)}, "`widths`: a list of more than 1,000,000 elements", "raise the limit"),
        ({"depth": {}}, "the model `net` has no parameter `depth`", "did you mean `deep`?"),
        ({"act": "gellu"}, '`act` is the string "gellu", not an operation or block', "did you mean `gelu`?"),
        ({"act": "LeakyReLU"}, '`act` is the string "LeakyReLU"', "archdsl calls it `leaky_relu`"),
        ({"act": "leaky_relu(0.2"}, "`(` is never closed", "add `)`"),
        ({"act": "leaky_relu(slop = 0.2)"}, "`leaky_relu` has no parameter `slop`", "did you mean `slope`?"),
    ],
)
def test_other_values_are_refused_by_their_type(values: dict[str, Any], said: str, help_: str) -> None:
    for call in (archdsl.check, archdsl.load):
        with pytest.raises(archdsl.SpecError) as caught:
            call(ONE, **values)
        (error,) = caught.value.diagnostics[:1]
        assert error.message.startswith(said) and help_ in (error.help or "")


def test_a_list_in_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(archdsl.SpecError, match="nested more than 50 deep"):
        archdsl.check(ONE, widths=endless)


CHOICE = """
model net({}) {{
    input x[3, 8, 8]
    if kind == "conv" {{ conv(8, 3) }} else {{ linear(8) }}
}}
"""


def test_a_string_stays_one_where_the_default_is_one() -> None:
    chosen = archdsl.check(archdsl.Source("net.arch", CHOICE.format('kind = "linear"')), kind="conv")
    assert [node.operation.name for node in chosen.nodes()] == ["input", "conv"]
    listed = (
        CHOICE.format('kinds = ["linear"]').replace("if kind", "for kind in kinds { if kind").replace("}\n}", "}}\n}")
    )
    chosen = archdsl.check(archdsl.Source("net.arch", listed), kinds=["conv"])
    assert [node.operation.name for node in chosen.nodes()] == ["input", "conv"]


def test_an_operation_is_not_compared_with_its_name_as_a_string() -> None:
    with pytest.raises(archdsl.SpecError, match='the operation `conv` is compared with the string "conv"'):
        archdsl.check(archdsl.Source("net.arch", CHOICE.format("kind")), kind="conv")
    other = archdsl.check(archdsl.Source("net.arch", CHOICE.format("kind")), kind="dense")
    assert [node.operation.name for node in other.nodes()] == ["input", "linear"]


def test_arrays_that_differ_where_their_text_is_cut_short_are_two_networks() -> None:
    spec = archdsl.Source("net.arch", "model net(ws) { input x[3, 8, 8]\n conv(ws[1000], 3) }\n")
    widths = [np.full(2_001, 4), np.full(2_001, 4)]
    widths[1][1_000] = 5
    assert repr(widths[0]) == repr(widths[1])
    loading._classes.clear()
    assert [archdsl.load(spec, ws=w)(torch.zeros(1, 3, 8, 8)).shape[1] for w in widths] == [4, 5]


def test_a_number_beyond_floats_is_an_error_of_the_spec() -> None:
    for item in ("dropout(10**1000)", "dropout(-(10**1000))", "rescale([1, 10**1000, 1], 0)"):
        with pytest.raises(archdsl.SpecError, match="is too large"):
            archdsl.check(archdsl.Source("net.arch", f"model net {{ input x[3, 8, 8]\n {item} }}\n"))


def test_a_fix_is_tried_with_the_arguments_of_a_block() -> None:
    """A block that has arguments already keeps them where a change of the spec is tried."""
    text = """
block part(out, kernel = 3) { conv(out, kernel) }
model net(unit) {
    input x[3, 8, 8]
    residual { unit }
}
"""
    with pytest.raises(archdsl.SpecError) as caught:
        archdsl.check(archdsl.Source("net.arch", text), unit="part(8)")
    (error,) = caught.value.diagnostics
    assert error.fix is not None
