"""Measures how the gradient of a training loss flows back through a network, layer by layer.

One step of training on random classes: for each layer that multiplies by weights, the norm of the loss's gradient by
these weights, and by the layer's result (of one sample, the root mean square of all). In a deep plain network both fade
towards the input; skips keep them (He et al., Deep residual learning for image recognition, 2015).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archdsl.common.units import counted
from archdsl.graph import Graph, Node, Tensor
from archdsl.report.plots import plotted
from archdsl.report.tables import Cell, Column, Table
from archdsl.runtime.outside import allowing
from archdsl.runtime.parts import evaluated
from archdsl.runtime.running import RunError, frame_of, network_of, pictures

if TYPE_CHECKING:
    import torch

BATCH = 8
"""How many samples a step has."""

NOTE = (
    "by weights: the norm of the loss's gradient by the weights of a layer; by result: by what the layer gives for a\n"
    "sample. The loss is the cross-entropy with random classes, in training mode."
)

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The colours of Okabe and Ito, "Color Universal Design" (2008)."""


@dataclass(frozen=True, slots=True)
class LayerGradient:
    """The gradient at a layer. `depth` counts layers from the input, from 1.

    `weights` and `result` are norms; None where a frozen layer has none, or no tensor of it is seen.
    """

    depth: int
    path: str
    caption: str
    weights: float | None
    result: float | None


@dataclass(frozen=True, slots=True)
class GradientFlow:
    """The gradients of one network, from its first layer to its last."""

    name: str
    on: str
    loss: float
    layers: tuple[LayerGradient, ...]

    @property
    def share(self) -> float | None:
        """The gradient by the weights of the first layer, as a share of that of the last one."""
        found = [layer.weights for layer in self.layers if layer.weights is not None]
        return found[0] / found[-1] if found and found[-1] else None

    def summary(self) -> str:
        """`plain: by the weights of the first of 34 layers, the gradient is 1.9e-13 times that of the last`."""
        if self.share is None:
            return f"{self.name}: no gradient reaches the last layer"
        first = f"by the weights of the first of {counted(len(self.layers), 'layer')}"
        return f"{self.name}: {first}, the gradient is {self.share:.2g} times that of the last"


def gradient_flow(
    graph: Graph,
    *,
    weights: Path | None = None,
    images: Path | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    allow_extern: str | Iterable[str] = (),
) -> GradientFlow:
    """Measures a checked network on one batch; `allow_extern` as in `archdsl.load`.

    A network of one image gets images from a folder or the default ones, others get normal noise. Raises RunError,
    OSError, SpecError.
    """
    import torch

    layers = list(learning(graph))
    if not layers:
        raise RunError(f"{graph.name} has no layer with trainable weights, so no gradient to measure")
    with allowing(allow_extern):
        network = network_of(graph, weights, seed).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        given, on = inputs_of(graph, images, sizes)
        with seen_gradients(network, layers, len(given[0])) as seen:
            loss = loss_of(network(*given))
            loss.backward()
    parameters = dict(network.named_parameters())
    found = []
    for depth, (node, key) in enumerate(layers, 1):
        gradient = parameters[key].grad if key in parameters else None
        norm = None if gradient is None else float(gradient.norm())
        caption = node.operation.caption_for(graph.shapes(node.inputs))
        found.append(LayerGradient(depth, node.path, caption, norm, seen.get(node.path)))
    whose = "random weights" if weights is None else f"weights of {weights.name}"
    return GradientFlow(graph.name, f"{on}, {whose}", float(loss.detach()), tuple(found))


def learning(graph: Graph) -> Iterator[tuple[Node, str]]:
    """The layers that multiply by trainable weights, in order, each with the key of the first of them.

    A layer that is called several times comes once. Layers that only outputs of training need are left out.
    """
    needed = graph.ancestors(o.tensor for o in graph.outputs if not o.training)
    for node in graph.nodes():
        if node.again or node.operation.is_learned or node.id not in needed:
            continue
        for weight in node.operation.weights(graph.shapes(node.inputs)):
            if len(weight.shape) > 1 and weight.trainable and not weight.buffer:
                yield node, weight.key(node.path)
                break


def inputs_of(graph: Graph, images: Path | None, sizes: Mapping[str, int] | None) -> tuple[list[torch.Tensor], str]:
    """A batch for each input, and what it is. Raises RunError."""
    import torch

    if images is not None or [len(graph.shape(Tensor(node.id))) for node in graph.input_nodes] == [3]:
        found, what = pictures(images, frame_of(graph, sizes), BATCH)
        return [found], f"{len(found)} {what}"
    values = {**graph.examples, **(sizes or {})}
    shapes = [evaluated(graph.shape(Tensor(node.id)), values) for node in graph.input_nodes]
    return [torch.randn(BATCH, *shape) for shape in shapes], f"{BATCH} samples of normal noise"


