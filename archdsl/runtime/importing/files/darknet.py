"""Darknet .cfg files: sections of key = value, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch.nn.functional as F
from torch import nn

from archdsl.common.escaping import visible
from archdsl.common.units import counted
from archdsl.ops import helpers
from archdsl.runtime.importing.files.configured import MOST_CHANNELS, Builder, text_of
from archdsl.runtime.importing.files.program import Program, Scope
from archdsl.runtime.importing.generated import defined
from archdsl.runtime.refusal import ImportRefused

MOST_SECTIONS = 2000
HEADS = frozenset({"yolo", "region", "detection", "gaussian_yolo"})
"""Sections that decode boxes, which the language cannot say."""
IGNORED = frozenset({"cost"})


class Section:
    """A section: its kind and its values."""

    def __init__(self, kind: str, place: str) -> None:
        self.kind, self.place = kind, place
        self.values: dict[str, str] = {}

    def whole(self, key: str, default: int | None = None, most: int = MOST_CHANNELS) -> int:
        """A whole number. Raises ImportRefused."""
        text = self.values.get(key)
        if text is None and default is not None:
            return default
        if text is None or not text.removeprefix("-").isdecimal() or not text.isascii() or abs(int(text)) > most:
            raise ImportRefused(f"`{key}` is {visible(str(text))}, not a whole number that is read", "", self.place)
        return int(text)

    def list(self, key: str) -> list[int]:
        parts = [part.strip() for part in self.values.get(key, "").split(",") if part.strip()]
        if not parts or not all(p.removeprefix("-").isdecimal() and p.isascii() for p in parts):
            raise ImportRefused(f"`{key}` is no list of whole numbers", "", self.place)
        return [int(part) for part in parts]


def read(path: Path) -> list[Section]:
    """The sections of a file. Raises ImportRefused."""
    name, found = visible(path.name), list[Section]()
    for number, line in enumerate(text_of(path).splitlines(), 1):
        text = line.split("#")[0].split(";")[0].strip()
        if text.startswith("[") and text.endswith("]"):
            found.append(Section(text[1:-1].strip().lower(), f"{name}, line {number} ({visible(text)})"))
        elif text:
            key, sign, value = text.partition("=")
            if not sign or not found:
                raise ImportRefused(f"{name}, line {number} is no [section] and no key = value")
            found[-1].values[key.strip().lower()] = value.strip()
    if not found or found[0].kind not in ("net", "network"):
        raise ImportRefused(f"{name} does not begin with [net], so it is no Darknet file")
    if len(found) > MOST_SECTIONS:
        raise ImportRefused(f"{name} has {len(found):,} sections; at most {MOST_SECTIONS:,} are read")
    return found


def size_of(sections: Sequence[Section]) -> tuple[int, int, int]:
    """The size of the image. Raises ImportRefused."""
    net = sections[0]
    found = net.whole("channels", 3), net.whole("height", 224, 65536), net.whole("width", 224, 65536)
    if min(found) < 1:
        raise ImportRefused(f"an image of size {list(found)}", "", net.place)
    return found


def program_of(path: Path, sections: Sequence[Section], size: tuple[int, ...], only: str) -> Program:
    """The program of a file. Raises ImportRefused."""
    if only not in ("", "neck"):
        raise ImportRefused(f"--only of a .cfg file is neck: all but the heads that decode boxes, not {visible(only)}")
    return Reading(visible(path.name), sections[1:], size, without_heads=only == "neck").program


class Reading:
    """Adds the sections of a file in order. `values` are their results by number."""

    def __init__(self, file: str, sections: Sequence[Section], size: tuple[int, ...], *, without_heads: bool) -> None:
        self.builder = Builder(file, size)
        self.program = self.builder.program
        self.without_heads = without_heads
        self.values: list[str] = []
        self.counts: Counter[str] = Counter()
        self.around = stages(sections)
        ends: list[str] = []
        heads = 0
        for at, section in enumerate(sections):
            if section.kind in HEADS and without_heads:
                heads += 1
                ends.append(self.values[-1] if self.values else "image")
                self.values.append(ends[-1])
                continue
            self.values.append(self.section(at, section))
        if heads:
            self.program.notes.append(f"{counted(heads, 'head')} left out; the outputs are what they take")
        if not self.values or self.values[-1] == "image":
            raise ImportRefused(f"{file} has no layers")
        outputs = ends or [self.values[-1]]
        for number, value in enumerate(outputs):
            self.program.outputs[f"scale{number + 1}" if len(outputs) > 1 else "0"] = value

    def section(self, at: int, section: Section) -> str:
        """The result of a section."""
        b = self.builder
        b.place, b.scopes = section.place, self.around.get(at, ())
        value = self.values[at - 1] if at else "image"
        if section.kind in IGNORED:
            return value
        reader = getattr(self, f"read_{section.kind}", None) if section.kind in KINDS else None
        if reader is None:
            hint = "; --only neck leaves such heads out" if section.kind in HEADS else ""
            raise ImportRefused(f"the section [{visible(section.kind)}] is not known{hint}", "", section.place)
        result: str = reader(at, section, value)
        return result

    def numbered(self, kind: str) -> str:
        self.counts[kind] += 1
        return f"{kind}{self.counts[kind]}"

    def at(self, number: int, here: int, section: Section) -> str:
        """The result of a section by its number, or by how far before it is. Raises ImportRefused."""
        found = here + number if number < 0 else number
        if not 0 <= found < here:
            raise ImportRefused(f"it takes from section {number}, which is none before it", "", section.place)
        return self.values[found]

    # ------------------------------------------------------------ sections

    def read_convolutional(self, at: int, section: Section, value: str) -> str:
        b = self.builder
        out, kernel = section.whole("filters"), section.whole("size", 1)
        stride, groups = section.whole("stride", 1), section.whole("groups", 1)
        dilation = section.whole("dilation", 1)
        pad = kernel // 2 * dilation if section.whole("pad", 0) else section.whole("padding", 0)
        norm = bool(section.whole("batch_normalize", 0))
        if min(out, kernel, stride, groups, dilation) < 1 or pad < 0:
            raise b.refused("a number is too small")
        make = partial(nn.Conv2d, b.channels(value), out, kernel, stride, pad, dilation, groups, bias=not norm)
        name = self.numbered(b.path("conv")).rpartition(".")[2]  # it counts in the network, or in a residual
        if norm:
            b = b.within(name, "ConvBlock")
            value = b.layer("conv", make, value)
            value = b.layer("bn", partial(nn.BatchNorm2d, out), value)
        else:
            value = b.layer(name, make, value)
        return b.act(section.values.get("activation", "logistic"), value)

    def read_connected(self, at: int, section: Section, value: str) -> str:
        b, out = self.builder, section.whole("output")
        if len(self.program.values[value].shape) > 2:
            value = b.function(lambda t: t.flatten(1), value)
        value = b.layer(self.numbered("connected"), partial(nn.Linear, b.channels(value), out), value)
        return b.act(section.values.get("activation", "logistic"), value)

    def read_maxpool(self, at: int, section: Section, value: str) -> str:
        b = self.builder
        stride = section.whole("stride", 1)
        size = section.whole("size", stride)
        pad = section.whole("padding", size - 1)
        if min(size, stride) < 1 or pad != size - 1:
            raise b.refused(f"padding = {pad}; size - 1 is read")
        if size % 2:
            return b.function(partial(F.max_pool2d, kernel_size=size, stride=stride, padding=size // 2), value)
        if size == stride:
            return b.function(partial(F.max_pool2d, kernel_size=size, stride=stride, ceil_mode=True), value)
        helper = helpers.max_pool("2d")
        make = partial(defined(helper.name, helper.source), size, stride=stride)
        if stride != 1:
            raise b.refused("an even size with another stride")
        return b.layer(self.numbered("maxpool"), make, value)

    def read_avgpool(self, at: int, section: Section, value: str) -> str:
        value = self.builder.function(partial(F.adaptive_avg_pool2d, output_size=1), value)
        return self.builder.function(lambda t: t.flatten(1), value)

    def read_upsample(self, at: int, section: Section, value: str) -> str:
        return self.builder.function(partial(F.interpolate, scale_factor=section.whole("stride", 2)), value)

    def read_dropout(self, at: int, section: Section, value: str) -> str:
        return value  # it does nothing in evaluation

    def read_softmax(self, at: int, section: Section, value: str) -> str:
        if section.whole("groups", 1) != 1:
            raise self.builder.refused("a softmax in groups")
        return self.builder.function(partial(F.softmax, dim=1), value)

    def read_shortcut(self, at: int, section: Section, value: str) -> str:
        (source,) = section.list("from")[:1]
        if "weights_type" in section.values or len(section.list("from")) > 1:
            raise self.builder.refused("a shortcut of several sections, or with weights")
        other = self.at(source, at, section)
        shapes = [self.program.values[v].shape for v in (value, other)]
        if shapes[0] != shapes[1]:
            raise self.builder.refused(f"it adds tensors of sizes {[list(shape[1:]) for shape in shapes]}")
        value = self.builder.function(lambda x, y: x + y, other, value)
        return self.builder.act(section.values.get("activation", "linear"), value)

    def read_route(self, at: int, section: Section, value: str) -> str:
        values = [self.at(number, at, section) for number in section.list("layers")]
        groups, number = section.whole("groups", 1), section.whole("group_id", 0)
        if groups == 1:
            return self.builder.concat(values)
        if len(values) > 1 or not 0 <= number < groups or self.builder.channels(values[0]) % groups:
            raise self.builder.refused("groups of several sections, or that do not divide the channels")
        return self.builder.functions(lambda t: t.chunk(groups, 1), values[0], groups)[number]


KINDS = frozenset(name.removeprefix("read_") for name in vars(Reading) if name.startswith("read_"))


def stages(sections: Sequence[Section]) -> Mapping[int, tuple[Scope, ...]]:
    """The modules around sections: a shortcut and what it skips are a residual; those in a row are a stage."""
    spans: list[tuple[int, int]] = []
    for at, section in enumerate(sections):
        text = section.values.get("from", "") if section.kind == "shortcut" else ""
        back = int(text) if text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 5 else 0
        start = at + back + 1 if back < 0 else at
        inside = sections[start:at] if 0 <= start < at else []
        if inside and all(s.kind == "convolutional" for s in inside):
            spans.append((start, at + 1))
    found: dict[int, tuple[Scope, ...]] = {}
    stage = number = 0
    for (start, end), before in zip(spans, [(-1, -1), *spans], strict=False):
        stage, number = (stage, number + 1) if start == before[1] else (stage + 1, 0)
        name = f"stage{stage}"
        scopes = (Scope(name, plain=True), Scope(f"{name}.{number}", "Residual"))
        found |= dict.fromkeys(range(start, end), scopes)
    return found
