"""The module as a network of the language's operations, in its scopes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn

from archdsl.runtime.importing.recorded import Recording, Value
from archdsl.runtime.refusal import ImportRefused

if TYPE_CHECKING:
    from archdsl.runtime.importing.outside import Extern, Outside


@dataclass(slots=True, eq=False)
class Item:
    """A call of an operation. `path` is the layer's, empty for a function; `weighted`: it owns tensors.

    `outside` is the module that it stands for if the language cannot say that, and `extern` then its declaration.
    """

    operation: str
    arguments: Mapping[str, object]
    inputs: list[Value]
    outputs: list[Value]
    path: str = ""
    weighted: bool = False
    line: str = ""
    outside: Outside | None = None
    extern: Extern | None = None

    def items(self) -> Iterator[Item]:
        yield self


@dataclass(slots=True, eq=False)
class Scope:
    """A call of a module that is no layer. `inputs` are the values from outside, `outputs` those that leave it.

    With `cut` it is no module, but what windows of a map flow through, in the module around it.
    """

    path: str
    module: nn.Module
    members: list[Item | Scope] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    line: str = ""
    cut: Item | None = None

    def items(self) -> Iterator[Item]:
        """All items inside, in order."""
        for member in self.members:
            yield from member.items()

    @property
    def weighted(self) -> bool:
        return any(item.weighted for item in self.items())

    def scopes(self) -> Iterator[Scope]:
        """This scope and those inside, outermost first."""
        yield self
        for member in self.members:
            if isinstance(member, Scope):
                yield from member.scopes()


@dataclass(slots=True, eq=False)
class Network:
    """A module's network. `training` are the outputs that it has only while it trains."""

    root: Scope
    inputs: list[tuple[str, Value]]
    outputs: list[tuple[str, Value]]
    training: list[tuple[str, Value]] = field(default_factory=list)

    def connect(self) -> None:
        """Sets what flows into and out of each scope."""
        users: dict[Value, list[int]] = {}
        place: dict[int, int] = {}
        for number, item in enumerate(self.root.items()):
            place[id(item)] = number
            for value in item.inputs:
                users.setdefault(value, []).append(number)
        for _, value in [*self.outputs, *self.training]:
            users.setdefault(value, []).append(len(place))
        for scope in self.root.scopes():
            inside = {place[id(item)] for item in scope.items()}
            made = [value for item in scope.items() for value in item.outputs]
            known = set(made)
            scope.outputs = [v for v in made if any(user not in inside for user in users.get(v, ()))]
            taken = dict.fromkeys(value for item in scope.items() for value in item.inputs)
            scope.inputs = [value for value in taken if value not in known]


def complete(root: Scope, recording: Recording) -> None:
    """Raises ImportRefused if an item takes what no other gives, or is a layer whose keys begin with no name."""
    known = set(recording.inputs)
    for item in root.items():
        if item.weighted and not item.path:
            name = type(recording.root.module).__name__
            raise ImportRefused(
                f"{name} is a single layer, and the keys of a spec begin with a layer's name; import a module "
                "with this layer in it, such as nn.Sequential"
            )
        if any(value not in known for value in item.inputs):
            raise ImportRefused("it uses a tensor from within another module", item.path, item.line)
        known |= set(item.outputs)


def nameless(members: list[Item | Scope]) -> list[Item | Scope]:
    """Members with what has no weights as its items, without names."""
    found: list[Item | Scope] = []
    for member in members:
        if member.weighted or (isinstance(member, Scope) and member.cut is not None):
            found.append(member)
            continue
        for item in member.items():
            item.path = ""
            found.append(item)
    return found
