"""Random specs for property tests: every combinator and the operations that change sizes, in 1-d, 2-d and 3-d."""

from __future__ import annotations

from random import Random

LETTERS = ("T",), ("H", "W"), ("D", "H", "W")


class Writer:
    """Generates one model. It tracks the channels, so that groups divide and joins agree, but not the sizes."""

    def __init__(self, random: Random, rank: int, parts: bool) -> None:
        self.random = random
        self.rank = rank
        self.parts = parts
        self.budget = random.randint(3, 14)

    def size(self, low: int, high: int) -> str:
        """One number, or one for each axis."""
        if self.random.random() < 0.7:
            return str(self.random.randint(low, high))
        numbers = [str(self.random.randint(low, high)) for _ in range(self.rank)]
        return "x".join(numbers) if self.rank > 1 else numbers[0]

    def conv(self, channels: int) -> tuple[str, int]:
        random = self.random
        groups = random.choice([g for g in (1, 1, 2, channels) if channels % g == 0])
        out = groups * random.randint(1, 3)
        pad = random.choice(["same_upper", "valid", "full", self.size(0, 2), "same"])
        kernel = random.choice(["1", "3"]) if pad == "same" else self.size(1, 4)
        text = f"conv({out}, {kernel}, stride = {self.size(1, 3)}, pad = {pad}, dilation = {self.size(1, 2)}"
        return f"{text}, groups = {groups}, bias = {random.choice(['true', 'false'])})", out

    def keep(self, channels: int) -> tuple[str, int]:
        """An item that keeps every size."""
        pick = self.random.choice
        text = pick(
            [
                f"conv({channels}, 3)",
                f"conv({channels}, 3, dilation = 2)",
                f"conv({channels}, {self.random.randint(1, 4)}, pad = same_upper)",
                "batchnorm",
                "relu",
                "silu",
                "maxpool(3, 1, 1)",
                "avgpool(3, 1, 1)",
                "dropout(0.1)",
                "leaky_relu",
            ]
        )
        return text, channels

    def resize(self, channels: int) -> tuple[str, int]:
        random = self.random
        kernel = random.randint(1, 3)
        ceil = random.choice(["true", "false"])
        upconv = f"upconv({random.randint(1, 4)}, {random.randint(1, 4)}, stride = {random.randint(1, 3)}"
        return random.choice(
            [
                (
                    f"maxpool({kernel}, {random.randint(1, 3)}, {random.randint(0, kernel // 2)}, ceil = {ceil})",
                    channels,
                ),
                (
                    f"avgpool({kernel}, {random.randint(1, 3)}, {random.randint(0, kernel // 2)}, ceil = {ceil})",
                    channels,
                ),
                ("upsample(2)", channels),
                (f"pad({random.randint(1, 2)})", channels),
                ("crop(1)", channels),
                (f"{upconv}, pad = {random.randint(0, 1)})", int(upconv[7 : upconv.index(",")])),
            ]
        )

    def item(self, channels: int, depth: int) -> tuple[str, int]:
        self.budget -= 1
        roll = self.random.random()
        if self.parts and depth < 3 and channels > 1 and self.random.random() < 0.3:
            return self.part(channels, depth)
        if depth > 2 or roll < 0.5 or self.budget < 0:
            return self.random.choice([self.conv, self.keep, self.resize])(channels)
        if roll < 0.62:
            body = " -> ".join(self.keep(channels)[0] for _ in range(self.random.randint(1, 2)))
            via = self.random.choice(["", "", f" via conv({channels}, 1)", " via { }"])
            return f"residual{via} {{ {body} }}", channels
        if roll < 0.72:
            growth = self.random.randint(1, 3)
            return f"dense {{ conv({growth}, 3) -> relu }}", channels + growth
        if roll < 0.8:
            return f"repeat {self.random.randint(0, 3)} {{ {self.keep(channels)[0]} }}", channels
        return self.parallel(channels, depth)

    def part(self, channels: int, depth: int) -> tuple[str, int]:
        """An item that splits or shuffles the channels."""
        random = self.random
        groups = random.choice([g for g in range(2, channels + 1) if channels % g == 0])
        cut = random.randint(1, channels - 1)
        roll = random.random()
        if roll < 0.25:
            return f"channel_shuffle({groups})", channels
        if roll < 0.5:
            return f"split({groups}) -> {random.choice(['add', 'mean'])}", channels // groups
        if roll < 0.7:
            return f"slice({cut}, {channels})", channels - cut
        first, out = self.chain(cut, depth + 1)
        last, more = self.chain(channels - cut, depth + 1)
        return f"( slice(0, {cut}) -> {first}, slice({cut}, {channels}) -> {last} ) -> align -> concat", out + more

    def parallel(self, channels: int, depth: int) -> tuple[str, int]:
        branches: list[str] = []
        total = 0
        for _ in range(self.random.randint(2, 3)):
            text, out = self.chain(channels, depth + 1)
            branches.append(text)
            total += out
        align = self.random.choice(["crop", "pad", "resize"])
        return f"( {', '.join(branches)} ) -> align({align}) -> concat", total

    def chain(self, channels: int, depth: int) -> tuple[str, int]:
        items: list[str] = []
        for _ in range(self.random.randint(1, 3)):
            text, channels = self.item(channels, depth)
            if text.startswith("repeat"):
                text = "{ " + text + " }"
            items.append(text)
        return " -> ".join(items), channels


def network(random: Random, *, free: bool = False, parts: bool = False) -> str:
    """The text of a spec with one model, `net`; with `parts`, it also splits channels."""
    rank = random.choice([1, 2, 2, 2, 3])
    writer = Writer(random, rank, parts)
    channels = random.randint(1, 4)
    letters = LETTERS[rank - 1]
    sizes = [f"{a} = {random.randint(4, 40)}" if free else str(random.randint(4, 40)) for a in letters]
    lines = [f"    input image[{channels}, {', '.join(sizes)}]"]
    for _ in range(random.randint(1, 4)):
        text, channels = writer.chain(channels, 0)
        lines.append("    " + text)
    return "model net {\n" + "\n".join(lines) + "\n}\n"
