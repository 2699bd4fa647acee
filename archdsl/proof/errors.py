"""What a text is refused with."""

from __future__ import annotations


class Unproved(Exception):
    """A built text that could not be shown to compute its graph; the message says what differs."""
