"""Ultralytics-style YAML: rows of from, repeats, module, arguments; multiples of depth and width."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archdsl.common.escaping import visible
from archdsl.common.units import counted
from archdsl.runtime.importing.files.configured import Builder, text_of
from archdsl.runtime.importing.files.program import Program
from archdsl.runtime.importing.files.yaml_modules import PLAIN, REPEATING, WITH_CHANNELS
from archdsl.runtime.refusal import ImportRefused

MOST_ROWS = 1000
MOST_REPEATS = 100
MOST_DEPTH = 20
PARTS = ("backbone", "neck")
"""The parts that --only can name: the rows of the backbone, or all but the last one, a detection head."""


def read(path: Path) -> Mapping[str, Any]:
    """The content of a file. Raises ImportRefused, and ImportError if PyYAML is not installed."""
    import yaml  # an extra

    name = visible(path.name)
    text = text_of(path)
    if re.search(r"(^|[\s\[{,:-])[&*]\w", text, re.M):
        raise ImportRefused(f"{name} has anchors or aliases, which are not read")
    if depth_of(text) > MOST_DEPTH:
        raise ImportRefused(f"{name} nests brackets more than {MOST_DEPTH} deep")
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ImportRefused(f"{name} is not YAML: {visible(str(error).splitlines()[0])}") from None
    if not isinstance(found, dict) or not isinstance(found.get("backbone"), list):
        raise ImportRefused(f"{name} is no list of modules: it needs `backbone:` and `head:` with rows of four")
    return found


def depth_of(text: str) -> int:
    """How deep brackets are nested."""
    deepest = depth = 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        deepest = max(deepest, depth)
    return deepest


def program_of(
    path: Path, content: Mapping[str, Any], size: tuple[int, ...], settings: Mapping[str, str], only: str
) -> Program:
    """The program of a file. `settings` may give `scale` and `nc`. Raises ImportRefused."""
    return Reading(path, content, size, settings, only).program


class Reading:
    """Reads the rows of a file in order."""

    def __init__(
        self, path: Path, content: Mapping[str, Any], size: tuple[int, ...], settings: Mapping[str, str], only: str
    ) -> None:
        self.file, self.content = visible(path.name), content
        builder = Builder(self.file, size)
        self.program, self.notes = builder.program, builder.program.notes
        self.depth, self.width, self.most = self.multiples(path, settings)
        self.names = {key: value for key, value in content.items() if isinstance(value, int | float)}
        if "nc" in settings:
            self.names["nc"] = number(settings["nc"], "nc")
        if only and only not in PARTS:
            raise ImportRefused(f"--only of a YAML file is {' or '.join(PARTS)}, not {visible(only)}")
        builder.activation = self.activation()
        rows = [*content["backbone"], *(content.get("head") or [])]
        if len(rows) > MOST_ROWS or not rows:
            raise ImportRefused(f"{self.file} has {len(rows):,} rows; 1 to {MOST_ROWS:,} are read")
        self.values: list[str] = []
        self.counts: Counter[str] = Counter()
        totals = Counter(str(row[2]) for row in rows if isinstance(row, list) and len(row) == 4)
        end = len(content["backbone"]) if only == "backbone" else len(rows) - (only == "neck")
        for at, row in enumerate(rows[:end]):
            self.row(builder, at, row, totals, len(rows) - 1)
        self.outputs(rows, end, only)

    def multiples(self, path: Path, settings: Mapping[str, str]) -> tuple[float, float, float]:
        """The multiples of depth and width, and the most channels."""
        scales = self.content.get("scales")
        if not isinstance(scales, dict) or not scales:
            return (
                real(self.content.get("depth_multiple", 1.0), "depth_multiple"),
                real(self.content.get("width_multiple", 1.0), "width_multiple"),
                math.inf,
            )
        named = re.search(r"\d([nslmx])(?![a-z])", path.stem)
        scale = settings.get("scale") or (named[1] if named and named[1] in scales else str(next(iter(scales))))
        if scale not in scales:
            raise ImportRefused(f"{self.file} has no scale {visible(scale)}; it has {', '.join(map(str, scales))}")
        if "scale" not in settings:
            self.notes.append(f"its scale is {scale}; --set scale=… takes another of {', '.join(map(str, scales))}")
        given = scales[scale]
        if not isinstance(given, list) or len(given) not in (2, 3):
            raise ImportRefused(f"{self.file}: a scale is [depth, width, most channels]")
        depth, width, *most = (real(n, "scales") for n in given)
        return depth, width, most[0] if most else math.inf

    def activation(self) -> str:
        given = str(self.content.get("activation", "nn.SiLU()"))
        return re.sub(r"^(torch\.)?nn\.|\(.*\)$", "", given)

    def row(self, builder: Builder, at: int, row: Any, totals: Mapping[str, int], last: int) -> None:
        """Adds the module of a row."""
        where = f"{self.file}, row {at}"
        if not isinstance(row, list) or len(row) != 4 or not isinstance(row[2], str) or not isinstance(row[3], list):
            raise ImportRefused(f"{where} is not [from, repeats, module, arguments]")
        sources, repeats, kind, given = row
        builder.place = f"{where} ({visible(kind)})"
        taken = [self.source(n, at, where) for n in (sources if isinstance(sources, list) else [sources])]
        if not isinstance(repeats, int) or not 1 <= repeats <= MOST_REPEATS:
            raise ImportRefused(f"{where} repeats {visible(str(repeats))} times")
        repeats = max(round(repeats * self.depth), 1) if repeats > 1 else repeats
        arguments = [self.argument(a) for a in given]
        if kind == "Concat":
            if arguments not in ([1], []):
                raise ImportRefused(f"{where}: Concat is read along axis 1")
            self.values.append(builder.concat(taken))
            return
        if repeats > 1 and kind in PLAIN:
            raise ImportRefused(f"{visible(kind)} {repeats} times", "", builder.place)
        if len(taken) != 1 or (kind not in WITH_CHANNELS and kind not in PLAIN):
            hint = "; --only neck leaves out the last row" if at == last else ""
            raise ImportRefused(f"the module {visible(kind)} is none that is read{hint}", "", builder.place)
        if kind in WITH_CHANNELS:
            arguments = self.scaled(kind, arguments, repeats, where)
            repeats = 1 if kind in REPEATING else repeats
        self.counts[kind] += 1
        name = re.sub(r"\W", "", kind.removeprefix("nn.")).lower()
        number = f"_{self.counts[kind]}" if name[-1:].isdigit() else str(self.counts[kind])
        name = f"{name}{number}" if totals[kind] > 1 else name
        self.values.append(self.module(builder, name, kind, taken[0], arguments, repeats))

    def module(self, builder: Builder, name: str, kind: str, value: str, arguments: list[Any], repeats: int) -> str:
        """The result of a module, or of a sequence of several."""
        function = WITH_CHANNELS.get(kind) or PLAIN[kind]
        plain = kind.removeprefix("nn.")
        try:
            if repeats == 1 and kind in PLAIN:
                return function(builder, name, value, *arguments)
            if repeats == 1:
                return function(builder.within(name, plain), value, *arguments)
            around = builder.within(name, plain=True)
            for i in range(repeats):
                value = function(around.within(str(i), plain), value, *arguments)
            return value
        except TypeError as error:
            raise ImportRefused(f"its arguments do not fit: {visible(str(error))}", "", builder.place) from None

    def scaled(self, kind: str, arguments: list[Any], repeats: int, where: str) -> list[Any]:
        """The arguments with the channels by the multiple of the width, and with the repeats."""
        if not arguments or not isinstance(arguments[0], int):
            raise ImportRefused(f"{where}: {visible(kind)} needs the number of its channels first")
        out, *others = arguments
        if out != self.names.get("nc"):
            out = math.ceil(min(out, self.most) * self.width / 8) * 8
        return [out, *([repeats] if kind in REPEATING else []), *others]

    def source(self, given: Any, at: int, where: str) -> str:
        """The value of a row, by its number or by how far before it is; -1 of the first row is the image."""
        number = at + given if isinstance(given, int) and given < 0 else given
        if not isinstance(number, int) or not -1 <= number < at or (number == -1 and at):
            raise ImportRefused(f"{where} takes from {visible(str(given))}, which is no row before it")
        return self.values[number] if number >= 0 else "image"

    def argument(self, given: Any) -> Any:
        """An argument: None and names of the file's numbers are written as text."""
        if isinstance(given, str):
            return {"None": None, "True": True, "False": False}.get(given, self.names.get(given, given))
        if isinstance(given, list):
            return tuple(map(self.argument, given))
        return given

    def outputs(self, rows: Sequence[Any], end: int, only: str) -> None:
        """The outputs: the last row's, or what the rows that are left out take."""
        wanted = {end - 1}
        for at, row in enumerate(rows[end:], end):
            if isinstance(row, list) and row:
                for given in row[0] if isinstance(row[0], list) else [row[0]]:
                    number = at + given if isinstance(given, int) and given < 0 else given
                    if isinstance(number, int) and 0 <= number < end:
                        wanted.add(number)
        if only and len(rows) > end:
            last = rows[end:]
            names = ", ".join(
                dict.fromkeys(visible(str(row[2])) for row in last if isinstance(row, list) and len(row) > 2)
            )
            self.notes.append(f"{counted(len(last), 'row')} left out: {names}; the outputs are what they take")
        for number in sorted(wanted):
            self.program.outputs[f"row{number}" if len(wanted) > 1 else "0"] = self.values[number]


def real(given: Any, what: str) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < 1e6:
        raise ImportRefused(f"`{what}` is {visible(str(given))}, not a number above 0")
    return float(given)


def number(text: str, what: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 10**6:
        raise ImportRefused(f"`{what}` is {visible(text)}, not a number above 0")
    return int(text)
