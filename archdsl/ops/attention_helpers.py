"""Source of the functions for attention without weights, and for relative positions, in generated modules.

As in `helpers`, definitions are copied verbatim.
"""

from archdsl.ops.helpers import Helper


def attend(*, cosine: bool, last: bool) -> Helper:
    """Attention by F.scaled_dot_product_attention, of tensors with the channels first, or last."""
    name = ("cosine_" if cosine else "") + "attend" + ("_last" if last else "_first")
    sizes = "[N, ..., C]" if last else "[N, C, ...]"
    says = "cosines of the angles between" if cosine else "products of"
    given = [
        "query: Tensor,",
        "key: Tensor,",
        "value: Tensor,",
        "bias: Tensor | None = None,",
        "*,",
        "heads: int,",
        *(["logit_scale: Tensor,"] if cosine else ["scale: float | None = None,", "causal: bool = False,"]),
    ]
    rows = "flatten(1, -2)" if last else "flatten(2).transpose(1, 2).contiguous()"
    body = [f"    {n[0]} = {n}.{rows}" for n in ("query", "key", "value")]
    # Parts of one tensor cannot be viewed as one row: they are copied then.
    body += [f"    {n} = {n}.reshape(*{n}.shape[:2], heads, {n}.shape[2] // heads).transpose(1, 2)" for n in "qkv"]
    body += ["    if bias is not None:", "        bias = bias.movedim(-1, 1)"] if last else []
    if cosine:
        body += [
            "    q = F.normalize(q, dim=-1) * logit_scale.clamp(max=4.605170185988092).exp()",
            "    k = F.normalize(k, dim=-1)",
            "    x = F.scaled_dot_product_attention(q, k, v, bias, scale=1.0)",
        ]
    else:
        body += ["    x = F.scaled_dot_product_attention(q, k, v, bias, is_causal=causal, scale=scale)"]
    body += (
        ["    return x.transpose(1, 2).reshape(*query.shape[:-1], value.shape[-1])"]
        if last
        else ["    return x.transpose(2, 3).reshape(*value.shape[:2], *query.shape[2:])"]
    )
    lines = [
        f"def {name}(",
        *(f"    {line}" for line in given),
        ") -> Tensor:",
        f'    """Means of the values of {sizes}, weighted by a softmax of {says} queries and keys."""',
        *body,
    ]
    return Helper(name, "\n".join([*lines, ""]))


def _index(name: str, says: str, down: str, right: str, row: str) -> Helper:
    """Numbers the pairs of positions of a window."""
    return Helper(
        name,
        f'''def {name}(
    height: int,
    width: int,
    rank: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """For each pair of positions of a window, the number of their {says}.

    `rank` 2: a row for each position, 1: all rows in one.
    """
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    down = {down}
    right = {right}
    index = down * {row} + right
    return index if rank == 2 else index.flatten()
''',
    )


INDEX = _index(
    "relative_position_index",
    "difference",
    "rows[:, None] - rows + height - 1",
    "columns[:, None] - columns + width - 1",
    "(2 * width - 1)",
)

COORDINATES = Helper(
    "relative_coordinates",
    '''def relative_coordinates(
    height: int,
    width: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The differences of positions in a window, on a logarithmic scale: [1, 2h - 1, 2w - 1, 2]."""
    rows = torch.arange(1 - height, height, device=device, dtype=dtype)
    columns = torch.arange(1 - width, width, device=device, dtype=dtype)
    both = torch.meshgrid(
        rows / max(height - 1, 1), columns / max(width - 1, 1), indexing="ij"
    )
    table = torch.stack(both, -1).unsqueeze(0) * 8
    return table.sign() * (table.abs() + 1).log2() / 3
''',
)

LOOK_UP = Helper(
    "look_up",
    '''def look_up(table: Tensor, index: Tensor) -> Tensor:
    """The bias of each pair of positions, [N, heads, T, T], by the number of their difference."""
    size = round(index.numel() ** 0.5)
    return table.flatten(2)[:, :, index.flatten()].view(*table.shape[:2], size, size)
''',
)

LOOK_UP_LAST = Helper(
    "look_up_last",
    '''def look_up_last(table: Tensor, index: Tensor) -> Tensor:
    """The bias of each pair of positions, [N, T, T, heads], by the number of their difference."""
    size = round(index.numel() ** 0.5)
    bias = table.flatten(1, -2)[:, index.flatten()]
    return bias.view(-1, size, size, table.shape[-1])
''',
)


def relative_bias(*, last: bool) -> Helper:
    """The biases of pairs of positions, whose numbers are computed when they are needed, channels first or last."""
    name = "relative_bias_last" if last else "relative_bias"
    sizes = "[N, queries, keys, heads]" if last else "[N, heads, queries, keys]"
    table = "table.flatten(1, -2)[:, index]" if last else "table.flatten(2)[:, :, index]"
    count = "table.shape[-2]" if last else "table.shape[-1]"
    return Helper(
        name,
        f'''def {name}(
    table: Tensor,
    height: int,
    width: int,
    signed: bool = True,
    step: int = 1,
    class_token: bool = False,
) -> Tensor:
    """The bias of each pair of positions of a window, {sizes}, by their difference.

    Without `signed` by its absolute value. The queries are every `step`-th position.
    A class token, before the others, has the last three numbers of the table.
    """
    rows = torch.arange(height, device=table.device)
    columns = torch.arange(width, device=table.device)
    down = rows[::step, None] - rows
    right = columns[::step, None] - columns
    if signed:
        down = (down + height - 1) * (2 * width - 1)
        right = right + width - 1
    else:
        down = down.abs() * width
        right = right.abs()
    index = (down[:, None, :, None] + right[:, None]).flatten(2).flatten(0, 1)
    if class_token:
        index = F.pad(index, (1, 0, 1, 0))
        index[0] = {count} - 3
        index[:, 0] = {count} - 2
        index[0, 0] = {count} - 1
    return {table}
''',
    )


DISTANCES = _index(
    "distance_index", "distance", "(rows[:, None] - rows).abs()", "(columns[:, None] - columns).abs()", "width"
)


SINE_POSITIONS = Helper(
    "sine_positions",
    '''def sine_positions(
    x: Tensor, channels: int, temperature: float = 10000.0, normalized: bool = True
) -> Tensor:
    """Sines and cosines of the positions along each axis of a map: [1, channels, ...]."""
    sizes = x.shape[2:]
    each = channels // len(sizes)
    wide = torch.promote_types(x.dtype, torch.float32)
    waves = torch.arange(each, device=x.device, dtype=wide).div(2, rounding_mode="floor")
    waves = (temperature ** (2 * waves / each)).unsqueeze(1)
    found: list[Tensor] = []
    for axis, size in enumerate(sizes):
        at = torch.arange(size, device=x.device, dtype=wide)
        at = (at + 1) / (size + 1e-6) * (2 * torch.pi) if normalized else at
        angles = at / waves
        both = torch.stack((angles[::2].sin(), angles[1::2].cos()), 1).flatten(0, 1)
        shape = [1 if i != axis else size for i in range(len(sizes))]
        found.append(both.view(each, *shape).expand(each, *sizes))
    return torch.cat(found).to(x.dtype).unsqueeze(0)
''',
)
