"""The types of operation parameters, and descriptions of invalid values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, get_args, get_origin

from archdsl import dims
from archdsl.dims import Dim, Expr, SizeSet
from archdsl.ops.init import Drawn
from archdsl.ops.validation import Accepts

LARGEST = 2**31 - 1
"""The largest number that a parameter accepts, also as a float: more than any layer needs, within PyTorch's limits."""

# The description of each type completes a message: "`stride` must be <description>; got -1".
Count = Annotated[int, Accepts("an int of at least 1", ge=1, le=LARGEST)]
Index = Annotated[int, Accepts("an int of at least 0", ge=0, le=LARGEST)]
Whole = Annotated[int, Accepts("an int", ge=-LARGEST, le=LARGEST)]
Parts = Annotated[int, Accepts("an int from 2 to 4096", ge=2, le=4096)]
Switch = Annotated[bool, Accepts("`true` or `false`")]
Number = Annotated[float, Accepts("a number", ge=-LARGEST, le=LARGEST)]
Positive = Annotated[float, Accepts("a number above 0", gt=0, le=LARGEST)]
Probability = Annotated[float, Accepts("a number from 0 to 1", ge=0, le=1)]
Fraction = Annotated[float, Accepts("a number from 0 to below 1", ge=0, lt=1)]

Size = Annotated[
    Count | Annotated[tuple[Count, ...], Accepts(shortest=1, longest=8)],
    Accepts("an int of at least 1 or a size such as 3x3"),
]
Margin = Annotated[
    Index | Annotated[tuple[Index, ...], Accepts(shortest=1, longest=8)],
    Accepts("an int of at least 0 or a size such as 1x3"),
]
Pad = Annotated[
    Margin | Literal["valid", "same", "same_upper", "full"],
    Accepts("an int of at least 0, a size such as 1x3, `valid`, `same`, `same_upper` or `full`"),
]
ConvPad = Annotated[
    Margin | Literal["valid", "same", "same_upper", "full", "causal"],
    Accepts("an int of at least 0, a size such as 1x3, `valid`, `same`, `same_upper`, `full` or `causal`"),
]
UpPad = Annotated[
    Margin | Literal["valid", "same", "full"],
    Accepts("an int of at least 0, a size such as 1x3, `valid`, `same` or `full`"),
]
Target = Annotated[
    Count | Expr | Annotated[tuple[Count | Expr, ...], Accepts(shortest=1, longest=8)],
    Accepts("an int of at least 1, a size such as 32x32, or the size of a tensor such as `x.size`"),
]
Init = Annotated[
    Literal["he", "he_uniform", "he_fan_out", "xavier", "xavier_uniform", "lecun", "zeros"] | Drawn | None,
    Accepts(
        "`none`, `he`, `he_uniform`, `he_fan_out`, `xavier`, `xavier_uniform`, `lecun`, `zeros`, "
        "`normal(std)` or `truncated_normal(std)`"
    ),
]
AffineInit = Literal["ones", "zeros"]


def _nested(value: object) -> object:
    """Nested lists of numbers as nested tuples; ValueError if they are ragged, empty or contain anything else."""
    if value is None:
        return None
    frozen, _ = _freeze(value)
    if not isinstance(frozen, tuple):
        raise ValueError("not a list")
    return frozen


def _freeze(value: object) -> tuple[object, tuple[int, ...]]:
    if isinstance(value, (list, tuple)):
        items = [_freeze(v) for v in value]
        if not items or any(shape != items[0][1] for _, shape in items):
            raise ValueError("ragged or empty")
        return tuple(item for item, _ in items), (len(items), *items[0][1])
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
        raise ValueError("not a number, or too large a one")
    return value, ()


Numbers = Annotated[
    tuple[object, ...] | None,
    Accepts("a list of numbers, nested once for each spatial axis, such as [[1, -1]]", convert=_nested),
]


