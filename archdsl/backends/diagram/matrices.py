"""The matrix of a convolution as a picture: where equal weights are, the input above it, the output beside it.

A matrix is drawn from one channel to one. Where the layer's own sizes give one too large to read, it is drawn for a
smaller input of the same layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

from archdsl.backends.diagram.labels import broken
from archdsl.backends.diagram.metrics import text_width
from archdsl.backends.diagram.scene import Pen, Point, Polygon, Scene, Shape, Text, Thing
from archdsl.backends.diagram.theme import Theme
from archdsl.common.units import counted
from archdsl.graph import Node
from archdsl.ops.base import Family, Rules
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import times
from archdsl.ops.formulas import Sizes
from archdsl.ops.matrix import Matrix, flat

WELL, MOST = 64, 300
"""The rows and columns up to which a matrix is drawn at the layer's own sizes, and the most that can be read."""

USUAL: Mapping[int, int] = {1: 12, 2: 6, 3: 3}
"""The least side of the smaller input for which a matrix is drawn, by the number of axes."""

CELLS = ((12, 22.0), (24, 18.0), (36, 14.0), (64, 10.0), (144, 6.0), (MOST, 4.0))
"""The side of a cell, in points, by the rows and columns up to which it is taken."""

LETTERED = 12.0
"""The least side of a cell that has text in it."""

GAP, NARROWEST = 14.0, 380.0
"""Points between the parts of the picture, and the least width of the lines below it."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"

HUES: tuple[Family, ...] = ("convolution", "pooling", "normalisation", "channels", "attention", "resize", "activation")
"""The families whose colours the rows of a kernel have."""


class NoMatrix(ValueError):
    """A layer has no such matrix, or none that can be read."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The matrix that is drawn for a layer, and that of the layer's own sizes."""

    node: Node
    matrix: Matrix
    whole: Matrix


def matrix_of(node: Node, shape: Sizes, output: Sizes) -> Shown:
    """The matrix of a layer at its own sizes, else at smaller ones. Raises NoMatrix."""
    whole = node.operation.matrix(shape, output)
    if whole is None:
        full = " (in that of a fully connected layer every entry is a weight of its own)"
        raise NoMatrix(
            f"`{node.path}`, {node.operation.name}, has no matrix in which weights repeat"
            f"{full if node.operation.is_weighted else ''}; convolutions and transposed convolutions have one"
        )
    if _is_readable(whole, WELL):
        return Shown(node, whole, whole)
    window = whole.window
    reach = [d * (k - 1) + 1 for k, d in zip(window.kernel, window.dilation, strict=True)]
    least = max(USUAL[len(reach)], 1 if whole.transposed else max(reach))
    for side in range(least, MOST):
        sizes = (shape[0], *(min(n, side) for n in shape[1:]))
        if prod(sizes[1:]) > MOST:
            break
        try:
            (made,) = node.operation.infer((sizes,), Rules())
        except OperationError:
            continue
        found = node.operation.matrix(sizes, tuple(n for n in made if isinstance(n, int)))
        if found is not None and _is_readable(found, MOST):
            return Shown(node, found, whole)
    raise NoMatrix(
        f"the matrix of `{node.path}`, whose kernel is {times(window.kernel)}, is too large to read even for the "
        f"smallest input: a picture has at most {MOST} rows and columns"
    )


def _is_readable(matrix: Matrix, most: int) -> bool:
    return all(0 < prod(sizes[1:]) <= most for sizes in (matrix.shape, matrix.output))


def draw_matrix(shown: Shown, theme: Theme, *, notes: bool = True, caption: str = "") -> Scene:
    """The figure of a matrix; `notes` are the lines that say what it is."""
    return _Figure(shown, theme).scene(notes, caption)


