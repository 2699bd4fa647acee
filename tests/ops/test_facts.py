"""Every fact of an operation is on its class: no other room knows one by its name, its family or its class.

So a new operation touches its own file, and the compiler does as well by it as by any other.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from archdsl import ops
from archdsl.ops import BLOCKS, OPERATIONS
from archdsl.ops.base import Operation
from archdsl.ops.partition import Join
from tests.helpers import ROOT

PACKAGE = Path(ops.__file__).parents[1]
EXEMPT = {
    "ops": "the classes themselves",
    "proof": "judges the generator, and so knows what PyTorch computes by itself",
    "augment": "has changes of pictures, with families of their own",
}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).parts[0] not in EXEMPT)
FILES = {*(family.__name__ for family in ops.FAMILIES), "archdsl.ops.input"}


def tells_apart(node: ast.expr, aliases: set[str]) -> bool:
    """Whether an expression is an operation's name or family."""
    match node:
        case ast.Attribute(attr="family"):
            return True
        case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr="name"):
            return owner.endswith("operation")
        case ast.Name(id=name):
            return name in aliases
    return False


def is_fixed(node: ast.expr) -> bool:
    """Whether an expression has one value for good: a literal, or a constant of a module beside the registry."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.isupper() and name != "OPERATIONS"
        case ast.BinOp(left=left, right=right):
            return is_fixed(left) and is_fixed(right)
    return isinstance(node, ast.Constant | ast.Tuple | ast.List | ast.Set | ast.Dict)


def questions(tree: ast.AST, aliases: frozenset[str] = frozenset()) -> Iterator[str]:
    """What a module asks of operations by name, family or class."""
    for node in ast.iter_child_nodes(tree):
        known = aliases
        match node:
            case ast.FunctionDef():
                assigned = (n for n in ast.walk(node) if isinstance(n, ast.Assign) and tells_apart(n.value, set()))
                known |= {t.id for n in assigned for t in n.targets if isinstance(t, ast.Name)}
            case ast.Compare(left=left, comparators=others):
                sides = [left, *others]
                if any(tells_apart(s, set(aliases)) for s in sides) and any(map(is_fixed, sides)):
                    yield ast.unparse(node)
            case ast.Match(subject=subject) if tells_apart(subject, set(aliases)):
                yield f"match {ast.unparse(subject)}"
            case ast.Subscript(value=table, slice=key) if is_fixed(table) and tells_apart(key, set(aliases)):
                yield ast.unparse(node)
            case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[key, *_]):
                if is_fixed(table) and tells_apart(key, set(aliases)):
                    yield ast.unparse(node)
            case ast.ImportFrom(module=module, names=names):
                imported = {f"{module}.{a.name}" for a in names}
                if module in FILES or imported & {*FILES, "archdsl.ops.Input"}:
                    yield ast.unparse(node)
            case ast.Import(names=names) if {a.name for a in names} & FILES:
                yield ast.unparse(node)
        yield from questions(node, known)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_other_room_knows_an_operation(path: Path) -> None:
    found = list(questions(ast.parse(path.read_text("utf-8"))))
    if path.parent.name == "elaborate" or path.name == "stages.py":  # these make inputs, which no spec calls
        found = [q for q in found if q != "from archdsl.ops import Input"]
    assert not found, f"these are facts for the class of the operation (archdsl/ops): {found}"


@pytest.mark.parametrize(
    "asked",
    [
        "node.operation.name == 'conv'",
        "operation.name != 'conv'",
        "node.operation.name in ('add', 'sub')",
        "node.operation.family == 'activation'",
        "node.operation.family not in LIGHT | LEADING",
        "SIGNS[operation.name]",
        "SIGNS.get(last.operation.name)",
        "match node.operation.name:\n    case _: pass",
        "def f(node):\n    name = node.operation.name\n    return name == 'concat'",
        "from archdsl.ops.conv import Conv",
        "from archdsl.ops import conv",
        "import archdsl.ops.conv",
    ],
)
def test_a_question_is_seen(asked: str) -> None:
    assert list(questions(ast.parse(asked)))


@pytest.mark.parametrize(
    "harmless",
    [
        "f'`{node.operation.name}` takes one tensor'",
        "old.operation.family == new.operation.family",
        "scope.name == 'model'",
        "from archdsl.ops.base import Operation",
    ],
)
def test_what_is_no_question_is_let_be(harmless: str) -> None:
    assert not list(questions(ast.parse(harmless)))


def test_every_operation_with_a_name_is_registered() -> None:
    found: set[type[Operation]] = set()
    waiting = [Operation]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        if "name" in vars(cls) and cls.__module__.startswith("archdsl.") and not (cls.is_input or cls.implied):
            found.add(cls)
    assert found == {*OPERATIONS.values(), *BLOCKS.values(), Join}


def test_several_results_of_several_inputs_all_have_the_batch() -> None:
    """Else one of them is repeated for no sample, and a `concat` behind it fails when the built file runs."""
    several = {cls.name for cls in OPERATIONS.values() if cls.inputs == "many" and cls.parse({}).results(2) > 1}
    assert several == {"align"}
    assert all(OPERATIONS[name].needs_batches >= 2 for name in several)


def test_parameters_keep_their_places() -> None:
    """A spec may give arguments by position, so that a new parameter comes behind the others."""
    rows = (ROOT / "tests" / "data" / "parameters.txt").read_text("utf-8").splitlines()
    known = {name: parameters.split(", ") for name, _, parameters in (row.partition(": ") for row in rows)}
    now = {name: [*OPERATIONS[name].fields] for name in known}
    assert {name: now[name][: len(found)] for name, found in known.items()} == known
