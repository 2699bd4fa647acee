"""The proof of an augmentation: its text makes the changes of the spec, in their order."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from typing import Any

from archdsl.augment.base import Affine, Change, KorniaCall, OneOf, Pipeline, Step
from archdsl.augment.place import affine_call
from archdsl.augment.texts import CLASS, DRAWING, MOVED, ONE_OF, RECOLOURED
from archdsl.proof.errors import Unproved
from archdsl.proof.kornia import Called
from archdsl.proof.modules import Module, Sequential
from archdsl.proof.reader import parsed

FLOW = {text.split()[1].split("(")[0]: text for text in (MOVED, RECOLOURED, ONE_OF)}
"""The modules that images pass through, by name, with their texts."""


TEXTS = (DRAWING, *FLOW.values())
"""The declared definitions that a file with an augmentation may contain."""


def flow(name: str) -> Any:
    """The stand-in for a module that images pass through."""
    return lambda *args: Called(name, args, {})


def compare(pipeline: Pipeline, definition: ast.ClassDef, made: Any, known: Collection[str]) -> None:
    """Compares the class of an augmentation, and an instance of it, with its pipeline. Raises Unproved.

    `known` are the definitions next to it, as declared.
    """
    for name in ("drawing", "given_back"):
        if name not in known:
            raise Unproved(f"has another `{name}` than archdsl writes")
    text = CLASS.format(name=definition.name, doc="", changes="        pass", size=pipeline.channels)
    (declared,) = parsed(text).body
    assert isinstance(declared, ast.ClassDef)
    ours, theirs = _methods(declared), _methods(definition)
    if [d for d in ours if "def __init__" not in d] != [d for d in theirs if "def __init__" not in d]:
        raise Unproved(f"has another `{definition.name}` than archdsl writes")
    changes = made._modules.get("changes")
    if not isinstance(changes, Sequential) or list(made._modules) != ["changes"]:
        raise Unproved(f"makes `{definition.name}` of something else than its changes")
    if list(_found(changes)) != list(_wanted(pipeline.steps, pipeline.channels)):
        raise Unproved(f"makes other changes of pictures than `augment {pipeline.name}`")


def _methods(definition: ast.ClassDef) -> list[str]:
    return [
        ast.unparse(s) for s in definition.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
    ]


def _found(module: Module) -> Iterator[object]:
    """The changes that a module makes, in order."""
    if isinstance(module, Sequential):
        for member in module:
            yield from _found(member)
        return
    match module:
        case Called(name="Moved", args=(Called(name="AugmentationSequential", args=calls, kwargs={}),)):
            yield from (("moved", _call(c)) for c in calls)
        case Called(name="Recoloured", args=calls):
            yield from (("recoloured", _call(c)) for c in calls)
        case Called(name="OneOf", args=alternatives):
            yield ("one of", tuple(tuple(_found(a)) for a in alternatives))
        case _:
            raise Unproved("makes a change of pictures that is none")


def _call(call: Called) -> object:
    if call.args:
        raise Unproved(f"calls {call.name} by position")
    return (call.name, tuple(sorted(call.kwargs.items())))


def _wanted(steps: tuple[Step, ...], channels: int) -> Iterator[object]:
    """The changes of a pipeline. Adjacent ones that form one affine transformation sample the image once."""
    run: list[Affine] = []
    for step in (*steps, None):
        part = step.affine() if isinstance(step, Change) else None
        if run and (part is None or any(p.parameter == part.parameter or p.pad != part.pad for p in run)):
            yield ("moved", _call_value(affine_call(tuple(run))))
            run = []
        if part is not None:
            run.append(part)
        elif isinstance(step, OneOf):
            yield ("one of", tuple(tuple(_wanted(chain, channels)) for chain in step.alternatives))
        elif step is not None:
            kind = "moved" if step.moves else "recoloured"
            yield from ((kind, _call_value(form)) for form in step.forms(channels))


def _call_value(form: KorniaCall) -> object:
    return (form.constructor, tuple(sorted((a.name or "", a.value) for a in form.arguments)))
