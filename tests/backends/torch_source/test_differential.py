"""Built modules against their graphs, node by node, in every form."""

from __future__ import annotations

from random import Random

import pytest

from archdsl.backends.torch_source import Plainness
from tests import random_blocks
from tests.helpers import graph_of, random_graph
from tests.random_checks import READABLE, holds


class Writer(random_blocks.Writer):
    """Writes more of what the ways through a block may differ in: conditions around merges, labels, loops."""

    def same(self, numbers: list[str], loop: str | None) -> str:
        """Items that keep the size."""
        random = self.random
        items = ["conv(it.channels, 3)", "conv(it.channels, 1)", "relu", "silu", "tanh", "maxpool(3, 1, 1)"]
        items += ["batchnorm", "leaky_relu", "scale", "droppath(0.1)", "dropout(0.1)", "avgpool(3, 1, 1)"]
        return " -> ".join(self.label(loop) + random.choice(items) for _ in range(random.randint(1, 2)))

    def merge(self, numbers: list[str], loop: str | None) -> str:
        random = self.random
        branches = [random.choice(["it", self.same(numbers, loop)]) for _ in range(random.randint(2, 3))]
        return f"({', '.join(branches)}) -> {random.choice(['add', 'add', 'sub', 'mul', 'maximum', 'mean'])}"

    def kept(self, numbers: list[str], depth: int, loop: str | None) -> str:
        """A statement that keeps the size."""
        random = self.random
        roll = random.random() if depth < 3 else 0.0
        if roll < 0.3:
            return self.same(numbers, loop)
        if roll < 0.5:
            return self.merge(numbers, loop)
        if roll < 0.6:
            return f"residual if {self.condition(numbers)} {{\n{self.body(numbers, depth + 1, loop)}\n}}"
        if roll < 0.65:
            return f"residual {{\n{self.body(numbers, depth + 1, loop)}\n}}"
        if roll < 0.85:
            text = f"if {self.condition(numbers)} {{\n{self.body(numbers, depth + 1, loop)}\n}}"
            if random.random() < 0.3:
                text += f" else if {self.condition(numbers)} {{\n{self.body(numbers, depth + 1, loop)}\n}}"
            if random.random() < 0.6:
                text += f" else {{\n{self.body(numbers, depth + 1, loop)}\n}}"
            return text
        if roll < 0.95:
            return f"repeat {self.number(numbers, 0)} {{\n{self.body(numbers, depth + 1, '-')}\n}}"
        self.counter += 1
        if loop == "-":
            return self.same(numbers, loop)
        rounds = "" if loop is None else f"_{{{loop}}}"
        return f'"body{self.counter}{rounds}": {{\n{self.body(numbers, depth + 1, loop)}\n}}'

    def body(self, numbers: list[str], depth: int, loop: str | None) -> str:
        return "\n".join(self.kept(numbers, depth, loop) for _ in range(self.random.randint(1, 3)))

    def statement(self, numbers: list[str], blocks: list[tuple[str, int]], depth: int, loop: str | None) -> str:
        random = self.random
        roll = random.random()
        if roll < 0.5:
            return self.kept(numbers, depth, loop)
        if roll < 0.6 and loop is None:
            self.counter += 1
            c, text = self.counter, self.same(numbers, "-")
            first = text.rpartition(": ")[2]
            return f"a{c}: {{ {first} }}\nb{c}: {{ {self.same(numbers, None)} }}\n(a{c}, b{c}) -> add"
        if roll < 0.65 and numbers and loop is None:
            self.counter += 1
            label = f'"c{self.counter}{{{random.choice(numbers)}}}"'
            return (
                f"body{self.counter}: {{ {label}: conv(it.channels, 1) }}"
                if random.random() < 0.5
                else (f"{label}: conv(it.channels, 1)")
            )
        return super().statement(numbers, blocks, depth, loop)


def network(random: Random) -> str:
    """The text of a spec with one model, `net`."""
    return random_blocks.network(random, Writer(random))


