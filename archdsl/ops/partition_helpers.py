"""Source of the functions that cut maps into windows and put them together again; see `helpers`.

Each has a form for maps with the channels first, [N, C, ...], and one, `last`, for the channels last, [N, ..., C].
"""

from archdsl.ops.helpers import Helper

PER_AXIS = '''def per_axis(x: Tensor, value: int | tuple[int, ...]) -> tuple[int, ...]:
    """A number for each spatial axis of a batch of maps."""
    return (value,) * (x.dim() - 2) if isinstance(value, int) else value
'''


def _named(name: str, last: bool) -> str:
    return f"{name}_last" if last else name


def _lengths(name: str, last: bool) -> str:
    """The sizes of the spatial axes of a map."""
    return f"{name}.shape[1:-1]" if last else f"{name}.shape[2:]"


def _fitted(last: bool) -> str:
    pads = "[0, 0]  # the channels; from the last axis on" if last else "[]  # from the last axis on"
    return f'''def {_named("fitted", last)}(x: Tensor, sizes: list[int]) -> Tensor:
    """A map of these spatial sizes: with zeros behind it, or cut off there."""
    pads: list[int] = {pads}
    for now, size in zip(reversed({_lengths("x", last)}), reversed(sizes)):
        pads += [0, size - now]
    return F.pad(x, pads) if torch.compiler.is_exporting() or any(pads) else x
'''


def _rolled(last: bool) -> str:
    first, axes = (1, "range(1, x.dim() - 1)") if last else (2, "range(2, x.dim())")
    return f'''def {_named("rolled", last)}(x: Tensor, size: tuple[int, ...], shift: tuple[int, ...]) -> Tensor:
    """A map that is cyclically shifted, except along an axis of a single window."""
    lengths = {_lengths("x", last)}
    if torch.compiler.is_exporting():  # without a decision by a size that may be free
        for axis, (length, window, amount) in enumerate(zip(lengths, size, shift), {first}):
            places = torch.arange(length, device=x.device)
            moved = (places - amount * (places[-1] >= window)) % (places[-1] + 1)
            x = x.index_select(axis, moved) if amount else x
        return x
    moves = [
        amount if length > window else 0
        for length, window, amount in zip(lengths, size, shift)
    ]
    return x.roll(moves, [*{axes}]) if any(moves) else x
'''


def _cut(last: bool, counts_lead: bool) -> str:
    """The lines that make samples of a map, whose axes are cut into counts and sizes, or the other way round."""
    start = 1 if last else 2
    counts, sizes = (start, start + 1) if counts_lead else (start + 1, start)
    counts_text, sizes_text = (f"*range({axis}, {axis} + 2 * rank, 2)" for axis in (counts, sizes))
    order = f"0, {counts_text}, {sizes_text}, -1" if last else f"0, {counts_text}, 1, {sizes_text}"
    return f"""
    for axis, parts in enumerate(zip({"counts, size" if counts_lead else "size, counts"})):
        x = torch.unflatten(x, {start} + 2 * axis, parts)
    x = x.permute({order})
    return x.flatten(0, rank)
"""


def _joined(last: bool, counts_lead: bool) -> str:
    """The lines that put samples together: the reverse."""
    size = "1 + rank + i" if last else "2 + rank + i"
    pair = f"(1 + i, {size})" if counts_lead else f"({size}, 1 + i)"
    ahead, behind = ("0", ", -1") if last else ("0, 1 + rank", "")
    axes = "range(1, 1 + rank)" if last else "range(2, 2 + rank)"
    return f"""
    x = x.permute({ahead}, *[a for i in range(rank) for a in {pair}]{behind})
    for axis in {axes}:
        x = x.flatten(axis, axis + 1)
"""


def to_windows(last: bool) -> Helper:
    name, fitted, rolled = (_named(n, last) for n in ("to_windows", "fitted", "rolled"))
    sizes = "[N, ..., C] -> [N * windows, *size, C]" if last else "[N, C, ...] -> [N * windows, C, *size]"
    return Helper(
        name,
        f'''{PER_AXIS}

{_fitted(last)}

{_rolled(last)}

def {name}(
    x: Tensor, size: int | tuple[int, ...], shift: int | tuple[int, ...] = 0
) -> Tensor:
    """Cuts a map into windows: {sizes}.

    Zeros behind the map bring its sizes up to multiples. A shift rolls it before the cut.
    """
    rank, size = x.dim() - 2, per_axis(x, size)
    counts = [(length + s - 1) // s for length, s in zip({_lengths("x", last)}, size)]
    x = {fitted}(x, [count * s for count, s in zip(counts, size)])
    x = {rolled}(x, size, tuple(-s for s in per_axis(x, shift))){_cut(last, True)}''',
    )


