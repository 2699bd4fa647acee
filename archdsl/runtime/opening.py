"""Imports a file, and says what to install where the package that reads it is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from archdsl.common.choices import NETWORK_FILES
from archdsl.common.missing import named

if TYPE_CHECKING:  # they import torch
    from archdsl.runtime.importing.proving import Imported, Size

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


def from_file(
    path: str | Path, sizes: Sequence[Size] = (), *, settings: Mapping[str, str] = NO_SETTINGS, only: str = ""
) -> Imported:
    """The spec of the network in a file; `sizes` are those of its inputs where the file leaves them free.

    `settings` are those of configurations, `only` a part of them. Raises ImportRefused, OSError, and ImportError if a
    package that reads the file is not installed.
    """
    path = Path(path)
    with named(NETWORK_FILES.get(path.suffix.lower(), "")):
        from archdsl.runtime.importing import files

        return files.opened(path, sizes, settings, only)
