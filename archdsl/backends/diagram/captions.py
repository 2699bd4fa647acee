"""The words of a diagram: the text in boxes, on arrows and below the picture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from archdsl.analysis.costs import Analysis, Cost
from archdsl.backends.diagram.arguments import Arguments, span
from archdsl.backends.diagram.detail import Detail
from archdsl.backends.diagram.labels import cut, wrapped
from archdsl.backends.diagram.picture import Edge, Part, boxes, drawn, main_node
from archdsl.backends.diagram.structure import Structure
from archdsl.common.units import count_text
from archdsl.dims import Dim, substitute
from archdsl.dims import text as dim_text
from archdsl.graph import Node, Scope, Tensor
from archdsl.ops.base import Family

LONGEST_NAME = 44

LONGEST_LABEL = 24

MOST_SIZES = 4
"""The most sizes that a box or an arrow lists."""


NUMBER = re.compile(r"[\d._]*")
"""A name that only counts."""

ONLY_IN_TRAINING = "only in training"
"""The note of an output `if training`."""

ALL = Detail()


@dataclass(frozen=True, slots=True)
class Caption:
    """The text of a box: `title` is the index of the main line of `lines`, which `then` continues; `notes` are smaller;
    `size` is that of the result, `share` the box's share of the network's cost, `label` what the spec calls a layer."""

    lines: tuple[str, ...]
    title: int = 0
    then: str = ""
    notes: tuple[str, ...] = ()
    size: str = ""
    share: str = ""
    label: str = ""


class Captions:
    """Finds the words for the parts of one graph.

    Free sizes are shown at the values given, else at those that the spec shows, else by name.
    """

    framed = True
    """Whether the pictures have frames."""

    def __init__(
        self,
        structure: Structure,
        analysis: Analysis,
        sizes: Mapping[str, int] | None = None,
        detail: Detail = ALL,
        names: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`names` are those to show instead of blocks' names."""
        self.structure = structure
        self.graph = graph = structure.graph
        self.analysis = analysis
        self.detail = detail
        self.names = names
        self.values = {f.name: f.example for f in graph.free if f.example is not None} | dict(sizes or {})
        self.arguments = Arguments(graph)

    def dim(self, dim: Dim) -> str:
        return dim_text(substitute(dim, self.values), self.graph.sizes)

    def size(self, tensor: Tensor) -> str:
        """`64 × 56 × 56`."""
        return self.sizes([tensor])

    def sizes(self, tensors: Iterable[Tensor]) -> str:
        """The size of tensors that are drawn as one, with ranges where they differ: `96…256 × 56 × 56`."""
        shapes = dict.fromkeys(self.graph.shape(t) for t in tensors)
        if len({len(shape) for shape in shapes}) > 1:
            return " | ".join(" × ".join(map(self.dim, shape)) for shape in shapes)
        return " × ".join(self._span(axis) for axis in zip(*shapes, strict=True))

    def listed(self, streams: Sequence[str]) -> list[str]:
        """Sizes of several tensors, one a line, with their number where some are left out."""
        if len(streams) <= MOST_SIZES:
            return [*streams]
        return [*streams[: MOST_SIZES - 1], f"… {len(streams)} tensors"]

    # ------------------------------------------------------------ boxes

    def box(self, part: Part) -> Caption:
        match part.kind:
            case "input":
                [node] = part.nodes
                return Caption((node.path,), notes=(self.size(Tensor(node.id)),))
            case "output":
                assert part.output is not None
                notes = (self.size(part.output.tensor), *([ONLY_IN_TRAINING] if part.output.training else []))
                return Caption((part.output.name or "output",), notes=notes)
            case "merge":
                return self._merge(part)
            case "block":
                title = self.title(part)
                *more, size = (self.listed(self.results(part)) if self.detail.sizes else []) or [""]
                lines = [*self.facts(part.scope, part.rounds()), *filter(None, [self.shared(part)]), *more]
                share = self.share(part) if self.detail.shares else ""
                return Caption((title,), notes=tuple(lines), size=size, share=share)
            case _:
                notes = tuple(filter(None, [self.shared(part)]))
                return replace(self._layers(part), notes=notes, label=self._label(part))

    def _label(self, part: Part) -> str:
        """The label of the main layer of a box, else of another one; empty if it says no more than the box."""
        if not self.detail.labels or part.count > 1:
            return ""
        main = main_node(part.nodes)
        if part.inner and not self._leads_to_attention(main):
            return ""  # most labels in a repetition would be those of its first round
        for node in [main] if main.labelled else [part.nodes[-1]]:
            label = re.sub(r"[._]*\d*$", "", node.name) if re.search(r"\.\d+$", node.name) else node.name
            plain = re.sub(r"[\d._]+", "", label)
            if node.labelled and plain and not repeats(plain, node.operation.name) and not node.operation.is_learned:
                return cut(label, LONGEST_LABEL)
        return ""

    def _leads_to_attention(self, node: Node) -> bool:
        """Whether it gives the queries, keys or values of an attention: its label says which."""
        return any(i >= 0 and self.graph.node(i).operation.attends for i in self.structure.consumers(node.id))

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
        """The legend's line for each shared layer: `A: head, 3 calls of the same weights`."""
        return [
            f"{letter(number)}: {cut(call.path, LONGEST_NAME)}, {len(self.structure.calls(call))} calls of one module"
            for number, call in enumerate(self.structure.reused)
        ]

    def _layers(self, part: Part) -> Caption:
        left_out = self.left_out(part)
        nodes, main = [n for n in drawn(part.nodes) if n not in left_out], main_node(part.nodes)
        words = {node: self._throughout(node, part) for node in nodes}
        if not self.detail.names and main.operation.has_filters:
            words[main] = words[main].removeprefix(f"{main.operation.name} ")
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

    def left_out(self, part: Part) -> list[Node]:
        """The layers of a box that a shortened caption does not mention."""
        if self.detail.follows or part.kind != "layers":
            return []
        main = main_node(part.nodes)
        others = [n for n in drawn(part.nodes) if n is not main and (n.operation.follows or n.operation.leads)]
        return [n for n in others if not self._gates(n)] if not main.operation.follows else []

    def _gates(self, node: Node) -> bool:
        """Whether a result goes into a product, as that of a gate does."""
        takers = (self.graph.node(i).operation for i in self.structure.consumers(node.id) if i >= 0)
        return any(operation.joins_skip and not operation.is_sum for operation in takers)

    def _merge(self, part: Part) -> Caption:
        *others, last = drawn(part.nodes)
        sign = last.operation.sign or last.operation.name
        notes = [self._throughout(n, part) for n in others]
        counts = Counter(last.inputs).values()
        notes += [f"the same tensor {count} times" for count in counts if count > 1]
        notes += [label] if (label := self._label(part)) else []
        notes += [times(part)] if part.count > 1 else []
        return Caption((sign,), notes=tuple(notes))

    def operation(self, node: Node) -> str:
        operation = node.operation
        text = operation.caption_for(self.graph.shapes(node.inputs)) if node.inputs else operation.caption(1)
        for name in operation.minor if self.detail.small else ():
            text = text.removesuffix(f", {getattr(operation, name)}")
        return text

    def _throughout(self, node: Node, part: Part) -> str:
        """The caption of a node of a box, with the range of what varies where it is repeated: `droppath 0…0.1`."""
        if not node.operation.varies:
            return self.operation(node)
        at = part.nodes.index(node)
        found = [nodes[at] for nodes in part.rounds()] or [node]

        def values(node: Node) -> list[float]:
            return [getattr(node.operation, name) for name in node.operation.varies]

        low, high = self.operation(min(found, key=values)), self.operation(max(found, key=values))
        return " ".join(span(ends) for ends in zip(low.split(), high.split(), strict=True))

    def frame(self, part: Part) -> str:
        """The heading of a frame: `layer1: stage`, and how often it is repeated."""
        longest = self.detail.breadth
        heading = self._name(part.scope, part) if part.scope is not None and part.kind == "open" else ""
        whole = part.scope is not None and part.scope is self.structure.shared(part.nodes)
        within = part.kind == "repeat" and any(self.structure.shared([node]) for node in part.nodes)
        mark = self.reuse(part)
        shared = f"(shared {letter(mark)})" if mark is not None and (whole or within) else ""
        if part.kind == "windows":
            heading = self.operation(part.nodes[0])
        return " ".join(filter(None, [cut(heading, longest), shared, times(part)]))

    # ------------------------------------------------------------ pieces

    def called(self, scope: Scope) -> str:
        """The name of the block that a scope is a call of, or that it holds alone; empty for others."""
        scope = sole(scope)
        name = scope.definition.name if scope.definition is not None and scope.kind == "block" else ""
        return self.names.get(name, name)

    def title(self, part: Part, *, labelled: bool = True) -> str:
        """`layer1: stage`, `bottleneck`, `features`, or how many operations a folded block holds that has no name.

        Blocks go by their labels, too, if they are to be `labelled`.
        """
        named = self._name(part.scope, part, labelled=labelled) if part.scope is not None else ""
        return named or counted(part.nodes)

    def _name(self, scope: Scope, part: Part, *, labelled: bool = True) -> str:
        """The names of a part's scope; the label alone where labels of layers are not shown.

        A repeated block goes by no label, and a frame names no block that it holds alone, whose name is inside.
        """
        called = self.called(scope) if part.kind == "block" or scope.kind == "block" else ""
        repeated = part.inner or part.count > 1
        if called:
            label = scope.name if scope.labelled and labelled and not repeated else ""
        else:
            label = label_of(scope, part if repeated else None)
        if called and label.rstrip("0123456789").replace("_", "") == called.replace("_", ""):
            return label  # `denseblock1: dense_block` would repeat it
        if not self.detail.labels and re.search("[a-z]", label):
            return called if called and scope.kind == "body" else label
        return ": ".join(filter(None, [label, called]))

    def facts(self, scope: Scope | None, rounds: Sequence[Sequence[Node]]) -> list[str]:
        """`64 → 256, stride 1`, in lines: the channels into a block and out of it, over all its repetitions, and its
        arguments."""
        into = self._channels([self.structure.entries(nodes) for nodes in rounds])
        out = self._channels([self.structure.results(nodes) for nodes in rounds])
        arguments = self.arguments.texts(scope, rounds) if scope is not None else []
        channels = [f"{into} → {out}"] if into and out else []
        return wrapped([*channels, *arguments], self.detail.breadth, self.detail.arguments)

    def _channels(self, rounds: Sequence[Sequence[Tensor]]) -> str:
        """The channels of each of several tensors, `16, 32`; of many only how many these are."""
        streams = in_streams(rounds)
        if len(streams) >= MOST_SIZES:
            return f"{len(streams)} tensors"
        return ", ".join(self._span([self.graph.shape(t)[0] for t in stream]) for stream in streams)

    def described(self, scope: Scope) -> str:
        """`bottleneck 64 → 256, stride 1`: one block as the heading of its own picture."""
        name = self.called(scope) or name_of(scope)
        name += "" if scope.kind == "block" else ":"
        return f"{name} {' '.join(self.facts(scope, [sorted(scope.nodes(), key=lambda n: n.id)]))}"

    def results(self, part: Part) -> list[str]:
        """The sizes of the tensors that a box gives, with ranges over its rounds."""
        return [self.sizes(stream) for stream in in_streams([self.structure.results(r) for r in part.rounds()])]

    def _span(self, dims: Sequence[Dim]) -> str:
        """The range of sizes: from the first to the last where they fall, else from the smallest to the largest."""
        found = list(dict.fromkeys(dims))
        numbers = [d for d in found if isinstance(d, int)]
        if len(numbers) == len(found) and numbers != sorted(numbers, reverse=True):
            found = [min(numbers), max(numbers)]
        return span([self.dim(found[0]), self.dim(found[-1])])

    def share(self, part: Part) -> str:
        """`31 % of parameters, 12 % of MACs`."""
        cost, total = self.cost(part), self.analysis.total
        shares = [("params", cost.parameters, total.parameters), ("MACs", cost.macs, total.macs)]
        return " · ".join(f"{percent(n, of)} {name}" for name, n, of in shares if n)

    def cost(self, part: Part) -> Cost:
        return sum((self.analysis[n] for n in part.covered), Cost())

    def edge(self, edge: Edge) -> list[str]:
        """The sizes on an arrow, one for each of its tensors, over all rounds of the box that it leaves."""
        return self.listed([self.sizes(self._throughout_rounds(edge.tail, stream)) for stream in edge.streams])

    def given(self, edge: Edge) -> list[str]:
        """The sizes of all that the box gives which an arrow leaves: `3 of 96 × 7 × 7` where they are equal."""
        if edge.tail.kind == "entry":
            return self.edge(edge)
        found = self.results(edge.tail)
        if len(found) > 1 and len(set(found)) == 1:
            return [f"{len(found)} of {found[0]}"]
        return self.listed(found)

    def _throughout_rounds(self, tail: Part, stream: Sequence[Tensor]) -> list[Tensor]:
        """The tensors that are one in all rounds of a box, of which some flow along an arrow."""
        for nodes in tail.rounds():
            places = {n.id: i for i, n in enumerate(nodes)}
            if stream[0].node in places:
                at = places[stream[0].node]
                return [Tensor(nodes[at].id, stream[0].index) for nodes in tail.rounds()]
        return [*stream]

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


