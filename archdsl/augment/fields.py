"""The types of augmentation parameters, in addition to those of operations."""

from typing import Annotated, Literal

from pydantic import Field

Share = Annotated[float, Field(strict=True, gt=0, le=1, description="a fraction above 0, at most 1")]
Angle = Annotated[float, Field(strict=True, gt=0, le=180, description="an angle above 0, at most 180 degrees")]
Tilt = Annotated[float, Field(strict=True, gt=0, lt=90, description="an angle above 0, below 90 degrees")]
Jitter = Annotated[float, Field(strict=True, ge=0, le=1, description="a number from 0 to 1")]
Hue = Annotated[float, Field(strict=True, ge=0, le=0.5, description="a number from 0 to 0.5, half the colour circle")]
Edges = Literal["zeros", "replicate", "reflect"]
