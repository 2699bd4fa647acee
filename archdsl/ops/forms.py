"""The forms that an operation takes in a generated PyTorch module, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

REQUIRED: object = object()
"""Marks an argument without a default."""


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a constructor or function in generated code: a value, as data, never as text.

    `name` is None for a positional one; `called` is its name in PyTorch then. `default` is PyTorch's default. Values:
    int, float, bool, str, None, a tuple of them, or, for the size of a `resize`, a tuple that may contain exact
    expressions of free input sizes.
    """

    name: str | None
    value: object
    default: object = REQUIRED
    called: str = ""

    @property
    def is_given(self) -> bool:
        """Whether it must be written."""
        return self.default is REQUIRED or self.value != self.default


@dataclass(frozen=True, slots=True)
class Start:
    """The initialisation of a module's weight by a rule of `ops.init`, if that is not PyTorch's default.

    A bias starts at 0 then; `bias` says whether there is one, `typed` whether PyTorch's annotations declare it, too.
    """

    rule: str
    std: float | None = None
    bias: bool = False
    typed: bool = False


@dataclass(frozen=True, slots=True)
class ModuleForm:
    """An operation that becomes a submodule: `constructor` is `nn.Conv2d`, or the name of a helper class.

    `helper` is the helper class's source (it may use `torch`, `nn`, `F` (torch.nn.functional) and `Tensor`), `base` the
    PyTorch class that it extends, `holds` those of the modules within it. `factory` says whether it takes device= and
    dtype=. `frozen` names parameters with requires_grad False. `fill` maps a parameter's name to the nested list of
    its initial values (broadcast to its shape); `start` is the weight's initialisation without such a list. `method`
    is an expression of the tensor `{0}` that `forward` may use instead of the module.
    """

    constructor: str
    accepted: tuple[Argument, ...] = ()
    helper: str | None = None
    base: str = ""
    holds: tuple[str, ...] = ()
    factory: bool = False
    frozen: tuple[str, ...] = ()
    fill: Mapping[str, object] = field(default_factory=dict)
    start: Start | None = None
    method: str | None = None

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The arguments that differ from PyTorch's defaults."""
        return tuple(a for a in self.accepted if a.is_given)

    @property
    def kind(self) -> str:
        """The PyTorch class that it is or extends."""
        return self.base or self.constructor


@dataclass(frozen=True, slots=True)
class FunctionForm:
    """An operation that becomes an expression in `forward`.

    `template` is Python with `{0}`, `{1}`, … for the inputs and `{all}` for all of them separated by commas, and
    `{name}` for the arguments, which are printed as literals or as attributes: `torch.cat([{all}], 1)`, `{0} + {1}`. An
    argument with its default in all calls of a class is left out of the text. `results` is the number of tensors, a
    tuple or list if more than one. `helper` as in ModuleForm.
    """

    template: str
    arguments: tuple[Argument, ...] = ()
    results: int = 1
    helper: str | None = None


@dataclass(frozen=True, slots=True)
class ParameterForm:
    """A bare nn.Parameter of the scope (the node's path is its key), used in `forward` by `template`.

    `{0}` is the input, if it has one, `{parameter}` the attribute. Initially it is `fill`, or drawn by `start`.
    `arguments` and `helper` as in FunctionForm. With `made` it is a buffer: what this function, with the source
    `making`, gives for `numbers`.
    """

    template: str
    shape: tuple[int, ...]
    fill: float = 0.0
    start: Start | None = None
    arguments: tuple[Argument, ...] = ()
    helper: str | None = None
    made: str = ""
    making: str = ""
    numbers: tuple[int, ...] = ()


TorchForm: TypeAlias = ModuleForm | FunctionForm | ParameterForm
