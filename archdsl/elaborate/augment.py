"""Elaborates `augment` declarations, and checks them against the images that their model takes."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from archdsl.augment import CHANGES, Change, OneOf, Pipeline, Step
from archdsl.common.source import Span
from archdsl.diagnostics import Diagnostics, Mark, renamed
from archdsl.elaborate.spec_files import SpecFile, reporting
from archdsl.graph import Graph, Tensor
from archdsl.ops.base import Shape
from archdsl.ops.declaration import OperationError
from archdsl.syntax import tree
from archdsl.values import (
    FAILED,
    AugmentValue,
    BlockValue,
    Failure,
    MemberValue,
    Namespace,
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
    **dict.fromkeys(
        ("crop", "random_crop", "zoom"), "augmentation keeps the size: `scale(1, 1.5) -> translate(0.1)` crops"
    ),
    "resize": "augmentation keeps the size, which the model's input sets",
    "normalize": "images stay within 0 to 1: normalise them after the augmentation",
    "cutout": "write `erase(0.2)`, for up to a fifth of the area",
}
"""Names of changes elsewhere, and what to write instead."""


def augmentation(spec_file: SpecFile, model: str, graph: Graph, diagnostics: Diagnostics) -> Pipeline | None:
    """The pipeline of a model's augmentation, None if it has none. Errors go to `diagnostics`.

    Reports errors in the file's other declarations, too.
    """
    for value in spec_file.names.values.values():
        if isinstance(value, AugmentValue):
            _Reading(value, None, diagnostics).pipeline()
    found = _augmented(spec_file.models[model], diagnostics)
    if found is None:
        return None
    value, name = found
    shape = _picture(graph)
    if shape is None:
        diagnostics.error(
            "E0240",
            f"`{value.name}` transforms images, but `{graph.name}` does not take exactly one image [C, H, W]",
            name.span,
            help="remove `augmented`",
        )
        return None
    pipeline = _Reading(value, shape, diagnostics, name.span).pipeline()
    return replace(pipeline, channels=shape[0]) if isinstance(shape[0], int) else pipeline


def _augmented(
    target: object, diagnostics: Diagnostics, seen: tuple[object, ...] = ()
) -> tuple[AugmentValue, tree.Name] | None:
    """The augmentation that a model names, else its family's."""
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
    """The size of the model's one input, if that is an image."""
    inputs = graph.input_nodes
    if len(inputs) != 1:
        return None
    shape = graph.shape(Tensor(inputs[0].id))
    return shape if len(shape) == 3 else None


class _Reading:
    """Elaborates one declaration for images of a size or, if `shape` is None, only checks it."""

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
            match item:
                case tree.OneOf():
                    steps.append(OneOf(tuple(self.chain(alternative) for alternative in item.alternatives)))
                case tree.Call():
                    with reporting(self.diagnostics):
                        steps.append(self.change(item, self.value.module))
                case _:
                    assert_never(item)
        return tuple(steps)

    def change(self, item: tree.Call, names: Namespace) -> Change:
        cls = CHANGES.get(item.name.name)
        if cls is None:
            name = item.name.name
            span = item.name.span
            help = OTHER_WORDS.get(name) or "there are " + ", ".join(f"`{n}`" for n in CHANGES)
            proposals = () if name in OTHER_WORDS else renamed(span, name, CHANGES)
            raise Failure(
                "E0201", f"there is no augmentation operation named `{name}`", span, help, proposals=proposals
            )
        signature = Signature(cls.name, list(cls.fields))
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