def from_windows(last: bool) -> Helper:
    name, fitted, rolled = (_named(n, last) for n in ("from_windows", "fitted", "rolled"))
    return Helper(
        name,
        f'''{PER_AXIS}

{_fitted(last)}

{_rolled(last)}

def {name}(
    windows: Tensor,
    like: Tensor,
    size: int | tuple[int, ...],
    shift: int | tuple[int, ...] = 0,
) -> Tensor:
    """Puts windows together to a map of the size of `like`: undoes `{_named("to_windows", last)}`."""
    {"(n, *lengths, _)" if last else "(n, _, *lengths)"}, size = like.shape, per_axis(like, size)
    rank = len(lengths)
    counts = [(length + s - 1) // s for length, s in zip(lengths, size)]
    x = torch.unflatten(windows, 0, (n, *counts)){_joined(last, True)}\
    return {fitted}({rolled}(x, size, per_axis(x, shift)), lengths)
''',
    )


def to_grids(last: bool) -> Helper:
    name, fitted = _named("to_grids", last), _named("fitted", last)
    sizes = "[N * grids, *size, C]" if last else "[N * grids, C, *size]"
    return Helper(
        name,
        f'''{PER_AXIS}

{_fitted(last)}

def {name}(x: Tensor, size: int | tuple[int, ...]) -> Tensor:
    """Cuts a map into grids of positions equally far apart: {sizes}.

    Zeros behind the map bring its sizes up to multiples.
    """
    rank, size = x.dim() - 2, per_axis(x, size)
    counts = [(length + s - 1) // s for length, s in zip({_lengths("x", last)}, size)]
    x = {fitted}(x, [count * s for count, s in zip(counts, size)]){_cut(last, False)}''',
    )


def from_grids(last: bool) -> Helper:
    name, fitted = _named("from_grids", last), _named("fitted", last)
    return Helper(
        name,
        f'''{PER_AXIS}

{_fitted(last)}

def {name}(grids: Tensor, like: Tensor, size: int | tuple[int, ...]) -> Tensor:
    """Puts grids together to a map of the size of `like`: undoes `{_named("to_grids", last)}`."""
    {"(n, *lengths, _)" if last else "(n, _, *lengths)"}, size = like.shape, per_axis(like, size)
    rank = len(lengths)
    counts = [(length + s - 1) // s for length, s in zip(lengths, size)]
    x = torch.unflatten(grids, 0, (n, *counts)){_joined(last, False)}\
    return {fitted}(x, lengths)
''',
    )


def mask_strangers(last: bool) -> Helper:
    name, cut = _named("mask_strangers", last), to_windows(last)
    heads = "[T, T, heads]" if last else "[heads, T, T]"
    # PyTorch's kernels of attention copy a bias for all windows where it is not contiguous.
    return Helper(
        name,
        f'''{cut.source}

def {name}(
    x: Tensor,
    size: int | tuple[int, ...],
    shift: int | tuple[int, ...],
    bias: Tensor | None = None,
) -> Any:
    """A bias of scores in shifted windows of a map, -inf for positions that are no neighbours.

    {heads} for each window; without a shift it is the given bias, which may be None.
    """
    size, shift = per_axis(x, size), per_axis(x, shift)
    if not any(shift):
        return bias
    regions = torch.zeros({"(1,)" if last else "(1, 1)"}, dtype=x.dtype, device=x.device)
    for length, s, move in zip({_lengths("x", last)}, size, shift):
        places = torch.arange((length + s - 1) // s * s, device=x.device)
        behind = (places > places[-1] - move) & (places[-1] >= s)
        regions = regions.unsqueeze(-1) * 2 + behind
    regions = {cut.name}({"regions.unsqueeze(-1)" if last else "regions"}, size).flatten(1)
    apart = regions[:, None, :, None] != regions[:, None, None, :]
    mask = torch.zeros_like(apart, dtype=x.dtype).masked_fill(apart, float("-inf"))
    mask = mask if bias is None else {"bias.movedim(-1, 1).contiguous()" if last else "bias"} + mask
    return mask.expand(x.shape[0], *mask.shape).flatten(0, 1){".movedim(1, -1)" if last else ""}
''',
    )


def pad_to_multiple(last: bool) -> Helper:
    name, sizes = _named("pad_to_multiple", last), "[N, ..., C]" if last else "[N, C, ...]"
    pads = "[0, 0]  # the channels; from the last axis on" if last else "[]  # from the last axis on"
    return Helper(
        name,
        f'''{PER_AXIS}

def {name}(x: Tensor, size: int | tuple[int, ...]) -> Tensor:
    """Pads zeros behind each spatial axis of a map {sizes}, up to multiples."""
    pads: list[int] = {pads}
    for length, s in zip(reversed({_lengths("x", last)}), reversed(per_axis(x, size))):
        pads += [0, -length % s]
    return F.pad(x, pads) if torch.compiler.is_exporting() or any(pads) else x
''',
    )
