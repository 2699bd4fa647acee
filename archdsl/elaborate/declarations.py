"""The statements that declare tensors: `input`, `output` and `expect`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from archdsl import dims
from archdsl.common.units import counted
from archdsl.diagnostics import Mark, renamed
from archdsl.dims import Dim, DimError, Expr
from archdsl.elaborate.builder import Builder
from archdsl.elaborate.place import POISONED_TENSOR, Flow, LabelValue, Place, check_label, label_names
from archdsl.elaborate.reports import Reports
from archdsl.graph import Demand, FreeSize, Output, Tensor
from archdsl.ops import Input
from archdsl.ops.base import Shape
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import shape_text
from archdsl.syntax import tree
from archdsl.values import FAILED, Failure, Namespace, Poisoned, Unknown, describe, evaluate, integer


@dataclass(slots=True, eq=False)
class Declarations:
    """The declared tensors of one network."""

    reports: Reports
    build: Builder
    free: dict[str, FreeSize] = field(default_factory=dict)

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
            check_label(declared.name.name, declared.name.span, place)
            place.names.labels[declared.name.name] = LabelValue((tensor,), declared.name.span, self.build.tensor_value)
        place.scope.input_names = tuple(t.name.name for t in statement.tensors)
        self.build.set_flow(place, flow)
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
        return self.build.place_node(
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
        if POISONED_TENSOR in flow and len(flow) != len(declared):
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
            shape = self.build.shape(tensor)
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
                    self.build.bind_name(value.name, size, place, value.span)
                    continue
            sizes.append((axis, value, evaluate(value, place.names)))
        self.agree(sizes, tensor, place, "E0307", "the incoming tensor")

    def expect(self, statement: tree.Expect, place: Place) -> None:
        if POISONED_TENSOR in place.flow:
            raise Poisoned
        if len(place.flow) != 1:
            raise Failure("E0221", f"`expect` needs one tensor; there are {len(place.flow)} here", statement.span)
        (tensor,) = place.flow
        shape = self.build.shape(tensor)
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
        self.build.demands_of(self.build.graph.node(tensor), statement.span)
        self.agree(sizes, tensor, place, "E0308", "the tensor here")

    def agree(
        self, sizes: Sequence[tuple[int, tree.Value, object]], tensor: Tensor, place: Place, code: str, what: str
    ) -> None:
        """Demands the sizes written in an `input` or `expect`: the axis, the size there, the written one."""
        shape = self.build.shape(tensor)
        assert shape is not None
        wrong: list[tuple[int, tree.Value, Dim]] = []
        wanted: dict[int, Dim] = {}
        for axis, value, size in sizes:
            if not isinstance(size, int | Expr) or isinstance(size, bool):
                raise Failure("E0211", f"a size must be an int; this is {describe(size)}", value.span)
            wanted[axis] = size
            try:
                decided = dims.equal(shape[axis], size)
            except DimError as error:
                raise Failure("E0305", str(error), value.span) from None
            if decided is False:
                wrong.append((axis, value, size))
            elif decided is not True:
                message = f"{what} is {shape_text(shape)}; {dims.text(shape[axis])} here should be {dims.text(size)}"
                node = self.build.graph.node(tensor)
                demand = Demand(decided, OperationError(message), value.span, place.scope, node)
                self.build.demands.append(demand)
        if not wrong:
            return
        said = [f"{dims.text(shape[axis])} here should be {dims.text(size)}" for axis, _, size in wrong]
        message = f"{what} is {shape_text(shape)}; {', and '.join(dict.fromkeys(said))}"
        marks = [
            Mark(value.span, f"should be {dims.text(size)}, is {dims.text(shape[axis])}") for axis, value, size in wrong
        ]
        from archdsl.advice.mending import mend_expected  # only once something is wrong
        from archdsl.advice.sizes import STEPS, size_history

        node = self.build.graph.node(tensor)
        if node.span != marks[0].span:
            marks.append(Mark(node.span, f"gives {shape_text(shape)}"))
        spans = [(value.span, axis) for axis, value, _ in wrong]
        steps = size_history(self.build.graph, tensor, [wrong[0][0]], set())[-STEPS:]
        self.reports.report(
            code,
            message,
            place.scope,
            *marks,
            notes=["; ".join(steps)] if steps else [],
            help="change the layers before this line, or this line",
            proposals=list(mend_expected(self.build.graph, tensor, wanted, spans)),
        )

    def output(self, statement: tree.Output, place: Place) -> None:
        if place.output is not None:
            names = [t.span.text for t in (*place.output.tensors, *statement.tensors)]
            help = f"declare all outputs in one statement: `output {', '.join(dict.fromkeys(names))}`"
            first = Mark(place.output.span, "first here")
            raise Failure("E0222", "the outputs are already declared", statement.span, help, first)
        place.output, place.named = statement, (POISONED_TENSOR,)
        found: list[Output] = []
        for declared in statement.tensors:
            label = place.names.find_label(declared.label.name)
            if label is None:
                if place.names.is_poisoned():
                    raise Poisoned
                labels = label_names(place.names)
                raise Unknown(
                    declared.label.name,
                    f"there is no label `{declared.label.name}` here",
                    declared.label.span,
                    f"label the item whose result it should return: `{declared.label.name}: …`",
                    proposals=renamed(declared.label.span, declared.label.name, labels),
                    below="write `output` behind the items whose results it names",
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
            self.build.graph.outputs = tuple(o for o in found if o.tensor is not POISONED_TENSOR)
        elif any(o.training for o in found):
            raise Failure("E0234", "`if training` is only for outputs of a model", statement.span)
        place.named = flow
        self.build.set_flow(place, flow)
