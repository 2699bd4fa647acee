"""Visualisation: the diagram of a network with the feature maps of its parts for one image.

Each part shows its strongest channels and, in the image, the receptive field of the most strongly activated unit. The
first convolution also shows its filters. So a reader sees edges, then contours, then parts of objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archdsl import dims
from archdsl.analysis.layout import FIRST
from archdsl.analysis.receptive import Receptive, receptive_fields
from archdsl.backends.diagram.cards import Card, Cards
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.runtime.attending import AttentionMaps, Heads, Query, attention_at, recorded
from archdsl.runtime.outside import allowing
from archdsl.runtime.parts import Part, Recorder, numbered, part_of, parts_of, watchable, watched
from archdsl.runtime.running import (
    RunError,
    encode_png,
    fitted,
    frame_of,
    in_colour,
    network_of,
    read_picture,
    with_channels,
)
from archdsl.runtime.saliency import Saliency, saliency

if TYPE_CHECKING:
    import torch

TILE = 72
"""The minimum side of a feature map in the diagram, in pixels."""

CHANNELS = 6
"""How many channels are shown per part."""

NOTE = (
    "The channels of each part with the largest variation, in that order, each scaled to its own range: black is the "
    "minimum, white the maximum; if both signs occur, grey is 0.\n"
    "The frame in the image is the receptive field of the most strongly activated unit of the first one, or of --unit."
)
ATTENTION = "Attention: the image is lit where a head looks, relative to the place where it looks most."
"""The caption."""


MOVED = (
    "Gradients: the image is lit where pixels move the answer, relative to the strongest ones: `gradient` for a small "
    "change,\n`integrated` over the way from a black image, where shares may be of either sign."
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of a part: row and column of its feature map; without a column, the number of a token."""

    path: str
    row: int
    column: int | None = None

    @property
    def place(self) -> str:
        return f"{self.row}" if self.column is None else f"{self.row},{self.column}"


def look(
    graph: Graph,
    image: Path,
    *,
    weights: Path | None = None,
    at: Sequence[str] = (),
    units: Sequence[Unit] = (),
    attention: Sequence[Heads] = (),
    gradients: bool = False,
    number: int | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    allow_extern: str | Iterable[str] = (),
) -> Cards:
    """The feature maps of the parts at the paths `at`, else of the model's blocks, for an image.

    `units` are those whose receptive fields are drawn, instead of the most strongly activated ones; of a part of
    `attention`, whose heads are shown over the image, they are the queries. `gradients`: show which pixels move the
    answer, that of class or channel `number`, else the largest one. `allow_extern` as in `archdsl.load`. Raises
    RunError, OSError, SpecError.
    """
    import torch

    frame = frame_of(graph, sizes)
    picture = fitted(with_channels(read_picture(image), frame.channels), frame.height, frame.width)
    with allowing(allow_extern):
        network = network_of(graph, weights, seed)
    attending = {heads.path: attention_at(graph, heads.path) for heads in attention}
    chosen = {u.path: u for u in units}
    asked = [path for path in chosen if path not in attending]
    parts = _chosen(graph, network, [*at, *(path for path in asked if at)]) if at else parts_of(graph, network, 6)
    known = {p.path for p in parts}
    parts += _chosen(graph, network, [path for path in asked if path not in known])
    first = _first_convolutions(graph)
    shown = {
        **graph.examples,
        **{dims.text(d): n for d, n in zip(_input_shape(graph)[1:], (frame.height, frame.width), strict=True)},
    }
    with torch.no_grad(), watched(graph, network, parts, shown) as seen, recorded(graph, [*attending]) as recording:
        result = network(picture[None])
    output = result if isinstance(result, torch.Tensor) else result[0]
    receptive = receptive_fields(graph, {name: shown[name] for name in graph.examples})
    cards = {
        "": Card(
            [graph.input_nodes[0].name, _size(picture)], [("", encode_png(_enlarged(in_colour(picture), 2 * TILE)))]
        )
    }
    if gradients:
        cards[""].pictures += _moved(saliency(network, picture, number), picture)
    for part in parts:
        if part.path not in seen:
            if part.path in (*at, *chosen):
                raise RunError(f"`{part.path}` gives no tensor here, or several: show a part inside it, or around it")
            continue
        features = seen[part.path][0]
        if features.ndim == 1 and part.tensor == graph.outputs[0].tensor:
            continue  # the output's box has the result
        card = cards[part.path] = Card([part.path, _caption(part, graph), _size(features)])
        if part.what in first:
            card.pictures.append(("filters", encode_png(_filters(network.get_submodule(part.path).weight))))
        if features.ndim == 3:
            _show_maps(card, features, picture, receptive, part, chosen.get(part.path), shown)
    for heads in attention:
        node = attending[heads.path]
        if node.path not in cards:
            parts.append(part_of(node))
            cards[node.path] = Card([node.path, _caption(parts[-1], graph)])
        maps = AttentionMaps(graph, node, Recorder(graph, FIRST, shown), recording[node.path])
        cards[node.path].pictures.append(_attended(maps, heads, chosen.get(node.path), picture))
    cards["output"] = _output_card(graph, output[0], [p for p in parts if p.path in cards])
    notes = [_whose(graph, weights, seed), NOTE, ATTENTION if attention else "", MOVED if gradients else ""]
    note = "\n".join(filter(None, notes))
    return Cards(graph.name, cards, _edges(graph, [p for p in parts if p.path in cards]), note)


