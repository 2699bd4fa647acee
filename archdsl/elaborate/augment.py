"""`augment` declarations, read and held against the pictures that their model takes."""

from __future__ import annotations

from dataclasses import replace

from archdsl.augment import CHANGES, Change, OneOf, Pipeline, Step
from archdsl.common.source import Span
from archdsl.diagnostics import Diagnostics, Mark, renamed
from archdsl.elaborate.spec_files import Module
from archdsl.graph import Graph, Tensor
from archdsl.ops.base import OperationError, Shape
from archdsl.syntax import tree
from archdsl.values import (
    FAILED,
    AugmentValue,
    BlockValue,
    Failure,
    MemberValue,
    Namespace,
    Poisoned,
    Signature,
    bind,
    describe,
    word_or_value,
)

OTHER_WORDS = {
    **{w: f"write `color({w} = …)`" for w in ("brightness", "contrast", "saturation", "hue")},
    **dict.fromkeys(("jitter", "color_jitter"), "write `color(brightness = …, contrast = …, saturation = …, hue = …)`"),
    "flip": "write `hflip` for left and right, `vflip` for top and bottom",
    "shift": "write `translate(0.1)`, for a tenth of the size",
    **dict.fromkeys(("crop", "random_crop", "zoom"), "the size stays: `scale(1, 1.5) -> translate(0.1)` shows a part"),
    "resize": "the size stays: the model's input says it",
    "normalize": "pictures stay within 0 to 1: normalise them behind the augmentation",
    "cutout": "write `erase(0.2)`, for up to a fifth of the area",
}
"""What others call a change, and what to write."""


def augmentation(module: Module, model: str, graph: Graph, diagnostics: Diagnostics) -> Pipeline | None:
    """The pipeline of changes that a model is augmented by, None where it is not. Mistakes go to `diagnostics`.

    Those of the file's other declarations do, too.
    """
    for value in module.names.values.values():
        if isinstance(value, AugmentValue):
            _Reading(value, None, diagnostics).pipeline()
    found = _augmented(module.models[model], diagnostics)
    if found is None:
        return None
    value, name = found
    shape = _picture(graph)
    if shape is None:
        diagnostics.error(
            "E0240",
            f"`{value.name}` changes pictures, and `{graph.name}` does not take one picture [C, H, W] alone",
            name.span,
            help="take `augmented` away",
        )
        return None
    pipeline = _Reading(value, shape, diagnostics, name.span).pipeline()
    return replace(pipeline, channels=shape[0]) if isinstance(shape[0], int) else pipeline


def _augmented(
    target: object, diagnostics: Diagnostics, seen: tuple[object, ...] = ()
) -> tuple[AugmentValue, tree.Name] | None:
    """What a model is augmented by: what it says itself, else what its family says."""
    if not isinstance(target, BlockValue | MemberValue) or target in seen:
        return None
    name = target.syntax.augmented if isinstance(target.syntax, tree.Model | tree.Member) else None
    if name is None:
        if isinstance(target, MemberValue):
            return _augmented(target.module.find(target.syntax.family.name), diagnostics, (*seen, target))
        return None
    found = target.module.find(name.name)
    if isinstance(found, AugmentValue):
        return found, name
    if found is None:
        known = {n for n in target.module.names() if isinstance(target.module.find(n), AugmentValue)}
        help = f"declare it: `augment {name.name} {{ … }}`"
        proposals = renamed(name.span, name.name, known)
        diagnostics.error("E0201", f"there is no `augment {name.name}`", name.span, help=help, proposals=proposals)
    elif found is not FAILED:
        diagnostics.error("E0211", f"`{name.name}` is {describe(found)}, not an augmentation", name.span)
    return None


def _picture(graph: Graph) -> Shape | None:
    """The size of the model's one input, where that is a picture."""
    inputs = graph.input_nodes
    if len(inputs) != 1:
        return None
    shape = graph.shape(Tensor(inputs[0].id))
    return shape if len(shape) == 3 else None


class _Reading:
    """One declaration, read for pictures of a size, or, where `shape` is None, for its own mistakes alone."""

    def __init__(
        self, value: AugmentValue, shape: Shape | None, diagnostics: Diagnostics, used: Span | None = None
    ) -> None:
        self.value, self.shape, self.diagnostics, self.used = value, shape, diagnostics, used

    def pipeline(self) -> Pipeline:
        syntax = self.value.syntax
        return Pipeline(self.value.name, tuple(self.chain(line) for line in syntax.lines), syntax.doc)

    def chain(self, chain: tuple[tree.Change, ...]) -> tuple[Step, ...]:
        steps: list[Step] = []
        for item in chain:
            if isinstance(item, tree.OneOf):
                steps.append(OneOf(tuple(self.chain(alternative) for alternative in item.alternatives)))
                continue
            try:
                steps.append(self.change(item, self.value.module))
            except Failure as failure:
                self.diagnostics.error(
                    failure.code, failure.message, failure.span, help=failure.help, proposals=failure.proposals
                )
            except Poisoned:
                pass
        return tuple(steps)

    def change(self, item: tree.Call, names: Namespace) -> Change:
        cls = CHANGES.get(item.name.name)
        if cls is None:
            name = item.name.name
            span = item.name.span
            help = OTHER_WORDS.get(name) or "there are " + ", ".join(f"`{n}`" for n in CHANGES)
            proposals = () if name in OTHER_WORDS else renamed(span, name, CHANGES)
            raise Failure("E0201", f"there is no change of pictures named `{name}`", span, help, proposals=proposals)
        signature = Signature(cls.name, list(cls.model_fields))
        bound = bind(signature, item.arguments or (), lambda a, key: word_or_value(a, cls.words(key), names))
        try:
            found = cls.parse(bound.values)
        except OperationError as error:
            for other in error.also:
                self.complain(bound.failure(other, item))
            raise bound.failure(error, item) from None
        if self.shape is not None:
            try:
                found.check(self.shape)
            except OperationError as error:
                self.complain(bound.failure(error, item))
        return found

    def complain(self, failure: Failure) -> None:
        used = [Mark(self.used, "the model is augmented here")] if self.used else []
        self.diagnostics.error(failure.code, failure.message, failure.span, *used, help=failure.help)
