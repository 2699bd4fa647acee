"""From a pattern of several modules to a block: differing leaves become parameters or follow from others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from archdsl.ops import OPERATIONS
from archdsl.ops.fields import shown
from archdsl.runtime.importing.alike import WITHOUT, a_value
from archdsl.runtime.importing.chains import ABSENT, Chain, Many, Node, Text, key, walk
from archdsl.runtime.importing.layers import default_of, same

FACTORS = (2, 3, 4, 5, 6, 8, 16)
"""The factors by which one width may follow from another."""
FEW_PAIRS = 3
"""So few numbers may differ from the channels by the same number by accident."""
NAMES = {"out": "width", "pad": "padding", "p": "rate", "r": "factor", "n": "parts", "to": "size"}
"""The names of parameters that come from arguments with another name."""


@dataclass(slots=True, eq=False)
class Parameter:
    """A parameter of a block: its value in each module, and its default if it has one."""

    name: str
    values: list[object]
    default: object = ABSENT
    is_width: bool = False
    """Whether it is a number of channels or features."""
    unneeded: list[int] = field(default_factory=list)
    """The modules that need no value of it."""

    @property
    def has_default(self) -> bool:
        return self.default is not ABSENT


@dataclass(slots=True, eq=False)
class Block:
    """A block of the spec. `arguments_of` gives each module's arguments by name."""

    name: str
    parameters: list[Parameter]
    chain: Chain
    doc: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[tuple[str, str]] = field(default_factory=list)
    channels: str | None = None
    """The name of the input's channels, if the body needs them."""
    ranks: list[int] = field(default_factory=list)
    """The number of positions' axes of each input."""
    flags: int = 0
    """How many parameters only say whether an item is there."""
    lets: list[str] = field(default_factory=list)
    """Names for elements of lists, before all else."""

    def default(self, name: str) -> object:
        return next(p.default for p in self.parameters if p.name == name)

    def arguments(self, number: int) -> dict[str, object]:
        return {p.name: p.values[number] for p in self.parameters}


