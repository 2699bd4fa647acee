"""Random names, values and calls of operations for specs: the items of chains."""

from __future__ import annotations

import builtins
import keyword
from dataclasses import dataclass, field
from random import Random

from archdsl.ops import OPERATIONS
from tests import random_examples, random_tokens


def words(text: str) -> list[str]:
    return text.split()


WORDS_OF_THE_LANGUAGE = words(
    "block model input output let fn for repeat residual dense default expect require augment"
)
NO_VALUES = {*words("it true false none not and or if else in as via import"), "__debug__", *WORDS_OF_THE_LANGUAGE}
"""Words that cannot name a value in an expression."""

ODD = sorted(
    {
        *(k for k in (*keyword.kwlist, *keyword.softkwlist)),
        *(n for n in dir(builtins) if n.islower() and not n.startswith("_")),
        *WORDS_OF_THE_LANGUAGE,
        # Attributes of every module.
        *words("train eval type half float double cpu to forward children modules parameters buffers apply state_dict"),
        *words("add_module get_submodule register_buffer named_children zero_grad extra_repr requires_grad_"),
        *words("_modules _parameters _buffers _version __init__ __class__ __dict__ __call__ append items keys values"),
        # Names that built files use.
        *words("torch nn F Tensor self kw x y z a b c n i j k out x1 y1 x2 drop_path DropPath factory Factory"),
        *words("device dtype Any Unpack TypedDict NamedTuple checkpoint recomputed features same_upper_pads"),
        *words("crop_to_smallest pad_to_largest resize_to_first PixelShuffle in_channels layers layer width size"),
        *words("sizes Conv2d Module Sequential Identity ModuleList check_size dynamic_shapes fold_batchnorms partial"),
        *words("chain input_ norm result parts part total skip branch count index stride channels _ __ __x _y a_ T N"),
    }
    - {"it"}
)
PARTIAL_ACTS = [
    *words("leaky_relu(0.2) elu(alpha=0.5) batchnorm(eps=1e-3) scale(init=0.5) dropout(0.25) groupnorm(1) softplus(2)"),
    "prelu(channels = each)",
    "batchnorm(momentum = none, affine = false)",
]
"""Operations with some of their arguments, for parameters of blocks; likewise those of units, which take a width."""
PARTIAL_UNITS = [
    "conv(kernel = 1, bias = false)",
    "conv(kernel = 3, pad_mode = replicate)",
    "stdconv(kernel = 3, gamma = 1.5)",
    "wrapped(act = tanh)",
    "wrapped(act = leaky_relu(0.2), kind = linear(bias = false))",
    "wrapped(kind = thin)",
    "wrapped(kind = conv(kernel = 3))",
    "linear(bias = false)",
]
WORDS = words("deep wide branch of the coarse fine upper lower head path feature pyramid context guided signal memory")
PREFIXES = ["layer", "c", "mix.x", "a-b", "conv_", "0.", "9x", "train.", "_", "class.", "l", "Stage", "mix.x.y", "0.1."]
BOUNDED = [
    *("softplus -> rescale(1, 0.1) -> log", "square -> rescale(1, 0.5) -> sqrt", "tanh -> square"),
    *("clamp(-0.5, 1)", "clamp(max = 0.5)", "clamp(min = -0.25)"),
]
"""Functions that are called where they have a value, and none that is too large."""
ELEMENTWISE = [
    name for name, cls in OPERATIONS.items() if cls.is_activation and name not in ("log", "sqrt", "square", "clamp")
]
WRITTEN = {
    *words(
        "conv upconv linear maxpool avgpool adaptive_avgpool adaptive_maxpool global_avgpool global_maxpool batchnorm"
    ),
    *words(
        "layernorm rmsnorm groupnorm instancenorm lrn dropout dropout_channels droppath crop pad upsample resize scale"
    ),
    "split",
    *words("stdconv blur rotary differences sine_positions"),
    *words(
        "pixel_shuffle pixel_unshuffle slice channel_shuffle flatten reshape permute attention parameter relative "
        "coordinates squeeze reduce_mean reduce_sum reduce_max"
    ),
}
OTHERS = [
    cls for name, cls in OPERATIONS.items() if name not in WRITTEN and not cls.is_activation and cls.inputs == "one"
]
"""The operations that have no call written here: they are called as in their examples."""


