"""The convolution whose kernels are standardised: weights instead of results are brought to mean 0 and variance 1."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from archdsl.ops import helpers
from archdsl.ops.base import Kept, Rules, Saves, Shape, Weight, example
from archdsl.ops.conv import Conv
from archdsl.ops.fields import Positive
from archdsl.ops.forms import Argument, ModuleForm
from archdsl.ops.formulas import Section, Sizes


class Stdconv(Conv):
    """A `conv` whose kernels are brought to mean 0 and variance 1 before they are used, each by itself.

    [C, …] → [out, …], with the sizes and parameters of `conv`: w becomes (w − mean) / √(variance + eps). With a `gamma`
    it is scaled by gamma · gain / √n, too: `gain` is a learned factor for each kernel, 1 at first, and n counts the
    numbers of a kernel. `gamma` is 1 over the standard deviation of the activation before it, of a normal input.

    Errors: those of `conv`; kernels of one number; `init`, since the scale of the kernels does not matter.

    Qiao et al., Weight standardization, 2019; Brock et al., Characterizing signal propagation to close the performance
    gap in unnormalized ResNets, 2021 (gamma).
    """

    name = "stdconv"
    aliases = (
        "weightstandardization",
        "weightstandardisation",
        "wsconv",
        "scaledstdconv",
        "standardizedconv",
    )

    eps: Positive = 1e-6
    gamma: Positive | None = None

    examples = (
        example((3, 8, 9), out=4, kernel=3),
        example((3, 9, 8), out=4, kernel=3, stride=2, bias=False, eps=1e-5),
        example((4, 9, 9), out=8, kernel=3, dilation=2, groups=4, gamma=1.7),
        example((3, 7, 8), out=2, kernel=4, stride=2, pad="same_upper", gamma=1.0),
        example((2, 11), out=4, kernel=5, stride=3, pad="valid"),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        rules.require(
            self.init is None,
            "`stdconv` standardises its kernels, so their scale at the start does not matter",
            parameter="init",
            help="leave out `init`",
        )
        found = super().infer(shapes, rules)
        rules.require(
            prod(self.weights(shapes)[0].shape[1:]) > 1,
            "`stdconv` makes kernels of one number 0: it equals its mean",
            parameter="kernel",
            help="use `conv`",
        )
        return found

    @property
    def _fill(self) -> Mapping[str, object]:
        given = super()._fill
        return {**given, "gain": (1,)} if given and self.gamma is not None else given

    def absorbs(self) -> bool:
        return False  # a factor of the weights would be undone

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        own = super().weights(shapes)
        gain = Weight("gain", (self.out, *[1] * len(shapes[0])), self.trainable)
        return own if self.gamma is None else (*own, gain)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        form = super().torch(shapes, outputs)
        more = [Argument("eps", self.eps, 1e-6)]
        more += [] if self.gamma is None else [Argument("gamma", self.gamma)]
        return replace(form, accepted=(*form.accepted, *more))

    def helper(self, rank: str, *, moving: bool) -> helpers.Helper | None:
        kind: helpers.Standardised = "Standardized" if self.gamma is None else "Scaled"
        return helpers.conv(rank, flip=self.flip, same_upper=moving, causal=self.pad == "causal", standardised=kind)

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        found = super().saves(shapes, outputs, inplace)
        kernels = Kept(self.weights(shapes)[0].shape, batched=False)
        one = Kept((self.out,), batched=False)
        return replace(found, more=(*found.more, kernels, kernels, one, one))

    def caption(self, rank: int = 2) -> str:
        return f"std{super().caption(rank)}"

    def explanation(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[Section]:
        for section in super().explanation(shapes, outputs):
            yield section
            if section.title == "formula":
                scale = "" if self.gamma is None else f" · {self.gamma:g} · gain / √n"
                yield Section("kernels", f"w = (v - mean(v)) / √(var(v) + {self.eps:g}){scale}, for each kernel v")
