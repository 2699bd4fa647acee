"""The error for a refused text."""

from __future__ import annotations


class Unproved(Exception):
    """A built text that was not shown to compute its graph; the message says what differs."""
