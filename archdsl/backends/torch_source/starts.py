"""How the weights of a generated module start, where the spec says so.

Where all modules of a type start alike, one loop in the model's constructor sees to it, as in torchvision. Else it
is where the member is made: a statement behind an attribute, a helper around a constructor within an expression.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

from archdsl.backends.python import tree as py
from archdsl.backends.python.templates import code
from archdsl.backends.python.tree import call, name
from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.fold import Leaf, leaves
from archdsl.backends.torch_source.names import is_attribute
from archdsl.backends.torch_source.plan import Made, Plan
from archdsl.ops.forms import ModuleForm, Start
from archdsl.ops.init import RULES

Init: TypeAlias = tuple[str, py.Expr | None]
"""A rule, and the standard deviation where it takes one."""


def init_of(made: Made) -> Init | None:
    """How the weight of a member starts, None where PyTorch's own way will do."""
    start = made.form.start if isinstance(made.form, ModuleForm) else None
    return (start.rule, made.std) if start is not None else None


def everywhere(plans: Iterable[Plan]) -> dict[str, Init]:
    """The types of which all modules of a model start alike, with how."""
    found: dict[str, list[tuple[Plan, Leaf]]] = {}
    held: set[str] = set()
    for plan in plans:
        for leaf in leaves(plan.entries, inside=True):
            made = plan.made.get(leaf)
            if made is None or not isinstance(made.form, ModuleForm) or not made.form.factory:
                continue
            forms = [s.form for s in leaf.steps] if made.layer is not None else [made.form]
            for kind in {form.kind for form in forms if isinstance(form, ModuleForm)}:
                found.setdefault(kind, []).append((plan, leaf))
            held.update(kind for form in forms if isinstance(form, ModuleForm) for kind in form.holds)
    alike: dict[str, Init] = {}
    for kind, members in found.items():
        if kind in held:  # a loop over all modules would meet those, too, which start in a way of their own
            continue
        one, *others = {init_of(plan.made[leaf]) for plan, leaf in members}
        if others or one is None or not isinstance(one[1], py.Const | None):
            continue
        if len(members) > 1 or not is_statement(*members[0]):
            alike[kind] = one
    return alike


def is_statement(plan: Plan, leaf: Leaf) -> bool:
    """Whether a statement behind a member can say how it starts: an attribute, with a bias only where it always is."""
    made = plan.made[leaf]
    assert isinstance(made.form, ModuleForm)
    plain = leaf in plan.entries and not (made.form.fill or made.form.frozen)
    named = len(made.name) == 1 and isinstance(made.name[0], str) and is_attribute(made.name[0])
    return plain and named and (not is_biased(leaf) or is_typed(leaf))


def is_biased(leaf: Leaf) -> bool:
    """Whether the module has a bias in some calls."""
    return any(start.bias for start in _starts(leaf))


def is_typed(leaf: Leaf) -> bool:
    """Whether the module has a bias in all calls, and type checkers know of it."""
    return all(start.bias and start.typed for start in _starts(leaf))


def _starts(leaf: Leaf) -> list[Start]:
    return [s.form.start for s in leaf.steps if isinstance(s.form, ModuleForm) and s.form.start is not None]


def filling(start: Init, weight: py.Expr, names: Mapping[str, str]) -> py.Statement:
    """PyTorch's call that fills a weight."""
    rule, std = start
    return py.Do(code(RULES[rule].call, weight, std=ex.named(std, names) if std is not None else None))


def without(bias: py.Expr) -> py.Statement:
    """The call that lets a bias start from 0."""
    return py.Do(code("nn.init.zeros_({0})", bias))


def helper(start: Init) -> py.Function:
    """The function that a module goes through where it is made."""
    rule, std = start
    module, parameter = py.Var("module"), py.Var("parameter")
    fill = filling((rule, py.Var("std") if std is not None else None), parameter, {})
    if rule == "zeros":
        loop = py.For(parameter, code("module.parameters()"), [fill])
    else:
        tests: list[tuple[py.Expr | None, list[py.Statement]]] = [
            (code('name == "weight"'), [fill]),
            (None, [without(parameter)]),
        ]
        loop = py.For(py.Row((py.Var("name"), parameter)), code("module.named_parameters()"), [py.Branches(tests)])
    return py.Function(
        f"init_{rule}",
        [
            py.Parameter("module", name("nn.Module")),
            *([py.Parameter("std", py.Var("float"))] if std is not None else []),
        ],
        name("nn.Module"),
        [py.Doc(RULES[rule].says), loop, py.Do(module, "return")],
    )


def model_loop(alike: Mapping[str, Init], biased: Collection[str], typed: Collection[str], module: py.Var) -> py.For:
    """The loop over all modules of a model.

    `biased` are the types of which some have a bias, `typed` those of which all have one that type checkers know of.
    """
    by_init: dict[tuple[Init, bool], list[str]] = {}
    for kind, start in alike.items():
        by_init.setdefault((start, kind in biased), []).append(kind)
    branches: list[tuple[py.Expr | None, list[py.Statement]]] = []
    bias = py.Attribute(module, "bias")
    for (start, with_bias), kinds in by_init.items():
        types = name(kinds[0]) if len(kinds) == 1 else py.Tuple(tuple(map(name, kinds)))
        body = [filling(start, py.Attribute(module, "weight"), {})]
        if all(kind in typed for kind in kinds):  # others may have None for all that type checkers know
            body.append(without(bias))
        elif with_bias:
            body.append(py.Branches([(code("{0} is not None", bias), [without(bias)])]))
        branches.append((call("isinstance", module, types), body))
    return py.For(module, code("self.modules()"), [py.Branches(branches)])
