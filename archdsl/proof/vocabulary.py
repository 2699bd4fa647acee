"""The vocabulary of built files: the statements allowed in each place.

A proof runs a text once per mode, with stand-ins. That covers all runs only if a run leaves no state behind and does
not branch on anything that stand-ins and PyTorch answer differently. So code that keeps state between calls, inspects a
tensor's batch, dtype or device, or reaches into stand-ins is rejected here, before anything runs.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from archdsl.proof.budget import Kinds, by_kind, walked
from archdsl.proof.errors import Unproved

_WORDS = (
    "bool dict enumerate filter float int isinstance len list max min next range reversed round set setattr slice "
    "sorted str sum super tuple zip any all abs ValueError TypeError"
)
WORDS = frozenset(_WORDS.split())
"""The Python builtins that a text may use."""

_INTERNAL = (
    "storage table term version read overwrite in_place filled placed sizes start trainable updates bind spec path "
    "runs kind base signature reset is_as_made layout groups map equals least factor shift args kwargs calls "
    "accepts order moved latest gave counting"
)
INTERNAL = frozenset(_INTERNAL.split())
"""Attributes of stand-ins that PyTorch's objects lack or define differently: a text may read them only of `self`."""

_FORBIDDEN = (
    "format format_map gi_frame gi_code tb_frame f_globals f_builtins mro ljust rjust center zfill expandtabs replace "
    "translate encode to_bytes"
)
FORBIDDEN = frozenset(_FORBIDDEN.split())
"""Attributes through which a text could reach beyond its inputs, or create large strings."""

OWN = frozenset({"__init__", "_modules", "_parameters"})
"""The names of nn.Module that a text may use."""

INNER = frozenset({"__builtins__", "__build_class__", "__class__", "__debug__", "__import__", "__name__"})
"""Names with a special meaning in Python, which no name of a spec becomes."""

HELPERS = "<helpers>"
"""The names of the helpers in a run, which no text can contain."""

_MUTATORS = (
    "append extend insert pop popitem add update remove clear setdefault discard sort reverse move_to_end "
    "appendleft intersection_update difference_update symmetric_difference_update"
)
MUTATORS = frozenset(_MUTATORS.split())
"""Methods that change a list, dict or set."""

TABLES = frozenset({"FOLDED", "RENAMED", "DROPPED", "UNITS", "COLUMNS", "ROWS", "HEADS"})
"""The tables of an inference file, and of the function that spreads a training."""

PLACE = ("device", "dtype")
"""The optional arguments of a model: a proof passes both, users mostly none."""

RECORDS = ("NamedTuple", "TypedDict")


def check_vocabulary(body: Sequence[ast.stmt], parts: Mapping[ast.AST, Kinds], augmentation: str | None) -> None:
    """Raises Unproved if a text, without its helpers, contains anything that built files do not.

    `parts` are the nodes of its functions and methods, `augmentation` is the class whose methods are compared verbatim
    elsewhere.
    """
    names: set[str] = set()
    guards = {s.name for s in body if isinstance(s, ast.FunctionDef) and is_guard(s)}
    for statement in body:
        for name in _bound(statement):
            if name in names or name in WORDS or name.startswith("__"):
                raise wrong_at(statement, f"gives `{name}` another meaning")
            names.add(name)
        match statement:
            case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
                pass
            case ast.Assign(value=ast.Subscript(value=ast.Name(id=name))) if name == HELPERS:
                pass  # a helper
            case ast.Assign(targets=[ast.Name(id=name)]) if name in TABLES:
                _literal(statement.value)
            case ast.AnnAssign(target=ast.Name(), annotation=ast.Name(id="TypeAlias")):
                pass
            case ast.ClassDef():
                _class(statement, parts, guards, augmentation)
            case ast.FunctionDef():
                _function(statement, parts[statement])
            case _:
                raise wrong_at(statement, "does at its top what built files do not do")
    classes = [s for s in body if isinstance(s, ast.ClassDef) and s.name != augmentation]
    for init in (s for s in (classes[-1].body if classes else ()) if isinstance(s, ast.FunctionDef)):
        if init.name == "__init__":
            a = init.args
            nothing = all(isinstance(d, ast.Constant) and d.value is None for d in a.defaults)
            if [arg.arg for arg in a.args] != ["self", *PLACE] or len(a.defaults) != len(PLACE) or not nothing:
                raise wrong_at(init, "does not take a device and a dtype, or none")
            _placing(parts[init], PLACE)


