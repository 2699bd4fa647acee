"""Classes for modules of which a file gives only names: those with alike parts are of one class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Pairs = list[tuple[str, str]]
ALIKE = 0.5
"""The share of parts that modules of a class have in common, at least."""


def classify(around: Iterable[Pairs], leaves: Iterable[str]) -> Mapping[str, tuple[str, bool]]:
    """The class of each module (NAME@NUMBER), and whether it is a sequence, by its path.

    `around` are the modules around each call, `leaves` the paths of layers with weights.
    """
    around = [*around]
    parts: dict[str, set[str]] = {path: set() for pairs in around for path, _ in pairs if path}
    direct = {pairs[-1][0] for pairs in around if pairs}
    for leaf in {*leaves, *parts}:
        names = leaf.split(".")
        for end in range(1, len(names)):
            if (above := ".".join(names[:end])) in parts:
                parts[above].add(".".join(names[end:]))
    found: dict[str, tuple[str, bool]] = {}
    clusters: list[tuple[set[str], list[str]]] = []
    for path, inside in parts.items():
        own = {name.partition(".")[0] for name in inside}
        if own and all(name.isdigit() for name in own) and path not in direct:
            found[path] = ("", True)
            continue
        for known, members in clusters:
            if len(known & inside) >= ALIKE * len(known | inside) and known & inside:
                members.append(path)
                known |= inside
                break
        else:
            clusters.append((set(inside), [path]))
    for number, (_, members) in enumerate(clusters):
        found |= dict.fromkeys(members, (f"{class_name(members)}@{number}", False))
    return found


def class_name(paths: list[str]) -> str:
    """A name for the class of modules at these paths: what their own names have in common."""
    first, *others = (path.rpartition(".")[2] for path in paths)
    while not all(name.startswith(first) for name in others):
        first = first[:-1]
    common = first.rstrip("0123456789_")
    words = [word for word in common.split("_") if word]
    return "".join(word[:1].upper() + word[1:] for word in words) or "Unit"