class Solver:
    """Makes the leaves of a pattern of `count` modules literals, expressions or parameters.

    `channels` are those of the one input in each module, None if there are several; `widths` those of its result;
    `hints` are the names of numbers
    that the modules themselves have, each with its value in all; `avoid` are names that are in use; `is_simple`: there
    are so few widths that they need no labels to be distinguished.
    """

    def __init__(
        self,
        count: int,
        channels: Sequence[int] | None,
        widths: Sequence[int],
        hints: Sequence[tuple[str, list[object]]],
        avoid: set[str],
        is_simple: bool = True,
    ) -> None:
        self.is_simple = is_simple
        self.count, self.channels, self.widths, self.hints, self.avoid = count, channels, widths, hints, avoid
        self.parameters: list[Parameter] = []
        self.needs_channels = False
        self.texts: set[str] = set()
        """The expressions in use: only with those conditions compare, since others would hold by accident."""
        self.flags = 0

    # ------------------------------------------------------------ leaves

    def solve(self, chain: Chain) -> Chain:
        fill_channels(chain, self.channels)
        self.leaves(chain, "")
        for parameter in self.parameters:
            self.choose_default(parameter)
        solved = self.conditions(chain)
        for parameter in self.parameters:  # what a module does not need gets any value
            used = next(value for value in parameter.values if value is not ABSENT)
            spare = parameter.default if parameter.has_default else used
            parameter.unneeded = [i for i, value in enumerate(parameter.values) if value is ABSENT]
            parameter.values = [spare if value is ABSENT else value for value in parameter.values]
        return solved

    def leaves(self, chain: Chain, within: str) -> None:
        for node in chain:
            path = "_".join(filter(None, (within, self.label_of(node))))
            into = node.into if isinstance(node.into, Many) else Many([ABSENT] * self.count)
            if isinstance(node.name, Many):
                name = a_value(node.name)
                distinct = {value for value in node.name.values if value is not ABSENT and isinstance(value, str)}
                node.name = self.leaf(node.name, into, "act", path) if len(distinct) > 1 else name
            for argument, value in list(node.arguments.items()):
                if isinstance(value, Many) and argument != "if":
                    node.arguments[argument] = self.leaf(value, into, argument, path, node)
            # The body of a residual names the widths, of which those of its skip follow.
            for body in reversed(node.bodies) if node.kind == "residual" else node.bodies:
                self.leaves(body, path if node.kind == "body" else within)

    @staticmethod
    def label_of(node: Node) -> str:
        label = node.label or ""
        return label if label.isidentifier() else ""

    def leaf(self, leaf: Many, into: Many, argument: str, path: str, node: Node | None = None) -> object:
        there = [i for i, value in enumerate(leaf.values) if value is not ABSENT]
        values = [leaf.values[i] for i in there]
        if len({key(value) for value in values}) == 1:
            if len(there) < len(leaf.values) and (likely := self.likely(argument, leaf, there, node)) is not None:
                return Text(likely)
            return values[0]
        if (found := self.known(leaf, there)) is not None:
            return found
        if (listed := self.listed(leaf, there, into, argument, path, node)) is not None:
            return listed
        whole = all(type(value) is int for value in values)
        if whole and (text := self.expression(leaf, there, into)) is not None:
            return Text(text)
        if whole and node is not None and not width_argument(node, argument) and len(there) > FEW_PAIRS:
            pairs: list[tuple[Any, Any]] = [(into.values[i], leaf.values[i]) for i in there]
            apart = {before - n for before, n in pairs if type(before) is int}
            if len(apart) == 1 and 0 < min(apart) < min(n for _, n in pairs):
                return Text(f"it.channels - {apart.pop()}")
        return Text(self.parameter(leaf, argument, path, node).name)

    def listed(
        self, leaf: Many, there: list[int], into: Many, argument: str, path: str, node: Node | None
    ) -> Text | None:
        """A list whose elements are each said on their own, where some are equal; None if there are none."""
        values = [leaf.values[i] for i in there]
        if not all(isinstance(value, tuple) for value in values) or len({len(v) for v in values}) > 1:  # type: ignore[arg-type]
            return None
        columns = [[row[i] for row in values] for i in range(len(values[0]))]  # type: ignore[arg-type, index]
        if all(len({key(v) for v in column}) > 1 for column in columns):
            return None
        texts = []
        for column in columns:
            found: list[object] = [ABSENT] * len(leaf.values)
            for i, value in zip(there, column, strict=True):
                found[i] = value
            said = self.leaf(Many(found), into, argument, path, node)
            texts.append(said.text if isinstance(said, Text) else shown(said))
        return Text(f"[{', '.join(texts)}]")

    def likely(self, argument: str, leaf: Many, there: list[int], node: Node | None) -> str | None:
        """The parameter of the same kind that has the one value where it is needed."""
        is_width = node is not None and width_argument(node, argument)
        for parameter in self.parameters:
            same_kind = parameter.is_width if is_width else parameter.name == argument
            if same_kind and all(key(parameter.values[i]) == key(leaf.values[i]) for i in there):
                return parameter.name
        return None

    def known(self, leaf: Many, there: list[int]) -> Text | None:
        """A parameter with these values, also where one of the two is not needed."""
        for parameter in self.parameters:
            both = [i for i in there if parameter.values[i] is not ABSENT]
            if both and all(key(parameter.values[i]) == key(leaf.values[i]) for i in both):
                if len({key(leaf.values[i]) for i in both}) == 1 and len(both) < len(there):
                    continue  # too little to go by
                for i in there:
                    parameter.values[i] = leaf.values[i]
                return Text(parameter.name)
        return None

    def expression(self, leaf: Many, there: list[int], into: Many) -> str | None:
        """An expression of the channels that flow in, or of a parameter."""
        named = [*self.quantities(into)]
        known = [(name, v) for name, v in named if all(i < len(v) and type(v[i]) is int for i in there)]
        exact = sorted(known, key=lambda pair: pair[0] != "it.channels")
        for factors, numbers in (((1,), exact), (FACTORS, known)):
            for name, values in numbers:
                text = ratio(name, [(leaf.values[i], values[i]) for i in there], factors)
                if text is not None:
                    self.needs_channels |= name == "C"
                    self.texts.add(text)
                    return text
        return None

    def quantities(self, into: Many | None) -> Iterator[tuple[str, list[Any]]]:
        """Numbers that may be named here: the channels that flow in, the parameters, the input's channels."""
        for parameter in self.parameters:
            yield parameter.name, parameter.values
        if into is not None:
            yield "it.channels", [*into.values]
        if self.channels is not None:
            yield "C", [*self.channels]

    def parameter(self, leaf: Many, argument: str, path: str, node: Node | None) -> Parameter:
        is_width = node is not None and width_argument(node, argument)
        parameter = Parameter(self.name(leaf, argument, path, node, is_width), [*leaf.values], is_width=is_width)
        if node is not None and node.kind == "op":
            parameter.default = (
                default_of(OPERATIONS[str(node.name)], argument) if isinstance(node.name, str) else ABSENT
            )
        elif node is not None and node.kind == "windows":
            parameter.default = WITHOUT.get(argument, ABSENT)
        elif node is not None and node.kind == "use" and isinstance(node.name, Block):
            parameter.default = node.name.default(argument)
        self.parameters.append(parameter)
        return parameter

    def name(self, leaf: Many, argument: str, path: str, node: Node | None, is_width: bool) -> str:
        """A name for a new parameter: the module's own, or that of the argument with the label.

        The channels of the result are the `width`.
        """
        if is_width and agree([*self.widths], leaf.values) and self.is_free("width"):
            return "width"
        for name, values in self.hints:
            if self.is_free(name) and agree(values, leaf.values):
                return name
        plain = NAMES.get(argument, argument)
        if node is not None and node.kind == "windows" and argument == "size":
            plain = "window"
        if is_width and (self.is_simple or not path):
            inner = (
                [f"{node.name.name.split('_')[0]}_width"] if node is not None and isinstance(node.name, Block) else []
            )
            wish = next(filter(self.is_free, ["hidden", *inner]), None)
            if wish is not None:
                return wish
        of_label = path if plain == "width" else f"{path}_{plain}"
        wishes = [plain, of_label, f"{path}_{plain}"] if path else [plain]
        if is_width and path and not self.is_simple:
            number = f"{path}_{node.label}" if node is not None and node.auto else path
            wishes = [number, f"{path}_{plain}"]
        for wish in wishes:
            if self.is_free(wish):
                return wish
        more = 2
        while not self.is_free(f"{wishes[-1]}_{more}"):
            more += 1
        return f"{wishes[-1]}_{more}"

    def is_free(self, name: str) -> bool:
        return name not in self.avoid and name not in OPERATIONS and all(p.name != name for p in self.parameters)

    def choose_default(self, parameter: Parameter) -> None:
        """Keeps a default that some call uses; gives unneeded values the default, or else a value that is used."""
        used = [value for value in parameter.values if value is not ABSENT]
        if not isinstance(parameter.default, int | float | str | bool | None) or parameter.default is None:
            parameter.default = ABSENT
        if parameter.has_default and not any(same(value, parameter.default) for value in used):
            parameter.default = ABSENT

    # ------------------------------------------------------------ conditions

    def conditions(self, chain: Chain, around: list[bool] | None = None) -> Chain:
        """Wraps items that are not in all modules in an `if`; `around`: in which modules the chain itself is."""
        found: Chain = []
        at = 0
        while at < len(chain):
            node = chain[at]
            there = node.present
            node.bodies = [self.conditions(body, there) for body in node.bodies]
            if isinstance(condition := node.arguments.get("if"), Many):
                text = self.condition([bool(v) for v in condition.values], node, "skip")
                node.arguments["if"] = Text(text)
            end = at + 1
            if there is None or all(there) or there == around:
                found.append(node)
            else:
                while end < len(chain) and chain[end].present == there:
                    chain[end].bodies = [self.conditions(body, there) for body in chain[end].bodies]
                    end += 1
                text = self.condition(there, node, self.wish(chain[at:end]))
                found.append(Node("if", arguments={"condition": Text(text)}, bodies=[chain[at:end]], into=node.into))
            at = end
        return found

    @staticmethod
    def wish(chain: Chain) -> str:
        for node in chain:
            if node.label and node.label.isidentifier():
                return f"has_{node.label}"
            if isinstance(node.name, Block):
                return f"has_{node.name.name}"
        return f"has_{chain[0].name}" if isinstance(chain[0].name, str) and chain[0].name else "whole"

    def condition(self, there: list[bool], node: Node, wish: str) -> str:
        """An expression that is true exactly in these modules; a new parameter if there is none."""
        into = node.into if isinstance(node.into, Many) else None
        atoms = list(self.atoms(into))
        for text, truth in atoms:
            if truth == there:
                return self.noted(text)
        for parameter in self.parameters:
            if parameter_tells(parameter, there):
                parameter.values = [0 if value is ABSENT else value for value in parameter.values]
                return f"{parameter.name} > 0"
        for (one, a), (two, b) in combinations(atoms, 2):
            # Whether the sizes agree; other pairs would hold by accident.
            if one.startswith("it.channels ") or not two.startswith("it.channels "):
                continue
            if "==" in one and "==" in two and [x and y for x, y in zip(a, b, strict=True)] == there:
                return self.noted(f"{one} and {two}")
            if "!=" in one and "!=" in two and [x or y for x, y in zip(a, b, strict=True)] == there:
                return self.noted(f"{one} or {two}")
        for parameter in self.parameters:
            if parameter.values == there and all(type(v) is bool for v in parameter.values):
                return parameter.name
        self.flags += 1
        name = wish
        while not self.is_free(name):
            name += "_2"
        self.parameters.append(Parameter(name, [*there], 2 * sum(there) > len(there)))
        return name

    def noted(self, text: str) -> str:
        if "C" in text.replace("it.channels", "").split():
            self.needs_channels = True
        return text

    def atoms(self, into: Many | None) -> Iterator[tuple[str, list[bool]]]:
        """Simple comparisons that can be decided in all modules, with their truth."""
        known = [
            (name, values)
            for name, values in self.quantities(into)
            if len(values) == self.count and all(type(v) is int for v in values)
        ]
        for name, values in known:
            for constant in (1, 2, 0):
                if name not in ("it.channels", "C"):
                    yield f"{name} != {constant}", [v != constant for v in values]
                    yield f"{name} == {constant}", [v == constant for v in values]
        for (one, a), (two, b) in combinations(known, 2):
            for factor in (1, *FACTORS):
                product = one if factor == 1 else f"{factor} * {one}"
                if factor == 1 or product in self.texts:
                    yield f"{two} != {product}", [y != factor * x for x, y in zip(a, b, strict=True)]
                    yield f"{two} == {product}", [y == factor * x for x, y in zip(a, b, strict=True)]


