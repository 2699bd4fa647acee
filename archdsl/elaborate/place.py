"""Where elaboration is in a spec: what flows, the names in sight, and the scope of paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from archdsl.common.source import Span
from archdsl.graph import Scope, Tensor
from archdsl.syntax import tree
from archdsl.values import FAILED, Failure, Namespace, TensorValue

Flow: TypeAlias = tuple[Tensor, ...]

POISONED_TENSOR: Final = Tensor(-1)
"""The result of something that failed and was reported."""


@dataclass(slots=True, eq=False)
class LabelValue:
    """The tensors of a label."""

    flow: Flow
    span: Span
    tensor_value: Callable[[Flow], TensorValue]

    def value(self) -> TensorValue:
        """The label as a value. Raises Poisoned if its tensor failed."""
        return self.tensor_value(self.flow)


@dataclass(slots=True, eq=False)
class Place:
    """The state at a statement: the scope for paths, the names in scope, the defaults in force, the flow."""

    scope: Scope
    names: Namespace
    defaults: dict[str, dict[str, object]]
    flow: Flow
    pending: list[tuple[str, LabelValue]] = field(default_factory=list)
    started: bool = False
    root: bool = False
    inflow: Flow = ()
    output: tree.Output | None = None
    named: Flow | None = None
    """What an `output` names, once there is one."""

    @property
    def result(self) -> Flow:
        """What the body gives: what its `output` names, also if items follow, else what flows at its end."""
        return self.flow if self.named is None else self.named

    def lose(self) -> None:
        """Goes on with nothing known of what flows."""
        self.flow = (POISONED_TENSOR,)
        self.names.it = FAILED
        self.names.poisoned = True


def check_label(name: str, span: Span, place: Place) -> None:
    if name == "it":
        raise Failure("E0106", "`it` is reserved for the incoming tensor", span)
    if place.root and name in place.scope.input_names:
        raise Failure("E0208", f"`{name}` is the name of an input", span, "choose another label")
    value = place.names.find(name)
    # A label may share the name of a block or model: then using the bare name is an error.
    if value is not None and not place.names.declares_block(name):
        raise Failure(
            "E0209",
            f"`{name}` is the name of a value here, so it cannot be a label",
            span,
            f'quote it: `"{name}":`',
        )


def check_path(text: str, span: Span) -> None:
    """A quoted label: parts of letters, digits, `_` and `-`, joined by dots. Raises Failure.

    Only ASCII, so that no two paths look alike or differ only in Unicode normalisation.
    """
    for part in text.split("."):
        if not part or not part.isascii() or not all(c.isalnum() or c in "_-" for c in part):
            shown = text if len(text) <= 60 else text[:60] + "…"
            raise Failure(
                "E0226",
                f"`{shown}` is not a valid path: use letters a to z, digits, `_` and `-`, joined by dots",
                span,
            )


def label_names(names: Namespace) -> set[str]:
    space: Namespace | None = names
    found: set[str] = set()
    while space is not None:
        found.update(space.labels)
        space = space.outer
    return found


def copy_defaults(defaults: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
    return {k: dict(v) for k, v in defaults.items()}