NETWORKS = {
    "branches around a merge": """
        block unit(first) {
            input x[_, _, _]
            conv(8, 3)
            if first { (it, x -> conv(8, 1)) -> add } else { (it, x) -> add }
        }
        model m {
            input im[3, H = 32, W = 32]
            unit(true) -> unit(false)
        }
    """,
    "a residual around a condition": """
        block u(stride) {
            residual if stride == 1 {
                conv(8, 3, stride)
                if stride != 1 { relu }
            }
        }
        model m {
            input im[8, H = 8, W = 8]
            u(1) -> u(2)
        }
    """,
    "rounds that share a module": """
        block pyramid { repeat 3 { dense { maxpool(5, stride = 1, pad = 2) } } }
        model net {
            input image[3, H = 32, W = 32]
            pyramid
        }
    """,
    "rounds that own nothing": """
        block b { repeat 3 { residual { tanh } } }
        model net {
            input image[3, H = 32, W = 32]
            b
        }
    """,
    "a computed label in a labelled body": """
        block b(n) { body: { "c{n}": conv(8, 1) } }
        model m {
            input im[3, H = 32, W = 32]
            x: b(1)
            y: b(2)
        }
    """,
    "two computed labels in a labelled body": """
        block b(n) { body: { "c{n}": conv(8, 1) -> relu -> "d{n}": conv(8, 1) } }
        model m {
            input im[3, H = 32, W = 32]
            x: b(1)
            y: b(2)
        }
    """,
    "strings in a computed label": """
        block b(kind) {
            let k = 2 if kind == "down" else 1
            "c{k}": conv(8, 1)
        }
        model m {
            input im[3, H = 32, W = 32]
            x: b("down")
            y: b("up")
        }
    """,
    "modules that hold members of several loops": """
        block b(n, kind) {
            for i in 0..n { "h{i}.a": conv(3, 3) -> relu }
            for i in 0..n { "h{i}.b": conv(3, 3) -> relu }
            if kind == "x" { "k{n}.0": conv(3, 3) }
            "k{n}.1": conv(3, 3)
            "{kind}": conv(3, 1)
            "q{kind}": { "in{n}": conv(3, 1) -> relu -> "s{kind}": conv(3, 1) }
        }
        model m { input x[3, H = 8, W = 8]
          b(2, "x") -> b(3, "yy") -> b(1, "x") }
    """,
    "modules that hold members of nested names": """
        block b(n, m) {
            for i in 0..n { "k{m}.{i}": conv(3, 3) -> relu -> "l{i}.x.{m}": scale }
            "e.f": conv(3, 1)
            "e.{n}": conv(3, 1)
            "l0.y": conv(3, 1)
            for i in 0..m { if i % 2 == 0 { "p{i}.q": conv(3, 1) } else { "p{i - 1}.r": conv(3, 1) } }
        }
        model m { input x[3, H = 8, W = 8]
          b(2, 2) -> b(3, 2) -> b(1, 4) }
    """,
    "dense connections that are computed again, and added to": """
        block layer(growth) { conv(growth, 3) -> batchnorm -> relu }
        model net {
            input image[4, H = 8, W = 8]
            residual via conv(8, 1) { dense { layer(4) } }
            a: { dense { layer(4) } }
            (a, conv(12, 1)) -> add
            if true { dense { layer(2) } -> relu }
            b: conv(14, 1)
            (a -> conv(14, 1), b) -> sub
            repeat 3 { dense { layer(2) } }
            residual { conv(20, 1) }
            (it, it) -> mul
            dense { layer(2) } -> dense { layer(2) } -> (p, q): split(2)
            (p, q) -> sub -> relu
            c: { dense { layer(1) } }
            (c, c -> dense { layer(3) } -> conv(13, 1)) -> add
            residual { dense { layer(1) } -> conv(13, 1) }
        }
    """,
    "dense connections whose bodies take the sizes of others": """
        block layer(growth) { input x[_, h, w]
           conv(growth, 3, stride = 2) -> resize([h, w]) }
        block layer2(growth) { conv(growth, 3, stride = 2) -> relu -> resize(it.size) }
        block layer3(growth) { input x[_, _, _]
           conv(growth, 3) -> resize([5, 5]) -> resize(x.size) }
        model net {
            input image[4, H = 8, W = 8]
            dense { layer(4) } -> relu
            dense { layer3(3) }
            dense { conv(2, 3, stride = 2) -> resize(image.size) }
            conv(4, 1)
            u: { conv(4, 3, stride = 2) -> resize(image.size) -> relu }
            conv(3, 3, stride = 2) -> y: relu
            (y -> resize([2 * H, W]), u -> resize([2 * H, W])) -> concat
            a: { resize(y.size) }
            dense { b: { conv(3, 3) -> resize([H, W]) -> resize(y.size) } }
        }
    """,
    "values that some calls have no use for": """
        block u(s) { input x[_, _, _]
          c: conv(8, 3)
          residual if s == 1 { conv(8, 1) 
            if s == 2 { relu } else if s == 1 { silu } }
          if s == 3 { (x -> conv(8, 1), c, it) -> add }
        }
        block v(s) { input x[_, _, _]
          c: conv(8, 3)
          residual if s != 2 { conv(8,1) 
         if s == 2 { relu } 
             if s == 1 { silu -> conv(8, 1) } }
          if s == 3 { (x -> conv(8, 1), c, it) -> add } else { if s == 2 { (c, it) -> add } else {relu} }
        }
        block w(s) { input x[_, _, _]
          c: conv(8, 3)
          residual if s % 2 == 1 { conv(8,1)
         if s == 2 { relu } 
             if s > 1 { residual if s == 2 { conv(8,1) 
         if s == 4 { tanh } } -> silu -> conv(8, 1) } }
          if s >= 3 { (x -> conv(8, 1), c, it) -> add } else { if s == 2 { (c, it) -> add } else {relu} }
          repeat s { if s == 2 { relu } else if s != 3 { residual if s == 4 { conv(8,3)
        if s != 4 { relu }
         if s == 4 { silu } } } }
        }
        model m {
            input im[8, H = 8, W = 8]
            u(1) -> u(2) -> u(3)
            v(1) -> v(2) -> v(3)
            w(1) -> w(2) -> w(3) -> w(4) -> w(5)
        }
    """,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    holds(graph_of(NETWORKS[name]), tuple(Plainness))


SIZES = """
    block up(k) { input x[C, _, _], g[_, _, _]
      x -> resize([32, k]) -> conv(3, 3) -> relu -> a: resize([k, 7], mode = nearest)
      (a, a) -> add -> resize([4, 4]) }
    model m {
        input x[4, H = 17, W = 13], s[2, T = 9]
        x -> p: { resize([W, H]) }
        x -> resize([2 * H, 2 * W]) -> conv(4, 3) -> resize([H, 7]) -> conv(3, 1)
        q: relu
        x -> conv(3, 3, 2) -> resize([H + 1, W + 1]) -> conv(3, 3, stride = 2) -> resize([(H + 3) // 2 - 1, max(W, 4)])
        r: relu
        s -> conv(3, 3) -> resize(2 * T + 1) -> resize(T) -> resize(T + 3) -> t: conv(2, 1)
        (q, x) -> u1: up(9)
        (r, x) -> u2: up(11)
        (u1, u2) -> concat -> inner: { conv(3, 1) -> resize([H // 3, W // 2 + 3]) -> conv(3, 1) }
        output inner, p, t
    }
"""


@pytest.mark.parametrize("size", [{"H": 17, "W": 13, "T": 9}, {"H": 18, "W": 2, "T": 1}, {"H": 5, "W": 30, "T": 4}])
def test_sizes_that_are_computed(size: dict[str, int]) -> None:
    holds(graph_of(SIZES), [Plainness.READABLE, Plainness.STRAIGHT], size)


NAMED = {
    "a free size": """
        model net {
            input im[3, NAME, W = 8]
            conv(4, 3, stride = 2) -> relu -> upsample(2)
        }
    """,
    "a parameter": """
        block unit(NAME, more = 1) {
            "c{NAME}": conv(NAME, 3) -> droppath(0.1)
            repeat more { conv(NAME, 1) -> relu }
            if NAME > 4 { residual { conv(NAME, 1) } }
        }
        model net {
            input im[3, 8, 8]
            unit(4) -> unit(5) -> unit(6, more = 3)
        }
    """,
    "a block": """
        block NAME(rate, k = 3) { residual { conv(8, k) -> relu -> droppath(rate) -> scale } }
        model network {
            input im[8, H = 8, W = 8]
            NAME(0.1) -> NAME(0.2, 1) -> conv(8, 3, 2, pad = same_upper) -> pixel_shuffle(2) -> (a, b): split(2)
            (a, b -> crop(1)) -> align -> concat -> conv(8, 1) -> last: layernorm
            aux: conv(2, 1)
            output last, aux if training
        }
    """,
    "a loop's variable, and what flows": """
        block unit(count) {
            input NAME[C, _, _], second[C, _, _]
            (NAME, second) -> add
            for NAME in 0..count { "c{NAME}": conv(3 + NAME, 3) -> relu }
        }
        model net {
            input NAME[3, 8, 8], other[3, 8, 8]
            one: { (NAME, other) -> unit(3) }
            (NAME, other) -> unit(5)
            two: conv(5, 1)
            output one, two
        }
    """,
    "a part of paths": """
        block unit(deep) {
            if deep { conv(4, 3) -> "NAME.first": conv(4, 3) } else { batchnorm }
            "NAME.second": conv(4, 1)
        }
        model net {
            input x[4, 8, 8]
            unit(false) -> unit(true)
        }
    """,
}
NAMES = {
    "a free size": ["in", "lambda", "match", "batch", "Dim", "H2"],
    "a parameter": ["class", "self", "kw", "torch", "nn", "F", "device", "in_channels", "range", "Unit", "DropPath"],
    "a block": ["drop_path", "conv2d_same_upper", "factory", "network_output", "tensor", "channel_layer_norm", "type"],
    "a loop's variable, and what flows": ["lambda", "x", "i", "layer", "super", "NetOutput", "member", "torch"],
    "a part of paths": ["holder", "type"],
}


@pytest.mark.parametrize(("what", "name"), [(what, name) for what, names in NAMES.items() for name in names])
def test_names_that_mean_something_in_python(what: str, name: str) -> None:
    holds(graph_of(NAMED[what].replace("NAME", name)), READABLE)


SEEDS = [*range(9), *(pytest.param(s, marks=pytest.mark.long) for s in range(9, 200))]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks(seed: int) -> None:
    _, graph = random_graph(network, Random(seed), nodes=250, weights=300_000)
    holds(graph, [Plainness(seed % 4), Plainness.READABLE])
