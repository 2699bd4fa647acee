"""The network in eval mode, traced by torch.export: the program from which both formats are made."""

from __future__ import annotations

import keyword
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archdsl import dims
from archdsl.backends.torch_source.exporting import exportable, pinned_by
from archdsl.diagnostics import visible
from archdsl.dims import Dim
from archdsl.graph import Graph, Node, Output, Tensor
from archdsl.runtime import loading
from archdsl.transform.renaming import new_names, renamed

if TYPE_CHECKING:
    import torch

TESTED = "2.13"
"""The oldest PyTorch with which exports are tested."""


class ExportError(Exception):
    """A failed export. `node` is where it fails, if known."""

    def __init__(self, message: str, node: Node | None = None) -> None:
        super().__init__(message)
        self.node = node


@dataclass(frozen=True, slots=True)
class Pin:
    """A free size that is fixed in the file, and why."""

    name: str
    value: int
    reason: str

    def __str__(self) -> str:
        return f"{self.name} is pinned to {self.value}: {self.reason}"


def place(node: Node) -> str:
    """An operation and its line: `maxpool` (net.arch:3)."""
    return f"`{node.operation.name}` ({visible(node.span.source.name)}:{node.span.line})"


def outputs_of(graph: Graph) -> list[Output]:
    """The network's outputs in evaluation."""
    return [output for output in graph.outputs if not output.training]


def network(graph: Graph, weights: Path | None, inference: bool) -> torch.nn.Module:
    """The built module in eval mode; several outputs are a plain tuple. Raises OSError, WeightsError."""
    model: Any = loading.instantiate(graph, inference=inference)
    if weights is not None:
        from archdsl.runtime.weights import WeightsError, fit

        state, match = fit(graph, weights)
        if match.missing or match.shapes:
            raise WeightsError(f"{visible(str(weights))} is missing weights that {graph.name} needs: {match.as_text()}")
        model.load_state_dict(loading.folded(model, state) if inference else state)
    return _evaluated(graph, model)


def _evaluated(graph: Graph, model: Any) -> torch.nn.Module:
    if len(graph.outputs) > 1:
        model.forward = _in_a_tuple(model.forward)
    evaluated: torch.nn.Module = model.eval()
    return evaluated


def _in_a_tuple(forward: Callable[..., tuple[object, ...]]) -> Callable[..., tuple[object, ...]]:
    """A module's outputs in evaluation as a plain tuple: no file can name the class of a named tuple."""

    @wraps(forward)
    def plain(*inputs: object) -> tuple[object, ...]:
        return tuple(found for found in forward(*inputs) if found is not None)

    return plain


@dataclass(frozen=True, slots=True)
class Renamed:
    """The network that is traced, and its module: with other names for those that PyTorch's exporter cannot take."""

    graph: Graph
    model: torch.nn.Module
    names: Mapping[str, str]

    def lines(self) -> list[str]:
        """What to say about it."""
        changes = ", ".join(f"`{old}` is `{new}`" for old, new in self.names.items())
        return [f"PyTorch's exporter cannot take some names, so in the file {changes}"] if changes else []


def traceable(graph: Graph, model: torch.nn.Module, inference: bool) -> Renamed:
    """What to trace in place of a network: itself, mostly."""
    names = new_names(graph, is_taken)
    if not names:
        return Renamed(graph, model, names)
    other = renamed(graph, names)
    copy: Any = loading.instantiate(other, inference=inference)
    # The same members in the same order, and so the same tensors; the file is compared with the first module.
    copy.load_state_dict(dict(zip(copy.state_dict(), model.state_dict().values(), strict=True)))
    return Renamed(other, _evaluated(graph, copy), names)


@cache
def is_taken(name: str) -> bool:
    """Whether PyTorch's exporter takes no member of that name: a word of Python, or an attribute of its modules."""
    return keyword.iskeyword(name) or name in _attributes()