@contextmanager
def seen_gradients(
    network: torch.nn.Module, layers: Sequence[tuple[Node, str]], samples: int
) -> Iterator[dict[str, float]]:
    """A dictionary that a backward pass fills: for each layer the norm of the gradient by its result for one sample.

    The loss is a mean over the samples. Of a layer that is called several times, by its first result.
    """
    import torch

    norms: dict[str, float] = {}

    def hook(path: str) -> Any:
        def watch(module: torch.nn.Module, given: object, result: object) -> None:
            if not isinstance(result, torch.Tensor) or not result.requires_grad or path in norms:
                return
            norms[path] = 0.0

            def keep(gradient: torch.Tensor) -> None:
                # Each sample has its share of the mean; the root mean square over them. Windows count together.
                norms[path] = float(gradient.norm()) * math.sqrt(samples)

            result.register_hook(keep)

        return watch

    modules = dict(network.named_modules())
    handles = [modules[n.path].register_forward_hook(hook(n.path)) for n, _ in layers if n.path in modules]
    try:
        yield norms
    finally:
        for handle in handles:
            handle.remove()


def loss_of(results: object) -> torch.Tensor:
    """The sum of a classifier's losses for random classes over all outputs. Raises RunError if none can be trained."""
    import torch
    from torch.nn import functional as F

    found = []
    for result in results if isinstance(results, tuple | list) else (results,):
        if not isinstance(result, torch.Tensor) or not result.is_floating_point() or not result.requires_grad:
            continue
        if result.shape[1] > 1:
            classes = torch.randint(result.shape[1], (len(result), *result.shape[2:]))
            found.append(F.cross_entropy(result, classes))
        else:
            found.append(F.binary_cross_entropy_with_logits(result, torch.randint(2, result.shape).to(result.dtype)))
    if not found:
        raise RunError("no output of the network depends on its weights by a gradient")
    return torch.stack(found).sum()


# ---------------------------------------------------------------- showing


def as_table(flows: Sequence[GradientFlow]) -> Table:
    """One row per network and layer, as data."""
    keys = ("network", "depth", "path", "layer", "weights", "result")
    rows: list[tuple[Cell, ...]] = [
        (flow.name, layer.depth, layer.path, layer.caption, *map(_exact, (layer.weights, layer.result)))
        for flow in flows
        for layer in flow.layers
    ]
    return Table(tuple(Column(key, key) for key in keys), rows)


def table(flows: Sequence[GradientFlow]) -> Table:
    """One row per layer; of several networks, one row per depth."""
    if len(flows) == 1:
        columns = (
            Column("depth", "depth", True),
            Column("path", "path"),
            Column("layer", "layer"),
            Column("weights", "by weights", True),
            Column("result", "by result", True),
        )
        layers = flows[0].layers
        return Table(columns, [(n.depth, n.path, n.caption, _short(n.weights), _short(n.result)) for n in layers])
    by_depth = [Column("depth", "depth", True)]
    for i, flow in enumerate(flows):
        by_depth.append(Column(f"weights{i}", f"{flow.name}: by weights", True))
        by_depth.append(Column(f"result{i}", "by result", True))
    rows: list[tuple[Cell, ...]] = []
    for depth in range(max(len(flow.layers) for flow in flows)):
        cells: list[Cell] = [depth + 1]
        for flow in flows:
            layer = flow.layers[depth] if depth < len(flow.layers) else None
            cells += [_short(layer.weights), _short(layer.result)] if layer else ["", ""]
        rows.append(tuple(cells))
    return Table(tuple(by_depth), rows)


def _short(norm: float | None) -> str:
    return "" if norm is None else f"{norm:.2g}"


def _exact(norm: float | None) -> str:
    return "" if norm is None else f"{norm:.6g}"


def curves(flows: Sequence[GradientFlow]) -> bytes:
    """The gradients by depth as SVG, a line for each network. Raises ImportError if matplotlib is not installed."""

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, 2, sharey=True)
        for ax, what, title in zip(axes, ("weights", "result"), ("by the weights", "by the result"), strict=True):
            for i, flow in enumerate(flows):
                norms = [(layer.depth, getattr(layer, what)) for layer in flow.layers]
                shown = [(depth, norm) for depth, norm in norms if norm]  # a logarithm has no place for 0
                looks = {"color": COLOURS[i % len(COLOURS)], "marker": "os^Dv"[i % 5], "markersize": 3.5}
                ax.plot(*zip(*shown, strict=True) if shown else ([], []), label=flow.name, linewidth=1.4, **looks)
            ax.set_yscale("log")
            ax.set_title(title, fontsize=9)
            ax.set_xlabel("layer, from the input")
            ax.grid(axis="y", color="#dddddd", linewidth=0.6)
            ax.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel("norm of the gradient")
        axes[1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.suptitle("Gradient of the loss in one training step", fontsize=10)

    return plotted(draw, (8.0, 3.4), "svg")
