"""Initialisation: the words and functions that `init` accepts, and PyTorch's calls for them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Drawn:
    """`normal(0.02)` or `truncated_normal(0.02)`: a distribution with its standard deviation."""

    rule: str
    std: float


@dataclass(frozen=True, slots=True)
class Rule:
    """`call` is PyTorch's, with `{0}` for the weight and `{std}` for the standard deviation; `says` describes it."""

    call: str
    says: str


RULES: Mapping[str, Rule] = {
    "he": Rule(
        'nn.init.kaiming_normal_({0}, nonlinearity="relu")',
        "Weights of variance 2 / fan_in (He et al., 2015), biases of 0.",
    ),
    "he_uniform": Rule(
        'nn.init.kaiming_uniform_({0}, nonlinearity="relu")',
        "Uniform weights of variance 2 / fan_in (He et al., 2015), biases of 0.",
    ),
    "he_fan_out": Rule(
        'nn.init.kaiming_normal_({0}, mode="fan_out", nonlinearity="relu")',
        "Weights of variance 2 / fan_out (He et al., 2015), biases of 0.",
    ),
    "xavier": Rule(
        "nn.init.xavier_normal_({0})",
        "Weights of variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010).",
    ),
    "xavier_uniform": Rule(
        "nn.init.xavier_uniform_({0})",
        "Uniform weights of variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010).",
    ),
    "lecun": Rule(
        'nn.init.kaiming_normal_({0}, nonlinearity="linear")',
        "Weights of variance 1 / fan_in (LeCun et al., 1998), biases of 0.",
    ),
    "zeros": Rule("nn.init.zeros_({0})", "Weights and biases of 0: what flows in has no effect at first."),
    "normal": Rule("nn.init.normal_({0}, std={std})", "Normal weights of mean 0, biases of 0."),
    "truncated_normal": Rule(
        "nn.init.trunc_normal_({0}, std={std})", "Normal weights of mean 0, none beyond ±2, biases of 0."
    ),
}