@cache
def _attributes() -> frozenset[str]:
    """The attributes that every traced module has, and every container."""
    from torch import fx, nn

    module = nn.Module()
    made = (fx.GraphModule(module, fx.Graph()), nn.Sequential(), nn.ModuleList(), nn.ModuleDict())
    return frozenset(name for one in made for name in dir(one))


def first_pins(graph: Graph, ending: str) -> dict[str, Pin]:
    """The free sizes that no traced program can leave dynamic, and for .pt2 those whose example it would reject."""
    found = {}
    for name, value in graph.examples.items():
        valid = exportable(graph, name)
        if valid is not None and ending == ".pt2" and value not in valid:
            found[name] = Pin(
                name, value, f"a size within the network is 1 then, and a file for others rejects {value}"
            )
        elif valid is None:
            node = pinned_by(graph, name)
            reason = (
                f"{place(node)} behaves differently at some sizes" if node else "its valid sizes have no simple pattern"
            )
            found[name] = Pin(name, value, reason)
    return found


def shape_of(graph: Graph, tensor: Tensor, pins: Mapping[str, Pin]) -> tuple[Dim, ...]:
    """The size of a tensor, without the batch, with the fixed sizes substituted."""
    values = {name: pin.value for name, pin in pins.items()}
    return tuple(dims.substitute(size, values) for size in graph.shape(tensor))


def images(graph: Graph, sizes: Mapping[str, int], batch: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Random inputs of these sizes; each sample has its own mean and contrast, so that samples differ clearly."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    found = []
    for node in graph.input_nodes:
        shape = [dims.evaluate(size, sizes) for size in graph.shape(Tensor(node.id))]
        x = torch.randn(batch, *shape, generator=generator)
        steps = torch.arange(1.0, batch + 1).view(-1, *[1] * len(shape))
        found.append(x * steps**0.5 + 0.3 * (steps - 1))
    return tuple(found)


def traced(graph: Graph, model: torch.nn.Module, pins: Mapping[str, Pin]) -> Any:
    """The program of torch.export, dynamic in the batch and all sizes but the fixed ones. Raises ExportError."""
    import torch

    values = {name: _traceable(graph, name, example) for name, example in graph.examples.items()}
    values |= {name: pin.value for name, pin in pins.items()}
    free = sys.modules[type(model).__module__].dynamic_shapes()
    shapes = tuple(
        {axis: size for axis, size in axes.items() if axis == 0 or not isinstance(shape[axis - 1], int)}
        for axes, shape in zip(free, [shape_of(graph, Tensor(n.id), pins) for n in graph.input_nodes], strict=True)
    )
    with torch.no_grad(), reported(graph):
        # A batch of 1 would be treated as a constant.
        return torch.export.export(model, images(graph, values, 2), dynamic_shapes=shapes)


def _traceable(graph: Graph, name: str, example: int) -> int:
    """The size for tracing: the example size, or the nearest one that a program for many sizes accepts."""
    valid = exportable(graph, name)
    if valid is None or example in valid:
        return example
    below, above = valid.nearest(example)
    return above or below or example


@contextmanager
def reported(graph: Graph) -> Iterator[None]:
    """Reports an exporter error in one line, without its log."""
    import torch

    loggers = [logging.getLogger(name) for name in ("torch.fx.experimental.symbolic_shapes", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ExportError:
        raise
    except Exception as error:  # PyTorch raises many exception types
        cause: BaseException = error
        while cause.__cause__ is not None:  # the ONNX exporter wraps the error in its own advice
            cause = cause.__cause__
        said = next((line for line in str(cause).splitlines() if line.strip()), "") or type(cause).__name__
        here = torch.__version__
        older = [*map(int, here.split(".")[:2])] < [*map(int, TESTED.split("."))]
        help = f"; exports are tested with PyTorch {TESTED} and newer, this is {here}" if older else ""
        raise ExportError(f"PyTorch cannot export `{graph.name}`: {said.rstrip('.')}{help}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
