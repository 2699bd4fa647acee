"""The registry of diagnostic codes: their meaning, their remedy, and an example.

`make docs` generates docs/errors.md from this registry, and `archdsl explain E0301` prints an entry. Nothing else
imports it: each diagnostic has its own message.
"""

from __future__ import annotations

import textwrap

from archdsl.diagnostics.codes.base import Code
from archdsl.diagnostics.codes.language import LANGUAGE
from archdsl.diagnostics.codes.networks import NETWORKS
from archdsl.diagnostics.codes.texts import TEXTS

CODES: dict[str, Code] = {code.code: code for code in sorted((*TEXTS, *LANGUAGE, *NETWORKS), key=lambda c: c.code)}

GROUPS = {
    "E00": "files: missing, unreadable, not UTF-8, not a spec, circular imports",
    "E01": "syntax errors",
    "E02": "names, arguments and values",
    "E03": "sizes",
    "E04": "unused tensors",
    "E05": "limits",
    "E06": "builds and formatted files",
    "W06": "warnings: legal but probably a mistake; processing continues",
}
"""The subject of each group of codes."""


def text(code: Code) -> str:
    """The output of `archdsl explain CODE`."""
    parts = [f"{code.code}: {code.title}", textwrap.fill(code.explanation, 100)]
    if code.example:
        parts.append("For example:\n\n" + "\n".join(f"    {line}".rstrip() for line in code.example.splitlines()))
    if code.arises:
        parts.append(f"Cause: {code.arises}")
    return "\n\n".join(parts) + "\n"


__all__ = ["CODES", "GROUPS", "Code", "text"]