def is_guard(function: ast.FunctionDef) -> bool:
    """Whether a function checks sizes: it returns nothing."""
    return isinstance(function.returns, ast.Constant) and function.returns.value is None


def wrong_at(node: ast.AST, what: str) -> Unproved:
    return Unproved(f"line {getattr(node, 'lineno', '?')} {what}")


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a top-level statement defines."""
    match statement:
        case ast.Import() | ast.ImportFrom():
            yield from (a.asname or a.name for a in statement.names if a.asname or a.name != "torch")
        case ast.ClassDef() | ast.FunctionDef():
            yield statement.name
        case ast.Assign():
            yield from (t.id for t in statement.targets if isinstance(t, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name


def _literal(value: ast.expr) -> None:
    for node in walked(value):
        if not isinstance(node, ast.Constant | ast.Tuple | ast.Dict | ast.UnaryOp | ast.USub | ast.Load):
            raise wrong_at(node, "makes a table of something else than numbers and words")


def _class(
    definition: ast.ClassDef, parts: Mapping[ast.AST, Kinds], guards: set[str], augmentation: str | None
) -> None:
    match definition.bases:
        case [ast.Attribute(value=ast.Name(id="nn"), attr="Module" | "Sequential" | "ModuleDict")]:
            is_module = True
        case [ast.Name(id=name)] if name in RECORDS:
            is_module = False
        case _:
            raise wrong_at(definition, "extends another class than built files do")
    if definition.decorator_list or any(k.arg != "total" or is_module for k in definition.keywords):
        raise wrong_at(definition, "makes a class otherwise than built files do")
    for statement in definition.body:
        match statement:
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.AnnAssign(target=ast.Name(), value=None) if not is_module:
                pass
            case ast.FunctionDef(name="__init__" | "forward" | "along" as name) if is_module:
                if name == "along" and definition.name != augmentation:
                    raise wrong_at(statement, f"defines `{name}`")
                if statement.name == "__init__":
                    _init(statement, parts[statement])
                elif definition.name != augmentation:
                    _forward(statement, parts[statement], guards)
            case _:
                raise wrong_at(statement, f"says what no class of a built file says: {type(statement).__name__}")


def _init(method: ast.FunctionDef, nodes: Kinds) -> None:
    if method.decorator_list:
        raise wrong_at(method, "decorates __init__")
    _refuse(nodes, (ast.Lambda, ast.Raise, ast.With, ast.Try, ast.Yield, ast.Return), "__init__")
    _no_functions(method, nodes)
    _defaults([method])
    held = {
        n.target.id for n in nodes[ast.AnnAssign] if isinstance(n.target, ast.Name) and _is(n.annotation, "Factory")
    }
    _placing(nodes, held | ({method.args.kwarg.arg} if method.args.kwarg else set()))
    holders: set[int] = set()
    for node in nodes[ast.Assign]:
        match node:
            case ast.Assign(targets=[ast.Attribute() as holder], value=ast.Call(func=made, args=[], keywords=[])):
                if ast.unparse(made) == "nn.Module" and within_self(holder):
                    holders.add(id(holder))
    for node in nodes[ast.Attribute]:
        is_own = (of_self(node) or id(node) in holders) and not node.attr.startswith("_")
        if not (is_own or isinstance(node.ctx, ast.Load)):
            raise wrong_at(node, "sets what is not its own")
    for node in nodes[ast.Subscript]:
        if isinstance(node.ctx, ast.Load):
            continue
        match node.value:
            case ast.Name(id="self"):
                pass  # a member of an nn.ModuleDict
            case ast.Attribute(value=owner, attr="_modules" | "_parameters") if within_self(owner):
                pass
            case ast.Attribute(value=ast.Name(id=name), attr="_modules" | "_parameters"):
                if name not in _made_here(nodes):
                    raise wrong_at(node, "changes a part of something")
            case _:
                raise wrong_at(node, "changes a part of something")
    _check_all([(method, nodes)])


def _refuse(nodes: Kinds, kinds: Iterable[type[ast.AST]], where: str) -> None:
    for kind in kinds:
        for node in nodes[kind]:
            raise wrong_at(node, f"holds a {kind.__name__} in {where}")


def _no_functions(method: ast.FunctionDef, nodes: Kinds) -> None:
    for node in nodes[ast.FunctionDef]:
        if node is not method:
            raise wrong_at(node, "defines a function in a method")


def _placing(nodes: Kinds, names: Collection[str]) -> None:
    """Raises Unproved if a method does anything with a device or dtype, or a variable with them, but pass them on."""
    passed: set[int] = set()
    for node in nodes[ast.keyword]:
        if (
            isinstance(node.value, ast.Name)
            and node.arg in (None, "device", "dtype")
            and node.arg in (None, node.value.id)
        ):
            passed.add(id(node.value))
    for node in nodes[ast.Dict]:
        for key, held in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(held, ast.Name) and key.value == held.id:
                passed.add(id(held))
    for node in nodes[ast.Name]:
        if node.id in names and isinstance(node.ctx, ast.Load) and id(node) not in passed:
            raise wrong_at(node, f"does more with `{node.id}` than to pass it on")


def _forward(method: ast.FunctionDef, nodes: Kinds, guards: set[str]) -> None:
    if any(not isinstance(d, ast.Name) for d in method.decorator_list):
        raise wrong_at(method, "decorates forward otherwise than built files do")
    a = method.args
    if a.defaults or a.kw_defaults or a.kwarg or a.kwonlyargs or a.posonlyargs:
        raise wrong_at(method, "takes arguments that are no tensors")
    _refuse(nodes, (ast.Lambda, ast.Raise, ast.With, ast.Try, ast.Yield, ast.Set, ast.SetComp), "forward")
    _refuse(nodes, (ast.Import, ast.ImportFrom), "forward")
    _no_functions(method, nodes)
    for node in (*nodes[ast.Attribute], *nodes[ast.Subscript]):
        if not isinstance(node.ctx, ast.Load):
            raise wrong_at(node, "changes something that lasts in forward")
    for node in (*nodes[ast.If], *nodes[ast.IfExp]):
        _test(node.test)
    for node in nodes[ast.comprehension]:
        for test in node.ifs:
            _test(test)
    for node in (*nodes[ast.Compare], *nodes[ast.BoolOp], *nodes[ast.UnaryOp]):
        if not isinstance(node, ast.UnaryOp) or isinstance(node.op, ast.Not):
            _test(node)
    for node in nodes[ast.Call]:
        if isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "setattr", "int", "bool", "float"):
            raise wrong_at(node, "asks in forward what a tensor is")
    seen = False
    for statement in reversed(method.body) if guards else ():
        calls = any(
            isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in guards for n in walked(statement)
        )
        if seen and not calls and not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            raise wrong_at(statement, "computes before it checks its sizes")
        seen = seen or calls
    _check_all([(method, nodes)])


def _test(test: ast.expr) -> None:
    """The allowed conditions in forward: on the module's numbers and mode, a loop counter, a name being None."""
    for node in walked(test):
        if isinstance(node, ast.Attribute) and not of_self(node):
            raise wrong_at(node, f"decides by `.{node.attr}` of a tensor")
        if isinstance(node, ast.Call | ast.Subscript | ast.Starred | ast.List | ast.Tuple | ast.JoinedStr):
            raise wrong_at(node, "decides by something else than its own numbers")


