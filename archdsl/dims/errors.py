"""The error of the size arithmetic."""

from __future__ import annotations


class DimError(Exception):
    """A size that cannot be computed or solved for. The message is for users; `help` is one thing to do."""

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.help = help
