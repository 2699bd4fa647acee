"""Source of the few classes and functions that generated modules need and PyTorch lacks.

They are copied verbatim into generated files, each definition once (two empty lines separate definitions), and use
`torch`, `nn`, `F` (torch.nn.functional) and `Tensor`. None loops over anything but axes or branches on data, and sizes
come from `x.shape`, so torch.compile and torch.export accept them with dynamic sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Standardised: TypeAlias = Literal["", "Standardized", "Scaled"]


@dataclass(frozen=True, slots=True)
class Helper:
    name: str
    source: str


SAME_UPPER_PADS = '''def same_upper_pads(
    x: Tensor,
    kernel: int | tuple[int, ...],
    stride: int | tuple[int, ...],
    dilation: int | tuple[int, ...] = 1,
) -> list[int]:
    """The padding for F.pad, from the last axis on, for ⌈size / stride⌉ outputs."""
    pads: list[int] = []
    for axis, size in enumerate(x.shape[2:]):
        k = kernel if isinstance(kernel, int) else kernel[axis]
        s = stride if isinstance(stride, int) else stride[axis]
        d = dilation if isinstance(dilation, int) else dilation[axis]
        total = max(d * (k - 1) - (size - 1) % s, 0)
        pads = [total // 2, total - total // 2, *pads]
    return pads
'''


def conv(
    rank: str,
    *,
    flip: bool,
    same_upper: bool,
    causal: bool,
    standardised: Standardised = "",
) -> Helper | None:
    """The subclass of nn.Conv1d, 2d or 3d with other kernels, padding that it lacks, or both; None for neither."""
    if not (flip or same_upper or causal or standardised):
        return None
    axes = ", ".join(str(a + 2) for a in range(int(rank[0])))
    more = "SameUpper" if same_upper else "Causal" if causal else ""
    name = f"{standardised}{'Flipped' if flip else ''}Conv{rank}{more}"
    says = ["Each kernel is brought to mean 0 and variance 1."] if standardised else []
    says += ["The kernel is flipped, as signal processing defines a convolution."] if flip else []
    says += ["Pads to ⌈size / stride⌉ outputs, the odd one behind."] if same_upper else []
    says += ["Pads before the signal alone: no output depends on later inputs."] if causal else []
    text = "\n    ".join(says[1:])
    doc = f'"""{says[0]}"""' if len(says) == 1 else f'"""{says[0]}\n\n    {text}\n    """'
    weight = _standardised(standardised == "Scaled") if standardised else []
    weight += [f"        weight = {'' if weight else 'self.'}weight.flip({axes})"] if flip else []
    used = "weight" if weight else "self.weight"
    lines = [
        f"class {name}(nn.Conv{rank}):",
        f"    {doc}",
        "",
        *(_standardising(int(rank[0]), standardised == "Scaled") if standardised else []),
        "    def forward(self, input: Tensor) -> Tensor:",
        *weight,
    ]
    if same_upper or causal:
        pads = "same_upper_pads(input, self.kernel_size, self.stride, self.dilation)"
        lines += [
            f"        pads = {'[self.dilation[0] * (self.kernel_size[0] - 1), 0]' if causal else pads}",
            '        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode',
            "        input = F.pad(input, pads, mode)",
            f"        return F.conv{rank}(",
            f"            input, {used}, self.bias, self.stride, 0, self.dilation, self.groups",
            "        )",
        ]
        if len(lines[-2]) > 88:
            lines[-2:-1] = [f"            {part}," for part in lines[-2].strip().split(", ")]
    else:
        lines += [f"        input = self._conv_forward(input, {used}, self.bias)", "        return input"]
    return Helper(name, (f"{SAME_UPPER_PADS}\n\n" if same_upper else "") + "\n".join([*lines, ""]))


def _standardising(rank: int, scaled: bool) -> list[str]:
    """The constructor of a convolution with standardised kernels."""
    more = "        self, *args: Any, eps: float = 1e-6, gamma: float, **kwargs: Any"
    plain = ["    def __init__(self, *args: Any, eps: float = 1e-6, **kwargs: Any) -> None:"]
    ones = f"self.weight[:, :1{', :1' * rank}]"
    gain = ["        self.gamma = gamma", f"        self.gain = nn.Parameter(torch.ones_like({ones}))"]
    return [
        *(["    def __init__(", more, "    ) -> None:"] if scaled else plain),
        "        super().__init__(*args, **kwargs)",
        "        self.eps = eps",
        *(gain if scaled else []),
        "",
    ]


def _standardised(scaled: bool) -> list[str]:
    """The statements that standardise kernels."""
    return [
        "        rows = self.weight.flatten(1)",
        "        variance, mean = torch.var_mean(rows, 1, correction=0, keepdim=True)",
        "        rows = (rows - mean) * (variance + self.eps).rsqrt()",
        "        weight = rows.view_as(self.weight)",
        *(["        weight = weight * self.gain * (self.gamma * rows.shape[1] ** -0.5)"] if scaled else []),
    ]


MAX_POOL_FREE = Helper(
    "MaxPool1dFreeSize",
    '''class MaxPool1dFreeSize(nn.MaxPool1d):
    """nn.MaxPool1d that torch.export takes with a free size.

    Without indices PyTorch reads the size as a constant.
    """

    def forward(self, input: Tensor) -> Tensor:
        pooled: Tensor = F.max_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            return_indices=True,
        )[0]
        return pooled
''',
)


def max_pool(rank: str) -> Helper:
    """nn.MaxPool with SAME_UPPER padding, which never wins."""
    name = f"MaxPool{rank}SameUpper"
    arguments = "x, self.kernel_size, self.stride, 0, self.dilation"
    # Without indices PyTorch's max_pool1d reads the size as a constant, and an export with a free size fails.
    call = (
        f"        x = F.max_pool1d(\n            {arguments}, return_indices=True\n        )[0]"
        if rank == "1d"
        else f"        x = F.max_pool{rank}({arguments})"
    )
    return Helper(
        name,
        f'''{SAME_UPPER_PADS}

class {name}(nn.MaxPool{rank}):
    """Pads to ⌈size / stride⌉ outputs, the odd one behind."""

    def forward(self, input: Tensor) -> Tensor:
        pads = same_upper_pads(input, self.kernel_size, self.stride, self.dilation)
        x: Tensor = F.pad(input, pads, value=float("-inf"))
{call}
        return x
''',
    )


def avg_pool(rank: str, *, count_pad: bool) -> Helper:
    """nn.AvgPool with SAME_UPPER padding, which counts as zeros or not at all."""
    name = f"AvgPool{rank}SameUpper" + ("" if count_pad else "Unpadded")
    says = "the padding counts as zeros" if count_pad else "the padding does not count"
    counts = (
        ""
        if count_pad
        else (
            "        ones = F.pad(torch.ones_like(input[:1, :1]), pads)\n"
            f"        x = x / F.avg_pool{rank}(ones, self.kernel_size, self.stride)\n"
        )
    )
    return Helper(
        name,
        f'''{SAME_UPPER_PADS}

class {name}(nn.AvgPool{rank}):
    """Pads to ⌈size / stride⌉ outputs, the odd one behind; {says}."""

    def forward(self, input: Tensor) -> Tensor:
        pads = same_upper_pads(input, self.kernel_size, self.stride)
        x: Tensor = F.avg_pool{rank}(F.pad(input, pads), self.kernel_size, self.stride)
{counts}        return x
''',
    )


CHANNEL_LAYER_NORM = Helper(
    "ChannelLayerNorm",
    '''class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of [N, C, ...], at each position by itself."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)
''',
)

CHANNEL_RMS_NORM = Helper(
    "ChannelRMSNorm",
    '''class ChannelRMSNorm(nn.RMSNorm):
    """Division by the root mean square over the channels of [N, C, ...], at each position by itself."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)
