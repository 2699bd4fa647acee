"""The types of augmentation parameters, in addition to those of operations."""

from typing import Annotated, Literal

from archdsl.ops.validation import Accepts

Share = Annotated[float, Accepts("a fraction above 0, at most 1", gt=0, le=1)]
Angle = Annotated[float, Accepts("an angle above 0, at most 180 degrees", gt=0, le=180)]
Tilt = Annotated[float, Accepts("an angle above 0, below 90 degrees", gt=0, lt=90)]
Jitter = Annotated[float, Accepts("a number from 0 to 1", ge=0, le=1)]
Hue = Annotated[float, Accepts("a number from 0 to 0.5, half the colour circle", ge=0, le=0.5)]
Edges = Literal["zeros", "replicate", "reflect"]
