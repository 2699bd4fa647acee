"""The check of arguments: what each type of parameter takes, and what a declaration is."""

from __future__ import annotations

import copy
import pickle
from typing import Annotated, Any, Literal

import pytest

from archdsl.ops import OPERATIONS
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import Count, Number, Numbers, Pad, Positive, Size, Switch
from archdsl.ops.validation import Accepts, checker


@pytest.mark.parametrize(
    ("annotation", "value", "taken"),
    [
        (Count, 3, 3),
        (Number, 3, 3.0),
        (Positive | None, None, None),
        (Size, [3, 1], (3, 1)),
        (Pad, "same", "same"),
        (Numbers, [[1, -1]], ((1, -1),)),
        (tuple[Count, Count], (7, 7), (7, 7)),
        (Switch | Annotated[tuple[Switch, ...], Accepts(shortest=2)], (True, False), (True, False)),
        (Literal[1, "a"], 1, 1),
    ],
)
def test_a_value_that_fits(annotation: Any, value: object, taken: object) -> None:
    found = checker(annotation)(value)
    assert found == taken and type(found) is type(taken)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Count, 0),
        (Count, True),
        (Count, 1.0),
        (Count, "1"),
        (Count, None),
        (Switch, 1),
        (Number, True),
        (Number, float("nan")),
        (Number, float("inf")),
        (Number, "1"),
        (Positive, 0),
        (Size, ()),
        (Size, (1,) * 9),
        (Size, "33"),
        (Size, (3, True)),
        (Size, {3: 1}),
        (Pad, "sam"),
        (Pad, ["same"]),
        (Numbers, [[1], [1, 2]]),
        (Numbers, []),
        (tuple[Count, Count], (7,)),
        (Literal[1, "a"], True),
        (Literal[1, "a"], [1]),
    ],
)
def test_a_value_that_does_not_fit(annotation: Any, value: object) -> None:
    with pytest.raises(ValueError):
        checker(annotation)(value)


def test_operations_are_frozen_values() -> None:
    conv = OPERATIONS["conv"]
    one, same, other = conv(out=8, kernel=3), conv(out=8, kernel=3, stride=1), conv(out=8, kernel=1)
    assert one == same and hash(one) == hash(same) and one != other
    assert one.changed(kernel=1) == other and one == same
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(AttributeError):
        one.kernel = 1  # type: ignore[attr-defined]


def test_every_wrong_argument_is_reported() -> None:
    with pytest.raises(OperationError) as caught:
        OPERATIONS["conv"].parse({"kernel": 0, "self": 1})
    assert [e.parameter for e in (caught.value, *caught.value.also)] == [None, "kernel", "self"]  # `out` is missing
