"""What is said of one code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """A code of diagnostics. `example` is a file net.arch that gives it.

    `arises` says how a code comes about that no small file alone gives.
    """

    code: str
    title: str
    explanation: str
    example: str = ""
    arises: str = ""
