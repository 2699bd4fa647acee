"""The paths of items, and the renumbering of items without a label and weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from archdsl.common.limits import Budget, Exceeded
from archdsl.common.source import Span
from archdsl.diagnostics import Fix, Mark, Proposal
from archdsl.graph import Graph, Node, Scope
from archdsl.values import Failure


class Paths:
    """The paths of one network.

    An item without a label is named by its position in its scope. If another item needs that number, an item without
    weights yields it, and takes the next free number of its scope: it is not the prefix of any state_dict key.
    """

    def __init__(self, graph: Graph, budget: Budget) -> None:
        self.graph, self.budget = graph, budget
        self.taken: dict[str, Span] = {}
        self.implied: dict[str, Span] = {}
        """The parts of quoted labels with dots, and the label of each."""
        self.unnamed: set[str] = set()
        """The paths in use that are positions."""
        self.moved = False
        """Whether an item was renumbered, so that a node of the graph was replaced."""
        self.renamed_items = 0

    def settle(self, name: str, labelled: bool, scope: Scope, span: Span, owns: Callable[[], bool]) -> str:
        """Reserves a path for an item, and returns the last part, which may be another number.

        `owns` says whether it has weights. Raises Failure if another item has the path.
        """
        if not labelled and self.holder(scope, name) is not None and not owns():
            name = self.free(scope, int(name))
        self.claim(name, labelled, scope, span)
        return name

    def claim(self, name: str, labelled: bool, scope: Scope, span: Span) -> str:
        """Reserves a path. Raises Failure if an item has it that cannot yield it."""
        path = join(scope.path, name)
        if len(path) > self.budget.limits.path_size:
            raise Exceeded("path_size", f"a path is longer than {self.budget.limits.path_size:,} characters", span)
        self.budget.step(len(path) // 20)
        parts = name.split(".")
        if "training" in parts:
            message = "a layer cannot be called `training`: PyTorch's modules store their mode there"
            raise Failure("E0231", message, span, "use another label, such as `train` or `in_training`")
        for end in range(1, len(parts)):
            prefix = ".".join(parts[:end])
            if join(scope.path, prefix) in self.taken and not self.gives_way(scope, prefix):
                raise self.duplicate(prefix, labelled, scope, span)
            self.implied.setdefault(join(scope.path, prefix), span)
        if self.holder(scope, name) is not None and not self.gives_way(scope, name):
            raise self.duplicate(name, labelled, scope, span)
        self.taken[path] = span
        if not labelled:
            self.unnamed.add(path)
        return path

    def release(self, path: str) -> None:
        self.taken.pop(path, None)
        self.unnamed.discard(path)

    def holder(self, scope: Scope, name: str) -> Span | None:
        """The place of the item that has a path, or whose label implies it."""
        path = join(scope.path, name)
        return self.taken.get(path) or self.implied.get(path)

    def free(self, scope: Scope, number: int) -> str:
        """The next number, from this one on, that no item of the scope has."""
        while self.holder(scope, str(number)) is not None:
            number += 1
        return str(number)

    # ------------------------------------------------------------ renumbering

    def gives_way(self, scope: Scope, name: str) -> bool:
        """Renumbers the item with a path, if it has no label and no weights; returns whether it did."""
        path = join(scope.path, name)
        if path not in self.unnamed:
            return False
        at = next((i for i in reversed(range(len(scope.members))) if scope.members[i].name == name), None)
        if at is None:  # it failed, and was reported
            self.release(path)
            return True
        member = scope.members[at]
        if any(self.owns(node) for node in ([member] if isinstance(member, Node) else member.nodes())):
            return False
        scope.members[at] = self.renamed(member, self.free(scope, int(name)), scope.path)
        return True

    def owns(self, node: Node) -> bool:
        return bool(self.graph.weights_of(node))

    def renamed(self, member: Node | Scope, name: str, prefix: str) -> Node | Scope:
        """Renames a member, and moves all paths inside it."""
        self.moved = True
        self.renamed_items += 1
        old, path = member.path, join(prefix, name)
        if old in self.taken:
            self.taken[path] = self.taken.pop(old)
        if old in self.unnamed:
            self.unnamed.remove(old)
            self.unnamed.add(path)
        if isinstance(member, Node):
            node = replace(member, name=name, path=path)
            self.graph.replace(node)
            return node
        for implied in [p for p in self.implied if p.startswith(f"{old}.")]:
            self.implied[path + implied[len(old) :]] = self.implied.pop(implied)
        member.name, member.path = name, path
        member.members[:] = [self.renamed(m, m.name, path) for m in member.members]
        return member

    # ------------------------------------------------------------ errors

    def duplicate(self, name: str, labelled: bool, scope: Scope, span: Span) -> Failure:
        """Two items with one path."""
        path, first = join(scope.path, name), self.holder(scope, name)
        assert first is not None
        message = f"two items have the path `{path}`"
        if first == span:
            last = path.rsplit(".", 1)[-1]
            help = f'give each a computed label: `for i in 0..n {{ "{last}{{i}}": … }}`'
            return Failure("E0230", f"{message}: each iteration of the loop adds one", span, help)
        counted = span if not labelled else first if path in self.unnamed else None
        if counted is None:
            return Failure("E0230", message, span, "give one of them another label", Mark(first, "the first one"))
        which = "the one here" if counted is span else "the first one"
        number = self.free(scope, int(name))
        fix = Fix(Span(counted.source, counted.start, counted.start), f'"{number}": ')
        return Failure(
            "E0230",
            f"{message}: {which} has no label, so its name is its number in the scope, {name}",
            span,
            "give the item without a label a label",
            Mark(first, "the first one"),
            proposals=[Proposal(f'give the item without a label a free number: `"{number}": …`', fix)],
        )


def join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
