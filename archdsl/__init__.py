"""archdsl, an architecture compiler: networks described in .arch files, checked, drawn and compiled to PyTorch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archdsl.common.choices import Budget
    from archdsl.common.source import Source
    from archdsl.compiler import build, check, diff, draw, explain, show
    from archdsl.diagnostics import SpecError
    from archdsl.runtime.bands import bands
    from archdsl.runtime.export.saving import export
    from archdsl.runtime.importing import from_module
    from archdsl.runtime.loading import load, load_augment
    from archdsl.runtime.opening import from_file
    from archdsl.runtime.parallel import parallelize
    from archdsl.runtime.pipeline import pipeline
    from archdsl.runtime.tiled import tiled

__version__ = "0.2.0"

__all__ = [
    "Budget",
    "Source",
    "SpecError",
    "__version__",
    "bands",
    "build",
    "check",
    "diff",
    "draw",
    "explain",
    "export",
    "from_file",
    "from_module",
    "load",
    "load_augment",
    "parallelize",
    "pipeline",
    "show",
    "tiled",
]

_HOMES = {
    "Budget": "archdsl.common.choices",
    "bands": "archdsl.runtime.bands",
    "build": "archdsl.compiler",
    "check": "archdsl.compiler",
    "diff": "archdsl.compiler",
    "draw": "archdsl.compiler",
    "explain": "archdsl.compiler",
    "export": "archdsl.runtime.export.saving",
    "from_file": "archdsl.runtime.opening",
    "from_module": "archdsl.runtime.importing",
    "load": "archdsl.runtime.loading",
    "load_augment": "archdsl.runtime.loading",
    "parallelize": "archdsl.runtime.parallel",
    "pipeline": "archdsl.runtime.pipeline",
    "show": "archdsl.compiler",
    "tiled": "archdsl.runtime.tiled",
    "Source": "archdsl.common.source",
    "SpecError": "archdsl.diagnostics",
}


if not TYPE_CHECKING:  # type checkers would take any name for right

    def __getattr__(name: str) -> object:
        """The public names, each imported when first asked for, so that `import archdsl` costs nothing."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from archdsl.common.missing import named

        with named():
            value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    """The public names."""
    return __all__
