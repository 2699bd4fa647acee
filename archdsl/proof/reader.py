"""Reads a built text: a closed subset of Python, containing nothing that a proof does not know."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from archdsl.proof.budget import Kinds, by_kind, count, walked
from archdsl.proof.errors import Unproved
from archdsl.proof.layers import LAYERS, Layer, layer_class, outside_class
from archdsl.proof.pytorch import REQUIRED, SIGNATURES
from archdsl.proof.vocabulary import (
    FORBIDDEN,
    HELPERS,
    INNER,
    INTERNAL,
    OWN,
    check_vocabulary,
    of_self,
    within_self,
    wrong_at,
)

STATEMENTS = (
    *(ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AnnAssign),
    *(ast.AugAssign, ast.For, ast.If, ast.Expr, ast.Import, ast.ImportFrom, ast.alias, ast.Raise, ast.With),
    *(ast.withitem, ast.Try, ast.Continue, ast.Pass, ast.Delete),
)
EXPRESSIONS = (
    *(ast.Name, ast.Constant, ast.Attribute, ast.Call, ast.keyword, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare),
    *(ast.IfExp, ast.Subscript, ast.Slice, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.Starred, ast.JoinedStr),
    *(ast.FormattedValue, ast.GeneratorExp, ast.ListComp, ast.DictComp, ast.SetComp, ast.comprehension, ast.Lambda),
    *(ast.Yield, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
KNOWN = frozenset(kind for base in (*STATEMENTS, *EXPRESSIONS) for kind in (base, *base.__subclasses__()))

COSTLY = (ast.LShift, ast.MatMult)
"""Operators that no built file needs, and that can make small values large."""

KEPT = FORBIDDEN | INTERNAL
"""Attributes that a text may read only of `self`, where they are members of its own."""

HOLDING = frozenset({"add_module", "register_parameter", "register_buffer", "_modules", "_parameters"})
"""Methods of modules with submodules."""


def parsed(text: str) -> ast.Module:
    """The syntax tree of a text.

    CPython 3.11 counts the recursion depth of all threads together because of a bug (gh-106905), so it may have to be
    retried.
    """
    for _ in range(20):
        try:
            return ast.parse(text)
        except SystemError:
            continue
    return ast.parse(text)


@dataclass(frozen=True, slots=True)
class Helper:
    """A definition that a built file may contain only verbatim: it is known, and not examined.

    `made` replaces it in a run: a layer's class, or None for a function, which is known by its name. `parameters` are
    those of a function, with the numbers that they have by default.
    """

    name: str
    dump: str
    made: type[Layer] | None
    uses: frozenset[str]
    parameters: tuple[tuple[str, object], ...] = ()

    def complete(self, args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[object, ...]:
        """The arguments of a call by position, with those that it leaves out; takes them out of `kwargs`."""
        found = [*args]
        for name, default in self.parameters[len(args) :]:
            if name not in kwargs and default is REQUIRED:
                break
            found.append(kwargs.pop(name, default))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Text:
    """A parsed text: its code without the helpers, the helpers by name, and the positions of names."""

    tree: ast.Module
    helpers: Mapping[str, Helper]
    classes: tuple[str, ...]
    functions: Mapping[str, ast.FunctionDef]
    definitions: Mapping[str, ast.ClassDef]
    by_mode: bool
    """Whether the text asks if the module is in training mode."""


def read(
    text: str, declared: Iterable[str], augmentation: str | None = None, outside: Mapping[str, tuple[str, str]] = {}
) -> Text:
    """Reads a text that may contain the definitions in `declared`, and an augmentation. Raises Unproved.

    `outside` is what it may import besides, by the name that it has there: a module, and what that defines.
    """
    try:
        tree = parsed(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unproved(f"is not Python: {error}") from None
    known = {helper.name: helper for source in declared for helper in helpers(source)}
    found: dict[str, Helper] = {}
    kept: list[ast.stmt] = []
    classes: dict[str, ast.ClassDef] = {}
    functions: dict[str, ast.FunctionDef] = {}
    names: set[str] = set()
    last: ast.ClassDef | None = None
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef):
            if statement.name in names:
                raise Unproved(f"defines `{statement.name}` twice")
            names.add(statement.name)
            last = statement if isinstance(statement, ast.ClassDef) else last
            helper = known.get(statement.name)
            if helper is not None and ast.dump(statement) == helper.dump:
                found[helper.name] = helper
                kept.append(_stands_for(statement, statement.name))
                continue
            if isinstance(statement, ast.ClassDef):
                classes[statement.name] = deepcopy(statement) if statement.name == augmentation else statement
            else:
                functions[statement.name] = statement
        elif isinstance(statement, ast.ImportFrom) and len(statement.names) == 1 and not statement.level:
            (alias,) = statement.names
            name = alias.asname or alias.name
            if outside.get(name) == (statement.module, alias.name):
                kept.append(_stands_for(statement, name))
                continue
        kept.append(statement)
    for helper in found.values():  # each computes what it should only with its own helpers
        lacking = sorted(name for name in helper.uses if name in known and name not in found)
        if lacking:
            raise Unproved(f"has another `{lacking[0]}` than archdsl writes")
    if last is not None and last.name in found:
        raise Unproved("does not end with its model")
    tree.body = kept
    parts = _parts(tree)
    if any(
        _leads_to_member(node) for part, nodes in parts.items() if not _makes(part) for node in nodes[ast.Attribute]
    ):
        _ByPath().visit(tree)
        parts = _parts(tree)
    by_mode = any([_check(nodes) for nodes in parts.values()])
    check_vocabulary(kept, parts, augmentation)
    for nodes in parts.values():
        count(nodes)
    return Text(tree, found, tuple(classes), functions, classes, by_mode)


def _stands_for(statement: ast.stmt, name: str) -> ast.stmt:
    """The replacement of a helper's definition, or of an import from outside: gives its name to what stands for it."""
    value = ast.Subscript(ast.Name(HELPERS, ast.Load()), ast.Constant(name), ast.Load())
    made = ast.Assign([ast.Name(name, ast.Store())], value)
    for node in walked(made):
        if isinstance(node, ast.stmt | ast.expr):
            node.lineno = node.end_lineno = statement.lineno
            node.col_offset = node.end_col_offset = 0
    return made


