"""Syntax errors in the user's words: what was found, what was expected, and a hint for the common mistakes."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Final

from lark.lexer import Token

from archdsl.diagnostics import Diagnostics, Fix, Mark, did_you_mean
from archdsl.source import Source, Span
from archdsl.syntax.lexer import span_of

_VALUE_STARTS: Final = frozenset(
    {"NAME", "INT", "FLOAT", "SIZE", "STRING", "TRUE", "FALSE", "NONE", "NOT", "SIGN", "LPAR", "LSQB"}
)
_ITEM_STARTS: Final = frozenset({"NAME", "STRING", "LPAR", "LBRACE", "RESIDUAL", "DENSE"})
_OPERATORS: Final = frozenset({"COMPARISON", "RANGE", "SIGN", "SCALE", "AND", "OR", "DOT", "LSQB", "LPAR"})
_DECLARATIONS: Final = frozenset({"FROM", "LET", "FN", "BLOCK", "MODEL", "DEFAULT"})
_STATEMENTS: Final = frozenset({"LET", "FOR", "REPEAT", "IF", "INPUT", "OUTPUT", "EXPECT", "REQUIRE", "DEFAULT"})
_OPERANDS: Final = frozenset({"NAME", "INT", "FLOAT", "SIZE", "STRING", "TRUE", "FALSE", "NONE", "RPAR", "RSQB"})

_WORDS: Final = {
    "NAME": "a name",
    "STRING": "a string",
    "INT": "a number",
    "NEWLINE": "the end of the line",
    "$END": "the end of the file",
    "ARROW": "`->`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "EQUAL": "`=`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "DOT": "`.`",
}

_FOREIGN_WORDS: Final = {
    "def": "a piece of network is declared with `block NAME(…) { … }`, a function on values with `fn NAME(…) = …`",
    "class": "a piece of network is declared with `block NAME(…) { … }`",
    "import": "names of another file are had with `from FILE import NAME, NAME`",
    "return": "a block gives back its last tensor, or what `output NAME` names",
    "elif": "write `else if`",
    "while": "a network has a fixed size: use `repeat n { … }` or `for x in … { … }`",
    "const": "write `let NAME = …`",
    "var": "write `let NAME = …`",
    "function": "write `fn NAME(…) = …`, or `block NAME(…) { … }` for a piece of network",
}

_DECLARATION_WORDS: Final = ("from", "let", "fn", "block", "model", "default")


@dataclass(frozen=True, slots=True)
class _Problem:
    """The token that does not fit, with what stands around it in its statement."""

    source: Source
    tokens: list[Token]
    index: int
    start: int
    accepted: Set[str]

    @property
    def found(self) -> Token:
        return self.tokens[self.index]

    def near(self, offset: int) -> Token | None:
        """A token of the same statement, counted from the one that does not fit."""
        i = self.index + offset
        return self.tokens[i] if self.start <= i < len(self.tokens) else None

    def kind(self, offset: int) -> str:
        token = self.near(offset)
        return token.type if token else ""

    def word(self, offset: int) -> str:
        token = self.near(offset)
        return str(token.value) if token else ""

    @property
    def head(self) -> Token:
        return self.tokens[min(self.start, self.index)]


def explain(
    source: Source, diagnostics: Diagnostics, tokens: list[Token], index: int, start: int, accepted: Set[str]
) -> None:
    """Reports the token at `index`, in the statement that starts at `start`, where only `accepted` terminals fit."""
    problem = _Problem(source, tokens, index, start, accepted)
    found = problem.found
    span = span_of(source, found)
    if found.type == "NEWLINE":
        span = Span(source, span.start, span.start)
    for rule in _HINTS:
        hint = rule(problem)
        if hint is not None:
            break
    else:
        hint = _Hint()
    message = hint.message or f"expected {_expected(accepted)}, found {_found(found)}"
    marks = [Mark(hint.span or span), *hint.marks]
    diagnostics.error("E0101", message, *marks, help=hint.help, fix=hint.fix)


def _found(token: Token) -> str:
    if token.type in ("NEWLINE", "$END"):
        return _WORDS[token.type]
    return f"`{token.value if len(token.value) <= 40 else token.value[:39] + '…'}`"


def _expected(accepted: Set[str]) -> str:
    rest = set(accepted)
    phrases = []
    if "INT" in rest:
        phrases.append("a value")
        rest -= _VALUE_STARTS
    elif "REQUIRE" in rest:
        phrases.append("a statement")
        rest -= _STATEMENTS | _ITEM_STARTS
    elif "DENSE" in rest:
        phrases.append("an item such as `conv(64, 3)`")
        rest -= _ITEM_STARTS
    elif "BLOCK" in rest:
        phrases.append("a declaration (`block`, `model`, `let`, `fn`, `from` or `default`)")
        rest -= _DECLARATIONS
    if "SCALE" in rest:
        rest -= _OPERATORS | {"IF"}
    if "ARROW" in rest:
        rest -= {"COLON", "LPAR"}
    if phrases or len(rest) > 1:
        rest -= {"NEWLINE"} if phrases else set()
    order = list(_WORDS)
    rest_phrases = sorted(rest, key=lambda t: order.index(t) if t in order else len(order))
    phrases += [_WORDS.get(t, f"`{t.lower()}`") for t in rest_phrases]
    if len(phrases) > 1 and phrases[-1] == _WORDS["$END"]:
        phrases.pop()
    if not phrases:
        return "nothing more"
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} or {phrases[-1]}"


# ---------------------------------------------------------------- hints: the first that applies is given


@dataclass(frozen=True, slots=True)
class _Hint:
    help: str | None = None
    message: str | None = None
    fix: Fix | None = None
    span: Span | None = None
    marks: tuple[Mark, ...] = ()


def _foreign_word(p: _Problem) -> _Hint | None:
    """A statement that begins with a keyword of another language."""
    word = str(p.head.value)
    if p.head.type == "NAME" and word in _FOREIGN_WORDS and p.index - p.start <= 2:
        return _Hint(_FOREIGN_WORDS[word], f"`{word}` is not a word of this language", span=span_of(p.source, p.head))
    return None


def _declaration(p: _Problem) -> _Hint | None:
    """Something at the outermost level of a file that is no declaration, or a declaration in a body."""
    if p.found.type in ("BLOCK", "MODEL", "FN", "FROM") and p.index == p.start:
        return _Hint("move it out, to the outermost level of the file", f"`{p.found.value}` cannot stand in a body")
    if "BLOCK" not in p.accepted or p.index != p.start:
        return None
    if p.found.type in ("INPUT", "OUTPUT", "EXPECT", "REQUIRE", "FOR", "REPEAT", "IF"):
        return _Hint(f"a `{p.found.value}` stands in the body of a block or model")
    if p.kind(1) == "NAME":
        return _Hint(did_you_mean(str(p.found.value), _DECLARATION_WORDS))
    if p.kind(1) == "EQUAL":
        return _Hint(f"a constant is declared with `let {p.found.value} = …`")
    if p.found.type == "STRING":
        return _Hint("documentation stands first in the body of a block or model; a comment starts with `#`")
    return _Hint("layers stand in a body: `model NAME() { … }`")


def _assignment(p: _Problem) -> _Hint | None:
    if p.found.type != "EQUAL":
        return None
    if p.kind(-1) == "NAME" and p.index == p.start + 1:
        name = p.word(-1)
        return _Hint(f"a label is written `{name}: …`, a value `let {name} = …`")
    if "COMPARISON" in p.accepted:
        return _Hint("equality is written `==`", fix=Fix(span_of(p.source, p.found), "=="))
    return None


def _equality(p: _Problem) -> _Hint | None:
    if p.found.type != "COMPARISON":
        return None
    if p.found.value == "==" and "EQUAL" in p.accepted:
        return _Hint("a value is given with `=`", fix=Fix(span_of(p.source, p.found), "="))
    if "SCALE" in p.accepted:
        return _Hint("join them with `and`: `a < b and b < c`", "comparisons cannot be chained")
    return None


def _colon_for_brace(p: _Problem) -> _Hint | None:
    if p.found.type == "COLON" and "LBRACE" in p.accepted:
        return _Hint("a body stands in braces: `{ … }`", fix=Fix(span_of(p.source, p.found), " {"))
    return None


def _brace_on_next_line(p: _Problem) -> _Hint | None:
    if p.found.type == "NEWLINE" and "LBRACE" in p.accepted and p.kind(1) == "LBRACE":
        return _Hint("put the `{` at the end of this line")
    return None


def _trailing_arrow(p: _Problem) -> _Hint | None:
    if p.kind(-1) == "ARROW" and p.found.type in ("RBRACE", "RPAR", "COMMA", "$END"):
        last = p.near(-1)
        assert last is not None
        return _Hint("remove the arrow, or name the item that it leads to", "this arrow leads nowhere", None, span_of(p.source, last))
    return None


def _tensor_arithmetic(p: _Problem) -> _Hint | None:
    merges = {"+": "add", "-": "sub", "*": "mul"}
    merge = merges.get(str(p.found.value))
    if merge and "ARROW" in p.accepted and "SCALE" not in p.accepted:
        return _Hint(f"tensors are merged by an operation: `(a, b) -> {merge}`")
    return None


def _module_name(p: _Problem) -> _Hint | None:
    if p.found.type == "DOT" and "ARROW" in p.accepted and p.kind(-1) == "NAME":
        return _Hint("an operation has a plain name: `conv(64, 3)`; a label with a dot is quoted")
    return None


def _statement_as_item(p: _Problem) -> _Hint | None:
    """`x: repeat 3 { … }`, `a -> for …`."""
    for offset in (0, -1, -2):
        if p.word(offset) in ("for", "repeat", "if", "let") and p.kind(offset - 1) in ("COLON", "ARROW"):
            word = p.word(offset)
            return _Hint(f"put it in braces: `{{ {word} … }}`", f"`{word}` is a statement, and cannot stand in a chain")
    return None


def _stray_string(p: _Problem) -> _Hint | None:
    if p.kind(-1) == "STRING" and p.accepted == {"COLON"}:
        last = p.near(-1)
        assert last is not None
        help = "documentation stands first in the body of a block or model; a quoted label is followed by `:`"
        return _Hint(help, "this string says nothing here", None, span_of(p.source, last))
    return None


def _body_after_call(p: _Problem) -> _Hint | None:
    if p.found.type == "LBRACE" and "ARROW" in p.accepted:
        head = next((str(p.word(o)) for o in range(-1, p.start - p.index - 1, -1) if p.word(o) in ("residual", "dense")), None)
        if head:
            return _Hint(f"`{head}` takes no arguments: `{head} {{ … }}`")
        return _Hint("a call takes no body; join items with `->`")
    return None


def _input_without_sizes(p: _Problem) -> _Hint | None:
    if p.accepted == {"LSQB"} and p.head.type == "INPUT":
        return _Hint(f"say its sizes, channels first: `{p.word(-1)}[C, H, W]` (`_` is any)")
    return None


def _missing_arrow(p: _Problem) -> _Hint | None:
    if "ARROW" not in p.accepted or p.found.type not in ("NAME", "RESIDUAL", "DENSE", "LPAR", "LBRACE", "STRING"):
        return None
    if p.kind(-1) in ("NAME", "RPAR", "RBRACE"):
        where = span_of(p.source, p.found)
        return _Hint("items in a chain are joined with `->`", fix=Fix(Span(p.source, where.start, where.start), "-> "))
    return None


def _missing_comma(p: _Problem) -> _Hint | None:
    if "COMMA" in p.accepted and p.kind(-1) in _OPERANDS and p.found.type in _OPERANDS and p.found.type[0] != "R":
        return _Hint("put a `,` between them")
    return None


def _one_statement_a_line(p: _Problem) -> _Hint | None:
    if p.kind(-1) == "RBRACE" and "NEWLINE" in p.accepted:
        return _Hint("start it on a line of its own")
    return None


_HINTS: Final[tuple[Callable[[_Problem], _Hint | None], ...]] = (
    _foreign_word,
    _declaration,
    _statement_as_item,
    _assignment,
    _equality,
    _colon_for_brace,
    _brace_on_next_line,
    _trailing_arrow,
    _tensor_arithmetic,
    _module_name,
    _stray_string,
    _body_after_call,
    _input_without_sizes,
    _missing_arrow,
    _missing_comma,
    _one_statement_a_line,
)
