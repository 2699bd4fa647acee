"""Each scope of the graph as a cell: its members in order, and the tensors that cross its border.

The steps of a cell know their site, the place in the spec that made them: by it the calls of a block are laid side by
side, and loops and conditions are found again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, assert_never

from archdsl import dims
from archdsl.analysis.borders import borders
from archdsl.common.source import Span
from archdsl.graph import Graph, Node, Rounds, Scope, Tensor, Use
from archdsl.graph.series import Series
from archdsl.ops.forms import FunctionForm, ModuleForm, TorchForm
from archdsl.syntax import tree
from archdsl.transform.recompute import NOTHING, Recompute

Site: TypeAlias = tuple[int, int, str]
"""Start and end of the text that made a step, and the operation's name where it is implied."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A call of something shared, whose member another step of the cell declares. `call` is what was placed for it."""

    call: Node | Scope
    use: Use
    labelled: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Borrowed:
    """A call of a layer of a cell within; `way` are the steps that lead to it, each with the cell that it is in."""

    way: tuple[tuple[Cell, Step], ...]
    rounds: Rounds
    labelled: bool = False

    @property
    def path(self) -> str:
        """From the cell that calls it."""
        return ".".join(step.name for _, step in self.way)


@dataclass(frozen=True, slots=True, eq=False)
class Crossing:
    """Steps that are recomputed together, some of them borrowed; `first` and `last` are those of the cell for them."""

    steps: tuple[Step, ...]
    first: Step
    last: Step


@dataclass(slots=True, eq=False)
class Step:
    """A member of a cell: an operation in place, or a scope.

    What is shared has one step that declares it, without inputs and outputs (`takes` are those of the first call), and
    one for each call of it, whose member is a Reference.
    """

    site: Site
    position: int
    name: str
    member: Node | Cell | Reference | Borrowed
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    form: TorchForm | None
    takes: tuple[Tensor, ...] | None = None
    series: tuple[int, int] | None = None
    """Its place among layers in series that are recomputed together, and how many these are."""
    given: bool = False
    """Whether such a layer's result is needed elsewhere, too."""

    @property
    def declares(self) -> bool:
        return self.takes is not None

    @property
    def calls(self) -> bool:
        return isinstance(self.member, Reference)

    @property
    def rounds(self) -> Rounds:
        """The loops around it."""
        if isinstance(self.member, Reference):
            return self.member.use.rounds
        if isinstance(self.member, Borrowed):
            return self.member.rounds
        member = self.member.scope if isinstance(self.member, Cell) else self.member
        return member.use.at[1] if self.declares and member.use is not None else member.rounds

    @property
    def bound(self) -> Mapping[str, object]:
        """The values that its arguments may name."""
        if isinstance(self.member, Reference | Borrowed):
            return {}
        return self.member.bound if isinstance(self.member, Node) else self.member.scope.bound


