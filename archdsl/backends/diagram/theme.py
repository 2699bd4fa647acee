"""The looks: colours that colour-blind people can distinguish, on a light page, a dark one, and in print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from archdsl.backends.diagram import formats
from archdsl.ops.base import Family

FONT = "Helvetica,Arial,sans-serif"


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours as `#rrggbb`. A family has a fill and a border; the fills differ in lightness too, so that they
    differ in grey print."""

    background: str
    text: str
    muted: str
    line: str
    skip: str
    dense: str
    projection: str
    block: tuple[str, str]
    terminal: tuple[str, str]
    merge: tuple[str, str]
    frames: tuple[str, str]
    frame_border: str
    shared: tuple[str, ...]
    """The outlines of what is used several times, one after the other."""
    families: Mapping[Family, tuple[str, str]]
    changes: Mapping[str, str]
    """The outlines of additions, removals and changes, which signs and strokes mark as well."""


# The hues are those of Okabe and Ito, "Color Universal Design" (2008).
LIGHT = Theme(
    background="#ffffff",
    text="#1b1b1b",
    muted="#5a5a5a",
    line="#444444",
    skip="#D55E00",
    dense="#8f3f71",
    projection="#D55E00",
    block=("#f4f4f4", "#333333"),
    terminal=("#ffffff", "#333333"),
    merge=("#ffffff", "#333333"),
    frames=("#fafafa", "#f1f3f5"),
    frame_border="#b3b3b3",
    shared=("#a4262c", "#0b6e6e", "#7a5c00", "#5a3fa0"),
    families={
        "convolution": ("#cfe5f4", "#0072B2"),
        "linear": ("#b5cbe6", "#1f4e8c"),
        "pooling": ("#fbe3b5", "#E69F00"),
        "normalisation": ("#d3efe6", "#009E73"),
        "activation": ("#fdfad2", "#b8a800"),
        "regularisation": ("#eeeeee", "#8a8a8a"),
        "resize": ("#f7d9c4", "#D55E00"),
        "channels": ("#f3dfeb", "#CC79A7"),
        "shape": ("#eeeeee", "#8a8a8a"),
        "windows": ("#f5ede1", "#8a6a3a"),
        "align": ("#eeeeee", "#8a8a8a"),
        "attention": ("#dcdcf7", "#5a4fcf"),
        "learned": ("#e8e0f0", "#7d5ba6"),
        "extern": ("#f5d0d3", "#a4262c"),
    },
    changes={"added": "#007a59", "removed": "#c43c00", "changed": "#8a4fbf"},
)

DARK = Theme(
    background="#16181d",
    text="#f0f0f0",
    muted="#b0b4bb",
    line="#c4c8cf",
    skip="#ff9d5c",
    dense="#e39ac4",
    projection="#ff9d5c",
    block=("#2b2f37", "#d0d4db"),
    terminal=("#16181d", "#d0d4db"),
    merge=("#16181d", "#d0d4db"),
    frames=("#1c1f25", "#22262d"),
    frame_border="#5b616b",
    shared=("#ff8f98", "#5fd0d0", "#e6c34a", "#b9a5ff"),
    families={
        "convolution": ("#123a55", "#56B4E9"),
        "linear": ("#1c2f5e", "#8fb4f5"),
        "pooling": ("#553b05", "#E69F00"),
        "normalisation": ("#0a4534", "#2fc498"),
        "activation": ("#4a4510", "#F0E442"),
        "regularisation": ("#33363c", "#9aa0a8"),
        "resize": ("#5a2a08", "#ff8a3c"),
        "channels": ("#4c2a3f", "#e39ac4"),
        "shape": ("#33363c", "#9aa0a8"),
        "windows": ("#3d3122", "#cfa76a"),
        "align": ("#33363c", "#9aa0a8"),
        "attention": ("#302b63", "#a8a2f5"),
        "learned": ("#3b2a4d", "#b691dd"),
        "extern": ("#511b20", "#ff8f98"),
    },
    changes={"added": "#2fc498", "removed": "#ff8a3c", "changed": "#c9a0ff"},
)

PRINT = Theme(
    background="#ffffff",
    text="#000000",
    muted="#333333",
    line="#000000",
    skip="#000000",
    dense="#000000",
    projection="#000000",
    block=("#ffffff", "#000000"),
    terminal=("#ffffff", "#000000"),
    merge=("#ffffff", "#000000"),
    frames=("#ffffff", "#ffffff"),
    frame_border="#888888",
    shared=("#000000",),
    families={
        "convolution": ("#e6e6e6", "#000000"),
        "linear": ("#cfcfcf", "#000000"),
        "pooling": ("#c4c4c4", "#000000"),
        "normalisation": ("#dadada", "#777777"),
        "activation": ("#f2f2f2", "#777777"),
        "regularisation": ("#ffffff", "#aaaaaa"),
        "resize": ("#a8a8a8", "#000000"),
        "channels": ("#d6d6d6", "#000000"),
        "shape": ("#ffffff", "#777777"),
        "windows": ("#f4f4f4", "#555555"),
        "align": ("#ffffff", "#777777"),
        "attention": ("#b4b4b4", "#000000"),
        "learned": ("#ececec", "#000000"),
        "extern": ("#ececec", "#000000"),
    },
    changes={"added": "#000000", "removed": "#000000", "changed": "#000000"},
)

THEMES: Mapping[str, Theme] = dict(zip(formats.THEMES, (LIGHT, DARK, PRINT), strict=True))
