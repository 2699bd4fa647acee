"""Messages for invalid arguments and sizes."""

from __future__ import annotations

import pytest

from archdsl import dims
from archdsl.dims import Dim
from archdsl.ops import OPERATIONS
from archdsl.ops.base import Operation, Rules
from archdsl.ops.declaration import OperationError

H, W = dims.free("H"), dims.free("W")


def said(error: OperationError) -> str:
    """All that an error proposes: its advice, and the fixes with their explanations."""
    changes = [f"{m.help} {dict(m.arguments)} {m.before} {m.instead}" for m in error.mends]
    return "\n".join([error.help or "", *changes])


@pytest.mark.parametrize(
    ("name", "arguments", "parameter", "message", "help"),
    [
        ("conv", {"kernel": 3}, None, "`conv` needs `out`", "conv(out, kernel, stride = 1"),
        ("conv", {"out": -1}, "out", "`out` must be an int of at least 1; got -1", None),
        ("conv", {"out": True}, "out", "`out` must be an int of at least 1; got true", None),
        ("conv", {"out": 3.0}, "out", "`out` must be an int of at least 1; got 3.0", None),
        ("conv", {"out": "many"}, "out", "`out` must be an int of at least 1; got many", None),
        ("conv", {"out": 10**30}, "out", "`out` is too large; got about 2^99", None),
        ("conv", {"out": 10**6000}, "out", "`out` is too large; got about", None),
        ("conv", {"out": H // 2}, "out", "`out` cannot depend on a free input size; got ⌊H/2⌋", "fix the size"),
        ("conv", {"out": OPERATIONS["relu"]}, "out", "`out` must be an int of at least 1; got `relu`", None),
        ("conv", {"out": [64]}, "out", "`out` must be an int of at least 1; got [64]", None),
        ("conv", {"out": None}, "out", "`out` must be an int of at least 1; got none", None),
        ("conv", {"out": 1, "kern": 3}, "kern", "`conv` has no parameter `kern`", "it has: `out`, `kernel`"),
        (
            "maxpool",
            {"kernel": (3, 0)},
            "kernel",
            "`kernel` must be an int of at least 1 or a size such as 3x3; got 3x0",
            None,
        ),
        ("maxpool", {"kernel": 3, "stride": -1}, "stride", "or a size such as 3x3; got -1", None),
        ("conv", {"out": 1, "pad": "sane"}, "pad", "`full` or `causal`; got sane", None),
        ("upconv", {"out": 1, "kernel": 3, "pad": "same_upper"}, "pad", "`same` or `full`; got same_upper", None),
        ("conv", {"out": 1, "pad_mode": 3}, "pad_mode", "must be `zeros`, `replicate`, `reflect` or `circular`", None),
        ("conv", {"out": 1, "weight": [[1], [1, 2]]}, "weight", "`weight` must be a list of numbers, nested", None),
        ("conv", {"out": 1, "weight": [float("nan")]}, "weight", "`weight` must be a list of numbers, nested", None),
        ("relu", {"inplace": True}, "inplace", "`relu` has no parameter `inplace`", "leave it out"),
        ("batchnorm", {"momentum": 2}, "momentum", "must be a number from 0 to 1, or `none`", None),
        ("dropout", {"p": 1.5}, "p", "`p` must be a number from 0 to 1; got 1.5", None),
        ("droppath", {"p": 1}, "p", "`p` must be a number from 0 to below 1; got 1", None),
        ("resize", {"to": 0}, "to", "`to` must be an int of at least 1, a size such as 32x32, or the size of", None),
        ("reshape", {"sizes": 3}, "sizes", "`sizes` must be a list of ints", None),
    ],
)
def test_wrong_arguments(
    name: str, arguments: dict[str, object], parameter: str | None, message: str, help: str | None
) -> None:
    with pytest.raises(OperationError) as caught:
        OPERATIONS[name].parse(arguments)
    assert message in caught.value.message
    assert caught.value.parameter == parameter
    assert help is None or help in said(caught.value)


def test_all_mistakes_of_a_call_are_told_at_once() -> None:
    with pytest.raises(OperationError) as caught:
        OPERATIONS["conv"].parse({"out": 0, "stride": "fast", "bias": 1, "strides": 2})
    told = [caught.value, *caught.value.also]
    assert [e.parameter for e in told] == ["out", "stride", "bias", "strides"]
    words = " ".join(e.message for e in told).lower()
    assert "input should be" not in words and "pydantic" not in words


@pytest.mark.parametrize(
    ("name", "arguments", "shapes", "message", "help"),
    [
        ("conv", {"out": 4, "kernel": 3}, [(10,)], "this one is flat: [10]", "put `conv` before the `flatten`"),
        ("conv", {"out": 4, "kernel": 3}, [(9, 2, 2, 2, 2)], "one to three spatial axes", None),
        (
            "conv",
            {"out": 4, "kernel": (3, 3)},
            [(10, H)],
            "`kernel` 3x3 has 2 numbers, the tensor [10, H] has 1",
            "one",
        ),
        ("conv", {"out": 4, "kernel": 4}, [(3, 8, 8)], "`pad = same` needs an odd kernel", "same_upper"),
        ("conv", {"out": 4}, [(3, 8, 8)], "`conv` needs `kernel`", None),
        ("conv", {"out": 4, "kernel": 7, "pad": 0}, [(3, 4, 8)], "a kernel of 7, the size here is 4", "smaller kernel"),
        (
            "conv",
            {"out": 4, "kernel": 3, "groups": 3},
            [(10, 8)],
            "10 is not a multiple of 3",
            "`groups = 2` divides both",
        ),
        ("conv", {"out": 9, "kernel": 7, "pad_mode": "reflect"}, [(3, 3)], "cannot pad 3 where the size is 3", None),
        ("conv", {"out": 9, "weight": [1, -1]}, [(3, 8, 8)], "nested 1 deep", "nest the numbers 2 deep"),
        ("conv", {"out": 9, "weight": [[1, -1]], "kernel": 3}, [(3, 8, 8)], "`kernel` is 3×3", "leave out `kernel`"),
        ("conv", {"out": 9, "kernel": 3}, [(H, 8, 8)], "needs a known number of channels; here it is H", "fix"),
        ("upconv", {"out": 9, "kernel": 3, "pad": 4}, [(3, 2, 8)], "would give a size of -2", "less padding"),
        ("upconv", {"out": 9, "kernel": 3, "output_pad": 3}, [(3, 8)], "it is 3, they are 3 and 1", None),
        ("tokens", {}, [(3,)], "needs a tensor with positions, such as [C, H, W]; this one is flat: [3]", "`flatten`"),
        ("maps", {"to": (3, 4)}, [(8, 13)], "to 3×4 needs 12 tokens; the tensor is [8, 13]", "maps(x.size)"),
        ("maps", {"to": (3, 4)}, [(8, 3, 4)], "needs a row of tokens, [C, T]; this tensor is [8, 3, 4]", "`tokens`"),
        ("maps", {"to": (H, W)}, [(8, H * W + 1)], "to H×W needs H·W tokens; the tensor is [8, H·W + 1]", "`slice(1,"),
        ("linear", {"out": 9}, [(H,)], "needs a known number of features", "fix"),
        ("linear", {"out": 9}, [(H, 2)], "needs a known number of channels", "fix"),
        ("maxpool", {"kernel": 2, "pad": 2}, [(3, 5, 8)], "more than half of its kernel", "`pad = 1`"),
        ("avgpool", {"kernel": 3, "pad": 1}, [(3, 2, 8, 8)], "at least its kernel, 3, without", "`pad(n)`"),
        ("instancenorm", {}, [(3, 1, 1)], "more than one position", None),
        ("groupnorm", {"groups": 4}, [(6, 3)], "6 is not a multiple of 4", "`groups = 3`"),
        ("add", {}, [(64, 8, 8), (128, 8, 8)], "[64, 8, 8] and [128, 8, 8]", "`conv(128, 1)`"),
        ("add", {}, [(64, 8, 8), (128, 4, 4)], "[64, 8, 8] and [128, 4, 4]", "`conv(128, 1, stride = 2)`"),
        ("add", {}, [(64, H, 8), (64, H + 1, 8)], "[64, H, 8] and [64, H + 1, 8]", "`align(crop) -> add`"),
        ("add", {}, [(64, 8, 8)], "only one given", "`(a, b) -> add`"),
        ("add", {}, [(64, 8, 8), (64,)], "tensors of one rank", "`flatten`"),
        ("mul", {}, [(64, 8, 8), (1, 8, 8), (64, 4, 1)], "[64, 8, 8] and [64, 4, 1]", None),
        ("concat", {}, [(64, 8, 8), (1, 9, 8)], "[64, 8, 8] and [1, 9, 8]", "`align(crop) -> concat`"),
        ("align", {}, [(1, H), (1, W)], "`align(crop)` cannot find the smaller of [1, H] and [1, W]", "align(resize)"),
        ("crop", {"n": 4}, [(3, 8, 9)], "removes all of a size of 8", None),
        ("pad", {"n": 4, "mode": "reflect"}, [(3, 4, 9)], "cannot pad 4 where the size is 4", "replicate"),
        ("upsample", {"scale": 2, "mode": "bicubic"}, [(3, 4)], "only with two spatial axes", "linear"),
        ("resize", {"to": (3, 4)}, [(3, 4)], "`to` 3x4 has 2 numbers", None),
        ("pixel_shuffle", {"r": 2}, [(6, 3, 3)], "a multiple of 4 channels", None),
        ("pixel_unshuffle", {"r": 2}, [(6, 3, H)], "multiples of 2", None),
        ("split", {"n": 4}, [(6, 3, 3)], "a multiple of 4 channels", "`split([a, b])`"),
        ("split", {"n": [4, 3]}, [(6, 3, 3)], "`split` into [4, 3] needs 7 channels; the tensor is [6, 3, 3]", "sum 6"),
        ("split", {"n": 2, "axis": 1}, [(6, 3)], "needs a multiple of 2 positions; the tensor is [6, 3]", None),
        ("split", {"n": 2, "axis": 2}, [(6, 3)], "along axis 2: the tensor [6, 3] has axes 0 to 1", "axis 1 the first"),
        ("slice", {"start": 3, "axis": 1}, [(6, 3)], "`slice` from 3 exceeds the positions of [6, 3]", None),
        ("slice", {"start": 3}, [(3, 6)], "`slice` from 3 exceeds the channels of [3, 6]", None),
        ("concat", {"axis": 1}, [(6, 3), (5, 3)], "equal sizes except on axis 1; these are [6, 3] and [5, 3]", "conv"),
        ("add", {"stretch": True}, [(6, 3), (6, 2)], "needs equal sizes or 1; these are [6, 3] and [6, 2]", None),
        ("slice", {"start": 4, "stop": 4}, [(6, 3)], "`stop` must be larger than `start`", None),
        ("slice", {"start": 4, "stop": 8}, [(6, 3)], "exceeds the channels", "`stop` is 6 at most"),
        ("channel_shuffle", {"groups": 4}, [(6, 3)], "6 is not a multiple of 4", None),
        ("flatten", {}, [(6, H, W)], "depend on the free sizes H and W", "fix H and W in the `input`"),
        ("reshape", {"sizes": [4, 2]}, [(6, 3)], "[6, 3], which has 18 numbers, to [4, 2], which is 8", "-1"),
        ("reshape", {"sizes": [-1, -1]}, [(6, 3)], "one of which may be -1", None),
        ("permute", {"axes": [0, 1]}, [(6, 3, 3)], "each axis of [6, 3, 3] once", "[0, 1, 2]"),
    ],
)
def test_wrong_sizes(
    name: str, arguments: dict[str, object], shapes: list[tuple[Dim, ...]], message: str, help: str | None
) -> None:
    with pytest.raises(OperationError) as caught:
        OPERATIONS[name].parse(arguments).infer(tuple(shapes), Rules())
    assert message in caught.value.message
    assert help is None or help in said(caught.value)
    assert max(caught.value.inputs, default=0) < len(shapes)


@pytest.mark.parametrize("cls", OPERATIONS.values(), ids=OPERATIONS)
def test_words_are_those_of_the_types(cls: type[Operation]) -> None:
    for name in cls.fields:
        for word in cls.words(name):
            needed = {p: cls.examples[0].arguments[p] for p, f in cls.fields.items() if f.is_required}
            assert getattr(cls.parse({**needed, name: word}), name) == word
    assert cls.words("nonsense") == ()


@pytest.mark.parametrize(
    ("name", "arguments", "rank", "caption"),
    [
        ("conv", {"out": 64, "kernel": 3, "stride": 2}, 2, "conv 3×3, 64, /2"),
        ("conv", {"out": 64, "kernel": 3, "dilation": 2, "groups": 4}, 1, "conv k3, 64, dilation 2, 4 groups"),
        ("conv", {"out": 8, "weight": [[1, -1]]}, 2, "conv 1×2, 8"),
        ("upconv", {"out": 64, "kernel": 2}, 3, "upconv 2×2×2, 64, by 2"),
        ("maxpool", {"kernel": (1, 2)}, 2, "maxpool 1×2, /1×2"),
        ("linear", {"out": 10}, 0, "linear 10"),
        ("adaptive_avgpool", {"size": 7}, 2, "adaptive_avgpool 7×7"),
        ("upsample", {"scale": 2, "mode": "bilinear"}, 2, "upsample by 2, bilinear"),
        ("resize", {"to": (H, 3)}, 2, "resize H×3"),
        ("dropout", {"p": 0.2}, 2, "dropout 0.2"),
    ],
)
def test_captions(name: str, arguments: dict[str, object], rank: int, caption: str) -> None:
    assert OPERATIONS[name].parse(arguments).caption(rank) == caption
