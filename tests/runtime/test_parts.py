"""What is recorded of a running network is what the graph says, however the built module stores it."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import pytest
import torch

from archdsl.analysis.receptive import receptive_fields
from archdsl.runtime.parts import Part, numbered, part_of, parts_of, watchable, watched
from archdsl.runtime.running import network_of
from tests.helpers import graph_of, net_text
from tests.interpreter import Interpreter

NETWORKS = {
    "convnext": """
        conv(8, 3) -> a: { residual { conv(8, 3, groups = 8) -> layernorm -> linear(16) -> gelu -> linear(8) } }
        b: layernorm -> c: linear(8) -> d: gelu -> e: conv(8, 3)""",
    "vit": """
        conv(8, 2, stride = 2, pad = valid) -> tokens -> patches: it
        (cls: parameter([8, 1], stored = tokens), patches) -> concat(axis = 1)
        body: {
            for i in 0..2 { "{i}": { residual { layernorm -> attention(2) } -> residual { layernorm -> linear(8) } } }
            norm: layernorm
        }
        slice(0, 1, axis = 1) -> flatten -> head: linear(3)""",
    "maps": """
        stem: conv(8, 3) -> at: attention(2) -> grown: { layernorm -> linear(8) }
        tokens -> mixed: { linear(8) } -> maps(8x8) -> conv(3, 1)""",
    "windows": """
        conv(8, 3)
        win: { windows(4) { in: { conv(8, 3) -> layernorm } -> row: { tokens -> linear(8) } -> maps(4x4) } }
        grid(4) { far: linear(8) -> wide: { attention(2) } }""",
    "shifted": """
        conv(8, 3)
        windows(3, 1, pad) { ln: layernorm -> qkv: linear(24) -> split(3) -> attend(2) -> proj: { linear(8) } }
        out: conv(2, 1)""",
    "nested": "windows(4) { windows(2) { deep: { layernorm -> linear(8) } } }\nconv(2, 1)",
    "other sizes": "windows(4) { down: conv(8, 3, stride = 2) -> up: upconv(8, 2) }\nconv(2, 1)",
}


@pytest.mark.parametrize("body", NETWORKS.values(), ids=NETWORKS)
def test_every_part_is_recorded_as_the_graph_has_it(body: str) -> None:
    """Channels, height and width are all 8, so that no size tells which is which."""
    graph = graph_of(net_text(body, "x[8, 8, 8]"))
    network = network_of(graph).double()
    x = torch.randn(2, 8, 8, 8, dtype=torch.float64)
    interpreter = Interpreter(graph, dict(network.state_dict()), {})
    interpreter.run([x])
    everything = [part_of(m) for m in (*graph.root.scopes(), *graph.nodes()) if m is not graph.root and not m.again]
    parts = [p for p in everything if watchable(p, network)]
    with torch.no_grad(), watched(graph, network, parts, {}) as seen:
        network(x)
    assert len(seen) > 2 and {p.path for p in everything if p.what.labelled and p.path in seen}
    for part in parts:
        if part.path in seen:
            torch.testing.assert_close(
                seen[part.path], wanted(part, interpreter), msg=lambda m, p=part: f"{p.path}: {m}"
            )


def wanted(part: Part, interpreter: Interpreter) -> torch.Tensor:
    """The tensor of a part, with windows put together by the interpreter."""
    node = interpreter.graph.node(part.tensor)
    found, windows = interpreter.values[part.tensor], node.windows
    while windows is not None:
        if found.shape[2:] != torch.Size(windows.cut.each_size(windows.whole)):
            return found.unflatten(0, (2, -1)).movedim(1, 2).flatten(2)
        size = [2 * (1 if windows.around is None else 4), 8, *windows.whole[1:]]
        found = interpreter._join(SimpleNamespace(cut=windows.cut), "", found, torch.zeros(size))
        windows = windows.around
    return found


def test_among_windows_the_field_of_a_unit_is_what_changes_it() -> None:
    """Every pixel is changed in turn; the units that change have it in their fields, which are no larger."""
    body = "windows(3, 1, pad) { a: linear(4) }\ngrid(4) { b: conv(4, 3) }\nwindows(2) { c: conv(4, 3) }\nconv(2, 1)"
    graph = graph_of(net_text(body, "x[1, 8, 8]"))
    network = network_of(graph).double()
    parts = [p for p in parts_of(graph, network, 4) if p.path in "abc"]
    assert len(parts) == 3
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    changes = {p.path: torch.zeros(8, 8, 8, 8, dtype=torch.bool) for p in parts}
    with torch.no_grad(), watched(graph, network, parts, {}) as seen:
        network(x)
        before = dict(seen)
        for row, column in product(range(8), range(8)):
            other = x.clone()
            other[0, 0, row, column] += 1
            network(other)
            for path, found in changes.items():
                found[:, :, row, column] = (seen[path] != before[path])[0].any(0)
    fields = receptive_fields(graph)
    for part in parts:
        (axes,) = fields[part.tensor].values()  # type: ignore[union-attr]
        for place in product(range(8), range(8)):
            numbers = numbered(graph, part.tensor, place, {})
            assert numbers is not None
            spans = [axis.at(i) for axis, i in zip(axes, numbers, strict=True)]
            at = changes[part.path][place].nonzero()
            reached = [(int(low), int(high)) for low, high in zip(at.amin(0), at.amax(0), strict=True)]
            assert [(max(s[0], 0), min(s[1], 7)) for s in spans if s] == reached, (part.path, place)
