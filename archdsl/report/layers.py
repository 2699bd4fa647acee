"""The table of a network, one row per layer or block, and its totals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from archdsl import dims
from archdsl.analysis.costs import Analysis, Formulas, amounts, costs
from archdsl.analysis.formulas import Formula
from archdsl.analysis.ledger import Moment
from archdsl.analysis.memory import Memory, memory
from archdsl.analysis.receptive import AxisField, Receptive, receptive_fields
from archdsl.common.choices import BYTES, Mode, check_training
from archdsl.common.threads import cached_property
from archdsl.common.units import bytes_text, ratio_text
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.graph.series import Part
from archdsl.report.tables import Cell, Column, Table
from archdsl.transform.recompute import as_run, recompute


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a table.

    `sizes` are numbers for free sizes. A scope nested deeper than `depth` is one row. `flops` adds a column, `wide`
    adds the columns that are hidden by default. `optimizer`, `limit` (bytes) and `recompute` apply to training.
    `columns` are the keys of the columns; empty: all that are not hidden. `inference`: the network is in the form for
    inference.
    """

    sizes: Mapping[str, int] | None = None
    batch: int = 1
    depth: int | None = None
    flops: bool = False
    wide: bool = False
    dtype: str = "float32"
    optimizer: str = "adam"
    limit: int | None = None
    recompute: Mode = "none"
    columns: tuple[str, ...] = ()
    inference: bool = False

    def __post_init__(self) -> None:
        check_training(self.dtype, self.optimizer)


