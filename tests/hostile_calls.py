"""Networks, written by hand, in which calls of one block differ, and tensors are overwritten or seen through views.

`NETWORKS` are texts by name. `m` is the model of each. They are run as those of tests/hostile_forms.py.
"""

from __future__ import annotations

OUTSIDE = """
        extern outside(width, bias = true) = "tests.outside:Outside" { input x[C, H, W]
            output [width, H, W]
            call (C, width, bias = bias)
            weight weight[width, C]
            buffer shift[width]
            weight "inner.bias"[width] if bias
            macs C
            field (1) }
        extern fn bend(factor, name = "tanh") = "tests.outside:bend" { input x[C, H, W]
            output [C, H, W] }
        extern fn blend(share) = "tests.outside:blend" { input a[C, H, W], b[C, H, W]
            output [C, H, W]
            macs 0 }
"""

NETWORKS = {
    # ------------------------------------------------------------ one block, calls that differ
    "the result of one call is read again, that of another is not": """
        block u(n) { conv(n, 3) -> relu }
        model m { input x[4, H = 8, W = 8]
            u(4) -> a: it
            relu -> u(4) -> dropout(0.5) -> b: it
            (a, b) -> sub -> u(4) -> c: it
            hardswish -> u(4) -> (it, c) -> mul -> silu -> (it, a) -> add }
    """,
    "a block that passes its input on in one call and not in another": """
        block maybe(n) { if n != it.channels { conv(n, 1) } }
        block unit(n) { maybe(n) -> skip: it
            relu -> conv(n, 3) -> (it, skip) -> add -> relu }
        model m { input x[4, H = 8, W = 8]
            unit(4) -> unit(6) -> unit(6) -> y: it
            relu -> unit(6) -> (it, y) -> mul }
    """,
    "the first operation of a block overwrites what the caller keeps": """
        block act(f) { f -> f }
        model m { input x[4, H = 8, W = 8]
            conv(4, 3) -> a: it
            act(relu) -> b: it
            (a, b) -> add -> act(leaky_relu(0.1)) -> act(elu) -> c: it
            a -> act(relu6) -> d: it
            (d, c) -> sub -> act(silu) }
    """,
    "a condition on the size that flows in": """
        block shrink(n) {
            if it.channels > n { conv(n, 1) -> relu } else if it.channels == n { relu } else { conv(n, 3) }
            "n.{n}": batchnorm }
        model m { input x[4, H = 8, W = 8]
            shrink(4) -> shrink(2) -> shrink(6) -> a: it
            (it, shrink(6)) -> concat -> shrink(6) }
    """,
    "the number of rounds and their labels are arguments": """
        block row(n, times, name) { for i in 0..times { "{name}{i}": { conv(n, 3)
            if i % 2 == 0 { relu } else { tanh } } } }
        model m { input x[4, H = 8, W = 8]
            row(4, 3, "a") -> row(4, 0, "b") -> row(6, 2, "c.") -> row(6, 2, "d.0.") }
    """,
    "two calls with other widths from a table, a skip into the next": """
        let table = [[4, 2], [6, 3], [4, 1]]
        block stage(n, groups, keep) { conv(n, 3, groups = 1) -> groupnorm(groups) -> a: it
            relu -> b: conv(n, 1)
            if keep { (a, b) -> add } else { (b, a) -> sub } }
        model m { input x[3, H = 8, W = 8]
            for i, row in enumerate(table) { "s{i}": stage(row[0], row[1], i != 1) } }
    """,
    "a block with two inputs gets one tensor twice, and two": """
        block two(n) { input a[_, _, _], b[_, _, _]
            a -> relu -> conv(n, 3) -> p: it
            b -> relu -> conv(n, 3) -> q: it
            (p, q, a) -> concat -> conv(n, 1) }
        model m { input x[4, H = 8, W = 8]
            conv(4, 3) -> y: it
            (y, y) -> two(4) -> z: it
            (z, y) -> two(4) -> w: it
            (w, w) -> two(4) -> (it, z) -> maximum }
    """,
    "a block gives its input as an output": """
        block taps(n) { input x[_, _, _]
            relu -> conv(n, 3) -> y: it
            output y, x }
        model m { input x[4, H = 8, W = 8]
            conv(4, 1) -> taps(4) -> (a, b): it
            a -> relu -> taps(4) -> (c, d): it
            (b, d, c) -> concat -> taps(2) -> (e, f): it
            output e, f if training }
    """,
    "outputs in another order in each level of calls": """
        block inner(n) { conv(n, 3) -> a: relu
            b: conv(n, 1)
            output b, a }
        block outer(n) { inner(n) -> (p, q): it
            (q, p) -> sub -> r: it
            output r, q, p }
        model m { input x[4, H = 8, W = 8]
            outer(4) -> (a, b, c): it
            (c, a) -> mul -> outer(2) -> (d, e, f): it
            output f, b = e if training, d, a2 = b }
    """,
    "a recursion with a condition on depth and parity": """
        block level(n, d) { conv(n, 3) -> relu -> s: it
            if d > 0 { if d % 2 == 0 { maxpool(2) -> level(n + 2, d - 1) -> upsample(2) -> conv(n, 1) -> t: it
                    (s, t) -> align -> add -> relu }
                else { residual { level(n, d - 1) } } }
            batchnorm }
        model m { input x[3, H = 16, W = 16]
            level(4, 3) -> level(4, 2) }
    """,
    "blocks in blocks whose names repeat": """
        block a(n) { a: conv(n, 3) -> b: relu -> a2: conv(n, 3) }
        block b(n) { a: a(n) -> b: a(n) -> residual { a(n) } }
        model m { input x[4, H = 8, W = 8]
            b: b(4) -> a: b(4) -> b(4) -> c: a(2) }
    """,
    # ------------------------------------------------------------ views, and what is overwritten
    "activations of parts of a split": """
        model m { input x[4, H = 8, W = 8]
            conv(8, 3) -> whole: it
            split(2) -> (a, b): it
            a -> relu -> c: it
            b -> hardswish -> d: it
            (d, c) -> concat -> (it, whole) -> add -> slice(2, 6) -> relu -> conv(4, 1) }
    """,
    "parts of a split in a residual that adds in place": """
        model m { input x[4, H = 8, W = 8]
            conv(8, 1) -> batchnorm -> relu -> (a, b): split(2)
            a -> residual { conv(4, 3) -> droppath(0.2) } -> a2: it
            (b, a2) -> add -> relu -> (it, a) -> sub -> residual { relu -> conv(4, 3) } }
    """,
    "tokens are views of a map that is read again": """
        model m { input x[4, H = 6, W = 6]
            conv(4, 3) -> map: it
            tokens -> relu -> linear(4) -> maps(map.size) -> y: it
            map -> permute([0, 2, 1]) -> relu -> conv(4, 1) -> z: permute([0, 2, 1])
            (y, z, map) -> mean -> dropout(0.3) -> tokens -> relu -> linear(3) }
    """,
    "a shuffle, a crop and a flatten before an activation": """
        model m { input x[4, 8, 8]
            conv(4, 3) -> a: it
            channel_shuffle(2) -> relu -> b: it
            a -> crop(1) -> elu -> pad(1) -> c: it
            a -> slice(0, 2) -> relu -> conv(4, 1) -> d: it
            (a -> flatten -> relu -> linear(4) -> reshape([4, 1, 1]), (b, c, d) -> add) -> mul }
    """,
    "a sum whose terms are results of activations that keep their results": """
        model m { input x[4, H = 8, W = 8]
            conv(4, 3) -> a: sigmoid
            b: tanh
            (a, b) -> add -> relu -> c: exp
            (c, a) -> mul -> softmax -> d: it
            (d, c, b) -> add -> relu -> dropout(0.2) -> conv(4, 3) }
    """,
    "an input that is only overwritten": """
        model m { input x[4, H = 8, W = 8], y[4, H, W]
            relu_of: { x -> relu }
            (it, y -> relu -> relu6) -> add -> relu -> batchnorm -> relu -> (it, x) -> sub }
    """,
    "an identity between what is kept and what is overwritten": """
        block nothing { identity }
        model m { input x[4, H = 8, W = 8]
            conv(4, 3) -> a: it
            nothing -> identity -> dropout(0.0) -> relu -> b: it
            (b, a) -> concat -> identity -> silu -> conv(4, 1) -> nothing -> relu }
    """,
    "relu of a sum in a loop whose terms stay": """
        model m { input x[4, H = 8, W = 8]
            conv(4, 3) -> y: it
            for i in 0..3 { it -> before: it
                "c{i}": conv(4, 3) -> (it, before, y) -> add -> relu }
            (it, y) -> mul }
    """,
    "squeezed and stretched tensors are overwritten": """
        model m { input x[4, H = 8, W = 8]
            conv(4, 3) -> a: it
            global_avgpool -> relu -> g: it
            (a, g) -> add(stretch = true) -> relu -> b: it
            (g, b) -> mul -> hardsigmoid -> (it, g -> sigmoid) -> mul -> (it, a) -> add }
    """,
    "windows of a map that is read again, overwritten inside": """
        model m { input x[4, H = 8, W = 8]
            conv(4, 3) -> a: it
            windows(4) { relu -> linear(4) -> relu } -> b: it
            (a, b) -> windows(4, 1) { add -> relu -> residual { dropout(0.2) -> linear(4) } }
            grid(2) { relu } -> (it, a) -> sub }
    """,
    # ------------------------------------------------------------ parallels, align, tuples
    "parallels in parallels with blocks called in each": """
        block u(n, k = 3) { conv(n, k) -> relu }
        model m { input x[4, H = 8, W = 8]
            ((u(2), (u(2, 1), u(2), it) -> concat) -> concat, ({ u(3) -> u(3) }, u(3, 1)) -> sub, it) -> concat -> u(4)
            ((it, u(4)) -> add, (u(4), it) -> mul) -> sub }
    """,
    "a parallel into a block of three inputs, aligned": """
        block three(n) { input a[_, _, _], b[_, _, _], c[_, _, _]
            (c, a -> conv(n, 3), b) -> align(pad) -> concat -> conv(n, 1) }
        model m { input x[4, H = 12, W = 12]
            (maxpool(2), conv(4, 3, pad = valid), it) -> three(4) -> y: it
            (y, y -> maxpool(3), x) -> align(resize) -> three(2) }
    """,
    "align of two kinds in one block": """
        block up(n, how) { input low[_, _, _], high[_, _, _]
            (low -> upconv(n, 2), high) -> align(how) -> concat -> conv(n, 3) -> relu }
        model m { input x[3, H = 21, W = 18]
            conv(4, 3) -> relu -> a: it
            maxpool(2) -> conv(4, 3) -> relu -> b: it
            maxpool(2) -> conv(6, 3) -> c: it
            (c, b) -> up(4, pad) -> (it, a) -> up(4, crop) -> (it -> maxpool(2), it) -> up(2, resize) }
    """,
    "aligned tensors that stay as they are in one call": """
        block join(n) { (conv(n, 3, pad = valid), it) -> align -> (a, b): it
            (b, a) -> sub -> relu }
        block keep(n) { (conv(n, 3), it) -> align -> (a, b): it
            a -> relu -> c: it
            (c, b, a) -> add }
        model m { input x[4, H = 9, W = 9]
            join(4) -> keep(4) -> join(4) -> keep(4) }
    """,
    "a tuple from a block into a loop over its parts": """
        block branch(n) { (conv(n, 1), conv(n, 3) -> relu, it) -> concat -> conv(3 * n, 1) -> (a, b, c): split(3)
            output c, a, b }
        model m { input x[4, H = 8, W = 8]
            branch(4) -> xs: it
            (for i, y in enumerate(xs) { if i == 1 { y -> relu } else { y -> "q{i}": conv(4, 1) } }) -> ys: it
            (ys, xs[0]) -> concat -> branch(2) -> (p, q, r): it
            output r, p if training, q }
    """,
    # ------------------------------------------------------------ training, share, recompute
    "a block all of whose results but one train": """
        block heads(n) { conv(n, 3) -> relu -> t: it
            aux: { conv(2, 1) -> batchnorm -> dropout(0.3) }
            t -> more: { maxpool(2) -> conv(2, 1) }
            t -> conv(n, 1) -> y: it
            output y, aux, more }
        model m { input x[4, H = 8, W = 8]
            heads(4) -> (y, a, b): it
            y -> relu -> heads(4) -> (z, c, d): it
            output z, a if training, b2 = d if training, c if training, e = b if training }
    """,
    "a shared part in a block that is called in a loop, once more outside": """
        block pair(n, i) { share c: { conv(n, 3) -> batchnorm }
            c -> relu
            if i > 0 { c } else { tanh -> c -> relu } }
        model m { input x[4, H = 8, W = 8]
            for i in 0..3 { "p{i}": pair(4, i) }
            p: pair(4, 0) -> q: pair(4, 1) }
    """,
    "a shared part whose result is overwritten after one call": """
        model m { input x[4, H = 8, W = 8]
            share t: { conv(4, 3) -> relu6 }
            t -> a: it
            relu -> t -> relu -> b: it
            a -> relu -> t -> c: it
            (c, b, a) -> sub -> t -> leaky_relu(0.2) }
    """,
    "dense blocks in dense blocks, of conditions and recursion": """
        block layer(n, deep) { batchnorm -> relu
            if deep { conv(2 * n, 1) -> batchnorm -> relu }
            conv(n, 3) }
        block db(n, d) { repeat d { dense { layer(n, d > 1) } }
            if d > 1 { dense { conv(4, 1) -> db(n, d - 1) -> conv(n, 1) -> dropout(0.2) } } }
        model m { input x[4, H = 8, W = 8]
            db(2, 3) -> conv(4, 1) -> db(2, 1) -> conv(4, 1) }
    """,
    "recomputed blocks whose inputs are overwritten behind them": """
        block u(n) { conv(n, 3) -> batchnorm -> relu -> dropout(0.2) -> conv(n, 3) }
        block v(n) { residual { u(n) } -> relu -> (it, u(n) -> sigmoid) -> mul }
        model m { input x[4, H = 8, W = 8]
            u(4) -> relu -> v(4) -> a: it
            relu -> v(4) -> hardswish -> (it, a) -> add -> relu -> u(4) }
    """,
    "layers from outside in blocks, in shares and before activations": OUTSIDE
    + """
        block o(n, b) { outside(n, bias = b) -> relu -> bend(0.5) -> relu }
        model m { input x[4, H = 8, W = 8]
            share t: outside(4)
            t -> a: it
            o(4, true) -> o(4, false) -> t -> relu -> (it, a) -> blend(0.25) -> relu -> b: it
            (b, a -> bend(2.0, name = "sin")) -> blend(0.5) -> silu -> (it, b) -> sub }
    """,
}