def width_argument(node: Node, argument: str) -> bool:
    """Whether an argument is a number of channels or features."""
    if isinstance(node.name, Block):
        return any(p.name == argument and p.is_width for p in node.name.parameters)
    return node.kind == "op" and argument == "out"


def parameter_tells(parameter: Parameter, there: list[bool]) -> bool:
    """Whether a parameter is a number above 0 where needed, and needed in exactly these modules."""
    return all(
        (value is not ABSENT) == needed and (value is ABSENT or (type(value) is int and value > 0))
        for value, needed in zip(parameter.values, there, strict=True)
    )


def ratio(name: str, pairs: list[tuple[Any, Any]], factors: Sequence[int]) -> str | None:
    """An expression that gives the first of each pair from the second, called `name`."""
    for factor in factors:
        if all(a == factor * b for a, b in pairs):
            return f"{factor} * {name}" if factor > 1 else name
        if all(a * factor == b for a, b in pairs):
            return f"{name} // {factor}"
    return None


def agree(values: list[object], leaf: list[object]) -> bool:
    return len(values) == len(leaf) and all(b is ABSENT or key(a) == key(b) for a, b in zip(values, leaf, strict=True))


def fill_channels(chain: Chain, entry: Sequence[object] | None) -> None:
    """Sets what flows into nodes that some modules lack: it is what flows into the next one there."""
    count = len(chain[0].present) if chain and chain[0].present is not None else 0
    for at, node in enumerate(chain):
        assert isinstance(node.into, Many)
        for i in range(count):
            if node.into.values[i] is ABSENT:
                node.into.values[i] = _flow(chain, at, i, entry)
        for body in node.bodies:
            if node.kind in ("residual", "dense", "parallel", "repeat", "for"):
                fill_channels(body, node.into.values)
            else:
                fill_channels(body, node.into.values)


def _flow(chain: Chain, at: int, module: int, entry: Sequence[object] | None) -> object:
    """The channels at a position in a module that lacks the node there."""
    for node in chain[at + 1 :]:
        if node.present is not None and node.present[module] and isinstance(node.into, Many):
            return node.into.values[module]
    if entry is not None and not any(n.present is not None and n.present[module] for n in chain[:at]):
        return entry[module]
    return ABSENT


def labels_in(chain: Chain) -> set[str]:
    """All labels, names of tensors and of the numbers of loops in a chain."""
    loops = {str(node.name) for node in walk(chain) if node.kind == "for"}
    return {name for node in walk(chain) for name in (node.label, *node.names) if name} | loops