@dataclass
class Names:
    """The names in scope of a body, by kind. `taken` are all names that the body uses or declares."""

    ints: list[str] = field(default_factory=list)
    bools: list[str] = field(default_factory=list)
    floats: list[str] = field(default_factory=list)
    strings: list[str] = field(default_factory=list)
    acts: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    pads: list[str] = field(default_factory=list)
    aligns: list[str] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)
    kernels: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    rounds: list[str] = field(default_factory=list)
    """The variables of the enclosing loops, which number the labels."""
    in_loop: bool = False
    conditions: list[str] = field(default_factory=list)
    """Earlier conditions, for reuse."""
    taken: set[str] = field(default_factory=set)

    def inner(self, *rounds: str, loop: bool = False) -> Names:
        """The names of a nested body, where more may be in scope."""
        lists = {k: list(v) for k, v in vars(self).items() if isinstance(v, list)}
        found = Names(**lists, in_loop=self.in_loop or loop, taken=self.taken)
        found.rounds += rounds
        return found


KINDS = words("int bool float string act unit list pad align mode kernel")


@dataclass
class Items:
    """Generates names, values and calls of operations. `rank` is the number of spatial axes of the model's inputs."""

    random: Random
    rank: int
    odd: float
    """The fraction of odd names."""
    counter: int = 0
    outside: bool = False
    """Whether the file declares layers from outside."""

    # ------------------------------------------------------------ names

    def name(self, taken: set[str], value: bool = False) -> str:
        """A new name for a label, or for a value."""
        random = self.random
        for _ in range(20):
            roll = random.random()
            if roll < self.odd:
                found = random.choice(ODD)
            elif roll < self.odd + 0.1:
                found = "_".join(random.choice(WORDS) for _ in range(random.randint(1, 14)))[: random.randint(1, 60)]
            else:
                self.counter += 1
                found = f"{random.choice('abcdnpqrstuvwxyz')}{self.counter}"
            if found not in taken and not (value and found in NO_VALUES):
                taken.add(found)
                return found
        self.counter += 1
        return f"name{self.counter}"

    def label(self, names: Names) -> str:
        """A label for an item that nothing refers to, or none."""
        random = self.random
        self.counter += 1
        numbers = [*names.rounds, *names.ints[:2], *names.strings[:1]]
        if names.in_loop:
            if not names.rounds or random.random() < 0.3:
                return ""
            return f'"{random.choice(PREFIXES)}{self.counter}_{"_".join("{" + r + "}" for r in names.rounds)}": '
        roll = random.random()
        if roll < 0.4:
            return ""
        if numbers and roll < 0.65:
            value = random.choice(numbers)
            inside = random.choice([value, value, f"{value} + 1" if value in names.ints else value])
            return f'"{random.choice(PREFIXES)}{self.counter}_{{{inside}}}": '
        if roll < 0.72:
            return f'"{random.choice(PREFIXES)}{self.counter}": '
        if roll < 0.75:
            return f'"{random.choice(ODD)}.{random.choice(["", "", "y.", "0."])}z{self.counter}": '
        return f"{self.name(names.taken)}: "

    # ------------------------------------------------------------ values

    def pick(self, names: list[str], *others: str, share: float = 0.6) -> str:
        return self.random.choice(names) if names and self.random.random() < share else self.random.choice(others)

    def width(self, names: Names) -> str:
        """A number of channels, mostly even."""
        random = self.random
        if names.ints and random.random() < 0.65:
            n = random.choice(names.ints)
            forms = [n, n, f"2 * {n}", f"{n} + 2", f"{n} * 2", f"2 * ({n} + 1)", f"4 - 2 + {n}", f"max({n}, 2)"]
            forms.append(f"2 ** ({n} % 4)")
            if names.bools:
                forms += [
                    f"{n} if {random.choice(names.bools)} else 4",
                    f"(4 if {random.choice(names.bools)} else {n})",
                ]
            forms += [f"double({n})", f"min({n}, 6)", f"round({n} / 2) + 1", f"ceil({n} * 0.5)", f"floor({n} / 2) + 2"]
            forms += [f'2 if {text} == "down" else {n}' for text in names.strings]
            return random.choice(forms)
        if names.lists and random.random() < 0.2:
            values = random.choice(names.lists)
            forms = [f"{values}[0]", f"{values}[-1]", f"max({values})", f"2 * len({values})", f"sum({values}[0..1])"]
            return random.choice([*forms, f"len({values}[0..=0] + range(3))", f"abs(1 - {values}[-1]) + 1"])
        return random.choice(["2", "2", "4", "4", "6", "8", "3", "1", "it.channels", "base", "it.channels + 2"])

    def value(self, kind: str, names: Names) -> str:
        """An argument of that kind."""
        random = self.random
        match kind:
            case "int":
                return self.width(names)
            case "bool":
                return self.pick(names.bools, "true", "false", "true", "false", self.condition(names))
            case "float":
                return self.pick(names.floats, "0.0", "0.1", "0.25", "0.5", "1e-3")
            case "string":
                return self.pick(names.strings, '"down"', '"up"', '"same"')
            case "act":
                whole = self.pick(names.acts, *ELEMENTWISE, "batchnorm", "layernorm", "scale", "instancenorm")
                return self.pick([], whole, whole, whole, random.choice(PARTIAL_ACTS))
            case "unit":
                return self.pick(names.units, "thin", "thin", "plain", "linear", random.choice(PARTIAL_UNITS))
            case "list":
                more = f"{random.choice(names.lists)} + [2]" if names.lists else "table"
                return self.pick(names.lists, "[2, 4]", "[4]", "[2, 2, 6]", "[6, 4, 2]", more, "table", "[4] * 2")
            case "pad":
                return self.pick(names.pads, "same", "valid", "same_upper", "full", "1")
            case "align":
                return self.pick(names.aligns, "crop", "pad", "resize")
            case "mode":
                return self.pick(names.modes, "nearest", "bilinear", "linear", "trilinear")
        return self.pick(names.kernels, "1", "3", "5", self.size(1, 3))

    def condition(self, names: Names) -> str:
        random = self.random
        if names.conditions and random.random() < 0.35:
            again = random.choice(names.conditions)
            return again if random.random() < 0.7 else f"not ({again})"
        forms = ["it.channels > 4", "it.channels % 4 == 0", "true", "false", "base == 4"]
        for n in names.ints:
            forms += [f"{n} > 3", f"{n} == 2", f"{n} % 4 == 0", f"{n} != it.channels", f"not {n} == 4"]
        forms += [s for b in names.bools for s in (b, f"not {b}", b)]
        forms += [f'{s} == "down"' for s in names.strings for _ in range(2)]
        forms += [f"{f} > 0.2" for f in names.floats]
        forms += [f"len({v}) > 1" for v in names.lists]
        found = random.choice(forms)
        if random.random() < 0.15:
            found = f"{found} {random.choice(['and', 'or'])} {random.choice(forms)}"
        names.conditions.append(found)
        return found

    def size(self, low: int, high: int) -> str:
        """One number, or one for each axis."""
        numbers = [str(self.random.randint(low, high)) for _ in range(self.rank)]
        return "x".join(numbers) if self.rank > 1 and self.random.random() < 0.4 else numbers[0]

    def call(self, operation: str, *arguments: str, **named: str | None) -> str:
        """A call with some named arguments left out or reordered."""
        given = [f"{k} = {v}" for k, v in named.items() if v is not None]
        self.random.shuffle(given)
        inside = ", ".join([*arguments, *given])
        return f"{operation}({inside})" if inside or self.random.random() < 0.2 else operation

    def maybe(self, value: str, share: float = 0.35) -> str | None:
        return value if self.random.random() < share else None

    # ------------------------------------------------------------ operations

    def switch(self, names: Names) -> str:
        return self.pick(names.bools, "true", "false", share=0.3)

    def init(self) -> str:
        return self.random.choice(
            words("he he_uniform he_fan_out xavier xavier_uniform lecun zeros none normal(0.1) truncated_normal(0.2)")
        )

    def numbers(self) -> str:
        """A fixed kernel: numbers nested once for each axis."""
        random = self.random
        sizes = [random.choice([1, 3, 3, 2]) for _ in range(self.rank)]

        def nested(left: list[int]) -> str:
            if not left:
                return random.choice(["1", "-1", "0", "2", "0.5", "-0.25"])
            return f"[{', '.join(nested(left[1:]) for _ in range(left[0]))}]"

        return nested(sizes)

    def conv(self, names: Names, out: str | None = None, keep: bool = False) -> str:
        """A convolution, one that keeps the spatial sizes if asked."""
        random = self.random
        out = self.width(names) if out is None else out
        if random.random() < 0.4:
            return f"conv({out}, {self.pick(names.kernels if not keep else [], '1', '3')})"
        kernel = self.pick(names.kernels, "1", "3", "5", self.size(1, 3), self.size(2, 4))
        causal = ["causal"] * (self.rank == 1)
        pad = self.pick(names.pads, "same", "same_upper", "valid", "full", self.size(0, 2), *causal, share=0.4)
        stride: str | None = self.maybe(random.choice(["1", "2", self.size(1, 2)]), 0.25)
        if keep:
            kernel, pad, stride = random.choice(["1", "3", self.size(1, 4)]), "same_upper", self.maybe("1", 0.1)
        groups = self.maybe(random.choice(["1", "2", "it.channels"]), 0.3)
        if groups == "it.channels":
            out = random.choice(["it.channels", "2 * it.channels"])
        weight = self.maybe(self.numbers(), 0.12)
        given = [out] if weight is not None else [out, kernel]
        standard = random.random() < 0.12
        more = {"eps": self.maybe("1e-3"), "gamma": self.maybe(random.choice(["1.7", "1"]), 0.6)} if standard else {}
        return self.call(
            "stdconv" if standard else "conv",
            *given,
            stride=stride,
            pad=pad,
            dilation=self.maybe(random.choice(["1", "2", self.size(1, 2)]), 0.15),
            groups=groups,
            bias=self.maybe(self.switch(names)),
            pad_mode=self.maybe(random.choice(["zeros", "replicate", "reflect", "circular"]), 0.25),
            weight=weight,
            trainable=self.maybe(self.switch(names), 0.15),
            flip=self.maybe(self.switch(names), 0.2),
            init=self.maybe(self.init(), 0.2) if weight is None and not standard else None,
            **more,
        )

    def upconv(self, names: Names) -> str:
        random = self.random
        return self.call(
            "upconv",
            self.width(names),
            random.choice(["2", "3", self.size(1, 3)]),
            stride=self.maybe(random.choice(["1", "2", self.size(1, 2)]), 0.6),
            pad=self.maybe(random.choice(["0", "1", "valid", "same", "full", self.size(0, 1)])),
            output_pad=self.maybe(random.choice(["0", "1", self.size(0, 1)]), 0.25),
            dilation=self.maybe(random.choice(["1", "2"]), 0.4),
            groups=self.maybe(random.choice(["1", "2"]), 0.4),
            bias=self.maybe(self.switch(names)),
            init=self.maybe(self.init(), 0.2),
        )

    def linear(self, names: Names, out: str | None = None) -> str:
        given = self.width(names) if out is None else out
        bias = self.maybe(self.switch(names))
        if out is None and self.random.random() < 0.15:  # a bias for parts of the outputs
            given, bias = self.random.choice(
                [("6", "[true, false, true]"), ("4", "[false, true]"), ("2 * it.channels", "[true, false]")]
            )
        return self.call("linear", given, bias=bias, init=self.maybe(self.init(), 0.2))

    def norm(self, names: Names, flat: bool = False) -> str:
        random = self.random
        eps = self.maybe(random.choice(["1e-5", "1e-3", "0.1"]))
        init = self.maybe(random.choice(["ones", "zeros", "zeros"]), 0.3)
        affine = self.maybe(self.switch(names), 0.25)
        momentum = self.maybe(random.choice(["0.1", "0.3", "none", "0.0", "1.0"]))
        pick = random.choice(["batch", "batch", "layer", "group", "instance", "lrn"][: 4 if flat else 6])
        match pick:
            case "batch":
                return self.call("batchnorm", eps=eps, momentum=momentum, affine=affine, init=init)
            case "layer":
                if init is None and random.random() < 0.3:
                    return random.choice([self.call("rmsnorm", eps=eps, affine=affine), "layernorm(bias = false)"])
                return self.call("layernorm", eps=eps, init=init, affine=None if init else affine)
            case "group":
                return self.call("groupnorm", random.choice(["1", "2", "it.channels"]), eps=eps, init=init)
            case "instance":
                momentum = None if momentum == "none" else momentum
                track = self.maybe(self.switch(names), 0.5)
                affine = affine if init is None else "true"
                return self.call("instancenorm", eps=eps, momentum=momentum, affine=affine, track=track, init=init)
        return self.call(
            "lrn",
            random.choice(["1", "2", "3", "5"]),
            alpha=self.maybe(random.choice(["0.5", "1e-4", "2.0"])),
            beta=self.maybe(random.choice(["0.5", "1.0", "0.75"])),
            k=self.maybe(random.choice(["1.0", "2.0"])),
        )

    def activation(self, names: Names) -> str:
        random = self.random
        if names.acts and random.random() < 0.4:
            return random.choice(names.acts)
        name = random.choice([*ELEMENTWISE, "relu", "relu", *BOUNDED])
        match name:
            case "hardtanh":
                low, high = self.maybe(random.choice(["-0.5", "0.0"]), 0.5), self.maybe("2.0", 0.5)
                return self.call(name, min=low, max=high)
            case "leaky_relu":
                return self.call(name, slope=self.maybe(random.choice(["0.2", "-0.1", "0.0", "1.5"]), 0.5))
            case "prelu":
                channels = self.maybe(random.choice(["shared", "each"]), 0.5)
                return self.call(name, init=self.maybe(random.choice(["0.1", "-0.5", "0.25"])), channels=channels)
            case "elu":
                return self.call(name, alpha=self.maybe(random.choice(["0.5", "-0.3", "1.0"]), 0.5))
            case "gelu":
                return self.call(name, approximate=self.maybe(random.choice(["none", "tanh"]), 0.6))
            case "softplus":
                return self.call(name, beta=self.maybe(random.choice(["2.0", "0.5"]), 0.5))
        return name

    def regular(self, names: Names) -> str:
        pick = self.random.choice
        p = self.pick(names.floats, "0.0", "0.5", "0.25", "0.1")
        return pick([f"dropout({p})", "dropout", f"dropout_channels({p})", f"droppath({p})", f"dropout(p = {p})"])

    def pool(self, names: Names, keep: bool = False) -> str:
        random = self.random
        name = random.choice(["maxpool", "avgpool"])
        dilation = self.maybe(random.choice(["1", "2"]), 0.2) if name == "maxpool" else None
        count = self.maybe(self.switch(names), 0.5) if name == "avgpool" else None
        if keep:
            # With a window of 2 and a dilation, `same_upper` may leave only padding.
            kernel = "3" if dilation == "2" else self.size(1, 3)
            return self.call(name, kernel, stride="1", pad="same_upper", dilation=dilation, count_pad=count)
        upper = "same" if dilation == "2" else "same_upper"
        return self.call(
            name,
            random.choice(["2", "3", self.size(1, 3)]),
            stride=self.maybe(random.choice(["1", "2", self.size(1, 2)]), 0.7),
            pad=self.maybe(random.choice(["0", "1", "same", "valid", self.size(0, 1), upper]), 0.6),
            dilation=dilation,
            ceil=self.maybe(self.switch(names)),
            count_pad=count,
        )

    def resizing(self, names: Names) -> str:
        """An item that changes the spatial sizes in another way."""
        random = self.random
        edges = ["zeros", "replicate", "reflect", "circular"]
        mode = self.maybe(self.pick(names.modes, "nearest", "bilinear", *["bicubic"] * (self.rank == 2)), 0.5)
        forms = [
            lambda: self.call("crop", self.size(0, 1), after=self.maybe(self.size(0, 1), 0.3)),
            lambda: self.call("pad", self.size(0, 2), after=self.size(0, 2), mode=self.maybe("replicate")),
            lambda: self.call("rescale", random.choice(["0.5", "2", "-1.0"]), offset=self.maybe("0.25")),
            lambda: f"(channel_mean, channel_max) -> concat -> {self.conv(names, '1', keep=True)} -> sigmoid",
            lambda: f"(it, channel_mean) -> {random.choice(['mul', 'add(stretch = true)'])}",
            lambda: f"pad_to_multiple({self.size(1, 4)})",
            lambda: f"pad_to_multiple({self.size(2, 3)}) -> {self.kept(names)} -> crop(0, after = {self.size(0, 1)})",
            lambda: random.choice(["identity", "grn", f"softmax(axis = {random.randint(1, self.rank)})"]),
            lambda: f"pad(1) -> {self.call('crop', self.size(0, 1))}",
            lambda: self.call("pad", self.size(0, 2), mode=self.maybe(random.choice(edges), 0.6)),
            lambda: self.call("pad", self.size(0, 2), mode=random.choice(edges[1:])),
            lambda: self.call("upsample", random.choice(["2", "1", self.size(1, 2)]), mode=mode),
            lambda: self.call("upsample", random.choice(["2", self.size(1, 2)]), mode="bilinear"),
            lambda: self.call("upsample", "2", mode="bilinear", align_corners=self.switch(names)),
            lambda: self.call("resize", self.size(3, 7), align_corners=self.switch(names)),
            lambda: self.call("resize", random.choice(["4", self.size(3, 7)]), mode=mode),
            lambda: f"resize([{', '.join(random.choice(['4', '5', 'base']) for _ in range(self.rank))}])",
            lambda: self.call("resize", random.choice(["it.size", *(f"{x}.size" for x in names.labels)]), mode=mode),
            lambda: self.call(random.choice(["adaptive_avgpool", "adaptive_maxpool"]), self.size(2, 6)),
            lambda: f"conv({2**self.rank * random.randint(1, 2)}, 1) -> pixel_shuffle(2)",
            lambda: f"conv({2**self.rank}, 1) -> pixel_shuffle(r = 2)",
            lambda: "resize([4] * rank) -> pixel_unshuffle(2)".replace("rank", str(self.rank)),
            lambda: f"pad_to_multiple(2) -> pixel_unshuffle({random.choice(['2', 'r = 2'])})",
            lambda: self.permute(),
            lambda: random_tokens.in_a_row(self, names),
            lambda: self.blur(names),
            lambda: self.blur(names),
            lambda: self.along(names),
            *(lambda cls=cls: cls.spell(random.choice(cls.examples).arguments) for cls in OTHERS),
        ]
        return random.choice(forms)()

    def blur(self, names: Names) -> str:
        random = self.random
        found = self.call(
            "blur", random.choice(["2", "3", "4"]), stride=self.maybe(random.choice(["1", "2", self.size(1, 3)]), 0.6)
        )
        return f"pad(1{random.choice(['', ', mode = reflect', ', mode = replicate'])}) -> {found}"

    def along(self, names: Names) -> str:
        """An item that takes apart a spatial axis, or puts tensors together along one."""
        random = self.random
        axis = random.randint(1, self.rank)
        forms = [
            f"(it, slice(0, 1, axis = {axis}) -> {self.kept(names)}) -> concat(axis = {axis})",
            f"(slice(0, 1, axis = {axis}), it, it) -> concat(axis = {axis})",
            f"(it, it) -> concat(axis = {axis}) -> {self.norm(names)} -> split(2, axis = {axis}) -> add",
            "(it, global_avgpool) -> add(stretch = true)",
            f"(it, it) -> concat(axis = {axis}) -> slice(1, axis = {axis}) -> {self.norm(names)}",
            f"conv(4, 1) -> split([1, 3]) -> {random.choice(['concat', 'add(stretch = true)', 'mul'])}",
            f"conv(4, 1) -> {random.choice(['slice(1)', 'slice(-3, -1)', 'slice(1, -1)'])}",
            f"(it, slice(-1, axis = {axis})) -> add(stretch = true)",
            f"conv(4, 1) -> slice({random.randint(0, 2)}, step = {random.randint(2, 3)})",
            f"(slice(0, 1, axis = {axis}), it) -> add(stretch = true)",
            f"(it, it) -> concat(axis = {axis}) -> slice({random.randint(0, 1)}, axis = {axis}, step = 2)",
        ]
        return random.choice(forms)

    def permute(self) -> str:
        axes = list(range(1, self.rank + 1))
        self.random.shuffle(axes)
        order = [0, *axes]
        if self.random.random() < 0.2:
            self.random.shuffle(order)
        return f"permute([{', '.join(map(str, order))}])"

    def channelled(self, names: Names, flat: bool = False) -> str:
        """An item that splits or shuffles the channels."""
        random = self.random
        merge = random.choice(["add", "mean", "maximum", "sub", "concat", "mul"])
        forms = [
            f"split(2) -> {merge}",
            "slice(0, 2)",
            f"slice(start = 1, stop = {random.choice(['2', 'it.channels'])})",
            "slice(0, it.channels // 2)",
            *[self.linear(names)] * (not flat),
            f"split(it.channels) -> {merge}",
            *["channel_shuffle(2)", "channel_shuffle(it.channels)"] * (not flat),
            f"(it, {self.label(names)}{random_tokens.parameter(self)}) -> {merge}",
            f"({random_tokens.parameter(self)}, it) -> {merge}",
            *[random_tokens.mixing(self, names)] * (6 * (not flat)),
            self.call("scale", init=self.maybe(random.choice(["0.1", "0.0", "2.0"]), 0.5)),
            self.call("scale", init=self.maybe(random.choice(["0.1", "-1.0"]), 0.5), stored=self.maybe("maps")),
        ]
        return random.choice(forms)

    def outer(self, names: Names) -> str:
        """A call of a layer from outside, which keeps the positions."""
        random = self.random
        return random.choice(
            [
                self.call("outside", self.width(names), bias=self.maybe(self.switch(names))),
                self.call("bend", random.choice(["0.5", "1.5"]), name=self.maybe(random.choice(['"tanh"', '"sin"']))),
                f"({self.activation(names)}, it) -> blend({random.choice(['0.25', '0.5'])})",
            ]
        )

    def kept(self, names: Names, flat: bool = False) -> str:
        """An item that keeps all sizes."""
        roll = self.random.random()
        if roll < 0.4:
            return self.activation(names)
        if roll < 0.6:
            return self.norm(names, flat)
        if roll < 0.7:
            return self.regular(names)
        if flat:
            return self.linear(names, "it.channels") if roll < 0.9 else self.call("scale")
        return self.conv(names, "it.channels", keep=True) if roll < 0.9 else self.pool(names, keep=True)

    def item(self, names: Names, flat: bool = False) -> str:
        """Any item."""
        if self.outside and not flat and self.random.random() < 0.25:
            return self.outer(names)
        if self.random.random() < 0.07:
            return random_examples.call(self, flat)
        roll = self.random.random()
        if flat:
            if roll < 0.35:
                return self.linear(names)
            return self.channelled(names, True) if roll < 0.5 else self.kept(names, True)
        if roll < 0.34:
            return self.conv(names, keep=self.random.random() < 0.4)
        if roll < 0.70:
            return self.kept(names)
        if roll < 0.76:
            return self.pool(names)
        if roll < 0.80:
            return self.upconv(names)
        return self.resizing(names) if roll < 0.9 else self.channelled(names)
