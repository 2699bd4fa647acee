"""Amounts as readable text."""

from __future__ import annotations

import re
from fractions import Fraction

BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
DECIMAL = ("", "k", "M", "G", "T", "P", "E")


def bytes_text(count: int) -> str:
    """`97.5 MiB`: three digits or more."""
    return _scaled(count, 1024, BINARY)


def count_text(count: int) -> str:
    """`4.09 G`."""
    return _scaled(count, 1000, DECIMAL).strip()


def _scaled(count: int, base: int, units: tuple[str, ...]) -> str:
    value, unit = float(count), 0
    while value >= base * 0.9995 and unit < len(units) - 1:
        value /= base
        unit += 1
    if not unit:
        return f"{count} {units[0]}"
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {units[unit]}"


def bytes_from(text: str) -> int | None:
    """The number of bytes in `16GiB`, `16 GB`, `512M` or `100B`; None if it is not an amount. A bare G is a GiB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i?b)?|b)", text.strip(), re.IGNORECASE)
    if found is None:
        return None
    number, prefix, ending = found.groups()
    power = " kmgtp".index(prefix.lower()) if prefix else 0
    base = 1000 if ending is not None and len(ending) == 1 else 1024
    return int(Fraction(number) * base**power)


def memory_from(given: int | str) -> int:
    """The bytes of an amount of memory, as a number of them or as `16GiB`. Raises ValueError."""
    found = bytes_from(given) if isinstance(given, str) else given
    if isinstance(found, int) and not isinstance(found, bool) and found > 0:
        return found
    raise ValueError(f"{given!r} is not an amount of memory such as 16GiB{without_unit(given, 'GiB', 'B')}")


def without_unit(given: object, usual: str, plain: str) -> str:
    """What is said of an amount of bytes that is a number alone: it may be meant in the `usual` unit, or in bytes."""
    number = given.strip() if isinstance(given, str) else ""
    return f"; write {number}{usual}, or {number}{plain} for bytes" if re.fullmatch(r"\d+(\.\d+)?", number) else ""


LENGTHS = {"pt": 1.0, "in": 72.0, "cm": 72 / 2.54, "mm": 7.2 / 2.54, "px": 0.75}
"""Points of a unit of length; pixels are those of CSS, 96 an inch."""


def width_from(given: str | float) -> float:
    """The points in `3.3in`, `17 cm`, `170mm`, `500px`, `240pt` or a number of them. Raises ValueError."""
    points = 0.0
    if isinstance(given, int | float):
        points = float(given)
    elif found := re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*(pt|in|cm|mm|px)", given.strip(), re.IGNORECASE):
        points = float(found[1]) * LENGTHS[found[2].lower()]
    if not 36 <= points <= 14_400:
        raise ValueError(f"{given!r} is not a length from 0.5in to 200in, such as 3.3in, 17cm or 500px")
    return points


def size_from(text: str) -> tuple[int, ...]:
    """The numbers in `3x224x224`, also with ×. Raises ValueError."""
    parts = text.replace("×", "x").split("x")
    if not all(p.isascii() and p.isdecimal() and len(p) < 10 and int(p) > 0 for p in parts):
        raise ValueError(f"{text!r} is not a size such as 3x224x224")
    return tuple(map(int, parts))


def ratio_text(value: Fraction) -> str:
    """`32`, `15.5`, `1/3`."""
    if value.denominator in (1, 2, 4, 8, 16, 32):
        return f"{float(value):g}" if value.denominator > 1 else str(value.numerator)
    return str(value)


def counted(number: int, noun: str) -> str:
    """`1 parameter`, `2,048 parameters`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