def _parts(tree: ast.Module) -> dict[ast.AST, Kinds]:
    """The nodes of each function at the top or of a class, and, as those of the tree, all others."""
    parts: dict[ast.AST, Kinds] = {}
    rest: list[ast.AST] = []
    for statement in tree.body:
        inside = [statement]
        if isinstance(statement, ast.ClassDef):
            rest.append(statement)
            inside = [*ast.iter_child_nodes(statement)]  # type: ignore[list-item]
        for inner in inside:
            if isinstance(inner, ast.FunctionDef):
                parts[inner] = by_kind(walked(inner))
            else:
                rest += walked(inner)
    parts[tree] = by_kind(rest)
    return parts


def _check(nodes: Kinds) -> bool:
    """Raises Unproved if nodes are beyond the subset; returns whether they ask for `training`."""
    for kind, found in nodes.items():
        if kind not in KNOWN:
            raise wrong_at(found[0], f"holds a {kind.__name__}, which built files do not use")
    for node in (n for kind in COSTLY for n in nodes[kind]):
        raise wrong_at(node, "computes what built files do not")
    for node in nodes[ast.Constant]:
        if type(node.value) in (bytes, complex):
            raise wrong_at(node, "computes what built files do not")
    for node in nodes[ast.AugAssign]:
        if isinstance(node.op, ast.Pow):
            raise wrong_at(node, "computes what built files do not")
    for node in nodes[ast.FormattedValue]:
        if node.format_spec is not None or node.conversion != -1:
            raise wrong_at(node, "formats what built files do not")
    for node in nodes[ast.Name]:
        if node.id in INNER:
            raise wrong_at(node, f"uses `{node.id}`")
    return _check_attributes(nodes[ast.Attribute])


def _check_attributes(nodes: Sequence[ast.Attribute]) -> bool:
    holders: set[int] = set()
    for node in nodes:
        if node.attr in HOLDING or isinstance(node.ctx, ast.Store):  # `self.a.b.add_module`, `self.a.b =`
            holder: ast.expr = node.value if node.attr in HOLDING else node
            while isinstance(holder, ast.Attribute):
                holders.add(id(holder))
                holder = holder.value
    by_mode = False
    for node in nodes:
        name = node.attr
        by_mode = by_mode or name == "training"
        is_hidden = name.startswith("_") and name not in OWN
        if is_hidden or (name in KEPT and id(node) not in holders and not of_self(node)):
            raise wrong_at(node, f"asks for `.{name}`")
    return by_mode


