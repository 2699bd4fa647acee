"""The code lenses above a model or block: its numbers, and the call whose sizes are shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from archdsl.common.source import Span
from archdsl.common.units import count_text, counted
from archdsl.editing.alone import why_not
from archdsl.editing.analysis import Analysis
from archdsl.editing.sizes import Call, Calls, definitions
from archdsl.syntax import tree

Lens = Literal["numbers", "draw", "call"]


@dataclass(frozen=True, slots=True)
class LensPlace:
    """The place and kind of a lens, and its model or block."""

    span: Span
    lens: Lens
    name: str


def lenses(analysis: Analysis) -> Iterator[LensPlace]:
    """The lenses of a document."""
    models = analysis.spec_file.models
    complete = {*analysis.models, *analysis.waiting}
    for declaration in analysis.syntax.declarations:
        if isinstance(declaration, tree.Model | tree.Member) and declaration.name.name in models:
            name = declaration.name
            if name.name in complete:
                yield LensPlace(name.span, "numbers", name.name)
                yield LensPlace(name.span, "draw", name.name)
        if isinstance(declaration, tree.Block) or (
            isinstance(declaration, tree.Model) and declaration.name.name not in complete
        ):
            yield LensPlace(declaration.name.span, "call", declaration.name.name)


def numbers(analysis: Analysis, name: str) -> str:
    """`25,557,032 parameters · 4.09 G MACs at H = 224, W = 224 · any H, W`; why not, if the model is wrong."""
    model = analysis.models.get(name)
    layers = model.layers if model is not None else None
    if layers is None:
        return "has errors"
    total = layers.costs.total
    at = f" at {layers.at}" if layers.graph.free else ""
    parts = [counted(total.parameters, "parameter"), f"{count_text(total.macs)} MACs{at}", layers.graph.valid]
    return " · ".join(part for part in parts if part)


def call_title(calls: Calls, name: str) -> str:
    """`sizes of layer1.0 of resnet50 (1 of 16 calls)`."""
    shown, found = calls.shown(name), calls.of.get(name, [])
    if shown is None:
        return _why_unknown(calls.analysis, name)
    at = found.index(shown) + 1
    return f"sizes of {shown.title}" + (f" ({at} of {len(found)} calls)" if len(found) > 1 else "")


def _why_unknown(analysis: Analysis, name: str) -> str:
    """Why a block has no sizes."""
    block = next((d for d in definitions(analysis.syntax) if d.name.name == name), None)
    if not isinstance(block, tree.Block) or analysis.spec_file.models:
        return "no sizes: no model of this file calls it"
    return f"no sizes: no model calls it here, and {why_not(block)[0] or 'it has errors'}"


def next_call(calls: Calls, name: str) -> Call | None:
    """The next call of a block whose tensors have other sizes than those of the one shown; None if there is none."""
    shown, found = calls.shown(name), calls.of.get(name, [])
    if shown is None:
        return None
    at = found.index(shown)
    flows = {id(c): (c.sizes(c.scope.inputs), c.sizes(c.scope.outputs)) for c in found}
    others = [c for c in (*found[at + 1 :], *found[:at]) if flows[id(c)] != flows[id(shown)]]
    return next(iter(others), None)
