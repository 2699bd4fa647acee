"""A recording as a network: each call of a layer or function becomes operations."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from archdsl.dims import DimError
from archdsl.ops import OPERATIONS, aliases
from archdsl.ops.base import Rules
from archdsl.ops.declaration import OperationError
from archdsl.runtime.importing import layers
from archdsl.runtime.importing.aligning import aligned
from archdsl.runtime.importing.attending import ATTENDERS, on_scores
from archdsl.runtime.importing.batches import translated
from archdsl.runtime.importing.fixed import blurred, weighted_groups
from archdsl.runtime.importing.functions import (
    HANDLERS,
    Meaning,
    as_layer,
    is_function,
    meaning,
    plain_name,
    shape_of,
)
from archdsl.runtime.importing.lasting import meaning_last
from archdsl.runtime.importing.layers import NoOperation, Wording
from archdsl.runtime.importing.layouts import Layouts, channels_last
from archdsl.runtime.importing.learned import Learned
from archdsl.runtime.importing.making import Made
from archdsl.runtime.importing.merging import MERGERS
from archdsl.runtime.importing.moves import MOVERS, lowest
from archdsl.runtime.importing.network import Item, Network, Scope, complete, nameless
from archdsl.runtime.importing.outside import outside_item
from archdsl.runtime.importing.padding import PADS
from archdsl.runtime.importing.placing import place
from archdsl.runtime.importing.positions import is_positions_first, positions_first
from archdsl.runtime.importing.recognising import normalisation, standardised
from archdsl.runtime.importing.recorded import Call, Constant, Derived, Owned, Recording, ScopeCall, Value, flat
from archdsl.runtime.importing.reducing import REDUCERS
from archdsl.runtime.importing.regions import with_regions
from archdsl.runtime.importing.repeating import merging, real
from archdsl.runtime.importing.settling import shapes_of
from archdsl.runtime.importing.turning import turned
from archdsl.runtime.importing.views import View, axis_of, order_of, permuted, sizes_of, whole
from archdsl.runtime.importing.weighted import parted_bias, with_its_layer
from archdsl.runtime.refusal import ImportRefused


def translate(
    recording: Recording, outputs: list[tuple[str, Value]], made: Made | None, refused: Mapping[str, ImportRefused]
) -> Network:
    """The network of a recording; those that are not in `outputs` are outputs only in training.

    `made` are the arguments of modules, by which those that cannot be said become externs; with None there are none.
    `refused` are modules that no spec can say, by their paths, and why. Raises ImportRefused for the
    first call that the language cannot say, if no extern can stand for it.
    """
    translator = Translator(recording.root.module, made, [shape[0] for shape in recording.inputs[0].shapes])
    translator.refused = refused
    root = translator.scope(recording.root)
    place(root, translator.learned.items, translator.learned.calls, translator.places)
    complete(root, recording)
    always = {name for name, _ in outputs}
    final = [(name, translator.output(value, root, name)) for name, value in recording.outputs]
    names = {id(value): name for name, value in zip(recording.input_names, recording.inputs, strict=True)}
    inputs = [(names[id(value)], value) for value in recording.inputs]
    return Network(root, inputs, [o for o in final if o[0] in always], [o for o in final if o[0] not in always])


WAYS = {**MOVERS, **REDUCERS, **MERGERS, **ATTENDERS}
"""How functions are said that work on views of tensors, by their names."""
DIGITS = 12
"""The digits of numbers with a fraction: far more than a float32 keeps, and without Python's rounding errors."""


def plain(arguments: Mapping[str, object]) -> dict[str, object]:
    """Arguments without the rounding errors of Python's arithmetic."""
    return {name: float(f"{v:.{DIGITS}g}") if isinstance(v, float) else v for name, v in arguments.items()}


