"""One file for several modules, each of which was written, and proved, as a file of its own.

The definitions of the file are those of the separate files, letter for letter; what several files define alike is
in it once. So each module means there what it means alone: `join` compares them definition by definition.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence

from archdsl.backends.python import printer
from archdsl.ops.reserved import STANDARD


class NotJoined(Exception):
    """Files that cannot be joined into one: `names` are defined in several of them, and differ."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(f"defined in several ways: {', '.join(sorted(names))}")
        self.names = names


def definitions(text: str) -> dict[str, str]:
    """What a file defines, by name and in order, as written."""
    lines = text.splitlines()
    found: dict[str, str] = {}
    name = ""
    for node in ast.parse(text).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                first = node.lineno
            case ast.Expr() if name:  # what is said of a constant
                found[name] += "\n" + "\n".join(lines[node.lineno - 1 : node.end_lineno])
                continue
            case ast.Expr() | ast.Import() | ast.ImportFrom():
                continue
            case _:
                raise NotJoined([ast.unparse(node)])
        found[name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


def clashes(text: str, known: Mapping[str, str]) -> list[str]:
    """The names that a file defines in another way than `known` definitions do."""
    return [name for name, written in definitions(text).items() if known.get(name, written) != written]


def join(texts: Sequence[str], title: str, last: Sequence[str] = ()) -> str:
    """The files as one, with that title, and further definitions behind theirs. Raises NotJoined if they clash."""
    known: dict[str, str] = {}
    for text in texts:
        if names := clashes(text, known):
            raise NotJoined(names)
        known.update(definitions(text))
    head = "\n".join([*printer.docstring(title, 0), "", *imports(texts)])
    joined = "\n\n\n".join([head, *known.values(), *last]) + "\n"
    made = definitions(joined)
    if any(made.get(name) != written for text in texts for name, written in definitions(text).items()):
        raise NotJoined(made)
    return joined


def imports(texts: Sequence[str]) -> Iterator[str]:
    """The lines that import what several files do, each name once, grouped as in one file."""
    whole: dict[str, None] = {}
    names: dict[str, set[str]] = {}
    for node in (node for text in texts for node in ast.parse(text).body):
        if isinstance(node, ast.Import):
            whole[ast.unparse(node)] = None
        elif isinstance(node, ast.ImportFrom):
            spelt = (f"{a.name} as {a.asname}" if a.asname else a.name for a in node.names)
            names.setdefault(node.module or "", set()).update(spelt)
    lines = {module: f"from {module} import {', '.join(sorted(found))}" for module, found in sorted(names.items())}
    torch = [line for module, line in lines.items() if module.partition(".")[0] == "torch"]
    standard = [line for module, line in lines.items() if module in STANDARD]
    others = [line for line in lines.values() if line not in torch and line not in standard]
    groups = [group for group in (standard, [*sorted(whole), *torch], others) if group]
    for number, group in enumerate(groups):
        yield from ([""] if number else [])
        yield from group
