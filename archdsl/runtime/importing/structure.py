"""The graph within a module as chains: sequences, parallels, residual and dense connections; labels for the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from archdsl.ops import OPERATIONS
from archdsl.runtime.importing.bodies import Body, Named, Tangled, is_attention, plain_name, sizes_of
from archdsl.runtime.importing.chains import Chain, Node, Text, own_nodes, walk
from archdsl.runtime.importing.functions import SizeOf, shape_of
from archdsl.runtime.importing.joining import combined, in_sight, inlined, is_deep, number_labels, unnested
from archdsl.runtime.importing.network import Item, Scope
from archdsl.runtime.importing.ordering import Member, as_registered, is_region, needed, own_name
from archdsl.runtime.importing.recorded import Value
from archdsl.runtime.refusal import ImportRefused

GENERIC = frozenset({"act", "activation", "flatten"})
"""Names of layers that say no more than their operations."""


def structure(scope: Scope, inputs: list[str], outputs: list[tuple[str, Value]] | None = None) -> Body:
    """The chains of a module and of those within.

    `inputs` are names for its inputs if it has several, or if it is the model; `outputs` the named results, if that
    is several; its result otherwise.
    """
    try:
        return Structure(scope, inputs, outputs, flows=not inputs).body()
    except Named:
        return Structure(scope, inputs, outputs).body()


class Structure:
    """Makes the chains of one scope.

    `flows`: several tensors that enter it may flow on to the first member, without names.
    """

    def __init__(
        self, scope: Scope, inputs: list[str], outputs: list[tuple[str, Value]] | None, *, flows: bool = False
    ) -> None:
        self.scope = scope
        self.named = outputs
        self.results = [value for _, value in outputs] if outputs is not None else list(scope.outputs)
        if not self.results:
            raise ImportRefused("nothing uses its results", scope.path, scope.line)
        members = as_registered(needed(scope, self.results), scope)
        self.learned: dict[Value, Member] = {}
        """Parameters, what is computed from parameters alone, and its members: these are written where it is used."""
        for member in members:
            if all(value in self.learned for value in member.inputs):
                self.learned.update(dict.fromkeys(member.outputs, member))
        self.order = [m for m in members if not any(value in self.learned for value in m.outputs)]
        uses = Counter(value for member in members for value in {*member.inputs})
        uses.update(self.results)
        self.common = [v for v, member in self.learned.items() if uses[v] > 1 or len(member.outputs) > 1]
        """Those that are used more than once, which come before all else."""
        self.producer: dict[Value, Member] = {v: m for m in self.order for v in m.outputs}
        self.users: dict[Value, list[Member]] = {}
        for member in self.order:
            for value in self.inputs_of(member):
                self.users.setdefault(value, []).append(member)
        self.calls = Counter(own_name(m.path, scope) for m in members if m.path and not is_region(m))
        self.taken = set(inputs)
        self.tags: dict[Value, str] = {}
        self.flows = flows and self.is_passed_on()
        if (len(scope.inputs) > 1 and not self.flows) or inputs:
            self.input_names = inputs or [self.fresh(f"x{i}") for i, _ in enumerate(scope.inputs, 1)]
            self.tags.update(zip(scope.inputs, self.input_names, strict=False))
        else:
            self.input_names = []
        self.above = self.dominators()
        self.nodes: dict[int, Node] = {}
        self.shares: dict[str, Node] = {}
        """The members that are called more than once, by their names in the module."""
        self.written: dict[int, Node] = {}
        """The last node of a merge as it is written: a residual, say."""
        for member in members:  # names are given in order
            self.nodes[id(member)] = self.node(member)

    def is_passed_on(self) -> bool:
        """Whether the first member alone takes the tensors that enter the module, all in order."""
        given = self.scope.inputs
        if len(given) < 2 or self.scope.cut is not None or not self.order or self.order[0].inputs != given:
            return False
        return all(self.users[value] == self.order[:1] for value in given)

    def gives_all(self) -> Member | None:
        """The last member, if the results are all of its tensors, which then need no names; None otherwise."""
        last = self.order[-1] if self.order and self.named is None and self.scope.cut is None else None
        if last is None or len(last.outputs) < 2 or self.results != last.outputs:
            return None
        return None if any(self.users.get(value) for value in last.outputs) else last

    # ------------------------------------------------------------ the graph

    def dominators(self) -> dict[int, Member | None]:
        """For each member the nearest one through which all that flows into it came; None is the start."""
        above: dict[int, Member | None] = {}
        depth: dict[int, int] = {id(None): 0}
        for member in self.order:
            sources = [self.producer.get(value) for value in self.inputs_of(member)]
            common = sources[0]
            for other in sources[1:]:
                while common is not other:
                    if depth[id(common)] >= depth[id(other)]:
                        common = above[id(common)] if common is not None else None
                    else:
                        other = above[id(other)] if other is not None else None
            above[id(member)] = common
            depth[id(member)] = depth[id(common)] + 1
        return above

    # ------------------------------------------------------------ nodes and names

    def node(self, member: Member) -> Node:
        """The node of a member, without what it is merged from."""
        into = shape_of(member.inputs[0])[0] if len(member.inputs) == 1 else None
        if (
            member.path
            and member.weighted
            and not is_region(member)
            and self.calls[own_name(member.path, self.scope)] > 1
        ):
            return self.shared(member, into)
        return self.own_node(member, into)

    def shared(self, member: Member, into: int | None) -> Node:
        """A call of what is called more than once; the first one gives what is shared."""
        name = own_name(member.path, self.scope)
        if not member.inputs:
            raise ImportRefused("it is called more than once, and takes no tensor", member.path)
        if name not in self.shares:
            plain = name.isidentifier() and name not in OPERATIONS
            called = self.fresh(name if plain else f"shared_{name.replace('.', '_')}")
            self.shares[name] = Node("share", called, bodies=[[self.own_node(member, into)]], weighted=True)
        return Node("call", self.shares[name].name, into=into, weighted=True)

    def own_node(self, member: Member, into: int | None) -> Node:
        """The node of a member that is called once."""
        if isinstance(member, Item) and member.outside is not None:
            name = own_name(member.path, self.scope)
            node = Node("use", member.extern, dict(member.arguments), into=into, weighted=member.weighted)
            node.label = name if member.weighted else None
        elif isinstance(member, Item):
            name = own_name(member.path, self.scope) if member.path else ""
            node = Node("op", member.operation, dict(member.arguments), into=into, weighted=member.weighted)
            node.label = name if member.weighted or self.says_more(name, member.operation) else None
        elif member.cut is not None:
            node = self.windows(member, member.cut, into)
        else:
            name = own_name(member.path, self.scope)
            node = Node("body", label=name, into=into, weighted=member.weighted, source=member)
            inner = structure(member, [])
            if self.calls[name] > 1 and not member.weighted:  # its path says nothing, and there can be only one
                node.label = None
                for within in walk(inner.chain):
                    within.label = None
            node.bodies = [inner.chain]
            node.arguments = {"inputs": tuple(inner.inputs), "outputs": tuple(label for _, label in inner.outputs)}
        return node

    def windows(self, member: Scope, cut: Item, into: int | None) -> Node:
        """The windows of a map, with the body that they flow through."""
        inner = structure(member, [])
        if inner.outputs:
            raise ImportRefused("it gives several tensors of windows", member.path, member.line)
        given = {**cut.arguments}
        node = Node("windows", cut.operation, given, [inner.chain], into=into, weighted=member.weighted)
        if inner.inputs:
            node.bodies = [[Node("ref", "it", names=tuple(inner.inputs)), *inner.chain]]
        return node

    def says_more(self, name: str, operation: str) -> bool:
        """Whether a layer without weights keeps its name: one that is not its operation's, and not used twice."""
        if not name.isidentifier() or self.calls[name] > 1:
            return False
        base = name.rstrip("0123456789")
        generated = base == operation and (name == base or hasattr(self.scope.module, base))
        return not generated and name not in GENERIC

    def fresh(self, name: str) -> str:
        """A label that is not in use in this scope."""
        base, number = name, 1
        while name in self.taken:
            number += 1
            name = f"{base}_{number}"
        self.taken.add(name)
        return name

    def tag(self, value: Value, wish: str = "") -> str:
        """The label by which a tensor is referred to; its node gets it."""
        if value in self.tags:
            made = self.producer.get(value)
            if made is not None and len(made.outputs) > 1:
                self.nodes[id(made)].names = tuple(self.tags[v] for v in made.outputs)
            return self.tags[value]
        if self.scope.inputs == [value]:
            self.input_names = [self.fresh("x")]
            self.tags[value] = self.input_names[0]
            return self.tags[value]
        if self.flows and value in self.scope.inputs:
            raise Named
        member = self.producer[value] if value in self.producer else self.learned[value]
        node = self.nodes[id(member)]
        if len(member.outputs) > 1:
            base = node.label if node.label and node.label.isidentifier() else plain_name(node)
            users = {id(user): user for value in member.outputs for user in self.users.get(value, ())}
            names = [f"{base}{i}" for i, _ in enumerate(member.outputs)]
            if len(users) == 1 and is_attention(next(iter(users.values()))) and len(names) == 3:
                names = ["q", "k", "v"]
            node.names = tuple(map(self.fresh, names))
            self.tags.update(zip(member.outputs, node.names, strict=True))
            return self.tags[value]
        name = node.label or (own_name(member.path, self.scope) if member.path else "")
        if not name.isidentifier():
            name = wish or (name.replace(".", "_") if name.replace(".", "_").isidentifier() else plain_name(node))
        if name in OPERATIONS:  # a reference would mean both
            name = f"after_{name}"
        if name == node.label:
            self.taken.add(name)
        else:
            name = self.fresh(name)
        self.tags[value] = name
        node.names = (name,)
        if id(member) in self.written:
            self.written[id(member)].names = (name,)
        return name

    # ------------------------------------------------------------ chains

    def body(self) -> Body:
        chain: Chain = []
        emitted: set[int] = set()
        outputs: list[tuple[str, str]] = []
        last = self.gives_all()
        if self.named is not None or (len(self.results) > 1 and last is None):
            names = [name for name, _ in self.named] if self.named is not None else [""] * len(self.results)
            outputs = [
                (name, self.tag(value, name if name.isidentifier() else ""))
                for name, value in zip(names, self.results, strict=True)
            ]
        try:
            made = {value: i for i, member in enumerate(self.order) for value in member.outputs}
            first, *others = self.results
            for value in [first, *sorted(others, key=lambda v: made.get(v, -1))]:
                if id(self.producer.get(value)) not in emitted:
                    start, source = self.begin(value, emitted)
                    if (
                        start
                        and chain
                        and source is not None
                        and chain[-1] in (self.nodes[id(source)], self.written.get(id(source)))
                    ):
                        start = []  # it flows on
                    more = self.chain(value, source, emitted)
                    if start and more and (more[0].kind, more[0].name) == ("ref", start[0].name):
                        start = []
                    more = start + more
                    if chain and chain[-1].kind == "ref" and (not more or more[0].kind == "ref"):
                        chain.pop()  # nothing follows from that name
                    chain += more
            if (outputs or last is not None) and chain and chain[-1].kind == "ref":
                chain.pop()
        except Tangled:
            chain, emitted = self.straight(self.order), {id(m) for m in self.order}
        if self.flows and (self.common or not chain or chain[0] is not self.nodes[id(self.order[0])]):
            raise Named
        if last is not None:
            self.nodes[id(last)].names = ()
        if len(emitted) != len(self.order) or not in_sight(chain, {*self.input_names}, {label for _, label in outputs}):
            chain = self.straight(self.order)
        chain = inlined(chain)
        if self.common:
            chain = self.with_common(chain)
        number_labels(chain)
        if self.shares:
            chain = [*self.shares.values(), *chain]
            for node in own_nodes(chain):
                node.auto = False
        return Body(chain, self.input_names, outputs)

    def with_common(self, chain: Chain) -> Chain:
        """A chain behind the parameters that it uses more than once; it begins with the name of what flows in."""
        before: Chain = []
        written: set[int] = set()
        for value in self.common:
            if id(self.learned[value]) not in written:
                before += self.made_of_parameters(self.learned[value])
                written.add(id(self.learned[value]))
            self.tag(value)
        if len(self.scope.inputs) != 1:
            return [*before, *chain]
        start = [] if chain[0].kind == "ref" else [Node("ref", self.tag(self.scope.inputs[0]))]
        return [*before, *start, *chain]

    def begin(self, value: Value, emitted: set[int]) -> tuple[Chain, Member | None]:
        """The reference at which a further result starts: the last tensor that was made before it, and its producer."""
        if not emitted:
            return [], None
        source = self.source_of(value, emitted)
        if source is None:
            raise Tangled
        member = self.producer.get(source)
        if member is not None and len(member.outputs) > 1:
            return [], member  # the chain begins with the name itself
        return [Node("ref", self.tag(source))], member

    def source_of(self, value: Value, emitted: set[int]) -> Value | None:
        """The one tensor made before, or input, from which a result is computed; None if there are several."""
        found: set[Value] = set()
        stack, seen = [value], {value}
        while stack:
            here = stack.pop()
            member = self.producer.get(here)
            if member is None or id(member) in emitted:
                found.add(here)
                continue
            for other in self.inputs_of(member):
                if other not in seen:
                    seen.add(other)
                    stack.append(other)
        return found.pop() if len(found) == 1 else None

    def chain(self, value: Value, source: Member | None, emitted: set[int]) -> Chain:
        """The nodes after `source` that make a value. Raises Tangled if one would be written twice."""
        member = self.producer.get(value)
        if member is source or member is None:
            return self.start(value, source)
        if id(member) in emitted:
            raise Tangled
        emitted.add(id(member))
        node = self.nodes[id(member)]
        given = member.inputs
        self.sizes(member, node)
        if self.flows and member is self.order[0]:
            chain: Chain = [node]
        elif len(given) == 1:
            chain = [*self.chain(given[0], source, emitted), node]
        elif (before := self.all_of(given, source)) is not None:  # all results of one, in order
            start = self.chain(given[0], source, emitted)
            self.nodes[id(before)].names = ()
            chain = [*start[:-1], node]
        else:
            top = self.above[id(member)]
            begun: Chain = []
            if top is not source and top is not None:
                begun = self.chain(top.outputs[0], source, emitted)
                if len(top.outputs) > 1:
                    begun = begun[:-1]  # its results are referred to by name
            chain = begun + self.joined(member, node, top, emitted)
        if len(member.outputs) > 1:
            chain.append(Node("ref", self.tag(value)))
        return chain

    def start(self, value: Value, source: Member | None) -> Chain:
        """How a branch begins: with what flows in, or with the name of one of several tensors."""
        several = len(source.outputs) > 1 if source is not None else bool(self.input_names) and value in self.tags
        if source is None and len(self.scope.inputs) == 1 and value in self.scope.inputs:
            return []
        return [Node("ref", self.tag(value))] if several else []

    def joined(self, member: Member, node: Node, top: Member | None, emitted: set[int]) -> Chain:
        """A member with several inputs, and the branches that lead to it."""
        try:
            mine = set(emitted)
            branches = [self.branch(value, top, mine) for value in member.inputs]
            if is_deep(member, branches):
                raise Tangled
            emitted |= mine
        except Tangled:
            region = self.region(top, member)
            if any(id(m) in emitted for m in region):
                raise
            emitted |= {id(m) for m in region}
            return self.straight([*region, member], top)
        chain = unnested(combined(node, branches, self.channels(top)), [shape_of(value)[0] for value in member.inputs])
        self.written[id(member)] = chain[-1]  # it gets the name, if one is asked for later
        return chain

    def all_of(self, values: list[Value], source: Member | None) -> Member | None:
        """The member whose results these are, all in order and used only here."""
        member = self.producer.get(values[0])
        if member is None or member is source or member.outputs != values:
            return None
        return member if all(len(self.users[value]) == 1 for value in values) else None

    def channels(self, top: Member | None) -> int | None:
        """The channels of the one tensor that leaves a member, or enters the scope."""
        values = self.scope.inputs if top is None else top.outputs
        return shape_of(values[0])[0] if len(values) == 1 else None

    def inputs_of(self, member: Member) -> list[Value]:
        """The inputs of a member, without the parameters that it takes."""
        return [value for value in member.inputs if value not in self.learned]

    def branch(self, value: Value, top: Member | None, emitted: set[int]) -> Chain:
        """The chain of one input of a merge."""
        if value in self.learned:
            return self.free_branch(value)
        return self.chain(value, top, emitted)

    def free_branch(self, value: Value) -> Chain:
        """A parameter, and what is computed of it; the name of what others use, too."""
        if value in self.common:
            return [Node("ref", self.tag(value))]
        return self.made_of_parameters(self.learned[value])

    def made_of_parameters(self, member: Member) -> Chain:
        """The chain of a member that takes parameters alone."""
        node = self.nodes[id(member)]
        self.sizes(member, node)
        branches = [self.free_branch(value) for value in member.inputs]
        if len(branches) > 1:
            return [*combined(node, branches, None, named=True)]
        return [*(branches[0] if branches else []), node]

    def named_branch(self, value: Value) -> Chain:
        if value in self.learned:
            return self.free_branch(value)
        return [Node("ref", self.tag(value))]

    def region(self, top: Member | None, bottom: Member) -> list[Member]:
        """The members between two members, in order. Raises Tangled if others need one of them."""
        found: set[int] = set()
        stack = [m for value in self.inputs_of(bottom) if (m := self.producer.get(value)) is not top and m is not None]
        while stack:
            member = stack.pop()
            if id(member) in found:
                continue
            found.add(id(member))
            stack += [m for v in self.inputs_of(member) if (m := self.producer.get(v)) is not top and m is not None]
        region = [m for m in self.order if id(m) in found]
        inside = found | {id(bottom)}
        for member in region:
            for value in member.outputs:
                if value in self.results or any(id(user) not in inside for user in self.users.get(value, ())):
                    raise Tangled
        return region

    def straight(self, members: Iterable[Member], top: Member | None = None) -> Chain:
        """Members one after the other, in order; each reads by name what is not the result of the one before."""
        flow: Value | None = None
        if top is not None and len(top.outputs) == 1:
            flow = top.outputs[0]
        elif top is None and len(self.scope.inputs) == 1:
            flow = self.scope.inputs[0]
        if flow is not None:
            self.name_start(flow, list(members))
        chain: Chain = []
        for member in members:
            node = self.nodes[id(member)]
            self.sizes(member, node)
            given = member.inputs
            if self.flows and member is self.order[0]:
                chain.append(node)
            elif len(given) > 1:
                branches = [[] if v is flow else self.named_branch(v) for v in given]
                chain += combined(node, branches, shape_of(flow)[0] if flow is not None else None, named=True)
                self.written[id(member)] = chain[-1]
            else:
                chain += ([] if given[0] is flow else [Node("ref", self.tag(given[0]))]) + [node]
            flow = member.outputs[0] if len(member.outputs) == 1 else None
        return chain

    def name_start(self, flow: Value, members: list[Member]) -> None:
        """Names what flows into a straight sequence, if a later member reads it, too."""
        if flow in self.tags or flow in self.producer:
            return
        if any(flow in member.inputs for member in members[1:]):
            self.tag(flow)

    def sizes(self, member: Member, node: Node) -> None:
        """Finds the tensors whose sizes a `resize` takes."""
        for name, argument in node.arguments.items():
            if isinstance(argument, SizeOf):
                node.arguments[name] = self.size(argument, member)

    def size(self, wanted: SizeOf, member: Member) -> object:
        found = [v for v in self.scope.inputs if sizes_of(v) == wanted.shapes]
        for other in self.order[: self.order.index(member) if member in self.order else None]:
            found += [v for v in other.outputs if sizes_of(v) == wanted.shapes]
        if not found:
            raise ImportRefused("it resizes to a size that no tensor here has", self.scope.path, member.line)
        return Text(f"{self.tag(found[0])}.size")
