"""Learned tensors that take no input."""

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from archdsl.ops.base import Operation, Rules, Shape, Weight, example
from archdsl.ops.fields import Count, shape_text
from archdsl.ops.forms import ParameterForm, Start
from archdsl.ops.formulas import Sizes
from archdsl.ops.init import Drawn
from archdsl.ops.validation import Accepts

Lengths = Annotated[tuple[Count, ...], Accepts("a list of ints of at least 1, channels first", shortest=1, longest=8)]
Stored = Literal["plain", "tokens", "rows", "maps", "flat", "scalar"]
Begin = Annotated[
    Literal["zeros", "ones"] | Drawn,
    Accepts("`zeros`, `ones`, `normal(std)` or `truncated_normal(std)`"),
]


def stored_shape(stored: Stored, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a tensor of these sizes in the state_dict."""
    match stored:
        case "plain":
            return sizes
        case "maps":
            return (1, *sizes)
        case "rows":
            return (*sizes[1:], sizes[0])
        case "tokens":
            return (1, *sizes[1:], sizes[0])
        case "flat":
            return (math.prod(sizes),)
        case "scalar":
            return ()


def moved(sizes: tuple[int, ...], *, last: bool = False) -> str:
    """The method that brings the last axis, of the channels, behind the batch; `last`: the other way round."""
    axes = list(range(1, len(sizes) + 1))
    order = [*axes[1:], axes[0]] if last else [axes[-1], *axes[:-1]]
    return f".permute(0, {', '.join(map(str, order))})" if len(axes) > 1 else ""


class Parameter(Operation):
    """A learned tensor, which takes nothing: it begins a chain. Its path is its key.

    → `sizes`, channels first, the same for every sample. Merges repeat it for the batch. `stored` is its shape in the
    state_dict: `plain` as `sizes` says, `tokens` [1, T, C], `rows` [T, C], `maps` [1, C, H, W], `flat`
    with all numbers in a row [C · T]; of a single number also `scalar` [].

    Errors: `scalar` of several numbers.

    Dosovitskiy et al., An image is worth 16x16 words, 2020 (class token, position embedding).
    """

    name = "parameter"
    aliases = ("learned", "embedding", "positionalembedding", "positionembedding", "classtoken")
    family = "learned"
    inputs = "none"
    is_learned = True
    layout = "any"

    sizes: Lengths
    init: Begin = "zeros"
    stored: Stored = "plain"

    examples = (
        example(sizes=(6, 1), stored="tokens"),
        example(sizes=(6, 5), init="ones", stored="rows"),
        example(sizes=(3, 4, 5), stored="maps"),
        example(sizes=(4,)),
        example(sizes=(2, 3)),
        example(sizes=(1, 1, 1), init="ones", stored="flat"),
        example(sizes=(1, 1), stored="scalar"),
        example(sizes=(3, 2), stored="flat"),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        rules.require(
            self.stored != "scalar" or math.prod(self.sizes) == 1,
            f"`stored = scalar` is for a single number; the sizes are {shape_text(self.sizes)}",
            parameter="stored",
            help="leave it out, or make all sizes 1",
        )
        return (self.sizes,)

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        return (Weight("", stored_shape(self.stored, self.sizes)),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ParameterForm:
        ones = ", ".join("1" for _ in (0, *self.sizes))
        template = {
            "plain": "{parameter}.unsqueeze(0)",
            "maps": "{parameter}",
            "tokens": f"{{parameter}}{moved(self.sizes)}",
            "rows": f"{{parameter}}.unsqueeze(0){moved(self.sizes)}",
            "flat": f"{{parameter}}.view(1, {', '.join(map(str, self.sizes))})",
            "scalar": f"{{parameter}}.view({ones})",
        }
        return self.form(template[self.stored])

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ParameterForm:
        back, ones = moved(self.sizes, last=True), ", ".join("1" for _ in (0, *self.sizes))
        template = {
            "plain": f"{{parameter}}.unsqueeze(0){back}",
            "maps": f"{{parameter}}{back}",
            "tokens": "{parameter}",
            "rows": "{parameter}.unsqueeze(0)",
            "flat": f"{{parameter}}.view(1, {', '.join(map(str, self.sizes))}){back}",
            "scalar": f"{{parameter}}.view({ones})",
        }
        return self.form(template[self.stored])

    def form(self, template: str) -> ParameterForm:
        shape = stored_shape(self.stored, self.sizes)
        if isinstance(self.init, Drawn):
            return ParameterForm(template, shape, start=Start(self.init.rule, self.init.std))
        return ParameterForm(template, shape, 1.0 if self.init == "ones" else 0.0)

    def caption(self, rank: int = 2) -> str:
        return f"parameter {'×'.join(map(str, self.sizes))}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        numbers = math.prod(self.sizes)
        yield f"{shape_text(self.sizes)}, {numbers:,} learned numbers: the same for every sample, whatever flows in"