@dataclass(frozen=True, eq=False)
class Layers:
    """A network's numbers. Totals that depend on free sizes are evaluated at `sizes`."""

    graph: Graph
    options: Options

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        return {**self.graph.examples, **(self.options.sizes or {})}

    @cached_property
    def several(self) -> bool:
        """Whether the network has several inputs."""
        return len(self.graph.input_nodes) > 1

    @cached_property
    def costs(self) -> Analysis:
        return costs(self.graph, self.sizes)

    @cached_property
    def formulas(self) -> Formulas:
        return amounts(self.graph, self.options.sizes)

    @cached_property
    def fields(self) -> Receptive:
        return receptive_fields(self.graph, self.sizes)

    @cached_property
    def windows(self) -> Receptive:
        """The fields through windows only."""
        return receptive_fields(self.graph, self.sizes, windows=True)

    def field_columns(self, tensor: Tensor) -> dict[int, dict[str, str]] | None:
        """The description of a tensor's field on each input, by the input's node; None if it is too complex."""
        found, shape = self.fields[tensor], self.fields.shape(tensor)
        if found is None:
            return None
        through = (self.windows[tensor] or {}) if any(a.sees_all for axes in found.values() for a in axes) else {}
        return {source: describe(axes, shape, through.get(source, ())) for source, axes in found.items()}

    def everywhere(self) -> Iterator[dict[str, str]]:
        """The field columns of the first result of every layer, for each input."""
        for node in self.graph.nodes():
            yield from (self.field_columns(Tensor(node.id)) or {}).values()

    @cached_property
    def memory(self) -> Memory:
        return self.held(cpu=True)

    @cached_property
    def run(self) -> tuple[Graph, frozenset[Part]]:
        """The graph as the built module runs it, and the parts that it recomputes."""
        return as_run(self.graph, recompute(self.graph, self.options.recompute))

    def held(self, *, cpu: bool) -> Memory:
        graph, again = self.run
        evaluates = self.options.inference
        return memory(graph, self.sizes, self.options.dtype, cpu=cpu, recompute=again, evaluates=evaluates)

    def count(self) -> None:
        """Computes now what is otherwise computed on demand."""
        for counted in (self.costs, self.formulas, self.fields, self.memory):
            assert counted

    @cached_property
    def table(self) -> Table:
        """One row for each layer or block. Raises ValueError if `options.columns` names one that there is not."""
        named = self.options.columns
        wide, flops = self.options.wide or bool(named), self.options.flops or bool(named)
        shown = [c for c in COLUMNS if (wide or c.key not in DETAILS) and (flops or c.key != "flops")]
        keys = [c.key for c in shown]
        rows = [
            tuple(cells[key] for key in keys) for cells in map(self.row, folded(self.graph.root, self.options.depth))
        ]
        total = {"path": "total", **self.amounts(self.graph.root)}
        # A formula for all layers is too long for a column; it goes below the table.
        total = {key: "" if isinstance(c, str) and key in FORMULAS else c for key, c in total.items()}
        table = Table(tuple(shown), rows, tuple(total.get(key, "") for key in keys))
        return table.only(named) if named else table

    def row(self, part: Node | Scope) -> dict[str, Cell]:
        graph = self.graph
        if isinstance(part, Node):
            tensors = [Tensor(part.id, i) for i in range(len(part.shapes))]
            what = part.operation.caption(len(graph.shape((*part.inputs, *tensors)[0])) - 1)
        else:
            tensors = list(part.outputs)
            what = part.definition.name if part.definition else "{ … }"
        return {
            "path": part.path,
            "operation": f"{what} (again)" if part.again else what,
            "output": self.size(tensors),
            **self.amounts(part),
            **self.seen(tensors),
        }

    def size(self, tensors: Sequence[Tensor]) -> str:
        shown = (self.costs.shape(t) if self.options.sizes else self.graph.shape(t) for t in tensors)
        return ", ".join(" × ".join(dims.text(d, self.graph.sizes) for d in shape) for shape in shown)

    def amounts(self, part: Node | Scope) -> dict[str, Cell]:
        cost, formulas = self.costs[part], self.formulas[part]
        width = BYTES[self.options.dtype]
        return {
            "parameters": cost.parameters,
            "trainable": cost.trainable,
            "frozen": cost.frozen,
            "buffers": cost.buffers,
            "macs": self.known(part, self.cell(formulas.macs)),
            "flops": self.known(part, self.cell(formulas.flops)),
            "memory": self.cell(formulas.elements * width),
        }

    def known(self, part: Node | Scope, cell: Cell) -> Cell:
        """An amount of a part, which says what is unknown of it."""
        if not self.costs.uncounted(part):
            return cell
        number = f"{cell:,}" if isinstance(cell, int) else str(cell)
        return "unknown" if cell == 0 else f"{number} + unknown"

    def cell(self, formula: Formula) -> Cell:
        """A formula times the batch: a number, or text if it has free sizes."""
        whole = formula * self.options.batch
        return whole.text(self.graph.sizes) if whole.number is None else whole.number

    def seen(self, tensors: Sequence[Tensor]) -> dict[str, Cell]:
        """Field, stride and offset on each input."""
        found = self.field_columns(tensors[0]) if tensors else {}
        if found is None:
            return {"field": "?", "stride": "", "offset": ""}
        cells: dict[str, list[str]] = {"field": [], "stride": [], "offset": []}
        for source, numbers in found.items():
            name = f"{self.graph.node(source).name} " if self.several else ""
            for key, text in numbers.items():
                if text:
                    cells[key].append(name + text)
        return {key: ", ".join(texts) for key, texts in cells.items()}

    # ------------------------------------------------------------ below the table

    @property
    def at(self) -> str:
        """`H = 224, W = 224`."""
        return ", ".join(f"{name} = {value}" for name, value in self.sizes.items())

    @property
    def notes(self) -> list[str]:
        """Explains the columns."""
        options = self.options
        samples = "one sample" if options.batch == 1 else f"{options.batch} samples"
        columns = "field, stride"
        if options.wide:
            columns += ", offset"
        notes = [f"MACs: multiply-accumulates of convolutions and matrix products, {samples}"]
        if any(node.again for node in self.graph.nodes()):
            notes.append("(again): another call of what is shared, with the weights of the first one")
        if options.flops:
            notes.append(
                "FLOPs: 2 × MACs, and element-wise operations (bias, activation, element of a pooling's window, "
                "merge: 1 each; batchnorm: 2; other normalisations: 6; interpolation: 2 a neighbour)"
            )
        notes += [
            f"memory: bytes of the outputs in {options.dtype}, {samples}; views of other tensors take none",
            f"{columns}: receptive field in the input (over all channels), and the distance to its neighbour's field",
        ]
        if any(" (" in field["field"] for field in self.everywhere()):
            notes.append("in parentheses: the same through windows only, without global poolings and statistics")
        return notes

    def totals(self) -> list[tuple[str, str]]:
        """The totals of the network, as pairs of a name and a text."""
        options, total = self.options, self.costs.total
        kinds = f"{total.trainable:,} trainable, {total.frozen:,} frozen" if total.frozen else "all trainable"
        lines = [("parameters", f"{total.parameters:,} ({kinds}); {total.buffers:,} numbers in buffers")]
        by_width = ", ".join(
            f"{bytes_text(self.weights(dtype))} in {names}"
            for dtype, names in WIDTHS.items()
            if dtype in ("float32", "float16") or dtype == options.dtype
        )
        lines.append(("weights", f"{by_width}, with buffers"))
        for name, key in (("MACs", "macs"), ("FLOPs", "flops"), ("memory", "memory")):
            cell = self.amounts(self.graph.root)[key]
            if isinstance(cell, str) and (key != "flops" or options.flops):
                text = f"{cell}{' bytes' if key == 'memory' else ''}"
                at = f"; {self.number(key):,} at {self.at}" if self.graph.free and cell != "unknown" else ""
                lines.append((name, text + at))
        lines += [("unknown", text) for text in self.unknown()]
        if aside := self.graph.of_training():
            parameters, macs = self.aside(aside)
            names = ", ".join(f"`{o.name}`" for o in self.graph.outputs if o.training)
            lines.append(("of these", f"{parameters:,} parameters and {macs:,} MACs for {names}, in training only"))
        where = ", ".join(filter(None, [self.at, f"batch {options.batch}", options.dtype]))
        found = self.memory
        peak = found.inference
        held, place = bytes_text(peak.at(options.batch)), self.place(peak.moment(options.batch))
        lines.append(("inference", f"at most {held} at once ({where}), {place}"))
        lines += self.training() if not options.inference else []
        if options.limit is not None:
            training, inference = self.batches(options.limit)
            text = f"{training:,} for training with {options.optimizer}, {inference:,} for inference"
            text = f"{inference:,}" if options.inference else text
            more = "a GPU also needs memory for its context, workspaces and fragmentation"
            lines.append(("batch", f"at most {text} in {bytes_text(options.limit)}; {more}"))
        return lines

    def training(self) -> list[tuple[str, str]]:
        """The lines of the totals about a training step."""
        found, options = self.memory, self.options
        step, saved = found.training(options.optimizer), bytes_text(found.saved.at(options.batch))
        held, place = bytes_text(step.at(options.batch)), self.place(step.moment(options.batch))
        state = found.state(options.optimizer)
        parts = [f"weights {bytes_text(found.weights)}", f"their gradients {bytes_text(found.trainable)}"]
        parts += [f"{options.optimizer}'s state {bytes_text(state)}"] if state else []
        return [
            ("training", f"at most {held} at once with {options.optimizer}, {place}"),
            ("  of that", f"{', '.join(parts)}, saved activations {saved}; gradients of activations are temporary"),
        ]

    def unknown(self) -> list[str]:
        """The costs that none of the numbers includes."""
        found = [n.path for n in self.graph.nodes() if n.operation.outside()]
        lines = [f"the memory inside of code from outside: {listed(found)}"] if found else []
        uncounted = [n.path for n in self.costs.uncounted()]
        return lines + ([f"the MACs of {listed(uncounted)}: its `extern` does not say them"] if uncounted else [])

    def aside(self, nodes: Sequence[Node]) -> tuple[int, int]:
        """Parameters, and MACs for the batch, of some nodes."""
        costs = [self.costs[node] for node in nodes]
        return sum(c.parameters for c in costs), sum(c.macs for c in costs) * self.options.batch

    def batches(self, limit: int) -> tuple[int, int]:
        """The largest batches for training and inference that fit into this many bytes on a GPU."""
        found = self.held(cpu=False)
        return found.training(self.options.optimizer).largest_batch(limit), found.inference.largest_batch(limit)

    def place(self, moment: Moment) -> str:
        return "between the passes" if moment.node is None else f"in {self.run[0].node(moment.node).path}"

    def weights(self, dtype: str) -> int:
        """Bytes of parameters and buffers."""
        return memory_of_weights(self.graph, dtype)

    def bytes(self, part: Node | Scope) -> int:
        """Bytes of the outputs of a layer or block at `sizes`, for the batch."""
        return self.formulas[part].elements.at(self.sizes) * BYTES[self.options.dtype] * self.options.batch

    def number(self, key: str) -> int:
        """A total at `sizes`, times the batch."""
        formulas = self.formulas[self.graph.root]
        width = BYTES[self.options.dtype]
        formula = {"macs": formulas.macs, "flops": formulas.flops, "memory": formulas.elements * width}[key]
        return formula.at(self.sizes) * self.options.batch

    def as_data(self) -> dict[str, object]:
        """The rows, and the totals at `at`."""
        options, total, found = self.options, self.costs.total, self.memory
        data: dict[str, object] = {
            "parameters": total.parameters,
            "trainable": total.trainable,
            "frozen": total.frozen,
            "buffers": total.buffers,
            "weight_bytes": {dtype: self.weights(dtype) for dtype in BYTES},
            "macs": self.number("macs"),
            "flops": self.number("flops"),
            "of_training_alone": dict(zip(("parameters", "macs"), self.aside(self.graph.of_training()), strict=True)),
            "memory": self.number("memory"),
            "inference_peak": found.inference.at(options.batch),
        }
        if not options.inference:
            data |= {
                "saved_activations": found.saved.at(options.batch),
                "gradients": found.trainable,
                "optimizer_state": found.state(options.optimizer),
                "training_peak": found.training(options.optimizer).at(options.batch),
            }
        if uncounted := self.costs.uncounted():
            data["macs_unknown"] = [n.path for n in uncounted]
        if outside := [n.path for n in self.graph.nodes() if n.operation.outside()]:
            data["memory_unknown"] = outside
        if options.limit is not None:
            data["largest_batch"] = dict(zip(("training", "inference"), self.batches(options.limit), strict=True))
        return {
            "at": dict(self.sizes),
            "batch": options.batch,
            "dtype": options.dtype,
            "optimizer": options.optimizer,
            "layers": self.table.as_data(),
            "total": data,
        }


