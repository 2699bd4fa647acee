"""The formulas of operations: how each computes its outputs from its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from archdsl.ops import Operation
from archdsl.ops.activation import Elu, LeakyRelu, Prelu, Softplus
from archdsl.ops.align import Align, Crop, PadEdges
from archdsl.ops.channels import ChannelShuffle, Scale, Slice, Split
from archdsl.ops.conv import Conv, Linear, Upconv
from archdsl.ops.norm import Batchnorm, Groupnorm, Instancenorm, Layernorm, Lrn
from archdsl.ops.pool import AdaptivePool, Avgpool, Maxpool
from archdsl.ops.regularise import Dropout, Droppath
from archdsl.ops.resize import PixelShuffle, PixelUnshuffle, Resize, Upsample
from archdsl.ops.shape import Permute
from archdsl.report.explain.matrix import toeplitz
from archdsl.report.explain.words import AXES, counted, crossed, signed, times, titled

OUTSIDE: Mapping[str, str] = {
    "zeros": "x is 0 (padding)",
    "replicate": "x is what stands at the edge (padding)",
    "reflect": "x is the image in a mirror (padding)",
    "circular": "x goes on from the other side (padding)",
}
"""What a convolution reads outside the image, by its `pad_mode`."""

INDICES = {1: "i", 2: "ij", 3: "hij"}
TAPS = {1: "u", 2: "uv", 3: "tuv"}
"""The indices of an element and of a kernel position in formulas, by the number of axes."""

FORMULAS: Mapping[str, Sequence[str]] = {
    "relu": ("y = max(x, 0): the gradient goes through where x is above 0, and is 0 elsewhere",),
    "relu6": ("y = min(max(x, 0), 6): the gradient goes through where x is between 0 and 6, and is 0 elsewhere",),
    "selu": ("y = 1.0507 · x where x is above 0, else 1.0507 · 1.6733 · (exp(x) - 1)",),
    "sigmoid": ("y = 1 / (1 + exp(-x)), between 0 and 1; its slope is y · (1 - y), 1/4 at most",),
    "tanh": ("y = tanh(x), between -1 and 1; its slope is 1 - y²",),
    "gelu": ("y = x · Φ(x), Φ the normal distribution function",),
    "silu": ("y = x / (1 + exp(-x))",),
    "mish": ("y = x · tanh(log(1 + exp(x)))",),
    "hardsigmoid": ("y = min(max(x / 6 + 1/2, 0), 1)",),
    "hardswish": ("y = x · min(max(x / 6 + 1/2, 0), 1)",),
    "softmax": ("y_c = exp(x_c) / Σ_k exp(x_k), over the channels: they add up to 1 at every position",),
    "add": ("y = a + b, element by element: the gradient of y goes to each of them as it is",),
    "sub": ("y = a - b, element by element: the gradient of y goes to a as it is, to b with its sign turned",),
    "mul": ("y = a · b, element by element: the gradient of a is that of y times b, and the other way round",),
    "maximum": ("y = max(a, b), element by element: the larger one gets the gradient",),
    "mean": ("y = (a + b) / 2, element by element (of n: their sum / n): each gets 1/n of the gradient",),
    "concat": ("y = [a; b]: the channels behind each other; each gets its part of the gradient",),
    "flatten": ("the same numbers in one row: channel by channel, each line by line",),
    "reshape": ("the same numbers in the same order, in another shape",),
}
"""The formulas of operations that depend on none of their arguments."""


def told(operation: Operation, incoming: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> Iterator[str]:
    """The formula of an operation, the computation of its output size, and its weights; sizes are without the batch."""
    output = outputs[0]
    match operation:
        case Conv() as conv:
            yield from convolution(conv, incoming[0], output)
        case Upconv() as upconv:
            yield from transposed(upconv, incoming[0], output)
        case Linear() as full:
            yield from linear(incoming[0], output, full.bias)
        case Batchnorm() as norm:
            yield from batchnorm(norm, incoming[0])
        case Maxpool() | Avgpool() as pool:
            yield from pooling(pool, incoming[0], output)
        case AdaptivePool() as pool:
            yield from adaptive(pool, incoming[0], output)
        case Upsample() | Resize() as upsampling:
            yield from interpolation(upsampling, incoming[0], output)
        case operation if operation.name in FORMULAS:
            yield from titled("formula", *FORMULAS[operation.name])
        case _:
            lines = [*normalising(operation, incoming[0] if incoming else ()), *plain(operation, incoming, outputs)]
            if lines:
                yield from titled("formula", *lines)


# ---------------------------------------------------------------- operations with weights


def convolution(conv: Conv, shape: Sequence[int], output: Sequence[int]) -> Iterator[str]:
    window = conv.window((tuple(shape),))
    kernel, groups = window.kernel, conv.groups
    axes, taps = INDICES[len(kernel)], TAPS[len(kernel)]
    places = ", ".join(
        f"{times(s, a)} + {times(d, u)}{signed(-p)}"
        for a, u, s, d, p in zip(axes, taps, window.stride, window.dilation, window.pad, strict=True)
    )
    depth = shape[0] // groups
    channels = f"all {depth} channels c" if depth > 1 else "the only channel c"
    seen = f"{channels} of its group" if groups > 1 else channels
    bias = " + b[o]" if conv.bias else ""
    weight = f"w[o, c, {', '.join(taps)}]"
    yield from titled(
        "formula",
        f"y[o, {', '.join(axes)}] = Σ_c Σ_{taps} {weight} · x[c, {places}]{bias}",
        f"over {seen} and the {crossed(kernel)} places of the kernel"
        + (f"; outside of the image {OUTSIDE[conv.pad_mode]}" if any(window.pad) else ""),
        *(["flipped: w is read from its end, as signal processing defines the convolution"] if conv.flip else []),
    )
    if conv.pad == "same_upper":
        lines = [
            f"{name}: ⌈{n} / {s}⌉ = {o}, with as much padding as that takes"
            for name, n, s, o in zip(AXES[len(kernel)], shape[1:], window.stride, output[1:], strict=True)
        ]
    else:
        numbers = zip(kernel, window.stride, window.dilation, window.pad, strict=True)
        lines = [
            f"{name}: ⌊({n} + 2·{p} - {d}·({k} - 1) - 1) / {s}⌋ + 1 = {o}"
            for name, n, o, (k, s, d, p) in zip(AXES[len(kernel)], shape[1:], output[1:], numbers, strict=True)
        ]
    yield from titled("output size", *lines)
    sizes = conv.weights((tuple(shape),))[0].shape
    number = f"{counted(output[0], 'kernel')} of {' × '.join(map(str, sizes[1:]))} = {prod(sizes):,} numbers"
    number += biases(conv.bias, output[0]) + ("" if conv.trainable else "; they are frozen")
    yield from titled("weights", number, *full(sizes, shape, output))
    yield from toeplitz(conv, shape, output)


def biases(any_: bool, count: int) -> str:
    return f", and {count} {'bias' if count == 1 else 'biases'}" if any_ else ""


def full(sizes: Sequence[int], shape: Sequence[int], output: Sequence[int]) -> Iterator[str]:
    """Compares the weight count with that of a fully connected layer."""
    each, count = prod(sizes), prod(shape) * prod(output)
    if count > each:
        yield (
            f"a fully connected layer between the same sizes: {prod(shape):,} × {prod(output):,} = {count:,} weights, "
            f"{count / each:,.0f} times as many"
        )
    else:
        yield "a fully connected layer between the same sizes has as many"


def transposed(upconv: Upconv, shape: Sequence[int], output: Sequence[int]) -> Iterator[str]:
    sizes, window = upconv.weights((tuple(shape),))[0].shape, upconv.window((tuple(shape),))
    kernel, stride, dilation = window.kernel, window.scale, window.dilation
    axes, taps = INDICES[len(kernel)], TAPS[len(kernel)]
    pads = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, window.pad, strict=True)]
    painted = "pqr"[: len(kernel)]
    places = ", ".join(
        f"{times(s, a)} + {times(d, u)}{signed(-p)} = {q}"
        for a, u, s, d, p, q in zip(axes, taps, stride, dilation, pads, painted, strict=True)
    )
    bias = " + b[o]" if upconv.bias else ""
    yield from titled(
        "formula",
        f"y[o, {', '.join(painted)}] = Σ w[c, o, {', '.join(taps)}] · x[c, {', '.join(axes)}]{bias}",
        f"over {'the channels c of its group' if upconv.groups > 1 else 'all channels c'}, and where {places}",
        "so every element paints the kernel, times itself, onto the output; what overlaps adds up",
        *strokes(kernel, stride, dilation),
    )
    numbers = zip(stride, dilation, kernel, strict=True)
    lines = [
        f"{name}: ({n} - 1) · {s} + {d} · ({k} - 1) + 1{signed(o - (n - 1) * s - d * (k - 1) - 1)} = {o}"
        for name, n, o, (s, d, k) in zip(AXES[len(kernel)], shape[1:], output[1:], numbers, strict=True)
    ]
    more = ["(last: output_pad less the padding on both sides)"] if upconv.pad or upconv.output_pad else []
    yield from titled("output size", *lines, *more)
    number = f"{' × '.join(map(str, sizes))} = {prod(sizes):,} numbers"
    yield from titled("weights", number + biases(upconv.bias, output[0]), *full(sizes, shape, output))
    yield from toeplitz(upconv, shape, output)


def strokes(kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Iterator[str]:
    """Whether the kernels cover the output evenly."""
    if any(d > 1 for d in dilation):
        return
    uneven = [(k, s) for k, s in zip(kernel, stride, strict=True) if k % s]
    if not uneven:
        each = prod(k // s for k, s in zip(kernel, stride, strict=True))
        yield f"inside, every output gets {counted(each, 'stroke')}"
    else:
        k, s = uneven[0]
        yield (
            f"a kernel of {k} moves by {s}: along that axis outputs get {k // s} or {k // s + 1} strokes in turn, "
            "which can show as a checkerboard (Odena et al., 2016)"
        )


def linear(shape: Sequence[int], output: Sequence[int], bias: bool) -> Iterator[str]:
    term = " + b[o]" if bias else ""
    yield from titled(
        "formula", f"y[o] = Σ_i w[o, i] · x[i]{term}: every output sees every input, by a weight of its own"
    )
    count = shape[0] * output[0]
    more = f"; with biases {count + output[0]:,}" if bias else ""
    yield from titled("weights", f"{shape[0]:,} × {output[0]:,} = {count:,}{more}; none is used twice")


# ---------------------------------------------------------------- pooling and interpolation


def pooling(pool: Maxpool | Avgpool, shape: Sequence[int], output: Sequence[int]) -> Iterator[str]:
    window = pool.window((tuple(shape),))
    what = "the largest" if isinstance(pool, Maxpool) else "the mean"
    lines = [f"y = {what} of each window of {crossed(window.kernel)}, channel by channel"]
    apart = [(k - 1) * d + 1 - s for k, d, s in zip(window.kernel, window.dilation, window.stride, strict=True)]
    moved = f"the window moves by {crossed(window.stride)}"
    if all(a == 0 for a in apart):
        lines.append(f"{moved}: every element is in one window")
    elif any(a > 0 for a in apart):
        lines.append(f"{moved}: neighbouring windows overlap")
    else:
        lines.append(f"{moved}: between the windows elements are left out")
    if any(window.pad):
        if isinstance(pool, Maxpool):
            lines.append("padding never wins: it counts as -∞")
        else:
            lines.append("padding counts as zeros" if pool.count_pad else "padding is left out of the means")
    share = "the largest gets" if isinstance(pool, Maxpool) else f"each gets 1/{prod(window.kernel)} of"
    lines.append(f"nothing is learned; of the elements of a window {share} its gradient")
    yield from titled("formula", *lines)
    if pool.pad == "same_upper":
        sizes = [
            f"{name}: ⌈{n} / {s}⌉ = {o}, with as much padding as that takes"
            for name, n, s, o in zip(AXES[len(window.kernel)], shape[1:], window.stride, output[1:], strict=True)
        ]
    else:
        left, right = "⌈⌉" if pool.ceil else "⌊⌋"
        numbers = zip(window.kernel, window.stride, window.dilation, window.pad, strict=True)
        sizes = [
            f"{name}: {left}({n} + 2·{p} - {d}·({k} - 1) - 1) / {s}{right} + 1 = {o}"
            for name, n, o, (k, s, d, p) in zip(AXES[len(window.kernel)], shape[1:], output[1:], numbers, strict=True)
        ]
        sizes += ["(a window that would start behind the image is left out)"] if pool.ceil else []
    yield from titled("output size", *sizes)


def adaptive(pool: AdaptivePool, shape: Sequence[int], output: Sequence[int]) -> Iterator[str]:
    what = "the largest" if "max" in pool.name else "the mean"
    if prod(output[1:]) == 1:
        count = counted(prod(shape[1:]), "element")
        yield from titled("formula", f"y[c] = {what} of the {count} of channel c; nothing is learned")
        yield from titled("output size", "one element a channel, whatever comes in")
        return
    windows = [
        f"{name}: window i of {o} goes from ⌊i · {n} / {o}⌋ up to ⌈(i + 1) · {n} / {o}⌉"
        for name, n, o in zip(AXES[len(shape) - 1], shape[1:], output[1:], strict=True)
    ]
    yield from titled("formula", f"y = {what} of each window, channel by channel; nothing is learned", *windows)
    yield from titled("output size", "what is asked for, whatever comes in: the windows adapt to it")


def interpolation(operation: Upsample | Resize, shape: Sequence[int], output: Sequence[int]) -> Iterator[str]:
    mode = operation.mode
    scaled = zip(AXES[len(shape) - 1], shape[1:], output[1:], strict=True)
    if mode == "nearest":
        yield from titled(
            "formula",
            "copies: along an axis from n to m elements, y[i] = x[⌊i · n / m⌋]; nothing is learned",
            "the gradients of the copies add up",
        )
    else:
        neighbours = "four" if mode == "bicubic" else "two"
        yield from titled(
            "formula",
            "along an axis from n to m elements, y[i] stands at p = (i + 1/2) · n / m - 1/2 of x; nothing is learned",
            f"it is made from the {neighbours} neighbours there"
            + ("" if mode == "bicubic" else ": (1 - t) · x[⌊p⌋] + t · x[⌊p⌋ + 1], t = p - ⌊p⌋"),
        )
    yield from titled("output size", *(f"{name}: {n} → {m}{ratio(n, m)}" for name, n, m in scaled))


def ratio(n: int, m: int) -> str:
    return f" = {n} · {m // n}" if m % n == 0 and m > n else ""


# ---------------------------------------------------------------- normalisation


def batchnorm(norm: Batchnorm, shape: Sequence[int]) -> Iterator[str]:
    affine = (
        f"γ and β are learned, one each a channel: 2 × {shape[0]} numbers" if norm.affine else "without γ and β here"
    )
    share = "the mean over all batches" if norm.momentum is None else f"{norm.momentum:g} of each new batch's"
    yield from titled(
        "formula",
        f"{NORMALISED}, for each channel by itself",
        f"training: mean and variance σ² over the batch and {counted(prod(shape[1:]), 'position')}; "
        f"ε = {norm.eps:g} keeps √ above 0",
        f"afterwards: the running mean and variance, which took {share}",
        affine,
        "then it is one factor and one term a channel: it can be folded into a convolution before it",
    )


NORMALISED = "y = γ · (x - mean) / √(σ² + ε) + β"


def normalising(operation: Operation, shape: Sequence[int]) -> Iterator[str]:
    """The formulas of normalisations other than batchnorm."""
    places = counted(prod(shape[1:]), "position")
    match operation:
        case Layernorm():
            over = f"over the {shape[0]} channels, at each position"
        case Groupnorm():
            each = counted(shape[0] // operation.groups, "channel")
            over = f"over a group of {each} and {places}, {counted(operation.groups, 'group')}"
        case Instancenorm():
            over = f"over the {places} of a channel"
        case Lrn():
            yield f"y[c] = x[c] / (k + alpha / n · Σ_d x[d]²)^beta, over the n = {operation.size} channels d around c"
            yield f"k = {operation.k:g}, alpha = {operation.alpha:g}, beta = {operation.beta:g}; nothing is learned"
            return
        case _:
            return
    affine = not isinstance(operation, Instancenorm) or operation.affine
    yield NORMALISED if affine else "y = (x - mean) / √(σ² + ε)"
    yield f"mean and variance σ² {over}, for each sample by itself; ε = {operation.eps:g} keeps √ above 0"
    if isinstance(operation, Instancenorm) and operation.track:
        yield "afterwards: the running mean and variance of training"
    else:
        yield "so it computes the same in training and afterwards, whatever the batch"
    if affine:
        yield f"γ and β are learned, one each a channel: 2 × {shape[0]} numbers"


# ---------------------------------------------------------------- the others


def plain(operation: Operation, incoming: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> Iterator[str]:
    """The formulas of operations with arguments but almost no weights."""
    match operation:
        case LeakyRelu():
            yield f"y = x where x is above 0, else {operation.slope:g} · x: no element is without a gradient"
        case Prelu():
            each = "one a channel" if operation.channels == "each" else "one for all"
            yield f"y = x where x is above 0, else a · x; a is learned, {each}, from {operation.init:g}"
        case Elu():
            yield f"y = x where x is above 0, else {operation.alpha:g} · (exp(x) - 1)"
        case Softplus():
            yield f"y = log(1 + exp({times_float(operation.beta)}x)){per(operation.beta)}: a smooth max(x, 0)"
        case Dropout():
            what = "element" if operation.name == "dropout" or len(incoming[0]) == 1 else "channel"
            yield from dropped(operation.p, what)
        case Droppath():
            yield from dropped(operation.p, "sample")
        case Scale():
            yield f"y = s[c] · x, s learned, one a channel, from {operation.init:g}"
        case Split():
            yield f"{operation.n} parts of {counted(outputs[0][0], 'channel')}, in order; so their gradients come back"
        case Slice():
            yield f"y[c] = x[c + {operation.start}]: the other channels get no gradient from here"
        case ChannelShuffle():
            groups = operation.groups
            yield f"channel j of group i becomes j · {groups} + i: {groups} groups of {incoming[0][0] // groups}"
        case Align():
            how = {
                "crop": "each is cut around its centre to the smallest",
                "pad": "zeros are put around each, to the largest",
                "resize": "each is interpolated (linear) to the size of the first",
            }[operation.mode]
            yield f"{how}: {'; '.join(crossed(s[1:]) for s in incoming)} → {crossed(outputs[0][1:])}"
        case Crop():
            yield f"what is cut off gets no gradient: {crossed(incoming[0][1:])} → {crossed(outputs[0][1:])}"
        case PadEdges():
            sizes = f"{crossed(incoming[0][1:])} → {crossed(outputs[0][1:])}"
            yield f"outside of the image {OUTSIDE[operation.mode]}: {sizes}"
        case PixelShuffle():
            count, block = incoming[0][0] // outputs[0][0], crossed([operation.r] * (len(incoming[0]) - 1))
            yield f"each {count} channels become a block of {block} elements of one: the same numbers, elsewhere"
        case PixelUnshuffle():
            count, block = outputs[0][0] // incoming[0][0], crossed([operation.r] * (len(incoming[0]) - 1))
            yield f"each block of {block} elements of a channel becomes {count} channels: the same numbers, elsewhere"
        case Permute():
            yield f"axis i of y is axis {', '.join(map(str, operation.axes))} of x, for i = 0, 1, …: the same numbers"
        case _:
            pass


def dropped(p: float, what: str) -> Iterator[str]:
    yield f"training: y = m · x / (1 - {p:g}), m is 0 with probability {p:g} and else 1, for each {what}"
    yield "afterwards: y = x"


def times_float(factor: float) -> str:
    return "" if factor == 1 else f"{factor:g} · "


def per(factor: float) -> str:
    return "" if factor == 1 else f" / {factor:g}"
