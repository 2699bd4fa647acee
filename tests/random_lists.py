"""Random statements with lists of tensors, and with shared parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.random_items import ELEMENTWISE
from tests.random_parts import Part
from tests.random_tokens import attention

if TYPE_CHECKING:
    from tests.random_items import Names
    from tests.random_statements import Writer


def several(writer: Writer, names: Names, flat: bool, depth: int) -> list[Part]:
    """A list of tensors, which may grow, and a branch for each of them.

    Each line leaves one tensor, also where those behind it are taken out again.
    """
    random, items = writer.random, writer.items
    name, number = items.name(names.taken), items.name(names.taken, value=True)
    each, width = (items.name(names.taken, value=True) for _ in range(2))
    named = f"{name}: it -> {writer.merged(names, flat, 'concat')}"
    count = random.randint(2, 4)
    given = [items.item(names, flat) for _ in range(count - 1)]
    found = [Part(f"({', '.join(given)}, it) -> {named}")]
    if random.random() < 0.25:
        found.append(Part(f"({name}, it -> {items.kept(names, flat)}) -> {named}"))
    if random.random() < 0.25:
        found.append(Part(f"for {number} in 0..2 {{ ({name}[{number}], {name}, tanh) -> {named} }}"))
    if random.random() < 0.25:  # the list in another order, or a part of it
        order = random.choice([f"range(len({name}) - 1, -1, -1)", f"range(0, len({name}), 2)"])
        found.append(Part(f"(for {number} in {order} {{ {name}[{number}] }}, it) -> {named}"))
    inner = names.inner(number, loop=True)
    then = items.label(inner) + items.item(inner, flat)
    last = items.label(names) + writer.merged(names, flat, "concat")
    part = f"{name}[{random.choice(['0..1', '1..2', '0..=1', f'1..len({name})', f'0..len({name}) - 1', '0..2'])}]"
    layer = f"linear({width})" if flat else f"conv({width}, 1)"
    same = "" if flat else f" -> resize({name}[{random.choice(['0', '-1', '1'])}].size)"
    rounds = [
        f"repeat 2 {{ {name}[0] -> {items.item(names, flat)} }}",
        f"for {each} in {name} {{ {each} -> {items.item(names, flat)} }}",
        f"for {number}, {each} in enumerate({name}) {{ {each} -> {then} }}",
        f"for {number} in 0..len({name}) {{ {name}[{number}] -> {then} }}",
        f"if {items.condition(names)} {{ {name}[0] }} else {{ {name}[-1] -> {items.item(names, flat)} }}",
        part,
        f"for {each} in {part} {{ {each} -> {items.item(names, flat)} }}",
        f"for {number}, {each} in enumerate({part}) {{ {each} -> {then} }}",
        f"for {each}, {width} in zip({name}, [2, 4, 6, 2, 4][0..len({name})]) {{ {each} -> {layer} }}",
        f"for {number} in range(len({name}) - 2, -1, -1) {{ ({name}[{number}], {name}[-1]{same}) -> concat }}",
        f"{part} -> {writer.merged(names, flat, 'concat')}",
    ]
    uses = random.sample(rounds, random.choice([1, 1, 2])) + random.choice([[], [f"{name}[0..len({name})]"]])
    return [*found, Part(f"({', '.join([*uses, 'it'])}) -> {last}")]


def pyramid(writer: Writer, names: Names, width: str) -> list[Part]:
    """The body of a block into which a list of maps flows; it gives one of each, which sees all coarser ones."""
    random, items = writer.random, writer.items
    inner, sums, number, each = (items.name(names.taken, value=i > 1) for i in range(4))
    join = random.choice(["add", "mean", "concat"])
    back = f"({inner}[{number}], {sums}[0] -> resize({inner}[{number}].size)) -> {join}"
    labelled = random.choice(["", f'"inner.{{{number}}}": '])
    return [
        Part(f"(for {number}, {each} in enumerate(it) {{ {each} -> {labelled}conv({width}, 1) }}) -> {inner}: it"),
        Part(f"{inner}[-1] -> {sums}: it"),
        Part(f"for {number} in range(len({inner}) - 2, -1, -1) {{", [Part(f"({back}, {sums}) -> {sums}: it")]),
        Part(f"(for {each} in {sums} {{ {each} -> {items.item(names)} }}) -> align -> {sums}: it"),
        Part(random.choice([f"{sums} -> concat", f"({sums}[0], {sums}[1..len({sums})]) -> concat"])),
    ]


def shared(writer: Writer, names: Names, flat: bool, depth: int) -> list[Part]:
    """Something shared, and several calls of it."""
    random, items = writer.random, writer.items
    label = items.label(names) if names.in_loop or random.random() < 0.2 else ""
    label = label if label.startswith('"') else ""
    if names.in_loop and not label:
        return [Part(writer.chain(names, flat))]
    name = items.name(names.taken, value=True)
    layer = f"linear({items.width(names)})" if flat else f"conv({items.width(names)}, 3)"
    blocks = [b for b in writer.blocks if b.flat_in == b.flat_out == flat and b.takes == b.gives == 1]
    roll = random.random()
    keeps = roll < 0.5
    if roll < 0.4:
        inner = names.inner()
        inner.taken, inner.in_loop = set(names.taken), False
        found = [Part(f"share {name}: {label}{{", writer.kept(inner, flat, depth + 1, 2))]
    elif keeps:
        wholes = ["relu", *["linear(it.channels)"] * 3] if flat else ["batchnorm", *[attention(items, names)] * 2]
        whole = random.choice(wholes)
        found = [Part(f"share {name}: {label}{whole}")]
    elif roll < 0.6 and blocks:
        found = [Part(f"share {name}: {label}{writer.call(random.choice(blocks), names)}")]
    elif roll < 0.7 and not flat:
        return merged_by_one(writer, names, f"share {name}: {label}", name)
    else:
        unit = random.choice(["%s", "{ %s -> relu }", "{ relu -> %s }", "residual via %s { tanh -> %s }"])
        found = [Part(f"share {name}: {label}{unit.replace('%s', layer.replace('it.channels', '4'))}")]
    return [*found, *calls(writer, names, flat, name, keeps)]


def merged_by_one(writer: Writer, names: Names, share: str, name: str) -> list[Part]:
    """Shared attention of two tensors; or a convolution and a batchnorm that are shared one by one."""
    random, items = writer.random, writer.items
    if random.random() < 0.5 and not names.in_loop:
        norm = items.name(names.taken, value=True)
        first = random.choice([name, f"{name} -> tanh -> {norm}"])
        return [
            Part(f"{share}conv(4, {random.choice('13')}, bias = {items.switch(names)})"),
            Part(f"share {norm}: batchnorm"),
            Part(
                f"({first} -> {norm}, {items.activation(names)} -> {name} -> {norm}) -> {random.choice(['add', 'sub'])}"
            ),
        ]
    two = f"(it, {items.activation(names)}) -> {name}"
    return [Part(f"{share}attention(1)"), Part(f"({two}, {random.choice([two, name])}) -> concat"), Part("conv(4, 1)")]


def calls(writer: Writer, names: Names, flat: bool, name: str, keeps: bool) -> list[Part]:
    """Several calls of a shared part, which keeps the sizes or not."""
    random, items = writer.random, writer.items
    other = "" if flat else f"{random.choice(['maxpool(2)', 'avgpool(3, 1, 1)', 'upsample(2)'])} -> "
    pair = f"({name}, {random.choice(ELEMENTWISE)} -> {name})"
    listed, each = items.name(names.taken), items.name(names.taken, value=True)
    merge = random.choice(["add", "concat", "mean", "sub", "mul"])
    joined = writer.merged(names, flat, "concat")
    uses = [
        [Part(f"{pair} -> {merge}")],
        [Part(f"({name}, {other}{name}) -> {writer.merged(names, flat, 'concat')}")],
        [Part(f"{name} -> {random.choice(ELEMENTWISE)}")],
        [
            Part(f"(it, {items.activation(names)}, {other}tanh) -> {listed}: it -> {joined}"),
            Part(f"(for {each} in {listed} {{ {each} -> {name} }}) -> {joined}"),
        ],
        [
            Part(f"if {items.condition(names)} {{", [Part(name)]),
            Part("else {", [Part(f"{items.activation(names)} -> {name}")], chained=True),
        ],
        [
            Part(f"{pair} -> {listed}: it -> concat"),
            Part(f"({listed}[1], for x in {listed}[0..2] {{ x -> tanh }}, it) -> concat"),
        ],
    ]
    if keeps:
        uses += [
            [Part(f"repeat {random.randint(1, 3)} {{ {name} }}")],
            [Part(f"residual {{ {name} }}")],
            [Part(f"residual via {name} {{ {items.activation(names)} -> {name} }}")],
            [Part(f"repeat {random.randint(1, 3)} {{", [Part(f"{items.activation(names)} -> {name}")])],
            [Part(f"{name} -> tanh -> {name}")],
        ]
        uses += [] if flat else [[Part(f"windows({items.size(1, 3)}, pad) {{ {name} }}"), Part(name)]]
    return random.choice(uses)
