"""The function of a file that spreads a training over many devices."""

from __future__ import annotations

from archdsl.backends.python import tree as py
from archdsl.graph import Graph, Scope
from archdsl.transform.parallel import Parallel, patterns
from archdsl.transform.parallel_function import UNITS, UNITS_SAY, parallel_function


def parallel_parts(graph: Graph, found: Parallel) -> list[py.Statement]:
    """The table of the modules, and the function with those that it calls."""
    others = {member.path for member in graph.root.walk() if isinstance(member, Scope)} - {*found.units}
    others |= {node.path for node in graph.nodes()}
    table = py.Tuple(tuple(map(py.Const, patterns(found.units, others))))
    functions = parallel_function(found).split("\n\n\n")
    return [py.Assign(py.Var(UNITS), table), py.Doc(UNITS_SAY), *map(py.Source, functions)]
