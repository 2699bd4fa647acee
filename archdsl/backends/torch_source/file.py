"""The state that the classes of a generated file share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from archdsl.analysis.overwriting import Overwriting
from archdsl.analysis.releases import NOTHING, Releases
from archdsl.backends.python.tree import Expr, Function, Source, Statement
from archdsl.backends.torch_source.checks import SizeCheck
from archdsl.backends.torch_source.flow import Value
from archdsl.backends.torch_source.fold import Leaf
from archdsl.backends.torch_source.plainness import Plainness
from archdsl.backends.torch_source.plan import Plan
from archdsl.backends.torch_source.starts import Init
from archdsl.graph import Graph
from archdsl.ops.reserved import RESERVED
from archdsl.transform.recompute import Recompute


@dataclass(frozen=True, slots=True)
class Beside:
    """What the other modules of a file are: the names that no class may have, and what their recomputed parts do."""

    names: frozenset[str] = frozenset()
    counts: bool = False
    """Whether they keep statistics."""
    outside: bool = False
    """Whether they run code from outside."""


@dataclass(slots=True, eq=False)
class File:
    """Its helpers, and the names of its classes."""

    graph: Graph
    overwriting: Overwriting
    recompute: Recompute
    sizes: Callable[[Value], str]
    checks: list[SizeCheck]
    plainness: Plainness
    releases: Releases = NOTHING
    beside: Beside = field(default_factory=Beside)
    helpers: dict[str, Statement] = field(default_factory=dict)
    """By their text, or the name of a function that is made for the file."""
    names: dict[Plan, str] = field(default_factory=dict)
    output_class: str = ""
    globals: frozenset[str] = RESERVED
    """Names that no variable may have: the classes and helpers of the file."""
    factories: dict[Plan, bool] = field(default_factory=dict)
    """Whether a class takes device= and dtype=."""
    attributes: dict[Plan, dict[Leaf, Expr]] = field(default_factory=dict)
    """The members of each class that is written, as its own code calls them."""
    alike: dict[str, Init] = field(default_factory=dict)
    """The types of which all modules start alike, with how: the model sees to it."""
    of_training: frozenset[int] = field(init=False)
    """The nodes that run only in training."""

    def __post_init__(self) -> None:
        self.of_training = frozenset(node.id for node in self.graph.of_training())

    def helper(self, source: str | Function) -> None:
        """Takes the definitions of a helper, each once for the file."""
        if isinstance(source, Function):
            self.helpers.setdefault(source.name, source)
            return
        for definition in source.strip("\n").split("\n\n\n"):
            self.helpers.setdefault(definition, Source(definition))
