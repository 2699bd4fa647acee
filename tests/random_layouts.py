"""Random specs whose layers want the channels now first, now last, on every way that tensors flow."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

FIRST = ("conv(8, 3)", "conv(8, 3, groups = 8)", "batchnorm", "maxpool(3, stride = 1, pad = same)", "conv(8, 1)")
LAST = ("layernorm(eps = 0.1)", "linear(8)", "linear(8, bias = false)", "attention(2)", "linear(8)")
ANY = (
    "gelu",
    "relu",
    "softmax",
    "dropout(0.1)",
    "droppath(0.2)",
    "scale(0.5)",
    "tanh",
    "prelu",
    "prelu(channels = each)",
)
PROJECTIONS = ("linear(8)", "conv(8, 1)")


@dataclass
class Layouts:
    """Writes networks of tensors with eight channels."""

    random: Random
    made: int = 0
    in_loop: bool = False
    blocks: list[str] = field(default_factory=list)

    def pick(self, *choices: str) -> str:
        return self.random.choice(choices)

    def name(self) -> str:
        self.made += 1
        return f'"n{self.made}_{{i}}"' if self.in_loop else f"n{self.made}"

    def item(self, depth: int) -> str:
        """One item that keeps the size."""
        roll = self.random.random()
        if depth == 0 or roll < 0.55:
            found = self.pick(*self.pick_list())
            return f"{self.name()}: {found}" if self.random.random() < 0.3 else found
        inner, other, project = self.row(depth - 1), self.row(depth - 1), self.pick(*PROJECTIONS)
        forms = [
            *[f"residual {{ {inner} }}"] * 3,
            f"residual via {project} {{ {inner} }}",
            f"({inner}, {other}) -> {self.pick('maximum', 'mean')}",
            f"({inner}, {{ {other} -> sigmoid }}) -> mul",
            f"({{ {inner} }}, {{ {other} }}) -> concat -> {project}",
            f"split(2) -> {self.pick('maximum', 'mean', 'concat -> slice(2, 6)')} -> {project}",
            *[f"{self.name()}: {{ {inner} }}"] * 2,
            f"{self.name()}: {{ {self.numbered()} }}",
            *[f"{block}({self.pick('true', 'false')}, {self.random.randint(0, 3)})" for block in self.blocks],
            f"dense {{ {inner} -> linear(4) }} -> {project}",
            f"(it, global_avgpool -> {project} -> sigmoid) -> mul",
        ]
        return self.pick(*forms)

    def pick_list(self) -> tuple[str, ...]:
        return self.random.choice((FIRST, LAST, LAST, ANY))

    def numbered(self) -> str:
        """A row of members with numbers that leave gaps, mostly."""
        number, found = 0, []
        for _ in range(self.random.randint(2, 4)):
            number += self.random.choice((0, 0, 1))
            found.append(f'"{number}": {self.pick(*self.pick_list())}')
            number += 1
        return " -> ".join(found)

    def row(self, depth: int) -> str:
        return " -> ".join(self.item(depth) for _ in range(self.random.randint(1, 3)))

    def round(self, depth: int) -> str:
        """The body of a loop."""
        self.in_loop = True
        found = self.row(depth)
        self.in_loop = False
        return found

    def statements(self, depth: int, parameters: bool = False) -> str:
        """The lines of a body."""
        found = []
        for _ in range(self.random.randint(1, 4)):
            roll = self.random.random()
            if roll < 0.15:
                found.append(f"for i in 0..{self.pick('2', '4', '5')} {{ {self.round(depth)} }}")
            elif roll < 0.25 and parameters:
                found.append(f"for i in 0..times {{ {self.round(depth)} }}")
            elif roll < 0.35 and parameters:
                otherwise = f" else {{ {self.row(depth)} }}" if self.random.random() < 0.5 else ""
                found.append(f"if wide {{ {self.row(depth)} }}{otherwise}")
            elif roll < 0.45:
                name = self.name()
                first = f"{name}: {self.pick(*self.pick_list())}"
                found.append(f"{first}\n{self.row(depth)} -> z{name}: tanh\n(z{name}, {name}) -> add")
            else:
                found.append(self.row(depth))
            found.append("tanh")  # keeps the numbers small
        return "\n".join(found)


def network(random: Random) -> str:
    """The text of a network."""
    writer = Layouts(random)
    text = ""
    for number in range(random.randint(0, 3)):
        body = writer.statements(2, parameters=True)
        text += f"block b{number}(wide, times) {{\n{body}\n}}\n"
        writer.blocks.append(f"b{number}")
    size = random.choice(("4, 5", "H = 4, W = 5", "H = 6", "7", "2, 3, 2"))
    body = "\n".join([writer.pick("conv(8, 1)", "linear(8)"), *(writer.statements(2) for _ in range(2))])
    end = random.choice(("", "global_avgpool -> flatten -> linear(3)", "tokens -> attention(4) -> slice(0, 2)"))
    return f"{text}model net {{\ninput x[3, {size}]\n{body}\n{end}\n}}\n"