COLUMNS = (
    Column("path", "path", breaks=" ."),
    Column("operation", "operation"),
    Column("output", "output size"),
    Column("parameters", "parameters", numeric=True, unit="count", rank=1),
    Column("trainable", "trainable", numeric=True, unit="count", rank=7),
    Column("frozen", "frozen", numeric=True, unit="count", rank=8),
    Column("buffers", "buffers", numeric=True, unit="count", rank=8),
    Column("macs", "MACs", numeric=True, unit="count", rank=2),
    Column("flops", "FLOPs", numeric=True, unit="count", rank=3),
    Column("memory", "memory", numeric=True, unit="bytes", rank=4),
    Column("field", "field", numeric=True, rank=5),
    Column("stride", "stride", numeric=True, rank=6),
    Column("offset", "offset", numeric=True, rank=9),
)
WIDTHS = {"float64": "float64", "float32": "float32", "float16": "float16 or bfloat16"}
"""A dtype of each width, and the names of all dtypes of that width."""

DETAILS = frozenset(("trainable", "frozen", "buffers", "offset"))
FORMULAS = frozenset(("macs", "flops", "memory"))


def describe(axes: Sequence[AxisField], shape: Sequence[int], windows: Sequence[AxisField] = ()) -> dict[str, str]:
    """A field in words: `427`, `7×3`, `188–204` if phases differ, `everything`; its stride; its offset.

    If an element depends on a whole axis, the field through `windows` only follows in parentheses: `everything (400)`.
    """
    field = _described(axes, shape)
    if windows and all(any(span for track in axis.tracks for span in track.spans) for axis in windows):
        through = _described(windows, shape)
        if through["field"] != field["field"]:
            return {key: " ".join(filter(None, [field[key], text and f"({text})"])) for key, text in through.items()}
    return field


