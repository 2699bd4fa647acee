"""Codes of sizes (E03), dead ends (E04), limits (E05), builds (E06) and warnings (W06)."""

from archdsl.diagnostics.codes.base import Code

NETWORKS = (
    Code(
        "E0301",
        "tensors whose sizes disagree",
        "An operation that brings tensors together, such as `add` or `concat`, gets tensors of sizes that do not "
        "fit each other. Change the stride, padding or channels of one branch, or put `align` before the "
        "operation.",
        "model net {\n    input x[16, H, W]\n    residual { conv(32, 3) }\n}\n",
    ),
    Code(
        "E0302",
        "an operation that cannot take this tensor",
        "The operation, with these arguments, has no meaning for the tensor that flows in: the number of axes, "
        "the channels or a size does not fit, an argument is missing that the size would need, or two arguments "
        "contradict each other.",
        "model net {\n    input x[3, T]\n    conv(8, 3x3)\n}\n",
    ),
    Code(
        "E0303",
        "no valid input size is left",
        "This line demands something of a free size that the lines before it rule out, so no input fits the network. "
        "Change one of the lines that the message shows.",
        "model net {\n    input x[3, H, W]\n    conv(8, 3, pad = valid) -> relu\n"
        "    expect [8, 1, 1]\n    instancenorm\n}\n",
    ),
    Code(
        "E0304",
        "structure that depends on a free size",
        "A condition or a count depends on a free size of the input, and the layers of a network cannot. Pin the "
        "size in `input`, or say what you expect with `expect`.",
        "model net {\n    input x[3, H, W]\n    if H > 32 { relu }\n    conv(8, 3)\n}\n",
    ),
    Code(
        "E0305",
        "a size that cannot be computed",
        "A size is an integer, and archdsl follows sums, multiples and quotients of free sizes by integers. This "
        "computation leaves those, or becomes too intricate. Pin the size in `input`, or compute it with "
        "integers.",
        "model net {\n    input x[3, H, W]\n    resize([H * 0.5, W])\n}\n",
    ),
    Code(
        "E0306",
        "a division that never comes out even",
        "`/` of a size is exact, and this number never divides the size. Use `//` to round down.",
        "model net {\n    input x[3, H, W]\n    resize([(2 * H + 1) / 2, W])\n}\n",
    ),
    Code(
        "E0307",
        "a tensor unlike the block's input",
        "A block declares the size of what flows in, and another size flows in. Change the call, or the block's "
        "`input`.",
        "block unit { input x[16, H, W]\n    relu }\nmodel net {\n    input x[3, H, W]\n    unit\n}\n",
    ),
    Code(
        "E0308",
        "an `expect` that does not hold",
        "`expect` says what size the tensor has at this point, and it has another. Change the layers before it, or the "
        "`expect`.",
        "model net {\n    input x[3, 32, 32]\n    conv(8, 3)\n    expect [16, 32, 32]\n}\n",
    ),
    Code(
        "E0309",
        "sizes tied to each other",
        "The network is valid only if two free sizes depend on each other, and each free size has a set of valid "
        "values of its own. Use the same name for both sizes, or pin them.",
        "model net {\n    input x[3, H, W]\n    (it, permute([0, 2, 1])) -> add\n}\n",
    ),
    Code(
        "E0320",
        "an input size that is not valid",
        "The size that is shown in `input`, or given by `--size`, is not one that the network takes. The message "
        "names the nearest valid ones.",
        "model net {\n    input x[3, H = 4, W = 4]\n    conv(8, 7, pad = valid)\n}\n",
    ),
    Code(
        "E0321",
        "`--size` does not fit the inputs",
        "`--size` is given once for each input, in their order, channels first and without the batch.",
        arises="`archdsl check lenet:lenet --size 3x32`",
    ),
    Code(
        "E0401",
        "a tensor that nothing uses",
        "What this line computes leads to no output. Remove it, use it further down, or make it an output.",
        "model net {\n    input a[3, H, W], b[3, H, W]\n    a -> conv(8, 3)\n}\n",
    ),
    Code(
        "E0501",
        "too many nodes",
        "The network has more nodes than the limit `nodes` allows. Raise the limit if that is meant.",
        "model net {\n    input x[3, H, W]\n    repeat 600 { repeat 600 { relu } }\n}\n",
    ),
    Code(
        "E0502",
        "too much to elaborate",
        "Loops run more often than the limit `rounds` allows, or elaboration takes more than `steps`. Raise the "
        "limit if that is meant.",
        "model net {\n    input x[3, H, W]\n    repeat 100000000 { relu }\n}\n",
    ),
    Code(
        "E0503",
        "too many imports",
        "The spec imports more files than the limit `imports` allows, or files that import each other in a longer "
        "row than `import_depth`. Raise the limit if that is meant.",
        arises="`--limit imports=1`, and a spec that imports two files.",
    ),
    Code(
        "E0504",
        "recursion too deep",
        "A block or function calls itself without end, or calls nest deeper than the limits `depth` and "
        "`function_depth`. Let an argument shrink at each call, and stop with `if`.",
        "block level(n) { relu -> level(n) }\nmodel net {\n    input x[3, H, W]\n    level(3)\n}\n",
    ),
    Code(
        "E0505",
        "a value too large",
        "A list, string, path or number is larger than its limit. Raise the limit if that is meant.",
        "let v = [1] * 10000000\nmodel net {\n    input x[3, H, W]\n    relu\n}\n",
    ),
    Code(
        "E0506",
        "valid sizes take too long",
        "The valid input sizes could not be solved within the limit `solver_seconds`. Pin a size in `input`, or "
        "raise the limit.",
        arises="a spec whose strides and `expect`s demand multiples of many large primes at once.",
    ),
    Code(
        "E0601",
        "nothing to recompute",
        "`--recompute dense` needs dense connections whose bodies are blocks, and `--recompute blocks` a block "
        "whose second computation lowers the memory of a training step. This network has none: build it without "
        "`--recompute`.",
        arises="`archdsl build lenet:lenet --recompute dense`",
    ),
    Code(
        "E0602",
        "a build that cannot be proved",
        "archdsl could not prove that the module it wrote computes the network, so it gives none. This is a fault of "
        "archdsl: please report the spec.",
        arises="a fault of archdsl.",
    ),
    Code(
        "W0601",
        "a size with next to no choice",
        "A line leaves a free size only one small value. Bring the sizes together with `align`, or give both "
        "branches the same stride and padding. If it is meant, write the size in `input`.",
        "model net {\n    input x[3, H, 1]\n    (conv(4, 3, stride = 2), conv(4, 3)) -> add\n}\n",
    ),
    Code(
        "W0602",
        "an unused name",
        "Nothing uses this parameter or value. Remove it, or begin its name with `_`.",
        "model net(width = 8) {\n    input x[3, H, W]\n    conv(8, 3)\n}\n",
    ),
    Code(
        "W0603",
        "`batchnorm` over one position",
        "In training, `batchnorm` takes the variance of the batch and all positions. There is one position here, "
        "so a batch of 1 fails. Train with larger batches, or use `groupnorm` or `layernorm`.",
        "model net {\n    input x[3, H, W]\n    global_avgpool -> batchnorm\n}\n",
    ),
    Code(
        "W0604",
        "an unknown name in a block that is not called",
        "No model of this file calls the block, so it is not checked, and it uses a name that does not exist.",
        "block never { convv(4, 3) }\nmodel net {\n    input x[3, H, W]\n    relu\n}\n",
    ),
    Code(
        "W0605",
        "arguments in PyTorch's order",
        "The first number of the call equals the channels that come in, which PyTorch takes first and archdsl "
        "infers. Leave it out; if it is meant, name the arguments.",
        "model net {\n    input x[16, 32, 32]\n    conv(16, 33, 3)\n}\n",
    ),
    Code(
        "W0606",
        "a label given twice",
        "The label names another tensor from here on, so the first one cannot be referred to any more. Choose "
        "another label.",
        "model net {\n    input x[3, H, W]\n    y: { }\n    conv(3, 3)\n    y: { }\n    (y, it) -> add\n}\n",
    ),
    Code(
        "W0607",
        "a tensor in a `let`",
        "A `let` can ask for the sizes of a tensor, but cannot bring the tensor back. Use a label.",
        "model net {\n    input x[3, H, W]\n    let old = it\n    conv(4, 3)\n}\n",
    ),
)
