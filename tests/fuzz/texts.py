"""Texts that nobody would write: noise, words in any order, good specs with something wrong, programs, many files."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Literal, get_args, get_origin

from archdsl.augment import CHANGES
from archdsl.ops import OPERATIONS
from archdsl.ops.declaration import Declaration
from tests.random_networks import network

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CORPUS = HERE / "corpus"

FENCE = re.compile(r"^```arch([a-z ]*)\n(.*?)^```$", re.M | re.S)
TOKEN = re.compile(r'"[^"\n]*"|[A-Za-z_]\w*|\d+(?:x\d+)+|\d+\.\d+|\d+|->|\.\.=?|[<>=!/]=|//|\s+|.', re.DOTALL)

_WORDS = r"""
    model block let fn default from import as input output expect require if else for in repeat residual via dense
    it true false none and or not training conv upconv linear relu batchnorm maxpool avgpool flatten global_avgpool add
    mul concat align crop pad split slice scale resize upsample reshape permute channel_shuffle pixel_shuffle groupnorm
    dropout softmax same valid full same_upper bilinear x y image a b H W C _ width counts min max sum len range zip
    enumerate abs int round floor ceil channels size shape m n basic layer class self torch nn forward augment
    augmented one_of
    extern weight frozen buffer counter call macs field
    windows grid share scope tokens maps parameter attention attend relative coordinates rescale grn matmul shift stored
    rows matrix causal cosine axis after xs xs[0] xs[-1] **
    0 1 2 3 7 8 64 224 1000000 2147483648 0.5 1e300 1e-5 3x3 1x7x7 0x0 -> : , ( ) [ ] { } = == != < <=
    > >= + - * / // % .. ..= . # ; ' " "a" "a.b" "a{i}" "{" "\\" "\u202e" "\u0000" \ $ @ ~ & | ! ? `
