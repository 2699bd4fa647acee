"""Models of timm's architecture files: what the importer says of it, as docs/zoo.md lists.

With pytest it compares; `python tests/zoo/timm_models.py [MODEL…]` imports them and writes the table anew. It needs
timm, in an environment of its own: `make test-zoo`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import timm

from archdsl.runtime.importing import Imported, ImportRefused, from_callable

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
ROW = re.compile(r"\| `(\w+)` \| (agrees|needs extern|refused) \| (\d*) \| (.*) \|\n")
START = "| model | | lines | why |\n| --- | --- | --: | --- |\n"
KNOWN = {row[1]: row[2] for row in ROW.finditer(PAGE.read_text("utf-8"))}

SIZES = {"deepseek_vit_412m": (3, 224, 224), "gemma4_vit_167m": (3, 224, 224)}
"""Smaller sizes for models that take any."""


def result(name: str) -> tuple[str, str, str]:
    """What becomes of a model, the lines of its spec, and why it needs externs or is refused."""
    size = SIZES.get(name, tuple(timm.get_pretrained_cfg(name).input_size))
    try:
        found = from_callable(f"timm.models:{name}", {}, size)
    except ImportRefused as refusal:
        return "refused", "", plain(refusal)
    return "needs extern" if found.externs else "agrees", str(len(found.text.splitlines())), externs(found)


def plain(refusal: ImportRefused) -> str:
    return refusal.reason.partition("; nor can")[0].replace("|", "\\|")


def externs(found: Imported) -> str:
    """The classes that became externs, each with the reason."""
    reasons: dict[str, str] = {}
    for extern in found.externs:
        first = extern.stands_for[0]
        reasons.setdefault(type(first.module).__name__, plain(first.refusal))
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())


@pytest.mark.parametrize("name", KNOWN)
def test_it_is_as_listed(name: str) -> None:
    assert result(name)[0] == KNOWN[name]


def main(names: list[str]) -> None:
    page = PAGE.read_text("utf-8")
    head, rows = page[: page.index(START) + len(START)], {row[1]: row[0] for row in ROW.finditer(page)}
    for name in names or [*rows]:
        rows[name] = "| `{}` | {} | {} | {} |\n".format(name, *result(name))
        print(rows[name], end="", flush=True)
        kinds = [ROW.fullmatch(row)[2] for row in rows.values()]  # type: ignore[index]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("agrees", "needs extern", "refused"))
        head = re.sub(r"Of \d+ models: .*\n", f"Of {len(kinds)} models: {counts}.\n", head)
        PAGE.write_text(head + "".join(rows[name] for name in sorted(rows)), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
