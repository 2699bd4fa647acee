"""Measures invariance and equivariance: how the output and the feature maps change with transformations of the image.

A transformation T of the image x *displaces* a result f by |f(Tx) - f(x)|: 0 if f is invariant. A feature map
*deviates* by |f(Tx) - T'f(x)|, where T' is the same transformation of the map: 0 if f is equivariant. Both are relative
to the distance between different images, |f(x) - f(x')|, so that 1 is the distance to another image.

Images are cut from larger ones, so that a shift brings in real content rather than a black border.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from archdsl import dims
from archdsl.analysis.receptive import AxisField, Receptive, receptive_fields
from archdsl.graph import Graph
from archdsl.report.plots import plotted
from archdsl.report.tables import Cell, Column, Table
from archdsl.runtime.outside import allowing
from archdsl.runtime.parts import Part, parts_of, watched
from archdsl.runtime.running import Frame, frame_of, network_of, pictures

if TYPE_CHECKING:
    import torch

SHIFTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
ANGLES = (5, 10, 20, 30, 45, 90, 180)
SCALES = (0.8, 0.9, 1.1, 1.25)
HUES = (0.02, 0.05, 0.1, 0.2)
LIGHT = (0.8, 0.9, 1.1, 1.25)

OUTPUT = "output"
"""The name of the network's result in tables, next to the paths of its parts."""

NOTE = (
    "Geometric changes: how far feature maps deviate from moving with the image; non-spatial outputs, and all results\n"
    "of colour changes: displacement. 1 is the distance to another image. `exact for shifts by`: multiples of so many\n"
    "pixels, away from the border; * if every feature is near it."
)

Kind = Literal["flip", "shift", "rotation", "scale", "grey", "hue", "brightness"]


@dataclass(frozen=True, slots=True)
class Transformation:
    """A transformation of images. `amount`: pixels to the right, degrees, factors, fractions of the colour circle.

    For a flip, 0 flips left to right, 1 top to bottom.
    """

    kind: Kind
    amount: float

    @property
    def geometric(self) -> bool:
        return self.kind in ("flip", "shift", "rotation", "scale")

    @property
    def name(self) -> str:
        match self.kind:
            case "flip":
                return ("hflip", "vflip")[int(self.amount)]
            case _:
                return self.kind

    def text(self) -> str:
        return "" if self.kind in ("flip", "grey") else f"{self.amount:g}"


@dataclass(frozen=True, slots=True)
class Measured:
    """The effect of a change on one part. `deviation` is None for a flat tensor or a change of colour.

    `inside`: only features whose field is inside the image were compared; if there are none, all.
    """

    change: Transformation
    path: str
    displacement: float
    deviation: float | None
    inside: bool

    @property
    def shown(self) -> float:
        """The value for tables and curves."""
        return self.displacement if self.deviation is None else self.deviation


@dataclass(frozen=True, slots=True)
class Watched:
    """A part of the network in the measurement. `grid`: it is equivariant to shifts by multiples of this many pixels.

    This follows from the receptive fields, away from the border that padding reaches; None if there is no such number.
    """

    path: str
    size: tuple[int, ...]
    grid: int | None


@dataclass(frozen=True, slots=True)
class Probe:
    """A measurement: the network, the images, and all results."""

    name: str
    on: str
    parts: tuple[Watched, ...]
    measured: tuple[Measured, ...]

    def find(self, kind: Kind, amount: float, path: str = OUTPUT) -> Measured:
        return next(m for m in self.measured if m.change == Transformation(kind, amount) and m.path == path)

    def table(self) -> Table:
        """One row per change: each part's deviation, or its displacement if it is not spatial or colours change."""
        columns = [Column("change", "change"), Column("amount", "amount", True)]
        columns += [Column(p.path, p.path, True) for p in self.parts]
        rows: dict[Transformation, list[Cell]] = {}
        for m in self.measured:
            shown = m.shown
            text = "0" if shown < 5e-5 else f"{shown:.3f}" if shown >= 0.0005 else "<.001"
            starred = m.change.kind == "shift" and m.deviation is not None and not m.inside
            rows.setdefault(m.change, [m.change.name, m.change.text()]).append(f"{text}*" if starred else text)
        grids: list[Cell] = ["exact for shifts by", "", *("" if p.grid is None else f"{p.grid}" for p in self.parts)]
        return Table(tuple(columns), [tuple(row) for row in rows.values()], tuple(grids))

    def as_table(self) -> Table:
        """One row per change and part, as data."""
        keys = ("change", "amount", "part", "moves", "strays", "inside")
        columns = tuple(Column(key, key) for key in keys)
        rows = [
            (
                m.change.name,
                m.change.text(),
                m.path,
                f"{m.displacement:.6g}",
                "" if m.deviation is None else f"{m.deviation:.6g}",
                "yes" if m.inside else "no",
            )
            for m in self.measured
        ]
        return Table(columns, rows)