def sole(scope: Scope) -> Scope:
    """The block that a body holds alone, else the scope itself."""
    while scope.kind == "body" and len(scope.members) == 1 and isinstance(scope.members[0], Scope):
        scope = scope.members[0]
    return scope


def counted(nodes: Iterable[Node]) -> str:
    """What stands for the name of nodes that have none."""
    return f"{len(list(nodes))} operations"


def name_of(scope: Scope) -> str:
    """The name of the block of which a scope is a call, else its own."""
    if scope.definition is not None and scope.kind == "block":
        return scope.definition.name
    return label_of(scope) or counted(scope.nodes())


def label_of(scope: Scope, repeated: Part | None = None) -> str:
    """What the spec calls a scope, or what the labels have in common that it has in all rounds of a repeated part.

    A number alone, as of `scope { … }` or `"{i}": …`, is no name: it is `stages.1`, or empty in a repetition.
    """
    names, around = {scope.name}, scope.parent
    rounds = boxes([repeated]) if repeated is not None else []
    for node in (n for box in rounds for n in box.covered):
        names |= {call.name for call in node.scope.calls() if call.depth == scope.depth}
    if len(names) > 1:
        names = {re.sub(r"[._]*\d+$", "", name) for name in names}
    name = names.pop() if len(names) == 1 else ""
    if not NUMBER.fullmatch(name):
        return name
    within = around is not None and around.kind != "model" and not NUMBER.fullmatch(around.name)
    return f"{around.name}.{name}" if around and within and repeated is None else ""


def repeats(label: str, name: str) -> bool:
    """Whether a label is an operation's name or a beginning or end of its words: `pool` of `avgpool`.

    One letter, as of the branches `a` and `b`, is none.
    """
    words = (*name.split("_"), name.replace("_", ""))
    return len(label) > 1 and any(word.startswith(label) or word.endswith(label) for word in words)


def letter(number: int) -> str:
    """`A` for 0, `Z` for 25, then `A1`."""
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")


def times(part: Part) -> str:
    return f"× {part.count}" if part.count > 1 else ""


def in_streams(rounds: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    """The tensors of several rounds: those in one place of each as one."""
    return [list(stream) for stream in zip(*rounds, strict=True)] if len({len(r) for r in rounds}) == 1 else []


def percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0.0
    return "<1 %" if 0 < share < 0.95 else f"{share:.0f} %"
