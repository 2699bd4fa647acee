"""The words of a diagram: the text in boxes, on arrows and below the picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from archdsl.analysis.costs import Analysis, Cost
from archdsl.backends.diagram.labels import cut
from archdsl.backends.diagram.picture import Edge, Part, drawn, main_node
from archdsl.backends.diagram.structure import Structure
from archdsl.common.units import count_text
from archdsl.dims import Dim, substitute
from archdsl.dims import text as dim_text
from archdsl.graph import Node, Scope, Tensor
from archdsl.ops.base import Family
from archdsl.syntax.tree import Literal

LONGEST_ARGUMENT = 18
MOST_ARGUMENTS = 3
LONGEST_NAME = 44


@dataclass(frozen=True, slots=True)
class Caption:
    """The text of a box: `title` is the index of the main line of `lines`, which `then` continues; `notes` are smaller;
    `size` is that of the result, and `share` the box's share of the network's cost."""

    lines: tuple[str, ...]
    title: int = 0
    then: str = ""
    notes: tuple[str, ...] = ()
    size: str = ""
    share: str = ""


class Captions:
    """Finds the words for the parts of one graph.

    Free sizes are shown at the values given, else at those that the spec shows, else by name.
    """

    framed = True
    """Whether the pictures have frames."""

    def __init__(self, structure: Structure, analysis: Analysis, sizes: Mapping[str, int] | None = None) -> None:
        self.structure = structure
        self.graph = graph = structure.graph
        self.analysis = analysis
        self.values = {f.name: f.example for f in graph.free if f.example is not None} | dict(sizes or {})

    def dim(self, dim: Dim) -> str:
        return dim_text(substitute(dim, self.values), self.graph.sizes)

    def size(self, tensor: Tensor) -> str:
        """`64 × 56 × 56`."""
        return " × ".join(self.dim(d) for d in self.graph.shape(tensor))

    # ------------------------------------------------------------ boxes

    def box(self, part: Part) -> Caption:
        match part.kind:
            case "input":
                [node] = part.nodes
                return Caption((node.path,), notes=(self.size(Tensor(node.id)),))
            case "output":
                assert part.output is not None
                notes = (self.size(part.output.tensor), *(["only in training"] if part.output.training else []))
                return Caption((part.output.name or "output",), notes=notes)
            case "merge":
                return self._merge(part)
            case "block":
                title = f"{len(part.nodes)} operations"
                if part.scope is not None:
                    title = scope_title(part.scope, repeated=part.inner or part.count > 1)
                notes = tuple(filter(None, [self.facts(part.scope, part.rounds()), self.shared(part)]))
                return Caption((title,), notes=notes, size=self.result(part), share=self.share(part))
            case _:
                return replace(self._layers(part), notes=tuple(filter(None, [self.shared(part)])))

    def shared(self, part: Part) -> str:
        """Which call of something shared a box is: `shared, call 2 of 3`; empty within a frame that says so."""
        call = self.structure.shared(part.nodes)
        if call is None or self._within(part, call):
            return ""
        calls = self.structure.calls(call)
        if part.count > 1:
            return f"shared {letter(self.number(call))}: the same weights each time"
        return f"shared {letter(self.number(call))}, call {calls.index(call) + 1} of {len(calls)}"

    def number(self, call: Node | Scope) -> int:
        """The number of a shared thing, from 0, by its first call."""
        return [member.path for member in self.structure.reused].index(call.path)

    def reuse(self, part: Part) -> int | None:
        """The number, from 0, of the shared thing of which a box or frame is a call; None within a frame that says so.

        In a picture without frames, also of which it is a piece.
        """
        call = self.structure.shared(part.nodes)
        if call is None and part.kind == "repeat":
            pieces = (self.structure.shared([node]) for node in part.nodes)
            call = next((piece for piece in pieces if piece is not None), None)
        elif self.framed and self._within(part, call):
            return None
        return self.number(call) if call is not None else None

    @staticmethod
    def _within(part: Part, call: Node | Scope | None) -> bool:
        """Whether a part is only a piece of a call of something shared."""
        return isinstance(call, Scope) and len(list(call.nodes())) > len(part.nodes)

    def reuses(self) -> list[str]:
        """What the legend says of each thing that is shared: `A: head, 3 calls of the same weights`."""
        return [
            f"{letter(number)}: {cut(call.path, LONGEST_NAME)}, {len(self.structure.calls(call))} calls of one module"
            for number, call in enumerate(self.structure.reused)
        ]

    def _layers(self, part: Part) -> Caption:
        nodes, main = drawn(part.nodes), main_node(part.nodes)
        words = {node: self._throughout(node, part) for node in nodes}
        if main.operation.follows:
            return Caption((" · ".join(words.values()),))
        at = nodes.index(main)
        before, after = [words[n] for n in nodes[:at]], [words[n] for n in nodes[at + 1 :]]
        lines = [*([" · ".join(before)] if before else []), words[main]]
        if main.operation.is_learned and main.labelled:  # its name says what it is for, and its arrow the size
            lines[-1:] = [main.name]
            after = [main.operation.name, *after]
            return Caption((*lines, " · ".join(after)), len(lines) - 1)
        if len(after) == 1 and nodes[-1].operation.is_activation:
            return Caption(tuple(lines), len(lines) - 1, then=after[0])
        return Caption((*lines, *([" · ".join(after)] if after else [])), len(lines) - 1)

    def _merge(self, part: Part) -> Caption:
        *others, last = drawn(part.nodes)
        sign = last.operation.sign or last.operation.name
        return Caption((sign,), notes=tuple(self._throughout(n, part) for n in others))

    def operation(self, node: Node) -> str:
        rank = len(self.graph.shape(node.inputs[0])) - 1 if node.inputs else 0
        return node.operation.caption(max(rank, 1))

    def _throughout(self, node: Node, part: Part) -> str:
        """The caption of a node of a box, with the range of what varies where it is repeated: `droppath 0…0.1`."""
        if not node.operation.varies:
            return self.operation(node)
        at = part.nodes.index(node)
        found = [nodes[at] for nodes in part.rounds()] or [node]

        def values(node: Node) -> list[float]:
            return [getattr(node.operation, name) for name in node.operation.varies]

        low, high = self.operation(min(found, key=values)), self.operation(max(found, key=values))
        return " ".join(span(a, b) for a, b in zip(low.split(), high.split(), strict=True))

    def frame(self, part: Part) -> str:
        """The heading of a frame: `layer1: stage`, and how often it is repeated."""
        heading = (
            scope_title(part.scope, repeated=part.inner or part.count > 1)
            if part.scope is not None and part.kind == "open"
            else ""
        )
        whole = part.scope is not None and part.scope is self.structure.shared(part.nodes)
        within = part.kind == "repeat" and any(self.structure.shared([node]) for node in part.nodes)
        mark = self.reuse(part)
        shared = f"(shared {letter(mark)})" if mark is not None and (whole or within) else ""
        if part.kind == "windows":
            heading = self.operation(part.nodes[0])
        return " ".join(filter(None, [cut(heading, LONGEST_NAME), shared, times(part)]))

    # ------------------------------------------------------------ pieces

    def facts(self, scope: Scope | None, rounds: Sequence[Sequence[Node]]) -> str:
        """`64 → 256, stride 1`: the channels into a block and out of it, over all its repetitions, and its
        arguments."""
        into = {self.graph.shape(t)[0] for nodes in rounds for t in self.structure.entries(nodes)[:1]}
        out = {self.graph.shape(t)[0] for t in self._results(rounds)}
        channels = [self._span(into), self._span(out)] if into and out else []
        return ", ".join(filter(None, [" → ".join(channels), *self._arguments(scope, channels, rounds)]))

    def described(self, scope: Scope) -> str:
        """`bottleneck 64 → 256, stride 1`: one block as the heading of its own picture."""
        name = scope.definition.name if scope.definition is not None and scope.kind == "block" else scope.name
        name += "" if scope.kind == "block" else ":"
        return f"{name} {self.facts(scope, [sorted(scope.nodes(), key=lambda n: n.id)])}"

    def result(self, part: Part) -> str:
        """The size that a box gives, empty where repetitions differ."""
        sizes = {self.size(t) for t in self._results(part.rounds())}
        return sizes.pop() if len(sizes) == 1 else ""

    def _results(self, rounds: Iterable[Sequence[Node]]) -> list[Tensor]:
        """The last tensor that flows out of each round."""
        return [Tensor(n.id, len(n.shapes) - 1) for nodes in rounds for n in self.structure.exits(nodes)[-1:]]

    def _span(self, dims: Iterable[Dim]) -> str:
        found = sorted(set(dims), key=lambda d: (0, d, "") if isinstance(d, int) else (1, 0, self.dim(d)))
        return self.dim(found[0]) if len(found) == 1 else f"{self.dim(found[0])}…{self.dim(found[-1])}"

    def _arguments(self, scope: Scope | None, shown: Sequence[str], rounds: Sequence[Sequence[Node]]) -> list[str]:
        """The arguments of a block's call that are neither its channels nor its defaults: `stride 1`.

        Of a number that differs between its repetitions it is the range.
        """
        if scope is None or scope.definition is None:
            return []
        usual = {p.name.name: p.default for p in scope.definition.syntax.parameters}
        found = []
        for name, value in scope.arguments.items():
            default = usual.get(name)
            calls = (s for nodes in rounds[1:] for s in nodes[0].scope.calls() if s.depth == scope.depth)
            others = [value, *(call.arguments.get(name) for call in calls)]
            numbers = [v for v in others if isinstance(v, int | float) and not isinstance(v, bool)]
            text = argument_text(value)
            if text is not None and len(numbers) == len(others):
                text = span(argument_text(min(numbers)) or "", argument_text(max(numbers)) or "")
            if isinstance(default, Literal) and default.value == value and name != "stride":
                continue
            if text is not None and text not in shown and len(text) <= LONGEST_ARGUMENT:
                found.append(f"{name} {text}")
        return found[:MOST_ARGUMENTS]

    def share(self, part: Part) -> str:
        """`31 % of parameters, 12 % of MACs`."""
        cost, total = self.cost(part), self.analysis.total
        shares = [("params", cost.parameters, total.parameters), ("MACs", cost.macs, total.macs)]
        return " · ".join(f"{percent(n, of)} {name}" for name, n, of in shares if n)

    def cost(self, part: Part) -> Cost:
        return sum((self.analysis[n] for n in part.covered), Cost())

    def edge(self, edge: Edge) -> str:
        """The size on an arrow, empty where its tensors differ in size."""
        sizes = {self.size(t) for t in edge.tensors}
        return sizes.pop() if len(sizes) == 1 else ""

    def summary(self) -> tuple[str, str]:
        """The text below the picture: the network's name, and its costs."""
        total = self.analysis.total
        facts = f"{total.parameters:,} parameters"
        if all(f.name in self.values for f in self.graph.free):
            sizes = ", ".join(self.size(Tensor(n.id)) for n in self.graph.input_nodes)
            more = " and unknown ones" if self.analysis.uncounted() else ""
            facts += f", {count_text(total.macs)} MACs{more} at {sizes}"
        return self.graph.name, facts


