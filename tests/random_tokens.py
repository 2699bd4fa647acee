"""Random items of tokens, attention, windows and learned tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.random_parts import Part

if TYPE_CHECKING:
    from tests.random_items import Items, Names
    from tests.random_statements import Writer

SIDES = (2, 3), (2, 2), (1, 3), (3, 2)


def in_a_row(items: Items, names: Names) -> str:
    """Something on tokens, and the way back to the map."""
    random = items.random
    back = random.choice(["maps(grid.size)", "maps(grid.size)", "tokens -> maps(to = grid.size)"])
    one = random.choice([items.linear, items.norm, items.activation])(names)
    turned = random.choice([" -> tanh", "", f" -> {items.regular(names)}"])
    forms = [
        f"{one} -> {random.choice([items.linear, items.norm, items.activation])(names)}",
        f"{one} -> {attention(items, names)}",
        # A token more than there are positions, which is cut off again.
        f"(parameter([it.channels, 1]{random.choice(['', ', stored = tokens'])}, init = ones), it) -> concat(axis = 1)"
        f" -> {attention(items, names)} -> slice(1, axis = 1)",
        # The products of all pairs of channels, or of positions.
        f"softmax(axis = 1) -> rows: it\n (rows, rows -> permute([1, 0])) -> matmul{turned}\n (it, rows) -> matmul",
        f"softmax -> rows: it\n (rows -> permute([1, 0]), rows) -> matmul{turned}\n (rows, it) -> matmul",
        "(parameter([4, it.channels], init = normal(0.5), stored = rows), it) -> matmul",
        "",
    ]
    form = random.choice(forms) or placed(items)
    return f"{{ grid: {{ }}\n tokens -> {form} -> {back} }}"


def placed(items: Items) -> str:
    """Fixed positions, of the row or of its map, added to what flows in."""
    random = items.random
    rank = random.choice([1, items.rank])
    more = items.call(
        "sine_positions",
        str(2 * rank * random.randint(1, 3)),
        temperature=items.maybe(random.choice(["100.0", "20"]), 0.5),
        normalized=items.maybe(random.choice(["true", "false"]), 0.5),
    )
    if rank == 1:
        return f"(it, it -> {more} -> linear(it.channels)) -> add"
    return f"row: {{ }}\n (row, grid -> {more} -> conv(row.channels, 1) -> tokens) -> add"


def parameter(items: Items) -> str:
    """A learned tensor of the size that flows in, which must be known."""
    random = items.random
    init = random.choice(["zeros", "ones", "normal(0.1)", "truncated_normal(0.2)"])
    stored = random.choice(["tokens", "rows", "maps", "plain"])
    return items.call("parameter", "it.shape", init=items.maybe(init, 0.7), stored=items.maybe(stored, 0.8))


# ---------------------------------------------------------------- attention


def mixing(items: Items, names: Names) -> str:
    """Attention of any kind."""
    kinds = [attention, attention, crossed, lambda i, n: attend(i), lambda i, n: attend(i, sized=True), of_queries]
    return items.random.choice(kinds)(items, names)


def attention(items: Items, names: Names) -> str:
    """Attention of what flows in, one tensor or several."""
    heads = items.random.choice(["2", "1", "it.channels", "2 if it.channels % 2 == 0 else 1"])
    return items.call(
        "attention",
        heads,
        causal=items.maybe(items.switch(names), 0.3),
        dropout=items.maybe(items.value("float", names)),
        bias=items.maybe(items.switch(names), 0.3),
    )


def crossed(items: Items, names: Names) -> str:
    """Attention of queries with other tensors: other channels, other positions, or both; or with a bias."""
    random = items.random
    other = random.choice(["maxpool(2)", "avgpool(2)", "adaptive_avgpool(2)", "upsample(2)", items.kept(names)])
    near, query = random.choice(["tokens", "relu", items.activation(names)]), f"conv({random.choice('246')}, 1)"
    last = items.call(
        "attention",
        random.choice("112"),
        dropout=items.maybe(items.value("float", names)),
        bias=items.maybe(items.switch(names)),
    )
    with_bias = f"(conv(4, 1), conv(2, 1), conv({random.choice('24')}, 1)"
    sides = random.choice(SIDES)
    forms = [
        f"({query}, it) -> {last}",
        f"({query}, {other}) -> {last}",
        f"({query}, {near} -> conv(3, 1), conv(2, 1)) -> {last}",
        f"{{ ({query}, {other}) -> (asks, memory): {{ }}\n (asks, memory -> conv(3, 1), memory) -> {last} }}",
        f"({query}, {query}, it) -> {items.call('attention', '2', causal=random.choice(['true', 'false']))}",
        f"(it, {of_queries(items, names, keep=False)}) -> attention(1)",
        f"{resized(items, sides)} -> {with_bias}, {bias(items, sides, 2)}) -> attention(2)",
        f"{resized(items, sides)} -> {with_bias}, {bias(items, sides, 1)}) -> attention(2, dropout = 0.25)",
    ]
    return random.choice(forms)


def of_queries(items: Items, names: Names, keep: bool = True) -> str:
    """A decoder's queries, learned, which look at what flows in."""
    random = items.random
    stored = random.choice(["", ", stored = rows", ", stored = tokens"])
    queries = f"parameter([{random.choice('246')}, {random.randint(1, 4)}], init = normal(0.5){stored})"
    found = f"({queries}, it) -> {items.call('attention', random.choice('12'), bias=items.maybe('false'))}"
    more = random.choice(["", " -> residual { attention(2) }", f" -> linear({items.width(names)})"])
    return f"(it, {found}{more}) -> attention(1)" if keep else found + more


