"""Repeated calls of blocks: a call like one before it places the same nodes, which are copied instead of read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from archdsl.common.source import Span
from archdsl.elaborate.builder import LARGE, Builder
from archdsl.elaborate.place import POISONED_TENSOR, Flow
from archdsl.elaborate.reports import Reports
from archdsl.graph import Definition, Demand, Node, Rounds, Scope, Tensor
from archdsl.syntax import tree
from archdsl.values import FAILED, BlockValue, SharedValue, TensorValue


@dataclass(frozen=True, slots=True)
class Counts:
    """How far elaboration is, before or after a call."""

    nodes: int
    demands: int
    paths: int
    parallels: int
    troubles: int
    repeated: int
    spent: tuple[int, int, int]
    """Of the budget: steps, iterations, elements of lists."""
    kept: tuple[int, ...]
    """The numbers of diagnostics, windows, … that are the same after a call that can be copied."""


@dataclass(slots=True, eq=False)
class Read:
    """A call that was read, and in which no error was found for the first time.

    Its nodes are those from `start` to `end`, in `scope`. `origins` are the parallels by which the tensors in it are
    known since then, `repeated` the errors that were found in it again, with the paths of calls. If something failed,
    `claimed` are its paths, also of what was not placed.
    """

    scope: Scope
    start: int
    end: int
    demands: list[Demand]
    spent: tuple[int, int, int]
    paths: int
    origins: list[tuple[Flow, tree.Parallel]]
    troubles: int
    repeated: list[tuple[int, str]]
    claimed: list[tuple[str, Span]]
    longest: int = 0
    """The most characters that its paths have behind that of the call."""
    _can_be_copied: bool | None = None

    @property
    def can_be_copied(self) -> bool:
        """Whether all that it placed depends on the call alone. It is decided at the second call."""
        if self._can_be_copied is None:
            self._can_be_copied = self._is_plain()
        return self._can_be_copied

    def _is_plain(self) -> bool:
        inside = list(self.scope.walk())
        nodes = [member for member in inside if isinstance(member, Node)]
        scopes = [member for member in inside if isinstance(member, Scope)]
        bound = {id(member.bound): member.bound for member in inside[1:]}
        values = [*bound.values(), *(scope.arguments for scope in scopes[1:])]
        outside = {*self.scope.inputs, POISONED_TENSOR}
        own = f"{self.scope.path}."
        paths = [*(member.path for member in inside), *(path for path, _ in self.claimed)]
        self.longest = max(map(len, paths)) - len(self.scope.path)
        return (
            [node.id for node in nodes] == list(range(self.start, self.end))
            and (self.paths == len(inside) - 1 or all(path.startswith(own) for path, _ in self.claimed))
            and not any(node.operation.is_input or node.use is not None or node.again for node in nodes)
            and not any(scope.use is not None or scope.again or scope.shift for scope in scopes)
            and all(t in outside or self.start <= t.node < self.end for m in inside for t in m.inputs)
            and all(t in outside or self.start <= t.node < self.end for s in scopes for t in s.outputs)
            and not any(_holds_a_tensor(value) for given in values for value in given.values())
            and {demand.scope for demand in self.demands} <= set(scopes)
            and all(d.node is None or self.start <= d.node.id < self.end for d in self.demands)
        )


@dataclass(slots=True, eq=False)
class Repeats:
    """The calls of blocks with one input that were read, by all that their result depends on.

    `parallels` are those by which tensors are known.
    """

    reports: Reports
    build: Builder
    parallels: dict[Flow, tree.Parallel]
    known: dict[object, Read] = field(default_factory=dict)

    def key(self, block: BlockValue, arguments: Mapping[str, object], flow: Flow) -> object | None:
        """What the result of a call depends on; None for a call that is always read."""
        build = self.build
        if len(flow) != 1 or build.use is not None or build.again:
            return None
        if any(_holds_a_tensor(value) for value in arguments.values()):
            return None
        given = tuple([_typed(value) for value in arguments.values()])
        around = (build.windows, self.parallels.get(flow), len(build.repeats))
        if flow[0] is POISONED_TENSOR:
            return block, given, *around
        node = build.graph.node(flow[0])
        return block, given, build.shape(flow[0]), node.batched, node.windows, *around

    def counts(self) -> Counts:
        build, budget = self.build, self.build.budget
        reports = self.reports
        implied = len(build.paths.implied), build.paths.renamed_items
        kept = (len(reports.diagnostics.items), len(build.wholes), len(build.repeats), *implied)
        spent = budget.steps, budget.rounds, budget.elements
        placed = len(build.graph), len(build.demands), len(build.paths.taken), len(self.parallels)
        return Counts(*placed, reports.troubles, len(reports.repeated), spent, kept)

    def keep(self, key: object, scope: Scope, before: Counts) -> None:
        """Keeps a call that has been read, if the next one like it may be copied."""
        after = self.counts()
        if after.kept != before.kept:
            return
        origins = list(islice(reversed(self.parallels.items()), after.parallels - before.parallels))
        flow = scope.inputs
        if flow in self.parallels:  # it may be known by another one than before
            origins.append((flow, self.parallels[flow]))
        steps, rounds, elements = (a - b for a, b in zip(after.spent, before.spent, strict=True))
        demands = self.build.demands[before.demands :]
        spent, paths = (steps, rounds, elements), after.paths - before.paths
        troubles = after.troubles - before.troubles
        claimed = list(islice(reversed(self.build.paths.taken.items()), paths)) if troubles else []
        wrong = troubles, self.reports.repeated[before.repeated :], claimed
        self.known[key] = Read(scope, before.nodes, after.nodes, demands, spent, paths, origins, *wrong)

    # ------------------------------------------------------------ copies

    def copy(self, key: object, scope: Scope) -> Flow | None:
        """Fills the scope of a call like that of an equal one; gives what flows out. None if it has to be read."""
        found = self.known.get(key)
        if found is None or not found.can_be_copied or not self.has_room(found, scope):
            return None
        copy = _Copy(self.build, found, scope)
        copy.fill()
        start, paths = len(found.scope.path), self.build.paths
        for path, span in reversed(found.claimed):
            paths.taken[f"{scope.path}{path[start:]}"] = span
            if path in paths.unnamed:
                paths.unnamed.add(f"{scope.path}{path[start:]}")
        self.reports.troubles += found.troubles
        self.reports.repeated += [(number, f"{scope.path}{path[start:]}") for number, path in found.repeated]
        for flow, origin in reversed(found.origins):
            self.parallels[copy.flow(flow)] = origin
        return scope.outputs

    def has_room(self, found: Read, scope: Scope) -> bool:
        """Whether a copy is within all limits; else the call is read, to say where it exceeds them."""
        budget, nodes = self.build.budget, len(self.build.graph)
        limits, after = budget.limits, nodes + found.end - found.start
        steps, rounds, elements = found.spent
        return (
            budget.steps + steps <= limits.steps
            and budget.rounds + rounds <= limits.rounds
            and budget.elements + elements <= limits.elements
            and after <= limits.nodes
            and not nodes <= LARGE < after
            and scope.depth <= found.scope.depth
            and len(scope.path) + found.longest <= limits.path_size
        )


class _Copy:
    """The copy of one call."""

    def __init__(self, build: Builder, read: Read, scope: Scope) -> None:
        self.build, self.read, self.scope = build, read, scope
        self.offset = len(build.graph) - read.start
        self.rounds_of_call = len(read.scope.rounds)
        self.tensors = {POISONED_TENSOR: POISONED_TENSOR, read.scope.inputs[0]: scope.inputs[0]}
        self.rounds: dict[Rounds, Rounds] = {read.scope.rounds: scope.rounds}
        self.scopes = {read.scope: scope}

    def fill(self) -> None:
        read, scope, budget = self.read, self.scope, self.build.budget
        steps, rounds, elements = read.spent
        budget.step(steps)
        budget.rounds += rounds
        budget.elements += elements
        scope.input_names = read.scope.input_names
        self.members(read.scope, scope)
        scope.lost, scope.outputs = read.scope.lost, self.flow(read.scope.outputs)
        graph, offset = self.build.graph, self.offset
        for demand in read.demands:
            node = None if demand.node is None else graph.node(demand.node.id + offset)
            self.build.demands.append(replace(demand, scope=self.scopes[demand.scope], node=node))

    def flow(self, tensors: Flow) -> Flow:
        known, offset = self.tensors, self.offset
        for tensor in tensors:
            if tensor not in known:
                known[tensor] = Tensor(tensor.node + offset, tensor.index)
        return tuple([known[tensor] for tensor in tensors])

    def around(self, rounds: Rounds) -> Rounds:
        found = self.rounds.get(rounds)
        if found is None:
            found = self.rounds[rounds] = (*self.scope.rounds, *rounds[self.rounds_of_call :])
        return found

    def members(self, old: Scope, new: Scope) -> None:
        paths, graph, prefix = self.build.paths, self.build.graph, f"{new.path}."
        for member in old.members:
            path = prefix + member.name
            paths.taken[path] = member.span
            if not member.labelled:
                paths.unnamed.add(path)
            if isinstance(member, Scope):
                new.members.append(self.inner(member, path, new))
                continue
            node = Node(
                member.id + self.offset,
                member.operation,
                self.flow(member.inputs),
                member.shapes,
                member.name,
                path,
                member.labelled,
                new,
                member.span,
                member.call,
                member.origin,
                self.around(member.rounds),
                member.bound,
                member.batched,
                member.windows,
            )
            graph.add(node)
            new.members.append(node)

    def inner(self, old: Scope, path: str, parent: Scope) -> Scope:
        written = old.definition
        new = replace(
            old,
            path=path,
            parent=parent,
            definition=written and Definition(written.name, written.syntax, written.constants),
            members=[],
            inputs=self.flow(old.inputs),
            depth=parent.depth + 1,
            rounds=self.around(old.rounds),
        )
        self.scopes[old] = new
        self.members(old, new)
        new.outputs = self.flow(old.outputs)
        return new


def _typed(value: object) -> object:
    """A value that equals another one only if both are written the same: 1, 1.0 and true differ."""
    if isinstance(value, tuple):
        return tuple, tuple([_typed(v) for v in value])
    return (float, repr(value)) if isinstance(value, float) else (type(value), value)


def _holds_a_tensor(value: object) -> bool:
    """Whether a value is, or has in it, something of the place where it was made."""
    return (
        value is FAILED
        or isinstance(value, TensorValue | SharedValue)
        or (isinstance(value, tuple) and any(map(_holds_a_tensor, value)))
    )
