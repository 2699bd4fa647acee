"""The attention maps that `look` shows are the weights by which the network mixes its values."""

from __future__ import annotations

from pathlib import Path

import pytest
import skimage
import torch
from torch import nn

import archdsl
from archdsl import cli
from archdsl.analysis.layout import FIRST
from archdsl.graph import Node
from archdsl.runtime.attending import AttentionMaps, Heads, Query, attention_at, recorded
from archdsl.runtime.look import Unit, look
from archdsl.runtime.parts import Recorder
from archdsl.runtime.running import RunError, network_of
from tests.helpers import graph_of, net_text, source_of
from tests.interpreter import Interpreter

PHOTOGRAPH = Path(skimage.__file__).parent / "data" / "astronaut.png"


def run(body: str, size: str = "x[4, 6, 6]") -> tuple[Interpreter, dict[str, torch.Tensor], nn.Module]:
    """A network that ran on one sample: its interpreter, and the recorded weights of every attention."""
    graph = graph_of(net_text(body, size))
    network = network_of(graph).double()
    interpreter = Interpreter(graph, dict(network.state_dict()), {})
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    interpreter.run([x])
    with torch.no_grad(), recorded(graph, [n.path for n in graph.nodes() if n.operation.attends]) as found:
        network(x)
    return interpreter, found, network


ATTENDED = {
    "scale": "linear(12) -> split(3) -> a: attend(2, scale = 0.3)",
    "causal": "linear(12) -> split(3) -> a: attend(2, causal)",
    "branches": """
        (linear(12) -> split(3) -> a: attend(2), linear(12) -> split(3) -> b: attend(2)) -> sub
        linear(12) -> split(3) -> c: attend(2)""",
    "cosine": "linear(12) -> split(3) -> a: attend(2, scale = cosine)",
    "shifted": "windows(4, 1, pad) { linear(12) -> split(3) -> a: attend(2) }",
    "bias": """
        windows(3) {
            (table: parameter([2, 25], init = normal(1.0), stored = rows) -> index: relative(3), linear(12) -> split(3))
                -> (bias, q, k, v): { }
            (q, k, v, bias) -> a: attend(2)
        }""",
}


@pytest.mark.parametrize("body", ATTENDED.values(), ids=ATTENDED)
def test_the_weights_mix_the_values_to_the_result(body: str) -> None:
    interpreter, found, _ = run(body)
    nodes = [n for n in interpreter.graph.nodes() if n.operation.attends]
    assert len(found) == len(nodes)
    for node in nodes:
        weights = found[node.path]
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        values = interpreter.values[node.inputs[2]].flatten(2).unflatten(1, (2, -1))
        mixed = torch.einsum("nhqk,nhck->nhcq", weights, values).flatten(1, 2)
        wanted = interpreter.values[archdsl.graph.Tensor(node.id)].flatten(2)
        torch.testing.assert_close(mixed, wanted)


def test_the_weights_of_an_attention_are_those_of_pytorch() -> None:
    interpreter, found, network = run("tokens -> a: attention(2) -> linear(3)")
    module = network.get_submodule("a")
    plain = nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
    plain.load_state_dict(module.state_dict())
    (node,) = (n for n in interpreter.graph.nodes() if n.path == "a")
    x = interpreter.values[node.inputs[0]].transpose(1, 2)
    _, wanted = plain(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(found["a"], wanted)


@pytest.mark.parametrize("cut", ["windows(4, 1, pad)", "windows(3)", "grid(3)"])
def test_among_windows_a_map_shows_where_the_keys_of_a_position_are(cut: str) -> None:
    interpreter, found, _ = run(f"{cut} {{ linear(12) -> split(3) -> a: attend(2) }}")
    node = attention_at(interpreter.graph, next(iter(found)))
    maps = AttentionMaps(interpreter.graph, node, Recorder(interpreter.graph, FIRST, {}), found[node.path])
    (cutting,) = (n for n in interpreter.graph.nodes() if n.operation.cuts)
    numbers = torch.arange(1, 37.0).view(1, 1, 6, 6)  # 0 is what padding adds
    places = interpreter._windows(cutting.operation, "", numbers).flatten(1).int()
    total = torch.zeros(2, 36, dtype=torch.float64)
    for row, column in ((0, 0), (2, 5), (5, 3)):
        shown = maps.maps((0, 1), Query(row, column)).flatten(1)
        window, query = (places == 1 + 6 * row + column).nonzero()[0]
        wanted = torch.zeros(2, 37, dtype=torch.float64)
        wanted[:, places[window].long()] = found[node.path][window, :, query]
        torch.testing.assert_close(shown, wanted[:, 1:])
    for window in range(len(places)):
        inside = places[window] > 0
        total[:, places[window][inside].long() - 1] = found[node.path][window].mean(1)[:, inside]
    torch.testing.assert_close(maps.maps((), None).flatten(1), total)


VIT = """
    conv(4, 2, stride = 2, pad = valid) -> tokens -> patches: it
    (cls: parameter([4, 1], stored = tokens), patches) -> concat(axis = 1)
    a: attention(2)
    slice(0, 1, axis = 1) -> flatten -> linear(3)"""


def test_a_class_token_looks_at_the_patches() -> None:
    interpreter, found, _ = run(VIT)
    node = attention_at(interpreter.graph, "a")
    maps = AttentionMaps(interpreter.graph, node, Recorder(interpreter.graph, FIRST, {}), found["a"])
    shown = maps.maps((1,), None)
    torch.testing.assert_close(shown, found["a"][0, 1:, 0, 1:].view(1, 3, 3))
    assert maps.words == "token 0"
    torch.testing.assert_close(maps.maps((1,), Query(1, 2)), found["a"][0, 1:, 6, 1:].view(1, 3, 3))
    for query, words in ((Query(10, None), "there are 10"), (Query(3, 0), "it is 3 × 3")):
        with pytest.raises(RunError, match=words):
            maps.maps((1,), query)
    with pytest.raises(RunError, match="has 2 heads"):
        maps.maps((2,), None)


def test_look_shows_the_heads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "net.arch"
    spec.write_text(net_text(VIT, "x[3, 24, 24]"), "utf-8")
    graph = archdsl.check(source_of(net_text(VIT, "x[3, 24, 24]")))
    card = look(graph, PHOTOGRAPH, attention=[Heads("a", (1,))], units=[Unit("a", 5)]).cards["a"]
    assert [words for words, _ in card.pictures] == ["attention of token 5: heads 1"]
    out = tmp_path / "look.svg"
    arguments = ["look", str(spec), "--image", str(PHOTOGRAPH), "-o", str(out), "--attention"]
    assert cli.run([*arguments, "a:0,1", "--unit", "a:5,4"]) == 0
    assert "attention of position 5,4: heads 0, 1" in out.read_text("utf-8")
    for wrong, words in (("b", "has no attention `b`; there are: a"), ("a:x", "PATH:HEAD,HEAD"), ("a:7", "no head 7")):
        assert cli.run([*arguments, wrong]) == 2
        assert words in capsys.readouterr().err


def test_attention_to_what_is_no_map_is_refused() -> None:
    body = "(q: parameter([4, 5]), flatten -> linear(20) -> reshape(4x5)) -> a: attention(2)"
    interpreter, found, _ = run(body)
    node: Node = attention_at(interpreter.graph, "a")
    maps = AttentionMaps(interpreter.graph, node, Recorder(interpreter.graph, FIRST, {}), found["a"])
    with pytest.raises(RunError, match="attends to no positions of a map"):
        maps.maps((), None)
