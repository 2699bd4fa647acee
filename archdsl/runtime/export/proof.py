"""Compares a file with the module that it was made from, at sizes chosen from the valid ones."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from archdsl.dims import SizeSet
from archdsl.graph import Graph, Node
from archdsl.runtime.export import blame
from archdsl.runtime.export.drawing import SLOW, Try, draw, listed
from archdsl.runtime.export.program import ExportError, images, reported

if TYPE_CHECKING:
    import torch

Runner: TypeAlias = "Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]"

RELATIVE = 1e-3
"""The tolerance of an output, relative to its variation across the samples of the batch."""

ROUNDING = 2e-5
"""Additional tolerance, relative to the output's largest value: float32 rounding in another order of addition."""


class WrongExport(ExportError):
    """A file with other outputs or sizes than the module; `at` is the size, None if nothing can load the file."""

    def __init__(self, message: str, at: Try | None = None, node: Node | None = None) -> None:
        super().__init__(message, node)
        self.at = at


class Refused(Exception):
    """A size that a .pt2 or the module rejects."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The comparisons of an export and their runtime; the largest difference, relative to the tolerance.

    `left_out` were too large to compare; `refused` are those that the file or the module rejects.
    """

    by: str
    tries: tuple[Try, ...]
    left_out: tuple[Try, ...]
    refused: tuple[Try, ...]
    worst: float

    def __str__(self) -> str:
        text = f"matches the module in {self.by} at {listed(self.tries)}"
        if self.refused:
            text += f"; rejected: {listed(self.refused)}"
        if self.left_out:
            text += f"; too large to compare: {listed(self.left_out)}"
        return text


def prove_program(
    graph: Graph, model: torch.nn.Module, data: bytes, valid: Mapping[str, SizeSet], pins: Mapping[str, int]
) -> Proof:
    """Compares a .pt2 file, loaded from its bytes, with the module in eval mode. Raises WrongExport."""
    import torch

    with reported(graph):
        program = torch.export.load(io.BytesIO(data)).module()

    def run(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        try:
            with torch.no_grad():
                result = program(*inputs)
        except AssertionError as error:
            raise Refused(str(error)) from None
        return [result] if isinstance(result, torch.Tensor) else [*result]

    by = f"PyTorch {torch.__version__.partition('+')[0]}"
    return _prove(graph, model, by, run, *draw(graph, valid, pins))


def prove_onnx(
    graph: Graph, network: torch.nn.Module, model: Any, valid: Mapping[str, SizeSet], pins: Mapping[str, int]
) -> Proof:
    """Compares an ONNX model with the module in eval mode. Raises WrongExport, naming the operation if possible.

    Runs it in onnxruntime or, if that is not installed, in onnx's reference evaluator at small sizes.
    """
    try:
        by, run, slow = session(model)
        return _prove(graph, network, by, run, *draw(graph, valid, pins, SLOW if slow else 1))
    except WrongExport as error:
        node = blame.of_message(graph, model, str(error))
        if node is None and error.at is not None:
            with contextlib.suppress(Exception):  # naming the operation is optional help
                node = blame.of_numbers(graph, network, model, error.at)
        raise WrongExport(str(error), error.at, node) from error.__cause__


def _prove(
    graph: Graph, model: torch.nn.Module, by: str, run: Runner, tries: Sequence[Try], left_out: Sequence[Try]
) -> Proof:
    taken: list[Try] = []
    refused: list[Try] = []
    worst = 0.0
    for tried in tries:
        try:
            worst = max(worst, compare(graph, model, run, tried))
            taken.append(tried)
        except Refused as error:
            refused.append(tried)
            last = error
    if not taken or len(refused) > len(taken):
        raise WrongExport(f"it rejects {listed(refused)}: {last}", refused[-1])
    return Proof(by, tuple(taken), tuple(left_out), tuple(refused), worst)


def compare(graph: Graph, model: torch.nn.Module, run: Runner, tried: Try) -> float:
    """The largest difference at one size, relative to the tolerance. Raises WrongExport if it is more than 1."""
    import torch

    inputs = images(graph, tried.sizes, tried.batch, seed=1)
    try:
        with torch.no_grad():
            result = model(*[x.clone() for x in inputs])
    except (RuntimeError, ValueError) as error:  # such as an instance norm of one position
        raise Refused(f"the module does not run at {tried}: {_first_line(error)}") from None
    wanted = [result] if isinstance(result, torch.Tensor) else [*result]
    try:
        found = run(inputs)
    except Refused:
        raise
    except Exception as error:  # runtimes raise their own exception types
        raise WrongExport(f"it does not run at {tried}: {_first_line(error)}", tried) from error
    if len(found) != len(wanted):
        raise WrongExport(f"it has {len(found)} outputs, the module {len(wanted)}", tried)
    return max(_difference(a, b, tried) for a, b in zip(found, wanted, strict=True))


def _difference(found: torch.Tensor, wanted: torch.Tensor, tried: Try) -> float:
    import torch

    if found.shape != wanted.shape:
        raise WrongExport(f"it gives {[*found.shape]} where the module gives {[*wanted.shape]}, at {tried}", tried)
    finite = torch.isfinite(wanted)
    # The positions of NaN and of signed infinities are equal.
    if not torch.equal(found[~finite].nan_to_num(0, 1, -1), wanted[~finite].nan_to_num(0, 1, -1)):
        raise WrongExport(f"it gives infinite numbers or NaN where the module does not, at {tried}", tried)
    difference = (found.double() - wanted.double()).abs()
    wanted = torch.where(finite, wanted, 0).double()
    largest = wanted.abs().max().item()
    spread = (wanted[1:] - wanted[:1]).abs().max().item() if len(wanted) > 1 else largest
    allowed = RELATIVE * spread + ROUNDING * largest
    most = difference[finite].max().item() if finite.any() else 0.0
    if most > allowed:
        raise WrongExport(f"its outputs differ by {most:.2g} at {tried}, where they are up to {largest:.2g}", tried)
    return most / allowed if allowed else 0.0


def _first_line(error: BaseException) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    # onnxruntime puts a location in its own source, with template types, before the actual error.
    return re.sub(r"\S*/onnxruntime_src/.*?\[with .*?\] ", "", line)


def session(model: Any) -> tuple[str, Runner, bool]:
    """A function that runs an ONNX model, and whether it is slow: onnxruntime, or onnx's reference evaluator."""
    import torch

    try:
        import onnxruntime
    except ImportError:
        import onnx
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(model)
        by = f"onnx {onnx.__version__}'s reference evaluator (onnxruntime is not installed)"
        return by, _by_names(evaluator, evaluator.input_names), True
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, too
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common class
        raise WrongExport(f"onnxruntime does not load it: {_first_line(error)}") from error
    return f"onnxruntime {onnxruntime.__version__}", _by_names(session, [i.name for i in session.get_inputs()]), False


def _by_names(session: Any, names: Sequence[str]) -> Runner:
    def run(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        import torch

        values = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
        return [torch.as_tensor(value) for value in values]

    return run
