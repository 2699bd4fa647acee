"""Attributes of a module that hold what its `forward` needs of the constructor's parameters."""

from __future__ import annotations

from dataclasses import dataclass, field

from archdsl.backends.python import tree as py
from archdsl.backends.python.printer import text
from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.names import MODULE_ATTRIBUTES, unique
from archdsl.backends.torch_source.scope import Scope


@dataclass(slots=True, eq=False)
class Attributes:
    """`scope` has the names of the constructor, `taken` all attributes of the class."""

    scope: Scope
    taken: set[str]
    stored: dict[str, tuple[str, py.Expr]] = field(default_factory=dict)
    """The attribute of each value, by the value's text, with the value."""

    def store(self, name: str, expr: py.Expr) -> py.Expr:
        """The attribute that holds a value; one for each value."""
        value = self.scope.value(expr)
        if text(value) not in self.stored:
            # An attribute must not hide one that every module has: `apply`, `_modules`.
            found = unique(name.lstrip("_") or "value", self.taken | MODULE_ATTRIBUTES)
            self.taken.add(found)
            self.stored[text(value)] = (found, value)
        return py.Attribute(py.Var("self"), self.stored[text(value)][0])

    def store_parameter(self, parameter: str) -> py.Expr:
        """The attribute that holds a parameter."""
        return self.store(self.scope.names[parameter], py.Var(parameter))

    def test(self, condition: py.Expr) -> py.Expr | None:
        """A condition on one parameter as `forward` asks it: `self.stride > 1`."""
        match condition:
            case py.Var(name) | py.Binary("==" | "!=" | "<" | "<=" | ">" | ">=", py.Var(name), py.Const()):
                if name in {p.name for p in self.scope.plan.parameters}:
                    return ex.named(condition, {name: self.store_parameter(name)})
            case _:
                pass
        return None
