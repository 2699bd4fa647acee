"""Source of the few classes and functions that generated modules need where PyTorch has nothing.

They are text: they go into generated files as they stand, one copy a file, and rely on `torch`, `nn`, `F`
(torch.nn.functional) and `Tensor`. None loops over anything but axes or branches on data, and sizes come from
`x.shape`, so torch.compile and torch.export take them with dynamic sizes.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Helper:
    name: str
    source: str


SAME_UPPER_PADS = """
        pads: list[int] = []
        for size, k, s, d in zip(x.shape[2:], {kernel}, {stride}, {dilation}):
            total = torch.sym_max(d * (k - 1) - (size - 1) % s, 0)
            pads = [total // 2, total - total // 2, *pads]  # F.pad counts axes from the last"""


def _conv_source(name: str, rank: str, flip: bool, same_upper: bool) -> str:
    axes = int(rank[0])
    says = ["The kernel is flipped, as signal processing defines a convolution."] if flip else []
    if same_upper:
        says.append("Pads to ⌈size / stride⌉ outputs, what does not divide evenly behind (SAME_UPPER).")
    weight = f"self.weight.flip({', '.join(str(a + 2) for a in range(axes))})" if flip else "self.weight"
    lines = [f"class {name}(nn.Conv{rank}):", f'    """{" ".join(says)}"""', ""]
    lines += ["    def forward(self, x: Tensor) -> Tensor:"]
    if same_upper:
        pads = SAME_UPPER_PADS.format(kernel="self.kernel_size", stride="self.stride", dilation="self.dilation")
        lines += [pads.strip("\n")]
        lines += ['        x = F.pad(x, pads, "constant" if self.padding_mode == "zeros" else self.padding_mode)']
        call = f"F.conv{rank}(x, {weight}, self.bias, self.stride, 0, self.dilation, self.groups)"
    else:
        call = f"self._conv_forward(x, {weight}, self.bias)"
    return "\n".join([*lines, f"        return {call}", ""])


def conv(rank: str, *, flip: bool, same_upper: bool) -> Helper | None:
    """The subclass of nn.Conv1d, 2d or 3d with a flipped kernel, SAME_UPPER padding or both; None where neither."""
    if not (flip or same_upper):
        return None
    name = f"{'Flipped' if flip else ''}Conv{rank}{'SameUpper' if same_upper else ''}"
    return Helper(name, _conv_source(name, rank, flip, same_upper))


def as_tuples(rank: str, **names: str) -> str:
    """Lines that bring pooling's numbers, an int or a tuple, to one a spatial axis."""
    axes = int(rank[0])
    return "\n".join(
        f"        {name} = ({attribute},) * {axes} if isinstance({attribute}, int) else {attribute}"
        for name, attribute in names.items()
    )


def _max_pool_call(rank: str, arguments: str) -> str:
    # Without indices PyTorch's max_pool1d reads the size as a constant, and an export with a free size fails.
    return f"F.max_pool1d({arguments}, return_indices=True)[0]" if rank == "1d" else f"F.max_pool{rank}({arguments})"


MAX_POOL_FREE = Helper(
    "MaxPool1dFreeSize",
    '''class MaxPool1dFreeSize(nn.MaxPool1d):
    """nn.MaxPool1d that torch.export takes with a free size: without indices PyTorch reads it as a constant."""

    def forward(self, x: Tensor) -> Tensor:
        pooled, _ = F.max_pool1d(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, return_indices=True
        )
        return pooled
''',
)


def max_pool(rank: str) -> Helper:
    """nn.MaxPool with SAME_UPPER padding, which never wins."""
    name = f"MaxPool{rank}SameUpper"
    pads = SAME_UPPER_PADS.format(kernel="kernel", stride="stride", dilation="dilation").strip("\n")
    return Helper(
        name,
        f'''class {name}(nn.MaxPool{rank}):
    """Pads to ⌈size / stride⌉ outputs, what does not divide evenly behind (SAME_UPPER)."""

    def forward(self, x: Tensor) -> Tensor:
{as_tuples(rank, kernel="self.kernel_size", stride="self.stride", dilation="self.dilation")}
{pads}
        x = F.pad(x, pads, value=float("-inf"))
        return {_max_pool_call(rank, "x, kernel, stride, 0, dilation")}
''',
    )


def avg_pool(rank: str, *, count_pad: bool) -> Helper:
    """nn.AvgPool with SAME_UPPER padding, which counts as zeros or not at all."""
    name = f"AvgPool{rank}SameUpper" + ("" if count_pad else "Unpadded")
    pads = SAME_UPPER_PADS.format(kernel="kernel", stride="stride", dilation=f"(1,) * {rank[0]}").strip("\n")
    mean = f"F.avg_pool{rank}(F.pad({{}}, pads), kernel, stride)"
    if count_pad:
        says, result = "the padding counts as zeros", mean.format("x")
    else:
        says, result = "the padding does not count", f"{mean.format('x')} / {mean.format('torch.ones_like(x[:1, :1])')}"
    return Helper(
        name,
        f'''class {name}(nn.AvgPool{rank}):
    """Pads to ⌈size / stride⌉ outputs, what does not divide evenly behind (SAME_UPPER); {says}."""

    def forward(self, x: Tensor) -> Tensor:
{as_tuples(rank, kernel="self.kernel_size", stride="self.stride")}
{pads}
        return {result}
''',
    )


CHANNEL_LAYER_NORM = Helper(
    "ChannelLayerNorm",
    '''class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of [N, C, ...], at each position by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)
''',
)

DROP_PATH = Helper(
    "DropPath",
    '''class DropPath(nn.Module):
    """Zeroes whole samples with probability p while training and scales up the others (stochastic depth)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(1 - self.p)
        return x * keep / (1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"
''',
)

ALIGN_CROP = Helper(
    "crop_to_smallest",
    '''def crop_to_smallest(*tensors: Tensor) -> list[Tensor]:
    """The tensors, each cropped around its centre to the smallest of their spatial sizes."""
    sizes = tensors[0].shape[2:]
    for x in tensors[1:]:
        sizes = [torch.sym_min(a, b) for a, b in zip(sizes, x.shape[2:])]
    for axis, size in enumerate(sizes, 2):
        tensors = [x.narrow(axis, (x.shape[axis] - size) // 2, size) for x in tensors]
    return list(tensors)
''',
)

ALIGN_PAD = Helper(
    "pad_to_largest",
    '''def pad_to_largest(*tensors: Tensor) -> list[Tensor]:
    """The tensors, each padded with zeros around it to the largest of their spatial sizes."""
    sizes = tensors[0].shape[2:]
    for x in tensors[1:]:
        sizes = [torch.sym_max(a, b) for a, b in zip(sizes, x.shape[2:])]
    padded = []
    for x in tensors:
        pads: list[int] = []
        for size, now in zip(sizes, x.shape[2:]):
            pads = [(size - now) // 2, size - now - (size - now) // 2, *pads]  # F.pad counts axes from the last
        padded.append(F.pad(x, pads))
    return padded
''',
)


def align_resize(mode: str) -> Helper:
    """Interpolation (`linear`, `bilinear` or `trilinear`, by the rank) to the size of the first tensor."""
    name = "resize_to_first" if mode == "bilinear" else f"resize_to_first_{mode}"
    return Helper(
        name,
        f'''def {name}(first: Tensor, *others: Tensor) -> list[Tensor]:
    """The tensors, the others interpolated to the spatial size of the first."""
    return [first, *(F.interpolate(x, size=first.shape[2:], mode="{mode}") for x in others)]
''',
    )


PIXEL_SHUFFLE = Helper(
    "PixelShuffle",
    '''class PixelShuffle(nn.Module):
    """[N, C * r**k, ...] -> [N, C, ...] with each of the k spatial sizes times r: channels become space."""

    def __init__(self, r: int) -> None:
        super().__init__()
        self.r = r

    def forward(self, x: Tensor) -> Tensor:
        rank = x.ndim - 2
        size = [n * self.r for n in x.shape[2:]]
        x = x.unflatten(1, (-1, *[self.r] * rank))  # [N, C, r, ..., n, ...]
        x = x.permute(0, 1, *(axis for i in range(rank) for axis in (2 + rank + i, 2 + i)))  # [N, C, n, r, ...]
        return x.reshape(x.shape[0], x.shape[1], *size)

    def extra_repr(self) -> str:
        return f"{self.r}"
''',
)

PIXEL_UNSHUFFLE = Helper(
    "PixelUnshuffle",
    '''class PixelUnshuffle(nn.Module):
    """[N, C, ...] -> [N, C * r**k, ...] with each of the k spatial sizes divided by r: space becomes channels."""

    def __init__(self, r: int) -> None:
        super().__init__()
        self.r = r

    def forward(self, x: Tensor) -> Tensor:
        rank = x.ndim - 2
        size = [n // self.r for n in x.shape[2:]]
        x = x.reshape(x.shape[0], x.shape[1], *(part for n in size for part in (n, self.r)))  # [N, C, n, r, ...]
        x = x.permute(0, 1, *range(3, 3 + 2 * rank, 2), *range(2, 2 + 2 * rank, 2))  # [N, C, r, ..., n, ...]
        return x.flatten(1, 1 + rank)

    def extra_repr(self) -> str:
        return f"{self.r}"
''',
)
