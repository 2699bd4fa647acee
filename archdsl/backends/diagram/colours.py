"""Your own colours: a small TOML file of families, groups of paths, and names of blocks.

[families]
convolution = "#cfe5f4"
attention = { fill = "#dcdcf7", border = "#5a4fcf", name = "self-attention" }

[groups.backbone]
paths = ["layer1", "layer2.*"]
fill = "#ffeecc"

[names]
bottleneck = "Bottleneck"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import get_args

from archdsl.ops.base import Family

MOST_BYTES = 1_000_000
"""The largest file that is read."""

Colour = tuple[str, str]
"""Fill and border."""


@dataclass(frozen=True, slots=True)
class Group:
    """Parts of the network with a colour of their own, by patterns of their paths; `*` matches any text."""

    name: str
    paths: tuple[str, ...]
    colour: Colour

    def holds(self, paths: Iterable[str]) -> bool:
        """Whether all of these paths, of which there is one at least, lie in the group."""
        found = list(paths)
        return bool(found) and all(any(_within(path, pattern) for pattern in self.paths) for path in found)


@dataclass(frozen=True, slots=True)
class Colours:
    """A file's colours and names, keyed by the figure's own names."""

    families: Mapping[Family, Colour] = field(default_factory=dict)
    family_names: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    def group(self, paths: Iterable[str]) -> Group | None:
        """The first group that holds all of these paths."""
        found = list(paths)
        return next((group for group in self.groups if group.holds(found)), None)


def _within(path: str, pattern: str) -> bool:
    """Whether a path matches a pattern, or lies below one that does."""
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*")


def read_colours(path: Path) -> Colours:
    """The colours of a file. Raises ValueError, whose message says what is wrong, and OSError."""
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError("the file is larger than 1 MB")
    try:
        found = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is no TOML: {error}") from None
    if unknown := set(found) - {"families", "groups", "names"}:
        raise ValueError(f"there is no table [{min(unknown)}]; the tables are families, groups and names")
    own, families, family_names = _table(found, "families"), dict[Family, Colour](), dict[str, str]()
    if strange := [name for name in own if name not in get_args(Family)]:
        raise ValueError(f"there is no family `{strange[0]}`; the families are {', '.join(get_args(Family))}")
    for family in get_args(Family):
        if family in own:
            families[family], family_names[family] = _colour(own[family], f"families.{family}", family)
    groups = []
    for name, value in _table(found, "groups").items():
        paths = value.get("paths") if isinstance(value, dict) else None
        if not isinstance(paths, list) or not paths or not all(isinstance(p, str) for p in paths):
            raise ValueError(f'groups.{name} needs paths, such as paths = ["layer1", "layer2.*"]')
        colour, called = _colour(value, f"groups.{name}", name)
        groups.append(Group(called, tuple(paths), colour))
    names = {}
    for name, value in _table(found, "names").items():
        if not isinstance(value, str):
            raise ValueError(f"names.{name} is a text")
        names[name] = value
    return Colours(families, family_names, tuple(groups), names)


def _table(found: Mapping[str, object], name: str) -> Mapping[str, object]:
    table = found.get(name, {})
    if not isinstance(table, dict):
        raise ValueError(f"`{name}` is a table: [{name}]")
    return table


def _colour(value: object, where: str, name: str) -> tuple[Colour, str]:
    """Fill and border, and the name for the legend."""
    entry = {"fill": value} if isinstance(value, str) else value
    if not isinstance(entry, dict):
        raise ValueError(f'{where} is a colour such as "#cfe5f4", or has fill, border and name')
    fill, border, called = entry.get("fill"), entry.get("border"), entry.get("name", name)
    for colour in (fill, *([border] if border is not None else [])):
        if not isinstance(colour, str) or not re.fullmatch("#[0-9a-fA-F]{6}", colour):
            raise ValueError(f"{where}: {colour!r} is no colour such as #cfe5f4")
    if not isinstance(called, str):
        raise ValueError(f"{where}.name is a text")
    assert isinstance(fill, str)
    return (fill, border or _darker(fill)), called


def _darker(colour: str) -> str:
    return "#" + "".join(f"{round(part * 0.55):02x}" for part in bytes.fromhex(colour[1:]))
