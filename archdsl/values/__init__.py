"""The values of a spec: numbers, lists, blocks, functions; and the evaluation of expressions."""

from archdsl.values.arithmetic import DEMAND
from archdsl.values.builtins import BUILTINS
from archdsl.values.evaluation import bind, evaluate
from archdsl.values.kinds import (
    FAILED,
    AugmentValue,
    BlockValue,
    Defaults,
    Failure,
    FunctionValue,
    MemberValue,
    Namespace,
    OperationValue,
    Poisoned,
    TensorValue,
    Thunk,
    describe,
    integer,
    literal,
    sequence,
    truth,
)

__all__ = [
    "BUILTINS",
    "DEMAND",
    "FAILED",
    "AugmentValue",
    "BlockValue",
    "Defaults",
    "Failure",
    "FunctionValue",
    "MemberValue",
    "Namespace",
    "OperationValue",
    "Poisoned",
    "TensorValue",
    "Thunk",
    "bind",
    "describe",
    "evaluate",
    "integer",
    "literal",
    "sequence",
    "truth",
]