def _described(axes: Sequence[AxisField], shape: Sequence[int]) -> dict[str, str]:
    if all(a.sees_all for a in axes):
        return {"field": "everything" if axes else "", "stride": "", "offset": ""}
    extents, strides, offsets = [], [], []
    for axis in axes:
        low, high = axis.extents(0 if axis.along is None else shape[axis.along + 1] // 2)
        stride, offset = axis.stride, axis.offset
        extents.append("all" if axis.sees_all else str(low) if low == high else f"{low}–{high}")
        strides.append("varies" if stride is None else "" if axis.along is None else ratio_text(stride))
        offsets.append("" if offset is None else ratio_text(offset))
    places = [axis.along for axis in axes if axis.along is not None]
    if len(set(places)) < len(places):  # several axes in one row: neighbours in it may lie a line apart
        return {"field": _joined(extents), "stride": "", "offset": ""}
    return {"field": _joined(extents), "stride": _joined(strides), "offset": _joined(offsets)}


def _joined(texts: Sequence[str]) -> str:
    return texts[0] if len(set(texts)) == 1 else "×".join(t or "-" for t in texts)


def listed(paths: Sequence[str]) -> str:
    """`a`, `b`, `c` and 2 more."""
    shown = ", ".join(f"`{path}`" for path in paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"


def memory_of_weights(graph: Graph, dtype: str) -> int:
    """Bytes of a network's parameters and buffers; int64 buffers keep their width."""
    return sum(weight.bytes(BYTES[dtype]) for _, weight in graph.weights())


def folded(root: Scope, depth: int | None) -> Iterator[Node | Scope]:
    """The nodes inside, in order; scopes nested deeper than `depth` instead of their nodes."""
    stack: list[tuple[Node | Scope, int]] = [(root, -1)]
    while stack:
        part, level = stack.pop()
        if isinstance(part, Scope) and (part is root or depth is None or level < depth):
            stack.extend((member, level + 1) for member in reversed(part.members))
        else:
            yield part
