"""Networks, written by hand, in which the forms of the language meet: valid, and hard to build right.

`NETWORKS` are texts by name. `m` is the model of each.
"""

from __future__ import annotations

HEAD = "block unit(width, act = relu) { conv(width, 3) -> batchnorm -> act }\n"
NETWORKS = {
    # ------------------------------------------------------------ shared parts
    "shared unit in both branches and behind them": """
        model m { input x[4, H = 12, W = 12]
            share t: { conv(4, 3) -> batchnorm -> relu }
            (t, maxpool(3, 1, 1) -> t) -> add -> t -> conv(2, 1) }
    """,
    "shared body with a residual that is the last call's input": """
        model m { input x[4, H = 12, W = 12]
            share t: { residual { conv(4, 3) -> relu -> norm: batchnorm } }
            repeat 3 { t }
            relu -> a: it
            (a -> t, a) -> sub }
    """,
    "shared part of two inputs called with its inputs swapped": """
        block pair(n) { input a[_, _, _], b[_, _, _]
            (a -> conv(n, 1), b -> conv(n, 3)) -> sub -> relu }
        model m { input x[4, H = 8, W = 8]
            share p: pair(4)
            tanh -> y: it
            (x, y) -> p -> u: it
            (y, x) -> p -> v: it
            (u, v) -> concat -> (c, d): split(2)
            (d, c) -> mul }
    """,
    "shared part of two results": """
        block both { conv(6, 3) -> (u, v): split(2)
            u -> relu -> a: it
            v -> b: conv(3, 1)
            output a, b }
        model m { input x[2, H = 8, W = 8]
            share s: both
            x -> s -> (a, b): it
            x -> tanh -> s -> (c, d): it
            (a, d, c, b) -> concat -> conv(2, 1) }
    """,
    "shared batchnorm alone between two convolutions": """
        model m { input x[3, H = 8, W = 8]
            share n: batchnorm
            one: conv(4, 3) -> n -> relu -> two: conv(4, 3) -> n -> relu
            residual { three: conv(4, 3, bias = false) -> n } }
    """,
    "shared convolution whose batchnorms differ": """
        model m { input x[4, H = 8, W = 8]
            share c: conv(4, 3)
            c -> first: batchnorm -> relu -> c -> second: batchnorm -> c }
    """,
    "shared part at three sizes, and out of order": """
        model m { input x[4, H = 16, W = 16]
            maxpool(2) -> half: it
            maxpool(2) -> quarter: it
            share head: { conv(4, 3) -> groupnorm(2) -> silu -> conv(3, 1) }
            (quarter -> head, half -> head, x -> head) -> (c, b, a): it
            output a, c, b }
    """,
    "shared part in a loop over a list": """
        model m { input x[4, H = 16, W = 16]
            conv(4, 3) -> xs: it
            repeat 3 { (xs, xs[-1] -> conv(4, 3, 2) -> relu) -> xs: it }
            share t: { conv(4, 3) -> relu }
            (for i, y in enumerate(xs) { y -> t -> "own.{i}": batchnorm }) -> ys: it
            (for i in range(len(ys) - 1, -1, -1) { ys[i] -> resize(ys[0].size) }) -> concat }
    """,
    "shared part in windows and outside": """
        model m { input x[4, H = 8, W = 8]
            share t: { linear(4) -> layernorm -> gelu }
            windows(4) { t } -> t
            windows(4, 2) { residual { t -> attention(2) } } }
    """,
    "shared attention, self and cross": """
        model m { input x[8, H = 6, W = 6]
            share a: attention(2)
            maxpool(2) -> small: it
            (x, small) -> a -> y: it
            (y, x) -> a -> z: it
            (small, z) -> a -> global_avgpool -> flatten -> linear(3) }
    """,
    "shared part called for an output of training before and after": """
        model m { input x[4, H = 8, W = 8]
            share t: { conv(4, 3) -> batchnorm -> relu }
            t -> a: it
            a -> maxpool(2) -> t -> aux: conv(2, 1)
            a -> t -> conv(3, 1) -> main: t2norm()
            output main, aux if training }
        block t2norm { layernorm }
    """,
    "shared part called for outputs of training alone": """
        model m { input x[4, H = 8, W = 8]
            share t: { conv(4, 3) -> batchnorm }
            conv(4, 1) -> main: relu
            main -> t -> a: relu
            a -> t -> b: tanh
            output b if training, main, a if training }
    """,
    "shared part with dropouts": """
        model m { input x[4, H = 8, W = 8]
            share t: { residual { conv(4, 3) -> dropout_channels(0.3) -> droppath(0.2) } }
            (t, tanh -> t) -> maximum -> dropout(0.1) -> t }
    """,
    "shared part that does nothing but activate": """
        model m { input x[4, H = 8, W = 8]
            share t: { relu -> tanh }
            conv(4, 1) -> t -> conv(4, 1) -> t
            (t, it) -> mul }
    """,
    "shared prelu, scale and parameter": """
        model m { input x[4, H = 8, W = 8]
            share p: prelu(channels = each)
            share s: scale(0.5)
            share b: { (it, parameter([4, 1, 1], init = normal(0.5), stored = maps)) -> add(stretch = true) }
            p -> s -> b -> p -> b -> s -> (it, x) -> sub -> p }
    """,
    "shared upconv and align": """
        model m { input x[4, H = 9, W = 11]
            share up: upconv(4, 2)
            (maxpool(2) -> up, it) -> align(pad) -> add
            (maxpool(2) -> up, it) -> align(crop) -> sub }
    """,
    "shares of shares' results": """
        block two(n) { share c: conv(n, 3)
            c -> relu -> c }
        model m { input x[4, H = 8, W = 8]
            share t: two(4)
            t -> batchnorm -> t
            again: two(4) }
    """,
    "a share in a block that is called with other widths": """
        block siam(n, times) { share c: conv(n, 3)
            conv(n, 1) -> a: it
            repeat times { c -> relu }
            (it, a -> c) -> concat }
        model m { input x[3, H = 8, W = 8]
            siam(4, 2) -> siam(6, 1) -> siam(4, 3) }
    """,
    "a recursion that shares": """
        block level(n, depth) { share c: { conv(n, 3) -> relu }
            conv(n, 1) -> c
            if depth > 0 { (it, maxpool(2) -> inner: level(n + 2, depth - 1) -> conv(n, 1) -> upsample(2))
                -> align -> add }
            c }
        model m { input x[2, H = 16, W = 16]
            level(4, 2) }
    """,
    # ------------------------------------------------------------ lists of maps
    "a list that passes through blocks": """
        block exchange(widths) {
            it -> xs: it
            (for i, w in enumerate(widths) {
                (for j, y in enumerate(xs) { y -> "f.{i}.{j}": conv(w, 1) -> resize(xs[i].size) }) -> add -> relu
            })
        }
        model m { input x[3, H = 16, W = 16]
            (conv(4, 3), conv(6, 3, 2), conv(8, 3, 4)) -> xs: it
            xs -> exchange([4, 6, 8]) -> ys: it
            ys -> exchange([6, 4, 2]) -> (a, b, c): it
            output a, b, c }
    """,
    "a list of one": """
        block each(n) { (for i, y in enumerate(it) { y -> "c{i}": conv(n, 1) }) -> ys: it
            if len(ys) > 1 { concat } }
        model m { input x[3, H = 8, W = 8]
            conv(4, 3) -> xs: it
            xs -> each(2) -> a: it
            (a, a) -> each(2) -> (it, a -> conv(4, 1)) -> add }
    """,
    "a list reversed, cut and grown": """
        model m { input x[3, H = 8, W = 8]
            conv(4, 3) -> xs: it
            for i in 0..4 { (xs[-1] -> "c{i}": conv(4, 3) -> relu, xs) -> xs: it }
            (for i in range(len(xs) - 1, -1, -2) { xs[i] }) -> ys: it
            (ys, xs[1], xs[3], x -> conv(4, 1)) -> concat -> conv(2, 1) }
    """,
    "the same tensor many times in a list": """
        model m { input x[3, H = 8, W = 8]
            conv(4, 3) -> batchnorm -> relu -> y: it
            (y, y, y) -> xs: it
            (xs, xs[1] -> tanh, xs) -> concat -> conv(4, 1) -> (it, xs[2]) -> add -> relu -> (it, y) -> mul }
    """,
    "a dense list": """
        block layer(n) { concat -> batchnorm -> relu -> conv(n, 3) }
        model m { input x[4, H = 8, W = 8]
            (it, relu) -> xs: it
            for i in 0..3 { (xs, xs -> concat -> "l{i}": conv(2, 3) -> relu) -> xs: it }
            xs -> concat -> batchnorm -> relu -> conv(2, 1) }
    """,
    "levels that are read twice, in a loop of blocks": HEAD
    + """
        block td(n) { it -> xs: it
            xs[-1] -> out: it
            for i in range(len(xs) - 2, -1, -1) {
                ((xs[i], out[0] -> resize(xs[i].size)) -> add -> "u{i}": unit(n), out) -> out: it }
            out }
        model m { input x[3, H = 16, W = 16]
            unit(4) -> xs: it
            for i in 0..2 { (xs, xs[-1] -> maxpool(2) -> "d{i}": unit(4)) -> xs: it }
            xs -> td(4) -> ys: it
            ys -> td(4) -> (a, b, c): it
            output c, a = b, b = a if training }
    """,
    "an output that is an input": """
        model m { input x[3, H = 8, W = 8], y[3, H, W]
            (x, y) -> sub -> relu -> r: conv(3, 1)
            r -> relu -> s: it
            output s, r, again = x }
    """,
    # ------------------------------------------------------------ windows and grids
    "windows in windows": """
        model m { input x[4, H = 16, W = 16]
            windows(8) { windows(4) { conv(4, 3) -> batchnorm -> relu } -> grid(2) { attention(2) } -> conv(4, 3) } }
    """,
    "shifted windows with a bias, padded": """
        model m { input x[8, H = 10, W = 7]
            windows(4, shift = 2, pad) { qkv: linear(24) -> (q, k, v): split(3)
                (q, k, v, table: parameter([2, 49], init = normal(0.5), stored = rows) -> index: relative(4))
                    -> attend(2)
                linear(8) -> dropout(0.2) -> droppath(0.1) }
            residual { layernorm -> linear(8) -> droppath(0.3) } }
    """,
    "rotary positions in shifted windows": """
        model m { input x[8, H = 8, W = 8]
            windows(4, shift = 1) { qkv: linear(24) -> (q, k, v): split(3)
                (q -> rotary(2), k -> rotary(2, pairs = halves), v) -> attend(2) -> linear(8) } }
    """,
    "differences make a bias": """
        model m { input x[8, H = 8, W = 8]
            windows(4) { it -> w: it
                qkv: linear(24) -> (q, k, v): split(3)
                w -> differences -> linear(6) -> relu -> linear(2) -> relative(4) -> bias: it
                (q, k, v, bias) -> attend(2, scale = cosine) } }
    """,
    "windows of two tensors, joined as two": """
        model m { input x[4, H = 8, W = 8]
            conv(4, 3) -> y: it
            (x, y) -> windows(4) { (a, b): align
                (b -> linear(4), a) -> add }
            grid(4) { batchnorm -> relu -> conv(4, 3) } }
    """,
    "an output of training from windows": """
        model m { input x[4, H = 8, W = 8]
            windows(4) { linear(6) -> relu } -> y: it
            y -> grid(4) { linear(2) -> batchnorm } -> aux: it
            y -> main: conv(3, 1)
            output aux if training, main }
    """,
    "a window as large as the map, shifted": """
        model m { input x[4, 6, 6]
            windows(6, shift = 3) { attention(2) }
            windows(6x3, shift = 1) { residual { layernorm -> attention(1, dropout = 0.2) } } }
    """,
    "windows in a share in windows": """
        model m { input x[4, H = 8, W = 8]
            share t: { windows(2) { linear(4) -> relu } }
            t -> windows(4) { t } -> t }
    """,
    "a signal in windows, a volume in grids": """
        model m { input s[4, T = 12], v[4, 4, 4, 4]
            s -> windows(5, shift = 2, pad) { residual { attention(2) } } -> conv(3, 3) 
                -> global_avgpool -> flatten -> a: it
            v -> grid(2) { conv(4, 3) -> groupnorm(2) } -> global_maxpool -> flatten -> linear(3) -> b: it
            (a, b) -> mul }
    """,
    # ------------------------------------------------------------ tokens
    "a class token, in and out, over a free map": """
        model m { input x[3, H = 16, W = 16]
            conv(8, 4, 4, pad = valid) -> map: it
            tokens -> (cls: parameter([8, 1], init = normal(0.5), stored = tokens), it) -> concat(axis = 1)
            repeat 2 { residual { layernorm -> attention(2) }
                residual { layernorm -> linear(16) -> gelu -> linear(8) } }
            it -> all: it
            all -> slice(0, 1, axis = 1) -> flatten -> head: linear(3)
            all -> slice(1, axis = 1) -> maps(map.size) -> dense: conv(2, 1)
            output head, dense if training }
    """,
    "queries look at a pyramid": """
        model m { input x[3, H = 16, W = 16]
            conv(8, 3, 2) -> a: relu
            conv(8, 3, 2) -> b: relu
            (a -> tokens, b -> tokens) -> concat(axis = 1) -> memory: it
            q: parameter([8, 5], init = normal(0.5), stored = rows)
            share look: { layernorm }
            for i in 0..2 { (it, (it -> look, memory) -> "cross{i}": attention(2)) -> add }
            look -> flatten -> linear(3) }
    """,
    "sines at two places": """
        model m { input x[3, H = 8, W = 8]
            conv(8, 3) -> y: it
            (y, y -> sine_positions(8)) -> add -> tokens -> (it, it -> sine_positions(8, normalized = false)) -> add
            residual { attention(2) } -> maps(y.size) -> (it, x -> sine_positions(12) -> conv(8, 1)) -> mul }
    """,
    "products that are written out": """
        block heads(n) { let width = it.channels
            qkv: linear(3 * width) -> (q, k, v): split(3)
            (q -> reshape([n, width / n, 16]) -> permute([0, 2, 1]), k -> normalize -> reshape([n, width / n, 16]))
                -> matmul
            mix: linear(n) -> softmax(axis = 2) -> permute([0, 2, 1]) -> s: it
            (v -> reshape([n, width / n, 16]), s) -> matmul -> reshape([width, 16]) }
        model m { input x[3, 8, 8]
            conv(8, 2, 2, pad = valid) -> tokens -> residual { heads(2) } 
            residual { rmsnorm -> heads(4) } -> flatten -> linear(2) }
    """,
    "causal attention of a signal behind causal convolutions": """
        model m { input s[2, T = 20]
            conv(8, 3, pad = causal, dilation = 2) -> relu -> residual { layernorm -> attention(2, causal = true) }
            stdconv(8, 3, pad = causal, gamma = 1.5) -> it -> conv(4, 2, 2, pad = causal) }
    """,
    "gating and squeezing": """
        model m { input x[4, H = 8, W = 8]
            share gate: { global_avgpool -> conv(2, 1) -> relu -> conv(4, 1) -> sigmoid }
            (it, gate) -> mul -> conv(4, 3) -> (it, gate) -> mul
            (it, (channel_mean, channel_max) -> concat -> conv(1, 5) -> sigmoid) -> mul }
    """,
    # ------------------------------------------------------------ partial application
    "a block with an operation with arguments": """
        block unit(width, act = relu, norm = batchnorm) { conv(width, 3) -> norm -> act }
        block stage(kind, widths) { for w in widths { kind(w) } }
        model m { input x[3, H = 8, W = 8]
            stage(unit(act = leaky_relu(0.2), norm = groupnorm(2)), [4, 6])
            stage(unit(norm = batchnorm(eps = 0.01)), [4])
            stage(conv(kernel = 1x3, bias = false), [4, 4])
            stage(unit, [2]) }
    """,
    "partials of partials": """
        block wrap(width, kind, act = relu) { kind(width) -> act }
        block twice(width, kind) { kind(width) -> kind(width) }
        model m { input x[3, H = 8, W = 8]
            twice(4, wrap(kind = conv(kernel = 3)))
            twice(4, wrap(kind = wrap(kind = conv(kernel = 1, bias = false), act = tanh), act = prelu(0.3)))
            twice(4, twice(kind = wrap(kind = stdconv(kernel = 3, gamma = 1.7)))) }
    """,
    "a partial that is shared": """
        block wrap(width, kind, act = relu) { kind(width, 3) -> act }
        block net(kind) { share t: kind(4)
            conv(4, 1) -> t -> t }
        model m { input x[3, H = 8, W = 8]
            net(wrap(kind = conv, act = hardswish))
            net(wrap(kind = conv(groups = 2), act = elu(0.5))) }
    """,
    "an activation by condition": """
        block unit(width, act, last) { conv(width, 3) -> batchnorm
            if last { identity } else { act } }
        model m { input x[3, H = 8, W = 8]
            for i in 0..3 { unit(4, leaky_relu(0.1 * i) if i > 0 else relu, i == 2) } }
    """,
    # ------------------------------------------------------------ conditions, labels and outputs
    "a loop whose rounds differ by conditions on labels": """
        model m { input x[4, H = 8, W = 8]
            it -> keep: it
            for i in 0..4 {
                if i % 2 == 0 { "a{i}": conv(4, 3) -> relu } else { (it, keep) -> add -> "b{i}": batchnorm }
                if i == 1 { it -> keep: it }
            } }
    """,
    "outputs of a block and of training": """
        block two(n) { conv(n, 3) -> relu -> trunk: it
            side: conv(2, 1)
            trunk -> main: conv(n, 3)
            output main, side }
        model m { input x[3, H = 8, W = 8]
            two(4) -> (a, s): it
            a -> relu -> two(4) -> (b, t): it
            output b, s if training, late = t if training }
    """,
    "an output of a block that one call needs in training alone": """
        block two(n) { conv(n, 3) -> batchnorm -> relu -> trunk: it
            side: { conv(2, 1) -> batchnorm }
            trunk -> main: conv(n, 3)
            output main, side }
        model m { input x[3, H = 8, W = 8]
            two(4) -> (a, s): it
            (a, s) -> concat -> two(4) -> (b, t): it
            output b, late = t if training }
    """,
    "an output of a block that is never needed when others are": """
        block pair(n) { conv(n, 3) -> relu -> a: it
            share c: { conv(n, 3) -> batchnorm }
            a -> c -> b: it
            b -> relu -> c -> late: it
            output a, b, late }
        model m { input x[3, H = 8, W = 8]
            pair(4) -> (a, b, c): it
            (a, b) -> add -> pair(4) -> (d, e, f): it
            (d, e) -> sub -> main: conv(2, 1)
            output main, c if training, last = f if training }
    """,
    "shared statistics in another order than the operands": """
        model m { input a[2, H = 8, W = 8], b[2, H, W], c[2, H, W]
            share t: { conv(4, 3) -> batchnorm }
            b -> t -> fb: it
            a -> t -> fa: it
            c -> t -> relu -> fc: it
            (fa, fc, fb) -> add -> conv(2, 1) }
    """,
    "in place or not: relu of what is read again": """
        model m { input x[4, H = 8, W = 8]
            conv(4, 3) -> a: it
            relu -> b: it
            (a -> sigmoid, b -> conv(4, 1), a) -> concat -> conv(4, 1) -> c: it
            residual { relu -> conv(4, 3) }
            (it, c) -> add -> relu -> (it, b -> slice(0, 2) -> relu -> conv(4, 1)) -> add }
    """,
    "parts of a split that are added to": """
        model m { input x[8, H = 8, W = 8]
            conv(8, 1) -> (p, q, r, s): split(4)
            p -> relu -> conv(2, 3) -> a: it
            (a, q) -> add -> relu -> b: it
            (b, r) -> add -> dropout(0.2) -> c: it
            (s, a, b, c) -> concat -> (it, p) -> concat -> channel_shuffle(2) }
    """,
    "augmented views of one map": """
        model m { input x[4, H = 8, W = 8]
            share t: { conv(4, 3) -> relu }
            (t, permute([0, 2, 1]) -> t -> permute([0, 2, 1])) -> mean -> pad(1, mode = reflect) -> blur(3, 2) }
    """,
    "fixed kernels that are shared": """
        model m { input x[1, H = 8, W = 8]
            share sobel: conv(2, weight = [[1, 0, -1], [2, 0, -2], [1, 0, -1]], bias = false, trainable = false)
            (sobel, blur(3) -> pad(1) -> sobel) -> add
            conv(1, 1) -> sobel -> normalize }
    """,
    "fixed kernels that are standardised": """
        model m { input x[2, H = 8, W = 8]
            stdconv(4, weight = [[1, 2, 1], [0, 1, 0], [0, 1, 3]], gamma = 1.5, trainable = false) -> relu
            stdconv(4, 3, gamma = 1.7, trainable = false)
            stdconv(4, weight = [[1, 2, 0]], gamma = 1, bias = false) -> batchnorm }
    """,
    "folding around shares and skips": """
        model m { input x[4, H = 8, W = 8]
            conv(4, 3) -> y: it
            batchnorm -> relu -> z: it
            (y, z) -> add -> one: conv(4, 3, bias = false) -> batchnorm(affine = false)
            upconv(4, 2) -> batchnorm -> maxpool(2)
            batchnorm -> two: conv(4, 1) -> dropout(0.1) -> batchnorm -> stdconv(4, 3) -> batchnorm }
    """,
    "pooling with remainders around an align": """
        model m { input x[4, H = 11, W = 13]
            (maxpool(3, 2, ceil = true), avgpool(2, ceil = true, count_pad = false), conv(4, 3, 2))
                -> align(resize) -> mean
            pad_to_multiple(4) -> windows(4) { conv(4, 3) } -> crop(0, after = 1) }
    """,
    "a body that is empty, and a loop that never runs": """
        block maybe(n, on) { if on { conv(n, 3) } else { } }
        model m { input x[4, H = 8, W = 8]
            maybe(4, true) -> maybe(4, false) -> maybe(4, true)
            repeat 0 { conv(4, 3) }
            { } -> residual via { } { relu -> conv(4, 1) }
            (it, { }) -> sub -> conv(2, 1) }
    """,
    "names of PyTorch and of Python": """
        block Tensor(forward) { self: conv(forward, 3) -> train: batchnorm -> class: relu -> "in": conv(forward, 1) }
        block relu2(F) { torch: linear(F) -> nn: gelu }
        model m { input x[3, H = 8, W = 8]
            forward: Tensor(4) -> super: relu2(4) -> "def.0": Tensor(4) -> "def.if": scale
            (it, forward) -> add -> Module: it
            share eval: conv(4, 1)
            eval -> eval }
    """,
    "keys that cross": """
        block u(n) { "a.0": conv(n, 1) -> "b.0": conv(n, 1) -> "a.1": conv(n, 1) -> relu -> "b.x.1": conv(n, 1) }
        model m { input x[2, H = 8, W = 8]
            "0.u": u(2) -> "1": conv(2, 1) -> "0.v": u(3) -> "2.0.0": conv(2, 1)
            share s: "heads.1": conv(2, 1)
            "heads.0": conv(2, 1) -> s -> relu -> s }
    """,
    "models of many inputs, one of which trains alone": """
        model m { input a[2, H = 8, W = 8], b[2, H, W], c[2, h = 4, w = 4]
            share t: { conv(4, 3) -> batchnorm }
            a -> t -> fa: it
            b -> t -> fb: it
            c -> t -> global_avgpool -> fc: it
            (fa, fb) -> sub -> (it, fc) -> mul -> out: conv(1, 1)
            output out, distance = fc if training }
    """,
    "three dimensions and back": """
        model m { input v[2, 4, 8, 8]
            conv(4, 1x3x3) -> norm: batchnorm -> relu -> maxpool(4x1x1) -> squeeze(1) -> conv(4, 3) -> blur(3)
            windows(3) { attention(2) } -> tokens -> conv(4, 3) -> maps([6, 6]) }
    """,
    "normalisations with statistics in a share, in a loop": """
        model m { input x[4, H = 8, W = 8]
            share n: { instancenorm(track = true, affine = true) -> relu }
            share b: batchnorm(momentum = none)
            for i in 0..2 { "c{i}": conv(4, 3) -> n -> b } }
    """,
    "an output of training that shares and drops": """
        model m { input x[4, H = 8, W = 8]
            share t: { conv(4, 3) -> batchnorm -> relu -> droppath(0.2) }
            repeat 2 { t }
            it -> y: it
            dropout(0.3) -> t -> aux: global_avgpool
            y -> relu -> t -> main: conv(2, 1)
            output aux if training, main, y2 = y if training }
    """,
    "merges of three with repeats": """
        model m { input x[4, H = 8, W = 8]
            conv(4, 3) -> a: it
            (a, a, a) -> add -> (it, it) -> mul -> b: it
            (b, a, b) -> maximum -> (it, a, b, it) -> mean -> (it, b, a) -> sub -> relu -> (it, it, it) -> concat }
    """,
    "a UNet of tokens": """
        block down(n, heads) { conv(n, 2, 2, pad = valid) -> residual { layernorm -> attention(heads) } }
        block level(n, depth) { residual { layernorm -> linear(2 * n) -> gelu -> linear(n) -> droppath(0.1) }
            if depth > 0 { (it, down(2 * n, 2) -> inner: level(2 * n, depth - 1) -> upconv(n, 2))
                -> concat -> linear(n) } }
        model m { input x[4, H = 8, W = 8]
            level(4, 2) -> conv(1, 1) }
    """,
    "deep sharing of a pyramid's towers": HEAD
    + """
        block tower(n) { repeat 2 { unit(n, silu) } }
        model m { input x[3, H = 16, W = 16]
            conv(4, 3) -> xs: it
            repeat 2 { (xs, xs[-1] -> conv(4, 3, 2)) -> xs: it }
            share classes: tower(4)
            share boxes: tower(4)
            share logits: conv(2, 3)
            (for y in xs { y -> classes -> logits }) -> cs: it
            (for i, y in enumerate(xs) { y -> boxes -> "scale.{i}": scale -> exp }) -> bs: it
            (cs, bs) -> (c0, c1, c2, b0, b1, b2): it
            output c0, c1, c2, b0, b1, b2 if training }
    """,
    "recomputed blocks that share, with statistics": HEAD
    + """
        block pair(n) { share u: unit(n)
            u -> a: it
            (a -> u, it) -> concat -> conv(n, 1) }
        model m { input x[4, H = 8, W = 8]
            pair(4) -> dense { pair(4) -> dropout(0.2) } -> conv(4, 1) -> pair(4) }
    """,
    "a block that takes a tensor for an output of training": """
        block two { input a[_, _, _], b[_, H, W]
            b -> conv(4, 3) -> main: relu
            (a -> resize([H, W]), main) -> add -> conv(4, 3) -> side: batchnorm
            output main, side }
        model m { input x[3, H = 16, W = 16]
            share s: { conv(4, 3) -> batchnorm }
            maxpool(2) -> s -> early: { conv(4, 3) -> relu } -> p: it
            (p, x) -> (m, q): two
            x -> s -> r: it
            output m, r, aux = q if training }
    """,
}
