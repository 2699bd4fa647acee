"""Source of the functions that cut maps into windows and put them together again; see `helpers`."""

PER_AXIS = '''def per_axis(x: Tensor, value: int | tuple[int, ...]) -> tuple[int, ...]:
    """A number for each spatial axis of [N, C, ...]."""
    return (value,) * (x.dim() - 2) if isinstance(value, int) else value
'''

FITTED = '''def fitted(x: Tensor, sizes: list[int]) -> Tensor:
    """A map of these spatial sizes: with zeros behind it, or cut off there."""
    pads: list[int] = []  # from the last axis on
    for now, size in zip(x.shape[2:], sizes):
        pads = [0, size - now, *pads]
    return F.pad(x, pads) if torch.compiler.is_exporting() or any(pads) else x
'''

ROLLED = '''def rolled(x: Tensor, size: tuple[int, ...], shift: tuple[int, ...]) -> Tensor:
    """A map that is cyclically shifted, except along an axis of a single window."""
    moves = [
        amount if length > window else 0
        for length, window, amount in zip(x.shape[2:], size, shift)
    ]
    return x.roll(moves, [*range(2, x.dim())]) if any(shift) else x
'''

TO_WINDOWS = f'''{PER_AXIS}

{FITTED}

{ROLLED}

def to_windows(
    x: Tensor, size: int | tuple[int, ...], shift: int | tuple[int, ...] = 0
) -> Tensor:
    """Cuts a map into windows: [N, C, ...] -> [N * windows, C, *size].

    Zeros behind the map bring its sizes up to multiples. A shift rolls it before the cut.
    """
    rank, size = x.dim() - 2, per_axis(x, size)
    counts = [-(-length // s) for length, s in zip(x.shape[2:], size)]
    x = fitted(x, [count * s for count, s in zip(counts, size)])
    x = rolled(x, size, tuple(-s for s in per_axis(x, shift)))
    for axis, parts in enumerate(zip(counts, size)):
        x = x.unflatten(2 + 2 * axis, parts)
    x = x.permute(0, *range(2, 2 + 2 * rank, 2), 1, *range(3, 3 + 2 * rank, 2))
    return x.flatten(0, rank)
'''

FROM_WINDOWS = f'''{PER_AXIS}

{FITTED}

{ROLLED}

def from_windows(
    windows: Tensor, like: Tensor, size: int | tuple[int, ...], shift: int | tuple[int, ...] = 0
) -> Tensor:
    """Puts windows together to a map of the size of `like`: undoes `to_windows`."""
    (n, _, *lengths), size = like.shape, per_axis(like, size)
    rank = len(lengths)
    x = windows.unflatten(0, (n, *[-(-length // s) for length, s in zip(lengths, size)]))
    x = x.permute(0, 1 + rank, *[a for i in range(rank) for a in (1 + i, 2 + rank + i)])
    for axis in range(2, 2 + rank):
        x = x.flatten(axis, axis + 1)
    return fitted(rolled(x, size, per_axis(x, shift)), lengths)
'''

TO_GRIDS = f'''{PER_AXIS}

{FITTED}

def to_grids(x: Tensor, size: int | tuple[int, ...]) -> Tensor:
    """Cuts a map into grids of positions equally far apart: [N * grids, C, *size].

    Zeros behind the map bring its sizes up to multiples.
    """
    rank, size = x.dim() - 2, per_axis(x, size)
    counts = [-(-length // s) for length, s in zip(x.shape[2:], size)]
    x = fitted(x, [count * s for count, s in zip(counts, size)])
    for axis, parts in enumerate(zip(size, counts)):
        x = x.unflatten(2 + 2 * axis, parts)
    x = x.permute(0, *range(3, 3 + 2 * rank, 2), 1, *range(2, 2 + 2 * rank, 2))
    return x.flatten(0, rank)
'''

FROM_GRIDS = f'''{PER_AXIS}

{FITTED}

def from_grids(grids: Tensor, like: Tensor, size: int | tuple[int, ...]) -> Tensor:
    """Puts grids together to a map of the size of `like`: undoes `to_grids`."""
    (n, _, *lengths), size = like.shape, per_axis(like, size)
    rank = len(lengths)
    x = grids.unflatten(0, (n, *[-(-length // s) for length, s in zip(lengths, size)]))
    x = x.permute(0, 1 + rank, *[a for i in range(rank) for a in (2 + rank + i, 1 + i)])
    for axis in range(2, 2 + rank):
        x = x.flatten(axis, axis + 1)
    return fitted(x, lengths)
'''

MASK_STRANGERS = f'''{TO_WINDOWS}

def mask_strangers(
    x: Tensor,
    size: int | tuple[int, ...],
    shift: int | tuple[int, ...],
    bias: Tensor | None = None,
) -> Tensor | None:
    """A bias of scores in shifted windows of a map, -inf for positions that are no neighbours.

    [heads, T, T] for each window; without a shift it is the given bias.
    """
    size, shift = per_axis(x, size), per_axis(x, shift)
    if not any(shift):
        return bias
    regions = torch.zeros((1, 1), dtype=x.dtype, device=x.device)
    for length, s, move in zip(x.shape[2:], size, shift):
        whole = -(-length // s) * s
        behind = torch.arange(whole, device=x.device) >= whole - (move if whole > s else 0)
        regions = regions.unsqueeze(-1) * 2 + behind
    regions = to_windows(regions, size).flatten(1)
    apart = regions[:, None, :, None] != regions[:, None, None, :]
    mask = torch.zeros_like(apart, dtype=x.dtype).masked_fill(apart, float("-inf"))
    mask = mask if bias is None else bias + mask
    return mask.repeat(x.shape[0], 1, 1, 1)
'''