"""
WORDS = (
    *_WORDS.split(),
    "\u00e9",
    "\u0451",
    "\u4e2d",
    "\U0001d431",
    "\ufdfd",
    "\u0301",
    "×",
    "→",
    "⌊",
    "\u202e",
    "\x00",
)


def library(random: Random) -> str:
    return random.choice(_library())


@cache
def _library() -> list[str]:
    """Valid specs: the library, the examples, earlier failures, and each example of the language reference."""
    files = [p for folder in ("specs", "examples", "tests/fuzz/corpus") for p in sorted((ROOT / folder).glob("*.arch"))]
    found = [p.read_text("utf-8", "surrogatepass") for p in files]
    for page in sorted((ROOT / "docs" / "language").glob("*.md")):
        for words, text in FENCE.findall(page.read_text("utf-8")):
            found.append(f"model m {{\ninput x[16, H = 32, W = 32]\n{text}}}\n" if "body" in words else text)
    return found


def noise(random: Random) -> str:
    """Any characters."""
    kinds: list[Callable[[], str]] = [
        lambda: chr(random.randrange(128)),
        lambda: chr(random.randrange(0xD800)),
        lambda: random.choice(WORDS),
    ]
    return "".join(random.choice(kinds)() for _ in range(random.randrange(60)))


def words(random: Random) -> str:
    """Tokens of the language in any order."""
    return "".join(random.choice(WORDS) + random.choice(["", " ", " ", " ", "\n"]) for _ in range(random.randrange(80)))


def body(random: Random) -> str:
    """Tokens of the language in any order, within a model."""
    return f"model m {{\n    input x[4, H = 16, W = 16]\n{words(random)}\n}}\n"


def mutant(random: Random) -> str:
    """A valid spec with some of its tokens removed, doubled, swapped or replaced."""
    text = random.choice([network, program, library, library, operations])(random)
    tokens = TOKEN.findall(text)
    for _ in range(random.choice([1, 1, 1, 2, 3, 8])):
        if not tokens:
            break
        i, j = random.randrange(len(tokens)), random.randrange(len(tokens))
        match random.randrange(6):
            case 0:
                del tokens[i]
            case 1:
                tokens.insert(i, tokens[j])
            case 2:
                tokens[i], tokens[j] = tokens[j], tokens[i]
            case 3:
                tokens[i] = random.choice(WORDS)
            case 4:
                tokens[i] = str(random.choice([0, 1, 2, 3, 5, 7, 100, 10**6, 2**31, 10**20]))
            case 5:
                # A stretch of one place at another.
                tokens[i:i] = tokens[j : j + random.randrange(12)]
    return "".join(tokens)


VALUES = (
    "n",
    "n + 1",
    "2 * n",
    "max(1, n - 1)",
    "it.channels",
    "w",
    "w // 2 + 1",
    "a[0]",
    "a[1]",
    "len(a)",
    "f(n)",
    "1",
    "2",
)
CONDITIONS = (
    "n > 1",
    "n == 2",
    "it.channels == w",
    "i == 0",
    "true",
    "w % 2 == 0 and n > 0",
    "not (n < 2)",
    "len(a) > 1",
)


def program(random: Random) -> str:
    """A spec of blocks that call each other within loops and conditions, with labels, lists and functions."""
    pick = random.choice
    names = [f"b{i}" for i in range(random.randrange(1, 4))]

    def value() -> str:
        return pick(VALUES)

    def label() -> str:
        return pick(["", "", "", "", "c: ", "d: ", '"e{i}": ', '"k-{n}": ', '"x.{i}": ', '"{w}": '])

    def item(depth: int, callable_: list[str]) -> str:
        roll = random.random()
        if callable_ and roll < 0.25:
            return f"{label()}{pick(callable_)}({value()}, {pick(['[1, 2]', '[2, 3, 1]', 'a'])})"
        if depth > 2 or roll < 0.6:
            layer = pick(
                [f"conv({value()}, 3)", f"conv({value()}, 1, bias = n > 1)", "batchnorm", "relu()", "maxpool(2)", "{ }"]
            )
            return label() + layer
        return (
            label()
            + pick(
                [
                    lambda: f"residual via conv({value()}, 1) {{ conv({value()}, 3) }}",
                    lambda: f"residual {{ {chain(depth + 1, callable_)} }}",
                    lambda: f"residual if {pick(CONDITIONS)} {{ relu() }}",
                    lambda: f"dense {{ {chain(depth + 1, callable_)} }}",
                    lambda: f"{{ {chain(depth + 1, callable_)} }}",
                    lambda: f"({chain(depth + 1, callable_)}, {chain(depth + 1, callable_)}) -> align(crop) -> concat",
                    lambda: "(c, it) -> align(crop) -> concat",
                ]
            )()
        )

    def chain(depth: int, callable_: list[str]) -> str:
        return " -> ".join(item(depth, callable_) for _ in range(random.randrange(1, 4)))

    def statement(depth: int, callable_: list[str]) -> str:
        roll = random.random()
        if depth > 2 or roll < 0.65:
            return chain(depth, callable_)
        inner = "\n".join(statement(depth + 1, callable_) for _ in range(random.randrange(1, 3)))
        return pick(
            [
                lambda: f"for i in 0..{pick(['n', '2', 'len(a)'])} {{\n{inner}\n}}",
                lambda: f"for i, w in enumerate(a) {{\n{inner}\n}}",
                lambda: f"repeat {value()} {{\n{inner}\n}}",
                lambda: f"if {pick(CONDITIONS)} {{\n{inner}\n}}",
                lambda: f"if {pick(CONDITIONS)} {{\n{inner}\n}} else {{\n{chain(depth + 1, callable_)}\n}}",
                lambda: f"let w = {value()}",
            ]
        )()

    def statements(callable_: list[str]) -> str:
        return "\n".join(statement(0, callable_) for _ in range(random.randrange(1, 5)))

    lines = ["let w = 3\nlet i = 1\nfn f(n) = n + 1 if n < 3 else n - 1"]
    for number, name in enumerate(names):
        lines.append(f"block {name}(n = 1, a = [1, 2]) {{\n{statements(names[:number])}\n}}")
    size = pick(["H = 16, W = 16", "16, 16", "H, W", "T = 32", "D = 8, 8, 8"])
    lines.append(f"model m(n = 2, a = [2, 1]) {{\ninput x[2, {size}]\n{statements(names)}\n}}")
    return "\n".join(lines) + "\n"


def cut(random: Random) -> str:
    """A half-written buffer."""
    text = mutant(random)
    return text[: random.randrange(len(text) + 1)]


# ---------------------------------------------------------------- operations


def value_of(annotation: object, random: Random) -> str:
    """A valid or invalid value for an argument of that type."""
    words = [w for w in _leaves(annotation) if isinstance(w, str)]
    kinds = {k for k in _leaves(annotation) if isinstance(k, type)}
    choices = [*words, "none", '"he"', "[[1, -1]]", "x.size", "normal(0.1)"][: len(words) + (random.random() < 0.1) * 5]
    if int in kinds:
        choices += ["0", "1", "2", "2", "3", "4", "1x2", "3x1", "2x2x2", "it.channels"]
    if float in kinds:
        choices += ["0.5", "0.1", "1.0", "0", "1", "2.5", "1e-5", "1e300"]
    if bool in kinds:
        choices += ["true", "false"]
    if tuple in kinds:
        choices += ["[1, 2]", "[0, 1, 2]", "[4, 8, 8]", "[[1, 0, -1]]", "[[1, 2], [3, 4]]"]
    return random.choice(choices or ["1"])


def _leaves(annotation: object) -> list[object]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    parts = get_args(annotation)
    origin = get_origin(annotation)
    return [
        *([origin] if isinstance(origin, type) else [] if parts else [annotation]),
        *(leaf for part in parts for leaf in _leaves(part)),
    ]


def call(cls: type[Declaration], random: Random) -> str:
    """A call of an operation or augmentation, one of its examples with some arguments redrawn."""
    chosen = random.choice(cls.examples)  # type: ignore[attr-defined]
    given = getattr(chosen, "arguments", chosen)
    arguments = {}
    for name, parameter in cls.fields.items():
        if name in given and random.random() < 0.6:
            arguments[name] = cls.spell({name: given[name]}).partition("(")[2][:-1].rpartition(" = ")[2]
        elif (name in given or parameter.is_required) or random.random() < 0.15:
            arguments[name] = value_of(parameter.annotation, random)
    written = ", ".join(f"{name} = {value}" for name, value in arguments.items())
    return f"{cls.name}({written})" if written else cls.name


def within(line: str, number: int, random: Random) -> str:
    """A line as the body of something."""
    size, shift = random.choice([1, 2, 4, 7, 16]), random.choice([0, 1, 3])
    heads = [f"windows({size})", f"windows({size}, {shift}, pad)", f"grid({size}, pad)", "scope", "residual"]
    heads.append(f"share s{number}:")
    head = random.choice(heads)
    after = f"\ns{number} -> s{number}" if head.startswith("share") else ""
    return f"{head} {{ {line} }}{after}"


def operations(random: Random) -> str:
    """A model that chains operations of every kind, sometimes with several inputs and outputs."""
    pick = random.choice
    size = pick(["H, W", "H = 16, W = 16", "16, 16", "T = 32", "8, 8, 8", "1, 1"])
    channels = pick([1, 2, 3, 4, 8])
    several = random.random() < 0.3
    lines = [f"input x[{channels}, {size}]" + (f", y[{pick([channels, 4])}, {size}]" if several else "")]
    if several:
        lines.append(pick(["(x, y) -> concat", "(x, y) -> align(crop) -> add", "let unused = y"]))
    for number in range(random.randrange(1, 9)):
        cls = pick(list(OPERATIONS.values()))
        made = call(cls, random)
        if cls.inputs == "many":
            made = pick([f"({{ }}, {{ }}) -> {made}", f"(conv({channels}, 3), {{ }}) -> {made}"])
        elif cls.inputs == "any":
            made = f"({', '.join(['{ }'] * random.randrange(1, 5))}) -> {made}"
        elif cls.inputs == "none":
            made = f"({made}, {{ }}) -> add"
        line = pick(["", "", f"a{number}: ", f'"b.{number}": ']) + made
        lines.append(within(line, number, random) if random.random() < 0.3 else line)
    if random.random() < 0.3:
        labels = [line.partition(":")[0] for line in lines if line.startswith("a") and ":" in line]
        lines.append("output " + ", ".join([*labels[:2], "last = it"]))
    head, augmented = "", ""
    if random.random() < 0.25:
        changes = "\n".join(call(pick(list(CHANGES.values())), random) for _ in range(random.randrange(1, 5)))
        head, augmented = f"augment some {{\n{changes}\n}}\n", " augmented some"
    return f"{head}model m{augmented} {{\n" + "\n".join(lines) + "\n}\n"


# ---------------------------------------------------------------- several files

FILE = re.compile(r"^#== file (\w[\w/]*\.arch)\n", re.M)
"""Separates files within a text, so that a text of the corpus is always one file."""


def files(text: str) -> dict[str, str]:
    """The files of a text by name; "" is the main one."""
    first, *rest = FILE.split(text)
    return {"": first, **dict(zip(rest[::2], rest[1::2], strict=True))}


def imports(random: Random) -> str:
    """Files that import each other, some of them broken."""
    pick = random.choice
    names = ["a", "b", "sub/c"][: random.randrange(1, 4)]

    def line() -> str:
        name = pick([*names, *names, "resnet", "archdsl.unet", "nothing", "net", "sub"]).replace("/", ".")
        what = pick(["v", "v as w", "unit", "unit as conv", "m", "m as other", "f, v", "basic", "double_conv", "it"])
        return f"from {name} import {what}\n"

    def file() -> str:
        body = pick([program, operations, mutant, words, network])(random)
        own = "let v = 2\nfn f(n) = n + v\nblock unit(n = v) { conv(n, 3) -> relu }\n"
        return line() * random.randrange(2) + pick([own, own + body, body])

    text = line() * random.randrange(1, 3) + line() + pick([program, operations])(random).replace("b0(", "unit(")
    return text + "".join(f"\n#== file {name}.arch\n{file()}" for name in names)


KINDS = (noise, words, body, mutant, mutant, mutant, program, program, operations, operations, imports, cut)


def text(random: Random) -> str:
    return random.choice(KINDS)(random)
