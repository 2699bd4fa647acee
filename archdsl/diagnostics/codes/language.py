"""Codes of names, arguments and values (E02)."""

from archdsl.diagnostics.codes.base import Code

LANGUAGE = (
    Code(
        "E0201",
        "an unknown name",
        "Nothing of this name is known here: no operation, block, model, label, function, value or property. "
        "Correct the name, or declare it before it is used.",
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
        "nothing flows in",
        "An operation, a block or `it` stands where there is no tensor. Begin the model with `input`.",
        "model net {\n    conv(8, 3)\n}\n",
    ),
    Code(
        "E0204",
        "defaults of an unknown operation",
        "`default` sets arguments of an operation, and there is none of this name. Parameters of a block get "
        "defaults where the block is declared.",
        "default convolution(bias = false)\nmodel net {\n    input x[3, H, W]\n    conv(8, 3)\n}\n",
    ),
    Code(
        "E0205",
        "an unknown parameter",
        "What is called has no parameter of this name. The help gives the nearest one, or lists them all.",
        "model net {\n    input x[3, H, W]\n    conv(8, 3, strid = 2)\n}\n",
    ),
    Code(
        "E0206",
        "an argument too many",
        "The call has more arguments than what is called takes, or gives one both by position and by name. Remove one.",
        "model net {\n    input x[3, H, W]\n    relu(1)\n}\n",
    ),
    Code(
        "E0207",
        "a missing argument",
        "A parameter without a default has no value. Give it in the call, or for a model by `--set NAME=VALUE`.",
        "model net {\n    input x[3, H, W]\n    conv()\n}\n",
    ),
    Code(
        "E0208",
        "a name declared twice",
        "A name can be declared once in a file, and once among the inputs and outputs of a model. Rename one of "
        "the two.",
        "block unit { relu }\nblock unit { relu }\nmodel net {\n    input x[3, H, W]\n    unit\n}\n",
    ),
    Code(
        "E0209",
        "a label and a value of one name",
        "A value and a label cannot share a name. Choose another one; a quoted label is a path alone, and may.",
        "model net {\n    input x[3, H, W]\n    let width = 8\n    width: conv(width, 3)\n}\n",
    ),
    Code(
        "E0210",
        "defined by itself",
        "The definition of a value or of a model needs itself, directly or by way of others. Break the circle.",
        "let a = b + 1\nlet b = a\nmodel net {\n    input x[3, H, W]\n    conv(a, 3)\n}\n",
    ),
    Code(
        "E0211",
        "a value of the wrong kind",
        "A value of one kind stands where another is needed: a number for a list, say, or a block for a function. The "
        "message says what is needed and what is there.",
        "model net {\n    input x[3, H, W]\n    for i in 3 { relu }\n}\n",
    ),
    Code(
        "E0212",
        "beyond the end of a list",
        "The list has no element of this number. Elements count from 0; the end of a part `a..b` is not included.",
        "let widths = [8, 16]\nmodel net {\n    input x[3, H, W]\n    conv(widths[2], 3)\n}\n",
    ),
    Code(
        "E0213",
        "a model without an input",
        "A model says what it takes in. Begin it with `input image[3, H = 224, W = 224]`, for example.",
        "model net {\n}\n",
    ),
    Code(
        "E0214",
        "several outputs without names",
        "Several tensors flow out of the model at its end. Merge them with `add` or `concat`, or name them: "
        "`output a, b`.",
        "model net {\n    input x[4, H, W]\n    split(2)\n}\n",
    ),
    Code(
        "E0215",
        "a negative count of `repeat`",
        "`repeat` runs its body 0 times or more.",
        "model net {\n    input x[3, H, W]\n    repeat -1 { relu }\n    relu\n}\n",
    ),
    Code(
        "E0216",
        "a `require` that does not hold",
        "A block or model sets a condition for its arguments, and it is not met. The message is that of the `require`. "
        "Change the arguments.",
        'block unit(width) {\n    require width % 8 == 0, "the width must be a multiple of 8"\n    conv(width, 3)\n}\n'
        "model net {\n    input x[3, H, W]\n    unit(12)\n}\n",
    ),
    Code(
        "E0217",
        "an `input` too late",
        "`input` stands before everything that flows, and declares all inputs in one statement.",
        "model net {\n    input x[3, H, W]\n    relu\n    input y[3, H, W]\n}\n",
    ),
    Code(
        "E0218",
        "a size that cannot be declared",
        "A size in an `input` is a name or an int of at least 1. A name with a size to show, as in `H = 224`, "
        "must be new.",
        "model net {\n    input x[0, H, W]\n    relu\n}\n",
    ),
    Code(
        "E0219",
        "a block with another number of inputs",
        "The block declares more or fewer inputs than there are tensors that flow in. Call it after a parallel of "
        "as many chains.",
        "block both { input a[C, H, W], b[C, H, W]\n    (a, b) -> add }\nmodel net {\n"
        "    input x[3, H, W]\n    both\n}\n",
    ),
    Code(
        "E0220",
        "an input of another number of axes",
        "The block declares its input with more or fewer sizes than the tensor that flows in has.",
        "block unit { input x[C, T]\n    relu }\nmodel net {\n    input x[3, H, W]\n    unit\n}\n",
    ),
    Code(
        "E0221",
        "several tensors where one is needed",
        "`expect`, an `output` and a question such as `it.channels` are about one tensor, and several flow here. Name "
        "one of them by a label.",
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
        "a pattern of another number of tensors",
        "A pattern such as `(a, b):` names each tensor that its item gives, and the item gives another number.",
        "model net {\n    input x[4, H, W]\n    (a, b): conv(8, 3)\n    (a, b) -> add\n}\n",
    ),
    Code(
        "E0224",
        "a label or an operation",
        "A bare name could be a label or a call. Write `name()` to call it, or rename the label.",
        "model net {\n    input x[3, H, W]\n    relu: conv(8, 3)\n    relu\n}\n",
    ),
    Code(
        "E0225",
        "a label used like an operation",
        "A label names a tensor: it stands first in a chain and takes no arguments. To bring two tensors "
        "together, write `(it, label) -> add`.",
        "model net {\n    input x[3, H, W]\n    a: conv(8, 3)\n    conv(8, 3) -> a\n}\n",
    ),
    Code(
        "E0226",
        "a label that cannot be a path",
        "Quoted labels become paths of layers: letters a to z, digits, `_` and `-`, joined by dots, and computed "
        "parts that are ints or strings. A reference has no path.",
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
        "an argument that the operation does not take",
        "The value of the argument is not one that this parameter takes. The message says which it takes.",
        "model net {\n    input x[3, H, W]\n    dropout(1.5)\n}\n",
    ),
    Code(
        "E0229",
        "an empty `residual` or `dense`",
        "The body has no operation, so the tensor would be merged with itself. Put an operation in it, or remove it.",
        "model net {\n    input x[3, H, W]\n    residual { }\n}\n",
    ),
    Code(
        "E0230",
        "two items on one path",
        "Every layer has a path of its own, by which its weights are saved. Give one of the two another label; in "
        "a loop, a computed one.",
        'model net {\n    input x[3, H, W]\n    "head": conv(8, 3)\n    "head": conv(8, 3)\n}\n',
    ),
    Code(
        "E0231",
        "the path `training`",
        "PyTorch's modules keep their mode in `training`, so no layer can be called that. Choose another label.",
        "model net {\n    input x[3, H, W]\n    training: relu\n}\n",
    ),
    Code(
        "E0232",
        "nothing at this path",
        "The model has no layer or block at the path that the command names. `archdsl show` lists the paths.",
        arises="`archdsl explain resnet:resnet18:layer9`",
    ),
    Code(
        "E0233",
        "arithmetic without a result",
        "A computation divides by zero, or its result is larger than a number can be.",
        "model net {\n    input x[3, H, W]\n    conv(8 // 0, 3)\n}\n",
    ),
    Code(
        "E0234",
        "`if training` that cannot stand here",
        "`output … if training` marks an additional output of a model. It cannot mark all outputs, nor outputs of "
        "a block.",
        "model net {\n    input x[4, H, W]\n    a: conv(8, 3)\n    output a if training\n}\n",
    ),
    Code(
        "E0240",
        "augmentation of what is not a picture",
        "An augmentation changes one picture [C, H, W], and this model takes something else. Remove `augmented`.",
        "augment flips { hflip }\nmodel net augmented flips {\n    input x[3, 8]\n    relu\n}\n",
    ),
)