def _whose(graph: Graph, weights: Path | None, seed: int) -> str:
    """The line of the caption that says which weights the network has; empty where all are the spec's own numbers."""
    if not any(weight.trainable and not weight.buffer for _, weight in graph.weights()):
        return ""
    if weights is None:
        return f"The weights are random (seed {seed}), not trained: the maps show what such weights make of the image."
    return f"The weights are those of {weights.name}."


def _chosen(graph: Graph, network: torch.nn.Module, paths: Sequence[str]) -> list[Part]:
    everything: dict[str, Scope | Node] = {s.path: s for s in graph.root.scopes() if not s.again}
    everything |= {n.path: n for n in graph.nodes() if not n.again}
    found = []
    for path in paths:
        part = part_of(everything[path]) if path in everything else None
        if part is None or not watchable(part, network):
            have = ", ".join(p.path for p in parts_of(graph, network, 6))
            raise RunError(
                f"{graph.name} has no block or convolution `{path}` to show; there are {have}, and those inside them"
            )
        found.append(part)
    return found


def _input_shape(graph: Graph) -> tuple[dims.Dim, ...]:
    return graph.shape(Tensor(graph.input_nodes[0].id))


def _first_convolutions(graph: Graph) -> list[Node]:
    """The convolutions that read the image itself; if there are none, the first one."""
    picture = Tensor(graph.input_nodes[0].id)
    found = [n for n in graph.nodes() if n.operation.has_filters]
    return [n for n in found if n.inputs == (picture,)] or found[:1]


# ---------------------------------------------------------------- tensors as pictures


def _show_maps(
    card: Card,
    features: torch.Tensor,
    picture: torch.Tensor,
    receptive: Receptive,
    part: Part,
    unit: Unit | None,
    sizes: Mapping[str, int],
) -> None:
    """Adds the strongest channels, and the image with the receptive field of a unit."""
    import torch

    strength = features.flatten(1).std(1) if features[0].numel() > 1 else features.flatten(1).abs().amax(1)
    best = strength.argsort(descending=True)[:CHANNELS]
    card.pictures.append((f"channels {', '.join(map(str, best.tolist()))}", encode_png(_sheet(features[best]))))
    if unit is None:
        at = int(features[best[0]].flatten().argmax())
        row, column = divmod(at, features.shape[2])
    else:
        row, column = unit.row, unit.column if unit.column is not None else -1
        if not (0 <= row < features.shape[1] and 0 <= column < features.shape[2]):
            raise RunError(f"`{part.path}` has no unit {unit.place}; it is {_size(features)}")
    fields = receptive[part.tensor]
    seen = fields.get(receptive.graph.input_nodes[0].id) if fields else None
    numbers = numbered(receptive.graph, part.tensor, (row, column), sizes)
    if seen is None or len(seen) != 2 or numbers is None:
        return
    rows, columns = (axis.at(i) for axis, i in zip(seen, numbers, strict=True))
    if rows is None or columns is None:
        return
    boxed = _boxed(in_colour(picture), rows, columns)
    side = f"{rows[1] - rows[0] + 1} x {columns[1] - columns[0] + 1}"
    card.pictures.append((f"receptive field of unit {row},{column}: {side}", encode_png(torch.as_tensor(boxed))))


def _attended(maps: AttentionMaps, heads: Heads, unit: Unit | None, picture: torch.Tensor) -> tuple[str, bytes]:
    """The image for each head, dark where it does not look, with the words below."""
    from torch.nn import functional as F

    found = maps.maps(heads.numbers, Query(unit.row, unit.column) if unit else None)
    lit = found / found.amax((1, 2), keepdim=True).clamp(min=1e-12)
    lit = F.interpolate(lit[None], picture.shape[1:], mode="nearest")[0]
    tiles = [F.pad(_enlarged(in_colour(picture) * (0.1 + 0.9 * m), 2 * TILE), (0, 3), value=1.0) for m in lit]
    numbers = heads.numbers or range(len(found))
    return f"attention of {maps.words}: heads {', '.join(map(str, numbers))}", encode_png(_row(tiles))


def _moved(found: Saliency, picture: torch.Tensor) -> list[tuple[str, bytes]]:
    """The image, lit where pixels move the answer, by both measures, with the words below."""
    shown = []
    shares = f"integrated: {found.explained:.0%} of {found.difference:.3g}, the difference to a black image"
    answer = f"gradient of {found.answer}, which is {found.value:.3g}"
    for words, moved in ((answer, found.gradient), (shares, found.integrated)):
        strength = moved.abs()
        most = strength.flatten().quantile(0.99).clamp(min=1e-12) if strength.numel() < 2**24 else strength.max()
        lit = in_colour(picture) * (0.1 + 0.9 * (strength / most).clamp(max=1))
        shown.append((words, encode_png(_enlarged(lit, 2 * TILE))))
    return shown


