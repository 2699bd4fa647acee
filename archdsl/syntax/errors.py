"""Readable syntax errors: what was found, what was expected, and hints for common mistakes.

Most hints are for habits from Python and PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from itertools import count
from typing import Final

from archdsl.common.source import Source, Span
from archdsl.diagnostics import Diagnostics, Fix, did_you_mean, proposed
from archdsl.ops import OPERATIONS, aliases
from archdsl.syntax.lexer import Lexeme, span_of

_VALUE_STARTS: Final = frozenset(
    {"NAME", "INT", "FLOAT", "SIZE", "STRING", "TRUE", "FALSE", "NONE", "NOT", "SIGN", "LPAR", "LSQB"}
)
_ITEM_STARTS: Final = frozenset({"NAME", "STRING", "LPAR", "LBRACE", "RESIDUAL", "DENSE", "SCOPE", "WINDOWS", "GRID"})
_OPERATORS: Final = frozenset(
    {"COMPARISON", "RANGE", "SIGN", "SCALE", "POWER", "DOT", "LSQB", "LPAR", "AND", "OR", "IF"}
)
_DECLARATIONS: Final = frozenset({"FROM", "LET", "FN", "BLOCK", "MODEL", "AUGMENT", "EXTERN", "DEFAULT"})
_STATEMENTS: Final = frozenset(
    {"LET", "FOR", "REPEAT", "IF", "INPUT", "OUTPUT", "EXPECT", "REQUIRE", "DEFAULT", "SHARE"},
)
_OPERANDS: Final = frozenset({"NAME", "INT", "FLOAT", "SIZE", "STRING", "TRUE", "FALSE", "NONE", "RPAR", "RSQB"})
_EXTERN_LINES: Final = frozenset(
    {"LET", "REQUIRE", "INPUT", "OUTPUT", "CALL", "WEIGHT", "FROZEN", "BUFFER", "COUNTER", "MACS", "FIELD"},
)

_WORDS: Final = {
    "NAME": "a name",
    "STRING": "a string",
    "INT": "a number",
    "ARROW": "`->`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "EQUAL": "`=`",
    "COMPARISON": "a comparison such as `==`",
    "DOT": "`.`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "NEWLINE": "the end of the line",
    "$END": "the end",
}

_FOREIGN_WORDS: Final = {
    "def": "declare a block with `block NAME(…) { … }`, a function of values with `fn NAME(…) = …`",
    "class": "declare a block with `block NAME(…) { … }`",
    "function": "declare a block with `block NAME(…) { … }`, a function of values with `fn NAME(…) = …`",
    "import": "import names with `from FILE import NAME, NAME`",
    "return": "a block returns its last tensor, or what `output NAME` names",
    **dict.fromkeys(("elif", "elseif"), "write `else if`"),
    "while": "a network has a fixed size: use `repeat n { … }` or `for x in … { … }`",
    "const": "write `let NAME = …`",
    "var": "write `let NAME = …`",
    "lambda": "declare a function with `fn NAME(…) = …`",
}


@dataclass(frozen=True, slots=True)
class _Problem:
    """The token that does not fit, in the statement that starts at index `start`; `accepted` terminals fit."""

    source: Source
    tokens: list[Lexeme]
    index: int
    start: int
    accepted: Set[str]

    @property
    def found(self) -> Lexeme:
        return self.tokens[self.index]

    @property
    def head(self) -> Lexeme:
        """The first token of the statement."""
        return self.tokens[min(self.start, self.index)]

    def kind(self, offset: int) -> str:
        """The kind of a token in the same statement, relative to the one that does not fit; empty if there is none."""
        i = self.index + offset
        return self.tokens[i].kind if self.start <= i < len(self.tokens) else ""

    def word(self, offset: int) -> str:
        i = self.index + offset
        return str(self.tokens[i].text) if self.start <= i < len(self.tokens) else ""

    def span(self, offset: int = 0) -> Span:
        return span_of(self.source, self.tokens[self.index + offset])

    def ends_line(self) -> bool:
        """Whether the line ends before the token, though its newline was dropped, as before `}`."""
        if self.found.kind == "NEWLINE":
            return True
        if self.found.kind not in ("RBRACE", "$END") or self.index == 0:
            return False
        return "\n" in self.source.text[self.tokens[self.index - 1].end : self.found.start]


@dataclass(frozen=True, slots=True)
class _Hint:
    """The help; if `message` and `span` are set, they replace "expected …, found …" and its location."""

    help: str | None = None
    message: str | None = None
    span: Span | None = None
    fix: Fix | None = None


def explain(
    source: Source, diagnostics: Diagnostics, tokens: list[Lexeme], index: int, start: int, accepted: Set[str]
) -> None:
    """Reports the token at `index`, in the statement that starts at `start`, where only `accepted` terminals fit."""
    problem = _Problem(source, tokens, index, start, accepted)
    hint = next((h for rule in _HINTS if (h := rule(problem)) is not None), _Hint())
    span = problem.span()
    if problem.ends_line():
        at = tokens[index - 1].end if index else span.start
        span = Span(source, at, at)
    message = hint.message or f"expected {_expected(accepted)}, found {_found(problem)}"
    diagnostics.error("E0101", message, hint.span or span, help=hint.help, proposals=proposed(hint.help, hint.fix))


def _found(problem: _Problem) -> str:
    if problem.ends_line():
        return _WORDS["NEWLINE"]
    token = problem.found
    if token.kind == "$END":
        # An expression in a quoted label ends at its brace, not at the end of the text.
        return "`}`" if problem.source.text[token.start : token.start + 1] == "}" else "the end of the text"
    text = str(token.text).strip()
    return f"`{text if len(text) <= 40 else text[:39] + '…'}`"


def _expected(accepted: Set[str]) -> str:
    rest = set(accepted)
    phrases = []
    if "INT" in rest:
        phrases.append("a value")
        rest -= _VALUE_STARTS
    elif "MACS" in rest:
        phrases.append("a line of an extern (`input`, `output`, `call`, `weight`, `frozen`, `buffer`, `counter`, …)")
        rest -= _EXTERN_LINES
    elif "REQUIRE" in rest:
        phrases.append("a statement")
        rest -= _STATEMENTS | _ITEM_STARTS
    elif "DENSE" in rest:
        phrases.append("an item such as `conv(64, 3)`")
        rest -= _ITEM_STARTS | {"FOR", "REPEAT", "IF"}
    elif "BLOCK" in rest:
        phrases.append("a declaration (`block`, `model`, `augment`, `extern`, `let`, `fn`, `from` or `default`)")
        rest -= _DECLARATIONS
    if phrases:
        rest -= {"NEWLINE", "$END"}
    elif rest - _OPERATORS:
        # Many tokens may follow a complete expression or item; name only those that end it.
        rest -= _OPERATORS if "AND" in rest else set()
        rest -= {"LPAR", "LSQB", "COLON"} if "ARROW" in rest else set()
        rest -= {"RBRACE", "$END"} if "NEWLINE" in rest else set()
    order = list(_WORDS)
    words = sorted(rest, key=lambda t: (order.index(t) if t in order else -1, t))
    phrases += [_WORDS.get(t, f"`{t.lower()}`") for t in words]
    if len(phrases) < 2:
        return phrases[0] if phrases else "nothing more"
    return f"{', '.join(phrases[:-1])} or {phrases[-1]}"


# ---------------------------------------------------------------- hints: the first that applies is given


def _foreign_word(p: _Problem) -> _Hint | None:
    """A statement that begins with a keyword of another language, or continues with one after `}`."""
    for offset in (0, p.start - p.index):
        word = p.word(offset)
        if word in _FOREIGN_WORDS and p.kind(offset) == "NAME" and offset >= -2:
            return _Hint(_FOREIGN_WORDS[word], f"`{word}` is not a keyword of this language", p.span(offset))
    return None


def _comment(p: _Problem) -> _Hint | None:
    if p.word(0) == "//" or (p.word(0) == "/" and p.word(1) == "*"):
        return _Hint("a comment starts with `#`")
    return None


def _import(p: _Problem) -> _Hint | None:
    if p.head.kind == "FROM" and p.word(0) == "*":
        return _Hint(f"list the names to import: `from {p.word(-2)} import NAME, NAME`")
    return None


def _name(p: _Problem) -> _Hint | None:
    """`my-net`, `my-conv:`."""
    adjacent = p.word(0) == "-" and p.kind(-1) == p.kind(1) == "NAME" and p.span(-1).end == p.found.start
    if not adjacent or p.found.end != p.span(1).start:
        return None
    if p.kind(2) == "COLON" and "ARROW" in p.accepted:
        return _Hint(f'quote a label that contains `-`: `"{p.word(-1)}-{p.word(1)}":`')
    if "LBRACE" in p.accepted:
        return _Hint(f"a name consists of letters, digits and `_`: `{p.word(-1)}_{p.word(1)}`")
    return None


def _declaration(p: _Problem) -> _Hint | None:
    """Something other than a declaration at the top level of a file, or a declaration in a body."""
    if p.found.kind in ("BLOCK", "MODEL", "AUGMENT", "EXTERN", "FN", "FROM") and "BLOCK" not in p.accepted:
        return _Hint("move it to the outermost level of the file", f"`{p.found.text}` is not allowed in a body")
    if "BLOCK" not in p.accepted or p.index != p.start:
        return None
    if p.found.kind in _STATEMENTS:
        return _Hint(f"`{p.found.text}` belongs in the body of a block or model")
    if p.kind(1) == "NAME":
        return _Hint(did_you_mean(p.word(0), [word.lower() for word in _DECLARATIONS]))
    if p.kind(1) == "EQUAL":
        return _Hint(f"declare a constant with `let {p.found.text} = …`")
    if p.found.kind == "STRING":
        return _Hint("documentation comes first in the body of a block or model; a comment starts with `#`")
    return _Hint("layers belong in a body: `model NAME { … }`")


def _statement_in_chain(p: _Problem) -> _Hint | None:
    """`x: repeat 3 { … }`, `a -> for …`."""
    for offset in (0, -1, -2):
        word = p.word(offset)
        if word in ("for", "repeat", "if", "let") and p.kind(offset - 1) in ("COLON", "ARROW"):
            return _Hint(f"put it in braces: `{{ {word} … }}`", f"`{word}` is a statement, not an item", p.span(offset))
    return None


def _stray_else(p: _Problem) -> _Hint | None:
    if p.word(-1) == "else" and p.found.kind == "LBRACE":
        return _Hint("write `else` after the `}` of an `if`", "this `else` has no `if`", p.span(-1))
    if (p.word(-2) == "else" and p.word(-1) == ":") or (p.kind(-1) == "ELSE" and p.found.kind == "NAME"):
        return _Hint("write `} else { … }`", "`else` needs a body in braces", p.span(-2 if p.word(-1) == ":" else -1))
    return None


def _equal_sign(p: _Problem) -> _Hint | None:
    if p.found.kind != "EQUAL":
        return None
    if p.kind(-1) == "NAME" and p.index == p.start + 1:
        before = Span(p.source, p.span(-1).end, p.span().end)
        return _Hint(f"write a label as `{p.word(-1)}: …`, a value `let {p.word(-1)} = …`", fix=Fix(before, ":"))
    if p.accepted & {"COMPARISON", "AND"}:
        return _Hint("write `==` to test equality", fix=Fix(p.span(), "=="))
    return None


def _comparison(p: _Problem) -> _Hint | None:
    if p.found.kind != "COMPARISON":
        return None
    if p.found.text == "==" and "EQUAL" in p.accepted:
        return _Hint("give a value with `=`", fix=Fix(p.span(), "="))
    if p.word(-1) == "<" and p.word(0) == ">":
        both = p.span(-1).to(p.span())
        return _Hint("write `!=`", "`<>` is not part of this language", both, Fix(both, "!="))
    if "AND" in p.accepted:
        return _Hint("join them with `and`: `a < b and b < c`", "comparisons cannot be chained")
    return None


def _colon(p: _Problem) -> _Hint | None:
    if p.found.kind != "COLON":
        return None
    if "LBRACE" in p.accepted:
        return _Hint("write a body in braces: `{ … }`", fix=Fix(p.span(), " {"))
    if "EQUAL" in p.accepted and p.head.kind in ("BLOCK", "MODEL", "FN", "EXTERN"):
        return _Hint(f"a parameter has no type; write a default with `=`: `{p.word(-1)} = 64`")
    if "EQUAL" in p.accepted or "COMMA" in p.accepted:
        return _Hint("give a value with `=`", fix=Fix(p.span(), " ="))
    if "RSQB" in p.accepted:
        return _Hint("slice a list with `..`: `list[1..3]`, `list[1..len(list)]`")
    return None


def _brace_on_next_line(p: _Problem) -> _Hint | None:
    if p.found.kind == "NEWLINE" and "LBRACE" in p.accepted and p.kind(1) == "LBRACE":
        return _Hint("put the `{` at the end of this line")
    return None


def _trailing_arrow(p: _Problem) -> _Hint | None:
    if p.kind(-1) == "ARROW" and p.found.kind in ("RBRACE", "RPAR", "COMMA", "NEWLINE", "$END"):
        return _Hint("remove the arrow, or add the item that it leads to", "this arrow leads nowhere", p.span(-1))
    return None


def _arrow_after_input(p: _Problem) -> _Hint | None:
    if p.head.kind == "INPUT" and p.found.kind == "ARROW":
        return _Hint("start the next line with an item: the input flows into it", "an `input` is not part of a chain")
    return None


def _tensor_arithmetic(p: _Problem) -> _Hint | None:
    merge = {"+": "add", "-": "sub", "*": "mul"}.get(p.word(0))
    if merge and "ARROW" in p.accepted and "SCALE" not in p.accepted:
        return _Hint(f"merge tensors with an operation: `(a, b) -> {merge}`")
    return None


def _element(p: _Problem) -> _Hint | None:
    """`input [3, H]`, `units[0](64)`: the value before the bracket is not a list of tensors."""
    if p.word(p.start - p.index) in ("input", "output") and p.kind(p.start - p.index + 1) == "LSQB":
        span = p.span(p.start - p.index + 1)
        return _Hint("give the tensor a name: `input image[3, H, W]`", "expected a name, found `[`", span)
    if p.found.kind == "LPAR" and p.kind(-1) == "RSQB" and "ARROW" in p.accepted:
        return _Hint("name it first: `let unit = units[…]`, then `unit(…)`")
    return None


def _qualified_name(p: _Problem) -> _Hint | None:
    if "ARROW" not in p.accepted or p.kind(-1) not in ("NAME", "RPAR"):
        return None
    if p.found.kind == "DOT" and p.kind(-1) == "RPAR":
        return _Hint("join items in a chain with `->`", fix=Fix(p.span(), " -> "))
    if p.found.kind == "DOT":
        here = aliases.operation(p.word(1), OPERATIONS) if p.kind(1) == "NAME" else None
        fix = Fix(p.span(-1).to(p.span(1)), here) if here is not None and here in OPERATIONS else None
        return _Hint("an operation has a plain name: `conv(64, 3)`; quote a label with a dot", fix=fix)
    return None


_NO_REFERENCE: Final = (
    "give the tensor a label without quotes, and refer to that; after a computed label, `-> x: it` names it `x`"
)


def _computed_label(p: _Problem) -> _Hint | None:
    """`x{i}_0: …`, and `x{i}_0` as a reference."""
    if p.found.kind != "LBRACE" or p.kind(-1) != "NAME" or p.span(-1).end != p.found.start:
        return None
    end = 1
    while p.kind(end) in ("NAME", "INT", "LBRACE", "RBRACE") and p.span(end - 1).end == p.span(end).start:
        end += 1
    if p.kind(1) not in ("NAME", "INT") or p.kind(2) != "RBRACE":
        return None
    whole = p.span(-1).to(p.span(end - 1))
    if p.kind(end) != "COLON":
        return _Hint(_NO_REFERENCE, "a computed label only names weights: it cannot be referred to", whole)
    quoted = f'"{whole.text}"'
    help = f"a computed label is quoted: `{quoted}: …`; it only names weights, and cannot be referred to"
    return _Hint(help, fix=Fix(whole, quoted))


def _stray_string(p: _Problem) -> _Hint | None:
    if p.kind(-1) != "STRING" or p.accepted != {"COLON"}:
        return None
    if p.found.kind in ("ARROW", "COMMA", "RPAR") and p.index - 1 != p.start:
        return _Hint(_NO_REFERENCE, "a quoted label only names weights: it cannot be referred to", p.span(-1))
    if p.found.kind == "SIGN":
        return _Hint('write a computed label as `"layer{i}":`')
    if p.found.kind == "ARROW":
        return _Hint(_NO_REFERENCE, "a quoted label only names weights: it cannot be referred to", p.span(-1))
    help = "documentation comes first in the body of a block or model; a quoted label is followed by `:`"
    return _Hint(help, "unexpected string", p.span(-1))


def _body_after_call(p: _Problem) -> _Hint | None:
    if p.found.kind != "LBRACE":
        return None
    if p.head.kind == "FN" and "EQUAL" in p.accepted:
        return _Hint("a function is one expression: `fn f(x) = …`; use `block` for layers")
    if "ARROW" in p.accepted:
        words = {p.word(offset) for offset in range(p.start - p.index, 0)}
        for word in ("residual", "dense"):
            if word in words:
                return _Hint(f"`{word}` takes no arguments: `{word} {{ … }}`")
        if (word := p.word(-1)) in ("windows", "grid"):
            return _Hint(f"give the size of a window: `{word}(7) {{ … }}`")
        return _Hint("a call has no body; join items with `->`")
    return None


def _input_without_sizes(p: _Problem) -> _Hint | None:
    if p.accepted == {"LSQB"} and p.head.kind == "INPUT":
        return _Hint(f"give its sizes, channels first: `{p.word(-1)}[C, H, W]` (`_` is any)")
    return None


def _prefixed_string(p: _Problem) -> _Hint | None:
    if p.found.kind == "STRING" and p.kind(-1) == "NAME" and p.span(-1).end == p.span().start:
        return _Hint(
            "remove the prefix; a quoted label may contain `{…}` without it", "a string has no prefix", p.span(-1)
        )
    return None


def _number_as_tensor(p: _Problem) -> _Hint | None:
    if p.found.kind in ("INT", "FLOAT") and p.kind(-1) in ("LPAR", "COMMA") and "NAME" in p.accepted:
        number = p.word(0)
        return _Hint(f"a number is no tensor: `rescale({number})` multiplies by it, `rescale(1, {number})` adds it")
    return None


def _conditional_skip(p: _Problem) -> _Hint | None:
    if (p.word(-2), p.word(-1)) == ("via", "if"):
        return _Hint("put the condition into the body of the skip: `residual via { if … { … } } { … }`")
    return None


def _missing_arrow(p: _Problem) -> _Hint | None:
    if "ARROW" not in p.accepted or p.kind(-1) not in ("NAME", "RPAR", "RBRACE"):
        return None
    if p.found.kind in ("INT", "FLOAT", "SIZE") and "LPAR" in p.accepted:
        return _Hint(f"write arguments in parentheses: `{p.word(-1)}({p.word(0)}, …)`")
    ends = (kind for kind in map(p.kind, count(1)) if kind in ("", "LBRACE", "NEWLINE", "ELSE"))
    if p.found.kind == "IF" and p.kind(-1) == "NAME" and next(ends) == "ELSE":
        return _Hint(f"a condition picks a tensor in braces: `if … {{ {p.word(-1)} }} else {{ … }}`")
    if p.found.kind in ("NAME", "IF") and p.word(0).upper() in _STATEMENTS and p.kind(1) in {*_OPERANDS, "LSQB"}:
        return _Hint(f"`{p.word(0)}` begins a statement: put it on a new line")
    if p.found.kind in _ITEM_STARTS:
        before = Span(p.source, p.found.start, p.found.start)
        return _Hint("join items in a chain with `->`", fix=Fix(before, "-> "))
    return None


def _missing_comma(p: _Problem) -> _Hint | None:
    if p.head.kind == "FOR" and "IN" in p.accepted:
        return _Hint(f"write `for {p.word(-1)} in … {{`")
    if "COMMA" not in p.accepted or p.kind(-1) not in _OPERANDS or p.found.kind not in _VALUE_STARTS:
        return None
    if p.kind(-1) == "INT" and p.word(0) == "x" and p.kind(1) == "INT":
        return _Hint(f"write a size as one word: `{p.word(-1)}x{p.word(1)}`")
    if p.word(0) == "for" and "RSQB" in p.accepted:
        return _Hint("write the list out, or compute it with an `fn`; in a body, `for x in … { … }` repeats items")
    return _Hint("put a `,` between them")


def _list_in_parentheses(p: _Problem) -> _Hint | None:
    if p.found.kind == "COMMA" and "RPAR" in p.accepted and "COMMA" not in p.accepted:
        numbers = [p.word(i) for i in (-1, 1, 3)[: 2 if p.kind(2) == "RPAR" else 3]]
        end = 2 * len(numbers) - 2
        plain = p.kind(-2) == "LPAR" and p.kind(end) == "RPAR" and all(n.isdigit() for n in numbers)
        fix = Fix(p.span(-2).to(p.span(end)), "x".join(numbers)) if plain else None
        return _Hint("write a size as `3x5`, a list as `[3, 5]`", fix=fix)
    return None


def _augmentation(p: _Problem) -> _Hint | None:
    if p.head.kind == "MODEL" and p.found.text in ("augment", "augmented") and "AUGMENTED" in p.accepted:
        return _Hint("`augmented` needs the name of an `augment` declaration: `model NAME augmented NAME { … }`")
    if p.head.kind == "AUGMENT" and p.found.kind == "LPAR" and p.accepted == {"LBRACE"}:
        return _Hint("an augmentation has no parameters; use a constant of the file, `let NAME = …`")
    return None


def _for_pattern(p: _Problem) -> _Hint | None:
    """`for (i, w) in …`."""
    if p.head.text == "for" and p.word(0) == "in" and p.kind(-1) == "RPAR":
        names = ", ".join(p.word(i) for i in range(p.start - p.index, -1) if p.kind(i) == "NAME" and p.word(i) != "for")
        return _Hint(f"write `for {names} in … {{`")
    return None


def _second_statement(p: _Problem) -> _Hint | None:
    if p.kind(-1) == "RBRACE" and "NEWLINE" in p.accepted:
        return _Hint("start it on a new line")
    return None


_HINTS: Final[tuple[Callable[[_Problem], _Hint | None], ...]] = (
    _foreign_word,
    _comment,
    _import,
    _name,
    _declaration,
    _statement_in_chain,
    _stray_else,
    _equal_sign,
    _comparison,
    _colon,
    _brace_on_next_line,
    _trailing_arrow,
    _arrow_after_input,
    _tensor_arithmetic,
    _element,
    _qualified_name,
    _stray_string,
    _computed_label,
    _body_after_call,
    _input_without_sizes,
    _prefixed_string,
    _number_as_tensor,
    _conditional_skip,
    _missing_arrow,
    _missing_comma,
    _list_in_parentheses,
    _augmentation,
    _for_pattern,
    _second_statement,
)
