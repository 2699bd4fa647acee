"""Codes of files (E00) and of the text of a spec (E01)."""

from archdsl.diagnostics.codes.base import Code

TEXTS = (
    Code(
        "E0001",
        "no such file",
        "There is no file with this name. Correct the name, or run the command in another folder.",
        arises="`archdsl check nosuch.arch`",
    ),
    Code(
        "E0002",
        "a folder, not a file",
        "The name is that of a folder. Name a .arch file in it.",
        arises="`archdsl check folder/`",
    ),
    Code(
        "E0003",
        "no such spec",
        "An import, or the SPEC of a command, names neither a file nor a family of the library. `archdsl list` "
        "lists the families; an import searches the importing file's folder first.",
        "from layer import conv_bn\nmodel net {\n    input x[3, H, W]\n    conv_bn\n}\n",
    ),
    Code(
        "E0004",
        "not UTF-8",
        "A spec is UTF-8 text, and this file has bytes that are not. Save it as UTF-8.",
        arises="a file with the byte 0xff, or one in UTF-16.",
    ),
    Code(
        "E0005",
        "not text",
        "The file contains a NUL byte, so it is not text, but perhaps a weights file. Name a .arch file.",
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
        "The text has syntax errors almost everywhere, so it is probably another language. Name a .arch file.",
        arises="`archdsl check train.py`",
    ),
    Code(
        "E0008",
        "circular imports",
        "A file imports itself, directly or through others. Move the shared definitions into another file, and "
        "import that from all of them.",
        "from net import unit\nmodel net {\n    input x[3, H, W]\n    unit\n}\n",
    ),
    Code(
        "E0101",
        "syntax error",
        "The grammar expects something else here. The message says what, and the help shows how to write it.",
        "model net {\n    input x[3, H, W]\n    y = conv(8, 3)\n}\n",
    ),
    Code(
        "E0102",
        "an unmatched bracket",
        "A bracket is never closed, or closes nothing. The indentation shows where its partner is missing.",
        "model net {\n    input x[3, H, W]\n    conv(8, 3))\n}\n",
    ),
    Code(
        "E0103",
        "an invalid character, number or escape",
        "A character, a number or an escape in a string is not part of the language. The help says what to write.",
        "model net {\n    input x[3, H, W]\n    conv(8, 3) | relu\n}\n",
    ),
    Code(
        "E0104",
        "an unterminated string",
        'A string starts and ends with `"` on one line.',
        'model net {\n    input x[3, H, W]\n    "first: conv(8, 3)\n}\n',
    ),
    Code(
        "E0105",
        "nested too deeply",
        "Brackets or operators are nested deeper than the limits `nesting` and `operators` allow. Name a part with "
        "`let`, or raise the limit.",
        arises="201 nested brackets, or 1,001 operators in a row.",
    ),
    Code(
        "E0106",
        "`it` used as a name",
        "`it` is reserved for the incoming tensor. It cannot be declared or called. Choose another name.",
        "model net {\n    input x[3, H, W]\n    it: relu\n}\n",
    ),
    Code(
        "E0107",
        "a parameter or argument given twice",
        "A list of parameters or arguments has the same name twice. Remove one of them.",
        "model net {\n    input x[3, H, W]\n    conv(8, 3, pad = 1, pad = 2)\n}\n",
    ),
    Code(
        "E0108",
        "a positional argument after a named one",
        "Positional arguments come first in a call, named ones after them.",
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
        "The text has more syntax errors than are shown. Correct those shown, and check again.",
        arises="a text with more than 100 syntax errors.",
    ),
)
