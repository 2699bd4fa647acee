"""The parts of a spec's text: nodes in sequences.

While equal modules are compared, a leaf (a name, an argument, a count) may be a `Many`: its value in each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal[
    "op", "use", "body", "parallel", "residual", "dense", "ref", "share", "call", "repeat", "for", "if", "windows"
]


class Absent:
    """The value of a leaf in a module that has no such node."""

    def __repr__(self) -> str:
        return "-"


ABSENT: Final = Absent()


@dataclass(frozen=True, slots=True)
class Text:
    """An expression of the language."""

    text: str


@dataclass(slots=True, eq=False)
class Many:
    """The values of a leaf, one for each of the compared modules."""

    values: list[object]


@dataclass(slots=True, eq=False)
class Node:
    """An item or statement.

    op: an operation with arguments. use: a call of a block (`name`) with arguments. body: a module within. parallel:
    `bodies` are its branches. residual: `bodies` are the skip and the body; dense: the body. ref: of the tensor `name`.
    windows: what windows or grids (`name`) of a map flow through.
    share: places the item of its body under `name`; call: calls what is shared as `name`. repeat:
    `arguments["count"]` times. for: from `arguments["first"]` on, `arguments["count"]` times, or `name` in
    `arguments["table"]`. if: `arguments["condition"]`.
    """

    kind: Kind
    name: object = ""
    arguments: dict[str, object] = field(default_factory=dict)
    bodies: list[list[Node]] = field(default_factory=list)
    label: str | None = None
    """The name in its scope, if it owns tensors or is referred to."""
    auto: bool = False
    """Whether the label is the number that it has without one."""
    weighted: bool = False
    into: object = None
    """The channels of the tensor that flows in; None if several do."""
    names: tuple[str, ...] = ()
    """The names of its results, if it has several, or of one that is referred to."""
    source: object = None
    """The scope of a body, as in the network."""
    present: list[bool] | None = None
    """In which of the compared modules it is; None: in all."""

    def walk(self) -> Iterator[Node]:
        """This node and all within, in order."""
        yield self
        for body in self.bodies:
            for node in body:
                yield from node.walk()


Chain: TypeAlias = list[Node]


def walk(chain: Chain) -> Iterator[Node]:
    for node in chain:
        yield from node.walk()


def own_nodes(chain: Chain) -> Iterator[Node]:
    """The nodes of a chain in its own scope."""
    for node in chain:
        yield node
        if node.kind not in ("body", "use"):
            for body in node.bodies:
                yield from own_nodes(body)


def key(leaf: object) -> object:
    """A leaf as something that is equal for equal leaves only: 1 is not true, and not 1.0."""
    if isinstance(leaf, tuple | list):
        return ("tuple", *map(key, leaf))
    if isinstance(leaf, Many):
        return ("many", *map(key, leaf.values))
    if isinstance(leaf, Text | Absent):
        return leaf
    return (type(leaf), leaf)


def structure_key(chain: Chain) -> object:
    """Equal for chains that are written alike."""
    return tuple(
        (
            node.kind,
            key(node.name) if not isinstance(node.name, str) else node.name,
            tuple(sorted((name, key(value)) for name, value in node.arguments.items())) if node.arguments else (),
            None if node.auto else node.label,
            node.names,
            tuple(structure_key(body) for body in node.bodies),
        )
        for node in chain
    )
