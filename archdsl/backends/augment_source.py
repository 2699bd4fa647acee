"""The PyTorch module of an `augment` declaration, as text for the file of the model that it belongs to.

It is built on kornia, which is imported when an augmentation is made: the model runs where kornia is not installed.
"""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Iterator
from itertools import groupby

from archdsl.augment import Change, OneOf, Pipeline, Step
from archdsl.augment.base import Affine, Companion, KorniaCall
from archdsl.augment.place import affine_call
from archdsl.augment.texts import CLASS, DRAWING, MOVED, ONE_OF, RECOLOURED
from archdsl.backends.python import printer
from archdsl.backends.python import tree as py
from archdsl.backends.python.templates import code
from archdsl.backends.python.tree import call, names_in

HELPERS = (
    "Moved",
    "Recoloured",
    "OneOf",
    "drawing",
    "given_back",
    "Parts",
    "Iterator",
    "TypeAlias",
    "contextmanager",
    "K",
)


def write_augmentation(pipeline: Pipeline, model: str) -> Companion:
    """The class of a pipeline, with what it needs, beside that model's. The same pipeline gives the same text."""
    name = class_name(pipeline.name, model)
    changes = call("nn.Sequential", *_changes(pipeline.steps, pipeline.channels))
    used = names_in([changes])
    wanted = {"Moved": MOVED, "Recoloured": RECOLOURED, "OneOf": ONE_OF}
    helpers = [DRAWING, *(text for word, text in wanted.items() if word in used)]
    return Companion(
        name,
        frozenset({name, *HELPERS}),
        (*(h.strip("\n") for h in helpers), _class(pipeline, name, changes)),
    )


IMPORTS = """from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn
"""


def write_alone(companion: Companion) -> str:
    """A file of the augmentation alone."""
    return f"{IMPORTS}\n\n{printer.module(map(py.Source, companion.blocks))}"


def class_name(name: str, model: str) -> str:
    """The name in CamelCase, longer where it is the model's or one of Python or of the helpers."""
    found, other = ("".join(w[:1].upper() + w[1:] for w in n.split("_")) for n in (name, model))
    taken = found == other or keyword.iskeyword(found) or found in (*HELPERS, "Tensor", "Factory", "")
    return f"{found}Augmentation" if taken else found


def _class(pipeline: Pipeline, name: str, changes: py.Expr) -> str:
    kornia = py.Import("import kornia.augmentation as K", "here: the model runs without it")
    body: list[py.Statement] = [kornia] if "K" in names_in([changes]) else []
    body.append(py.Assign(code("self.changes"), changes))
    lines = "\n".join(printer.lines(body, 8))
    return CLASS.format(name=name, doc=_docstring(pipeline), changes=lines, size=pipeline.channels).strip("\n")


def _docstring(pipeline: Pipeline) -> str:
    """The changes as the spec writes them, below its own words, as the inside of a docstring."""
    first = " ".join((pipeline.doc or "Changes that preserve labels.").split())
    lines = [*textwrap.wrap(printer.in_docstring(first), printer.WIDTH - 10), ""]
    for line in pipeline.text():
        written = printer.in_docstring(line)
        lines += textwrap.wrap(written, printer.WIDTH - 8, initial_indent="    ", subsequent_indent="        ")
    return "\n".join(f"    {line}".rstrip() for line in lines).strip()


# ---------------------------------------------------------------- steps


def _changes(steps: tuple[Step, ...], channels: int) -> list[py.Expr]:
    """Modules that do the steps in order; neighbours of one kind share one."""
    kinds = [(_kind(step), step) for step in _fused(steps)]
    found: list[py.Expr] = []
    for kind, group in groupby(kinds, key=lambda pair: pair[0]):
        run = [step for _, step in group]
        forms = [form for step in run if not isinstance(step, OneOf) for form in _forms(step, channels)]
        match kind:
            case "one of":
                found += [_one_of(step, channels) for step in run if isinstance(step, OneOf)]
            case "moved":
                found.append(call("Moved", call("K.AugmentationSequential", *map(_call, forms))))
            case _:
                found.append(call("Recoloured", *map(_call, forms)))
    return found


def _kind(step: Change | OneOf | tuple[Affine, ...]) -> str:
    if isinstance(step, OneOf):
        return "one of"
    return "moved" if isinstance(step, tuple) or step.moves else "recoloured"


def _forms(step: Change | tuple[Affine, ...], channels: int) -> tuple[KorniaCall, ...]:
    return (affine_call(step),) if isinstance(step, tuple) else step.forms(channels)


def _one_of(step: OneOf, channels: int) -> py.Expr:
    chains = [_changes(chain, channels) for chain in step.alternatives]
    return call("OneOf", *(chain[0] if len(chain) == 1 else call("nn.Sequential", *chain) for chain in chains))


def _fused(steps: tuple[Step, ...]) -> Iterator[Change | OneOf | tuple[Affine, ...]]:
    """The steps, with neighbours that make up one affine transformation together, which samples the picture once."""
    run: list[Affine] = []
    for step in steps:
        part = step.affine() if isinstance(step, Change) else None
        fits = part is not None and all(p.parameter != part.parameter and p.pad == part.pad for p in run)
        if run and not fits:
            yield tuple(run)
            run = []
        if part is not None:
            run.append(part)
        else:
            yield step
    if run:
        yield tuple(run)


def _call(form: KorniaCall) -> py.Expr:
    """The call of kornia."""
    arguments = [py.Const(a.value) if a.name is None else py.Keyword(a.name, py.Const(a.value)) for a in form.arguments]
    return call(f"K.{form.constructor}", *arguments)
