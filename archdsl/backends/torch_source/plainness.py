"""How plain a generated module is: less as a hand would write it, and easier to see through."""

from __future__ import annotations

from enum import IntEnum


class Plainness(IntEnum):
    """A level of plainness; each has what those before it have. The keys, numbers and helpers are the same on all."""

    READABLE = 0
    """As a hand would write it."""
    OUT_OF_PLACE = 1
    """No tensor or list is overwritten: no `inplace=True`, no `y += …`."""
    UNFOLDED = 2
    """A class for every call of a block, without conditions."""
    STRAIGHT = 3
    """No loops, a class for every scope, and for every operation a member and a statement with a new variable."""
