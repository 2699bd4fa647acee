"""Random specs with dense connections in blocks, loops, conditions and scopes, and concats that blocks read."""

from __future__ import annotations

from random import Random

LAYERS = """
block layer { batchnorm -> relu -> conv(2, 1) -> dropout(0.1) }
block thin { relu -> conv(2, 1) }
block heavy { conv(2, 1) -> batchnorm -> relu }
block inner { a: { relu -> conv(2, 1) } -> b: { batchnorm -> tanh } }
block split { (it, a: { relu -> conv(2, 1) }) -> concat -> conv(2, 1) }
block nested { dense { layer } -> conv(2, 1) }
"""


class Writer:
    """Generates stages and a model that calls them; `stages` are the names of those so far, `number` one in scope."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.counter = 0
        self.stages: list[str] = []

    def label(self) -> str:
        self.counter += 1
        return self.random.choice([f"a{self.counter}: ", "", ""])

    def statements(self, number: str | None, depth: int = 0) -> str:
        return "\n".join(self.statement(number, depth) for _ in range(self.random.randint(1, 3)))

    def statement(self, number: str | None, depth: int) -> str:
        random = self.random
        body = random.choice(["layer", "layer", "layer", "layer", "thin", "heavy", "inner", "split", "nested"])
        roll = random.random() if depth < 2 else 0.65 * random.random()
        if roll < 0.5:
            return f"{self.label()}dense {{ {body} }}"
        if roll < 0.6:
            return random.choice(["relu", "conv(4, 1)", "tanh"])
        if roll < 0.65:
            return f"(it, relu -> conv(2, 1)) -> concat -> {body}"
        if roll < 0.75 and self.stages:
            return f"{self.label()}{random.choice(self.stages)}({random.randint(0, 2)})"
        inside = self.statements(number, depth + 1)
        if roll < 0.82 or number is None:
            count = random.choice(["2", *([number, f"{number} + 1"] if number else [])])
            return random.choice([f"repeat {count} {{ {inside} }}", f"{{ {inside} }}"])
        otherwise = f"\nelse {{ {self.statements(number, depth + 1)} }}" if random.random() < 0.4 else ""
        return f"if {number} {random.choice(['> 0', '> 1', '== 1'])} {{ {inside} }}{otherwise}"


def network(random: Random) -> str:
    writer = Writer(random)
    text = LAYERS
    for i in range(random.randint(0, 2)):
        text += f"block stage{i}(n) {{\n{writer.statements('n')}\n}}\n"
        writer.stages.append(f"stage{i}")
    return f"{text}model net {{\ninput x[4, 8, 8]\n{writer.statements(None)}\n}}\n"
