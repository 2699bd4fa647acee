"""Stubs: the types of the functions that Python gets from a .arch file (`archdsl.importer`), for mypy and pyright."""

from __future__ import annotations

import hashlib
from keyword import iskeyword

from archdsl import __version__
from archdsl.checker.spec import locate, model_info
from archdsl.diagnostics import Diagnostics, visible
from archdsl.elaborate.spec_files import SpecFile, family
from archdsl.syntax import tree

HEAD = '''"""Types of the models of {name}, compiled by archdsl {version} from {name} (sha256 {digest}).

`archdsl stubs` writes them; `import archdsl.importer` makes the functions.
"""

from collections.abc import Iterable

import torch
from torch import nn

__all__ = [{models}]
'''

PLACING = (
    "device: torch.device | str | None = None",
    "dtype: torch.dtype | None = None",
    "allow_extern: str | Iterable[str] = ()",
)


def stubs(spec: str) -> str:
    """The text of the stubs of a spec's file. Raises SpecError."""
    diagnostics = Diagnostics()
    spec_file, _ = locate(spec, diagnostics)
    # A name that is a keyword of Python cannot be imported there.
    names = [name for name in spec_file.models if not iskeyword(name)]
    head = HEAD.format(
        name=visible(spec_file.source.name.rpartition("/")[2]).replace("\\", "/").replace('"', "'"),
        version=__version__,
        digest=hashlib.sha256(spec_file.source.text.encode("utf-8", "surrogatepass")).hexdigest()[:12],
        models=", ".join(f'"{name}"' for name in names),
    )
    return head + "".join(function(spec_file, name, diagnostics) for name in names)


def function(spec_file: SpecFile, name: str, diagnostics: Diagnostics) -> str:
    """The function of a model: its parameters with their types, then where the module is made."""
    info = model_info(spec_file, name, diagnostics)
    defaults = {p.name.name: p.default for p in family(spec_file.models[name])[0].syntax.parameters}
    given = [
        f"{parameter}: {type_of(defaults[parameter])}{'' if parameter in info.missing else ' = ...'}"
        for parameter in info.parameters
    ]
    if any(iskeyword(parameter) for parameter in info.parameters):
        given = ["*args: object", *PLACING, "**values: object"]
    else:
        given += ["*", *PLACING]
    lines = "".join(f"    {parameter},\n" for parameter in given)
    body = f"\n    {info.doc!r}\n" if info.doc else " ...\n"
    return f"\ndef {name}(\n{lines}) -> nn.Module:{body}"


def type_of(default: tree.Value | None) -> str:
    """The type of a parameter by its default: `object` where that does not say, as for blocks and lists."""
    match default:
        case tree.Literal(value=bool()):
            return "bool"
        case tree.Literal(value=int(number)) if abs(number) > 1:
            return "int"
        case tree.Literal(value=int() | float()):
            return "float"  # which takes integers: 0 and 1 also begin rates and factors
        case tree.Literal(value=str()):
            return "str"
        case _:
            return "object"
