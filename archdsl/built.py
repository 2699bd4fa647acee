"""Executed built modules: `archdsl.built.NAME_DIGEST` are those that this process made.

The digest is that of the text, so a name means the same class in every process: a pickle, which contains class names,
never gives another network. Unpickling never makes a module; see `Absent`.
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

from archdsl.common import missing
from archdsl.common.threads import forkable_lock

KEPT = 32
"""How many of the latest modules are kept even if nothing uses them."""

# A package to the import system, without files.
__path__: list[str] = []


class _Life:
    """Stored in a module's namespace, so it lives as long as any class or function of the module."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module


_alive: weakref.WeakValueDictionary[str, _Life] = weakref.WeakValueDictionary()
_latest: dict[str, ModuleType] = {}
_lock = forkable_lock()


def execute(source: str, name: str) -> ModuleType:
    """Executes generated source as its own module, with its lines known to tracebacks and debuggers.

    The same text gives the same module again, like a second import.
    """
    digest = sha256(source.encode()).hexdigest()[:16]
    full, filename = f"{__name__}.{name}_{digest}", f"<archdsl {name} {digest}>"
    if (life := _alive.get(full)) is None:
        module = ModuleType(full)
        module.__file__ = filename
        life = module.__dict__["__loader__"] = _Life(module)
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        with missing.named():
            exec(compile(source, filename, "exec"), module.__dict__)
    with _lock:
        # Another thread may have run the same text meanwhile.
        life = _alive.setdefault(full, life)
        sys.modules[full] = _latest[full] = life.module
        while len(_latest) > KEPT:
            _let_go(_latest.pop(next(iter(_latest))))
    return life.module


def _let_go(module: ModuleType) -> None:
    """Makes the module live only as long as the objects made from it."""
    name = module.__name__
    stand_in = sys.modules[name] = _StandIn(name)
    weakref.finalize(module.__dict__["__loader__"], _forget, name, stand_in, str(module.__file__)).atexit = False


def _forget(name: str, stand_in: ModuleType, filename: str) -> None:
    if sys.modules.get(name) is stand_in:
        del sys.modules[name]
        linecache.cache.pop(filename, None)


class _StandIn(ModuleType):
    """An entry in `sys.modules` that does not keep its module alive."""

    def __getattr__(self, name: str) -> object:
        life = _alive.get(self.__name__)
        if life is None:
            raise AttributeError(f"module {self.__name__!r} is gone")
        return getattr(life.module, name)


class Absent(MetaPathFinder):
    """Explains what to do when a pickle names a class that this process has not made."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if fullname.startswith(f"{__name__}."):
            self.fail(fullname)

    def fail(self, fullname: str) -> NoReturn:
        name = fullname.removeprefix(f"{__name__}.").rpartition("_")[0]
        raise ModuleNotFoundError(
            f"this contains an object of `{name}`, whose class `archdsl.load` made in another process. Load the same "
            "spec here first, with the same values and version of archdsl, then try again. To avoid this "
            f"step, save the state_dict, or `archdsl build SPEC -o {name}.py` and import the class from that file",
            name=fullname,
        )


sys.meta_path.append(Absent())
