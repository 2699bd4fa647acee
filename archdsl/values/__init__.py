"""The values of a spec: numbers, lists, blocks, functions; and the evaluation of expressions."""

from archdsl.values.arithmetic import DEMAND
from archdsl.values.binding import Bound, Misbound, Signature, bind, complete, name_span
from archdsl.values.builtins import BUILTINS
from archdsl.values.evaluation import arguments_of, evaluate, values_in, word_or_value
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
    SharedValue,
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
    "Bound",
    "Defaults",
    "Failure",
    "FunctionValue",
    "MemberValue",
    "Misbound",
    "Namespace",
    "OperationValue",
    "Poisoned",
    "SharedValue",
    "Signature",
    "TensorValue",
    "Thunk",
    "arguments_of",
    "bind",
    "complete",
    "describe",
    "evaluate",
    "integer",
    "literal",
    "name_span",
    "sequence",
    "truth",
    "values_in",
    "word_or_value",
]