def rotary(items: Items, heads: int) -> str:
    """Turns queries or keys of so many heads."""
    return items.call(
        "rotary",
        str(heads),
        temperature=items.maybe("100.0"),
        pairs=items.maybe(items.random.choice(["halves", "neighbours"]), 0.6),
        positions=items.maybe(items.random.choice(["centred", "counted"]), 0.3),
    )


def resized(items: Items, sides: tuple[int, int]) -> str:
    """The map that flows in, brought to so many positions."""
    sizes = [sides[0] * sides[1]] if items.rank == 1 else [*[1] * (items.rank - 2), *sides]
    return f"resize([{', '.join(map(str, sizes))}])"


def bias(items: Items, sides: tuple[int, int], heads: int) -> str:
    """A bias of the scores of that many positions."""
    random = items.random
    size, count = "x".join(map(str, sides)), sides[0] * sides[1]
    differences = (2 * sides[0] - 1) * (2 * sides[1] - 1)
    stored = random.choice(["", ", stored = matrix"])
    tables = [
        f"parameter([{heads}, {differences}], init = normal(0.5), stored = rows) -> relative({size}{stored})",
        f"coordinates({size}) -> linear({heads}) -> relative({size}{stored})",
        f"parameter([{heads}, {count}, {count}], init = normal(0.5))",
    ]
    if items.rank == 2:
        scale = items.maybe(random.choice(["positions", "relative"]), 0.6)
        tables.append(f"{items.call('differences', scale=scale)} -> linear({heads}) -> relative({size}{stored})")
    return random.choice(tables)


def attend(items: Items, *, sized: bool = False, sides: tuple[int, int] | None = None) -> str:
    """Attention without weights, of parts of what flows in; with a bias if the positions are, or shall be, known."""
    random = items.random
    width, heads = random.choice([(4, 2), (4, 1), (2, 2), (6, 3)])
    turns = random.random() < 0.3
    width = 2 * heads * items.rank * random.randint(1, 2) if turns else width
    make = random.choice([f"conv({3 * width}, 1)", f"linear({3 * width})"])
    parts = f"{make} -> split(3)"
    if turns:
        turn = rotary(items, heads)
        parts = f"{{ {parts} -> parts: it\n (parts[0] -> {turn}, parts[1] -> {turn}, parts[2]) }}"
    scale = random.choice([None, "0.5", "cosine"])
    if not sized and sides is None:
        causal = None if scale == "cosine" else items.maybe("true", 0.3)
        return f"{parts} -> {items.call('attend', str(heads), scale=scale, causal=causal)}"
    here = sides or random.choice(SIDES)
    added = bias(items, here, random.choice([heads, heads, 1]))
    found = f"({parts}, {added}) -> {items.call('attend', str(heads), scale=scale)}"
    return found if sides else f"{resized(items, here)} -> {found}"


# ---------------------------------------------------------------- windows


def windows(writer: Writer, names: Names, flat: bool, depth: int) -> list[Part]:
    """A body that meets windows or sparse grids, one or two tensors cut alike."""
    random, items = writer.random, writer.items
    if flat:
        return [Part(writer.chain(names, flat))]
    sides = random.choice(SIDES)
    known = random.random() < 0.4
    size = resized(items, sides)[8:-2].replace(", ", "x") if known else items.size(1, 4)
    shift = random.choice(["", "", f", {random.randint(0, 2)}", f", shift = {items.size(0, 1)}"])
    head = random.choice([f"windows({size}{shift}", f"windows({size}{shift}", f"grid({size}"])
    head += random.choice([", pad", ", pad", ", pad = true", ""]) + ") {"
    inner = names.inner()
    pair = random.random() < 0.3
    inner.labels = []
    crossing = items.call("attention", random.choice("112"), dropout=items.maybe(items.value("float", inner)))
    body = [Part(random.choice(["add", "concat", "mul", crossing, crossing]))] if pair else []
    looks = [
        attention(items, inner),
        "attention(1)",
        attend(items),
        f"(it, {items.linear(inner)}) -> {crossing}",
        of_queries(items, inner),
    ]
    if known:
        looks += 2 * [attend(items, sides=sides), f"(it, it, it, {bias(items, sides, 1)}) -> attention(1)"]
    look = items.label(inner) + random.choice(looks) if random.random() < 0.6 else ""
    if shift and random.random() < 0.7:
        point = [items.activation(inner), items.linear(inner), "layernorm", "batchnorm", "droppath(0.1)", "conv(4, 1)"]
        body += [Part(items.label(inner) + random.choice(point)) for _ in range(random.randint(0 if look else 1, 2))]
    elif random.random() < 0.6:
        body += writer.kept(inner, flat, depth + 1, 2)
    elif not look or random.random() < 0.5:
        body += writer.statements(inner, flat, depth + 1, 2)
    if look:
        kept = random.random() < 0.4 and "it" not in look.split()
        body.insert(random.randint(bool(pair), len(body)), Part(f"residual {{ {look} }}" if kept else look))
    first = f"(it, {items.kept(names)}) -> {head}" if pair else items.label(names) + head
    return [Part(first, body)]
