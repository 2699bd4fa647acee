"""The codes of diagnostics: what each means, what to do, and a spec that gives it.

docs/errors.md is made from this registry by `make docs`, and `archdsl explain E0301` prints from it. Nothing else
imports it: a check gives a code with a message of its own.
"""

from __future__ import annotations

import textwrap

from archdsl.diagnostics.codes.base import Code
from archdsl.diagnostics.codes.language import LANGUAGE
from archdsl.diagnostics.codes.networks import NETWORKS
from archdsl.diagnostics.codes.texts import TEXTS

CODES: dict[str, Code] = {code.code: code for code in sorted((*TEXTS, *LANGUAGE, *NETWORKS), key=lambda c: c.code)}

GROUPS = {
    "E00": "files: missing, unreadable, not UTF-8, no specs, imported in a circle",
    "E01": "the text: what the grammar does not take",
    "E02": "names, arguments and values",
    "E03": "sizes",
    "E04": "tensors that lead nowhere",
    "E05": "limits",
    "E06": "what is built",
    "W06": "what may be said, and is likely a mistake: a warning, after which archdsl goes on",
}
"""What the codes that begin alike are about."""


def text(code: Code) -> str:
    """What `archdsl explain CODE` prints."""
    parts = [f"{code.code}: {code.title}", textwrap.fill(code.explanation, 100)]
    if code.example:
        parts.append("For example:\n\n" + "\n".join(f"    {line}".rstrip() for line in code.example.splitlines()))
    if code.arises:
        parts.append(f"How it comes about: {code.arises}")
    return "\n\n".join(parts) + "\n"


__all__ = ["CODES", "GROUPS", "Code", "text"]