def probe(
    graph: Graph,
    *,
    weights: Path | None = None,
    images: Path | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    allow_extern: str | Iterable[str] = (),
) -> Probe:
    """Measures a checked network on images from a folder or the default ones; `allow_extern` as in `archdsl.load`.

    Raises RunError, OSError, SpecError.
    """
    frame = frame_of(graph, sizes)
    margin = min(max(SHIFTS), frame.width // 2 - 1)
    canvas, on = pictures(images, wider(frame, margin))
    with allowing(allow_extern):
        network = network_of(graph, weights, seed)
    what = "random weights" if weights is None else f"weights of {weights.name}"
    return measure(graph, network, canvas, frame, f"{len(canvas)} {on}, {what}")


def wider(frame: Frame, margin: int) -> Frame:
    """The frame with a margin on each side, half as large again as a rotation by 45 degrees needs."""
    more = max(margin, math.ceil(max(frame.height, frame.width) * 0.35))
    return replace(frame, height=frame.height + 2 * more, width=frame.width + 2 * more)


def measure(
    graph: Graph, network: torch.nn.Module, canvas: torch.Tensor, frame: Frame, on: str = "", least: int = 4
) -> Probe:
    """Measures the effect of changes of images [N, C, H, W] that are larger than the network's frame.

    Watches at least `least` parts, if there are that many.
    """
    import torch

    parts = [p for p in parts_of(graph, network, least) if p.tensor != graph.outputs[0].tensor]
    sizes = _sizes(graph, frame)
    receptive = receptive_fields(graph, sizes)
    margin = (canvas.shape[3] - frame.width) // 2
    changes = [c for c in _transformations(frame, margin)]
    found: list[Measured] = []
    with torch.no_grad(), watched(graph, network, parts, {**graph.examples, **sizes}) as seen:

        def features(images: torch.Tensor) -> dict[str, torch.Tensor]:
            result = network(images)
            first = result if isinstance(result, torch.Tensor) else result[0]
            return {OUTPUT: first, **seen}

        plain = features(_window(canvas, frame))
        whole = {OUTPUT: Part(OUTPUT, graph.root, graph.outputs[0].tensor), **{p.path: p for p in parts}}
        kept = {path: part for path, part in whole.items() if path in plain}
        units = {path: _spread(plain[path]) for path in kept}
        for change in changes:
            changed = features(_transformed(canvas, change, frame))
            for path, part in kept.items():
                before, after = plain[path], changed[path]
                displacement = _distance(after, before) / units[path]
                deviation, inside = None, False
                if change.geometric and before.ndim == 4 and graph.node(part.tensor).batched:
                    axes = [_axis(receptive, part, i) for i in (0, 1)]
                    deviation, inside = _deviation(before, after, change, axes, frame, units[path])
                found.append(Measured(change, path, displacement, deviation, inside))
    shown = tuple(Watched(path, tuple(plain[path].shape[1:]), _grid(receptive, part)) for path, part in kept.items())
    return Probe(graph.name, on, shown, tuple(found))


def _sizes(graph: Graph, frame: Frame) -> dict[str, int]:
    from archdsl.graph import Tensor

    shape = graph.shape(Tensor(graph.input_nodes[0].id))
    found = {}
    for dim, size in zip(shape[1:], (frame.height, frame.width), strict=True):
        if not isinstance(dim, int):
            found[dims.text(dim)] = size
    return found


def _transformations(frame: Frame, margin: int) -> Iterator[Transformation]:
    yield Transformation("flip", 0)
    yield Transformation("flip", 1)
    yield from (Transformation("shift", t) for t in SHIFTS if t <= margin and t < frame.width // 2)
    yield from (Transformation("rotation", a) for a in ANGLES)
    yield from (Transformation("scale", s) for s in SCALES)
    if frame.channels == 3:
        yield Transformation("grey", 0)
        yield from (Transformation("hue", h) for h in HUES)
    yield from (Transformation("brightness", b) for b in LIGHT)


# ---------------------------------------------------------------- transformations


def _window(canvas: torch.Tensor, frame: Frame, right: int = 0) -> torch.Tensor:
    """The centre of the canvas, with its content shifted to the right."""
    top = (canvas.shape[2] - frame.height) // 2
    left = (canvas.shape[3] - frame.width) // 2 - right
    return canvas[:, :, top : top + frame.height, left : left + frame.width]


def _transformed(canvas: torch.Tensor, change: Transformation, frame: Frame) -> torch.Tensor:
    match change.kind:
        case "flip":
            return _window(canvas, frame).flip(3 - int(change.amount))
        case "shift":
            return _window(canvas, frame, int(change.amount))
        case "rotation" | "scale":
            return _window(_rotated(canvas, change), frame)
        case "grey":
            return _rotated_hue(_window(canvas, frame), 0.0, 0.0)
        case "hue":
            return _rotated_hue(_window(canvas, frame), change.amount, 1.0)
        case "brightness":
            return (_window(canvas, frame) * change.amount).clamp(0, 1)


def _rotated(images: torch.Tensor, change: Transformation) -> torch.Tensor:
    """Rotated or scaled about the centre, [N, C, H, W]; beyond the border its values are repeated."""
    import torch
    from torch.nn import functional as F

    if change.kind == "rotation" and change.amount % 90 == 0 and images.shape[2] == images.shape[3]:
        return images.rot90(int(change.amount) // 90, (2, 3))
    angle = math.radians(change.amount) if change.kind == "rotation" else 0.0
    factor = change.amount if change.kind == "scale" else 1.0
    h, w = images.shape[2:]
    cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
    # The grid is in units of half the image, which differ between the axes.
    matrix = torch.tensor([[cos, -sin * h / w, 0.0], [sin * w / h, cos, 0.0]], dtype=images.dtype)
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _rotated_hue(images: torch.Tensor, turn: float, saturation: float) -> torch.Tensor:
    """The colours of [N, 3, H, W] rotated by a fraction of the circle about the grey axis (in YIQ), or removed."""
    import torch

    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    cos, sin = saturation * math.cos(2 * math.pi * turn), saturation * math.sin(2 * math.pi * turn)
    matrix = torch.linalg.inv(to_yiq) @ torch.tensor([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ to_yiq
    return torch.einsum("dc,nchw->ndhw", matrix.to(images), images).clamp(0, 1)


# ---------------------------------------------------------------- distances


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """The mean Euclidean distance of samples."""
    return float((a - b).flatten(1).norm(dim=1).mean())


def _spread(features: torch.Tensor) -> float:
    """The mean distance between different samples; 1 if all are equal."""
    rolled = [_distance(features, features.roll(k, 0)) for k in range(1, len(features))]
    return (sum(rolled) / len(rolled) if rolled else 0.0) or 1.0


def _deviation(
    before: torch.Tensor,
    after: torch.Tensor,
    change: Transformation,
    axes: Sequence[AxisField | None],
    frame: Frame,
    unit: float,
) -> tuple[float, bool]:
    """How far a map [N, C, h, w] deviates from the change, and whether only features away from the border count.

    `axes` are the fields along its height and width, None if unknown; `frame` is the size of the images.
    """
    import torch

    if change.kind == "shift":
        stride = _stride(axes[1], frame.width, before.shape[3])
        target = _slid(before, int(change.amount) / stride)
        free = _free_of_border(axes[1], before.shape[3])
        rows = _free_of_border(axes[0], before.shape[2])
        by = math.ceil(int(change.amount) / stride)
        # A feature counts if its field, and that of the feature it should equal, is inside the image.
        columns = [i for i in free if i - by in free and i >= by]
        inside = bool(columns) and bool(rows)
        rows = rows if inside else range(before.shape[2])
        columns = columns if inside else list(range(by, before.shape[3]))
        if not columns:
            return _distance(after, before) / unit, False
        index = torch.tensor(list(rows))[:, None], torch.tensor(columns)[None]
        part_of_map = math.sqrt(len(rows) * len(columns) / (before.shape[2] * before.shape[3]))
        return _distance(target[:, :, *index], after[:, :, *index]) / (unit * part_of_map), inside
    target = before.flip(3 - int(change.amount)) if change.kind == "flip" else _rotated(before, change)
    if change.kind == "flip" or (change.kind == "rotation" and change.amount % 90 == 0):
        return _distance(target, after) / unit, False
    # Near the border a rotated map would need content that it does not see.
    h, w = before.shape[2:]
    mask = torch.zeros(h, w, dtype=torch.bool)
    mask[h // 5 : h - h // 5, w // 5 : w - w // 5] = True
    share = math.sqrt(mask.float().mean().item())
    return _distance(target[:, :, mask], after[:, :, mask]) / (unit * share), False


def _slid(features: torch.Tensor, by: Fraction) -> torch.Tensor:
    """The map shifted to the right by a number of features; between two features, their mean."""
    low = math.floor(by)
    part = float(by - low)
    moved: torch.Tensor = features.roll(low, 3) * (1 - part) + features.roll(low + 1, 3) * part
    return moved


def _axis(receptive: Receptive, part: Part, axis: int) -> AxisField | None:
    """The fields along an axis of a map; None among windows, whose elements are numbered in another order."""
    if receptive.graph.node(part.tensor).windows is not None:
        return None
    fields = receptive[part.tensor]
    field = fields.get(receptive.graph.input_nodes[0].id) if fields else None
    return field[axis] if field is not None and len(field) > axis else None


def _stride(axis: AxisField | None, pixels: int, features: int) -> Fraction:
    """Pixels from one feature to the next: from the receptive fields, else the ratio of the sizes."""
    return (axis.stride if axis is not None else None) or Fraction(pixels, features)


def _free_of_border(axis: AxisField | None, features: int) -> range:
    """The consecutive features along an axis whose fields are inside the image, without padding."""
    if axis is None or axis.along is None:
        return range(0)
    inside = [i for i in range(features) if (span := axis.at(i)) is not None and span[0] >= 0 and span[1] < axis.size]
    return range(inside[0], inside[-1] + 1) if inside else range(0)


def _grid(receptive: Receptive, part: Part) -> int | None:
    axis = _axis(receptive, part, 1)
    if axis is None or axis.along is None:
        return None
    return lcm(*(max(t.step, 1) for t in axis.tracks))


# ---------------------------------------------------------------- curves


def curves(found: Probe) -> bytes:
    """The measurement as SVG: for each kind of change with several amounts, the deviation or displacement of each part.

    Raises ImportError if matplotlib is not installed.
    """
    plots = [(kind, title) for kind, title in TITLES.items() if any(m.change.kind == kind for m in found.measured)]
    return _plot(found, plots)


TITLES: Mapping[Kind, str] = {
    "shift": "shift, pixels",
    "rotation": "rotation, degrees",
    "scale": "scale",
    "hue": "hue, of the circle",
    "brightness": "brightness",
}


def _plot(found: Probe, plots: list[tuple[Kind, str]]) -> bytes:
    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(plots), sharey=True, squeeze=False)[0]
        for ax, (kind, title) in zip(axes, plots, strict=True):
            for part in found.parts:
                line = [m for m in found.measured if m.change.kind == kind and m.path == part.path]
                bold = {"color": "black", "linewidth": 2} if part.path == OUTPUT else {"linewidth": 1.2}
                ax.plot([m.change.amount for m in line], [m.shown for m in line], marker=".", label=part.path, **bold)
            ax.set_xlabel(title)
            ax.spines[["top", "right"]].set_visible(False)
        # Last, because a fixed limit stops plots that share its axis from growing.
        axes[0].set_ylim(bottom=0)
        axes[0].set_ylabel("distance / distance to another image")
        axes[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.suptitle(f"{found.name}: deviation of feature maps, displacement of non-spatial outputs", fontsize=10)

    return plotted(draw, (3.2 * len(plots), 3.4), "svg")
