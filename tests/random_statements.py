"""Random statements of specs: chains, combinators, loops, conditions, references, and blocks that call each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from random import Random

from tests import random_lists, random_tokens
from tests.random_items import ELEMENTWISE, KINDS, Items, Names
from tests.random_parts import Block, Part

DEFAULTS = [
    "default conv(bias = false)",
    "default conv(init = he)",
    "default batchnorm(eps = 0.01)",
    "default conv(pad_mode = replicate)",
    "default leaky_relu(slope = 0.3)",
    "default linear(bias = false, init = xavier)",
    "default maxpool(stride = 1)",
]


@dataclass
class Writer:
    """Generates the statements of bodies."""

    random: Random
    items: Items
    blocks: list[Block] = field(default_factory=list)
    budget: int = 30

    # ------------------------------------------------------------ statements

    def statements(self, names: Names, flat: bool, depth: int, most: int = 4) -> list[Part]:
        found: list[Part] = []
        for _ in range(self.random.randint(1, most)):
            if self.budget <= 0:
                break
            self.budget -= 1
            found += self.statement(names, flat, depth)
        return found

    def statement(self, names: Names, flat: bool, depth: int) -> list[Part]:
        roll = self.random.random()
        if depth >= 3 or roll < 0.3:
            return [Part(self.chain(names, flat))]
        ways = [
            (0.10, self.residual),
            (0.05, self.dense),
            (0.07, partial(random_tokens.windows, self)),
            (0.10, self.parallel),
            (0.10, self.reference),
            (0.16, self.choice),
            (0.13, self.loop),
            (0.05, self.labelled_body),
            (0.05, self.pattern),
            (0.06, partial(random_lists.several, self)),
            (0.08, partial(random_lists.shared, self)),
            (0.04, self.setting),
            (0.03, self.gate),
            (0.24, self.calls),
        ]
        (way,) = self.random.choices([w for _, w in ways], [share for share, _ in ways])
        return way(names, flat, depth)

    def chain(self, names: Names, flat: bool, most: int = 4) -> str:
        """Items with labels, some of which name a tensor for later statements."""
        random = self.random
        found = []
        new = []
        for _ in range(random.randint(1, most)):
            if random.random() < 0.25 and not names.in_loop:
                label = self.items.name(names.taken)
                new.append(label)
                found.append(f"{label}: {self.items.item(names, flat)}".replace(" -> ", " -> ", 1))
            else:
                found.append(self.items.label(names) + self.items.item(names, flat))
            if random.random() < 0.06 and not names.in_loop:
                new.append(self.items.name(names.taken))
                found.append(f"{new[-1]}: it")
        names.labels += new
        return " -> ".join(found)

    def kept(self, names: Names, flat: bool, depth: int, most: int = 3) -> list[Part]:
        """Statements that keep all sizes."""
        random = self.random
        found = []
        for _ in range(random.randint(1, most)):
            items = [self.items.label(names) + self.items.kept(names, flat) for _ in range(random.randint(1, 3))]
            found.append(Part(" -> ".join(items)))
        if random.random() < 0.15 and depth < 3:
            found += self.choice(names, flat, depth, kept=True)
        return found

    def residual(self, names: Names, flat: bool, depth: int) -> list[Part]:
        random = self.random
        items = self.items
        roll = random.random()
        label = items.label(names)
        if roll < 0.45:
            where = f"if {items.condition(names)} " if random.random() < 0.3 else ""
            return [Part(f"{label}residual {where}{{", self.kept(names.inner(), flat, depth + 1))]
        inner = names.inner()
        out = items.width(names)
        if roll < 0.7 or flat:
            name = items.name(names.taken, value=True)
            last = f"linear({name})" if flat else f"conv({name}, 1)"
            body = [*self.kept(inner, flat, depth + 1, 2), Part(items.label(inner) + last)]
            where = random.choice(["", "via { } ", f"via {last} ", f"if {items.condition(names)} "])
            if random.random() < 0.3:
                where = f"via {{ if {items.condition(names)} {{ {last} }} }} "
            value = "it.channels" if "via conv" not in where and "via linear" not in where else out
            return [Part(f"let {name} = {value}"), Part(f"{label}residual {where}{{", body)]
        stride = random.choice(["1", "1", "2"])
        skip = random.choice([f"conv({out}, 1, {stride})", f"conv({out}, 1, {stride}) -> batchnorm"])
        via = f"{{ {skip} }}" if "->" in skip or random.random() < 0.3 else items.label(names) + skip
        if random.random() < 0.4:
            via = f"{{ if {stride} != 1 or it.channels != {out} {{ {skip} }} }}"
        body = [Part(f"conv({out}, 3, {stride})"), *self.kept(inner, flat, depth + 1, 2)]
        return [Part(f"{label}residual via {via} {{", body)]

    def dense(self, names: Names, flat: bool, depth: int) -> list[Part]:
        inner = names.inner()
        body = self.kept(inner, flat, depth + 1, 2)
        units = [b for b in self.blocks if not (b.flat_in or b.flat_out) and b.takes == b.gives == 1]
        if units and not flat and self.random.random() < 0.5:
            body = [Part(self.items.label(inner) + self.call(self.random.choice(units), inner))]
        elif self.random.random() < 0.6:
            new = self.items.linear(inner) if flat else self.items.conv(inner, keep=True)
            body.append(Part(self.items.label(inner) + new))
        dense = Part(f"{self.items.label(names)}dense {{", body)
        if self.random.random() < 0.3:
            return [Part(f"repeat {self.random.randint(0, 3)} {{", [Part("dense {", body)])]
        return [dense]

    def merged(self, names: Names, flat: bool, merge: str) -> str:
        """The item after a parallel."""
        if flat:
            return merge
        align = f"align({self.items.value('align', names)})" if self.random.random() < 0.8 else "align"
        return self.random.choice([f"{align} -> {merge}"] * 3 + [merge])

    def parallel(self, names: Names, flat: bool, depth: int) -> list[Part]:
        random = self.random
        merge = random.choice(["concat", "concat", "add", "sub", "maximum", "mean", "mul"])
        count = random.choice([2, 2, 3, 4])
        last = ""
        if merge != "concat":
            last = f"linear({self.items.width(names)})" if flat else f"conv({self.items.width(names)}, 1)"
            last = last.replace("it.channels", "4")
        branches = []
        for _ in range(count):
            inner = names.inner()
            roll = random.random()
            start = random.choice(names.labels) if names.labels and roll < 0.2 else "it"
            if roll < 0.55 or depth >= 2:
                items = [self.items.label(inner) + self.items.item(inner, flat) for _ in range(random.randint(0, 2))]
                chain = " -> ".join([start, *items, *[self.items.label(inner) + last] * bool(last)])
                branches.append(Part(chain.removeprefix("it -> ") + ","))
            else:
                body = self.statements(inner, flat, depth + 1, 2)
                branches.append(Part("{", [*body, *[Part(last)] * bool(last)], "},"))
        label = random.choice(["", "", self.items.label(names)])
        if last and not flat and count < 4 and random.random() < 0.15:
            aligned = "align -> " * (count == 3 or random.random() < 0.5)
            return [Part("(", branches, f") -> {aligned}{label}{random_tokens.attention(self.items, names)}")]
        return [Part("(", branches, f") -> {self.merged(names, flat, label + merge)}")]

    def reference(self, names: Names, flat: bool, depth: int) -> list[Part]:
        """Joins an earlier tensor with the current one, or continues from it."""
        random = self.random
        if not names.labels:
            return [Part(self.chain(names, flat))]
        one = random.choice(names.labels)
        width = self.items.width(names).replace("it.channels", "4")
        map_to = f"linear({width})" if flat else f"conv({width}, 1)"
        merge = random.choice(["add", "mul", "sub", "maximum", "mean"])
        pair = random.choice([f"(it, {one})", f"({one}, it)", f"(it, {one} -> {self.items.item(names, flat)})"])
        if random.random() < 0.6 or names.in_loop:
            if random.random() < 0.6:
                return [Part(f"{pair} -> {self.merged(names, flat, 'concat')}")]
            pair = random.choice([f"(it -> {map_to}, {one} -> {map_to})", f"({one} -> {map_to}, {map_to})"])
            return [Part(f"{pair} -> {self.merged(names, flat, merge)}")]
        here = self.items.name(names.taken)
        names.labels.append(here)
        return [
            Part(f"{here}: {self.items.kept(names, flat)}"),
            Part(f"{one} -> {self.items.item(names, flat)}"),
            Part(f"(it, {here}) -> {self.merged(names, flat, 'concat')}"),
        ]

    def choice(self, names: Names, flat: bool, depth: int, kept: bool = False) -> list[Part]:
        random = self.random

        def body() -> list[Part]:
            inner = names.inner()
            if not kept and inner.labels and random.random() < 0.4:
                return self.reference(inner, flat, depth + 1)
            return self.kept(inner, flat, depth + 1, 2) if kept else self.statements(inner, flat, depth + 1, 2)

        found = [Part(f"if {self.items.condition(names)} {{", body())]
        if random.random() < 0.3:
            found.append(Part(f"else if {self.items.condition(names)} {{", body(), chained=True))
        if random.random() < 0.5:
            found.append(Part("else {", body(), chained=True))
        return found

    def loop(self, names: Names, flat: bool, depth: int) -> list[Part]:
        random = self.random
        count = self.items.pick(names.ints, "0", "1", "2", "3", "4", share=0.3)
        if random.random() < 0.4:
            inner = names.inner(loop=True)
            if random.random() < 0.5:
                return [Part(f"repeat {count} {{", self.weightless(inner, flat))]
            return [Part(f"repeat {count} {{", self.statements(inner, flat, depth + 1, 2))]
        one = self.items.name(names.taken, value=True)
        other = self.items.name(names.taken, value=True)
        values = self.items.value("list", names)
        head, seen, rounds = random.choice(
            [
                (f"{one} in 0..{count}", [], [one]),
                (f"{one} in 1..={count}", [one], [one]),
                (f"{one} in range({count})", [], [one]),
                (f"{one} in {values}", [one], []),
                (f"{one}, {other} in enumerate({values})", [other], [one]),
                (f"{one}, {other} in zip({values}, [2, 4, 6])", [one, other], []),
                (f"{one}, {other} in [[2, 1], [4, 2], [6, 3]]", [one], [other]),
            ]
        )
        inner = names.inner(*rounds, loop=True)
        inner.ints += seen
        if random.random() < 0.2:
            return [Part(f"for {head} {{", self.weightless(inner, flat))]
        return [Part(f"for {head} {{", self.statements(inner, flat, depth + 1, 2))]

    def weightless(self, names: Names, flat: bool) -> list[Part]:
        """Statements without weights, so that no key reveals how often they run."""
        random, items = self.random, self.items

        def item() -> str:
            found = random.choice([*ELEMENTWISE, *["maxpool(3, 1, 1)", "avgpool(3, stride = 1, pad = 1)"] * (not flat)])
            return items.label(names) + ("tanh" if found == "prelu" else found)

        chain = " -> ".join(item() for _ in range(random.randint(1, 2)))
        forms = [
            [Part(chain)],
            [Part(f"residual {{ {chain} }}")],
            [Part(f"dense {{ {chain} }}")],
            [Part(f"(it, {chain}) -> {random.choice(['add', 'mul', 'mean', 'maximum', 'sub'])}")],
            [Part(f"if {items.condition(names)} {{ {chain} }}"), Part(f"residual {{ {item()} }}")],
        ]
        if names.labels:
            forms.append([Part(f"(it, {random.choice(names.labels)}) -> {self.merged(names, flat, 'concat')}")])
        return random.choice(forms)

    def labelled_body(self, names: Names, flat: bool, depth: int) -> list[Part]:
        random = self.random
        label = self.items.label(names)
        if not label and not names.in_loop and random.random() < 0.7:
            label = f"{self.items.name(names.taken)}: "
        inner = names.inner()
        inner.taken = set(names.taken)
        if label and "{" not in label:
            inner.in_loop = False
        if not label or random.random() < 0.3:
            label += "scope "
        return [Part(f"{label}{{", self.statements(inner, flat, depth + 1, 3))]

    def pattern(self, names: Names, flat: bool, depth: int) -> list[Part]:
        """The parts of a tensor get labels."""
        random = self.random
        if names.in_loop:
            return [Part(self.items.channelled(names, flat))]
        parts = [self.items.name(names.taken) for _ in range(random.choice([2, 2, 3]))]
        count = len(parts)
        first = f"linear({2 * count})" if flat else f"conv({2 * count}, 1)"
        used = [f"{p} -> {self.items.kept(names, flat)}" if random.random() < 0.6 else p for p in parts]
        random.shuffle(used)
        merge = random.choice(["concat", "concat", "add", "mean"])
        names.labels += parts
        source = f"{first} -> ({', '.join(parts)}): split({count})"
        if not flat and random.random() < 0.3:
            branches = ", ".join(self.items.item(names, flat) for _ in parts)
            source = f"({branches}) -> ({', '.join(parts)}): align"
            merge = "concat"
        return [Part(source), Part(f"({', '.join(used)}) -> {merge}")]

    def setting(self, names: Names, flat: bool, depth: int) -> list[Part]:
        """A value, a default, or a condition on values."""
        random = self.random
        if random.random() < 0.3:
            return [Part(random.choice(DEFAULTS))]
        if random.random() < 0.2:
            return [Part(f'require {random.choice(["base > 1", "it.channels > 0", "true"])}, "it holds"')]
        name = self.items.name(names.taken, value=True)
        kind = random.choice(["int", "bool", "list", "float"])
        found = Part(f"let {name} = {self.items.value(kind, names)}")
        if not names.in_loop:
            getattr(names, f"{kind}s").append(name)
        return [found]

    def gate(self, names: Names, flat: bool, depth: int) -> list[Part]:
        if flat:
            return [Part("(it, linear(it.channels) -> sigmoid) -> mul")]
        pool = self.random.choice(["global_avgpool", "global_maxpool", "conv(1, 1)"])
        return [Part(f"(it, {pool} -> conv({'1' if pool[0] == 'c' else 'it.channels'}, 1) -> sigmoid) -> mul")]

    # ------------------------------------------------------------ blocks

    def call(self, block: Block, names: Names) -> str:
        given = []
        by_name = False
        for name, kind, optional in block.parameters:
            if optional and self.random.random() < 0.4:
                by_name = True
                continue
            by_name = by_name or self.random.random() < 0.2
            value = self.items.value(kind, names)
            given.append(f"{name} = {value}" if by_name else value)
        inside = ", ".join(given)
        return f"{block.name}({inside})" if inside or self.random.random() < 0.5 else block.name

    def calls(self, names: Names, flat: bool, depth: int) -> list[Part]:
        """One to three calls of a block, with other arguments each."""
        random = self.random
        fitting = [b for b in self.blocks if b.flat_in == flat and b.flat_out == flat]
        if not fitting:
            return [Part(self.chain(names, flat))]
        return self.calls_of(
            random.choice(fitting), names, flat, random.choice([1, 1, 2, 2] if depth else [1, 2, 2, 3])
        )

    def calls_of(self, block: Block, names: Names, flat: bool, count: int) -> list[Part]:
        random = self.random
        one = []
        for _ in range(count):
            text = self.items.label(names) + self.call(block, names)
            if block.takes == 2:
                other = random.choice([self.items.kept(names, flat), *names.labels])
                text = f"(it, {other}) -> {text}"
            if block.takes > 2:
                more = [random.choice(["maxpool(2)", "avgpool(2)", "it"]), self.items.kept(names), "conv(2, 3, 2)"]
                text = f"({', '.join(['it', *more[: random.randint(1, 3)]])}) -> {text}"
            if block.gives == 2:
                text += f" -> {self.merged(names, flat, 'concat')}"
            if random.random() < 0.25 and not names.in_loop and block.takes == block.gives == 1:
                label = self.items.name(names.taken)
                text = f"{label}: {self.call(block, names)}"
                names.labels.append(label)
            one.append(text)
        if random.random() < 0.4 and block.takes == 1:
            return [Part(" -> ".join(one))]
        return [Part(text) for text in one]

    def unit_calls(self, names: Names) -> list[Part]:
        return [Part(f"{self.items.label(names)}{unit}({self.items.width(names)})") for unit in names.units]

    def block(self, number: int) -> Part:
        """A new block, which calls earlier ones, and sometimes itself."""
        random = self.random
        name = self.items.name(self.taken, value=True)
        names = Names(taken=set(self.taken))
        parameters = []
        for _ in range(random.choice([0, 1, 1, 2, 2, 3, 4])):
            kind = random.choice([*KINDS, "int", "int", "bool", "bool", "string", "act"])
            parameter = self.items.name(names.taken, value=True)
            getattr(names, f"{kind}s").append(parameter)
            parameters.append((parameter, kind, random.random() < 0.4))
        parameters.sort(key=lambda p: p[2])
        block = Block(name, parameters, takes=random.choice([1] * 11 + [2, 2, 3]), gives=random.choice([1] * 9 + [2]))
        if random.random() < 0.12:
            block.flat_in = block.flat_out = True
        no_names = Names()
        written = [p if not d else f"{p} = {self.items.value(k, no_names)}" for p, k, d in parameters]
        written = [w.replace("it.channels", "2") if "it.channels" in w else w for w in written]
        body: list[Part] = []
        if random.random() < 0.15:
            body.append(Part('"What it does, and \\"why\\"."'))
        if block.takes == 2 or random.random() < 0.12:
            inputs = [self.items.name(names.taken) for _ in range(block.takes)]
            sizes = ["_"] if block.flat_in else ["_"] * (self.items.rank + 1)
            if random.random() < 0.5:
                sizes[0] = self.items.name(names.taken, value=True)
                if block.takes == 1:
                    names.ints.append(sizes[0])
            shown = [f"{x}[{', '.join(sizes if i == 0 else ['_'] * len(sizes))}]" for i, x in enumerate(inputs)]
            body.append(Part(f"input {', '.join(shown)}", fixed=True))
            names.labels += inputs
            if block.takes == 2:
                body.append(Part(f"({inputs[0]}, {inputs[1]}) -> {self.merged(names, block.flat_in, 'concat')}"))
        if block.takes > 2:
            block.flat_in = block.flat_out = False
            body += random_lists.pyramid(self, names, self.items.width(names).replace("it.channels", "4"))
        body += self.statements(names, block.flat_in, 0, random.choice([1, 1, 2, 4]))
        if names.units and random.random() < 0.8:
            body += self.unit_calls(names)
        ints = [p for p, k, _ in parameters if k == "int"]
        if ints and block.takes == block.gives == 1 and random.random() < 0.25:
            again = ", ".join(f"{p} - 2" if p == ints[0] else p for p, _, _ in parameters)
            label = random.choice(["", f"{self.items.name(names.taken)}: "])
            call = Part(f"{label}{name}({again})")
            place = [
                Part("(", [Part("it,"), Part("{", [call], "},")], f") -> {self.merged(names, block.flat_in, 'concat')}")
            ]
            body.append(Part(f"if {ints[0]} > 2 {{", random.choice([[call], place])))
            body += self.statements(names, block.flat_in, 2, 1) if random.random() < 0.5 else []
        if block.gives == 2:
            first, second = (self.items.name(names.taken) for _ in range(2))
            body.append(Part(f"{first}: {self.items.item(names, block.flat_in)}"))
            body.append(Part(f"{second}: {self.items.item(names, block.flat_in)}"))
            body.append(Part(f"output {first}, {second}"))
        self.blocks.append(block)
        head = f"block {name}({', '.join(written)})" if written or random.random() < 0.5 else f"block {name}"
        return Part(f"{head} {{", body)

    taken: set[str] = field(default_factory=lambda: {"thin", "plain", "wrapped", "double", "base", "table"})
