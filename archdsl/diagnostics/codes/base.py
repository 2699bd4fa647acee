"""An entry of the registry of diagnostic codes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """A diagnostic code. `example` is a file net.arch that triggers it.

    `arises` describes the cause if no small file triggers it.
    """

    code: str
    title: str
    explanation: str
    example: str = ""
    arises: str = ""
