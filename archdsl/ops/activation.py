"""Activations: a function of each element, and the softmax over the channels."""

from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import ClassVar, Literal

from archdsl.ops.axis import AlongAxis
from archdsl.ops.base import Example, Kept, Operation, Rules, Saves, Shape, Weight, example, renamed
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import Number, Positive, shown
from archdsl.ops.forms import Argument, FunctionForm, ModuleForm, TorchForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.sizes import channels, options


class Activation(Operation):
    """The base of activations, which keep the size."""

    family = "activation"
    is_activation = True
    own_in_inference = True
    follows = True
    saves_first = True
    module: ClassVar[str]
    channelwise = True
    inplace = True
    layout = "any"
    needs: ClassVar[Literal["input", "output", "either"]] = "input"
    """The tensor from which its gradient is computed; `either`: its input, or its output if it runs in place."""
    examples: ClassVar[tuple[Example, ...]] = (
        example((3, 4, 5)),
        example((6,)),
        example((2, 7)),
        example((2, 3, 2, 4)),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        return shapes

    def arguments(self) -> tuple[Argument, ...]:
        """The arguments of PyTorch's module."""
        return ()

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> TorchForm:
        return ModuleForm(f"nn.{self.module}", self.arguments())

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((1, shapes[0]),)

    def overwrites(self, shapes: tuple[Shape, ...], inference: bool) -> bool:
        return self.inplace and (inference or (self.keeps_sign() and not self.saves(shapes, shapes, True).inputs))

    def keeps_sign(self) -> bool:
        """Whether its result has the sign of its input, so that a gradient can be computed from it."""
        return True

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        output = self.needs == "output" or (self.needs == "either" and inplace)
        return Saves(inputs=not output, outputs=output)


class Relu(Activation):
    """max(x, 0), element-wise; for a tensor of any size.

    Nair and Hinton, Rectified linear units improve restricted Boltzmann machines, 2010.
    """

    name = "relu"
    formula_text = "y = max(x, 0): the gradient goes through where x is above 0, and is 0 elsewhere"
    module = "ReLU"
    needs = "output"


class Relu6(Activation):
    """min(max(x, 0), 6), element-wise; for a tensor of any size.

    Howard et al., MobileNets, 2017.
    """

    name = "relu6"
    formula_text = "y = min(max(x, 0), 6): the gradient goes through where x is between 0 and 6, and is 0 elsewhere"
    module = "ReLU6"

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        # PyTorch keeps a copy of the input if it runs in place.
        return Saves(more=(Kept(shapes[0]),)) if inplace else Saves(inputs=True)


class LeakyRelu(Activation):
    """x if positive, else slope · x, element-wise; for a tensor of any size.

    Maas et al., Rectifier nonlinearities improve neural network acoustic models, 2013.
    """

    name = "leaky_relu"
    pytorch_names = renamed(slope="negative_slope")
    module = "LeakyReLU"
    needs = "either"

    slope: Number = 0.01

    examples = (*Activation.examples, example((3, 4, 5), slope=0.2))

    def arguments(self) -> tuple[Argument, ...]:
        return options(("negative_slope", self.slope, 0.01))

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield f"y = x where x is above 0, else {self.slope:g} · x: no element is without a gradient"

    def keeps_sign(self) -> bool:
        return self.slope >= 0


class Prelu(Activation):
    """x if positive, else a learned slope times x; one slope, or with `channels = each` one per channel.

    He et al., Delving deep into rectifiers, 2015.
    """

    name = "prelu"
    channels_at = 0
    module = "PReLU"
    inplace = False

    init: Number = 0.25
    channels: Literal["shared", "each"] = "shared"

    examples = (*Activation.examples, example((3, 4, 5), channels="each", init=0.1))

    def _slopes(self, shape: Shape) -> int:
        return channels(self.name, shape) if self.channels == "each" else 1

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        self._slopes(shapes[0])
        return shapes

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        return (Weight("weight", (self._slopes(shapes[0]),)),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        slopes = self._slopes(shapes[0])
        arguments = options(("num_parameters", slopes, 1), ("init", self.init, 0.25))
        return ModuleForm("nn.PReLU", arguments, factory=True)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm | None:
        return self.torch(shapes, outputs) if self.channels == "shared" else None

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        each = "one a channel" if self.channels == "each" else "one for all"
        yield f"y = x where x is above 0, else a · x; a is learned, {each}, from {self.init:g}"


class Elu(Activation):
    """x if positive, else alpha · (eˣ − 1), element-wise; for a tensor of any size.

    Clevert et al., Fast and accurate deep network learning by exponential linear units, 2015.
    """

    name = "elu"
    module = "ELU"
    needs = "either"

    alpha: Number = 1.0

    examples = (*Activation.examples, example((3, 4, 5), alpha=0.5))

    def arguments(self) -> tuple[Argument, ...]:
        return options(("alpha", self.alpha, 1.0))

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield f"y = x where x is above 0, else {self.alpha:g} · (exp(x) - 1)"

    def keeps_sign(self) -> bool:
        return self.alpha >= 0


class Selu(Activation):
    """The ELU with the scale and alpha that keep mean 0 and variance 1, element-wise; for a tensor of any size.

    Klambauer et al., Self-normalizing neural networks, 2017.
    """

    name = "selu"
    formula_text = "y = 1.0507 · x where x is above 0, else 1.0507 · 1.6733 · (exp(x) - 1)"
    module = "SELU"
    needs = "either"


class Gelu(Activation):
    """x · Φ(x), with Φ the normal distribution function; `approximate = tanh` uses the tanh approximation.

    Hendrycks and Gimpel, Gaussian error linear units, 2016.
    """

    name = "gelu"
    formula_text = "y = x · Φ(x), Φ the normal distribution function"
    module = "GELU"
    inplace = False

    approximate: Literal["none", "tanh"] | None = None

    examples = (*Activation.examples, example((3, 4, 5), approximate="tanh"))

    def arguments(self) -> tuple[Argument, ...]:
        return options(("approximate", self.approximate or "none", "none"))


class Silu(Activation):
    """x · sigmoid(x), also called swish, element-wise; for a tensor of any size.

    Elfwing et al., 2017; Ramachandran et al., Searching for activation functions, 2017.
    """

    name = "silu"
    aliases = ("swish",)
    formula_text = "y = x / (1 + exp(-x))"
    module = "SiLU"


class Mish(Activation):
    """x · tanh(softplus(x)), element-wise; for a tensor of any size.

    Misra, Mish: a self regularized non-monotonic activation function, 2019.
    """

    name = "mish"
    formula_text = "y = x · tanh(log(1 + exp(x)))"
    module = "Mish"


class Sigmoid(Activation):
    """1 / (1 + e⁻ˣ), element-wise; for a tensor of any size."""

    name = "sigmoid"
    formula_text = "y = 1 / (1 + exp(-x)), between 0 and 1; its slope is y · (1 - y), 1/4 at most"
    module = "Sigmoid"
    needs = "output"
    inplace = False


class Hardsigmoid(Activation):
    """min(max(x / 6 + 1/2, 0), 1), element-wise; for a tensor of any size.

    Howard et al., Searching for MobileNetV3, 2019.
    """

    name = "hardsigmoid"
    formula_text = "y = min(max(x / 6 + 1/2, 0), 1)"
    module = "Hardsigmoid"


class Hardswish(Activation):
    """x · hardsigmoid(x), element-wise; for a tensor of any size.

    Howard et al., Searching for MobileNetV3, 2019.
    """

    name = "hardswish"
    formula_text = "y = x · min(max(x / 6 + 1/2, 0), 1)"
    module = "Hardswish"


class Tanh(Activation):
    """The hyperbolic tangent, element-wise; for a tensor of any size."""

    name = "tanh"
    formula_text = "y = tanh(x), between -1 and 1; its slope is 1 - y²"
    module = "Tanh"
    needs = "output"
    inplace = False


class Softplus(Activation):
    """log(1 + e^(beta · x)) / beta, element-wise; for a tensor of any size.

    Dugas et al., Incorporating second-order functional knowledge for better option pricing, 2000.
    """

    name = "softplus"
    module = "Softplus"
    inplace = False

    beta: Positive = 1.0

    examples = (*Activation.examples, example((3, 4, 5), beta=2.0))

    def arguments(self) -> tuple[Argument, ...]:
        return options(("beta", self.beta, 1.0))

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        factor, quotient = ("", "") if self.beta == 1 else (f"{self.beta:g} · ", f" / {self.beta:g}")
        yield f"y = log(1 + exp({factor}x)){quotient}: a smooth max(x, 0)"


class Function(Activation):
    """The base of functions that are methods of PyTorch's tensors, by the same name."""

    inplace = False

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> TorchForm:
        return FunctionForm(f"{{0}}.{self.name}()")


class Exp(Function):
    """eˣ, element-wise; for a tensor of any size.

    Kingma et al., Auto-encoding variational Bayes, 2013 (a variance); Tian et al., FCOS, 2019 (a distance).
    """

    name = "exp"
    aliases = ("exponential",)
    formula_text = "y = eˣ, above 0: the gradient is multiplied by y"
    needs = "output"


class Log(Function):
    """The natural logarithm, element-wise; for a tensor of any size.

    Numbers of 0 and below have none: they become -inf and nan, as in PyTorch.
    """

    name = "log"
    formula_text = "y = log x: the gradient is divided by x"


class Sqrt(Function):
    """The square root, element-wise; for a tensor of any size.

    Numbers below 0 have none: they become nan, as in PyTorch. At 0 its slope is infinite: add a small number before it,
    `rescale(1, 1e-6) -> sqrt`.
    """

    name = "sqrt"
    formula_text = "y = √x: the gradient is divided by 2 · y"
    needs = "output"


class Square(Function):
    """x², element-wise; for a tensor of any size."""

    name = "square"
    formula_text = "y = x²: the gradient is multiplied by 2 · x"


class Abs(Function):
    """|x|, element-wise; for a tensor of any size."""

    name = "abs"
    aliases = ("absolute",)
    formula_text = "y = |x|: the gradient is multiplied by the sign of x, and is 0 at 0"


class Sin(Function):
    """sin x, element-wise; for a tensor of any size.

    Sitzmann et al., Implicit neural representations with periodic activation functions, 2020: `rescale(30) -> sin`.
    """

    name = "sin"
    formula_text = "y = sin x: the gradient is multiplied by cos x"


class Cos(Function):
    """cos x, element-wise; for a tensor of any size.

    Tancik et al., Fourier features let networks learn high frequency functions, 2020 (with `sin`).
    """

    name = "cos"
    formula_text = "y = cos x: the gradient is multiplied by -sin x"


class Hardtanh(Activation):
    """min(max(x, min), max), element-wise, from -1 to 1 by default; for a tensor of any size.

    Errors: a `max` that is not above `min`.

    Collobert, Large scale machine learning, 2004.
    """

    name = "hardtanh"
    pytorch_names = renamed(min="min_val", max="max_val")
    module = "Hardtanh"

    min: Number = -1.0
    max: Number = 1.0

    examples = (*Activation.examples, example((3, 4, 5), min=0.0, max=20.0))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        in_order(self.name, self.min, self.max)
        return shapes

    def arguments(self) -> tuple[Argument, ...]:
        return options(("min_val", self.min, -1.0), ("max_val", self.max, 1.0))

    def keeps_sign(self) -> bool:
        return False

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        low, high = f"{self.min:g}", f"{self.max:g}"
        yield f"y = min(max(x, {low}), {high}): the gradient goes through where x is between {low} and {high}"


class Clamp(Activation):
    """Cuts numbers off below `min` and above `max`, element-wise; for a tensor of any size.

    One of the two may be left out: `clamp(max = 1)`. `hardtanh` is the same as a layer of its own.

    Errors: neither of them; a `max` below `min`.
    """

    name = "clamp"
    aliases = ("clip", "clamp_min", "clamp_max")
    inplace = False

    min: Number | None = None
    max: Number | None = None

    examples = tuple(
        Example(shape.inputs, MappingProxyType(limits))
        for shape, limits in zip(
            (*Activation.examples, Activation.examples[0]),
            ({"min": -1.0, "max": 1.0}, {"min": -0.5}, {"max": 2.0}, {"min": 0.0, "max": 1.0}, {"min": 1e-6}),
            strict=True,
        )
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        if self.min is None and self.max is None:
            raise OperationError("`clamp` needs a limit, or both", parameter="min", help="as in `clamp(-1, 1)`")
        if self.min is not None and self.max is not None:
            in_order(self.name, self.min, self.max)
        return shapes

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        limits = {"min": self.min, "max": self.max}
        arguments = tuple(Argument(name, limit) for name, limit in limits.items() if limit is not None)
        return FunctionForm(f"{{0}}.clamp({', '.join(f'{a.name}={{{a.name}}}' for a in arguments)})", arguments)

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        low = "x" if self.min is None else f"max(x, {self.min:g})"
        yield f"y = {low if self.max is None else f'min({low}, {self.max:g})'}: the gradient of what is cut off is 0"


def in_order(name: str, low: float, high: float) -> None:
    """Raises OperationError unless the limits are in order."""
    if low >= high:
        raise OperationError(f"`{name}` needs a `min` below `max`; got {shown(low)} and {shown(high)}", parameter="max")


class Softmax(AlongAxis, Activation):
    """eˣ divided by its sum over the channels, at each position.

    `axis = 1` divides by the sum over the first spatial axis, for each channel.

    Errors: an axis that the tensor lacks.

    Bridle, 1990.
    """

    name = "softmax"
    module = "Softmax"
    channelwise = False
    needs = "output"
    inplace = False

    examples = (*Activation.examples, example((3, 4, 5), axis=2), example((3, 7), axis=1))

    def arguments(self) -> tuple[Argument, ...]:
        return (Argument("dim", self.axis + 1),)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        return ModuleForm(f"nn.{self.module}", (Argument("dim", self.axis or -1),))

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        if self.axis:
            yield f"y_i = exp(x_i) / Σ_k exp(x_k), along axis {self.axis}: for each channel they add up to 1"
        else:
            yield "y_c = exp(x_c) / Σ_k exp(x_k), over the channels: they add up to 1 at every position"


class LogSoftmax(Softmax):
    """The logarithm of the `softmax` over the channels, at each position, computed without overflow.

    `axis = 1` is over the first spatial axis, for each channel. It is what `F.nll_loss` takes; `F.cross_entropy` takes
    the numbers before it.

    Errors: an axis that the tensor lacks.

    Bridle, 1990.
    """

    name = "log_softmax"
    module = "LogSoftmax"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        if self.axis:
            yield f"y_i = x_i - log Σ_k exp(x_k), along axis {self.axis}: exp(y) adds up to 1 for each channel"
        else:
            yield "y_c = x_c - log Σ_k exp(x_k), over the channels: exp(y) adds up to 1 at every position"
