"""Thread-shared state that stays usable in a forked process."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from threading import Lock, RLock
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


def forkable_lock() -> Lock:
    """A lock that is free in a process forked from this one. Do not hold it across a fork."""
    lock = Lock()
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


class cached_property(Generic[T]):
    """`functools.cached_property` without the lock that Python 3.11 holds while the value is computed.

    All instances share that lock: threads would wait for each other, and a process forked meanwhile forever. Two
    threads may compute a value twice.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> cached_property[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> cached_property[T] | T:
        if instance is None:
            return self
        value = self.compute(instance)
        # From here on, the instance's attribute is found first. The first stored value is used by all threads.
        kept: T = instance.__dict__.setdefault(self.name, value)
        return kept


def _renew_networkx() -> None:
    """Renews the locks of networkx' cached properties, which other threads may have held during the fork."""
    for name, owner in (("graph", "Graph"), ("digraph", "DiGraph")):
        module = sys.modules.get(f"networkx.classes.{name}")
        for member in vars(getattr(module, owner, object)).values():
            if isinstance(member, functools.cached_property):
                member.lock = RLock()  # type: ignore[attr-defined]


if sys.version_info < (3, 12) and hasattr(os, "register_at_fork"):  # newer Python versions have no such locks
    os.register_at_fork(after_in_child=_renew_networkx)
