"""Small networks that together use every construct of built files."""

NETWORKS = {
    "residual": """
block basic(width, stride = 1) {
    residual via downsample: { if stride != 1 or it.channels != width { conv(width, 1, stride) -> batchnorm } } {
        conv1: conv(width, 3, stride, bias = false) -> bn1: batchnorm -> relu
        conv2: conv(width, 3, bias = false) -> bn2: batchnorm
    }
    relu
}
block stage(width, count, stride) {
    basic(width, stride)
    repeat count - 1 { basic(width) }
}
model net {
    input image[3, H = 16, W = 16]
    conv1: conv(4, 3, stride = 2, init = he_fan_out) -> bn1: batchnorm -> relu
    layer1: stage(4, 2, 1)
    layer2: stage(8, 3, 2)
    global_avgpool -> flatten
    fc: linear(5)
}
""",
    "dense": """
block dense_layer(growth) { norm: batchnorm -> relu -> conv: conv(growth, 3, bias = false) -> dropout(0.2) }
block dense_block(count, growth) { for i in 1..=count { dense { "layer{i}": dense_layer(growth) } } }
model net {
    input image[3, H = 12, W = 12]
    conv0: conv(4, 3) -> pool: maxpool(2)
    block1: dense_block(3, 2) -> block2: dense_block(2, 3)
    norm: batchnorm -> relu -> head: conv(2, 1)
}
""",
    "u": """
block double(width) { conv(width, 3, pad = valid) -> relu -> conv(width, 3, pad = valid) -> relu }
block level(width, depth) {
    encode: double(width)
    if depth > 0 {
        (it, maxpool(2) -> inner: level(2 * width, depth - 1) -> up: upconv(width, 2)) -> align(crop) -> concat
        decode: double(width)
    }
}
model net {
    input image[1, H = 60, W = 60]
    level(2, 2)
    head: conv(2, 1)
    expect [2, H - 40, W - 40]
}
""",
    "levels": """
block double(width) { conv(width, 3) -> batchnorm -> relu -> conv(width, 3) -> batchnorm -> relu }
block level(width, depth) {
    encode: double(width)
    if depth > 0 {
        (it, maxpool(2) -> inner: level(2 * width, depth - 1) -> up: upconv(width, 2)) -> concat
        decode: double(width)
    }
}
model net {
    input image[3, H = 16, W = 16]
    level(4, 2)
    head: conv(2, 1)
}
""",
    "outputs": """
block head(width, rate) {
    conv(width, 1) -> batchnorm -> relu
    global_avgpool -> flatten -> dropout(rate) -> fc: linear(3)
}
model net {
    input image[3, H = 16, W = 16], hint[1, 4, 4]
    image -> stem: conv(4, 3, 2) -> silu
    trunk: conv(4, 3) -> mid: relu
    aux: head(4, 0.5)
    (mid, hint -> conv(4, 1) -> adaptive_avgpool(1) -> sigmoid) -> mul
    logits: head(6, 0.2)
    output logits, aux if training, mid
}
""",
    "parts": """
block unit(kind, act = relu) {
    (a, b): split(2)
    if kind == "gate" { (a, b -> sigmoid) -> mul -> conv(4, 1) } else { (b, a) -> sub -> conv(4, 3) }
    act
    scale(0.5)
}
model net {
    input image[4, H = 8, W = 8]
    unit("gate") -> unit("less", silu) -> unit("gate", leaky_relu)
    (it, conv(4, 3), { pad(1) -> crop(1) }) -> mean -> flat: conv(8, 1)
    channel_shuffle(2) -> slice(2, 6) -> droppath(0.1)
    (it, image) -> maximum
    down: conv(4, 3, 2, same_upper) -> resize(image.size)
}
""",
    "fixed": """
model net {
    input image[1, 9, 9]
    edges: conv(2, weight = [[1, 0, -1], [2, 0, -2], [1, 0, -1]], trainable = false, bias = false)
    grow: upconv(4, 2, groups = 2) -> batchnorm(eps = 1e-3) -> elu
    (conv(2, 3, init = normal(0.02)), conv(3, 3)) -> concat -> batchnorm -> prelu(channels = each)
    layernorm -> groupnorm(5, init = zeros) -> instancenorm(track = true)
    adaptive_maxpool(2) -> reshape([4, 5]) -> permute([1, 0]) -> flatten
    "mix.0": linear(4, init = xavier) -> softmax
}
""",
    "names": """
block odd(n, act = relu) {
    for i in 0..n { "train.conv{i}": conv(3 + i, 1) -> act }
    body: { "c{n}": conv(3, 1) -> "type": scale }
}
model net {
    input image[3, T = 10]
    x: odd(1) -> y: odd(2, sigmoid) -> lambda: odd(3)
    repeat 3 { residual { tanh } }
    repeat 2 { dense { maxpool(3, 1, 1) } }
}
""",
    "parameters": """
block layer {
    input x[_, _], queries[_, _], memory[_, _]
    (x, queries) -> add -> inner: it
    (x, (inner, memory) -> attn: attention(2)) -> add
}
model net {
    input image[3, 8, 8]
    conv(8, 3) -> tokens -> x: it
    position: parameter(x.shape)
    queries: parameter([8, 5], stored = rows)
    (x, position) -> add -> memory: it
    decoder: {
        (queries, queries) -> sub
        repeat 2 { (it, queries, memory) -> layer }
    }
    flatten -> linear(3)
}
""",
}
"""Each has one model, `net`."""
