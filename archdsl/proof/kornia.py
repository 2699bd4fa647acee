"""Stand-ins for kornia, which record its calls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from archdsl.proof.modules import Module


class Called(Module):
    """A kornia call, or a module around others."""

    def __init__(self, name: str, args: tuple[Any, ...], kwargs: dict[str, object]) -> None:
        super().__init__()
        self.name, self.args, self.kwargs = name, args, kwargs


class Kornia:
    """kornia.augmentation, which records its calls."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: Called(name, args, kwargs)


KORNIA = SimpleNamespace(augmentation=Kornia())
