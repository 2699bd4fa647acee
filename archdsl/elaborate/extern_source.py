"""The checked form of an `extern` in a built file: a class or function around it that compares weights and sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from archdsl.elaborate.extern_expressions import Translation
from archdsl.ops.extern import Kind
from archdsl.ops.forms import REQUIRED, Argument
from archdsl.ops.reserved import RESERVED
from archdsl.syntax import tree
from archdsl.syntax.walk import names as names_used
from archdsl.values import Namespace

CHECK_WEIGHTS = '''def check_weights(module: nn.Module, what: str, *declared: tuple[object, ...]) -> None:
    """Raises ValueError unless a layer from outside has the weights that the spec says."""
    found: list[tuple[object, ...]] = []
    for name, tensor in module.state_dict(keep_vars=True).items():
        if isinstance(tensor, nn.Parameter):
            kind = "weight" if tensor.requires_grad else "frozen"
        else:
            kind = "counter" if tensor.dtype == torch.int64 else "buffer"
        found.append((kind, name, *tensor.shape))
    if found != list(declared):
        says = f"the spec declares the weights {list(declared)}, and it has {found}"
        raise ValueError(f"{what}: {says}")'''

CALL_OUTSIDE = '''def call_outside(what: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The result of code from outside; ValueError if it overwrites its inputs."""
    if torch.compiler.is_compiling():
        return function(*args, **kwargs)
    tensors = [x for x in args if isinstance(x, Tensor) and not x.is_inference()]
    before = [x._version for x in tensors]
    result = function(*args, **kwargs)
    if [x._version for x in tensors] != before:
        raise ValueError(f"{what}: it overwrites its input, which others may read")
    return result'''

CHECK_RESULT = '''def check_result(what: str, result: Any, *declared: tuple[int, ...]) -> Any:
    """The result of a layer from outside; ValueError unless it is as the spec says."""
    if torch.compiler.is_compiling():
        return result
    parts = result if isinstance(result, tuple | list) else [result]
    found = [tuple(p.shape) if isinstance(p, Tensor) else type(p) for p in parts]
    if found != list(declared):
        says = f"the spec declares {list(declared)}, and it gives {found}"
        raise ValueError(f"{what}: with the batch, {says}")
    return result'''

OWN = RESERVED | {"batch", "result", "what", "check_weights", "check_result", "call_outside"}
"""Names that an extern's checked form cannot use."""

WIDTH = 88
"""The longest line of a built file."""

Line = TypeVar("Line", bound=tree.ExternLine)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the checked form: its name in the spec and in Python; `default` as in Argument."""

    name: str
    python: str
    default: object = REQUIRED


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of the checked form: sizes of inputs, then the extern's own parameters."""

    sizes: tuple[Parameter, ...]
    own: tuple[Parameter, ...]
    names: Mapping[str, str]
    """The Python names of all sizes, parameters and values of the extern."""
    is_function: bool

    def arguments(self, names: Namespace) -> tuple[Argument, ...]:
        """The arguments of a call, whose sizes and parameters are in `names`. Raises Failure."""
        found: list[Argument] = []
        for parameter in (*self.sizes, *self.own):
            value = names.values[parameter.name]
            if self.is_function:
                found.append(Argument(parameter.python, value))
            elif parameter.default is REQUIRED:
                found.append(Argument(None, value, called=parameter.python))
            else:
                default = parameter.default if type(value) is type(parameter.default) else REQUIRED  # 1 is not true
                found.append(Argument(parameter.python, value, default))
        return tuple(found)


def signature(syntax: tree.Extern, module: Namespace) -> Signature:
    """The parameters of the checked form of an extern. Raises Failure for a value that Python code cannot hold."""
    sizes = dict.fromkeys(_sizes(syntax, module))
    own = [p.name.name for p in syntax.parameters]
    lets = [line.name.name for line in syntax.lines if isinstance(line, tree.Let)]
    inputs = [t.name.name for line in syntax.lines if isinstance(line, tree.Input) for t in line.tensors]
    taken = {*OWN, syntax.target.rpartition(":")[2]}
    names: dict[str, str] = {}
    for name in dict.fromkeys([*own, *sizes, *lets]):
        names[name] = _python(name.lower() if name in sizes else name, taken)
    for name in inputs:
        names[f"input {name}"] = _python(name, taken)
    needed: set[str] = set()
    if not syntax.is_function:
        needed = _needed(syntax, [line for line in syntax.lines if isinstance(line, tree.Passed | tree.Held)])
    given = [Parameter(name, names[name]) for name in sizes if name in needed]
    parameters = []
    for p in syntax.parameters:
        default: object = REQUIRED
        if isinstance(p.default, tree.Literal):
            default = p.default.value
        parameters.append(Parameter(p.name.name, names[p.name.name], default))
    found = Signature(tuple(given), tuple(parameters), names, syntax.is_function)
    for line in syntax.lines:  # what cannot be written is found now, not in a build
        for value in _values(line):
            Translation(module, names).text(value)
    return found


def _python(name: str, taken: set[str]) -> str:
    text = f"p{name}" if name.startswith("_") else name
    found, number = text, 1
    while found in taken:
        number += 1
        found = f"{text}_" if number == 2 else f"{text}_{number}"
    taken.add(found)
    return found


def _sizes(syntax: tree.Extern, module: Namespace) -> Iterator[str]:
    """The names that the inputs give to sizes."""
    known = {p.name.name for p in syntax.parameters}
    for line in syntax.lines:
        if isinstance(line, tree.Let):
            known.add(line.name.name)
        for tensor in line.tensors if isinstance(line, tree.Input) else ():
            for dimension in tensor.dimensions:
                value = dimension.value
                own = isinstance(value, tree.Name) and value.name not in {"_", *known}
                if own and isinstance(value, tree.Name) and module.find(value.name) is None:
                    yield value.name


def _values(line: tree.ExternLine) -> Iterator[tree.Value]:
    """The values of a line that are written into a built file."""
    match line:
        case tree.Let():
            yield line.value
        case tree.Gives():
            yield from (value for sizes in line.tensors for value in sizes)
        case tree.Held():
            yield from (value for _, _, sizes in line.tensors for value in sizes)
            if line.condition is not None:
                yield line.condition
        case tree.Passed() if line.kind == "call":
            yield from (a.value for a in line.arguments)


def _needed(syntax: tree.Extern, lines: Iterable[tree.ExternLine]) -> set[str]:
    """The names that lines use, directly or through a `let`."""
    lets = {line.name.name: line.value for line in syntax.lines if isinstance(line, tree.Let)}
    found: set[str] = set()
    waiting = [n.name for line in lines for value in _values(line) for n in names_used(value)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [n.name for n in names_used(lets[name])] if name in lets else []
    return found


# ---------------------------------------------------------------- the class or function


def python_names(syntax: tree.Extern, number: int = 1) -> tuple[str, str]:
    """The names of an extern in a built file: of its checked form, and of what is imported.

    `number` is 1, or distinguishes externs that would share a name.
    """
    name, target = syntax.name.name, syntax.target.rpartition(":")[2]
    last = "" if number == 1 else str(number)
    imported = target + last
    if imported in OWN:
        imported += "_"
    if syntax.is_function:
        return f"checked_{name}{last}", imported
    made = "".join(part[:1].upper() + part[1:] for part in name.split("_")) or "Outside"
    made = f"{made}AsDeclared" if made in (target, imported) or made in OWN else made
    return made + last, imported


def write(kind: Kind, syntax: tree.Extern, module: Namespace, made: Signature) -> str:
    """The checked form of an extern."""
    writer = _Writer(kind, syntax, Translation(module, made.names), made)
    lines = writer.function() if kind.is_function else writer.module()
    helpers = [CALL_OUTSIDE, CHECK_RESULT]
    helpers = helpers if kind.is_function else [CHECK_WEIGHTS, *helpers]
    return "\n\n\n".join([*helpers, "\n".join(lines)])


@dataclass(slots=True)
class _Writer:
    kind: Kind
    syntax: tree.Extern
    translation: Translation
    signature: Signature

    @property
    def what(self) -> str:
        """The text for messages: the extern, its place in the spec, and its target."""
        return _quoted(f"`{self.kind.name}` ({self.kind.where}) is {self.kind.module}.{self.kind.target}")

    def find(self, kind: type[Line]) -> list[Line]:
        return [line for line in self.syntax.lines if isinstance(line, kind)]

    def module(self) -> list[str]:
        target, passed, held = self.kind.imported, self.find(tree.Passed), self.find(tree.Held)
        lines = [f"class {self.kind.made}({target}):"]
        lines += [f'    """{target} of {self.kind.module}, with weights and sizes as the spec says."""', ""]
        lines += _row("    def __init__(", self.parameters(), ") -> None:")
        lines += [f"        what = {self.what}"]
        lines += [f"        if not issubclass({target}, nn.Module):"]
        lines += ['            raise TypeError(f"{what}, which is no nn.Module")']
        lines += self.lets([*passed, *held])
        lines += _row("        super().__init__(", self.passed(), ")")
        rows = [row for line in held for row in self.weights(line)]
        lines += _row("        check_weights(", ["self", "what", *rows], ")")
        lines += _row("        self._declared = (", ["what", *self.kept()], ")", comma=True)
        lines += ["        self.to(**kw)", ""]
        tensors = self.tensors()
        lines += _row("    def forward(", ["self", *(f"{t}: Tensor" for t in tensors)], ") -> Any:")
        lines += [f"        {', '.join(['what', *self.kept()])}{'' if self.kept() else ','} = self._declared"]
        lines += _row("        result = call_outside(", ["what", "super().forward", *tensors], ")")
        return [*lines, *self.sizes(), *self.lets(self.find(tree.Gives)), *self.checked("what")]

    def weights(self, line: tree.Held) -> Iterator[str]:
        for key, _, sizes in line.tensors:
            row = f"({', '.join([_quoted(line.kind), _quoted(key), *(self.translation.text(s, True) for s in sizes)])})"
            yield row if line.condition is None else f"*([{row}] if {self.translation.text(line.condition)} else [])"

    def function(self) -> list[str]:
        tensors = [f"{t}: Tensor" for t in self.tensors()]
        own = [f"{p.python}: Any" for p in self.signature.own]
        lines = _row(f"def {self.kind.made}(", [*tensors, *(["*"] if own else []), *own], ") -> Any:")
        lines += [f'    """{self.kind.imported} of {self.kind.module}, with sizes as the spec says."""']
        inner = [f"        what = {self.what}", *self.sizes()]
        inner += self.lets([*self.find(tree.Passed), *self.find(tree.Gives)])
        called = ["what", self.kind.imported, *self.tensors(), *self.passed()]
        inner += _row("        result = call_outside(", called, ")")
        return [*lines, *(line[4:] for line in [*inner, *self.checked("what")])]

    def parameters(self) -> list[str]:
        made = self.signature
        plain = [f"{p.python}: int" for p in made.sizes]
        plain += [f"{p.python}: Any" for p in made.own if p.default is REQUIRED]
        named = [f"{p.python}: Any = {_literal(p.default)}" for p in made.own if p.default is not REQUIRED]
        return ["self", *plain, *(["*", *named] if named else []), "**kw: Unpack[Factory]"]

    def tensors(self) -> list[str]:
        return [self.signature.names[f"input {name}"] for name in self.kind.names]

    def passed(self) -> list[str]:
        line = next((line for line in self.find(tree.Passed) if line.kind == "call"), None)
        if line is None:
            return [f"{p.name}={p.python}" for p in self.signature.own]
        return [
            f"{a.name}={self.translation.text(a.value)}" if a.name else self.translation.text(a.value)
            for a in line.arguments
        ]

    def lets(self, lines: Sequence[tree.ExternLine]) -> list[str]:
        """The values of the extern that lines need."""
        needed = _needed(self.syntax, lines)
        found = [line for line in self.syntax.lines if isinstance(line, tree.Let) and line.name.name in needed]
        return [
            f"        {self.signature.names[line.name.name]} = {self.translation.text(line.value)}" for line in found
        ]

    def kept(self) -> list[str]:
        """The parameters that `forward` needs."""
        needed = _needed(self.syntax, self.find(tree.Gives))
        return [p.python for p in self.signature.own if p.name in needed]

    def sizes(self) -> list[str]:
        """The lines of `forward` that read the sizes of the inputs."""
        used: list[tree.ExternLine] = [
            *self.find(tree.Gives),
            *(self.find(tree.Passed) if self.kind.is_function else []),
        ]
        needed = _needed(self.syntax, used)
        known = {p.name.name for p in self.syntax.parameters}
        found: list[str] = []
        (line,) = self.find(tree.Input)
        for number, (tensor, python) in enumerate(zip(line.tensors, self.tensors(), strict=True)):
            row = ["batch"] if not number else ["_"]
            for dimension in tensor.dimensions:
                value = dimension.value
                name = value.name if isinstance(value, tree.Name) else ""
                binds = name in needed and name in self.signature.names and name not in known
                row.append(self.signature.names[name] if binds else "_")
                known.add(name)
            if row != ["_"] * len(row):
                found.append(f"        {', '.join(row)} = {python}.shape")
        return found

    def checked(self, what: str) -> list[str]:
        (line,) = self.find(tree.Gives)
        rows = [", ".join(["batch", *(self.translation.text(s, True) for s in sizes)]) for sizes in line.tensors]
        return _row("        return check_result(", [what, "result", *(f"({row})" for row in rows)], ")")


def _row(start: str, items: Sequence[str], end: str, comma: bool = False) -> list[str]:
    """A list in brackets: on one line, or where that is too long, on a line each; `comma`: it is a tuple."""
    line = f"{start}{', '.join(items)}{',' if comma and len(items) == 1 else ''}{end}"
    if len(line) <= WIDTH:
        return [line]
    indent = " " * (len(start) - len(start.lstrip()))
    return [start.rstrip(), *(f"{indent}    {item}," for item in items), indent + end]


def _quoted(text: str) -> str:
    """A string in Python, in double quotes where that needs no escapes."""
    plain = text.isascii() and text.isprintable() and '"' not in text and "\\" not in text
    return f'"{text}"' if plain else ascii(text)


def _literal(value: object) -> str:
    return _quoted(value) if isinstance(value, str) else repr(value)