class _ByPath(ast.NodeTransformer):
    """Asks for a member of a member by its path where its name is that of an attribute of other values, too.

    `self.inner.encode` becomes `self.get_submodule("inner.encode")`, which gives nothing but a module.
    """

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node if _makes(node) else self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if not _leads_to_member(node):
            return ast.Attribute(self.visit(node.value), node.attr, node.ctx, **_place(node))
        names = [node.attr]
        owner = node.value
        while isinstance(owner, ast.Attribute):
            names.append(owner.attr)
            owner = owner.value
        getter = ast.Attribute(owner, "get_submodule", ast.Load(), **_place(node))
        path = ast.Constant(".".join(reversed(names)), **_place(node))
        return ast.Call(getter, [path], [], **_place(node))


def _makes(part: ast.AST) -> bool:
    """Whether it is a constructor, which makes members."""
    return isinstance(part, ast.FunctionDef) and part.name == "__init__"


def _leads_to_member(node: ast.Attribute) -> bool:
    """Whether it is `self.inner.encode`, of which the last name is one that a text may read only of `self`."""
    return node.attr in KEPT and isinstance(node.ctx, ast.Load) and not of_self(node) and within_self(node)


def _place(node: ast.expr) -> dict[str, Any]:
    return {name: getattr(node, name) for name in ("lineno", "col_offset", "end_lineno", "end_col_offset")}


@lru_cache(maxsize=256)
def helpers(source: str) -> tuple[Helper, ...]:
    """The definitions in a declared text."""
    found: list[Helper] = []
    for statement in parsed(source).body:
        if not isinstance(statement, ast.ClassDef | ast.FunctionDef):
            continue
        uses = frozenset(_uses(statement))
        made = _layer(statement) if isinstance(statement, ast.ClassDef) else None
        parameters = tuple(_parameters(statement)) if isinstance(statement, ast.FunctionDef) else ()
        found.append(Helper(statement.name, ast.dump(statement), made, uses, parameters))
    return tuple(found)


def _parameters(function: ast.FunctionDef) -> Iterator[tuple[str, object]]:
    """The parameters of a function that take one argument each, with their defaults."""
    arguments = function.args.args
    defaults = [None] * (len(arguments) - len(function.args.defaults)) + [*function.args.defaults]
    for argument, default in zip(arguments, defaults, strict=True):
        yield argument.arg, default.value if isinstance(default, ast.Constant) else REQUIRED


def _uses(statement: ast.stmt) -> Iterator[str]:
    """The names that a definition uses from outside."""
    own = {a.arg for a in walked(statement) if isinstance(a, ast.arg)}
    own |= {n.id for n in walked(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    own |= {n.asname or n.name for n in walked(statement) if isinstance(n, ast.alias)}
    for node in walked(statement):
        if isinstance(node, ast.Name) and node.id not in own and not hasattr(builtins, node.id):
            yield node.id


def _signature(init: ast.FunctionDef) -> Mapping[str, object]:
    """The parameters of a constructor with their defaults, without those that place it."""
    found: dict[str, object] = {a.arg: REQUIRED for a in init.args.args[1:]}
    for parameter, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        found[parameter.arg] = REQUIRED if default is None else ast.literal_eval(default)
    return found


def _layer(statement: ast.ClassDef) -> type[Layer]:
    (base,) = statement.bases
    init = next((s for s in statement.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"), None)
    if isinstance(base, ast.Name):
        assert init is not None
        return outside_class(statement.name, _signature(init))
    assert isinstance(base, ast.Attribute)
    extends = LAYERS.get(base.attr, Layer)
    if base.attr in SIGNATURES and (init is None or init.args.vararg is not None):
        more = {} if init is None else _signature(init)
        gain = any(isinstance(n, ast.Attribute) and n.attr == "gain" for n in walked(statement))
        return layer_class(statement.name, base.attr, {**SIGNATURES[base.attr], **more}, extends, gain)
    parameters = init.args.args[1:] if init is not None else []
    return layer_class(statement.name, "", {a.arg: REQUIRED for a in parameters}, extends)
