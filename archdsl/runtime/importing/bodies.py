"""What the chains of a module are, and what stands against a way to write them."""

from __future__ import annotations

from dataclasses import dataclass, field

from archdsl.ops import OPERATIONS
from archdsl.runtime.importing.chains import Chain, Node
from archdsl.runtime.importing.network import Item
from archdsl.runtime.importing.ordering import Member
from archdsl.runtime.importing.recorded import Value


@dataclass(slots=True, eq=False)
class Body:
    """The content of a module: `inputs` are the names of what flows in, `outputs` the labels of several results."""

    chain: Chain
    inputs: list[str] = field(default_factory=list)
    outputs: list[tuple[str, str]] = field(default_factory=list)


def is_attention(member: Member) -> bool:
    return isinstance(member, Item) and member.outside is None and OPERATIONS[member.operation].attends


class Named(Exception):
    """What enters a module has to be named."""


class Tangled(Exception):
    """The branches of a region share items, so it is no nest of sequences and parallels."""


def plain_name(node: Node) -> str:
    """A name for the result of a node without a label."""
    return str(getattr(node.name, "name", node.name) or "x")


def sizes_of(value: Value) -> list[tuple[int, ...]]:
    return [shape[2:] for shape in value.shapes]
