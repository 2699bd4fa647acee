"""The parser's callbacks for `extern` declarations, as those of `builder`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from archdsl.common.source import Source, Span
from archdsl.diagnostics import Diagnostics
from archdsl.syntax import tree
from archdsl.syntax.lexer import Lexeme

Children: TypeAlias = list[Any]


class ExternRules:
    """One method for each rule of an `extern` in the grammar."""

    source: Source
    diagnostics: Diagnostics

    if TYPE_CHECKING:  # the builder has them

        def span(self, children: Children) -> Span: ...
        def token_span(self, token: Lexeme) -> Span: ...
        def defined(self, token: Lexeme) -> tree.Name: ...
        def text_of(self, token: Lexeme) -> str: ...

    def extern(self, children: Children) -> tree.Extern:
        doc, lines, closing = children[-1]
        target = children[-2]
        is_function = children[1].kind == "FN"
        parameters = next((c.items for c in children[2:-2] if not isinstance(c, Lexeme)), ())
        return tree.Extern(
            self.span([children[0], closing]),
            self.defined(children[1 + is_function]),
            parameters,
            is_function,
            self.text_of(target),
            self.token_span(target),
            doc,
            lines,
        )

    def extern_lines(self, children: Children) -> tuple[str | None, tuple[tree.ExternLine, ...], Lexeme]:
        doc = next((self.text_of(c) for c in children if type(c) is Lexeme and c.kind == "STRING"), None)
        return doc, tuple(next((c for c in children if isinstance(c, list)), [])), children[-1]

    def gives(self, children: Children) -> tree.Gives:
        given = children[1]
        if isinstance(given, list):
            for tensor in given:
                for dimension in tensor.dimensions:
                    if dimension.example is not None:
                        help = "write the size alone: a result has the sizes that it has"
                        self.diagnostics.error("E0101", "an output has no example size", dimension.span, help=help)
            sizes = tuple(tuple(d.value for d in tensor.dimensions) for tensor in given)
            return tree.Gives(self.span([children[0], given[-1]]), sizes)
        return tree.Gives(self.span(children), (given.items,))

    def tensor(self, children: Children) -> tuple[str, Span, tuple[tree.Value, ...]]:
        name, sizes = children
        text = self.text_of(name) if name.kind == "STRING" else name.text
        return text, self.span(children), sizes.items

    def kind(self, children: Children) -> Lexeme:
        word: Lexeme = children[0]
        return word

    def held(self, children: Children) -> tree.Held:
        word, tensors = children[:2]
        condition = children[3] if len(children) == 4 else None
        end = tensors[-1][1].end if condition is None else condition.span.end
        return tree.Held(Span(self.source, word.start, end), word.text, tuple(tensors), condition)

    def passed(self, children: Children) -> tree.Passed:
        return tree.Passed(self.span(children), children[0].text, children[1].items)

    def macs(self, children: Children) -> tree.Passed:
        value = children[1]
        return tree.Passed(self.span(children), "macs", (tree.Argument(value.span, None, value),))
