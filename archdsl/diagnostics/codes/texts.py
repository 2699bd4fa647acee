"""Codes of files (E00) and of the text of a spec (E01)."""

from archdsl.diagnostics.codes.base import Code

TEXTS = (
    Code(
        "E0001",
        "no such file",
        "There is no file of this name. Correct the name, or the folder that the command runs in.",
        arises="`archdsl check nosuch.arch`",
    ),
    Code(
        "E0002",
        "a folder, not a file",
        "What was named is a folder. Name a .arch file in it.",
        arises="`archdsl check folder/`",
    ),
    Code(
        "E0003",
        "no such spec",
        "An import, or the SPEC of a command, names neither a file nor a family of the library. `archdsl list` "
        "names the families; an import looks beside the file that imports first.",
        "from layer import conv_bn\nmodel net {\n    input x[3, H, W]\n    conv_bn\n}\n",
    ),
    Code(
        "E0004",
        "not UTF-8",
        "A spec is a text in UTF-8, and this file has bytes that are not. Save it as UTF-8.",
        arises="a file with the byte 0xff, or one in UTF-16.",
    ),
    Code(
        "E0005",
        "not a text",
        "The file has a NUL byte, so it is no text: a file of weights, perhaps. Name a .arch file.",
        arises="`archdsl check weights.pth`",
    ),
    Code(
        "E0006",
        "a file that cannot be read",
        "The operating system refuses to read the file, or the file is larger than the limit `text_bytes`. The message "
        "gives the reason.",
        arises="a file without permission to read, or one of more than 8 MiB.",
    ),
    Code(
        "E0007",
        "does not look like a spec",
        "The text has syntax errors almost everywhere, so it is in another language. Name a .arch file.",
        arises="`archdsl check train.py`",
    ),
    Code(
        "E0008",
        "imports in a circle",
        "A file imports itself, by way of others or directly. Move what the files need of each other into another "
        "file, and import that from all of them.",
        "from net import unit\nmodel net {\n    input x[3, H, W]\n    unit\n}\n",
    ),
    Code(
        "E0101",
        "syntax error",
        "The grammar wants something else at this place. The message says what, and the help how it is written.",
        "model net {\n    input x[3, H, W]\n    y = conv(8, 3)\n}\n",
    ),
    Code(
        "E0102",
        "a bracket without a partner",
        "A bracket is never closed, or closes nothing. The indentation tells where the partner is missing.",
        "model net {\n    input x[3, H, W]\n    conv(8, 3))\n}\n",
    ),
    Code(
        "E0103",
        "a character, number or escape that the language does not have",
        "A sign, a number or an escape of a string is not one of this language. The help says what to write.",
        "model net {\n    input x[3, H, W]\n    conv(8, 3) | relu\n}\n",
    ),
    Code(
        "E0104",
        "a string without an end",
        'A string starts and ends with `"` on one line.',
        'model net {\n    input x[3, H, W]\n    "first: conv(8, 3)\n}\n',
    ),
    Code(
        "E0105",
        "nested too deep",
        "Brackets or operators nest deeper than the limits `nesting` and `operators` allow. Name a part with `let`, or "
        "raise the limit.",
        arises="201 brackets within each other, or 1,001 operators in a row.",
    ),
    Code(
        "E0106",
        "`it` used as a name",
        "`it` is reserved: it is the tensor that flows in. It cannot be declared or called. Choose another name.",
        "model net {\n    input x[3, H, W]\n    it: relu\n}\n",
    ),
    Code(
        "E0107",
        "a parameter or argument given twice",
        "One list of parameters or arguments has the same name twice. Remove one of them.",
        "model net {\n    input x[3, H, W]\n    conv(8, 3, pad = 1, pad = 2)\n}\n",
    ),
    Code(
        "E0108",
        "an argument without a name after one with a name",
        "Arguments without names stand first in a call, those with names behind them.",
        "model net {\n    input x[3, H, W]\n    conv(out = 8, 3)\n}\n",
    ),
    Code(
        "E0109",
        "an empty label",
        "A label is part of the path of a layer, so it needs at least one character.",
        'model net {\n    input x[3, H, W]\n    "": relu\n}\n',
    ),
    Code(
        "E0110",
        "more syntax errors",
        "The text has more syntax errors than are shown. Correct the first ones, and check again.",
        arises="a text with more than 100 syntax errors.",
    ),
)
