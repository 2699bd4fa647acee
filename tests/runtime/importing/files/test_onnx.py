"""ONNX files become specs that onnxruntime agrees with; what is wrong in a file is an error with a sentence."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import archdsl
from archdsl import cli
from archdsl.common.source import Source
from archdsl.runtime.importing import ImportRefused
from archdsl.runtime.opening import from_file
from tests.runtime.importing.networks import NETWORKS

RANDOM = np.random.default_rng(0)
Array = np.ndarray[Any, Any]
node = helper.make_node


def weights(*sizes: int) -> Array:
    return RANDOM.normal(0, 0.3, sizes).astype(np.float32)


def numbers(*values: float) -> Array:
    return np.array(values, np.int64 if all(isinstance(v, int) for v in values) else np.float32)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Array],
    size: Sequence[int | str] = ("n", 3, "h", "w"),
    opset: int = 20,
) -> Path:
    """A file with one input `x` and the output `y`."""
    graph = helper.make_graph(
        [*nodes],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [*size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), str(path))
    return path


CONV = node("Conv", ["x", "c.weight"], ["a"], pads=[1, 1, 1, 1])
C = {"c.weight": weights(4, 3, 3, 3)}


def one(operator: str, *inputs: str, given: dict[str, Array] | None = None, **attributes: Any) -> Any:
    """A convolution and one operator behind it."""
    return [CONV, node(operator, ["a", *inputs], ["y"], **attributes)], {**C, **(given or {})}


ERF = [
    CONV,
    node("Div", ["a", "root"], ["d"]),
    node("Erf", ["d"], ["e"]),
    node("Add", ["e", "one"], ["f"]),
    node("Mul", ["a", "f"], ["g"]),
    node("Mul", ["g", "half"], ["y"]),
]
NORM = [
    CONV,
    node("Transpose", ["a"], ["t"], perm=[0, 2, 3, 1]),
    node("ReduceMean", ["t"], ["m"], axes=[-1]),
    node("Sub", ["t", "m"], ["s"]),
    node("Pow", ["s", "two"], ["p"]),
    node("ReduceMean", ["p"], ["v"], axes=[-1]),
    node("Add", ["v", "eps"], ["ve"]),
    node("Sqrt", ["ve"], ["r"]),
    node("Div", ["s", "r"], ["q"]),
    node("Mul", ["q", "norm.weight"], ["qw"]),
    node("Add", ["qw", "norm.bias"], ["z"]),
    node("Transpose", ["z"], ["y"], perm=[0, 3, 1, 2]),
]
UPSAMPLED = [
    CONV,
    node("MaxPool", ["a"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
    node("Shape", ["a"], ["whole"]),
    node("Slice", ["whole", "two", "four", "zero"], ["size"]),
    node("Shape", ["p"], ["small"]),
    node("Slice", ["small", "zero", "two", "zero"], ["start"]),
    node("Concat", ["start", "size"], ["to"], axis=0),
    node("Resize", ["p", "", "", "to"], ["u"], mode="linear"),
    node("Concat", ["a", "u"], ["y"], axis=1),
]
TAKEN = {"two": numbers(2), "four": numbers(4), "zero": numbers(0)}
NORMAL = {"norm.weight": weights(4), "norm.bias": weights(4)}

OPERATORS: dict[str, tuple[Any, str]] = {
    "relu6": (one("Clip", "low", "high", given={"low": numbers(0.0)[0], "high": numbers(6.0)[0]}), "relu6"),
    "leaky": (one("LeakyRelu", alpha=0.1), "leaky_relu(slope = 0.1)"),
    "hardswish": (one("HardSwish"), "hardswish"),
    "silu": (([CONV, node("Sigmoid", ["a"], ["s"]), node("Mul", ["a", "s"], ["y"])], C), "silu"),
    "gelu": (
        (ERF, {**C, "root": numbers(math.sqrt(2)), "one": numbers(1.0), "half": numbers(0.5)}),
        "gelu",
    ),
    "prelu": (one("PRelu", "slope", given={"slope": weights(4, 1, 1)}), "prelu"),
    "softmax": (one("Softmax", axis=1), "softmax"),
    "lrn": (one("LRN", size=5, alpha=1e-4, beta=0.75, bias=2.0), "lrn(5, k = 2.0)"),
    "groupnorm": (
        one(
            "GroupNormalization",
            "g.weight",
            "g.bias",
            num_groups=2,
            given={"g.weight": weights(4), "g.bias": weights(4)},
        ),
        "groupnorm(2)",
    ),
    "instancenorm": (one("InstanceNormalization", "norm.weight", "norm.bias", given=NORMAL), "norm: instancenorm"),
    "batchnorm": (
        one("BatchNormalization", *"wbmv", given={k: np.abs(weights(4)) + 0.5 for k in "wbmv"}),
        "batchnorm",
    ),
    "ceil": (one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), "maxpool(3, stride = 2, ceil = true)"),
    "avgpool": (one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), "count_pad = false"),
    "same_upper": (
        ([node("Conv", ["x", "c.weight"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])], C),
        "conv(4, 3, stride = 2, pad = same_upper, bias = false)",
    ),
    "upconv": (
        one("ConvTranspose", "u.weight", strides=[2, 2], given={"u.weight": weights(4, 2, 2, 2)}),
        "u: upconv(2, 2",
    ),
    "nearest": (
        one("Resize", "", "s", given={"s": numbers(1.0, 1, 2, 2)}, mode="nearest"),
        "upsample(2)",
    ),
    "resize": ((UPSAMPLED, {**C, **TAKEN}), "resize(image.size)"),
    "shuffle": (one("DepthToSpace", blocksize=2, mode="CRD"), "pixel_shuffle(2)"),
    "pad": (one("Pad", "p", given={"p": numbers(0, 0, 1, 1, 0, 0, 1, 1)}, mode="reflect"), "pad(1, mode = reflect)"),
    "split": (
        ([CONV, node("Split", ["a"], ["l", "r"], axis=1, num_outputs=2), node("Mul", ["l", "r"], ["y"])], C),
        "split(2) -> mul",
    ),
    "bias": (one("Add", "b", given={"b": weights(4, 1, 1)}), "c: conv(4, 3)"),
    "dense": (
        (
            [
                CONV,
                node("GlobalAveragePool", ["a"], ["p"]),
                node("Flatten", ["p"], ["f"]),
                node("MatMul", ["f", "head.weight"], ["m"]),
                node("Add", ["m", "head.bias"], ["y"]),
            ],
            {**C, "head.weight": weights(4, 5), "head.bias": weights(5)},
        ),
        "global_avgpool -> flatten -> head: linear(5)",
    ),
}
OLD: dict[str, tuple[Any, str]] = {
    "layernorm": ((NORM, {**C, **NORMAL, "two": numbers(2.0), "eps": numbers(1e-5)}), "norm: layernorm"),
}


@pytest.mark.parametrize("name", [*OPERATORS, *OLD])
def test_an_operator_is_said(name: str, tmp_path: Path) -> None:
    (nodes, constants), wanted = {**OPERATORS, **OLD}[name]
    found = from_file(save(tmp_path / "net.onnx", nodes, constants, opset=13 if name in OLD else 21), [(3, 12, 16)])
    assert wanted in found.text
    assert found.notes[-1].startswith("equal to onnxruntime at 3x12x16")


def test_the_batch_of_a_file_is_no_limit(tmp_path: Path) -> None:
    nodes = [CONV, node("Reshape", ["a", "to"], ["r"]), node("MatMul", ["r", "head.weight"], ["y"])]
    constants = {**C, "to": numbers(1, 4 * 64), "head.weight": weights(256, 5)}
    found = from_file(save(tmp_path / "net.onnx", nodes, constants, (1, 3, 8, 8)))
    assert "input image[3, 8, 8]" in found.text and "-> flatten\n    head: linear(5" in found.text
    network = archdsl.load(Source("net.arch", found.text))
    network.load_state_dict(found.state)
    assert network(torch.randn(3, 3, 8, 8)).shape == (3, 5)


def test_channels_last_become_first(tmp_path: Path) -> None:
    nodes = [node("Transpose", ["x"], ["f"], perm=[0, 3, 1, 2]), node("Conv", ["f", "c.weight"], ["y"])]
    found = from_file(save(tmp_path / "net.onnx", nodes, C, ("n", "h", "w", 3)), [(3, 12, 16)])
    assert "H = 12, W = 16]" in found.text and found.notes[-1].startswith("equal to onnxruntime")
    assert "the file takes the channels last" in found.notes[-2]


def test_outputs_have_names(tmp_path: Path) -> None:
    nodes = [CONV, node("Relu", ["a"], ["y"]), node("Sigmoid", ["a"], ["/head/out:0"])]
    path = save(tmp_path / "net.onnx", nodes, C)
    model = onnx.load(str(path))
    model.graph.output.add().CopyFrom(helper.make_tensor_value_info("/head/out:0", TensorProto.FLOAT, None))
    onnx.save(model, str(path))
    assert "output y, head_out_0" in from_file(path, [(3, 12, 16)]).text


# ---------------------------------------------------------------- networks


def exported(name: str, path: Path, *, dynamo: bool) -> torch.nn.Module:
    """A network of the tests, written by one of PyTorch's exporters."""
    made, size = NETWORKS[name]
    torch.manual_seed(0)
    module = made().eval()
    free = [2, 3] if name not in ("lenet", "mixer", "vit") else []
    names = {axis: f"axis{axis}" for axis in [0, *free]}
    shapes = ({axis: torch.export.Dim.AUTO for axis in names},)
    how: dict[str, Any] = (
        {"dynamic_shapes": shapes, "external_data": False} if dynamo else {"dynamic_axes": {"x": names}}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = torch.randn(2, *size)
        torch.onnx.export(module, (image,), str(path), input_names=["x"], dynamo=dynamo, verbose=False, **how)
    return module


def nameless(path: Path) -> None:
    """Replaces all names in a file by numbers."""
    model, names = onnx.load(str(path)), dict[str, str]()

    def new(name: str) -> str:
        return names.setdefault(name, f"t{len(names)}") if name else name

    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = new(value.name)
    for one in graph.node:
        one.input[:], one.output[:], one.name = map(new, one.input), map(new, one.output), ""
        del one.metadata_props[:]
    onnx.save(model, str(path))


def test_a_network_keeps_its_names_and_its_structure_without_them(tmp_path: Path) -> None:
    module = exported("resnet", tmp_path / "net.onnx", dynamo=False)
    found = from_file(tmp_path / "net.onnx", [(3, 64, 64)])
    assert len(found.text.splitlines()) < 30 and "layer1: { repeat 3 { unit(8) } }" in found.text
    assert {key for key in found.state if key.endswith("weight")} <= set(module.state_dict())
    nameless(tmp_path / "net.onnx")
    bare = from_file(tmp_path / "net.onnx", [(3, 64, 64)])
    assert len(bare.text.splitlines()) < 35 and "stage1: { repeat 3 { unit } }" in bare.text


@pytest.mark.long
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_both_exporters(name: str, dynamo: bool, tmp_path: Path) -> None:
    if name == "vgg":
        pytest.skip("PyTorch's exporters write its adaptive pooling as a gather, or not at all")
    exported(name, tmp_path / "net.onnx", dynamo=dynamo)
    found = from_file(tmp_path / "net.onnx", [NETWORKS[name][1]])
    written = (Path("tests/golden/imported") / f"{name}.arch").read_text("utf-8")
    assert len(found.text.splitlines()) <= 1.5 * len(written.splitlines())


# ---------------------------------------------------------------- what is wrong


def constant_of(size: int) -> Any:
    return [CONV, node("ConstantOfShape", ["n"], ["z"]), node("Add", ["a", "z"], ["y"])], {
        **C,
        "n": numbers(size, size),
    }


def branch() -> Any:
    inner = helper.make_graph([], "g", [], [])
    return [CONV, node("If", ["a"], ["y"], then_branch=inner, else_branch=inner)], C


WRONG: dict[str, tuple[Any, str]] = {
    "an unknown operator": (one("Tan"), "no operation for the node y (Tan)"),
    "one of another domain": (one("Relu", domain="com.example"), "no operation for the node y (Relu)"),
    "a branch": (branch(), "has a branch or loop"),
    "a cycle": (
        ([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])], {}),
        "takes `b`, which nothing before it makes",
    ),
    "two makers": (([CONV, node("Relu", ["a"], ["a"]), node("Relu", ["a"], ["y"])], C), "which is there already"),
    "no maker": (([CONV], C), "nothing makes the output `y`"),
    "a large constant": (constant_of(2**20), "is too large"),
    "a large tensor": (one("Resize", "", "s", given={"s": numbers(1.0, 1.0, 1e4, 1e4)}), "which is too large"),
    "half precision": (([CONV, node("Relu", ["a"], ["y"])], {"c.weight": C["c.weight"].astype(np.float16)}), "float16"),
    "weights that are computed": (
        ([node("Relu", ["x"], ["w"]), node("Conv", ["x", "w"], ["y"])], {}),
        "takes weights that are computed",
    ),
    "a slope": (one("HardSigmoid", alpha=0.2), "has alpha = 0.2"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    (nodes, constants), reason = WRONG[name]
    with pytest.raises(ImportRefused) as error:
        from_file(save(tmp_path / "net.onnx", nodes, constants), [(3, 8, 8)])
    assert reason in str(error.value)


def test_every_cut_is_an_error(tmp_path: Path) -> None:
    data = save(tmp_path / "net.onnx", *OPERATORS["dense"][0]).read_bytes()
    path = tmp_path / "cut.onnx"
    for end in range(0, len(data) - 1, 23):
        path.write_bytes(data[:end])
        with pytest.raises(ImportRefused):
            from_file(path, [(3, 8, 8)])


@pytest.mark.parametrize("seed", range(2))
def test_flipped_bits_never_end_in_a_traceback(seed: int, tmp_path: Path) -> None:
    data = bytearray(save(tmp_path / "net.onnx", *OPERATORS["resize"][0]).read_bytes())
    random = np.random.default_rng(seed)
    for _ in range(20):
        changed = bytearray(data)
        for at in random.integers(0, len(data), 3):
            changed[at] ^= 1 << int(random.integers(8))
        (tmp_path / "flipped.onnx").write_bytes(changed)
        try:
            from_file(tmp_path / "flipped.onnx", [(3, 8, 8)])
        except ImportRefused as error:
            assert str(error)


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "missing.bin", ""])
def test_data_outside_of_the_folder_is_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "outside.bin").write_bytes(bytes(10_000))
    path = save(tmp_path / "in" / "net.onnx", *OPERATORS["leaky"][0])
    model = onnx.load(str(path))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ImportRefused, match="no file in its folder"):
        from_file(path, [(3, 8, 8)])


def test_data_in_the_folder_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", *OPERATORS["leaky"][0])
    model = onnx.load(str(path))
    onnx.save_model(model, str(path), save_as_external_data=True, location="net.bin", size_threshold=0)
    assert from_file(path, [(3, 8, 8)]).notes[-1].startswith("equal to onnxruntime")
    (tmp_path / "net.bin").write_bytes(b"short")
    with pytest.raises(ImportRefused, match="ends before the data"):
        from_file(path, [(3, 8, 8)])


# ---------------------------------------------------------------- the command


def test_the_command_writes_spec_and_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "net.onnx", *OPERATORS["dense"][0])
    spec, state = str(tmp_path / "net.arch"), str(tmp_path / "net.safetensors")
    assert cli.run(["import", str(path), "--size", "3x8x8", "-o", spec, "--weights", state]) == 0
    assert cli.run(["weights", spec, state]) == 0
    assert "matched 3 of 3 tensors" in capsys.readouterr().out
    assert cli.run(["import", str(path), "--set", "a=1"]) == 2
    assert cli.run(["import", str(tmp_path / "none.onnx")]) == 2
    assert cli.run(["import", str(path), "--weights", str(path)]) == 2
