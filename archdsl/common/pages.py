"""The documentation that comes with the package: its pages, and the text under each heading."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_HEADING = re.compile(r"(#+) +(.+?)\s*")
_FENCE = re.compile(r"\s*(```|~~~)")
_COMMENT = re.compile(r"<!--.*?-->\n?|<a id=\"[^\"]*\"></a>", re.DOTALL)


def docs_folder() -> Path:
    """The folder of the pages: in the installed package, or next to it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "docs"
    return inside if inside.is_dir() else package.parent / "docs"


@dataclass(frozen=True)
class Section:
    """A heading of a page with everything below it, up to the next heading of its level."""

    page: str
    title: str
    level: int
    text: str

    @property
    def topic(self) -> str:
        """The topic to type: the title in small letters, or the page's name for its first heading."""
        return self.page if self.level == 1 else self.title.lower()


def sections() -> list[Section]:
    """The sections of all pages, in order; a page's first section is the page."""
    folder = docs_folder()
    paths = sorted(folder.rglob("*.md"))
    return [section for path in paths for section in _sections(path.stem, path.read_text("utf-8"))]


def _sections(page: str, text: str) -> list[Section]:
    lines = _COMMENT.sub("", text).splitlines(keepends=True)
    headings: list[tuple[int, int, str]] = []
    fenced = False
    for number, line in enumerate(lines):
        fenced ^= bool(_FENCE.match(line))
        if not fenced and (heading := _HEADING.fullmatch(line)):
            headings.append((number, len(heading[1]), heading[2].replace("`", "")))
    found = []
    for index, (start, level, title) in enumerate(headings):
        end = next((number for number, other, _ in headings[index + 1 :] if other <= level), len(lines))
        found.append(Section(page, title, level, "".join(lines[start:end]).rstrip() + "\n"))
    return found
