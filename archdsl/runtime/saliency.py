"""Which pixels move a network's answer: the gradient of a number of its output by the image, plain and integrated.

Simonyan et al., Deep inside convolutional networks, 2013; Sundararajan et al., Axiomatic attribution for deep networks,
2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archdsl.common.units import counted
from archdsl.runtime.running import RunError

if TYPE_CHECKING:
    import torch

STEPS, AT_ONCE = 48, 8
"""The images from black to the picture over which gradients are integrated, and how many of them run together."""


@dataclass(frozen=True, slots=True)
class Saliency:
    """How an answer depends on the pixels, as maps [H, W].

    `gradient` is the largest change that a channel of the pixel makes, for a small step; `integrated` the share of the
    pixel in the difference from the answer to a black image, whose sum over the pixels should be `difference`.
    """

    answer: str
    value: float
    gradient: torch.Tensor
    integrated: torch.Tensor
    difference: float

    @property
    def explained(self) -> float:
        """The sum of the shares by the difference; 1 if the steps were small enough."""
        return float(self.integrated.sum()) / self.difference if self.difference else 1.0


def saliency(network: torch.nn.Module, picture: torch.Tensor, number: int | None = None) -> Saliency:
    """How the answer to an image [C, H, W] depends on it.

    The answer is a number of the first output: that of class or channel `number`, else the largest one; of a map or of
    tokens at the position where it is largest. Raises RunError.
    """
    import torch

    with torch.no_grad():
        output, black = (first_of(network(p[None]))[0] for p in (picture, torch.zeros_like(picture)))
    if number is None:
        number = int(output.flatten(1).amax(1).argmax()) if output.ndim > 1 else int(output.argmax())
    elif number >= len(output):
        raise RunError(f"the output has {counted(len(output), 'channel')}, counted from 0; there is no {number}")
    place = int(output[number].flatten().argmax())
    gradient = slopes(network, picture[None], number, place)[0].abs().amax(0)
    mean = torch.zeros_like(picture)
    for start in range(0, STEPS, AT_ONCE):
        shares = (torch.arange(start, start + AT_ONCE) + 0.5) / STEPS
        mean += slopes(network, picture * shares[:, None, None, None], number, place).sum(0) / STEPS
    value, other = (float(o[number].flatten()[place]) for o in (output, black))
    return Saliency(named(output, number, place), value, gradient, (mean * picture).sum(0), value - other)


def slopes(network: torch.nn.Module, images: torch.Tensor, number: int, place: int) -> torch.Tensor:
    """The gradient of one number of the output by the images [N, C, H, W]. Raises RunError if there is none."""
    import torch

    given = images.clone().requires_grad_()
    with torch.enable_grad():
        answer = first_of(network(given))[:, number].reshape(len(images), -1)[:, place]
    if not answer.requires_grad:
        raise RunError("the output depends on the image by no gradient")
    found: torch.Tensor = torch.autograd.grad(answer.sum(), given)[0]
    return found


def first_of(result: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The first output."""
    return result if not isinstance(result, tuple) else result[0]


def named(output: torch.Tensor, number: int, place: int) -> str:
    """`class 3`, `channel 3 at 10,12`."""
    if output.ndim == 1:
        return f"class {number}"
    where = f"{place // output.shape[2]},{place % output.shape[2]}" if output.ndim == 3 else f"{place}"
    return f"channel {number} at {where}"
