"""Diagnostics for machines that show them beside the code: GitHub's workflow commands, and SARIF 2.1.0."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any, TypeAlias
from urllib.parse import quote

from archdsl import __version__
from archdsl.common.source import Span
from archdsl.diagnostics import Diagnostic, Fix, visible

Data: TypeAlias = dict[str, Any]

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def _path(span: Span) -> str:
    """The path of a file with forward slashes, from the current folder if it lies in it."""
    path = PurePath(str(span.source.path or span.source.name))
    if path.is_absolute() and path.is_relative_to(os.getcwd()):
        path = path.relative_to(os.getcwd())
    return path.as_posix()


def _text(diagnostic: Diagnostic) -> str:
    """The message with its notes and its help, a line each."""
    marks = [f"{m.span}: {m.text}" for m in diagnostic.marks[1:] if m.text]
    help = [f"help: {diagnostic.help}"] if diagnostic.help else []
    return "\n".join(map(visible, (diagnostic.message, *marks, *diagnostic.notes, *help)))


# ---------------------------------------------------------------- GitHub


def github(diagnostics: Iterable[Diagnostic]) -> str:
    """A line for each diagnostic, which GitHub Actions shows beside the line of the file."""
    return "".join(f"{_command(diagnostic)}\n" for diagnostic in diagnostics)


def _command(diagnostic: Diagnostic) -> str:
    properties: Data = {}
    if diagnostic.marks:
        span = diagnostic.marks[0].span
        line, column = span.source.position(span.start)
        last, end = span.source.position(span.end)
        properties = {"file": _path(span), "line": line}
        # GitHub takes columns only for a place on one line.
        properties |= {"col": column, "endColumn": end} if last == line else {"endLine": last}
    properties["title"] = diagnostic.code
    listed = ",".join(f"{name}={_escaped(str(value), ':,')}" for name, value in properties.items())
    return f"::{diagnostic.severity} {listed}::{_escaped(_text(diagnostic))}"


def _escaped(text: str, more: str = "") -> str:
    """Text of a command in which nothing ends it or begins another."""
    for sign in "%\r\n" + more:
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text


# ---------------------------------------------------------------- SARIF


def sarif(diagnostics: Sequence[Diagnostic]) -> Data:
    """A log in SARIF 2.1.0 with one run; its rules are the codes that it has."""
    from archdsl.diagnostics.codes import CODES  # only here

    names = sorted({d.code for d in diagnostics})
    rules = [
        {
            "id": name,
            "shortDescription": {"text": CODES[name].title},
            "fullDescription": {"text": CODES[name].explanation},
            "defaultConfiguration": {"level": "warning" if name.startswith("W") else "error"},
        }
        for name in names
    ]
    results = [_result(d, names.index(d.code)) for d in diagnostics]
    driver = {"name": "archdsl", "version": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(diagnostic: Diagnostic, rule: int) -> Data:
    result: Data = {
        "ruleId": diagnostic.code,
        "ruleIndex": rule,
        "level": diagnostic.severity,
        "message": {"text": _text(diagnostic)},
    }
    if diagnostic.marks:
        result["locations"] = [_location(diagnostic.marks[0].span)]
    if others := [m for m in diagnostic.marks[1:]]:
        result["relatedLocations"] = [
            _location(m.span) | ({"message": {"text": visible(m.text)}} if m.text else {}) for m in others
        ]
    if diagnostic.fix is not None:
        result["fixes"] = [_fix(diagnostic.fix, diagnostic.help)]
    return result


def _file(span: Span) -> Data:
    path = _path(span)
    return {"uri": ("file://" if path.startswith("/") else "") + quote(path)}


def _region(span: Span) -> Data:
    line, column = span.source.position(span.start)
    last, end = span.source.position(span.end)
    return {"startLine": line, "startColumn": column, "endLine": last, "endColumn": end}


def _location(span: Span) -> Data:
    return {"physicalLocation": {"artifactLocation": _file(span), "region": _region(span)}}


def _fix(fix: Fix, help: str | None) -> Data:
    change = {"deletedRegion": _region(fix.span), "insertedContent": {"text": fix.text}}
    found: Data = {"artifactChanges": [{"artifactLocation": _file(fix.span), "replacements": [change]}]}
    return found | ({"description": {"text": visible(help)}} if help else {})
