"""The proof of the function that spreads a training: its text is known, its table is compared with the network."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from archdsl.proof.errors import Unproved
from archdsl.proof.modules import Module
from archdsl.proof.reader import Text
from archdsl.transform.parallel import Parallel
from archdsl.transform.parallel_function import FUNCTION, UNITS


def compare_parallel(wanted: Parallel, text: Text, space: Mapping[str, object], model: Module) -> None:
    """Compares the modules that are sharded, of a model that has run. Raises Unproved."""
    if FUNCTION not in text.helpers:
        raise Unproved(f"has no `{FUNCTION}`, or another than archdsl writes")
    given = space.get(UNITS)
    if not isinstance(given, tuple) or not all(isinstance(pattern, str) for pattern in given):
        raise Unproved(f"has no table {UNITS}")
    paths: dict[int, str] = {}
    found: set[str] = set()
    for prefix, module in model._named(True):
        path = paths.setdefault(id(module), prefix[:-1])
        if path != prefix[:-1]:
            continue  # what is shared has the first of its paths, as in PyTorch's named_modules
        if any(fnmatchcase(path, p) and path.count(".") == p.count(".") for p in given):
            found.add(path)
            if not module.__dict__.get("_called", False):
                raise Unproved(f"shards `{path}`, whose forward does not run")
    if found != {*wanted.units}:
        raise Unproved(f"shards other modules than those of the blocks: {', '.join(sorted(found ^ {*wanted.units}))}")