def nested_size(numbers: tuple[object, ...]) -> tuple[int, ...]:
    """The size of nested tuples of numbers: (1, 2) for ((1, -1),)."""
    return _freeze(numbers)[1]


def matrix_text(numbers: tuple[object, ...]) -> str:
    """Nested numbers in short: `[1 −1]`, and `[1 2; 3 4]` with its rows one after the other."""

    def text(value: object) -> str:
        return " ".join(map(text, value)) if isinstance(value, tuple) else f"{value:g}".replace("-", "−")

    rows = numbers if isinstance(numbers[0], tuple) else (numbers,)
    return f"[{'; '.join(map(text, rows))}]"


def flattened(numbers: tuple[object, ...]) -> tuple[float, ...]:
    """The numbers of nested tuples, in order."""
    return tuple(n for part in numbers for n in (flattened(part) if isinstance(part, tuple) else (part,)))  # type: ignore[misc]


def words_of(annotation: object) -> Iterator[str]:
    """The strings of every Literal in an annotation, in order."""
    if get_origin(annotation) is Literal:
        yield from (w for w in get_args(annotation) if isinstance(w, str))
    else:
        for part in get_args(annotation):
            yield from words_of(part)


def described(annotation: object) -> str | None:
    """The description of the first type in a union: that of Size in `Size | None`."""
    for part in get_args(annotation):
        if isinstance(part, Accepts) and part.description:
            return part.description
    return next((text for part in get_args(annotation) if (text := described(part))), None)


def one_of(words: Sequence[str]) -> str:
    """`a`, `b` or `c`."""
    quoted = [f"`{w}`" for w in words]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " or " + quoted[-1]


def shown(value: object) -> str:
    """A value as written in a spec."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value).replace("e-0", "e-")
        case str():
            return value
        case int() | Expr():
            return dims.text(value)
        case Drawn():
            return f"{value.rule}({shown(value.std)})"
        case tuple() if len(value) > 1 and len(value) <= 8 and all(type(v) is int and v >= 0 for v in value):
            return "x".join(map(dims.text, value))
        case tuple() | list():
            return "[" + ", ".join([*map(shown, value[:20]), *["…"] * (len(value) > 20)]) + "]"
        case _:
            name = getattr(value, "name", None)
            return f"`{name}`" if isinstance(name, str) else "something that is not a value"


def given(value: object) -> str:
    """An invalid value that shows its type: strings in quotes, nested lists in brackets."""
    if isinstance(value, str):
        return value if value.isidentifier() else f'"{value}"'
    if isinstance(value, tuple) and any(isinstance(v, tuple) for v in value):
        items = [f"[{', '.join(map(shown, v))}]" if isinstance(v, tuple) else shown(v) for v in value[:20]]
        return "[" + ", ".join([*items, *["…"] * (len(value) > 20)]) + "]"
    return shown(value)


def is_too_large(value: object) -> bool:
    """Whether a number, or one in a list, exceeds the limit."""
    if isinstance(value, (tuple, list)):
        return any(map(is_too_large, value))
    return type(value) in (int, float) and abs(value) > LARGEST  # type: ignore[arg-type]


def has_fraction(value: object) -> bool:
    """Whether a value is a number with a fraction, or has one in a list."""
    return isinstance(value, float) or (isinstance(value, (tuple, list)) and any(map(has_fraction, value)))


def is_free(value: object) -> bool:
    """Whether a value depends on a free input size."""
    return isinstance(value, Expr) or (isinstance(value, (tuple, list)) and any(map(is_free, value)))


def shape_text(shape: Sequence[Dim], sets: Mapping[str, SizeSet] = {}) -> str:
    """`[64, H/4, W/4]`, or with `⌊H/4⌋` where the valid sizes `sets` do not make the division exact."""
    return "[" + ", ".join(dims.text(d, sets) for d in shape) + "]"


def times(sizes: Sequence[object]) -> str:
    """`3×3`."""
    return "×".join(map(str, sizes))
