"""The source of built modules, run: `archdsl.built.NAME_DIGEST` are the modules that this process made.

The digest is that of the text, so that a name means the same class in every process: a pickle, which holds the names
of classes, never opens as another network. Nothing is made by opening one; see `Absent`.
"""

from __future__ import annotations

import linecache
import sys
import weakref
from collections.abc import Sequence
from hashlib import sha256
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import NoReturn

from archdsl.common.threads import forkable_lock

KEPT = 32
"""How many modules are kept though nobody has an object of them, the latest made."""

# A package to the import system, with nothing of it on the disk.
__path__: list[str] = []


class _Life:
    """Stands in the names of a module, and so lives as long as any of its classes and functions."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module


_alive: weakref.WeakValueDictionary[str, _Life] = weakref.WeakValueDictionary()
_latest: dict[str, ModuleType] = {}
_lock = forkable_lock()


def execute(source: str, name: str) -> ModuleType:
    """Runs generated source as a module of its own, with its lines known to tracebacks and debuggers.

    The same text a second time gives the same module, as a second import does.
    """
    digest = sha256(source.encode()).hexdigest()[:16]
    full, filename = f"{__name__}.{name}_{digest}", f"<archdsl {name} {digest}>"
    if (life := _alive.get(full)) is None:
        module = ModuleType(full)
        module.__file__ = filename
        life = module.__dict__["__loader__"] = _Life(module)
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        exec(compile(source, filename, "exec"), module.__dict__)
    with _lock:
        # Another thread may have run the same text meanwhile.
        life = _alive.setdefault(full, life)
        sys.modules[full] = _latest[full] = life.module
        while len(_latest) > KEPT:
            _let_go(_latest.pop(next(iter(_latest))))
    return life.module


def _let_go(module: ModuleType) -> None:
    """From here on, the module lives only as long as what was made of it."""
    name = module.__name__
    stand_in = sys.modules[name] = _StandIn(name)
    weakref.finalize(module.__dict__["__loader__"], _forget, name, stand_in, str(module.__file__)).atexit = False


def _forget(name: str, stand_in: ModuleType, filename: str) -> None:
    if sys.modules.get(name) is stand_in:
        del sys.modules[name]
        linecache.cache.pop(filename, None)


class _StandIn(ModuleType):
    """In `sys.modules`, for a module that it does not keep alive."""

    def __getattr__(self, name: str) -> object:
        life = _alive.get(self.__name__)
        if life is None:
            raise AttributeError(f"module {self.__name__!r} is gone")
        return getattr(life.module, name)


class Absent(MetaPathFinder):
    """Says what to do where a pickle names a class that this process has not made."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if fullname.startswith(f"{__name__}."):
            self.tell(fullname)

    def tell(self, fullname: str) -> NoReturn:
        name = fullname.removeprefix(f"{__name__}.").rpartition("_")[0]
        raise ModuleNotFoundError(
            f"this holds an object of `{name}`, whose class `archdsl.load` made in another process. Load the same spec "
            "here first, with the same values and the same version of archdsl, then open it again. To need no such "
            f"step, save the state_dict, or `archdsl build SPEC -o {name}.py` and import the class from that file",
            name=fullname,
        )


sys.meta_path.append(Absent())
