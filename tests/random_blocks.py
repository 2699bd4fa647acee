"""Random specs with blocks that call each other: parameters, loops, conditions, recursion, odd labels."""

from __future__ import annotations

from random import Random


class Writer:
    """Generates blocks and a model that calls them. `numbers` are values in scope, `counter` numbers the labels."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.counter = 0
        self.in_block = True

    def number(self, numbers: list[str], low: int = 1, high: int = 4) -> str:
        random = self.random
        if not numbers or random.random() < 0.5:
            return str(random.randint(low, high))
        name = random.choice(numbers)
        return random.choice(
            [name, f"{name} + {random.randint(1, 2)}", f"2 * {name}", f"{name} * {random.randint(1, 3)}"]
        )

    def label(self, loop: str | None) -> str:
        """A label for an item; `loop` is the loop variable for its number, `-` if iterations leave no name free."""
        self.counter += 1
        if loop == "-":
            return ""
        if loop is not None:
            prefix = self.random.choice(["layer", "mix.x", "a-b"])
            return f'"{prefix}{self.counter}_{{{loop}}}": ' if self.random.random() < 0.7 else ""
        odd = self.random.choice(["train", "type", "9x", "__x", "_y", "class"])
        choices = [
            f"c{self.counter}: ",
            f'"q{self.counter}": ',
            f'"h{self.counter}.0": ',
            f'"{odd}.z{self.counter}": ',
            "",
            "",
        ]
        return self.random.choice(choices)

    def item(self, numbers: list[str], blocks: list[tuple[str, int]], loop: str | None) -> str:
        random = self.random
        roll = random.random()
        if blocks and roll < 0.3:
            text = self.call(numbers, blocks)
        elif roll < 0.6:
            text = f"conv({self.number(numbers)}, {random.choice([1, 3])})"
        else:
            kept = ["relu", "silu", "leaky_relu", "dropout(0.1)", "maxpool(3, 1, 1)", "batchnorm", "scale"]
            text = random.choice([*kept, "conv(it.channels, 3)", "slice(0, 1)", *["act"] * (2 * self.in_block)])
        return self.label(loop) + text

    def call(self, numbers: list[str], blocks: list[tuple[str, int]]) -> str:
        """A call of a block; as its operation argument it gets itself, another block, or the enclosing argument."""
        block, count = self.random.choice(blocks)
        given = [self.number(numbers) for _ in range(count)]
        if self.random.random() < 0.4:
            operation = self.random.choice(["silu", "leaky_relu", "batchnorm", *["act"] * self.in_block])
            given.append(f"act = {operation}")
        return f"{block}({', '.join(given)})"

    def condition(self, numbers: list[str]) -> str:
        name = self.random.choice(numbers) if numbers else "1"
        return self.random.choice([f"{name} > 2", f"{name} % 2 == 0", f"it.channels == {name}", f"{name} != 2"])

    def statements(self, numbers: list[str], blocks: list[tuple[str, int]], depth: int, loop: str | None = None) -> str:
        return "\n".join(self.statement(numbers, blocks, depth, loop) for _ in range(self.random.randint(1, 3)))

    def statement(self, numbers: list[str], blocks: list[tuple[str, int]], depth: int, loop: str | None) -> str:
        random = self.random
        roll = random.random() if depth < 3 else 0.0
        if roll < 0.4:
            return " -> ".join(self.item(numbers, blocks, loop) for _ in range(random.randint(1, 3)))
        if roll < 0.5:
            via = f" via {{ if {self.condition(numbers)} {{ {self.label(loop)}conv(it.channels, 1) }} }}"
            where = random.choice(["", f" if {self.condition(numbers)}", via])
            return f"residual{where} {{ conv(it.channels, 3){random.choice([' -> relu', ' -> batchnorm'])} }}"
        if roll < 0.58:
            if blocks and random.random() < 0.6:
                return f"dense {{ {self.label(loop)}{self.call(numbers, blocks)} }}"
            return f"dense {{ conv({self.number(numbers)}, 3) -> relu }}"
        if roll < 0.7:
            text = f"if {self.condition(numbers)} {{ {self.statements(numbers, blocks, depth + 1, loop)} }}"
            other = f" else {{ {self.statements(numbers, blocks, depth + 1, loop)} }}"
            return text + (other if random.random() < 0.5 else "")
        if roll < 0.8:
            return f"repeat {self.number(numbers, 0)} {{ {self.statements(numbers, blocks, 3, '-')} }}"
        if roll < 0.92 and loop != "-":
            self.counter += 1
            name = f"i{self.counter}"
            numbered = name if loop is None else f"{loop}}}_{{{name}"
            rounds = f"{random.choice(['0..', '1..='])}{self.number(numbers)}"
            head, more = name, [name]
            if random.random() < 0.3:
                head, more = f"{name}, w{name}", [f"w{name}"]
                rounds = random.choice(["[[0, 2], [1, 4], [2, 4]]", "enumerate([3, 1, 2])", "table"])
            seen = [*numbers, *more] if random.random() < 0.5 else numbers
            return f"for {head} in {rounds} {{ {self.statements(seen, blocks, depth + 1, numbered)} }}"
        branches = [f"{{ {self.statements(numbers, blocks, depth + 2, loop)} }}" for _ in range(random.randint(2, 3))]
        return f"( {', '.join(branches)} ) -> concat"


def network(random: Random, writer: Writer | None = None) -> str:
    """The text of a spec with one model, `net`; `writer` generates its statements."""
    writer = writer or Writer(random)
    blocks: list[tuple[str, int]] = []
    text = ["let table = [[0, 3], [1, 3], [2, 1], [3, 2]]"]
    for number in range(random.randint(1, 4)):
        parameters = [f"p{i}" for i in range(random.randint(0, 2))]
        body = writer.statements(parameters, blocks[-2:], 0)
        if parameters and random.random() < 0.2:
            again = ", ".join([f"{parameters[0]} - 1", *parameters[1:], "act = act"])
            body += f"\nif {parameters[0]} > 0 {{ inner: b{number}({again}) }}"
        text.append(f"block b{number}({', '.join([*parameters, 'act = relu'])}) {{\n{body}\n}}")
        blocks.append((f"b{number}", len(parameters)))
    calls: list[str] = []
    writer.in_block = False
    for number in range(random.randint(2, 5)):
        calls.append(random.choice(["", f"s{number}: "]) + writer.call([], blocks))
    if random.random() < 0.5:
        calls.append(writer.statements([], blocks, 1))
    text.append("model net {\n    input x[3, 8, 8]\n" + "\n".join(calls) + "\n}")
    return "\n".join(text)