def _shades(maps: torch.Tensor) -> torch.Tensor:
    """Feature maps [N, h, w] scaled to 0 … 1, each by its own range: 0 becomes grey if a map has both signs."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    both = (low < 0) & (high > 0)
    most = maps.abs().amax((1, 2), keepdim=True)
    low, high = low.where(~both, -most), high.where(~both, most)
    return (maps - low) / (high - low).clamp(min=1e-12)


def _enlarged(picture: torch.Tensor, side: int) -> torch.Tensor:
    """[C, h, w] enlarged by an integer factor so that its longer side is at least `side`, with visible pixels."""
    factor = max(1, -(-side // max(picture.shape[1:])))
    return picture.repeat_interleave(factor, 1).repeat_interleave(factor, 2)


def _sheet(maps: torch.Tensor) -> torch.Tensor:
    """Feature maps side by side, [1, H, W], separated by white; large ones are averaged down."""
    from torch.nn import functional as F

    shades = _shades(maps)[None]
    factor = 2 * TILE / max(shades.shape[2:])
    if factor < 1:
        shades = F.interpolate(shades, scale_factor=factor, mode="bilinear", antialias=True)
    return _row([F.pad(_enlarged(m[None], TILE), (0, 3), value=1.0) for m in shades[0]])


def _row(pictures: Sequence[torch.Tensor]) -> torch.Tensor:
    import torch

    return torch.cat(list(pictures), 2)


def _filters(weight: torch.Tensor, limit: int = 64) -> torch.Tensor:
    """The kernels of a first convolution as rows of small pictures, in colour if its input is."""
    import torch
    from torch.nn import functional as F

    kernels = weight.detach()[:limit]
    if kernels.shape[1] != 3:
        kernels = kernels[:, :1].expand(-1, 3, -1, -1)
    most = kernels.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    across = min(16, len(kernels))
    factor = max(1, (21 if len(kernels) > 8 else 42) // max(kernels.shape[2:]))
    tiles = [
        F.pad(k.repeat_interleave(factor, 1).repeat_interleave(factor, 2), (1, 1, 1, 1), value=0.75)
        for k in kernels / most / 2 + 0.5
    ]
    tiles += [torch.ones_like(tiles[0])] * (-len(tiles) % across)
    return torch.cat([_row(tiles[i : i + across]) for i in range(0, len(tiles), across)], 1)


def _boxed(picture: torch.Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> torch.Tensor:
    """The image, darkened except for the given rows and columns, which are framed."""
    import torch

    height, width = picture.shape[1:]
    factor = max(1, -(-2 * TILE // max(height, width)))
    top, bottom = max(rows[0], 0) * factor, min(rows[1] + 1, height) * factor
    left, right = max(columns[0], 0) * factor, min(columns[1] + 1, width) * factor
    large = _enlarged(picture, 2 * TILE)
    shown = large * 0.45
    shown[:, top:bottom, left:right] = large[:, top:bottom, left:right]
    color = torch.tensor([1.0, 0.8, 0.1])[:, None, None]
    for line in (slice(top, min(top + 2, bottom)), slice(max(bottom - 2, top), bottom)):
        shown[:, line, left:right] = color
    for line in (slice(left, min(left + 2, right)), slice(max(right - 2, left), right)):
        shown[:, top:bottom, line] = color
    return shown


# ---------------------------------------------------------------- the diagram


def _caption(part: Part, graph: Graph) -> str:
    if isinstance(part.what, Node):
        return part.what.operation.caption(len(graph.shape(part.tensor)) - 1)
    return part.what.definition.name if part.what.definition else ""


def _size(tensor: torch.Tensor) -> str:
    return " × ".join(map(str, tensor.shape))


def _output_card(graph: Graph, output: torch.Tensor, parts: Sequence[Part]) -> Card:
    card = Card(["output", _size(output)])
    if output.ndim == 1:
        best = output.argsort(descending=True)[:5].tolist()
        card.lines += [f"{i}: {output[i].item():.3g}" for i in best]
    elif output.ndim == 3 and not any(p.tensor == graph.outputs[0].tensor for p in parts):
        card.pictures.append(("", encode_png(_sheet(output[:CHANNELS]))))
    return card


def _edges(graph: Graph, parts: Sequence[Part]) -> list[tuple[str, str]]:
    """The parts from which a part's input comes directly; "" is the image."""
    gives = {part.tensor: part.path for part in parts}
    last: dict[Tensor, tuple[str, ...]] = {}
    for node in graph.nodes():
        before = tuple(dict.fromkeys(p for t in node.inputs for p in last[t])) or ("",)
        for result in range(len(node.shapes)):
            tensor = Tensor(node.id, result)
            last[tensor] = (gives[tensor],) if tensor in gives else before
    edges = []
    for part in parts:
        takes = part.what.inputs
        edges += [(origin, part.path) for t in takes for origin in last[t] if origin != part.path]
    edges += [(origin, "output") for o in graph.outputs[:1] for origin in last[o.tensor]]
    return list(dict.fromkeys(edges))