@dataclass(slots=True)
class _Figure:
    """The matrix has its upper left corner at the origin, the input above it, the output at its left."""

    shown: Shown
    theme: Theme
    shapes: list[Shape] = field(default_factory=list)

    @property
    def matrix(self) -> Matrix:
        return self.shown.matrix

    @property
    def inputs(self) -> Sizes:
        return self.matrix.shape[1:]

    @property
    def outputs(self) -> Sizes:
        return self.matrix.output[1:]

    @property
    def cell(self) -> float:
        longest = max(prod(self.inputs), prod(self.outputs))
        return next(side for most, side in CELLS if longest <= most)

    # ------------------------------------------------------------ the whole

    def scene(self, notes: bool, caption: str) -> Scene:
        self.entries()
        self.vectors()
        self.kernel()
        things = [Thing(tuple(self.shapes), "matrix")]
        left, low, right, high = _bounds(self.shapes)
        lines = [*(self.notes() if notes else []), *([("", caption)] if caption else [])]
        middle, y = (left + right) / 2, low - GAP - 4
        words: list[Text] = []
        for kind, text in lines:
            bold = kind == "title"
            for line in broken(text, max(right - left, NARROWEST)):
                size, colour = (10.0, self.theme.text) if bold else (9.0, self.theme.muted)
                words.append(Text((middle, y), line, size, colour, bold, text_width(line, size, bold=bold)))
                y -= 13
        things.append(Thing(tuple(words)))
        left, low, right, high = _bounds([*self.shapes, *words])
        return Scene(tuple(things), (left - 8, low - 8, right + 8, high + 8))

    def notes(self) -> Iterator[tuple[str, str]]:
        matrix, whole, node = self.matrix, self.shown.whole, self.shown.node
        rank = len(self.inputs)
        yield "title", f"{node.path}: {node.operation.caption(rank)}"
        found = list(matrix.entries())
        filled, tall, wide = len({(row, column) for row, column, _ in found}), prod(self.outputs), prod(self.inputs)
        weights = counted(prod(matrix.window.kernel), "number")
        yield (
            "",
            f"y = M x, from one channel to one: M is {matrix.name}, {tall} × {wide}; {filled:,} of its {tall * wide:,} "
            f"entries are not zero, and those are the {weights} of the kernel",
        )
        if rank > 1:
            yield "", f"x and y are written row by row: {times(self.inputs)} elements, and {times(self.outputs)}"
        if matrix.shape != whole.shape:
            yield "", f"the layer itself maps {times(whole.shape[1:])} to {times(whole.output[1:])}, in the same way"
        blocks = whole.shape[0] // whole.groups * whole.output[0]
        if blocks > 1:
            yield (
                "",
                f"the matrix of the whole layer has {blocks:,} such blocks, for {counted(whole.shape[0], 'channel')} "
                f"to {counted(whole.output[0], 'channel')}",
            )

    # ------------------------------------------------------------ the matrix

    def entries(self) -> None:
        """The matrix: a grid, its entries, and heavier lines around its blocks."""
        cell, theme = self.cell, self.theme
        tall, wide = prod(self.outputs), prod(self.inputs)
        self.rectangle(0, 0, wide, tall, Pen(theme.frame_border, theme.frames[0], 0.5))
        if cell >= CELLS[-3][1]:
            self.lines(range(1, wide), range(1, tall), 1, 1, Pen(theme.frames[1], width=0.5))
        places: dict[tuple[int, int], list[Sizes]] = defaultdict(list)
        for row, column, place in self.matrix.entries():
            places[row, column].append(place)
        for (row, column), found in places.items():
            fill = _mixed([self.colour(place) for place in found])
            pen = Pen(theme.background, fill, 0.5) if cell >= LETTERED else Pen(fill, fill, 0.1)
            self.rectangle(column, row, column + 1, row + 1, pen)
            if cell >= LETTERED:
                self.letter("+".join(map(self.text, found)), column, row, fill)
        if len(self.inputs) > 1:
            pen = Pen(theme.text, width=0.8)
            self.lines(range(1, prod(self.inputs[:-1])), range(1, prod(self.outputs[:-1])), *self.last, pen)
        self.rectangle(0, 0, wide, tall, Pen(theme.text, width=1.0))

    @property
    def last(self) -> tuple[int, int]:
        """The elements in a row of the input, and of the output."""
        return self.inputs[-1], self.outputs[-1]

    def lines(self, columns: range, rows: range, across: int, down: int, pen: Pen) -> None:
        """Lines before some columns and rows, which are so many cells wide and high."""
        tall, wide = prod(self.outputs) * self.cell, prod(self.inputs) * self.cell
        for i in columns:
            x = i * across * self.cell
            self.shapes.append(Polygon(((x, 0), (x, -tall)), pen, closed=False))
        for i in rows:
            y = -i * down * self.cell
            self.shapes.append(Polygon(((0, y), (wide, y)), pen, closed=False))

    # ------------------------------------------------------------ input, output, kernel

    def vectors(self) -> None:
        """The input above the matrix and the output beside it, with the numbers of their elements, or of their rows."""
        cell, theme = self.cell, self.theme
        strip = max(cell, 10.0)
        for sizes, is_input in ((self.inputs, True), (self.outputs, False)):
            count = prod(sizes)
            each = 1 if len(sizes) == 1 and cell >= LETTERED else sizes[-1] if len(sizes) > 1 else count
            for i in range(count // each):
                start, end = i * each * cell, (i + 1) * each * cell
                corners = [(start, GAP), (end, GAP), (end, GAP + strip), (start, GAP + strip)]
                points = corners if is_input else [(-y, -x) for x, y in corners]
                self.shapes.append(Polygon(tuple(points), Pen(theme.text, theme.terminal[0], 0.6)))
                middle, across = (start + end) / 2, GAP + strip / 2
                text, size = (f"{i}" if each < count else ""), min(8.0, strip * 0.62)
                if len(sizes) > 1 and is_input and text_width(f"row {i}", size) < each * cell:
                    text = f"row {i}"
                x, y = (middle, across) if is_input else (-across, -middle)
                if text_width(text, size) < (each * cell if is_input else strip):
                    self.words(text, x, y, size, theme.muted)
        self.words("x", -GAP / 2 - 4, GAP + strip / 2, 10, theme.text, bold=True)
        self.words("y", -GAP - strip / 2, GAP / 2 + 2, 10, theme.text, bold=True)

    def kernel(self) -> None:
        """The kernel, at the right; the slices of one with three axes under each other."""
        *slices, tall, wide = (1, 1, *self.matrix.window.kernel)[-3:]
        side = 18.0 if tall * slices[0] <= 12 and wide <= 12 else 7.0
        left = prod(self.inputs) * self.cell + 2 * GAP
        self.words("kernel", left + max(wide * side, 30) / 2, GAP / 2, 9, self.theme.muted)
        top = 0.0
        for part in range(slices[0]):
            for row, column in product(range(tall), range(wide)):
                place = (part, row, column)[3 - len(self.inputs) :]
                fill = self.colour(place)
                x, y = left + column * side, top - row * side
                corners = ((x, y), (x + side, y), (x + side, y - side), (x, y - side))
                self.shapes.append(Polygon(corners, Pen(self.theme.background, fill, 0.5)))
                if side >= LETTERED:
                    self.fitted(self.text(place), x + side / 2, y - side / 2, side, fill)
            top -= tall * side + 6

    # ------------------------------------------------------------ one weight

    def text(self, place: Sizes) -> str:
        """The number of a weight, where the spec gives it, else its letter; empty where there are too many."""
        kernel, number = self.matrix.window.kernel, flat(place, self.matrix.window.kernel)
        if self.matrix.kernel:
            found = f"{self.matrix.kernel[number]:.3g}".replace("-", "−")
            return found if len(found) <= 5 else ""
        return LETTERS[number] if prod(kernel) <= len(LETTERS) else ""

    def colour(self, place: Sizes) -> str:
        """A hue for each row of the kernel, in shades; along one axis a hue for each weight."""
        kernel = self.matrix.window.kernel
        hue = flat(place[:-1], kernel[:-1]) if len(kernel) > 1 else place[0]
        steps = kernel[-1] if len(kernel) > 1 else 1
        fill, border = self.theme.families[HUES[hue % len(HUES)]]
        share = 0.12 + 0.5 * place[-1] / max(steps - 1, 1) if steps > 1 else 0.3
        return _between(fill, border, share)

    # ------------------------------------------------------------ shapes

    def rectangle(self, left: float, top: float, right: float, bottom: float, pen: Pen) -> None:
        """A rectangle between some columns and rows of the matrix."""
        x1, x2, y1, y2 = (side * self.cell for side in (left, right, -top, -bottom))
        self.shapes.append(Polygon(((x1, y1), (x2, y1), (x2, y2), (x1, y2)), pen))

    def letter(self, text: str, column: int, row: int, fill: str) -> None:
        self.fitted(text, (column + 0.5) * self.cell, -(row + 0.5) * self.cell, self.cell, fill)

    def fitted(self, text: str, x: float, y: float, side: float, fill: str) -> None:
        """A text in the middle of a cell, as small as it must be."""
        size = min(0.58 * side, 11.0)
        size = min(size, size * 0.9 * side / text_width(text, size)) if text else size
        if text.strip("+") and size >= 3:
            self.words(text, x, y, size, _legible(fill))

    def words(self, text: str, x: float, y: float, size: float, colour: str, *, bold: bool = False) -> None:
        """A text around a point."""
        if text:
            self.shapes.append(Text((x, y - 0.35 * size), text, size, colour, bold, text_width(text, size, bold=bold)))


def _bounds(shapes: Sequence[Shape]) -> tuple[float, float, float, float]:
    points: list[Point] = []
    for shape in shapes:
        if isinstance(shape, Text):
            (x, y), half = shape.at, shape.width / 2
            points += [(x - half, y - 0.25 * shape.size), (x + half, y + 0.8 * shape.size)]
        elif isinstance(shape, Polygon):
            points += shape.points
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


# ---------------------------------------------------------------- colours


def _parts(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _between(first: str, second: str, share: float) -> str:
    """The colour at a share of the way from the first one to the second."""
    return "#" + "".join(
        f"{round(a + share * (b - a)):02x}" for a, b in zip(_parts(first), _parts(second), strict=True)
    )


def _mixed(colours: Sequence[str]) -> str:
    return "#" + "".join(f"{round(sum(part) / len(colours)):02x}" for part in zip(*map(_parts, colours), strict=True))


def _legible(fill: str) -> str:
    """Black or white, whichever has more contrast on a colour."""
    red, green, blue = _parts(fill)
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "#ffffff"
