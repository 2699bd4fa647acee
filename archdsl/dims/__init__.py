"""Exact symbolic sizes: how networks change a free input size, when two sizes are equal, and the valid input sizes."""

from archdsl.dims.deciding import at_least, divisible, equal, exact_div, quotient
from archdsl.dims.errors import DimError
from archdsl.dims.expr import Dim, Expr, free_sizes
from archdsl.dims.expressions import Single, free, name_of
from archdsl.dims.products import (
    Polynomial,
    ceil_div,
    evaluate,
    maximum,
    minimum,
    positive_factors,
    products,
    substitute,
)
from archdsl.dims.regions import AllOf, AnyOf, Choice, Demanded, Region, any_of, describe_sizes
from archdsl.dims.sets import SizeSet
from archdsl.dims.solving import Constraint
from archdsl.dims.wording import linear, python, text

__all__ = [
    "AllOf",
    "AnyOf",
    "Choice",
    "Constraint",
    "Demanded",
    "Dim",
    "DimError",
    "Expr",
    "Polynomial",
    "Region",
    "Single",
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
    "free_sizes",
    "linear",
    "maximum",
    "minimum",
    "name_of",
    "positive_factors",
    "products",
    "python",
    "quotient",
    "substitute",
    "text",
]