@dataclass(slots=True, eq=False)
class Cell:
    """A scope, with the tensors used in it that come from outside, and those made in it that are used outside."""

    scope: Scope
    key: object
    syntax: Syntax
    parent: Cell | None = None
    inputs: tuple[Tensor, ...] = ()
    input_names: tuple[str, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    steps: list[Step] = field(default_factory=list)
    height: int = 0
    chain: bool = False
    recomputed: bool = False
    """Whether its activations are not kept for the backward pass."""
    grows: bool = False
    """Whether it is the body of a dense connection that takes the features one by one."""
    crossing: list[Crossing] = field(default_factory=list)
    """What it recomputes across the borders of its members, unless that is among the steps: see `lending`."""
    lent: list[Step] = field(default_factory=list)
    """The first or last steps that a cell around calls instead."""
    laid_out: bool = False
    """Whether what it borrows and lends is so among its steps."""
    arguments: dict[str, object] = field(default_factory=dict)
    """The values that the constructor of its class takes, once the class is known."""

    @property
    def recomputes(self) -> bool:
        """Whether layers of its own are recomputed."""
        return bool(self.crossing) or any(step.series is not None for step in self.steps)

    @property
    def positional(self) -> bool:
        """Whether the members are named by their positions alone, as those of an nn.Sequential."""
        return all(step.name == str(i) for i, step in enumerate(self.steps))


# ---------------------------------------------------------------- the syntax of a body


@dataclass(slots=True, eq=False)
class Region:
    """A `for`, `repeat` or `if` of a body. `branches` holds its bodies: one of a loop, several of an `if`."""

    statement: tree.For | tree.Repeat | tree.If
    branches: list[tuple[tree.Value | None, Span, list[Region]]]

    @property
    def span(self) -> Span:
        return self.statement.span


@dataclass(slots=True, eq=False)
class Syntax:
    """A body as written: its loops and conditions, its items by their place, its `let`s."""

    regions: list[Region] = field(default_factory=list)
    items: dict[tuple[int, int], tree.Item] = field(default_factory=dict)
    lets: list[tree.Let] = field(default_factory=list)

    @staticmethod
    def of(body: tree.Block | tree.Model | tree.Item) -> Syntax:
        """The syntax of a block, a model, or an item that opens a scope."""
        found = Syntax()
        if isinstance(body, tree.Block | tree.Model):
            found.regions = found._statements(body.body.statements)
        else:
            found.regions = found._inside(body)
        return found

    def loop(self, start: int) -> tree.For | tree.Repeat | tree.If | None:
        """The statement of a loop, by where it begins."""
        stack = list(self.regions)
        while stack:
            region = stack.pop()
            if region.span.start == start:
                return region.statement
            stack += [r for _, _, inner in region.branches for r in inner]
        return None

    def _statements(self, statements: Sequence[tree.Statement]) -> list[Region]:
        regions: list[Region] = []
        for statement in statements:
            match statement:
                case tree.Chain():
                    for item in statement.items:
                        regions += self._item(item)
                case tree.Share(item=item):
                    self.items[(item.span.start, item.span.end)] = item
                case tree.For() | tree.Repeat():
                    inner = self._statements(statement.body.statements)
                    regions.append(Region(statement, [(None, statement.span, inner)]))
                case tree.If():
                    bodies: list[tuple[tree.Value | None, tree.Body]] = list(statement.branches)
                    if statement.otherwise is not None:
                        bodies.append((None, statement.otherwise))
                    branches = [(c, b.span, self._statements(b.statements)) for c, b in bodies]
                    regions.append(Region(statement, branches))
                case tree.Missing():
                    pass  # a tree with syntax errors is not compiled
                case tree.Let():
                    self.lets.append(statement)
                case tree.Input() | tree.Output() | tree.Expect() | tree.ExpectCost() | tree.Require() | tree.Default():
                    pass  # no member and no value comes from these
                case _:
                    assert_never(statement)
        return regions

    def _item(self, item: tree.Item) -> list[Region]:
        self.items[(item.span.start, item.span.end)] = item
        return [] if tree.opens_scope(item) else self._inside(item)

    def _inside(self, item: tree.Item) -> list[Region]:
        match item:
            case tree.Body():
                return self._statements(item.statements)
            case tree.Parallel():
                return self._statements(item.branches)
            case tree.Residual():
                via = self._item(item.via) if item.via is not None else []
                return via + self._statements(item.body.statements)
            case tree.Dense():
                return self._statements(item.body.statements)
            case tree.Windows():
                self.items[(item.cut.span.start, item.cut.span.end)] = item.cut
                return self._statements(item.body.statements)
            case tree.Call() | tree.Element():
                return []
            case _:
                assert_never(item)


# ---------------------------------------------------------------- from the graph


def cells(graph: Graph, recompute: Recompute = NOTHING) -> list[Cell]:
    """A cell for every scope, inner before outer."""
    references = size_references(graph)
    repeats = Repeats.of(graph, references)
    inflow, outflow = borders(graph, {node: sizes.tensors for node, sizes in references.items()})
    repeats.gather(outflow)
    found: dict[Scope, Cell] = {}
    syntaxes: dict[object, Syntax] = {}
    scopes, bodies = [scope for scope in graph.root.scopes() if not scope.again], recompute.bodies
    for scope in scopes:
        key, body = _body(scope, found)
        if key not in syntaxes:
            syntaxes[key] = Syntax.of(body)
        cell = Cell(scope, key, syntaxes[key], found[scope.parent] if scope.parent is not None else None)
        cell.recomputed, cell.grows = scope in recompute.scopes, scope in bodies
        if cell.recomputed or cell.grows:
            cell.key = ("recomputed", cell.recomputed, cell.grows, key)
        found[scope] = cell
    forms: dict[object, TorchForm] = {}
    for scope in reversed(scopes):
        _fill(found[scope], found, graph, inflow[scope], outflow[scope], references, forms, repeats)
    _mark(found.values(), [series for series in recompute.series if not series.crosses])
    return [found[s] for s in reversed(scopes)]


def _mark(cells: Iterable[Cell], found: Collection[Series]) -> None:
    """Gives the steps of layers that are recomputed in series their places."""
    places = {member: (i, len(s.members)) for s in found for i, member in enumerate(s.members)}
    given = {s.given for s in found}
    for step in (step for cell in cells for step in cell.steps if places):
        member = step.member.scope if isinstance(step.member, Cell) else step.member
        step.series = places.get(member) if isinstance(member, Node | Scope) else None
        step.given = step.series is not None and not given.isdisjoint(step.outputs)


def _body(scope: Scope, found: Mapping[Scope, Cell]) -> tuple[object, tree.Block | tree.Model | tree.Item]:
    """The key of the body of a scope, and its syntax."""
    if scope.definition is not None:
        syntax = scope.definition.syntax
        return (scope.kind == "model", id(syntax)), syntax
    assert scope.parent is not None
    span = scope.span
    return (id(span.source), span.start, span.end), found[scope.parent].syntax.items[(span.start, span.end)]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How a node's size follows from tensors: a template with `{1}`, `{2}`, … for them, as behind the node's inputs."""

    tensors: tuple[Tensor, ...]
    text: str


def size_references(graph: Graph) -> dict[Node, Sizes]:
    """For each node whose arguments hold a free size, the tensors that it finds it by."""
    found: dict[Node, Sizes] = {}
    latest: dict[tuple[Scope | None, object], Tensor] = {}
    given: dict[tuple[Scope, object], Sizes] = {}
    """What gave a size to a node of the same body before: later nodes take it from there, too."""
    for node in graph.nodes():
        wanted = node.operation.sized(graph.shapes(node.inputs), node.shapes)
        if dims.free_sizes(*wanted) and (node.scope, wanted) in given:
            found[node] = given[(node.scope, wanted)]
        elif dims.free_sizes(*wanted):
            for scope in (*node.scope.calls(), None):
                inflow = [t for t in scope.inputs if graph.shape(t)[1:] == wanted] if scope is not None else []
                if inflow or (scope, wanted) in latest:
                    found[node] = Sizes((inflow[0] if inflow else latest[(scope, wanted)],), "{1}.shape[2:]")
                    break
            else:
                found[node] = computed_size(graph, node, wanted)
            if len(found[node].tensors) == 1 and found[node].tensors[0] not in node.inputs:
                given[(node.scope, wanted)] = found[node]
        for index, shape in enumerate(node.shapes):
            spatial = shape[1:]
            latest[(node.scope, spatial)] = latest[(None, spatial)] = Tensor(node.id, index)
    return found


def computed_size(graph: Graph, node: Node, wanted: Sequence[dims.Dim]) -> Sizes:
    """A size that no tensor has, from the axes of those that have its free sizes, the nearest ones."""
    near = [*node.inputs, *(t for scope in node.scope.calls() for t in scope.inputs)]
    near += [Tensor(n.id) for n in graph.input_nodes]
    tensors: dict[Tensor, str] = {}
    names: dict[str, str] = {}
    for name in sorted(dims.free_sizes(*wanted)):
        free = dims.free(name)
        tensor = next(t for t in near if free in graph.shape(t)[1:])
        place = tensors.setdefault(tensor, f"{{{len(tensors) + 1}}}")
        names[name] = f"{place}.shape[{graph.shape(tensor)[1:].index(free) + 2}]"
    texts = [dims.python(size, names) for size in wanted]
    return Sizes(tuple(tensors), f"({', '.join(texts)}{',' * (len(texts) == 1)})")


def _fill(
    cell: Cell,
    found: Mapping[Scope, Cell],
    graph: Graph,
    inflow: Mapping[Tensor, None],
    outflow: Mapping[Tensor, None],
    references: Mapping[Node, Sizes],
    forms: dict[object, TorchForm],
    repeats: Repeats,
) -> None:
    scope = cell.scope
    names = dict(zip(scope.inputs, scope.input_names, strict=False))
    if scope.kind == "model":
        cell.inputs = tuple(Tensor(n.id) for n in graph.input_nodes)
        names = {Tensor(n.id): n.name for n in graph.input_nodes}
    else:
        cell.inputs = (*(t for t in dict.fromkeys(scope.inputs) if t in inflow), *(t for t in inflow if t not in names))
        cell.inputs = tuple(dict.fromkeys(cell.inputs))
    cell.input_names = tuple(names.get(t, "") for t in cell.inputs)
    cell.outputs = tuple(dict.fromkeys((*(t for t in scope.outputs if t in outflow), *outflow)))
    declared: list[tuple[tuple[int, int], Step]] = []
    for member in scope.members:
        if isinstance(member, Node) and member.operation.is_input:
            continue
        first = repeats.first.get(member, member)
        if isinstance(first, Scope):
            inner = found[first]
            site = (first.span.start, first.span.end, "")
            step = Step(site, site[0], first.name, inner, inner.inputs, inner.outputs, None)
            cell.height = max(cell.height, inner.height + 1)
        else:
            step = _node_step(first, graph, references, forms)
        if member.use is not None and not isinstance(step.form, FunctionForm):
            if member is first:
                declared.append((member.use.declared, replace(step, inputs=(), outputs=(), takes=step.inputs)))
            step = _call_step(step, member, repeats)
        elif member is not first:
            assert isinstance(member, Node)
            step = _node_step(member, graph, references, forms)
        cell.steps.append(step)
    _place_implied(cell.steps)
    if declared:
        _declare(cell, declared, scope)
    cell.chain = is_chain(cell)


def _place_implied(steps: Sequence[Step]) -> None:
    """Places implied steps before the step of the same text that takes what they give, as the mask of an attention."""
    for step, following in zip(reversed(steps[:-1]), reversed(steps[1:]), strict=True):
        if step.site[2] and step.site[:2] == following.site[:2]:
            step.position = following.position


def _call_step(step: Step, member: Node | Scope, repeats: Repeats) -> Step:
    """The step of a call of something shared, which is declared by another one like this."""
    assert member.use is not None
    span, tensors = member.use.span, repeats.tensors.get(member, {})
    return Step(
        (span.start, span.end, ""),
        span.start,
        step.name,
        Reference(member, member.use),
        tuple(tensors.get(t, t) for t in step.inputs),
        tuple(tensors.get(t, t) for t in step.outputs),
        FunctionForm("{0}", results=len(step.outputs)),
    )


def _declare(cell: Cell, declared: Sequence[tuple[tuple[int, int], Step]], scope: Scope) -> None:
    """Puts the steps that declare something among the others of their cell, where the `share` is."""
    members = [m for m in scope.members if not (isinstance(m, Node) and m.operation.is_input)]
    starts = [m.id if isinstance(m, Node) else next(m.nodes()).id for m in members]
    for (place, _), step in sorted(declared, key=lambda pair: pair[0], reverse=True):
        cell.steps.insert(sum(start < place for start in starts), step)


@dataclass(slots=True, eq=False)
class Repeats:
    """The calls of what is shared behind the first: what of the first one stands for each part of them."""

    first: dict[Node | Scope, Node | Scope] = field(default_factory=dict)
    """The members that are later calls, with the first call."""
    tensors: dict[Node | Scope, dict[Tensor, Tensor]] = field(default_factory=dict)
    """For each later call its tensor for each one of the first call."""

    @staticmethod
    def of(graph: Graph, references: dict[Node, Sizes]) -> Repeats:
        """The repeats of a graph. Sizes of later calls are found as in the first ones, which changes `references`."""
        found = Repeats()
        firsts: dict[str, Node | Scope] = {}
        for member in graph.root.walk():
            if member.use is None:
                continue
            if not member.again:
                firsts[member.path] = member
                continue
            first = found.first[member] = firsts[member.path]
            pairs = list(zip(_nodes(first), _nodes(member), strict=True))
            tensors = dict(zip(first.inputs, member.inputs, strict=True))
            for one, other in pairs:
                tensors.update({Tensor(one.id, i): Tensor(other.id, i) for i in range(len(one.shapes))})
            found.tensors[member] = tensors
            for one, other in pairs:
                references.pop(other, None)
                if one in references:
                    sizes = references[one]
                    references[other] = replace(sizes, tensors=tuple(tensors.get(t, t) for t in sizes.tensors))
        return found

    def gather(self, outflow: dict[Scope, dict[Tensor, None]]) -> None:
        """Lets every result that any call gives on flow out of the first call."""
        for member, first in self.first.items():
            if isinstance(first, Scope) and isinstance(member, Scope):
                used = outflow[member]
                outflow[first].update({t: None for t, here in self.tensors[member].items() if here in used})


def _nodes(member: Node | Scope) -> list[Node]:
    return [member] if isinstance(member, Node) else list(member.nodes())


def _node_step(node: Node, graph: Graph, references: Mapping[Node, Sizes], forms: dict[object, TorchForm]) -> Step:
    shapes = graph.shapes(node.inputs)
    sizes = references.get(node)
    key = (id(node.operation), shapes, sizes.text if sizes is not None else "")
    if key not in forms:
        form = node.operation.torch(shapes, node.shapes)
        forms[key] = form if sizes is None else with_size(form, sizes.text)
    implied = "" if node.call is not None else node.operation.name
    site = (node.span.start, node.span.end, implied)
    inputs = node.inputs if sizes is None else (*node.inputs, *sizes.tensors)
    results = tuple(Tensor(node.id, i) for i in range(len(node.shapes)))
    # What is implied is behind the items that it joins.
    return Step(site, site[1] if implied else site[0], node.name, node, inputs, results, forms[key])


def with_size(form: TorchForm, size: str) -> TorchForm:
    """A form that finds its size in further operands."""
    assert isinstance(form, FunctionForm)
    rest = tuple(a for a in form.arguments if a.name != "size")
    return replace(form, template=form.template.replace("{size}", size), arguments=rest)


def is_chain(cell: Cell) -> bool:
    """Whether it is modules one behind the other, each fed by the one before."""
    if len(cell.inputs) != 1 or len(cell.outputs) != 1 or not cell.steps:
        return False
    flow = cell.inputs
    for step in cell.steps:
        # A name with a dot is in a holder of its own, which no sequence calls.
        if step.inputs != flow or len(step.outputs) != 1 or "." in step.name:
            return False
        if step.form is not None and not isinstance(step.form, ModuleForm):
            return False
        flow = step.outputs
    return flow == cell.outputs


def walk(cell: Cell) -> Iterator[Cell]:
    """The cells directly within."""
    return (s.member for s in cell.steps if isinstance(s.member, Cell))