def _function(function: ast.FunctionDef, nodes: Kinds) -> None:
    guard = is_guard(function)
    found = nodes[ast.FunctionDef]
    functions = [(f, by_kind(_within(f))) for f in found] if len(found) > 1 else [(function, nodes)]
    _defaults([f for f, _ in functions])
    managers = {id(f) for f, _ in functions if any(_is(d, "contextmanager") for d in f.decorator_list)}
    if not guard and len(functions) > 1:
        for kind in (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.For, ast.With):
            for node in functions[0][1][kind]:
                raise wrong_at(node, "makes a function that keeps something between its calls")
    for inner, nodes in functions:
        for decorator in inner.decorator_list:
            match decorator:
                case ast.Name(id="contextmanager" | "recomputed") | ast.Call(func=ast.Name(id="wraps")):
                    pass
                case _:
                    raise wrong_at(decorator, "decorates a function otherwise than built files do")
        for node in nodes[ast.Attribute]:
            if not isinstance(node.ctx, ast.Load):
                raise wrong_at(node, "sets what is not its own")
        for node in nodes[ast.AugAssign]:
            if isinstance(node.target, ast.Name):
                raise wrong_at(node, "may change what it was given")
        for node in nodes[ast.Try]:
            if node.handlers or node.orelse or id(inner) not in managers:
                raise wrong_at(node, "goes on after an error")
        for node in nodes[ast.Yield]:
            if id(inner) not in managers:
                raise wrong_at(node, "is a generator")
        for node in nodes[ast.With]:
            raise wrong_at(node, "holds a With")
        for node in nodes[ast.Raise]:
            match node.exc:
                case ast.Call(func=ast.Name(id="ValueError")) if guard and inner is function:
                    pass
                case _:
                    raise wrong_at(node, "raises something else than what a check of sizes does")
        for node in nodes[ast.Call]:
            if _is(node.func, "setattr") and id(inner) not in managers:
                raise wrong_at(node, "sets what is not its own")
    _check_all(functions)


