"""The changes of images that `augment` declarations use, by name, in the order of the language reference."""

from collections.abc import Mapping
from types import MappingProxyType

from archdsl.augment import colour, damage, place
from archdsl.augment.base import Change, OneOf, Pipeline, Step

CHANGES: Mapping[str, type[Change]] = MappingProxyType(
    {
        change.name: change
        for change in (
            place.Hflip,
            place.Vflip,
            place.Translate,
            place.Rotate,
            place.Scale,
            place.Shear,
            place.Perspective,
            colour.Color,
            colour.Grayscale,
            colour.Gamma,
            colour.Invert,
            damage.Blur,
            damage.Noise,
            damage.Erase,
        )
    }
)

__all__ = ["CHANGES", "Change", "OneOf", "Pipeline", "Step"]
