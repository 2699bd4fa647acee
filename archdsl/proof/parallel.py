"""The proof of the function that spreads a training: its text is known, its tables are compared with the network."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from archdsl.proof.errors import Unproved
from archdsl.proof.layers import LAYERS, Layer
from archdsl.proof.modules import Module
from archdsl.proof.reader import Text
from archdsl.transform.parallel import Parallel
from archdsl.transform.parallel_function import FUNCTION, TABLES, tables


def mark_units(wanted: Parallel, model: Module) -> None:
    """Marks the modules that are sharded or divided, before the model runs: what they take, or give, are views then."""
    units = {*wanted.units}
    divided = {n.path for n in (*(node for pair in wanted.pairs for node in pair), *wanted.attentions)}
    for prefix, module in model._named(True):
        if prefix[:-1] in units:
            module.__dict__["_sharded"] = True
        if prefix[:-1] in divided:
            module.__dict__["_divided"] = True


def compare_parallel(wanted: Parallel, text: Text, space: Mapping[str, object], model: Module) -> None:
    """Compares the modules that are sharded and divided, of a model that has run. Raises Unproved."""
    if FUNCTION not in text.helpers:
        raise Unproved(f"has no `{FUNCTION}`, or another than archdsl writes")
    units, columns, rows, heads = ({} if n not in tables(wanted) else _found(n, space, model) for n in TABLES)
    if units.keys() != {*wanted.units}:
        raise Unproved(f"shards other modules than those of the blocks: {_named(units.keys() ^ {*wanted.units})}")
    for path, module in units.items():
        if not module.__dict__.get("_called", False):
            raise Unproved(f"shards `{path}`, whose forward does not run")
    pairs = [(a.path, b.path) for a, b in wanted.pairs if a.path in columns and b.path in rows]
    if columns.keys() != {a for a, _ in pairs} or rows.keys() != {b for _, b in pairs}:
        raise Unproved("divides other layers than pairs with nothing but activations between them")
    if heads.keys() != {node.path for node in wanted.attentions}:
        raise Unproved("divides other layers by heads than those of attention")
    for path, module in {**columns, **rows}.items():
        if type(module) is not LAYERS["Linear"]:
            raise Unproved(f"divides `{path}`, which is no plain nn.Linear")
    for path, module in heads.items():
        if not isinstance(module, Layer) or module.base != "MultiheadAttention":
            raise Unproved(f"divides `{path}` by heads, which is no nn.MultiheadAttention")


def _found(name: str, space: Mapping[str, object], model: Module) -> dict[str, Module]:
    """The modules that match a table."""
    given = space.get(name)
    if not isinstance(given, tuple) or not all(isinstance(pattern, str) for pattern in given):
        raise Unproved(f"has no table {name}")
    paths: dict[int, str] = {}
    found: dict[str, Module] = {}
    for prefix, module in model._named(True):
        path = paths.setdefault(id(module), prefix[:-1])
        # What is shared has the first of its paths, as in PyTorch's named_modules.
        if path == prefix[:-1] and any(fnmatchcase(path, p) and path.count(".") == p.count(".") for p in given):
            found[path] = module
    return found


def _named(paths: set[str]) -> str:
    return ", ".join(sorted(paths))
