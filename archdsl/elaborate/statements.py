"""Statements: the lines of a body, and the model that they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from archdsl.common.limits import Budget
from archdsl.diagnostics import Diagnostics, Mark, did_you_mean
from archdsl.elaborate.builder import Builder
from archdsl.elaborate.calls import Operations
from archdsl.elaborate.declarations import Declarations
from archdsl.elaborate.items import Items
from archdsl.elaborate.place import POISONED_TENSOR, Flow, Place, copy_defaults
from archdsl.elaborate.reports import Reports
from archdsl.elaborate.spec_files import extend_defaults
from archdsl.graph import MEASURES, Expectation, Graph, Output, Tensor
from archdsl.syntax import tree
from archdsl.values import FAILED, BlockValue, Failure, Poisoned, describe, evaluate, integer, literal, sequence, truth


@dataclass(slots=True, eq=False)
class Elaborator:
    """Reads the statements of a model, with the parts that each do one thing of it.

    `repeat` reads a loop: `loop`, unless rounds are counted instead.
    """

    reports: Reports
    build: Builder
    declarations: Declarations
    items: Items = field(init=False)
    repeat: Callable[[tree.For | tree.Repeat, Place], None] = field(init=False)

    def __post_init__(self) -> None:
        self.items = Items(self.reports, self.build, Operations(self.reports), self.read, self.branches)
        self.repeat = self.loop

    @classmethod
    def of(
        cls, diagnostics: Diagnostics, graph: Graph, budget: Budget, estimate: Callable[[], int | None] = lambda: None
    ) -> Elaborator:
        """An elaborator for a graph that is still empty; `estimate` says how many nodes it will have."""
        reports = Reports(diagnostics)
        build = Builder(reports, graph, budget, estimate)
        return cls(reports, build, Declarations(reports, build))

    def model(self, block: BlockValue, arguments: Mapping[str, object]) -> None:
        """Elaborates the root of the graph."""
        root = self.build.graph.root
        names = self.build.body_names(block, arguments, root)
        place = Place(root, names, copy_defaults(block.defaults), (), root=True)
        names.it = None
        self.read(block.syntax.body.statements, place)
        if not place.started and not self.reports.reported:
            self.reports.report(
                "E0213",
                f"the model `{block.name}` declares no input",
                None,
                block.syntax.name.span,
                help="begin it with `input image[3, H = 224, W = 224]`",
            )
        if not self.build.graph.outputs and POISONED_TENSOR not in place.result:
            if len(place.result) > 1:
                self.reports.report(
                    "E0214",
                    f"{len(place.result)} tensors without a name leave `{block.name}`",
                    None,
                    block.syntax.name.span,
                    help="merge them (`add`, `concat`), or name them: `output a, b`",
                )
            self.build.graph.outputs = tuple(Output(None, t) for t in place.result[:1])
        for output in self.build.graph.outputs:
            node = self.build.graph.node(output.tensor)
            if not node.batched:
                what = f"the output `{output.name}`" if output.name else "what the model gives"
                help = "merge it with what comes from the input: `(it, label) -> add`"
                self.reports.report("E0237", f"{what} depends on no input", None, node.span, help=help)
        root.outputs = tuple(o.tensor for o in self.build.graph.outputs)
        self.build.graph.free = tuple(self.declarations.free.values())

    def read(self, statements: Sequence[tree.Statement], place: Place) -> None:
        for statement in statements:
            self.build.budget.step()
            with self.reports.guarded(place, statement.span):
                self.statement(statement, place)
            if place.pending:
                for name, label in place.pending:
                    place.names.labels[name] = label
                place.pending.clear()

    def statement(self, statement: tree.Statement, place: Place) -> None:
        match statement:
            case tree.Chain():
                self.build.set_flow(place, self.items.chain(statement, place, place.flow))
            case tree.Let():
                self.let(statement, place)
            case tree.For() | tree.Repeat():
                self.repeat(statement, place)
            case tree.If():
                self.choose(statement, place)
            case tree.Input():
                self.declarations.input(statement, place)
            case tree.Output():
                self.declarations.output(statement, place)
            case tree.Expect():
                self.declarations.expect(statement, place)
            case tree.ExpectCost():
                self.expect_cost(statement, place)
            case tree.Require():
                self.require(statement, place)
            case tree.Share():
                self.items.shares.declare(statement, place)
            case tree.Missing():
                raise Poisoned
            case tree.Default():
                extend_defaults(place.defaults, statement, place.names)
            case _:
                assert_never(statement)

    def let(self, statement: tree.Let, place: Place) -> None:
        name = statement.name.name
        if place.names.find_label(name) is not None:
            raise Failure("E0209", f"`{name}` is already a label here", statement.name.span, "choose another name")
        try:
            value = evaluate(statement.value, place.names)
            place.names.values[name] = value
            self.build.bound = {**self.build.bound, name: value}
        except Failure as failure:
            place.names.values[name] = FAILED
            self.reports.fail(failure, place.scope)
        except Poisoned:
            place.names.values[name] = FAILED

    def rounds(self, statement: tree.For | tree.Repeat, place: Place) -> tuple[tuple[tree.Name, ...], Sequence[object]]:
        """The names and values that a loop binds in each iteration."""
        if isinstance(statement, tree.Repeat):
            count = integer(evaluate(statement.count, place.names), statement.count.span, "the count of `repeat`")
            if count < 0:
                raise Failure("E0215", f"`repeat` cannot run {count} times", statement.count.span)
            self.build.budget.round(count, statement.span)
            return (), range(count)
        values = sequence(evaluate(statement.values, place.names), statement.values.span, "`for`")
        self.build.budget.round(len(values), statement.span)
        return statement.names, values

    def loop(self, statement: tree.For | tree.Repeat, place: Place) -> None:
        names, rounds = self.rounds(statement, place)
        around = self.build.rounds_around
        for number, value in enumerate(rounds):
            self.build.rounds_around = (*around, (statement.span.start, number))
            self.bind_round(names, value, statement, place)
            self.inner_statements(statement.body, place)
        self.build.rounds_around = around

    def branches(self, statement: tree.For | tree.Repeat | tree.If, place: Place, flow: Flow) -> Flow:
        """A loop or condition in a parallel: each round is a branch, and so is the body that is chosen."""
        if isinstance(statement, tree.If):
            body = self.chosen(statement, place)
            return self.items.body(body, place, flow) if body is not None else ()
        names, rounds = self.rounds(statement, place)
        around = self.build.rounds_around
        results: list[Tensor] = []
        for number, value in enumerate(rounds):
            self.build.rounds_around = (*around, (statement.span.start, number))
            self.bind_round(names, value, statement, place)
            results += self.items.body(statement.body, place, flow)
        self.build.rounds_around = around
        return tuple(results)

    def bind_round(self, names: tuple[tree.Name, ...], value: object, statement: tree.Statement, place: Place) -> None:
        if len(names) == 1:
            self.build.bind_name(names[0].name, value, place, names[0].span)
            return
        if not names:
            return
        if not isinstance(value, tuple) or len(value) != len(names):
            assert isinstance(statement, tree.For)
            raise Failure(
                "E0211",
                f"`for` names {len(names)} values, but each iteration has {describe(value)}",
                statement.values.span,
            )
        for name, part in zip(names, value, strict=True):
            self.build.bind_name(name.name, part, place, name.span)

    def choose(self, statement: tree.If, place: Place) -> None:
        body = self.chosen(statement, place)
        if body is not None:
            self.inner_statements(body, place)

    def chosen(self, statement: tree.If, place: Place) -> tree.Body | None:
        """The body of the first condition that is true."""
        for condition, body in statement.branches:
            if truth(evaluate(condition, place.names), condition.span):
                return body
        return statement.otherwise

    def inner_statements(self, body: tree.Body, place: Place) -> None:
        """The body of a loop or `if`: its contents belong to the enclosing body, but its `default`s end with it."""
        defaults = place.defaults
        place.defaults = dict(defaults)
        self.read(body.statements, place)
        place.defaults = defaults

    def expect_cost(self, statement: tree.ExpectCost, place: Place) -> None:
        measure = statement.measure
        if place.scope is not self.build.graph.root:
            what = f"`expect {measure.name}` is about a whole model, so it can only be in the body of a `model`"
            raise Failure("E0238", what, statement.span, "move it to the model")
        if measure.name not in MEASURES:
            help = did_you_mean(measure.name, MEASURES) or f"`expect` knows {', '.join(f'`{m}`' for m in MEASURES)}"
            raise Failure("E0201", f"there is no cost `{measure.name}`", measure.span, help)
        if isinstance(statement.bound, tree.Binary) and statement.bound.operator in ("and", "or"):
            help = "write an `expect` for each cost, in lines of their own; all of them must hold"
            raise Failure("E0211", "an `expect` compares one cost", statement.bound.span, help)
        bound = evaluate(statement.bound, place.names)
        if not isinstance(bound, int | float) or isinstance(bound, bool):
            raise Failure("E0211", f"a cost is compared with a number; this is {describe(bound)}", statement.bound.span)
        found = Expectation(measure.name, statement.comparison, bound, statement.span)
        self.build.graph.expectations.append(found)

    def require(self, statement: tree.Require, place: Place) -> None:
        if truth(evaluate(statement.condition, place.names), statement.condition.span):
            return
        text = "this condition is false"
        if statement.message is not None:
            message = evaluate(statement.message, place.names)
            text = message if isinstance(message, str) else literal(message)
        self.reports.report("E0216", text, place.scope, Mark(statement.condition.span, "is false"))
        place.lose()
