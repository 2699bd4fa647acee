"""The names of a document: what each declares, where it is used, and where it can be seen.

This follows the elaborator's rules of scope, but without values, so that it also works where a spec is wrong.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from archdsl.augment import CHANGES
from archdsl.common.source import Source, Span
from archdsl.ops import BLOCKS, OPERATIONS
from archdsl.ops.declaration import Declaration
from archdsl.syntax import tree
from archdsl.values import BUILTINS

Kind = Literal[
    "block", "model", "function", "value", "extern", "augment", "import",
    "parameter", "label", "input", "size", "shared", "operation", "builtin", "word", "it",
]  # fmt: skip


@dataclass(slots=True, eq=False)
class Symbol:
    """Something with a name. `spans` are where it is declared, `uses` where it is used, in one document.

    `node` is the syntax that declares it, or the class of an operation. A parameter of a block, function or operation
    has an `owner`; `parameters` are those of this symbol, by name.
    """

    name: str
    kind: Kind
    node: object = None
    owner: Symbol | None = None
    spans: list[Span] = field(default_factory=list)
    uses: list[Span] = field(default_factory=list)
    parameters: dict[str, Symbol] = field(default_factory=dict)
    top: bool = False

    def parameter(self, name: str) -> Symbol:
        """The parameter of this name; one that is not declared here, as of what is imported, is made."""
        if name not in self.parameters:
            self.parameters[name] = Symbol(name, "parameter", None, self)
        return self.parameters[name]


@dataclass(frozen=True, slots=True, eq=False)
class ImportedName:
    """A name of an import, with the whole import: the `node` of its symbol."""

    declaration: tree.Import
    imported: tree.Imported

    @property
    def is_renamed(self) -> bool:
        """Whether it has another name here: `from layers import se as squeeze`."""
        return self.imported.alias.span != self.imported.name.span


@dataclass(slots=True, eq=False)
class Space:
    """A part of the text with names of its own, which are seen from their declaration on."""

    start: int
    end: int
    outer: Space | None = None
    symbols: dict[str, Symbol] = field(default_factory=dict)

    def find(self, name: str) -> Symbol | None:
        space: Space | None = self
        while space is not None:
            if name in space.symbols:
                return space.symbols[name]
            space = space.outer
        return None


@dataclass(slots=True, eq=False)
class Names:
    """The names of one document. `occurrences` are sorted by their place."""

    source: Source
    top: Space
    spaces: list[Space] = field(default_factory=list)
    occurrences: list[tuple[Span, Symbol]] = field(default_factory=list)
    unresolved: list[tree.Name] = field(default_factory=list)
    """The names whose meaning is not known."""
    unnamed_outputs: set[int] = field(default_factory=set)
    """Where labels begin that also name an output of the model, as in `output logits`."""
    passed: list[tuple[str, Span]] = field(default_factory=list)
    """The named arguments of calls whose callee is itself a parameter, so that their own parameters are not known."""

    def at(self, offset: int) -> tuple[Span, Symbol] | None:
        """The name at an offset, or right before it."""
        i = bisect_right(self.occurrences, offset, key=lambda o: o[0].start) - 1
        for span, symbol in reversed(self.occurrences[max(0, i - 1) : i + 1]):
            if span.start <= offset <= span.end:
                return span, symbol
        return None

    def seen_at(self, offset: int) -> dict[str, Symbol]:
        """The symbols that can be used at an offset, the nearest of each name."""
        found: dict[str, Symbol] = {}
        spaces = [s for s in self.spaces if s.start <= offset <= s.end]
        for space in sorted(spaces, key=lambda s: s.end - s.start):
            for name, symbol in space.symbols.items():
                if space.outer is None or any(span.end <= offset for span in symbol.spans):
                    found.setdefault(name, symbol)
        return found


def names_of(file: tree.File) -> Names:
    """The names of a parsed document."""
    return _Binder(file).names


class _Binder:
    """Walks the tree in the order of the text, and binds each name."""

    def __init__(self, file: tree.File) -> None:
        top = Space(0, len(file.source.text))
        self.names = Names(file.source, top, [top])
        self.known: dict[tuple[str, str], Symbol] = {}
        self.calls: list[tuple[Symbol, tuple[tree.Argument, ...]]] = []
        for declaration in file.declarations:
            self.announce(declaration, top)
        for declaration in file.declarations:
            self.declaration(declaration, top)
        for callee, arguments in self.calls:
            self.bind_arguments(callee, arguments)
        self.names.occurrences.sort(key=lambda o: (o[0].start, o[0].end))

    # ------------------------------------------------------------ what is recorded

    def declare(self, space: Space, name: tree.Name, kind: Kind, node: object = None) -> Symbol:
        symbol = space.symbols.get(name.name)
        if symbol is None:
            symbol = space.symbols[name.name] = Symbol(name.name, kind, node, top=space.outer is None)
        symbol.spans.append(name.span)
        self.names.occurrences.append((name.span, symbol))
        return symbol

    def use(self, span: Span, symbol: Symbol) -> None:
        symbol.uses.append(span)
        self.names.occurrences.append((span, symbol))

    def shared(self, kind: Kind, name: str, node: object = None) -> Symbol:
        """The symbol of something that no file declares."""
        return self.known.setdefault((kind, name), Symbol(name, kind, node))

    def open(self, outer: Space, span: Span) -> Space:
        space = Space(span.start, span.end, outer)
        self.names.spaces.append(space)
        return space

    # ------------------------------------------------------------ declarations

    def announce(self, declaration: tree.Declaration, top: Space) -> None:
        """Declares the names of a file, which may be used before their declaration."""
        match declaration:
            case tree.Import():
                for imported in declaration.names:
                    node = ImportedName(declaration, imported)
                    self.declare(top, imported.alias, "import", node)
                    if node.is_renamed:
                        self.use(imported.name.span, Symbol(imported.name.name, "import", node))
            case tree.Let():
                self.declare(top, declaration.name, "value", declaration)
            case tree.Function():
                self.declare(top, declaration.name, "function", declaration)
            case tree.Block():
                self.declare(top, declaration.name, "block", declaration)
            case tree.Model() | tree.Member():
                self.declare(top, declaration.name, "model", declaration)
            case tree.Extern():
                self.declare(top, declaration.name, "extern", declaration)
            case tree.Augment():
                self.declare(top, declaration.name, "augment", declaration)
            case tree.Default() | tree.Missing():
                pass

    def declaration(self, declaration: tree.Declaration, top: Space) -> None:
        match declaration:
            case tree.Let():
                self.value(declaration.value, top)
            case tree.Function():
                self.value(declaration.value, self.parameters(declaration, top))
            case tree.Block() | tree.Model():
                space = self.parameters(declaration, top)
                if isinstance(declaration, tree.Model):
                    self.augmented(declaration.augmented, top)
                self.statements(declaration.body.statements, space)
            case tree.Member():
                self.call(declaration.family, declaration.arguments, top)
                self.augmented(declaration.augmented, top)
            case tree.Extern():
                space = self.parameters(declaration, top)
                for line in declaration.lines:
                    self.extern_line(line, space)
            case tree.Augment():
                for chain in declaration.lines:
                    self.changes(chain, top)
            case tree.Default():
                self.call(declaration.operation, declaration.arguments, top)
            case tree.Import() | tree.Missing():
                pass

    def parameters(self, declaration: tree.Function | tree.Block | tree.Model | tree.Extern, top: Space) -> Space:
        space = self.open(top, declaration.span)
        owner = top.symbols[declaration.name.name]
        for parameter in declaration.parameters:
            if parameter.default is not None:
                self.value(parameter.default, space)
            symbol = self.declare(space, parameter.name, "parameter", parameter)
            symbol.owner = owner
            owner.parameters.setdefault(parameter.name.name, symbol)
        return space

    def augmented(self, name: tree.Name | None, top: Space) -> None:
        if name is not None:
            self.name(name, top)

    def changes(self, line: Iterable[tree.Change], top: Space) -> None:
        for change in line:
            if isinstance(change, tree.Call):
                cls = CHANGES.get(change.name.name)
                symbol = self.shared("operation", f"augment {change.name.name}", cls)
                self.use(change.name.span, symbol)
                self.arguments(symbol, change.arguments or (), top)
            else:
                for alternative in change.alternatives:
                    self.changes(alternative, top)

    def extern_line(self, line: tree.ExternLine, space: Space) -> None:
        match line:
            case tree.Let() | tree.Require() | tree.Input():
                self.statement(line, space)
            case tree.Gives():
                for value in (v for sizes in line.tensors for v in sizes):
                    self.value(value, space)
            case tree.Held():
                for _, _, sizes in line.tensors:
                    for value in sizes:
                        self.value(value, space)
                if line.condition is not None:
                    self.value(line.condition, space)
            case tree.Passed():
                for argument in line.arguments:
                    self.value(argument.value, space)

    # ------------------------------------------------------------ statements

    def statements(self, statements: Iterable[tree.Statement], space: Space) -> None:
        for statement in statements:
            self.statement(statement, space)

    def statement(self, statement: tree.Statement, space: Space) -> None:
        match statement:
            case tree.Chain():
                for item in statement.items:
                    self.item(item, space)
            case tree.Let():
                self.value(statement.value, space)
                self.declare(space, statement.name, "value", statement)
            case tree.For():
                self.value(statement.values, space)
                for name in statement.names:
                    self.declare(space, name, "value", statement)
                self.statements(statement.body.statements, space)
            case tree.Repeat():
                self.value(statement.count, space)
                self.statements(statement.body.statements, space)
            case tree.If():
                for condition, body in statement.branches:
                    self.value(condition, space)
                    self.statements(body.statements, space)
                if statement.otherwise is not None:
                    self.statements(statement.otherwise.statements, space)
            case tree.Input():
                for tensor in statement.tensors:
                    self.input(tensor, space)
            case tree.Output():
                for output in statement.tensors:
                    self.name(output.label, space)
                    if output.name.span.start == output.label.span.start:
                        self.names.unnamed_outputs.add(output.label.span.start)
            case tree.Expect():
                for value in statement.dimensions:
                    self.value(value, space)
            case tree.ExpectCost():
                self.use(statement.measure.span, self.shared("word", statement.measure.name))
                self.value(statement.bound, space)
            case tree.Require():
                self.value(statement.condition, space)
                if statement.message is not None:
                    self.value(statement.message, space)
            case tree.Share():
                self.item(statement.item, space)
                self.declare(space, statement.name, "shared", statement)
            case tree.Default():
                self.call(statement.operation, statement.arguments, space)
            case tree.Missing():
                pass

    def input(self, tensor: tree.InputTensor, space: Space) -> None:
        for dimension in tensor.dimensions:
            value = dimension.value
            if isinstance(value, tree.Name) and value.name != "_" and space.find(value.name) is None:
                self.declare(space, value, "size", dimension)
            elif not (isinstance(value, tree.Name) and value.name == "_"):
                self.value(value, space)
            if dimension.example is not None:
                self.value(dimension.example, space)
        self.declare(space, tensor.name, "input", tensor)

    # ------------------------------------------------------------ items

    def item(self, item: tree.Item, space: Space) -> None:
        match item:
            case tree.Call():
                self.call(item.name, item.arguments, space)
            case tree.Element():
                self.value(item.value, space)
            case tree.Body():
                self.statements(item.statements, self.open(space, item.span))
            case tree.Parallel():
                for branch in item.branches:
                    self.statement(branch, space)
            case tree.Residual():
                if item.condition is not None:
                    self.value(item.condition, space)
                if item.via is not None:
                    self.item(item.via, space)
                self.item(item.body, space)
            case tree.Dense():
                self.item(item.body, space)
            case tree.Windows():
                self.use(item.cut.name.span, self.shared("operation", item.cut.name.name, BLOCKS[item.cut.name.name]))
                self.arguments(self.shared("operation", item.cut.name.name), item.cut.arguments or (), space)
                self.item(item.body, space)
        if item.label is not None:
            self.label(item.label, item, space)

    def label(self, label: tree.Label | tree.Pattern, item: tree.Item, space: Space) -> None:
        match label:
            case tree.Pattern():
                for name in label.names:
                    if name.name != "_":
                        self.declare(space, name, "label", item)
            case tree.Label(quoted=False, parts=(str(text),)):
                span = Span(label.span.source, label.span.start, label.span.start + len(text))
                self.declare(space, tree.Name(span, text), "label", item)
            case tree.Label():
                for part in label.parts:
                    if not isinstance(part, str):
                        self.value(part, space)

    def call(self, name: tree.Name, arguments: Iterable[tree.Argument] | None, space: Space) -> None:
        symbol = self.meaning(name, space, called=True)
        if symbol is None:
            self.names.unresolved.append(name)
            symbol = Symbol(name.name, "word")
        else:
            self.use(name.span, symbol)
        self.arguments(symbol, tuple(arguments or ()), space)

    def arguments(self, callee: Symbol, arguments: Iterable[tree.Argument], space: Space) -> None:
        self.calls.append((callee, tuple(arguments)))
        cls = callee.node if isinstance(callee.node, type) and issubclass(callee.node, Declaration) else None
        for position, argument in enumerate(arguments):
            value = argument.value
            if cls is not None and isinstance(value, tree.Name):
                fields = list(cls.fields)
                name = argument.name or (fields[position] if position < len(fields) else "")
                if value.name in cls.words(name):
                    self.use(value.span, self.shared("word", value.name))
                    continue
                if argument.name is None and value.name in cls.switches() and space.find(value.name) is None:
                    self.use(value.span, callee.parameter(value.name))
                    continue
            self.value(value, space)

    def bind_arguments(self, callee: Symbol, arguments: Iterable[tree.Argument]) -> None:
        """Binds the names of named arguments, once all parameters are declared."""
        for argument in arguments:
            if argument.name is None:
                continue
            span = Span(argument.span.source, argument.span.start, argument.span.start + len(argument.name))
            if callee.kind in ("parameter", "value", "word"):
                self.names.passed.append((argument.name, span))
                continue
            family = _family(callee, self.names.top)
            self.use(span, family.parameter(argument.name))

    # ------------------------------------------------------------ values

    def value(self, value: tree.Value, space: Space) -> None:
        match value:
            case tree.Name():
                self.name(value, space)
            case tree.Apply():
                self.call(value.function, value.arguments, space)
            case tree.Literal() | tree.SizeLiteral():
                pass
            case tree.ListValue():
                for item in value.items:
                    self.value(item, space)
            case tree.Unary():
                self.value(value.operand, space)
            case tree.Binary():
                self.value(value.left, space)
                self.value(value.right, space)
            case tree.Conditional():
                for part in (value.then, value.condition, value.otherwise):
                    self.value(part, space)
            case tree.Index():
                self.value(value.base, space)
                self.value(value.index, space)
            case tree.Attribute():
                self.value(value.base, space)
            case tree.Range():
                self.value(value.start, space)
                self.value(value.stop, space)

    def name(self, name: tree.Name, space: Space) -> None:
        symbol = self.meaning(name, space, called=False)
        if symbol is not None:
            self.use(name.span, symbol)
        elif name.name != "_":
            self.names.unresolved.append(name)

    def meaning(self, name: tree.Name, space: Space, *, called: bool) -> Symbol | None:
        text = name.name
        found = space.find(text)
        if found is not None:
            return found
        if text == "it":
            return self.shared("it", "it")
        if text in OPERATIONS:
            return self.shared("operation", text, OPERATIONS[text])
        if text in BUILTINS:
            return self.shared("builtin", text)
        return None


def _family(symbol: Symbol, top: Space) -> Symbol:
    """The family or model that declares the parameters of a model, through any number of members."""
    seen = {symbol}
    while isinstance(symbol.node, tree.Member):
        found = top.symbols.get(symbol.node.family.name)
        if found is None or found in seen:
            break
        seen.add(found)
        symbol = found
    return symbol


def declared(names: Names) -> Iterator[Symbol]:
    """The symbols that the document declares."""
    seen: set[Symbol] = set()
    for _, symbol in names.occurrences:
        if symbol.spans and symbol not in seen:
            seen.add(symbol)
            yield symbol
