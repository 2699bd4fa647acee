"""Elaborates statements: the lines of a body, and the inputs and outputs of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from archdsl import dims
from archdsl.common.units import counted
from archdsl.diagnostics import Mark, renamed
from archdsl.dims import Dim, Expr
from archdsl.elaborate.core import (
    LOST,
    Flow,
    LabelValue,
    Place,
    copy_defaults,
    label_names,
)
from archdsl.elaborate.items import Items
from archdsl.elaborate.spec_files import extend_defaults
from archdsl.graph import FreeSize, Output, Tensor
from archdsl.ops import Input
from archdsl.ops.base import Shape
from archdsl.ops.fields import shape_text
from archdsl.syntax import tree
from archdsl.values import (
    FAILED,
    BlockValue,
    Failure,
    Namespace,
    Poisoned,
    describe,
    evaluate,
    integer,
    literal,
    sequence,
    truth,
)


class Elaborator(Items):
    """Elaborates the statements of a body, and the model."""

    # ------------------------------------------------------------ the model

    def model(self, block: BlockValue, arguments: Mapping[str, object]) -> None:
        """Elaborates the root of the graph."""
        root = self.graph.root
        names = self.body_names(block, arguments, root)
        place = Place(root, names, copy_defaults(block.defaults), (), root=True)
        names.it = None
        self.statements(block.syntax.body.statements, place)
        if not place.started and not self.reported:
            self.report(
                "E0213",
                f"the model `{block.name}` declares no input",
                None,
                block.syntax.name.span,
                help="begin it with `input image[3, H = 224, W = 224]`",
            )
        if not self.graph.outputs and LOST not in place.flow:
            if len(place.flow) > 1:
                self.report(
                    "E0214",
                    f"{len(place.flow)} tensors without a name leave `{block.name}`",
                    None,
                    block.syntax.name.span,
                    help="merge them (`add`, `concat`), or name them: `output a, b`",
                )
            self.graph.outputs = tuple(Output(None, t) for t in place.flow[:1])
        root.outputs = tuple(o.tensor for o in self.graph.outputs)
        self.graph.free = tuple(self.free.values())

    # ------------------------------------------------------------ statements

    def statements(self, statements: Sequence[tree.Statement], place: Place) -> None:
        for statement in statements:
            self.budget.step()
            with self.guarded(place, statement.span):
                self.statement(statement, place)
            if place.pending:
                for name, label in place.pending:
                    place.names.labels[name] = label
                place.pending.clear()

    def statement(self, statement: tree.Statement, place: Place) -> None:
        match statement:
            case tree.Chain():
                self.set_flow(place, self.chain(statement, place, place.flow))
            case tree.Let():
                self.let(statement, place)
            case tree.For() | tree.Repeat():
                self.loop(statement, place)
            case tree.If():
                self.choose(statement, place)
            case tree.Input():
                self.input(statement, place)
            case tree.Output():
                self.output(statement, place)
            case tree.Expect():
                self.expect(statement, place)
            case tree.Require():
                self.require(statement, place)
            case tree.Default():
                extend_defaults(place.defaults, statement, place.names)
            case _:
                assert_never(statement)

    def let(self, statement: tree.Let, place: Place) -> None:
        name = statement.name.name
        if place.names.find_label(name) is not None:
            raise Failure("E0209", f"`{name}` is already a label here", statement.name.span, "choose another name")
        try:
            place.names.values[name] = evaluate(statement.value, place.names)
        except Failure as failure:
            place.names.values[name] = FAILED
            self.fail(failure, place.scope)
        except Poisoned:
            place.names.values[name] = FAILED

    def rounds(self, statement: tree.For | tree.Repeat, place: Place) -> tuple[tuple[tree.Name, ...], Sequence[object]]:
        """The names and values that a loop binds in each iteration."""
        if isinstance(statement, tree.Repeat):
            count = integer(evaluate(statement.count, place.names), statement.count.span, "the count of `repeat`")
            if count < 0:
                raise Failure("E0215", f"`repeat` cannot run {count} times", statement.count.span)
            self.budget.round(count, statement.span)
            return (), range(count)
        values = sequence(evaluate(statement.values, place.names), statement.values.span, "`for`")
        self.budget.round(len(values), statement.span)
        return statement.names, values

    def loop(self, statement: tree.For | tree.Repeat, place: Place) -> None:
        names, rounds = self.rounds(statement, place)
        around = self.rounds_around
        for number, value in enumerate(rounds):
            self.rounds_around = (*around, (statement.span.start, number))
            self.bind_round(names, value, statement, place)
            self.inner_statements(statement.body, place)
        self.rounds_around = around

    def bind_round(self, names: tuple[tree.Name, ...], value: object, statement: tree.Statement, place: Place) -> None:
        if len(names) == 1:
            place.names.values[names[0].name] = value
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
            place.names.values[name.name] = part

    def choose(self, statement: tree.If, place: Place) -> None:
        for condition, body in statement.branches:
            if truth(evaluate(condition, place.names), condition.span):
                self.inner_statements(body, place)
                return
        if statement.otherwise is not None:
            self.inner_statements(statement.otherwise, place)

    def inner_statements(self, body: tree.Body, place: Place) -> None:
        """The body of a loop or `if`: its contents belong to the enclosing body, but its `default`s end with it."""
        defaults = place.defaults
        place.defaults = dict(defaults)
        self.statements(body.statements, place)
        place.defaults = defaults

    def require(self, statement: tree.Require, place: Place) -> None:
        if truth(evaluate(statement.condition, place.names), statement.condition.span):
            return
        text = "this condition is false"
        if statement.message is not None:
            message = evaluate(statement.message, place.names)
            text = message if isinstance(message, str) else literal(message)
        self.report("E0216", text, place.scope, Mark(statement.condition.span, "is false"))
        self.lose(place)

    # ------------------------------------------------------------ input, output, expect

    def input(self, statement: tree.Input, place: Place) -> None:
        if place.started:
            help = "declare all inputs in one statement: `input left[3, H, W], right[3, H, W]`"
            raise Failure("E0217", "`input` must come before all items", statement.span, help)
        place.started = True
        if place.root:
            flow = tuple(self.root_input(t, place) for t in statement.tensors)
        else:
            flow = self.block_input(statement, place)
        for tensor, declared in zip(flow, statement.tensors, strict=True):
            self.check_label(declared.name, place)
            place.names.labels[declared.name.name] = LabelValue((tensor,), declared.name.span, self)
        place.scope.input_names = tuple(t.name.name for t in statement.tensors)
        self.set_flow(place, flow)
        if place.root:
            place.scope.inputs = flow

    def root_input(self, declared: tree.InputTensor, place: Place) -> Tensor:
        shape: list[Dim] = []
        if not declared.dimensions:
            message = f"the input `{declared.name.name}` has no sizes: a tensor has at least channels"
            raise Failure(
                "E0218",
                message,
                declared.span,
                f"give its size, channels first: `input {declared.name.name}[3, H, W]`",
            )
        for dimension in declared.dimensions:
            value = dimension.value
            if isinstance(value, tree.Name) and value.name == "_":
                raise Failure("E0218", "a size in a model's input needs a name or a number", value.span, "write `H`")
            unbound = isinstance(value, tree.Name) and place.names.find(value.name) is None
            if isinstance(value, tree.Name) and (unbound or dimension.example is not None):
                if not unbound:
                    raise Failure(
                        "E0218",
                        f"`{value.name}` already has a value, so it cannot be a free size with an example",
                        dimension.span,
                        f"write `{value.name}` alone, or choose another name",
                    )
                shape.append(self.free_size(value, dimension, place))
            else:
                shape.append(self.dimension(value, place.names))
        return self.place_node(
            Input(shape=tuple(shape)), (), declared.name.name, True, place.scope, declared.span, None
        )[0]

    def free_size(self, name: tree.Name, dimension: tree.Dimension, place: Place) -> Dim:
        example: int | None = None
        if dimension.example is not None:
            what = f"the example size of `{name.name}`"
            example = integer(evaluate(dimension.example, place.names), dimension.example.span, what)
            if example < 1:
                raise Failure("E0218", f"{what} is at least 1, not {example}", dimension.example.span)
        self.free[name.name] = FreeSize(name.name, example, dimension.span)
        size = dims.free(name.name)
        place.names.values[name.name] = size
        return size

    def dimension(self, value: tree.Value, names: Namespace) -> Dim:
        size = evaluate(value, names)
        if isinstance(size, Expr):
            return size
        number = integer(size, value.span, "a size")
        if number < 1:
            raise Failure("E0218", f"a size is at least 1, not {number}", value.span)
        return number

    def block_input(self, statement: tree.Input, place: Place) -> Flow:
        declared = statement.tensors
        flow = place.inflow
        if LOST in flow and len(flow) != len(declared):
            raise Poisoned
        if len(flow) != len(declared):
            name = place.scope.definition.name if place.scope.definition else "this body"
            raise Failure(
                "E0219",
                f"`{name}` takes {counted(len(declared), 'tensor')}, but {len(flow)} flow{'s' * (len(flow) == 1)} in",
                statement.span,
                "call it after a parallel with as many chains: `(a, b) -> " + name + "`",
            )
        for tensor, wanted in zip(flow, declared, strict=True):
            shape = self.shape(tensor)
            if shape is None:
                for dimension in wanted.dimensions:
                    if isinstance(dimension.value, tree.Name):
                        place.names.values.setdefault(dimension.value.name, FAILED)
                continue
            self.match_sizes(shape, wanted, tensor, place)
        return flow

    def match_sizes(self, shape: Shape, wanted: tree.InputTensor, tensor: Tensor, place: Place) -> None:
        if len(shape) != len(wanted.dimensions):
            raise Failure(
                "E0220",
                f"`{wanted.name.name}` has {counted(len(wanted.dimensions), 'size')} here, "
                f"but the incoming tensor is {shape_text(shape)}",
                wanted.span,
            )
        sizes: list[tuple[int, tree.Value, object]] = []
        for axis, (size, dimension) in enumerate(zip(shape, wanted.dimensions, strict=True)):
            value = dimension.value
            if isinstance(value, tree.Name):
                if value.name == "_":
                    continue
                if place.names.find(value.name) is None:
                    place.names.values[value.name] = size
                    continue
            sizes.append((axis, value, evaluate(value, place.names)))
        self.agree(sizes, tensor, place, "E0307", "the incoming tensor")

    def expect(self, statement: tree.Expect, place: Place) -> None:
        if LOST in place.flow:
            raise Poisoned
        if len(place.flow) != 1:
            raise Failure("E0221", f"`expect` needs one tensor; there are {len(place.flow)} here", statement.span)
        (tensor,) = place.flow
        shape = self.shape(tensor)
        assert shape is not None
        if len(shape) != len(statement.dimensions):
            raise Failure(
                "E0308",
                f"the tensor here is {shape_text(shape)}, with {counted(len(shape), 'size')}; "
                f"`expect` has {len(statement.dimensions)}",
                statement.span,
                "list them all, channels first, without the batch; `_` is any",
            )
        sizes: list[tuple[int, tree.Value, object]] = [
            (axis, value, evaluate(value, place.names))
            for axis, value in enumerate(statement.dimensions)
            if not (isinstance(value, tree.Name) and value.name == "_")
        ]
        self.demands_of(self.graph.node(tensor), statement.span)
        self.agree(sizes, tensor, place, "E0308", "the tensor here")

    def output(self, statement: tree.Output, place: Place) -> None:
        if place.output is not None:
            names = [t.span.text for t in (*place.output.tensors, *statement.tensors)]
            help = f"declare all outputs in one statement: `output {', '.join(dict.fromkeys(names))}`"
            first = Mark(place.output.span, "first here")
            raise Failure("E0222", "the outputs are already declared", statement.span, help, first)
        place.output = statement
        found: list[Output] = []
        for declared in statement.tensors:
            label = place.names.find_label(declared.label.name)
            if label is None:
                if place.names.is_poisoned():
                    raise Poisoned
                labels = label_names(place.names)
                raise Failure(
                    "E0201",
                    f"there is no label `{declared.label.name}` here",
                    declared.label.span,
                    f"label the item whose result it should return: `{declared.label.name}: …`",
                    proposals=renamed(declared.label.span, declared.label.name, labels),
                )
            if len(label.flow) != 1:
                raise Failure("E0221", f"`{declared.label.name}` holds {len(label.flow)} tensors", declared.label.span)
            if any(o.name == declared.name.name for o in found):
                raise Failure("E0208", f"`{declared.name.name}` is given twice", declared.name.span)
            found.append(Output(declared.name.name, label.flow[0], declared.training))
        flow = tuple(o.tensor for o in found)
        if place.root:
            if all(o.training for o in found):
                raise Failure(
                    "E0234",
                    "the model has no output in evaluation mode",
                    statement.span,
                    "remove `if training` from one output",
                )
            self.graph.outputs = tuple(o for o in found if o.tensor is not LOST)
        elif any(o.training for o in found):
            raise Failure("E0234", "`if training` is only for outputs of a model", statement.span)
        self.set_flow(place, flow)
