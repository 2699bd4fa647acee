"""Single small changes to built files, as a faulty generator might make them."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from itertools import islice

Change = Callable[[], None]


def count(text: str) -> int:
    """The number of changes of a text."""
    return sum(1 for _ in _changes(ast.parse(text)))


def mutant(text: str, number: int) -> tuple[str, str]:
    """A description of the change with that number and its place, and the changed text."""
    tree = ast.parse(text)
    what, change = next(islice(_changes(tree), number, None))
    change()
    return what, ast.unparse(ast.fix_missing_locations(tree))


def _changes(tree: ast.Module) -> Iterator[tuple[str, Change]]:
    for node, names in list(_nodes(tree)):
        line = getattr(node, "lineno", 0)
        for what, change in _of(node, names):
            yield f"line {line}: {what}", change


def _nodes(tree: ast.Module) -> Iterator[tuple[ast.AST, list[str]]]:
    """The nodes that affect the computation, with the names of variables in scope. Annotations are excluded."""
    stack: list[tuple[ast.AST, list[str]]] = [(n, []) for n in reversed(tree.body)]
    while stack:
        node, names = stack.pop()
        if isinstance(node, ast.FunctionDef):
            names = sorted({n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)})
            names += [a.arg for a in node.args.args if a.arg != "self"]
        yield node, names
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns"):
                continue
            members = value if isinstance(value, list) else [value]
            stack.extend((m, names) for m in reversed(members) if isinstance(m, ast.AST))


def _of(node: ast.AST, names: list[str]) -> Iterator[tuple[str, Change]]:
    match node:
        case ast.Constant(value=bool()):
            yield f"{node.value} turned", lambda: _set(node, "value", not node.value)
        case ast.Constant(value=int() | float()):
            yield f"{node.value} + 1", lambda: _set(node, "value", node.value + 1)  # type: ignore[operator]
            yield f"{node.value} - 1", lambda: _set(node, "value", node.value - 1)  # type: ignore[operator]
        case ast.Constant(value=str()):
            yield f"{node.value[:10]!r} longer", lambda: _set(node, "value", f"{node.value}0")
        case ast.BinOp():
            other = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult}.get(
                type(node.op), ast.Mult
            )
            yield "another operator", lambda: _set(node, "op", other())
            yield "operands swapped", lambda: _swap(node, "left", "right")
            yield "left alone", lambda: _become(node, node.left)
            yield "right alone", lambda: _become(node, node.right)
        case ast.Compare():
            flipped = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Lt: ast.LtE}
            yield "another comparison", lambda: _set(node, "ops", [flipped.get(type(node.ops[0]), ast.Eq)()])
        case ast.BoolOp():
            yield "and for or", lambda: _set(node, "op", ast.And() if isinstance(node.op, ast.Or) else ast.Or())
        case ast.IfExp():
            yield "first case", lambda: _become(node, node.body)
            yield "second case", lambda: _become(node, node.orelse)
            yield "cases swapped", lambda: _swap(node, "body", "orelse")
        case ast.If():
            yield "condition true", lambda: _set(node, "test", ast.Constant(True))
            yield "condition false", lambda: _set(node, "test", ast.Constant(False))
            if node.orelse:
                yield "branch dropped", lambda: _set(node, "orelse", [])
        case ast.Name(ctx=ast.Load()) if node.id in names:
            for name in names[:4]:
                if name != node.id:
                    yield f"{name} for {node.id}", lambda name=name: _set(node, "id", name)  # type: ignore[misc]
        case ast.Attribute(value=ast.Name(id="self")):
            yield f"self.{node.attr}2", lambda: _set(node, "attr", f"{node.attr}2")
        case ast.AugAssign():
            yield "plain assignment", lambda: _become(node, ast.Assign([node.target], node.value))
            yield "in place by another", lambda: _set(node, "op", ast.Mult())
        case ast.Call():
            yield from _of_call(node)
        case ast.Tuple(ctx=ast.Load()) | ast.List(ctx=ast.Load()) if len(node.elts) > 1:
            yield "elements swapped", lambda: node.elts.__setitem__(slice(0, 2), node.elts[1::-1])
            yield "element dropped", lambda: node.elts.pop()
        case ast.Tuple(ctx=ast.Store()):
            yield "targets swapped", lambda: node.elts.reverse()
        case ast.Subscript() if isinstance(node.slice, ast.Slice):
            yield "whole instead of part", lambda: _become(node, node.value)
        case ast.FunctionDef() | ast.ClassDef() if node.decorator_list:
            yield "decorator dropped", lambda: node.decorator_list.clear()
        case ast.ClassDef() if node.bases:
            yield "another base", lambda: _set(node, "bases", [ast.Name("object", ast.Load())])
    for field in ("body", "orelse"):
        found = getattr(node, field, None)
        if isinstance(found, list) and isinstance(node, ast.stmt):
            yield from _of_body(found)


def _of_call(node: ast.Call) -> Iterator[tuple[str, Change]]:
    for i in range(len(node.args)):
        yield f"argument {i} dropped", lambda i=i: node.args.pop(i)  # type: ignore[misc]
    if len(node.args) > 1:
        yield "arguments swapped", lambda: node.args.__setitem__(slice(0, 2), node.args[1::-1])
    for i, keyword in enumerate(node.keywords):
        yield f"{keyword.arg} dropped", lambda i=i: node.keywords.pop(i)  # type: ignore[misc]
    layer = (
        isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and node.func.value.id == "nn"
    )
    if layer and node.func.attr in ("ReLU", "SiLU", "LeakyReLU", "ELU", "Sigmoid", "Tanh"):  # type: ignore[attr-defined]
        yield "in place", lambda: node.keywords.append(ast.keyword("inplace", ast.Constant(True)))
        yield "another activation", lambda: _set(node.func, "attr", "Tanh" if node.func.attr != "Tanh" else "ReLU")  # type: ignore[attr-defined]
    if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and len(node.args) == 1:
        yield "not called", lambda: _become(node, node.args[0])
        yield "called twice", lambda: _set(node, "args", [copy.deepcopy(node)])


def _of_body(body: list[ast.stmt]) -> Iterator[tuple[str, Change]]:
    for i, statement in enumerate(body):
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a docstring
        where = f"statement of line {statement.lineno}"
        yield f"{where} dropped", lambda i=i: body.pop(i) if len(body) > 1 else body.__setitem__(i, ast.Pass())  # type: ignore[misc]
        yield f"{where} done twice", lambda i=i: body.insert(i, copy.deepcopy(body[i]))  # type: ignore[misc]
        if i + 1 < len(body):
            yield f"{where} moved down", lambda i=i: body.__setitem__(slice(i, i + 2), body[i : i + 2][::-1])  # type: ignore[misc]
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.BinOp):
            target, value = statement.targets[0], statement.value
            if isinstance(target, ast.Name) and isinstance(value.left, ast.Name):
                grown = ast.AugAssign(ast.Name(value.left.id, ast.Store()), value.op, value.right)
                moved = ast.Assign([target], ast.Name(value.left.id, ast.Load()))
                yield f"{where} in place", lambda i=i, g=grown, m=moved: body.__setitem__(slice(i, i + 1), [g, m])  # type: ignore[misc]


def _set(node: ast.AST, field: str, value: object) -> None:
    setattr(node, field, value)


def _swap(node: ast.AST, first: str, second: str) -> None:
    a, b = getattr(node, first), getattr(node, second)
    setattr(node, first, b)
    setattr(node, second, a)


def _become(node: ast.AST, other: ast.AST) -> None:
    """Makes a node equal to another one."""
    other = copy.deepcopy(other)
    node.__class__ = type(other)  # type: ignore[assignment]
    node.__dict__.clear()
    node.__dict__.update(other.__dict__)
