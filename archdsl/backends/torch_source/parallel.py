"""The function of a file that spreads a training over many devices."""

from __future__ import annotations

from archdsl.analysis.layout import Layout
from archdsl.backends.python import tree as py
from archdsl.graph import Graph
from archdsl.transform.parallel import Parallel, patterns
from archdsl.transform.parallel_function import TABLES, parallel_functions, tables


def parallel_parts(graph: Graph, found: Parallel, layout: Layout) -> list[py.Statement]:
    """The tables of the modules, and the function with those that it calls."""
    everywhere = {member.path for member in graph.root.walk()}
    columns, rows, heads = found.divided(layout)
    paths = dict(zip(TABLES, (found.units, columns, rows, heads), strict=True))
    parts: list[py.Statement] = []
    for name in tables(found):
        entries = patterns(paths[name], everywhere - {*paths[name]})
        parts += [py.Assign(py.Var(name), py.Tuple(tuple(map(py.Const, entries)))), py.Doc(TABLES[name])]
    return [*parts, *map(py.Source, parallel_functions(found))]