class Translator:
    """Translates calls."""

    def __init__(self, module: nn.Module, made: Made | None, batches: Sequence[int]) -> None:
        self.module, self.made = module, made
        self.refused: Mapping[str, ImportRefused] = {}
        self.layouts = Layouts(module.state_dict().keys(), self.start, module.get_buffer)
        self.layouts.translate = self.translate
        self.learned = Learned(self.layouts, module, batches)
        self.layouts.of_parameters = self.learned.for_each_sample
        self.places: dict[int, tuple[Scope, list[list[Item | Scope]]]] = {}
        """As `place` takes them."""
        self.running = ""
        """The path of the module whose calls are translated."""

    def output(self, value: Value, root: Scope, name: str) -> Value:
        """The tensor of an output, with its axes as PyTorch has them."""
        layouts = self.layouts
        layouts.moved = []
        try:
            real(layouts, value)
            if not shape_of(value):  # one number for each sample: a spec's tensors have channels
                view = layouts.view(value)
                value = Value([(*shape, 1) for shape in value.shapes], value.dtype)
                layouts.set(value, View(view.base, (*view.axes, ())))
            found = layouts.ordered(value)
        except NoOperation as reason:
            raise ImportRefused(f"its output {name} is {reason}") from None
        root.members += layouts.moved
        return found

    def member(self, call: ScopeCall) -> list[Item | Scope]:
        """The form of a module in the spec: its scope, or an extern if the language cannot express part of it."""
        if (made := self.recognised(call, normalisation(call))) is not None:
            return made
        known = len(self.layouts.views)
        try:
            inner = self.scope(call)
            for value in call.given:
                self.whole(value, inner)
        except ImportRefused as refusal:
            self.layouts.forget(known)
            if (made := self.recognised(call, standardised(call))) is not None:
                return made
            if self.made is None:
                raise
            return self.outside(call, refusal, self.made)
        if any(isinstance(member, Item) and member.path == call.path and member.weighted for member in inner.members):
            return nameless(inner.members)  # a module with the weights of a layer: the layer stands for it
        only = inner.members[0] if len(inner.members) == 1 else None
        if isinstance(only, Item) and not only.weighted and not only.path and len(only.inputs) == 1:
            only.path = call.path  # a layer of the user's own
            return [only]
        return [*self.turned_before(call, inner), inner] if inner.members else []

    def turned_before(self, call: ScopeCall, inner: Scope) -> list[Item]:
        """The permutations of what enters a module, taken out of it: those that its caller has made.

        A permutation becomes an item where the first layer needs it, which may be within the module.
        """
        bases = []
        for value in call.taken:
            first = next(
                (m for m in call.members if value in (m.taken if isinstance(m, ScopeCall) else m.inputs)), None
            )
            if isinstance(first, ScopeCall) or (first is not None and first.module is not None):
                bases.append(self.layouts.view(value).base)
        made = {value for item in inner.items() for value in item.outputs}  # products that only now are tensors
        bases = [base for base in bases if base not in made]
        turned = [m for m in inner.members if isinstance(m, Item) and m.operation == "permute" and m.inputs[0] in bases]
        found = []
        for item in turned:
            others = sum(item.inputs[0] in other.inputs for other in inner.items())
            if others == 1 and item.inputs[0] not in self.layouts.inside and len(inner.members) > 1:
                inner.members.remove(item)
                found.append(item)
        return found

    def recognised(self, call: ScopeCall, found: tuple[Wording, bool] | None) -> list[Item | Scope] | None:
        """The layer that a module writes out, and whether its channels are last; None where that cannot be said."""
        if found is None:
            return None
        layouts, (tensor,), (result,) = self.layouts, call.taken, call.given
        meant, is_last = found
        layouts.moved = []
        try:
            given = layouts.ordered(tensor, channels_last(len(tensor.shapes[0]) - 1) if is_last else None)
        except NoOperation:
            return None
        made = layouts.made_last(result) if is_last else result
        layouts.add(Item(meant.operation, dict(meant.arguments), [given], [made], call.path, True, call.line))
        return [*layouts.moved]

    def whole(self, value: Value, scope: Scope) -> None:
        """Makes what leaves a module a tensor of its own, within it."""
        layouts = self.layouts
        layouts.moved = []
        if value in layouts.repeated or value in layouts.padded:
            real(layouts, value)
            scope.members += layouts.moved
            layouts.moved = []
        if layouts.is_scores(value) or layouts.is_whole(value):
            return
        if (found := layouts.settle(layouts.view(value), anyhow=False)) is not None:
            scope.members += layouts.moved
            layouts.views[value] = found

    def outside(self, call: Call | ScopeCall, refusal: ImportRefused, made: Made) -> list[Item | Scope]:
        """The extern that stands for a module, with what makes its inputs as PyTorch has them."""
        self.layouts.moved = []
        try:
            for value in call.taken:
                real(self.layouts, value)
            inputs = [self.layouts.ordered(value) for value in call.taken]
        except NoOperation:
            raise refusal from None
        item = outside_item(call, inputs, refusal, made)
        self.layouts.add(item)
        for value in call.given:
            self.restore(value, call.taken)
        return [*self.layouts.moved]

    def restore(self, value: Value, taken: list[Value]) -> None:
        """Puts the channels of an extern's result first, if they are last in what it takes."""
        layouts = self.layouts
        order = next((o for v in taken if len(o := layouts.order(v)) + 1 == len(value.shapes[0])), None)
        if order is not None and order != (*range(len(order)),):
            base = layouts.made(value, order)
            axes = tuple(order.index(axis) for axis in range(len(order)))
            layouts.add(Item("permute", {"axes": axes}, [value], [base]))

    def scope(self, call: ScopeCall) -> Scope:
        if call.path in self.refused:
            raise self.refused[call.path]
        scope = Scope(call.path, call.module, line=call.line)
        made: list[list[Item | Scope]] = []
        self.places[id(call)] = scope, made
        around, self.layouts.divided, self.layouts.held = (self.layouts.divided, self.layouts.held), {}, {}
        outer, self.running = self.running, call.path
        try:
            for member in call.members:
                made.append(self.member(member) if isinstance(member, ScopeCall) else [*self.call(member)])
                scope.members += made[-1]
        finally:
            self.layouts.divided, self.layouts.held = around
            self.running = outer
        with_regions(scope, self.layouts.inside)
        return scope

    def call(self, call: Call) -> list[Item]:
        """The items of a call, after those that move numbers. Raises ImportRefused."""
        self.layouts.moved = []
        known = len(self.layouts.views)
        try:
            with self.layouts.undone():
                if (parts := parted_bias(call)) is not None:
                    self.with_parted_bias(call, parts)
                elif not blurred(self.layouts, call) and not weighted_groups(self.layouts, call):
                    self.said(call)
        except NoOperation as reason:
            refusal = ImportRefused(str(reason), call.path, call.line)
            if self.made is None or call.module is None:
                raise refusal from None
            self.layouts.forget(known)
            self.outside(call, refusal, self.made)
        if call.module is None:
            self.layouts.makers.update(dict.fromkeys(call.results, call))
        for item in self.layouts.moved:
            if item.path and not item.weighted and not self.is_within(item.path):
                item.path = ""  # a layer without weights that other modules call, too
            item.line = item.line or call.line
            item.arguments = plain(item.arguments)
        return self.layouts.moved

    def said(self, call: Call) -> None:
        """Adds the items of a call; what it takes of parameters alone may be tensors. Raises NoOperation."""
        try:
            with self.layouts.undone():
                translated(self.layouts, with_its_layer(call, self.module))
        except NoOperation as reason:
            given = [*flat(call.arguments), *flat(tuple(call.named.values()))]
            if not any(isinstance(part, Owned | Derived) for part in given):
                raise
            try:
                self.learned.lifted(self.learned.with_values(call))
            except NoOperation as other:
                raise (reason if any(isinstance(part, Owned) for part in given) else other) from None

    def is_within(self, path: str) -> bool:
        """Whether a path is below that of the module that runs."""
        return not self.running or path.startswith(f"{self.running}.")

    def translate(self, call: Call) -> None:
        """Adds the items of a call, and says which views its results are. Raises NoOperation."""
        layouts, name = self.layouts, plain_name(call)
        if not call.results:
            raise NoOperation(f"`{call.name}` changes a part of a tensor")
        call = aligned(layouts, merging(layouts, call))
        for value in call.inputs:
            real(layouts, value)
        if on_scores(layouts, call) or lowest(layouts, call):
            return
        if type(call.module) is nn.Identity:  # in the place of an activation
            view = layouts.view(call.inputs[0])
            layouts.add(Item("identity", {}, [view.base], [layouts.made_like(call.results[0], view)], call.path))
        elif isinstance(call.module, nn.Flatten | nn.Unflatten):
            MOVERS["reshape"](layouts, call)
        elif is_positions_first(layouts, call):
            positions_first(layouts, call)
        elif isinstance(call.module, nn.GLU):
            MOVERS["glu"](layouts, call)
        elif isinstance(call.module, tuple(PADS)):
            MOVERS["pad"](layouts, call)
        elif isinstance(call.module, nn.Softmax | nn.LogSoftmax):
            MOVERS["softmax"](layouts, call)
        elif call.name == "helper apply_rot_embed_cat":
            turned(layouts, call)
        elif call.module is None and not call.name.startswith("helper ") and (way := WAYS.get(name)) is not None:
            way(layouts, call)
        elif not self.everywhere(call) and not self.at_positions(call):
            self.operation(call)

    def with_parted_bias(self, call: Call, parts: Sequence[Owned]) -> None:
        """A linear layer whose bias is put together of parameters and zeros: each part of its result gets its own.

        Raises NoOperation.
        """
        layouts, result = self.layouts, call.results[0]
        named = {name: value for name, value in call.named.items() if name != "bias"}
        self.translate(with_its_layer(replace(call, arguments=call.arguments[:2], named=named), self.module))
        view = layouts.view(result)
        if view.axes[-1] != axis_of(view.base, 1):
            base, order = layouts.place(result)
            view = permuted(whole(base), (0, *(axis + 1 for axis in order)))
        base, order = view.base, channels_last(len(view.base.shapes[0]) - 1)
        rows = sizes_of(base)
        lengths = [part.stored[0] for part in parts]
        pieces = [Value(shapes_of([rows[0], (n,) * len(rows[0]), *rows[2:]]), base.dtype) for n in lengths]
        equal = len(set(lengths)) == 1
        layouts.add(Item("split", {"n": len(lengths) if equal else tuple(lengths)}, [base], pieces))
        biased = []
        for part, piece in zip(parts, pieces, strict=True):
            if not layouts.is_kept(part.key):
                if self.module.get_buffer(part.key).any():
                    raise NoOperation(f"`{call.name}` with the buffer `{part.key}`, which is not in the state_dict")
                biased.append(piece)
                continue
            shape = (1, *(part.stored[0] if axis == 0 else 1 for axis in order))
            learned = layouts.learned(replace(part, shape=shape), order, [n for n in rows[0]], call.line)
            biased.append(Value([*piece.shapes], piece.dtype))
            stretch = {} if shape_of(learned) == shape_of(piece) else {"stretch": True}
            layouts.add(Item("add", stretch, [piece, learned], [biased[-1]]))
        whole_one = Value([*base.shapes], base.dtype)
        layouts.add(Item("concat", {}, biased, [whole_one]))
        layouts.divided[whole_one, 1, *lengths] = biased
        layouts.set(result, View(whole_one, view.axes))

    def everywhere(self, call: Call) -> bool:
        """Whether a call is of a function of each number, which is said for any view; it is said then."""
        layouts = self.layouts
        if len(call.inputs) != 1 or len(call.results) != 1 or call.results[0].shapes != call.inputs[0].shapes:
            return False
        view = layouts.view(call.inputs[0])
        order = order_of(view)
        usual = order is not None and order in ((*range(len(order)),), channels_last(len(order)))
        if usual and not is_function(call):
            return False
        try:
            found = self.of_each(call, (shape_of(view.base),))
        except NoOperation:
            return False
        if found is None:
            layouts.same(call.results[0], call.inputs[0])
            return True
        facts = OPERATIONS[found.operation]
        if not facts.training_only and not (facts.is_activation and facts.channelwise):
            return False
        made = layouts.made_like(call.results[0], view)
        layouts.add(Item(found.operation, found.arguments, [view.base], [made], call.path if call.module else ""))
        return True

    def of_each(self, call: Call, shapes: tuple[tuple[int, ...], ...]) -> Wording | None:
        """The operation of a layer or function, for tensors of these sizes; None for the identity.

        Raises NoOperation, also for a layer with weights.
        """
        name = plain_name(call)
        if is_function(call):
            meant = meaning(call)
            return meant.steps[0] if meant.steps else None
        layer = call.module if call.module is not None else as_layer(call, name)
        if any(True for _ in layer.state_dict()):
            raise NoOperation(f"{call.name} has weights")
        return layers.said(layer, shapes, shapes)

    def at_positions(self, call: Call) -> bool:
        """Whether a call computes each position from its channels, which are last, for any view of the positions."""
        layouts, layer = self.layouts, call.module
        if not isinstance(layer, nn.Linear | nn.LayerNorm | nn.RMSNorm | nn.BatchNorm1d) or len(call.inputs) != 1:
            return False
        view = layouts.view(call.inputs[0])
        if isinstance(layer, nn.BatchNorm1d) and len(view.axes) != 2:
            return False
        channels = axis_of(view.base, 1)
        if order_of(view) is not None or view.axes[-1] != channels or len(view.base.shapes[0]) < 3:
            return False
        if any(atom.axis == 1 for axis in view.axes[:-1] for atom in axis):
            return False
        size, out = shape_of(view.base), call.results[0].shapes[0][-1]
        if isinstance(layer, nn.BatchNorm1d):
            found = layers.said(layer, (size[:1],), (size[:1],))
        else:
            found = layers.said(layer, (size,), ((out, *size[1:]),), last=True)
        assert found is not None
        made = Value([(shape[0], out, *shape[2:]) for shape in view.base.shapes], view.base.dtype)
        arguments = {**found.arguments, **call.more}
        layouts.add(Item(found.operation, arguments, [view.base], [made], call.path, True, call.line))
        layouts.set(call.results[0], View(made, (*view.axes[:-1], axis_of(made, 1))))
        return True

    def operation(self, call: Call) -> None:
        """A call of a layer, or of a function that is one."""
        known = {value: self.layouts.view(value) for value in call.inputs}
        try:
            self.settled_operation(call)
        finally:  # what made them tensors of their own may be within a module, and others may be outside
            self.layouts.views.update(known)

    def settled_operation(self, call: Call) -> None:
        layouts = self.layouts
        for value in call.inputs:
            if not layouts.is_whole(value):
                if (found := layouts.settle(layouts.view(value))) is None:
                    raise NoOperation(f"`{call.name}` of a tensor whose axes are parts of others")
                layouts.views[value] = found
        settled = [*layouts.moved]
        meant, last = self.meaning(call, settled)
        if not meant.steps:
            if last:
                base = meant.inputs[0]
                layouts.views[call.results[0]] = permuted(whole(base), (0, *range(2, len(base.shapes[0])), 1))
            else:
                layouts.same(call.results[0], meant.inputs[0])
            return
        inputs = meant.inputs if last else [layouts.ordered(value) for value in meant.inputs]
        results = call.results[:1] if isinstance(call.module, nn.MultiheadAttention) else call.results
        outputs = [layouts.made_last(value) for value in results] if last else results
        path = call.path if call.module is not None else ""
        owns = call.module is not None and bool(call.module.state_dict())
        for number, step in enumerate(meant.steps):
            made = outputs if number == len(meant.steps) - 1 else [self.between(step, inputs)]
            arguments = {**step.arguments, **call.more}
            layouts.add(Item(step.operation, arguments, inputs, made, path, owns, call.line))
            inputs = made

    def start(self, key: str) -> dict[str, object]:
        """The number that all of a parameter has, if it is one: its initial value."""
        values = self.module.state_dict()[key].detach().unique()
        # A float32 as its shortest number: 1e-6, not 9.99999997e-7.
        return {"init": float(f"{values.item():.7g}")} if len(values) == 1 and values.item() != 1 else {}

    def meaning(self, call: Call, settled: list[Item]) -> tuple[Meaning, bool]:
        """The meaning of a call, and whether its tensors have the channels last; `settled` are items before it."""
        layouts = self.layouts
        given = [*call.arguments, *call.named.values()]
        many = isinstance(call.module, nn.MultiheadAttention)
        if call.module is not None and not many and (len(call.inputs) != 1 or len(call.results) != 1):
            what = f"{call.name} is called with {len(call.inputs)} tensors and gives {len(call.results)}"
            unpooled = getattr(call.module, "return_indices", False)
            advice = aliases.missing("maxunpool" if unpooled else type(call.module).__name__)
            raise NoOperation(f"{what}: {advice}" if advice else what)
        if call.module is not None and any(isinstance(g, Owned | Constant | Derived) for g in given):
            raise NoOperation(f"{call.name} is called with a tensor that is not computed from the input")
        if many and (attends := meaning_last(call, layouts)) is not None:
            return attends, True
        moved = [value for value in call.inputs if not layouts.is_plain(value)]
        if moved and all(layouts.is_last(value) for value in moved):
            try:
                if (found := meaning_last(call, layouts)) is not None:
                    return found, True
            except NoOperation:
                pass
            layouts.moved = [*settled]
        try:
            return self.meaning_first(call), False
        except NoOperation:
            if len(call.inputs) != 1 or len(call.inputs[0].shapes[0]) < 3 or plain_name(call) in HANDLERS:
                raise
            reason = sys.exception()
        try:
            if (found := meaning_last(call, layouts)) is not None:
                return found, True
        except NoOperation:
            pass
        assert reason is not None
        raise reason

    def meaning_first(self, call: Call) -> Meaning:
        """The meaning of a call on tensors with the channels first."""
        if call.module is None:
            return meaning(call)
        shapes, outputs = (shape_of(call.inputs[0]),), (shape_of(call.results[0]),)
        found = layers.said(call.module, shapes, outputs)
        return Meaning(call.inputs) if found is None else Meaning(call.inputs, found)

    def between(self, step: Wording, inputs: list[Value]) -> Value:
        """The value between two steps."""
        shapes = []
        for run in range(len(inputs[0].shapes)):
            try:
                operation = OPERATIONS[step.operation].parse(step.arguments)
                (out,) = operation.infer(tuple(shape_of(v, run) for v in inputs), Rules())
            except (OperationError, DimError) as error:
                raise NoOperation(str(error)) from None
            shapes.append((inputs[0].shapes[run][0], *(n for n in out if isinstance(n, int))))
        return Value(shapes, inputs[0].dtype)
