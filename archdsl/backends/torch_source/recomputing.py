"""How a `forward` calls the functions that recompute layers in series, and layers of a class within.

The latter are called by attributes where these have types, otherwise by their paths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from archdsl.backends.python import tree as py
from archdsl.backends.python.templates import code
from archdsl.backends.python.tree import call
from archdsl.backends.torch_source.cells import Borrowed, Cell, Step
from archdsl.backends.torch_source.file import File
from archdsl.backends.torch_source.flow import Call
from archdsl.backends.torch_source.fold import Leaf, leaves
from archdsl.backends.torch_source.helpers import ALIGNED, BRANCHED, IN_SERIES, JOINED, MEMBER, OF_FEATURES
from archdsl.backends.torch_source.names import is_owned
from archdsl.backends.torch_source.plan import Plan
from archdsl.ops.forms import FunctionForm

RECOMPUTED_LAYERS = "recomputed_layers"
"""The function that recomputes layers in series."""
RECOMPUTED_FEATURES = "recomputed_features"
"""The one that does so for the layers at the start of a dense connection's body."""
RECOMPUTED_JOIN = "recomputed_join"
"""The one that does so for layers with a concat among them."""
RECOMPUTED_ALIGNED_JOIN = "recomputed_aligned_join"
"""The one that does so for layers with a concat behind an align among them."""
RECOMPUTED_BRANCH = "recomputed_branch"
"""The one that gives what is between two of the layers, too."""


def recomputed(file: File, call: Call, operands: Sequence[py.Expr], layers: Sequence[Borrowed | py.Expr]) -> py.Expr:
    """The call of layers that are recomputed together: of those of `call`, as `layer` says them."""
    those = called(file, layers)
    if len(call.outputs) > 1:
        file.helper(BRANCHED)
        return py.Call(py.Var(RECOMPUTED_BRANCH), (*operands, *those))
    if len(operands) == 1:
        file.helper(IN_SERIES)
        return py.Call(py.Var(RECOMPUTED_LAYERS), (*operands, *those))
    at = call.flow % len(operands)
    taken = py.Tuple(tuple(operands[:at])), operands[at], py.Tuple(tuple(operands[at + 1 :]))
    aligns = [align for leaf in call.leaves if (align := _align(leaf)) is not None]
    if not aligns:
        file.helper(JOINED)
        return py.Call(py.Var(RECOMPUTED_JOIN), (*taken, *those))
    (align,) = aligns
    file.helper(align.helper or "")
    file.helper(ALIGNED)
    function = align.template.removesuffix("({all})")
    return py.Call(py.Var(RECOMPUTED_ALIGNED_JOIN), (py.Var(function), *taken, *those))


def _align(leaf: Leaf) -> FunctionForm | None:
    """The function that makes the sizes of tensors equal before a concat, if that is what a leaf does."""
    form = leaf.steps[0].form
    return form if isinstance(form, FunctionForm) and form.results > 1 else None


def of_features(file: File, layers: Sequence[py.Expr]) -> py.Expr:
    """The call of the layers at the start of a dense connection's body."""
    file.helper(OF_FEATURES)
    return py.Call(py.Var(RECOMPUTED_FEATURES), (py.Var("features"), *layers))


def layer(leaf: Leaf, access: Callable[[Leaf], py.Expr]) -> list[Borrowed | py.Expr]:
    """A layer that is recomputed with others: a member, or one of a member.

    None stands for a concat, and follows a layer whose result is needed elsewhere, too. An align goes with the concat.
    """
    step, nothing = leaf.steps[0], py.Const(None)
    if _align(leaf) is not None:
        return []
    if isinstance(step.form, FunctionForm) and not isinstance(step.member, Borrowed):
        return [nothing]
    found = step.member if isinstance(step.member, Borrowed) else access(leaf)
    return [found, *([nothing] if step.given else [])]


def called(file: File, layers: Sequence[Borrowed | py.Expr]) -> list[py.Expr]:
    """The expressions of layers: those of one nn.Sequential as a part of its list."""
    found: list[py.Expr] = []
    for _, group in groupby(layers, key=lambda layer: _sequence(file, layer)):
        those = list(group)
        first, last = those[0], those[-1]
        around = _attributes(file, first.way[:-1]) if isinstance(first, Borrowed) else None
        if len(those) == 1 or around is None or not isinstance(first, Borrowed) or not isinstance(last, Borrowed):
            found += [_layer(file, layer) if isinstance(layer, Borrowed) else layer for layer in those]
            continue
        cell, step = last.way[-1]
        start, end = int(first.way[-1][1].name), int(step.name) + 1
        part = f"[{start or ''}:{end if end < len(cell.steps) else ''}]"
        found.append(py.Star(code(f"list({{0}}){part}", around)))
    return found


def _sequence(file: File, layer: Borrowed | py.Expr) -> object:
    """The nn.Sequential that a layer is an element of; the layer itself if it is none."""
    cell = layer.way[-1][0] if isinstance(layer, Borrowed) else None
    return cell if cell is not None and _is_list(_plan(file, cell), cell) else layer


def _layer(file: File, borrowed: Borrowed) -> py.Expr:
    around = _attributes(file, borrowed.way[:-1])
    cell, step = borrowed.way[-1]
    plan = _plan(file, cell)
    attribute = _attribute(file, plan, step)
    if around is not None and attribute is not None:
        return py.Attribute(around, attribute)
    if around is not None and _is_list(plan, cell):
        return code(f"{{0}}[{step.name}]", around)
    names = [*(s.name for _, s in borrowed.way[:-1]), attribute or step.name]
    if not any(map(is_owned, names)):
        return call("self.get_submodule", py.Const(".".join(names)))
    file.helper(MEMBER)
    return call("member", py.Var("self"), *map(py.Const, names))


def _attributes(file: File, way: Sequence[tuple[Cell, Step]]) -> py.Expr | None:
    """The module at the end of a way of attributes with types of their own; None if it has none."""
    found: py.Expr = py.Var("self")
    for cell, step in way:
        attribute = _attribute(file, _plan(file, cell), step)
        if attribute is None:
            return None
        found = py.Attribute(found, attribute)
    return found


def _attribute(file: File, plan: Plan | None, step: Step) -> str | None:
    """The attribute of a class that a member is, if it is one."""
    for leaf in leaves(plan.entries) if plan is not None else ():
        found = file.attributes.get(plan, {}).get(leaf) if step in leaf.steps and plan is not None else None
        if isinstance(found, py.Attribute) and found.base == py.Var("self"):
            return found.name
    return None


def _plan(file: File, cell: Cell) -> Plan | None:
    """The class of a cell; None if it is written in place."""
    return next((plan for plan in file.names if cell in plan.cells), None)


def _is_list(plan: Plan | None, cell: Cell) -> bool:
    """Whether a cell is an nn.Sequential that numbers its members."""
    return cell.positional and cell.chain and (plan is None or plan.flow is None)
