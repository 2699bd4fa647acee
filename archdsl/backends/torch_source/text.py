"""Pieces of generated text: helpers of the file, templates, paths, types, heads of loops."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from archdsl.backends.torch_source.expressions import Apply, Expr, Layer, escaped, quoted
from archdsl.backends.torch_source.plan import Heading

FACTORY = '''class Factory(TypedDict, total=False):
    """Where the parameters of a module are made, and of which type."""

    device: torch.device | str | None
    dtype: torch.dtype | None'''

FILLED = '''def filled(module: nn.Module, frozen: bool = False, **numbers: list[Any]) -> nn.Module:
    """The module with parameters that start from given numbers, frozen ones for good."""
    for name, parameter in module.named_parameters():
        if name in numbers:
            parameter.data.copy_(torch.tensor(numbers[name]))
        parameter.requires_grad_(not (frozen and (name in numbers or not numbers)))
    return module'''

COUNTED_BEFORE = '''@contextmanager
def counted_before(module: nn.Module) -> Iterator[None]:
    """Lets what runs again count statistics into copies, which are dropped."""
    kept = [(m, *b) for m in module.modules() for b in m.named_buffers(recurse=False)]
    for owner, name, buffer in kept:
        setattr(owner, name, buffer.clone())
    try:
        yield
    finally:
        for owner, name, buffer in kept:
            setattr(owner, name, buffer)'''

RECOMPUTED = '''def recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A `forward` that keeps its inputs alone and runs again in the backward pass."""

    @wraps(forward)
    def run(self: nn.Module, *inputs: Tensor) -> Any:
        if not torch.is_grad_enabled() or torch.compiler.is_exporting():
            return forward(self, *inputs)
        return checkpoint(forward, self, *inputs, use_reentrant=False)

    return run'''

COUNTING_ONCE = """        if not torch.compiler.is_compiling():  # compiled, it counts once by itself
            return checkpoint(
                forward,
                self,
                *inputs,
                use_reentrant=False,
                context_fn=lambda: (nullcontext(), counted_before(self)),
            )
        return checkpoint("""


def recomputing(counts: bool) -> str:
    """The decorator of a `forward` that runs again in the backward pass; `counts`: batchnorms run in it."""
    if not counts:
        return RECOMPUTED
    return f"{COUNTED_BEFORE}\n\n\n{RECOMPUTED.replace('        return checkpoint(', COUNTING_ONCE)}"


MEMBER = '''def member(module: nn.Module, *path: str) -> nn.Module:
    """A member whose name is also that of an attribute of every module."""
    for name in path:
        module = dict(module.named_children())[name]
    return module'''


HOLDER_OF = '''def holder_of(module: nn.Module, name: str) -> nn.Module:
    """A child that holds others; made where it is not there yet."""
    if name not in dict(module.named_children()):
        module.add_module(name, nn.Module())
    return dict(module.named_children())[name]'''


def loop_header(heading: Heading, names: Mapping[str, str], text: Callable[[Expr], str]) -> str:
    """`i in range(3)`: what stands behind `for`. `names` has the variables that the loop's body uses."""
    targets: list[str] = []
    overs: list[str] = []
    further = [(names[v.name], text(over)) for v, over in heading.columns if v.name in names]
    match heading.over:
        case Apply("enumerate", (over,)) if further and len(heading.names) == 2 and heading.names[0].name in names:
            number, value = [names.get(v.name, "_") for v in heading.names]
            columns = ", ".join([text(over), *[source for _, source in further]])
            return f"{number}, ({', '.join([value, *[n for n, _ in further]])}) in enumerate(zip({columns}))"
    if any(v.name in names for v in heading.names):
        assert heading.over is not None
        inner = [names.get(v.name, "_") for v in heading.names]
        alone = len(inner) == 1 or (
            heading.index.name not in names and not any(v.name in names for v, _ in heading.columns)
        )
        targets.append(", ".join(inner) if alone else f"({', '.join(inner)})")
        overs.append(text(heading.over))
    targets += [name for name, _ in further]
    overs += [source for _, source in further]
    index = names.get(heading.index.name)
    if not targets:
        return f"{index or '_'} in range({heading.bounds(text) if index else text(heading.count)})"
    target = ", ".join(targets)
    source = overs[0] if len(overs) == 1 else f"zip({', '.join(overs)})"
    if index is None:
        return f"{target} in {source}"
    target = target if len(targets) == 1 else f"({target})"
    start = f", {heading.start}" if heading.start else ""
    return f"{index}, {target} in enumerate({source}{start})"


def fill(template: str, operands: Sequence[tuple[str, str]], values: Mapping[str, str]) -> str:
    """A function's template with its tensors and arguments put in."""
    found: list[str] = []
    pieces = list(string.Formatter().parse(template))
    for (text, name, _, _), following in zip(pieces, [*(p[0] for p in pieces[1:]), ""], strict=True):
        found.append(text)
        if name is None:
            continue
        if name == "all":
            found.append(", ".join(operand for operand, _ in operands))
        elif name.isdigit():
            operand = operands[int(name)]
            enclosed = (text.endswith("(") and template.endswith(")")) or template.startswith(("torch.", "F."))
            found.append(operand[0] if enclosed and not following.startswith((".", "[")) else atom(operand))
        else:
            found.append(values.get(name, ""))
    for i in [i for i, part in enumerate(found) if part == ":"]:
        sides = (found[i - 1], found[i + 1])
        if not all(side.replace("-", "").isalnum() for side in sides if side):
            found[i] = f"{' ' * bool(sides[0])}:{' ' * bool(sides[1])}"
    return "".join(found)


def atom(operand: tuple[str, str]) -> str:
    return operand[0] if operand[1] == "atom" else f"({operand[0]})"


def type_text(value: object) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float"
        case str():
            return "str"
        case tuple():
            kinds = list(dict.fromkeys(type_text(v) for v in value))
            return f"tuple[{' | '.join(kinds) or 'int'}, ...]"
        case Layer():
            return "Callable[..., nn.Module]"
        case _:
            return "None"


def split_dots(label: Sequence[str | Expr]) -> list[list[str | Expr]]:
    """A path's pieces between its dots."""
    pieces: list[list[str | Expr]] = [[]]
    for part in label:
        if not isinstance(part, str):
            pieces[-1].append(part)
            continue
        first, *rest = part.split(".")
        if first:
            pieces[-1].append(first)
        pieces += [[text] if text else [] for text in rest]
    return pieces


def joined(pieces: Sequence[Sequence[str | Expr]]) -> list[str | Expr]:
    found: list[str | Expr] = []
    for piece in pieces:
        found += ["."] if found else []
        found += piece
    return found


def lists(value: object) -> object:
    return [lists(v) for v in value] if isinstance(value, tuple | list) else value


@dataclass(frozen=True, slots=True)
class Written:
    """An expression as Python has it."""

    text: str


def formatted(parts: Sequence[str | Written]) -> str:
    """An f-string of text and expressions; a sum of strings where Python 3.11 takes no f-string.

    There the braces of an f-string must not hold the quotes around it, nor a backslash.
    """
    if any(isinstance(p, Written) and ("\\" in p.text or ('"' in p.text and "'" in p.text)) for p in parts):
        return " + ".join(quoted(p) if isinstance(p, str) else f"str({p.text})" for p in parts)
    found = [
        escaped(p).replace('"', '\\"').replace("{", "{{").replace("}", "}}")
        if isinstance(p, str)
        else "{" + p.text.replace('"', "'") + "}"
        for p in parts
    ]
    return f'f"{"".join(found)}"'


def type_name(text: str) -> str:
    return text.partition("(")[0]
