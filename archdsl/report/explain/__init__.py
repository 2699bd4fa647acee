"""Explains a layer, a block or a model in words and numbers, for learners."""

from __future__ import annotations

from collections.abc import Mapping

from archdsl.diagnostics import Diagnostics, did_you_mean
from archdsl.graph import Graph, Node, Scope
from archdsl.report.explain.explainer import Explainer
from archdsl.report.layers import Layers, Options


def explain(graph: Graph, path: str | None = None, sizes: Mapping[str, int] | None = None) -> str:
    """The explanation of a model, or of the layer or block at a path in it. Raises SpecError for an unknown path."""
    explainer = Explainer(Layers(graph, Options(sizes or graph.examples)))
    part = graph.root if path is None else find(graph, path)
    return "\n".join(explainer.part(part)) + "\n"


def find(graph: Graph, path: str) -> Node | Scope:
    found: list[Node | Scope] = [*graph.nodes(), *graph.root.scopes()]
    parts = {p.path: p for p in found if p.path and not p.again}
    if path in parts:
        return parts[path]
    diagnostics = Diagnostics()
    known = did_you_mean(path, parts) or f"`archdsl show` lists the paths; the first are {', '.join(list(parts)[:5])}"
    diagnostics.error("E0232", f"`{graph.name}` has no layer or block at the path `{path}`", help=known)
    diagnostics.stop_on_errors()
    raise AssertionError


__all__ = ["explain"]
