"""A network with other names in its paths, where something that takes the module has its own use for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from archdsl.graph import Graph, Scope
from archdsl.graph.rewriting import Rewriting


def new_names(graph: Graph, is_taken: Callable[[str], bool]) -> dict[str, str]:
    """A new name for each part of a path that is taken: with as many `_` behind it as make it free."""
    parts = {part for member in graph.root.walk() for part in member.name.split(".")}
    found: dict[str, str] = {}
    for part in sorted(filter(is_taken, parts)):
        name = f"{part}_"
        while is_taken(name) or name in parts or name in found.values():
            name += "_"
        found[part] = name
    return found


def renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The same network with these names in place of others, everywhere in its paths."""
    new = Rewriting()

    def changed(path: str) -> str:
        return ".".join(names.get(part, part) for part in path.split("."))

    for member in graph.root.walk():
        if member is graph.root:
            new.open(graph.root)
            continue
        name, path = changed(member.name), changed(member.path)
        if isinstance(member, Scope):
            new.open(member, name=name, path=path)
        elif member.operation.is_input:
            new.place(member, member.inputs)  # its name is no path
        else:
            new.place(member, member.inputs, name=name, path=path)
    return new.finish(graph, lambda tensor: (tensor,), graph.outputs)
