"""After `import archdsl.importer`, Python imports .arch files: `from specs.resnet import resnet50`.

Such a module has a function for each model of the file, including families: `resnet50(classes=10, device="cuda")`
checks and compiles the model and returns the nn.Module, like `archdsl.load`. A Python module of the same name takes
precedence. The library that ships with archdsl is `archdsl.specs`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from inspect import Parameter, Signature
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from archdsl.checker.spec import ModelInfo


class ArchFinder(MetaPathFinder):
    """Finds `name.arch` where Python would look for `name.py`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "archdsl.specs":
            return _library()
        stem = fullname.rpartition(".")[2]
        for folder in sys.path if path is None else path:
            file = Path(folder or ".", f"{stem}.arch")
            if os.path.isfile(file):  # unlike that of Path, False where a folder may not be read
                return spec_from_file_location(fullname, file, loader=ArchLoader(file))
        return None


class ArchLoader(Loader):
    """Makes a module from a .arch file. Raises SpecError if the file is not a valid spec."""

    def __init__(self, file: Path) -> None:
        self.file = file.resolve()

    def exec_module(self, module: ModuleType) -> None:
        from archdsl.checker import spec  # needed only once a spec is imported

        models = spec.models(self.file)
        for model in models:
            setattr(module, model.name, _factory(self.file, model, module.__name__))
        module.__doc__ = f"The models of {self.file.name}."
        module.__dict__["__all__"] = [model.name for model in models]


def _factory(file: Path, model: ModelInfo, module: str) -> Callable[..., nn.Module]:
    given = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=None) for name in model.parameters]
    placing = [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in ("device", "dtype", "allow_extern")]
    signature = Signature([*given, *placing])

    def make(*args: Any, **kwargs: Any) -> nn.Module:
        from archdsl.runtime import loading

        return loading.load(f"{file}:{model.name}", **signature.bind(*args, **kwargs).arguments)

    make.__name__ = make.__qualname__ = model.name
    make.__module__ = module
    make.__doc__ = f"{model.doc or model.name}\n\nReturns the network as an nn.Module, like `archdsl.load`."
    make.__signature__ = signature  # type: ignore[attr-defined]
    return make


def _library() -> ModuleSpec:
    """In a checkout the library is next to the package, where Python would not look for `archdsl.specs`."""
    from archdsl.elaborate.spec_files import library_folder

    spec = ModuleSpec("archdsl.specs", None, is_package=True)
    spec.submodule_search_locations = [str(library_folder())]
    return spec


if not any(isinstance(finder, ArchFinder) for finder in sys.meta_path):
    sys.meta_path.append(ArchFinder())
