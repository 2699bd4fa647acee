"""The command that installs a missing module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

EXTRAS = {
    "torch": "torch",
    "numpy": "torch",
    "safetensors": "torch",
    "kornia": "augment",
    "pygls": "editor",
    "lsprotocol": "editor",
    "PIL": "pictures",
    "adjustText": "plots",
    "matplotlib": "plots",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "pandas": "pandas",
    "skimage": "examples",
    "starlette": "watch",
    "uvicorn": "watch",
    "watchfiles": "watch",
    "yaml": "yaml",
    "zarr": "zarr",
}
"""The extra of archdsl that installs a module."""

PACKAGES = {"PIL": "Pillow", "lsprotocol": "pygls", "skimage": "scikit-image", "yaml": "PyYAML"}
"""The package of a module, if the names differ."""


@contextmanager
def named(extra: str = "") -> Iterator[None]:
    """An ImportError of a package that is missing says how to install it; `extra` as in `what_to_do`."""
    try:
        yield
    except ImportError as error:
        if install := what_to_do(error, extra):
            raise type(error)(install, name=error.name, path=error.path) from None
        raise


def what_to_do(error: ImportError, extra: str = "") -> str | None:
    """Says what is missing and how to install it; None if the module is one of archdsl's own.

    `extra` is the one that installs everything the task needs, where that is more than the module.
    """
    module = (error.name or "").partition(".")[0]
    if module in ("", "archdsl"):
        return None
    package = PACKAGES.get(module, module)
    if not isinstance(error, ModuleNotFoundError):
        return f"{package} is installed, but cannot be imported: {error}"
    asked = f"'archdsl[{extra or EXTRAS[module]}]'" if module in EXTRAS else package
    return f"this needs {package}, which is not installed: pip install {asked}"
