"""The PyTorch module of an `augment` declaration, as text for the file of the model that it belongs to.

It is built on kornia, which is imported when an augmentation is made: the model runs where kornia is not installed.
"""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Iterator

from archdsl.augment import Change, OneOf, Pipeline, Step
from archdsl.augment.base import Affine, Companion, KorniaCall
from archdsl.augment.place import affine_call
from archdsl.augment.texts import CLASS, DRAWING, MOVED, ONE_OF, RECOLOURED
from archdsl.common.escaping import docstring

WIDTH = 88

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
    written = "\n".join(_written(pipeline.steps, pipeline.channels, 3))
    helpers = [DRAWING]
    helpers += [text for word, text in (("Moved", MOVED), ("Recoloured", RECOLOURED)) if f"{word}(" in written]
    helpers += [ONE_OF] if "OneOf(" in written else []
    blocks = (*(h.strip("\n") for h in helpers), _class(pipeline, name, written))
    return Companion(name, frozenset({name, *HELPERS}), blocks)


IMPORTS = """from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn
"""


def write_alone(companion: Companion) -> str:
    """A file of the augmentation alone."""
    return "\n\n\n".join([IMPORTS.rstrip("\n"), *companion.blocks]) + "\n"


def class_name(name: str, model: str) -> str:
    """The name in CamelCase, longer where it is the model's or one of Python or of the helpers."""
    found, other = ("".join(w[:1].upper() + w[1:] for w in n.split("_")) for n in (name, model))
    taken = found == other or keyword.iskeyword(found) or found in (*HELPERS, "Tensor", "Factory", "")
    return f"{found}Augmentation" if taken else found


def _class(pipeline: Pipeline, name: str, written: str) -> str:
    kornia = "        import kornia.augmentation as K  # here: the model runs without it\n\n" if "K." in written else ""
    changes = f"nn.Sequential(\n{written}\n        )" if written else "nn.Sequential()"
    size = pipeline.channels
    return CLASS.format(
        name=name,
        doc=_docstring(pipeline),
        kornia=kornia,
        changes=changes,
        size=size,
    ).strip("\n")


def _docstring(pipeline: Pipeline) -> str:
    """The changes as the spec writes them, below its own words, as the inside of a docstring."""
    first = " ".join((pipeline.doc or "Changes that preserve labels.").split())
    lines = [*textwrap.wrap(docstring(first), WIDTH - 10), ""]
    for line in pipeline.text():
        lines += textwrap.wrap(docstring(line), WIDTH - 8, initial_indent="    ", subsequent_indent="        ")
    return "\n".join(f"    {line}".rstrip() for line in lines).strip()


# ---------------------------------------------------------------- steps


def _written(steps: tuple[Step, ...], channels: int, depth: int) -> Iterator[str]:
    """The lines of modules that do the steps in order; neighbours of one kind share one."""
    indent = "    " * depth
    run: list[KorniaCall] = []
    moving = False

    def close() -> Iterator[str]:
        if not run:
            return
        if moving:
            yield f"{indent}Moved("
            yield f"{indent}    K.AugmentationSequential("
            yield from _calls(run, depth + 2)
            yield f"{indent}    )"
        else:
            yield f"{indent}Recoloured("
            yield from _calls(run, depth + 1)
        yield f"{indent}),"
        run.clear()

    for step in _fused(steps):
        if isinstance(step, OneOf):
            yield from close()
            yield f"{indent}OneOf("
            for chain in step.alternatives:
                inner = list(_written(chain, channels, depth + 1))
                if sum(not line[len(indent) + 4 :].startswith((" ", ")")) for line in inner) == 1:
                    yield from inner
                    continue
                yield f"{indent}    nn.Sequential("
                yield from (f"    {line}" for line in inner)
                yield f"{indent}    ),"
            yield f"{indent}),"
            continue
        moves = isinstance(step, tuple) or step.moves
        forms = (affine_call(step),) if isinstance(step, tuple) else step.forms(channels)
        if moves != moving:
            yield from close()
            moving = moves
        run.extend(forms)
    yield from close()


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


def _calls(forms: list[KorniaCall], depth: int) -> Iterator[str]:
    indent = "    " * depth
    for form in forms:
        arguments = [f"{a.name}={_literal(a.value)}" for a in form.arguments]
        line = f"{indent}K.{form.constructor}({', '.join(arguments)}),"
        if len(line) <= WIDTH:
            yield line
            continue
        yield f"{indent}K.{form.constructor}("
        flat = f"{indent}    {', '.join(arguments)}"
        yield from [flat] if len(flat) <= WIDTH else [f"{indent}    {a}," for a in arguments]
        yield f"{indent}),"


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
