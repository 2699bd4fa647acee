"""Writes a tree of Python as text, laid out as ruff format and Black lay it out.

A statement that does not fit in a line is broken by its structure: at the last of its brackets, or at its operators.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import EllipsisType

from archdsl.backends.python import tree as py
from archdsl.backends.python.tree import call, spelt

WIDTH = 88

PRECEDENCE: Mapping[str, int] = {
    **{"or": 1, "and": 2, "|": 5, "&": 6, "+": 7, "-": 7},
    **dict.fromkeys(("*", "/", "//", "%"), 8),
    "**": 10,
}
COMPARISON = 4
ATOM = 11


def precedence(expr: py.Expr) -> int:
    """How tightly an expression binds: an operand that binds less tightly than it must gets parentheses."""
    match expr:
        case py.If():
            return 0
        case py.Binary(sign):
            return PRECEDENCE.get(sign, COMPARISON)
        case py.Not():
            return 3
        case py.Compare():
            return COMPARISON
        case py.Negative():
            return 9
        case py.Const(int() | float() as value) if not isinstance(value, bool) and value < 0:
            return 9
        case py.Format(parts) if is_sum(parts):
            return PRECEDENCE["+"]
    return ATOM


# ---------------------------------------------------------------- in one line


def text(expr: py.Expr) -> str:
    """The expression in one line."""
    bracket = bracketed(expr)
    if bracket is not None:
        return bracket.head + bracket.brackets[0] + bracket.inside + bracket.brackets[1]
    before, last = ending(expr)
    if last is not expr:
        return before + text(last)
    match expr:
        case py.Const(value):
            return literal(value)
        case py.Var(name):
            return name
        case py.Attribute(base, name):
            return f"{text(enclosed(base, ATOM))}.{name}"
        case py.Row(items):
            return ", ".join(map(text, items))
        case py.Slice(start, stop, step):
            parts = (start, stop) if step is None else (start, stop, step)
            sides = [text(side) if side is not None else "" for side in parts]
            plain = all(side.replace("-", "").isalnum() for side in sides if side)
            return ":".join(sides) if plain else " : ".join(sides).strip().replace(":  :", "::")
        case py.Format(parts):
            return formatted(parts)
        case py.Parameter(name, annotation, default):
            return name + typed(annotation) + (f" = {text(default)}" if default is not None else "")
        case py.Compare(operands, signs):
            first, *rest = [text(enclosed(operand, COMPARISON + 1)) for operand in operands]
            return " ".join([first, *(f"{sign} {part}" for sign, part in zip(signs, rest, strict=True))])
        case _:
            raise TypeError(type(expr).__name__)


def typed(annotation: py.Expr | None) -> str:
    return f": {text(annotation)}" if annotation is not None else ""


def enclosed(expr: py.Expr, least: int) -> py.Expr:
    """The expression, in parentheses where it binds less tightly than it has to."""
    return expr if precedence(expr) >= least else py.Parens(expr)


def ending(expr: py.Expr) -> tuple[str, py.Expr]:
    """The text before the last part of an expression, and that part: the expression itself where it has no parts."""
    match expr:
        case py.Keyword(name, value):
            return f"{name}=" if name else "**", value
        case py.Star(value):
            return "*", value
        case py.Pair(key, value):
            return f"{text(key)}: ", value
        case py.Negative(operand):
            return "-", enclosed(operand, ATOM if isinstance(operand, py.Binary) else 9)
        case py.Not(operand):
            return "not ", enclosed(operand, 3)
        case py.If(condition, then, otherwise):
            return f"{text(enclosed(then, 1))} if {text(enclosed(condition, 1))} else ", otherwise
        case py.Binary("**", base, exponent):
            exponent = enclosed(exponent, 9)
            sign = "**" if is_simple(base) and is_simple(exponent) else " ** "
            return text(enclosed(base, ATOM)) + sign, exponent
        case py.Binary():
            *before, (sign, last) = chain(expr)
            return "".join(f"{s}{' ' * bool(s)}{text(part)} " for s, part in before) + f"{sign} ", last
        case _:
            return "", expr


def is_simple(expr: py.Expr) -> bool:
    """Whether a `**` beside it has no spaces: a name, a number, an attribute of a name."""
    match expr:
        case py.Attribute(base):
            return is_simple(base) and not isinstance(base, py.Const)
        case py.Negative(operand):
            return is_simple(operand)
        case _:
            return isinstance(expr, py.Var | py.Const)


def chain(expr: py.Binary) -> list[tuple[str, py.Expr]]:
    """The operands of a row of operators that bind alike, each with the operator before it."""
    level = precedence(expr)
    found: list[tuple[str, py.Expr]] = []
    left: py.Expr = expr
    while isinstance(left, py.Binary) and precedence(left) == level and (left is expr or level != COMPARISON):
        found += reversed(right_side(left.operator, left.right, level))
        left = left.left
    return [("", enclosed(left, level + (level == COMPARISON))), *found[::-1]]


def right_side(operator: str, right: py.Expr, level: int) -> list[tuple[str, py.Expr]]:
    """An operator with what is behind it: several operands where parentheses would make no difference."""
    if operator in ("and", "or", "+", "*") and isinstance(right, py.Binary) and precedence(right) == level:
        (_, first), *rest = chain(right)
        if operator != "*" or all(sign == "*" for sign, _ in rest):
            return [(operator, first), *rest]
    return [(operator, enclosed(right, level + 1))]


def last_part(expr: py.Expr) -> tuple[str, py.Expr]:
    """The text before what an expression ends in, and that: something in brackets, or with no parts at all."""
    before = ""
    while True:
        start, last = ending(expr)
        if last is expr:
            return before, expr
        before, expr = before + start, last


@dataclass(frozen=True, slots=True)
class Bracket:
    """Something that ends in brackets. `group`: what is in them is one thing, which takes no comma behind it."""

    head: str
    brackets: str
    items: Sequence[py.Expr]
    group: bool = False
    clause: str = ""
    """The clauses of a comprehension, behind its element."""

    @property
    def single(self) -> bool:
        """Whether it is a tuple of one, which has a comma wherever it occurs."""
        return not self.head and self.brackets == "()" and len(self.items) == 1 and not self.group

    @property
    def inside(self) -> str:
        return ", ".join(map(text, self.items)) + "," * self.single + self.clause


def bracketed(expr: py.Expr) -> Bracket | None:
    """The brackets that an expression is, or ends in itself."""
    match expr:
        case py.Call(function, arguments):
            return Bracket(text(enclosed(function, ATOM)), "()", arguments)
        case py.Apply(function, arguments):
            return Bracket(function, "()", arguments)
        case py.Item(base, py.Row(items)):
            return Bracket(text(enclosed(base, ATOM)), "[]", items)
        case py.Item(base, index):
            return Bracket(text(enclosed(base, ATOM)), "[]", (index,), group=True)
        case py.Parens(inner):
            return Bracket("", "()", (inner,), group=True)
        case py.Tuple(items):
            return Bracket("", "()", items)
        case py.List(items):
            return Bracket("", "[]", items)
        case py.Dict(pairs):
            return Bracket("", "{}", pairs)
        case py.Comprehension(element, target, source, condition, brackets):
            only = f" if {text(condition)}" if condition is not None else ""
            clause = f" for {text(target)} in {text(source)}{only}"
            return Bracket("", brackets, (element,), group=True, clause=clause)
        case py.Const(tuple() | list() | py.Layer()):
            return bracketed(spelt(expr.value))
        case _:
            return None


def literal(value: object) -> str:
    """A value as a Python literal, in the form that formatters leave alone."""
    match value:
        case EllipsisType():
            return "..."
        case int() if value.bit_length() > 128:  # Python prints no ints of more than some thousand digits
            return hex(value)
        case None | bool() | int():
            return str(value)
        case float():
            return repr(value) if value == value and abs(value) != float("inf") else f'float("{value}")'
        case str():
            return quoted(value)
        case tuple() | list() | py.Layer():
            return text(spelt(value))
        case _:
            raise TypeError(type(value).__name__)


def quoted(value: str) -> str:
    """A string literal in double quotes, in single ones where that saves escapes; nothing in it can end it."""
    mark = "'" if '"' in value and "'" not in value else '"'
    return mark + escaped(value).replace(mark, "\\" + mark) + mark


def escaped(value: str) -> str:
    """Text with backslashes and whatever does not print as escapes."""
    return "".join(map(_escape, value))


def _escape(char: str) -> str:
    if char == "\\":
        return "\\\\"
    return char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii")


def is_sum(parts: Sequence[str | py.Expr]) -> bool:
    """Whether an f-string has to be a sum of strings: in Python 3.11 its braces hold neither its quotes nor `\\`."""
    inner = [text(part) for part in parts if isinstance(part, py.Expr)]
    return any("\\" in part or ('"' in part and "'" in part) for part in inner)


def formatted(parts: Sequence[str | py.Expr]) -> str:
    """An f-string."""
    if is_sum(parts):
        return " + ".join(quoted(part) if isinstance(part, str) else f"str({text(part)})" for part in parts)
    found = [
        escaped(part).replace('"', '\\"').replace("{", "{{").replace("}", "}}")
        if isinstance(part, str)
        else "{" + text(part).replace('"', "'") + "}"
        for part in parts
    ]
    return f'f"{"".join(found)}"'


# ---------------------------------------------------------------- in several lines


def item(expr: py.Expr, indent: int, before: str = "", end: str = "") -> list[str]:
    """Something on a line of its own, between `before` and `end`; broken at its operators, or else in its brackets."""
    line = " " * indent + before + text(expr) + end
    parts = pieces(expr)
    if len(line) <= WIDTH or len(parts) == 1:
        return [line] if len(line) <= WIDTH else split(expr, indent, before, end)
    found: list[str] = []
    for number, (sign, part) in enumerate(parts):
        found += item(part, indent, sign if number else before, end if number == len(parts) - 1 else "")
    return found


def pieces(expr: py.Expr) -> list[tuple[str, py.Expr]]:
    """The parts of an expression that have lines of their own where it is broken at operators, each with its sign."""
    match expr:
        case py.If(condition, then, otherwise):
            (_, first), *rest = pieces(otherwise) if isinstance(otherwise, py.If) else [("", otherwise)]
            return [("", enclosed(then, 1)), ("if ", enclosed(condition, 1)), ("else ", first), *rest]
        case py.Binary(sign) if precedence(expr) != COMPARISON and sign != "**":
            return [(f"{sign} ", part) for sign, part in chain(expr)]
        case _:
            return [("", expr)]


def split(expr: py.Expr, indent: int, before: str = "", end: str = "") -> list[str]:
    """With what is in the last brackets on lines of its own; in one line where it does not end in brackets."""
    pad, inner = " " * indent, indent + 4
    start, last = last_part(expr)
    bracket = bracketed(last)
    if bracket is None or not bracket.inside:
        return [pad + before + text(expr) + end]
    head = f"{pad}{before}{start}{bracket.head}{bracket.brackets[0]}"
    tail = f"{pad}{bracket.brackets[1]}{end}"
    fits = inner + len(bracket.inside) <= WIDTH
    many = not bracket.head and len(bracket.items) > 1
    if fits and not (many or bracket.single):
        body = [" " * inner + bracket.inside]
    elif isinstance(last, py.Comprehension):
        clause, source = f"for {text(last.target)} in ", last.source
        if last.condition is not None:
            clause, source = f"{clause}{text(source)} if ", last.condition
        body = [*item(last.element, inner), *item(source, inner, clause)]
    elif bracket.group:
        body = item(bracket.items[0], inner)
    else:
        body = [line for part in bracket.items for line in item(part, inner, end=",")]
    return [head, *body, tail]


def value_lines(value: py.Expr, indent: int) -> list[str]:
    """The right side of an assignment that does not fit on its line; the first line comes without its indentation."""
    pad, inner = " " * indent, indent + 4
    if not (isinstance(value, py.If) or adds(value)) and bracketed(last_part(value)[1]) is not None:
        first, *rest = split(value, indent)
        return [first.lstrip(), *rest]
    match value:
        case py.Binary("*" | "/" as sign, left, py.Const() | py.Var() as factor) if re.fullmatch(r"\w+", text(factor)):
            group = enclosed(left, precedence(value))
            if isinstance(group, py.Parens):
                return ["(", *item(group.inner, inner), f"{pad}) {sign} {text(factor)}"]
    if inner + len(text(value)) > WIDTH and len(pieces(value)) == 1:
        return [text(value)]
    return ["(", *item(value, inner), f"{pad})"]


def adds(expr: py.Expr) -> bool:
    """Whether it has operators outside of brackets, at which it can be broken."""
    match expr:
        case py.Binary("**", left, right):
            return adds(left) or adds(right)
        case py.Binary():
            return any(sign in ("|", "+", "-", "*", "/") or adds(part) for sign, part in chain(expr))
        case py.Row(items):
            return any(map(adds, items))
        case py.Not(operand):
            return adds(operand)
        case _:
            return False


# ---------------------------------------------------------------- statements


def lines(statements: Sequence[py.Statement], indent: int = 0) -> list[str]:
    """The lines of statements, with an empty one around each function and behind an import."""
    found: list[str] = []
    before: py.Statement | None = None
    for statement in statements:
        written = statement_lines(statement, indent)
        if before is not None and (isinstance(before, py.Function | py.Import) or isinstance(statement, py.Function)):
            found.append("")
        found += written
        before = statement if written else before
    return found


def statement_lines(statement: py.Statement, indent: int) -> list[str]:
    pad = " " * indent
    match statement:
        case py.Assign(target, value, sign, annotation, comment):
            name = text(target) + typed(annotation)
            if value is None:
                return simple(name, indent, comment) or [pad + name]
            head = f"{name} {sign} "
            return simple(head + text(value), indent, comment) or assigned(target, head, value, indent)
        case py.Do(value, keyword, comment):
            if value is None:
                return [pad + keyword]
            before = f"{keyword} " if keyword else ""
            broken = with_value if keyword == "return" else split
            return simple(before + text(value), indent, comment) or broken(value, indent, before)
        case py.For(target, source, body):
            return [*item(source, indent, f"for {text(target)} in ", ":"), *block(body, indent)]
        case py.Branches(branches):
            return branch_lines(branches, indent)
        case py.Function(name, parameters, result, body, decorator):
            above = [f"{pad}@{text(decorator)}"] if decorator is not None else []
            signature = item(call(name, *parameters), indent, "def ", f" -> {text(result)}:")
            return [*above, *signature, *block(body, indent)]
        case py.Class(name, base, body):
            return [f"{pad}class {name}({text(base)}):", *block(body, indent)]
        case py.Doc(words):
            return docstring(words, indent)
        case py.Import(words, comment):
            return simple(words, indent, comment) or [pad + words]
        case py.Source(words):
            return [pad + line if line else "" for line in words.strip("\n").split("\n")]
        case _:
            raise TypeError(type(statement).__name__)


def simple(line: str, indent: int, comment: str = "") -> list[str]:
    """A statement in one line, nothing where it does not fit. A comment that does not fit behind it is left out."""
    commented = f"{line}  # {comment}" if comment else line
    return next(([" " * indent + found] for found in (commented, line) if indent + len(found) <= WIDTH), [])


def with_value(value: py.Expr, indent: int, before: str) -> list[str]:
    first, *rest = value_lines(value, indent)
    return [" " * indent + before + first, *rest]


def assigned(target: py.Expr, before: str, value: py.Expr, indent: int) -> list[str]:
    """An assignment that does not fit in a line."""
    found = with_value(value, indent, before)
    if not isinstance(target, py.Row) or len(found[0]) <= WIDTH:
        return found
    pad = " " * indent
    return [f"{pad}(", *(f"{pad}    {text(t)}," for t in target.items), *item(value, indent, ") = ")]


def block(body: Sequence[py.Statement], indent: int) -> list[str]:
    return lines(body, indent + 4) or [" " * indent + "    pass"]


def branch_lines(branches: Sequence[tuple[py.Expr | None, Sequence[py.Statement]]], indent: int) -> list[str]:
    pad = " " * indent
    found: list[str] = []
    for number, (test, body) in enumerate(branches):
        word = "elif" if number else "if"
        if test is None:
            found.append(f"{pad}else:")
        elif indent + len(word) + len(text(test)) + 2 <= WIDTH:
            found.append(f"{pad}{word} {text(test)}:")
        else:
            found += [f"{pad}{word} (", *item(test, indent + 4), f"{pad}):"]
        found += block(body, indent)
    return found


def module(parts: Iterable[py.Statement]) -> str:
    """The text of a file's definitions, with two empty lines between them; what is said of a constant is below it."""
    found: list[str] = []
    for before, part in pairwise([None, *parts]):
        assert part is not None
        if before is not None and not (isinstance(before, py.Assign) and isinstance(part, py.Doc)):
            found += ["", ""]
        found += statement_lines(part, 0)
    return "\n".join(found) + "\n"


