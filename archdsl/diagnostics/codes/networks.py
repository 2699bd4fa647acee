"""Codes of sizes (E03), dead ends (E04), limits (E05), builds (E06) and warnings (W06)."""

from archdsl.diagnostics.codes.base import Code

NETWORKS = (
    Code(
        "E0301",
        "incompatible sizes",
        "An operation that merges tensors, such as `add` or `concat`, receives tensors of incompatible sizes. Change "
        "the stride, padding or channels of one branch, or put `align` before the operation.",
        "model net {\n    input x[16, H, W]\n    residual { conv(32, 3) }\n}\n",
    ),
    Code(
        "E0302",
        "an operation that cannot take this tensor",
        "The operation, with these arguments, is not defined for the incoming tensor: the rank, the channels or a size "
        "does not fit, an argument that this size requires is missing, or two arguments contradict each other.",
        "model net {\n    input x[3, T]\n    conv(8, 3x3)\n}\n",
    ),
    Code(
        "E0303",
        "no valid input size",
        "This line requires something of a free size that earlier lines rule out, so no input size is valid. "
        "Change one of the lines that the message shows.",
        "model net {\n    input x[3, H, W]\n    conv(8, 3, pad = valid) -> relu\n"
        "    expect [8, 1, 1]\n    instancenorm\n}\n",
    ),
    Code(
        "E0304",
        "structure that depends on a free size",
        "A condition or a count depends on a free input size, but a network has the same layers for all sizes. Fix "
        "the size in `input`, or state what you expect with `expect`.",
        "model net {\n    input x[3, H, W]\n    if H > 32 { relu }\n    conv(8, 3)\n}\n",
    ),
    Code(
        "E0305",
        "a size that cannot be computed",
        "archdsl can add free sizes, and multiply and divide them by integers. This computation does something "
        "else, or is too complex. Fix the size in `input`, or compute it with integers.",
        "model net {\n    input x[3, H, W]\n    resize([H * 0.5, W])\n}\n",
    ),
    Code(
        "E0306",
        "a division with a remainder",
        "`/` of a size is exact, and this divisor never divides the size evenly. Use `//` to round down.",
        "model net {\n    input x[3, H, W]\n    resize([(2 * H + 1) / 2, W])\n}\n",
    ),
    Code(
        "E0307",
        "a wrong size for a block's input",
        "The incoming tensor does not have the size that the block's `input` declares. Change the call, or the "
        "`input`.",
        "block unit { input x[16, H, W]\n    relu }\nmodel net {\n    input x[3, H, W]\n    unit\n}\n",
    ),
    Code(
        "E0308",
        "a failed `expect`",
        "The tensor does not have the size that `expect` states. Change the layers before it, or the `expect`.",
        "model net {\n    input x[3, 32, 32]\n    conv(8, 3)\n    expect [16, 32, 32]\n}\n",
    ),
    Code(
        "E0309",
        "dependent sizes",
        "The network is valid only if two free sizes depend on each other, which archdsl does not support. Use the "
        "same name for both sizes, or fix them.",
        "model net {\n    input x[3, H, W]\n    (it, permute([0, 2, 1])) -> add\n}\n",
    ),
    Code(
        "E0310",
        "calls of something shared that differ",
        "All calls of what is shared use the same weights, so they must be the same layers: the channels that flow in, "
        "and whatever else the sizes of weights depend on, must agree. Bring the tensors to one size first, or place a "
        "second one.",
        "model net {\n    input x[4, H, W]\n    share unit: conv(8, 3)\n    unit -> unit\n}\n",
    ),
    Code(
        "E0311",
        "a cost other than expected",
        "The model's parameters, multiply-accumulates or receptive field are not what its `expect` states. If a count "
        "differs from the paper's, a layer usually differs: compare `archdsl show` with its table. If the change is "
        "intended, change the `expect`.",
        "model net {\n    input x[3, H = 32, W = 32]\n    conv(8, 3)\n    expect parameters == 216\n}\n",
    ),
    Code(
        "E0320",
        "an invalid input size",
        "The network does not accept the example size in `input`, or the size given by `--size`. The message lists "
        "the nearest valid sizes.",
        "model net {\n    input x[3, H = 4, W = 4]\n    conv(8, 7, pad = valid)\n}\n",
    ),
    Code(
        "E0321",
        "`--size` does not fit the inputs",
        "Give `--size` once for each input, in order, channels first and without the batch.",
        arises="`archdsl check lenet:lenet --size 3x32`",
    ),
    Code(
        "E0401",
        "an unused tensor",
        "No output depends on the result of this line. Remove it, use it below, or make it an output.",
        "model net {\n    input a[3, H, W], b[3, H, W]\n    a -> conv(8, 3)\n}\n",
    ),
    Code(
        "E0501",
        "too many nodes",
        "The network has more nodes than the limit `nodes` allows. Raise the limit if this is intended.",
        "model net {\n    input x[3, H, W]\n    repeat 600 { repeat 600 { relu } }\n}\n",
    ),
    Code(
        "E0502",
        "too much to elaborate",
        "Loops have more iterations than the limit `rounds` allows, or elaboration takes more than `steps`. Raise the "
        "limit if this is intended.",
        "model net {\n    input x[3, H, W]\n    repeat 100000000 { relu }\n}\n",
    ),
    Code(
        "E0503",
        "too many imports",
        "The spec imports more files than the limit `imports` allows, or has a longer chain of imports than "
        "`import_depth`. Raise the limit if this is intended.",
        arises="a spec that imports two files, checked with `--limit imports=1`.",
    ),
    Code(
        "E0504",
        "recursion too deep",
        "A block or function calls itself without end, or calls are nested deeper than the limits `depth` and "
        "`function_depth`. Make an argument shrink at each call, and stop with `if`.",
        "block level(n) { relu -> level(n) }\nmodel net {\n    input x[3, H, W]\n    level(3)\n}\n",
    ),
    Code(
        "E0505",
        "a value too large",
        "A list, string, path or number exceeds its limit. Raise the limit if this is intended.",
        "let v = [1] * 10000000\nmodel net {\n    input x[3, H, W]\n    relu\n}\n",
    ),
    Code(
        "E0506",
        "solving for valid sizes takes too long",
        "archdsl could not compute the valid input sizes within the limit `solver_seconds`. Fix a size in `input`, or "
        "raise the limit.",
        arises="a spec whose strides and `expect`s require multiples of many large primes at once.",
    ),
    Code(
        "E0601",
        "nothing to recompute",
        "`--recompute dense` needs dense connections whose bodies are blocks, and `--recompute blocks` needs a block "
        "whose recomputation reduces the memory of a training step. This network has none: build it without "
        "`--recompute`.",
        arises="`archdsl build lenet:lenet --recompute dense`",
    ),
    Code(
        "E0602",
        "an unproved build",
        "archdsl could not prove that the generated module computes the network, so it writes none. This is a bug in "
        "archdsl: please report the spec.",
        arises="a bug in archdsl.",
    ),
    Code(
        "E0603",
        "code from outside that is not allowed",
        "The spec uses a layer from another package or file (`extern`), and this command would run its code. If you "
        "trust it, allow the package with `--allow-extern PACKAGE`, or `allow_extern=` in Python; a function needs its "
        "full name, `package.module:function`. Checking, drawing and building never run it.",
        arises="`archdsl export net.arch -o net.onnx`, where net.arch has an `extern` that is used.",
    ),
    Code(
        "E0604",
        "code from outside that is not what the spec says",
        "What an `extern` names cannot be imported, is no subclass of nn.Module (or no function), or is only passed on "
        "by the module that the spec names. It was not called.",
        arises='`archdsl.load("net.arch", allow_extern=["layers"])`, where layers.py does not define the class.',
    ),
    Code(
        "E0605",
        "an unproved format",
        "archdsl could not prove that the formatted text means the same, keeps its comments, and stays as it is when "
        "it is formatted again, so it writes none. This is a bug in archdsl: please report the spec.",
        arises="a bug in archdsl.",
    ),
    Code(
        "E0606",
        "no exact tiles",
        "The results for the tiles of an image would not be those for the whole image. Something in the network needs "
        "all of the image at once, such as a global pooling, an `instancenorm`, attention over all positions, or an "
        "interpolation whose ratio depends on the image's size; or the tiles are too small for the network's receptive "
        "field, or the image's size is fixed.",
        arises="`archdsl tile resnet:resnet18 --size 3x4000x4000 --tile 512`",
    ),
    Code(
        "E0607",
        "a budget that is too small",
        "`--memory` is less than a training step needs when everything is recomputed that reduces it. The help says "
        "the smallest peak that was found. Take a smaller batch, input or number type, or an optimizer with less "
        "state. Blocks, labelled bodies and layers in series are what can be recomputed: more labels in the spec may "
        "help.",
        arises="`archdsl build resnet:resnet50 --memory 100MiB`",
    ),
    Code(
        "E0620",
        "too few places to cut",
        "A pipeline has a stage for each stretch of the network's operations. It is not cut between calls that share "
        "weights, inside of `windows`, between the branches of a `residual via`, or where a `parameter` would have to "
        "be sent. Take fewer stages.",
        arises="`archdsl plan lenet:lenet --stages 40`",
    ),
    Code(
        "E0621",
        "a cluster that is too small",
        "No layout of copies, shards and stages that `archdsl plan` tries fits into the memory of a GPU, or the batch "
        "cannot be spread evenly over the GPUs. The help says what is nearest.",
        arises="`archdsl plan resnet:resnet50 --gpus 2 --memory 100MiB --batch 64`",
    ),
    Code(
        "W0601",
        "only one small size is valid",
        "A line leaves only one small value for a free size. Make the sizes equal with `align`, or give both "
        "branches the same stride and padding. If this is intended, write the size in `input`.",
        "model net {\n    input x[3, H, 1]\n    (conv(4, 3, stride = 2), conv(4, 3)) -> add\n}\n",
    ),
    Code(
        "W0602",
        "an unused name",
        "Nothing uses this parameter or value, or calls what is shared. Remove it, or begin its name with `_`.",
        "model net(width = 8) {\n    input x[3, H, W]\n    conv(8, 3)\n}\n",
    ),
    Code(
        "W0603",
        "`batchnorm` over one position",
        "In training, `batchnorm` computes the variance over the batch and all positions. There is only one position "
        "here, so a batch of 1 fails. Train with larger batches, or use `groupnorm` or `layernorm`.",
        "model net {\n    input x[3, H, W]\n    global_avgpool -> batchnorm\n}\n",
    ),
    Code(
        "W0604",
        "an unknown name in an unused block",
        "The block uses a name that does not exist. No model of this file calls the block, so it is not checked "
        "further.",
        "block never { convv(4, 3) }\nmodel net {\n    input x[3, H, W]\n    relu\n}\n",
    ),
    Code(
        "W0605",
        "arguments in PyTorch's order",
        "The first number of the call equals the number of input channels, which is PyTorch's first argument. archdsl "
        "infers it: leave it out. If it is intended, name the arguments.",
        "model net {\n    input x[16, 32, 32]\n    conv(16, 33, 3)\n}\n",
    ),
    Code(
        "W0606",
        "a label given twice",
        "From here on the label names another tensor, so you can no longer refer to the first one. Choose "
        "another label.",
        "model net {\n    input x[3, H, W]\n    y: { }\n    conv(3, 3)\n    y: { }\n    (y, it) -> add\n}\n",
    ),
    Code(
        "W0607",
        "a tensor in a `let`",
        "A `let` can read the sizes of a tensor, but its name cannot be used as the tensor. Use a label.",
        "model net {\n    input x[3, H, W]\n    let old = it\n    conv(4, 3)\n}\n",
    ),
    Code(
        "W0608",
        "a `linear` at the end of a network, on a map",
        "On a map, `linear` is applied at each position, and so the output is a map, too. For one result per sample "
        "put `flatten` before it, or `global_avgpool -> flatten`. For a map of results use `conv(n, 1)`, which "
        "computes the same.",
        "model net {\n    input x[3, 32, 32]\n    conv(4, 3)\n    linear(10)\n}\n",
    ),
)
