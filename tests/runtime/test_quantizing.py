"""Exports in int8: smaller files that still compute nearly the network, and refusals."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from archdsl.graph import Graph
from archdsl.runtime.export import Export, ExportError, quantized_export
from archdsl.runtime.export.quantizing import quantized, samples
from tests.helpers import graph_of, net_text

NET = net_text(
    """
    conv(32, 3) -> batchnorm -> relu
    residual { conv(32, 3) -> batchnorm -> relu -> conv(32, 3) -> batchnorm }
    relu -> global_avgpool -> flatten -> linear(5)""",
    "x[3, H = 16, W = 16]",
)


def net() -> Graph:
    return graph_of(NET)


def fill(folder: Path, count: int = 10, shape: tuple[int, ...] = (3, 16, 16)) -> Path:
    draw = np.random.default_rng(0)
    for number in range(count):
        np.save(folder / f"{number}.npy", number * draw.random(shape, dtype="f4"))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Export:
    torch.manual_seed(0)
    return quantized_export(net(), Path("net.onnx"), fill(tmp_path_factory.mktemp("samples")))


def test_int8(made: Export) -> None:
    import onnx

    found = made.quantized
    assert found is not None
    assert (found.calibrated, found.compared) == (8, 2)
    assert found.difference < 0.1
    assert len(made.data) < 0.6 * found.float_size
    model = onnx.load_from_string(made.data)
    scales = [len(i.dims) for i in model.graph.initializer if i.name.endswith("weight_scale")]
    assert scales and max(scales) == 1  # one for each channel
    assert "QuantizeLinear" in {node.op_type for node in model.graph.node}
    assert any("int8" in line for line in made.lines())


def test_two_products_fit_in_16_bits(made: Export) -> None:
    """CPUs without VNNI add them there: the file would compute something else on these, without a word."""
    import onnx

    weights = [
        onnx.numpy_helper.to_array(i)
        for i in onnx.load_from_string(made.data).graph.initializer
        if i.data_type == onnx.TensorProto.INT8 and len(i.dims) > 1
    ]
    assert len(weights) == 4
    assert max(2 * 255 * int(np.abs(w.astype("i4")).max()) for w in weights) < 2**15


def test_free_sizes_stay_free(made: Export) -> None:
    import onnx
    from onnxruntime import InferenceSession

    model = onnx.load_from_string(made.data)
    run = InferenceSession(made.data, providers=["CPUExecutionProvider"])
    (output,) = run.run(None, {model.graph.input[0].name: np.zeros((2, 3, 21, 9), "f4")})
    assert output.shape == (2, 5)


def test_images(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow reads images")
    for number in range(6):
        image.new("RGB", (20 + number, 30), (40 * number, 0, 255)).save(tmp_path / f"{number}.png")
    found = samples(net(), tmp_path)
    assert [x.shape for x in found] == [(1, 3, 16, 16)] * 6
    assert found[1][0, :, 0, 0].tolist() == pytest.approx([40 / 255, 0, 1])


def test_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"only a \.onnx file can be quantised"):
        quantized_export(net(), Path("net.pt2"), tmp_path)


def test_too_few_samples(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="has 3 samples: quantisation needs at least 5"):
        samples(net(), fill(tmp_path, 3))


def test_samples_of_another_size(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"0\.npy has 3 × 8 × 8 of float32, and net takes 3 × 16 × 16 numbers"):
        samples(net(), fill(tmp_path, shape=(3, 8, 8)))


def test_pickles_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "0.npy").write_bytes(pickle.dumps(object))
    np.save(tmp_path / "1.npy", np.array([object], dtype=object))
    for number in (0, 1):
        (tmp_path / "2.npy").write_bytes((tmp_path / f"{number}.npy").read_bytes())
        with pytest.raises(ExportError, match="is no array of numbers"):
            samples(net(), tmp_path)


def test_signals_need_arrays(tmp_path: Path) -> None:
    graph = graph_of(net_text("conv(8, 3)", "x[2, L = 16]"))
    with pytest.raises(
        ExportError, match=r"does not take exactly one image.*; \.npy files may hold inputs of any kind"
    ):
        samples(graph, tmp_path)
    assert len(samples(graph, fill(tmp_path, shape=(2, 16)))) == 10


def test_nothing_to_quantise(tmp_path: Path, made: Export) -> None:
    import onnx
    from onnx import helper

    tensor = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    model = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [tensor], [result]))
    with pytest.raises(ExportError, match="net has no convolution or matrix product to quantise"):
        quantized(net(), model.SerializeToString(), tmp_path)


def test_outputs_far_from_float(tmp_path: Path, made: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archdsl.runtime.export.quantizing.FARTHEST", 0)
    with pytest.raises(ExportError, match="is not written in int8: on 2 samples its outputs differ"):
        quantized_export(net(), Path("net.onnx"), fill(tmp_path))


def test_global_means_are_poolings(made: Export) -> None:
    import onnx

    kinds = {node.op_type for node in onnx.load_from_string(made.data).graph.node}
    assert "ReduceMean" not in kinds
    assert kinds & {"GlobalAveragePool", "QLinearGlobalAveragePool"}