def docstring(words: str, indent: int) -> list[str]:
    """A documentation string, whatever it holds; long paragraphs are wrapped."""
    pad = " " * indent
    paragraphs = words.replace("\r\n", "\n").replace("\t", " ").strip(" \n").split("\n")
    first, *others = [in_docstring(paragraph.strip(" ")) for paragraph in paragraphs]
    if not others and indent + len(first) + 6 <= WIDTH:
        return [f'{pad}"""{first}"""'] if first else []
    start, *more = wrapped(first, WIDTH - indent - 3)
    found = [start, *(wrapped(" ".join(more), WIDTH - indent) if more else [])]
    found += [line for paragraph in others for line in wrapped(paragraph, WIDTH - indent)]
    if len(found) == 1:  # one line with its quotes would be too long, and formatters would join them
        start, _, last = start.rpartition(" ")
        if not start:
            return [f'{pad}"""{last}"""']
        found = [start, last]
    return [f'{pad}"""{found[0]}', *(pad + line if line else "" for line in found[1:]), f'{pad}"""']


def in_docstring(words: str) -> str:
    """A line for a docstring: no quote may meet another one, or those around the text."""
    whole = words.encode("utf-8", "backslashreplace").decode()  # halves of characters, which no class can have
    return re.sub(r'^"|"(?="|$)', r'\\"', escaped(whole))


def wrapped(words: str, width: int) -> list[str]:
    return textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False) or [""]