def family(part: Part) -> Family | None:
    """The family that gives a box of layers its colour."""
    return main_node(part.nodes).operation.family if part.nodes else None


def scope_title(scope: Scope, *, repeated: bool = False) -> str:
    """`layer1: stage`, `bottleneck`, `features`.

    A repeated block goes by no label: it would be that of its first round.
    """
    called = scope.definition.name if scope.definition is not None and scope.kind == "block" else ""
    label = scope.name if scope.labelled and not (repeated and called) else ""
    if label.rstrip("0123456789").replace("_", "") == called.replace("_", ""):
        return label  # `denseblock1: dense_block` would repeat it
    return ": ".join(filter(None, [label, called])) or scope.name


def letter(number: int) -> str:
    """`A` for 0, `Z` for 25, then `A1`."""
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")


def times(part: Part) -> str:
    return f"× {part.count}" if part.count > 1 else ""


def span(low: str, high: str) -> str:
    """`0…0.1`, of two equal texts one."""
    return low if low == high else f"{low}…{high}"


def argument_text(value: object) -> str | None:
    """A block's argument in a few characters; None for what has no short text."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"{value:.3g}" if isinstance(value, float) else str(value)
        case str():
            return value
        case tuple() if value and all(isinstance(v, int) for v in value):
            return "[" + ", ".join(map(str, value)) + "]"
        case _:
            return None


def percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0.0
    return "<1 %" if 0 < share < 0.95 else f"{share:.0f} %"
