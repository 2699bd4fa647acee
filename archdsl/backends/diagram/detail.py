"""How much text a figure has: all, or, where it must be small, less and less, by rank."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Detail:
    """The details of a figure besides its boxes and arrows. The legend names what `follows` leaves out."""

    title: bool = True
    """The network's name and costs, below."""
    legend: bool = True
    shares: bool = True
    """The shares of parameters and multiply-accumulates in folded blocks."""
    sizes: bool = True
    """The sizes of results."""
    labels: bool = True
    """The labels that the spec gives to layers."""
    follows: bool = True
    """The layers before or after the main layer of a box, such as a normalisation and an activation."""
    names: bool = True
    """The names of convolutions, which their colour shows as well."""
    arguments: int = 2
    """The most lines of a block's channels and arguments."""
    breadth: int = 44
    """The most letters of such a line, and of a name."""
    small: bool = False
    """Whether names are no larger than other text."""
    kernels: bool = False
    """The windows of layers, on the maps that they read; in volumes alone."""
    caption: str = ""
    """A text below the figure."""

    def shorter(self) -> list[Detail]:
        """This detail, and the lesser ones in order."""
        found = [self]
        for less in (
            {"shares": False, "breadth": 32},
            {"labels": False, "breadth": 26},
            {"follows": False},
            {"names": not self.legend, "arguments": 1, "breadth": 18},
            {"sizes": False},
            {"arguments": 0, "small": True},
        ):
            found.append(replace(found[-1], **less))
        return found
