"""Why a module cannot be imported."""

from __future__ import annotations


class ImportRefused(Exception):
    """A part of a module that the language cannot say: where it is, the line of Python that calls it, and why."""

    def __init__(self, reason: str, path: str = "", line: str = "") -> None:
        self.reason, self.path, self.line = reason, path, line
        where = f"`{path}`: " if path else ""
        called = f"\n  called at {line}" if line else ""
        super().__init__(f"{where}{reason}{called}")

    @property
    def at(self) -> tuple[str, str]:
        """The path and the line."""
        return self.path, self.line
