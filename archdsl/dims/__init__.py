"""Exact symbolic sizes: how networks change a free input size, when two sizes are equal, and the valid input sizes."""

from archdsl.dims.errors import DimError
from archdsl.dims.expressions import Dim, Expr, ceil_div, evaluate, free, maximum, minimum, substitute
from archdsl.dims.regions import AnyOf, Choice, Demanded, Region, any_of, describe_sizes
from archdsl.dims.sets import SizeSet
from archdsl.dims.solving import Constraint, at_least, divisible, equal, exact_div
from archdsl.dims.wording import linear, python, text

__all__ = [
    "AnyOf",
    "Choice",
    "Constraint",
    "Demanded",
    "Dim",
    "DimError",
    "Expr",
    "Region",
    "SizeSet",
    "any_of",
    "at_least",
    "ceil_div",
    "describe_sizes",
    "divisible",
    "equal",
    "evaluate",
    "exact_div",
    "free",
    "linear",
    "maximum",
    "minimum",
    "python",
    "substitute",
    "text",
]