def _defaults(functions: Iterable[ast.FunctionDef]) -> None:
    """Defaults are created once, so none may be mutable."""
    for f in functions:
        for default in (*f.args.defaults, *f.args.kw_defaults):
            for node in walked(default) if default is not None else ():
                if isinstance(node, ast.Call) and not _is(node.func, "partial"):
                    raise wrong_at(node, "has a default that it may change")
                if isinstance(node, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.GeneratorExp | ast.Lambda):
                    raise wrong_at(node, "has a default that it may change")


def _check_all(functions: Iterable[tuple[ast.FunctionDef, Kinds]]) -> None:
    """Rules for every function: builtins, attributes, and mutation only of what it created itself."""
    for function, nodes in functions:
        own = {"self"} if function.name == "__init__" else set()  # an nn.ModuleDict takes members as its elements
        fresh: set[str] | None = None
        for node in nodes[ast.Name]:
            if node.id == "self" and not isinstance(node.ctx, ast.Load):
                raise wrong_at(node, "gives `self` another meaning")
        for node in nodes[ast.Delete]:
            if not all(isinstance(t, ast.Name) for t in node.targets):
                raise wrong_at(node, "deletes a part of something")
        called = {id(node.func) for node in nodes[ast.Call]}
        for node in nodes[ast.Attribute]:
            if node.attr not in MUTATORS:
                continue
            if id(node) in called:
                fresh = _made_here(nodes) if fresh is None else fresh
                if not isinstance(node.value, ast.Name) or node.value.id not in fresh:
                    raise wrong_at(node, f"calls `.{node.attr}` of something that it did not make itself")
            elif not within_self(node):
                raise wrong_at(node, f"keeps `.{node.attr}`")
        for node in nodes[ast.Subscript]:
            if isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
                fresh = _made_here(nodes) if fresh is None else fresh
                if node.value.id not in fresh | own:
                    raise wrong_at(node, "changes a part of something that it did not make itself")


def _made_here(nodes: Kinds) -> set[str]:
    """The local names that only have values created by the function itself: lists, dicts, sets and copies."""
    pairs: list[tuple[ast.expr, ast.expr | None]] = []
    for node in nodes[ast.Assign]:
        pairs += [p for t in node.targets for p in _paired(t, node.value)]
    pairs += [(node.target, node.value) for node in nodes[ast.AnnAssign]]
    for node in (*nodes[ast.For], *nodes[ast.comprehension]):
        pairs += [(n, None) for n in walked(node.target) if isinstance(n, ast.Name)]
    made: set[str] = set()
    other = {n.arg for n in nodes[ast.arg]}
    for target, value in pairs:
        if isinstance(target, ast.Name):
            (made if value is not None and _is_new(value) else other).add(target.id)
    return made - other


def _paired(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    if isinstance(target, ast.Tuple):
        if isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts):
            for t, v in zip(target.elts, value.elts, strict=True):
                yield from _paired(t, v)
        else:
            yield from ((n, None) for n in walked(target) if isinstance(n, ast.Name))
    else:
        yield target, value


def _is_new(value: ast.expr) -> bool:
    match value:
        case ast.List() | ast.ListComp() | ast.Dict() | ast.DictComp() | ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="list" | "dict" | "set" | "OrderedDict")):
            return True
        case ast.Call(func=ast.Attribute(attr="clone" | "reshape" | "flatten" | "transpose")):
            return True  # of a clone, if it is one at all: see `Channels`
        case ast.Call(func=ast.Attribute(value=ast.Call(), attr="flatten")):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="nn"), attr="Module")):
            return True
    return False


def _within(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of nested functions."""
    stack: list[ast.AST] = list(ast.iter_child_nodes(function))
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, ast.FunctionDef):
            stack.extend(ast.iter_child_nodes(node))


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def of_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def within_self(node: ast.expr) -> bool:
    """Whether an expression is `self` or an attribute of it: `self.a.b`."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return _is(node, "self")
