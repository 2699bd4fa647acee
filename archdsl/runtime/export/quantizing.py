"""ONNX files in int8: static quantisation, with a scale for each channel of the weights.

onnxruntime's tools observe the tensors of the float32 file on calibration images, and choose their scales. An int8 file
computes something else than the network, so none is proved: it is compared with the float32 file on other images.

Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only inference, 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from archdsl import dims
from archdsl.common.units import bytes_text
from archdsl.diagnostics import visible
from archdsl.graph import Graph, Tensor
from archdsl.runtime.export.program import ExportError
from archdsl.runtime.export.proof import Runner, session
from archdsl.runtime.running import RunError, frame_of, pictures

if TYPE_CHECKING:
    import torch

MOST = 250
"""How many files are read."""
HELD_OUT = 5
"""One of this many samples is for the comparison, the others are for calibration."""
FARTHEST = 0.5
"""How far the outputs may be from those of the float32 file, as a part of their size."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """An int8 file, and its comparison with the float32 file.

    `calibrated` and `compared` are numbers of samples, `difference` is that of the outputs relative to their size, and
    `agreeing` counts the samples with the same highest output, None where outputs are no vectors.
    """

    data: bytes
    float_size: int
    calibrated: int
    compared: int
    difference: float
    agreeing: int | None

    def __str__(self) -> str:
        same = f", and the highest is the same for {self.agreeing}" if self.agreeing is not None else ""
        return (
            f"int8, {bytes_text(len(self.data))} instead of {bytes_text(self.float_size)}, calibrated on "
            f"{self.calibrated} samples; on {self.compared} others its outputs differ from those of float32 by "
            f"{100 * self.difference:.2g} % of their size{same}"
        )


def quantized(graph: Graph, data: bytes, folder: Path) -> Quantized:
    """A float32 ONNX file of a network in int8, calibrated on the samples of a folder.

    Raises ExportError if there is nothing to quantise, if samples do not fit the network, or if the outputs are far
    from those of float32; OSError.
    """
    import onnx

    _need_onnxruntime()
    model = onnx.load_from_string(data)
    if not any(node.op_type in HEAVY for node in model.graph.node):
        raise ExportError(f"{graph.name} has no convolution or matrix product to quantise")
    given = samples(graph, folder)
    compared = given[::HELD_OUT]
    calibrated = [x for number, x in enumerate(given) if number % HELD_OUT]
    changed = _int8(model, calibrated)
    _, exact, _ = session(model)
    _, rough, _ = session(onnx.load_from_string(changed))
    difference, agreeing = _compare(exact, rough, compared)
    if not difference <= FARTHEST:
        raise ExportError(
            f"{graph.name} is not written in int8: on {len(compared)} samples its outputs differ from those of "
            f"float32 by {100 * difference:.0f} % of their size; calibrate on samples like those it will see, "
            "prepared in the same way"
        )
    return Quantized(changed, len(data), len(calibrated), len(compared), difference, agreeing)


HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""The operators that make up nearly all of the work."""


def _need_onnxruntime() -> None:
    try:
        import onnxruntime.quantization  # noqa: F401
    except ImportError:
        raise ExportError("quantisation needs onnxruntime: pip install onnxruntime") from None


def samples(graph: Graph, folder: Path) -> list[torch.Tensor]:
    """The samples of a folder, each with a batch of 1, at the example size: .npy arrays as they are, else images.

    Images are cropped around their centres and scaled, with values from 0 to 1. Raises ExportError, OSError.
    """
    arrays = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".npy")[:MOST]
    try:
        given = _arrays(graph, arrays) if arrays else list(pictures(folder, frame_of(graph), MOST)[0][:, None])
    except RunError as error:
        raise ExportError(f"{error}; .npy files may hold inputs of any kind") from None
    except ImportError as error:
        raise ExportError(f"images need the package {error.name}: pip install 'archdsl[pictures]'") from None
    if len(given) < HELD_OUT:
        raise ExportError(f"{visible(str(folder))} has {len(given)} samples: quantisation needs at least {HELD_OUT}")
    return given


def _arrays(graph: Graph, files: list[Path]) -> list[torch.Tensor]:
    import numpy
    import torch

    if len(graph.input_nodes) != 1:
        raise ExportError(f"{graph.name} has {len(graph.input_nodes)} inputs: only networks with one can be quantised")
    shape = graph.shape(Tensor(graph.input_nodes[0].id))
    wanted = tuple(dims.evaluate(size, graph.examples) for size in shape)
    found = []
    for file in files:
        try:
            array = numpy.load(file, allow_pickle=False)
        except (ValueError, EOFError):
            raise ExportError(f"{visible(str(file))} is no array of numbers") from None
        if array.shape != wanted or array.dtype.kind not in "fiu":
            has = " × ".join(map(str, array.shape))
            raise ExportError(
                f"{visible(str(file))} has {has or 'one'} of {array.dtype}, and {graph.name} takes "
                f"{' × '.join(map(str, wanted))} numbers"
            )
        found.append(torch.from_numpy(array.astype("float32"))[None])
    return found


def _int8(model: Any, given: list[torch.Tensor]) -> bytes:
    """The model with its operators between conversions from and to int8.

    Weights take 7 of the 8 bits: CPUs without VNNI add two products in 16 bits, where those of 8 bits would overflow.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = model.graph.input[0].name

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest: Iterator[Mapping[str, Any]] = ({name: x.numpy()} for x in given)

        def get_next(self) -> Mapping[str, Any] | None:
            return next(self.rest, None)

    with TemporaryDirectory() as place:
        given_file, before, after = (Path(place, f"{stage}.onnx") for stage in ("given", "float32", "int8"))
        onnx.save(model, given_file)  # onnxruntime 1.20 takes no model in memory
        quant_pre_process(str(given_file), str(before), skip_optimization=True, skip_symbolic_shape=True)
        try:
            quantize_static(
                str(before),
                str(after),
                Samples(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        except Exception as error:  # its exceptions have no common class
            raise ExportError(f"onnxruntime cannot quantise it: {str(error).splitlines()[0][:200]}") from error
        return after.read_bytes()


def _compare(exact: Runner, rough: Runner, given: list[torch.Tensor]) -> tuple[float, int | None]:
    """The difference of outputs relative to their size, and on how many samples the highest output is the same."""
    import torch

    errors = sizes = 0.0
    agreeing = 0
    vectors = True
    for x in given:
        wanted, found = exact([x]), rough([x])
        errors += sum(float((a - b).double().square().sum()) for a, b in zip(wanted, found, strict=True))
        sizes += sum(float(a.double().square().sum()) for a in wanted)
        vectors = vectors and len(wanted) == 1 and wanted[0].ndim == 2 and wanted[0].shape[1] > 1
        agreeing += vectors and bool(torch.equal(wanted[0].argmax(1), found[0].argmax(1)))
    return (errors / sizes) ** 0.5 if sizes else float(errors > 0), agreeing if vectors else None
