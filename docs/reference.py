"""Generates docs/errors.md and parts of docs/language.md from the code: `make docs`."""

from __future__ import annotations

import inspect
import re
from itertools import groupby
from pathlib import Path

from archdsl.augment import CHANGES
from archdsl.common.limits import WHAT, Limits
from archdsl.diagnostics.codes import CODES, GROUPS, Code
from archdsl.ops import OPERATIONS
from archdsl.ops.base import Declaration, Operation, Rules

PAGE = Path(__file__).with_name("language.md")
ERRORS = Path(__file__).with_name("errors.md")
PART = re.compile(r"(?<=<!-- )(\w+)(: made by `make docs` -->\n).*?(?=<!-- end of \1 -->)", re.DOTALL)


def operations() -> str:
    """A table of all operations, then a section for each family with an entry for each operation."""
    first_lines = {name: documentation(cls).partition("\n")[0] for name, cls in OPERATIONS.items()}
    rows = [f"| [`{name}`](#{name}) | {line} |\n" for name, line in first_lines.items()]
    parts = ["\n| operation | |\n| --- | --- |\n", *rows]
    for family, members in groupby(OPERATIONS.values(), key=lambda cls: cls.family):
        parts.append(f"\n### {family.capitalize()}\n")
        parts.extend(entry(cls) for cls in members)
    return "".join(parts) + "\n"


def entry(cls: type[Operation]) -> str:
    """One operation: its call with the defaults, its documentation, an example with the sizes."""
    return f"\n#### {cls.name}\n\n`{cls.signature()}`\n\n{documentation(cls)}\n\n{example(cls)}\n"


def changes() -> str:
    """An entry for each augmentation operation."""
    return "\n".join(f"\n`{cls.signature()}`: {documentation(cls)}" for cls in CHANGES.values()) + "\n\n"


def documentation(cls: type[Declaration]) -> str:
    return inspect.getdoc(cls) or ""


def example(cls: type[Operation]) -> str:
    first = cls.examples[0]
    results = cls.parse(first.arguments).infer(first.inputs, Rules())
    sizes = [", ".join(str(list(shape)) for shape in shapes) for shapes in (first.inputs, results)]
    call = cls.spell(first.arguments)
    return f"Example: `{call}` maps {sizes[0]} to {sizes[1]}." if sizes[0] else f"Example: `{call}` gives {sizes[1]}."


def limits() -> str:
    rows = [f"| `{name}` | {getattr(Limits(), name):,} | {what} |\n" for name, what in WHAT.items()]
    return "".join(["\n| limit | default | what it limits |\n| --- | --: | --- |\n", *rows, "\n"])


def renewed(page: str) -> str:
    """The page with its generated parts renewed."""
    parts = {"operations": operations, "changes": changes, "limits": limits, "codes": groups}
    return PART.sub(lambda match: f"{match[1]}{match[2]}{parts[match[1]]()}", page)


def errors() -> str:
    """The page of errors and warnings."""
    parts = [
        "# Errors and warnings\n\nThe meaning of each code, what to do, and an example. `archdsl explain E0301` prints "
        "an entry. A code has one\nmeaning, which is the same in every release. `make docs` generates this page from "
        "`archdsl/diagnostics/codes/`.\n"
    ]
    for group, about in GROUPS.items():
        members = [code for name, code in CODES.items() if name.startswith(group)]
        parts += [f"\n## {group}…: {about}\n", *map(meaning, members)]
    return "".join(parts)


def meaning(code: Code) -> str:
    shown = f"```\n{code.example}```" if code.example else f"Cause: {code.arises}"
    return f"\n### {code.code}\n\n**{code.title[:1].upper()}{code.title[1:]}.** {code.explanation}\n\n{shown}\n"


def groups() -> str:
    rows = [f"| {group}… | {about} |\n" for group, about in GROUPS.items()]
    return "".join(["\n| codes | subject |\n| --- | --- |\n", *rows, "\n"])


if __name__ == "__main__":
    ERRORS.write_text(errors(), "utf-8")
    PAGE.write_text(renewed(PAGE.read_text("utf-8")), "utf-8")
