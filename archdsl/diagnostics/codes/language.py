"""Codes of names, arguments and values (E02)."""

from archdsl.diagnostics.codes.base import Code

LANGUAGE = (
    Code(
        "E0201",
        "an unknown name",
        "No operation, block, model, label, function, value or property has this name here. "
        "Correct the name, or declare it before using it.",
        "model net {\n    input x[3, H, W]\n    convv(8, 3)\n}\n",
    ),
    Code(
        "E0202",
        "a name that the file does not define",
        "The imported file, or the file of a SPEC such as net.arch:small, does not define this name. The message lists "
        "what it defines.",
        "from resnet import resnet19\nmodel net {\n    input x[3, H, W]\n    resnet19\n}\n",
    ),
    Code(
        "E0203",
        "no incoming tensor",
        "An operation, a block or `it` is used where there is no tensor. Begin the model with `input`.",
        "model net {\n    conv(8, 3)\n}\n",
    ),
    Code(
        "E0204",
        "defaults for an unknown operation",
        "`default` sets arguments of an operation, and there is no operation with this name. Parameters of a block get "
        "their defaults where the block is declared.",
        "default convolution(bias = false)\nmodel net {\n    input x[3, H, W]\n    conv(8, 3)\n}\n",
    ),
    Code(
        "E0205",
        "an unknown parameter",
        "The operation, block or function has no parameter with this name. The help gives the nearest one, or lists "
        "all.",
        "model net {\n    input x[3, H, W]\n    conv(8, 3, strid = 2)\n}\n",
    ),
    Code(
        "E0206",
        "too many arguments",
        "The call has too many arguments, or gives one both by position and by name. Remove one.",
        "model net {\n    input x[3, H, W]\n    relu(1)\n}\n",
    ),
    Code(
        "E0207",
        "a missing argument",
        "A parameter without a default has no value. Give it in the call, or for a model with `--set NAME=VALUE`.",
        "model net {\n    input x[3, H, W]\n    conv()\n}\n",
    ),
    Code(
        "E0208",
        "a name declared twice",
        "A name can be declared only once in a file, and only once among the inputs and outputs of a model. Rename "
        "one of the two.",
        "block unit { relu }\nblock unit { relu }\nmodel net {\n    input x[3, H, W]\n    unit\n}\n",
    ),
    Code(
        "E0209",
        "a label and a value with the same name",
        "A value and a label cannot share a name. Choose another name, or quote the label: a quoted label only names "
        "a path.",
        "model net {\n    input x[3, H, W]\n    let width = 8\n    width: conv(width, 3)\n}\n",
    ),
    Code(
        "E0210",
        "circular definition",
        "The definition of a value or model depends on itself, directly or through others. Break the circle.",
        "let a = b + 1\nlet b = a\nmodel net {\n    input x[3, H, W]\n    conv(a, 3)\n}\n",
    ),
    Code(
        "E0211",
        "a value of the wrong kind",
        "A value of one kind is used where another is needed: a number for a list, or a block for a function. The "
        "message says what is needed and what was given.",
        "model net {\n    input x[3, H, W]\n    for i in 3 { relu }\n}\n",
    ),
    Code(
        "E0212",
        "list index out of range",
        "The list has no element with this index. Indices start at 0; the end of a slice `a..b` is exclusive.",
        "let widths = [8, 16]\nmodel net {\n    input x[3, H, W]\n    conv(widths[2], 3)\n}\n",
    ),
    Code(
        "E0213",
        "a model without an input",
        "A model must declare its inputs. Begin it with `input image[3, H = 224, W = 224]`, for example.",
        "model net {\n}\n",
    ),
    Code(
        "E0214",
        "several outputs without names",
        "The model ends with several tensors. Merge them with `add` or `concat`, or name them: `output a, b`.",
        "model net {\n    input x[4, H, W]\n    split(2)\n}\n",
    ),
    Code(
        "E0215",
        "a negative `repeat` count",
        "`repeat` needs a count of at least 0.",
        "model net {\n    input x[3, H, W]\n    repeat -1 { relu }\n    relu\n}\n",
    ),
    Code(
        "E0216",
        "a failed `require`",
        "The arguments of a block or model violate its `require` condition. The message is that of the `require`. "
        "Change the arguments.",
        'block unit(width) {\n    require width % 8 == 0, "the width must be a multiple of 8"\n    conv(width, 3)\n}\n'
        "model net {\n    input x[3, H, W]\n    unit(12)\n}\n",
    ),
    Code(
        "E0217",
        "a misplaced `input`",
        "`input` comes before all items, and declares all inputs in one statement.",
        "model net {\n    input x[3, H, W]\n    relu\n    input y[3, H, W]\n}\n",
    ),
    Code(
        "E0218",
        "an invalid size in an `input`",
        "A size in an `input` is a name or an int of at least 1. A name with an example size, as in `H = 224`, "
        "must be new.",
        "model net {\n    input x[0, H, W]\n    relu\n}\n",
    ),
    Code(
        "E0219",
        "a wrong number of block inputs",
        "The block declares more or fewer inputs than there are incoming tensors. Call it after a parallel with as "
        "many chains as inputs.",
        "block both { input a[C, H, W], b[C, H, W]\n    (a, b) -> add }\nmodel net {\n"
        "    input x[3, H, W]\n    both\n}\n",
    ),
    Code(
        "E0220",
        "a block input of another rank",
        "The block declares its input with more or fewer sizes than the incoming tensor has.",
        "block unit { input x[C, T]\n    relu }\nmodel net {\n    input x[3, H, W]\n    unit\n}\n",
    ),
    Code(
        "E0221",
        "several tensors where one is needed",
        "`expect`, `output` and properties such as `it.channels` refer to one tensor, and there are several here. Name "
        "one of them with a label.",
        "model net {\n    input x[4, H, W]\n    split(2)\n    expect [2, H, W]\n    add\n}\n",
    ),
    Code(
        "E0222",
        "two `output` statements",
        "A body declares all its outputs in one statement: `output a, b`.",
        "model net {\n    input x[4, H, W]\n    a: relu\n    b: relu\n    output a\n    output b\n}\n",
    ),
    Code(
        "E0223",
        "a label pattern of the wrong length",
        "A pattern such as `(a, b):` names each result of its item, and the item has another number of results.",
        "model net {\n    input x[4, H, W]\n    (a, b): conv(8, 3)\n    (a, b) -> add\n}\n",
    ),
    Code(
        "E0224",
        "ambiguous: a label or an operation",
        "A bare name could be a label or a call. Write `name()` to call it, or rename the label.",
        "model net {\n    input x[3, H, W]\n    relu: conv(8, 3)\n    relu\n}\n",
    ),
    Code(
        "E0225",
        "a label used like an operation",
        "A label names a tensor: it may only start a chain and takes no arguments. To merge two tensors, write "
        "`(it, label) -> add`.",
        "model net {\n    input x[3, H, W]\n    a: conv(8, 3)\n    conv(8, 3) -> a\n}\n",
    ),
    Code(
        "E0226",
        "a label that cannot be a path",
        "Quoted labels become paths of layers. They consist of letters a to z, digits, `_` and `-`, joined by dots, "
        "and of computed parts that are ints or strings. A reference has no path.",
        'model net {\n    input x[3, H, W]\n    "a b": relu\n}\n',
    ),
    Code(
        "E0227",
        "a wrong number of tensors for an operation",
        "Most operations take one tensor, and merges such as `add` take several. The body and the skip of a "
        "`residual` give one each.",
        "model net {\n    input x[4, H, W]\n    split(2) -> conv(8, 3)\n}\n",
    ),
    Code(
        "E0228",
        "an invalid argument",
        "The parameter does not accept this value. The message says what it accepts.",
        "model net {\n    input x[3, H, W]\n    dropout(1.5)\n}\n",
    ),
    Code(
        "E0229",
        "an empty `residual` or `dense`",
        "The body has no operation, so the tensor would be merged with itself. Add an operation, or remove the "
        "statement.",
        "model net {\n    input x[3, H, W]\n    residual { }\n}\n",
    ),
    Code(
        "E0230",
        "two items with the same path",
        "Each layer needs its own path, which names its weights. Give one of the two another label; in a loop, use a "
        "computed label.",
        'model net {\n    input x[3, H, W]\n    "head": conv(8, 3)\n    "head": conv(8, 3)\n}\n',
    ),
    Code(
        "E0231",
        "the path `training`",
        "PyTorch's modules store their mode in `training`, so no layer can have that name. Choose another label.",
        "model net {\n    input x[3, H, W]\n    training: relu\n}\n",
    ),
    Code(
        "E0232",
        "no such path",
        "The model has no layer or block at the given path. `archdsl show` lists the paths.",
        arises="`archdsl explain resnet:resnet18:layer9`",
    ),
    Code(
        "E0233",
        "undefined arithmetic",
        "A computation divides by zero, or its result is too large for a number.",
        "model net {\n    input x[3, H, W]\n    conv(8 // 0, 3)\n}\n",
    ),
    Code(
        "E0234",
        "a misplaced `if training`",
        "`output … if training` marks an additional output of a model. It cannot mark all outputs, nor outputs of "
        "a block.",
        "model net {\n    input x[4, H, W]\n    a: conv(8, 3)\n    output a if training\n}\n",
    ),
    Code(
        "E0235",
        "an invalid extern",
        "An `extern` names a public class or function as `package.module:Name`, says once which sizes it takes "
        "(`input`) and gives (`output`), and computes with its parameters and these sizes alone.",
        'extern blur(size) = "os:system" {\n    input x[C, H, W]\n    output [C, H, W]\n}\n'
        "model net {\n    input x[3, H, W]\n    blur(3)\n}\n",
    ),
    Code(
        "E0236",
        "a wrong use of something shared",
        "`share name: ITEM` places layers once, and `name` in a chain calls them. They have one name, their arguments "
        "are given where they are shared, and only the body or block whose module holds them can call them.",
        "model net {\n    input x[4, H, W]\n    share unit: conv(4, 3)\n    inner: { unit -> relu -> unit }\n}\n",
    ),
    Code(
        "E0237",
        "an output that depends on no input",
        "A `parameter` is the same for every sample. What a model gives must depend on one of its inputs: merge the "
        "parameter with a tensor that does.",
        "model net {\n    input x[4, 8]\n    parameter([4, 8])\n}\n",
    ),
    Code(
        "E0238",
        "a misplaced `expect` of a cost",
        "`expect parameters == …`, and the same of `macs` and `field`, are about a whole model, so they belong in the "
        "body of a `model`. In a block, `expect [C, H, W]` states a size.",
        "block unit {\n    conv(8, 3)\n    expect parameters == 216\n}\n"
        "model net {\n    input x[3, H, W]\n    unit\n}\n",
    ),
    Code(
        "E0239",
        "a tensor of the whole map among windows",
        "The body of `windows` or `grid` meets each window as a sample of its own, so it cannot use a tensor that was "
        "made outside. Let that tensor flow in together with the other, and both are cut alike.",
        "model net {\n    input x[8, H = 28, W = 28]\n    windows(7) { (it, x) -> add }\n}\n",
    ),
    Code(
        "E0240",
        "augmentation of something other than an image",
        "An augmentation transforms one image [C, H, W], and this model takes something else. Remove `augmented`.",
        "augment flips { hflip }\nmodel net augmented flips {\n    input x[3, 8]\n    relu\n}\n",
    ),
)