''',
)

PERMUTE = Helper(
    "Permute",
    '''class Permute(nn.Module):
    """Puts the axes of a tensor into another order."""

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.dims)
''',
)

CHANNEL_LINEAR = Helper(
    "ChannelLinear",
    '''class ChannelLinear(nn.Linear):
    """A fully connected layer over the channels of [N, C, ...], at each position by itself."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)
''',
)


def partly_biased(biased: Sequence[bool], *, last: bool) -> Helper:
    """A fully connected layer that adds its bias only to some of several equal parts of its outputs."""
    count, which = len(biased), [str(i) for i, is_biased in enumerate(biased, 1) if is_biased]
    name = f"{'' if last else 'Channel'}LinearBias{'And'.join(which)}Of{count}"
    parts = ", ".join(f"parts[{i}]" if b else f"torch.zeros_like(parts[{i}])" for i, b in enumerate(biased))
    places = "" if last else " over the channels of [N, C, ...]"
    only = f"part {which[0]} has" if len(which) == 1 else f"parts {' and '.join(which)} have"
    made = "F.linear({0}, self.weight, bias)"
    given = made.format("input") if last else f"{made.format('input.movedim(1, -1)')}.movedim(-1, 1)"
    return Helper(
        name,
        f'''class {name}(nn.Linear):
    """A fully connected layer{places}.

    Of {count} equal parts of its outputs, only {only} a bias.
    """

    def forward(self, input: Tensor) -> Tensor:
        parts = self.bias.chunk({count})
        bias = torch.cat([{parts}])
        return {given}
''',
    )


GLOBAL_RESPONSE_NORM = Helper(
    "GlobalResponseNorm",
    '''class GlobalResponseNorm(nn.LayerNorm):
    """Strengthens the channels of [N, C, ...] that respond most, over all positions."""

    def forward(self, input: Tensor) -> Tensor:
        axes = tuple(range(2, input.ndim))
        norms = torch.linalg.vector_norm(input, dim=axes, keepdim=True)
        scaled = input * (norms / (norms.mean(1, keepdim=True) + self.eps))
        shape = [-1, *[1] * (input.ndim - 2)]
        scaled = self.weight.view(shape) * scaled
        output: Tensor = input + scaled + self.bias.view(shape)
        return output
''',
)

GLOBAL_RESPONSE_NORM_LAST = Helper(
    "GlobalResponseNormLast",
    '''class GlobalResponseNormLast(nn.LayerNorm):
    """Strengthens the channels of [N, ..., C] that respond most, over all positions."""

    def forward(self, input: Tensor) -> Tensor:
        axes = tuple(range(1, input.ndim - 1))
        norms = torch.linalg.vector_norm(input, dim=axes, keepdim=True)
        scaled = input * (norms / (norms.mean(-1, keepdim=True) + self.eps))
        output: Tensor = input + self.weight * scaled + self.bias
        return output
''',
)

LOCAL_RESPONSE_NORM = Helper(
    "LocalResponseNorm3d",
    '''class LocalResponseNorm3d(nn.LocalResponseNorm):
    """nn.LocalResponseNorm for tensors of any layout.

    PyTorch views H and W as one axis, which a permuted tensor does not allow.
    """

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.contiguous())
''',
)

DROP_PATH = Helper(
    "DropPath",
    '''class DropPath(nn.Module):
    """Zeroes whole samples with probability p while training (stochastic depth).

    The others are scaled up by 1 / (1 - p).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        keep = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(1 - self.p)
        return x * keep.div_(1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"
''',
)

ALIGN_CROP = Helper(
    "crop_to_smallest",
    '''def crop_to_smallest(*tensors: Tensor) -> list[Tensor]:
    """The tensors, each cropped around its centre to the smallest of their sizes."""
    sizes = list(tensors[0].shape[2:])
    for x in tensors[1:]:
        sizes = [min(a, b) for a, b in zip(sizes, x.shape[2:])]
    cropped = list(tensors)
    for axis, size in enumerate(sizes, 2):
        over = [x.shape[axis] - size for x in tensors]
        if torch.compiler.is_exporting():  # it cannot prove that slices stay inside
            edges = [[0, 0] * (x.dim() - 1 - axis) for x in tensors]
            cropped = [
                F.pad(x, [*edge, -(n // 2), n // 2 - n])
                for x, edge, n in zip(cropped, edges, over)
            ]
        else:
            cropped = [x.narrow(axis, n // 2, size) for x, n in zip(cropped, over)]
    return cropped
''',
)

ALIGN_PAD = Helper(
    "pad_to_largest",
    '''def pad_to_largest(*tensors: Tensor) -> list[Tensor]:
    """The tensors, each padded with zeros around it to the largest of their sizes."""
    sizes = list(tensors[0].shape)[2:]
    for x in tensors[1:]:
        sizes = [max(a, b) for a, b in zip(sizes, x.shape[2:])]
    padded: list[Tensor] = []
    for x in tensors:
        pads: list[int] = []  # from the last axis on
        for size, now in zip(sizes, x.shape[2:]):
            pads = [(size - now) // 2, size - now - (size - now) // 2, *pads]
        padded.append(F.pad(x, pads))
    return padded
''',
)


def merge_all(name: str, says: str, two: str, whole: str) -> Helper:
    """The merge of a list of tensors, from left to right: `two` is that of `merged` and `x`, `whole` what comes out."""
    return Helper(
        name,
        f'''def {name}(tensors: list[Tensor]) -> Tensor:
    """{says}, element by element."""
    merged, *others = tensors
    for x in others:
        merged = {two}
    return {whole}
''',
    )


def align_resize(mode: str) -> Helper:
    """Interpolation (`linear`, `bilinear` or `trilinear`, by the rank) to the size of the first tensor."""
    name = "resize_to_first" if mode == "bilinear" else f"resize_to_first_{mode}"
    return Helper(
        name,
        f'''def {name}(first: Tensor, *others: Tensor) -> list[Tensor]:
    """The tensors, the others interpolated to the spatial size of the first."""
    size = first.shape[2:]
    return [first, *(F.interpolate(x, size=size, mode="{mode}") for x in others)]
''',
    )


PIXEL_SHUFFLE = Helper(
    "PixelShuffle",
    '''class PixelShuffle(nn.Module):
    """[N, C * r**k, ...] -> [N, C, ...], each of the k spatial sizes times r."""

    def __init__(self, r: int) -> None:
        super().__init__()
        self.r = r

    def forward(self, x: Tensor) -> Tensor:
        r, rank, (n, c, *size) = self.r, x.ndim - 2, x.shape
        x = x.reshape(n, c // r**rank, *[r] * rank, *size)
        x = x.permute(0, 1, *[a for i in range(rank) for a in (2 + rank + i, 2 + i)])
        return x.reshape(n, c // r**rank, *[s * r for s in size])

    def extra_repr(self) -> str:
        return f"{self.r}"
''',
)

PIXEL_UNSHUFFLE = Helper(
    "PixelUnshuffle",
    '''class PixelUnshuffle(nn.Module):
    """[N, C, ...] -> [N, C * r**k, ...], each of the k spatial sizes divided by r."""

    def __init__(self, r: int) -> None:
        super().__init__()
        self.r = r

    def forward(self, x: Tensor) -> Tensor:
        r, rank, (n, c, *size) = self.r, x.ndim - 2, x.shape
        x = x.reshape(n, c, *[part for s in size for part in (s // r, r)])
        x = x.permute(0, 1, *range(3, 3 + 2 * rank, 2), *range(2, 2 + 2 * rank, 2))
        return x.flatten(1, 1 + rank)

    def extra_repr(self) -> str:
        return f"{self.r}"
''',
)


def attention(inputs: int, layout: Literal["channels", "tokens", "maps"], *, causal: bool, widths: bool) -> Helper:
    """nn.MultiheadAttention for what flows in a built module, of one tensor with itself or of two or three.

    `layout`: `channels` for [N, C, ...], `tokens` for [N, T, C], `maps` for [N, ..., C]. `widths`: the channels of keys
    or values are others than those of the queries. PyTorch's own forward puts the batch second; gradients in that
    order make the backward pass of nn.InstanceNorm wrong, and take longer.
    """
    cross = inputs > 1
    kind = ("Causal" if causal else "") + ("Cross" if cross else "Self") + "Attention" + "OfWidths" * widths
    masked = inputs > 3
    kind = "Biased" * masked + kind
    name = {"channels": f"ChannelsFirst{kind}", "tokens": kind, "maps": f"{kind}OfMaps"}[layout]
    sizes = {"channels": "[N, C, ...]", "tokens": "[N, T, C]", "maps": "[N, ..., C]"}[layout]
    says = f"nn.MultiheadAttention of {sizes}{'' if cross else ' with itself'}"
    says += "; no position sees those behind it." if causal else "."
    row = {"channels": "{0}.flatten(2).transpose(1, 2)", "tokens": "{0}", "maps": "{0}.flatten(1, -2)"}[layout]
    first = "query" if cross else "input"
    back = {"channels": f".transpose(1, 2).reshape({first}.shape)", "tokens": "", "maps": f".reshape({first}.shape)"}
    self_lines = [
        "    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]",
        f"        x = F.linear({row.format('input')}, self.in_proj_weight, self.in_proj_bias)",
        "        x = x.view(*x.shape[:2], 3 * self.num_heads, self.head_dim)",
        "        q, k, v = x.transpose(1, 2).chunk(3, 1)",
    ]
    if layout != "tokens":
        self_lines[1:2] = [
            f"        x = {row.format('input')}",
            "        x = F.linear(x, self.in_proj_weight, self.in_proj_bias)",
        ]
    more = ", bias: Tensor | None" if masked else " | None = None"
    term = "b" if masked else "bias"
    weights = "self.q_proj_weight, self.k_proj_weight, self.v_proj_weight" if widths else "self.in_proj_weight.chunk(3)"
    cross_lines = [
        "    def forward(  # type: ignore[override]",
        f"        self, query: Tensor, key: Tensor, value: Tensor{more}",
        "    ) -> Tensor:",
        f"        weights = {weights}",
        "        biases = [None] * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)",
        f"        inputs = query, key, {'value' if masked else 'key if value is None else value'}",
        "        parts: list[Tensor] = []",
        f"        for x, weight, {term} in zip(inputs, weights, biases):",
        f"            x = F.linear({row.format('x')}, weight, {term})",
        "            x = x.view(*x.shape[:2], self.num_heads, self.head_dim)",
        "            parts.append(x.transpose(1, 2))",
        "        q, k, v = parts",
    ]
    if masked and layout != "channels":
        cross_lines += ["        if bias is not None:", "            bias = bias.movedim(-1, 1)"]
    mask = "bias, " if masked else ""
    attended = [
        "        x = F.scaled_dot_product_attention(",
        f"            q, k, v, {mask}dropout_p=self.dropout if self.training else 0.0{', is_causal=True' * causal}",
        "        )",
        "        mixed: Tensor = self.out_proj(x.transpose(1, 2).flatten(2))",
        f"        return mixed{back[layout]}",
    ]
    lines = [f"class {name}(nn.MultiheadAttention):", f'    """{says}"""', "", *(cross_lines if cross else self_lines)]
    return Helper(name, "\n".join([*lines, *attended, ""]))
