"""Completion at the cursor: operations, visible names, parameters, words, imports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from archdsl.augment import CHANGES
from archdsl.common.source import Source
from archdsl.editing.cursor import Callee, Cursor, cursor
from archdsl.editing.hover import documentation, head
from archdsl.editing.names import Kind, Names, Symbol
from archdsl.editing.navigation import Project
from archdsl.elaborate.spec_files import find_import, library_families
from archdsl.ops import BLOCKS, OPERATIONS
from archdsl.ops.declaration import Declaration
from archdsl.ops.fields import shown
from archdsl.syntax import tree
from archdsl.values import BUILTINS


@dataclass(frozen=True, slots=True)
class Completion:
    """Something that may be written from `start` on. `kind` is that of a symbol, or `keyword`, `module`, `attribute`.

    `text` is written; where it `is_snippet`, `$1` … and `${1:name}` are its places to fill in. `rank` orders.
    """

    name: str
    kind: Kind | str
    detail: str = ""
    doc: str = ""
    text: str = ""
    is_snippet: bool = False
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Completions:
    """A proposal that replaces the text from `start` to the cursor."""

    start: int
    items: list[Completion]


DECLARATIONS: Final = {
    "block": "block ${1:name}(${2:width}) {\n    $0\n}",
    "model": "model ${1:name} {\n    input image[3, H = 224, W = 224]\n    $0\n}",
    "fn": "fn ${1:name}(${2:x}) = $0",
    "let": "let ${1:name} = $0",
    "from": "from ${1:module} import $0",
    "default": "default ${1:conv}($0)",
    "augment": "augment ${1:name} {\n    $0\n}",
    "extern": 'extern ${1:name}(${2:width}) = "${3:package.module:Class}" {\n    $0\n}',
}
STATEMENTS: Final = {
    "let": "let ${1:name} = $0",
    "for": "for ${1:x} in ${2:xs} {\n    $0\n}",
    "repeat": "repeat ${1:n} {\n    $0\n}",
    "if": "if ${1:condition} {\n    $0\n}",
    "input": "input ${1:x}[${2:_}, ${3:_}, ${4:_}]",
    "output": "output $0",
    "expect": "expect [$0]",
    "require": 'require ${1:condition}, "${2:message}"',
    "share": "share ${1:name}: $0",
    "default": "default ${1:conv}($0)",
}
ITEMS: Final = {
    "residual": "residual {\n    $0\n}",
    "dense": "dense {\n    $0\n}",
    "scope": "scope {\n    $0\n}",
    "windows": "windows(${1:7}) {\n    $0\n}",
    "grid": "grid(${1:7}) {\n    $0\n}",
}
EXTERN_LINES: Final = (
    "input",
    "output",
    "weight",
    "frozen",
    "buffer",
    "counter",
    "call",
    "field",
    "macs",
    "let",
    "require",
)
ATTRIBUTES: Final = {
    "channels": "the number of channels",
    "size": "the sizes without the channels",
    "shape": "all sizes, channels first, without the batch",
}
CALLABLE: Final = frozenset({"block", "model", "extern", "import", "parameter", "shared"})
TENSORS: Final = frozenset({"label", "input", "shared"})


def completions(source: Source, offset: int, names: Names, project: Project, delta: int = 0) -> Completions:
    """The proposals at an offset. `names` are of an earlier text of the document, where it is `delta` further."""
    at = cursor(source, offset)
    seen = names.seen_at(max(0, at.start + delta))
    found = {item.name: item for item in reversed(list(_candidates(at, seen, source, project)))}
    return Completions(at.start, sorted(found.values(), key=lambda item: (item.rank, item.name)))


def _candidates(at: Cursor, seen: Mapping[str, Symbol], source: Source, project: Project) -> Iterator[Completion]:
    match at.what:
        case "attribute":
            tensor = at.base == "it" or at.base not in seen or seen[at.base].kind in TENSORS | {"parameter", "value"}
            if tensor:
                yield from (Completion(name, "attribute", doc=doc) for name, doc in ATTRIBUTES.items())
        case "module":
            yield from _modules(source)
        case "imported":
            yield from _imported(at.module, source, project)
        case "label":
            yield from (_of(s, 0, project, source) for s in seen.values() if s.kind in TENSORS | {"augment"})
        case "argument" if at.callee is not None:
            yield from _arguments(at.callee, seen, source, project)
            yield from _values(seen, source, project, at)
        case "value":
            if at.callee is not None:
                yield from _words(at.callee, seen)
            yield from _values(seen, source, project, at)
        case "declaration":
            yield from (_keyword(word, text) for word, text in DECLARATIONS.items())
        case "statement" if at.kind == "extern":
            yield from (Completion(word, "keyword") for word in EXTERN_LINES)
        case "statement" | "item" if at.kind == "augment":
            yield from (_operation(name, cls) for name, cls in CHANGES.items())
            yield _keyword("one_of", "one_of {\n    $0\n}")
        case "statement" | "item":
            yield from _items(seen, project, source)
            if at.what == "statement":
                yield from (_keyword(word, text) for word, text in STATEMENTS.items())
        case "argument" | "nothing":
            pass


def _keyword(word: str, text: str) -> Completion:
    return Completion(word, "keyword", text=text, is_snippet=True, rank=2)


def _items(seen: Mapping[str, Symbol], project: Project, source: Source) -> Iterator[Completion]:
    yield from (_of(s, 0, project, source) for s in seen.values() if s.kind in CALLABLE | TENSORS)
    yield from (_operation(name, cls) for name, cls in OPERATIONS.items())
    yield from (_keyword(word, text) for word, text in ITEMS.items())
    yield Completion("it", "it", "the tensor that flows in", rank=2)


def _operation(name: str, cls: type[Declaration]) -> Completion:
    required = [field for field, found in cls.fields.items() if found.is_required]
    places = ", ".join(f"${{{i}:{field}}}" for i, field in enumerate(required, 1))
    text = f"{name}({places})" if places else name
    return Completion(name, "operation", cls.signature(), documentation(cls), text, bool(places), 1)


def _of(symbol: Symbol, rank: int, project: Project, source: Source) -> Completion:
    found = project.resolved(symbol, source.path)
    node = found.node
    if isinstance(node, tree.Block | tree.Model):
        required = [p.name.name for p in node.parameters if p.default is None]
        places = ", ".join(f"${{{i}:{name}}}" for i, name in enumerate(required, 1))
        text = f"{symbol.name}({places})" if places else symbol.name
        return Completion(symbol.name, found.kind, head(node), node.doc or "", text, bool(places), rank)
    return Completion(symbol.name, found.kind, rank=rank)


def _values(seen: Mapping[str, Symbol], source: Source, project: Project, at: Cursor) -> Iterator[Completion]:
    yield from (_plain(s) for s in seen.values())
    yield from (Completion(name, "builtin", text=f"{name}($0)", is_snippet=True, rank=2) for name in BUILTINS)
    yield from (Completion(word, "keyword", rank=3) for word in ("true", "false", "none"))
    yield Completion("it", "it", "the tensor that flows in", rank=2)
    if at.callee is None or at.callee.name not in OPERATIONS:
        yield from (Completion(name, "operation", cls.signature(), rank=3) for name, cls in OPERATIONS.items())


def _plain(symbol: Symbol) -> Completion:
    return Completion(symbol.name, symbol.kind, rank=1)


def _declaration(callee: Callee, seen: Mapping[str, Symbol]) -> type[Declaration] | None:
    if callee.name in seen:
        return None
    return OPERATIONS.get(callee.name) or BLOCKS.get(callee.name) or CHANGES.get(callee.name)


def _arguments(callee: Callee, seen: Mapping[str, Symbol], source: Source, project: Project) -> Iterator[Completion]:
    """The names of parameters, and the words that the current one takes."""
    cls = _declaration(callee, seen)
    if cls is not None:
        for i, (name, found) in enumerate(cls.fields.items()):
            if name not in callee.given and (i >= callee.position):
                detail = "" if found.is_required else f"= {shown(found.default)}"
                yield Completion(name, "parameter", detail, found.description or "", f"{name} = ", rank=0)
        yield from _words(callee, seen)
        return
    for position, parameter in enumerate(parameters(callee, seen, source, project)):
        if parameter.name.name not in callee.given and position >= callee.position:
            default = f"= {parameter.default.span.text}" if parameter.default is not None else ""
            yield Completion(parameter.name.name, "parameter", default, text=f"{parameter.name.name} = ", rank=0)


def _words(callee: Callee, seen: Mapping[str, Symbol]) -> Iterator[Completion]:
    cls = _declaration(callee, seen)
    if cls is None:
        return
    fields = list(cls.fields)
    name = callee.argument or (fields[callee.position] if callee.position < len(fields) else "")
    yield from (Completion(word, "word", f"for `{name}`", rank=0) for word in cls.words(name))


def parameters(
    callee: Callee, seen: Mapping[str, Symbol], source: Source, project: Project
) -> tuple[tree.Parameter, ...]:
    """The parameters of a block, model, function or extern in sight."""
    symbol = seen.get(callee.name)
    node = project.resolved(symbol, source.path).node if symbol is not None else None
    for _ in range(100):
        if not isinstance(node, tree.Member):
            break
        family = seen.get(node.family.name)
        node = project.resolved(family, source.path).node if family is not None else None
    return node.parameters if isinstance(node, tree.Block | tree.Model | tree.Function | tree.Extern) else ()


def _modules(source: Source) -> Iterator[Completion]:
    if source.path is not None:
        try:
            near = [p.stem for p in islice(source.path.parent.glob("*.arch"), 1000) if p != source.path]
        except OSError:
            near = []
        yield from (Completion(name, "module", "a file of this folder") for name in near)
    yield from (Completion(name, "module", "a family of the library", rank=1) for name in library_families())


def _imported(module: str, source: Source, project: Project) -> Iterator[Completion]:
    path: Path | None = find_import(module.split("."), source) if module else None
    names = project.names(path) if path is not None else None
    for symbol in names.top.symbols.values() if names is not None else ():
        node = symbol.node
        detail = head(node) if isinstance(node, tree.Block | tree.Model) else ""
        yield Completion(symbol.name, symbol.kind, detail, getattr(node, "doc", None) or "")
