"""Forms for training that fit a memory budget: the same gradients, the predicted peaks, no slower than needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from archdsl import Budget, build, check, cli, load
from archdsl.backends.torch_source import write_module
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph, Scope
from archdsl.graph.series import Part, Series
from archdsl.proof import prove
from archdsl.runtime.loading import instantiate
from archdsl.transform.fitting import Plan, Search, fitted, front
from archdsl.transform.recompute import Recompute, recompute
from tests import published
from tests.analysis.test_memory import TOLERANCE, peak, step, weights
from tests.helpers import graph_of
from tests.transform.test_recompute import agrees

TINY = {
    "resnet:resnet18": (3, 128, 128),
    "densenet:densenet121": (3, 64, 64),
    "unet:unet_padded": (3, 64, 64),
    "swin:swin_t": (3, 224, 224),
}
"""Networks with an image; on smaller ones kernels take workspaces of their own."""


def budget(graph: Graph, size: tuple[int, ...], part: float, batch: int = 2) -> Budget:
    """A part of the way from the smallest peak to the plain one."""
    sizes = tuple(zip(("H", "W"), size[1:], strict=True)) if graph.free else ()
    search = Search(graph, Budget(0, batch, optimizer="sgd", sizes=sizes))
    low, high = search.least().peak, search.plain.peak
    return Budget(int(low + part * (high - low)), batch, optimizer="sgd", sizes=sizes)


def measured(graph: Graph, given: Budget, size: tuple[int, ...]) -> int:
    model = instantiate(graph, recompute=given)
    return weights(model) + peak(lambda: step(model, torch.randn(given.batch, *size)))


SMALL = """
    block unit(width) { residual { conv(width, 3) -> batchnorm -> relu -> conv(width, 3) -> batchnorm } -> relu }
    block stage(width, count) {
        conv(width, 3, stride = 2)
        repeat count { unit(width) }
    }
    model net {
        input x[3, 32, 32]
        conv(16, 3)
        stage(16, 2)
        (stage(16, 2), side: { conv(16, 1, stride = 2) -> silu }) -> add
        stage(32, 1)
    }
"""


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """As in the tests of memory."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def holds(graph: Graph, size: tuple[int, ...], batch: int, part: float) -> None:
    given = budget(graph, size, part, batch)
    plan = fitted(graph, given)
    assert plan.again.parts
    assert plan.peak <= given.limit
    assert measured(graph, given, size) == pytest.approx(plan.peak, rel=TOLERANCE)


def test_the_measured_peak_is_the_predicted_one() -> None:
    holds(graph_of(SMALL.replace("32, 32]", "64, 64]")), (3, 64, 64), 8, 0.2)


@pytest.mark.long
@pytest.mark.parametrize("spec", TINY)
def test_the_measured_peak_of_a_model_is_the_predicted_one(spec: str) -> None:
    for part in (0.6, 0.2):
        holds(check(spec), TINY[spec], 2, part)


MIXED = """
    block layer { batchnorm -> relu -> conv(4, 3) -> dropout(0.3) }
    block unit(width) { residual { conv(width, 3) -> batchnorm -> relu -> conv(width, 3) -> batchnorm } -> relu }
    block stage(width, count) {
        conv(width, 3)
        repeat count { unit(width) }
    }
    model net {
        input x[3, 16, 16]
        first: { conv(8, 3) -> batchnorm -> relu }
        repeat 3 { dense { layer } }
        stage(8, 3)
        side: { conv(8, 1) -> silu }
        (stage(8, 2), side) -> add
        stage(4, 2)
    }
"""


def test_all_forms_of_a_front_have_the_gradients_of_the_plain_one() -> None:
    graph = graph_of(MIXED)
    plans = front(graph, Budget(0, 8), 3)
    assert any(series.crosses for plan in plans for series in plan.again.series)
    for plan in plans[1:]:
        agrees(graph, plan.again)


FAMILIES = [
    *("resnet:resnet18", "unet:unet_padded"),
    *(pytest.param(spec, marks=pytest.mark.long) for spec in ("densenet:densenet121", *published.first_of_family())),
]


@pytest.mark.parametrize("spec", FAMILIES)
def test_all_forms_of_a_front_of_a_model_are_proved(spec: str) -> None:
    graph = check(spec)
    for plan in front(graph, Budget(0, 8), 8)[1:]:
        prove(write_module(graph, recompute=plan.again), graph, recompute=plan.again)


CHANNELS_LAST = """
    block layer {{ {} }}
    model net {{
        input x[6, 32, 32]
        conv(6, 3) -> layernorm -> linear(12) -> gelu -> linear(6)
        {}
        layernorm -> gelu -> linear(4)
    }}
"""


@pytest.mark.parametrize("body", ["layernorm -> gelu -> linear(6)", "batchnorm -> relu -> conv(6, 3)"])
@pytest.mark.parametrize("around", ["repeat 3 { dense { layer } }", "(layernorm, relu) -> concat -> layer -> relu"])
def test_forms_of_networks_that_move_axes_are_proved(body: str, around: str) -> None:
    graph = graph_of(CHANNELS_LAST.format(body, around))
    plans = front(graph, Budget(0, 8), 6)
    assert len(plans) > 2
    for plan in plans[1:]:
        prove(write_module(graph, recompute=plan.again), graph, recompute=plan.again)
        agrees(graph, plan.again)


def test_parts_and_dense_connections_are_recomputed_together() -> None:
    graph = graph_of(MIXED)
    dense = recompute(graph, "dense")
    units = frozenset(s for s in graph.root.scopes() if s.definition and s.definition.name == "unit")
    agrees(graph, Recompute(dense.scopes | units, dense.grown))


FEW = """
    block unit(width) { residual { conv(width, 3) -> batchnorm -> relu -> conv(width, 3) -> batchnorm } -> relu }
    model net {
        input x[3, 32, 32]
        conv(16, 3) -> batchnorm -> relu
        unit(16)
        conv(32, 3, stride = 2)
        side: { unit(32) }
    }
"""
"""A network with so few parts that all sets of them can be tried."""


def alternatives(parts: Sequence[Part], taken: frozenset[int] = frozenset()) -> Iterator[list[Part]]:
    """All sets of parts of which no two have a node in common."""
    if not parts:
        yield []
        return
    inside = {node.id for node in parts[0].nodes()}
    for rest in alternatives(parts[1:], taken):
        yield rest
    if taken.isdisjoint(inside):
        for rest in alternatives(parts[1:], taken | inside):
            yield [parts[0], *rest]


def chosen(parts: Sequence[Part]) -> Recompute:
    scopes = frozenset(p for p in parts if isinstance(p, Scope))
    return Recompute(scopes, series=frozenset(p for p in parts if isinstance(p, Series)))


def test_it_is_as_fast_as_the_best_of_all_sets() -> None:
    """An exhaustive search over all sets of parts is the exact solver."""
    graph = graph_of(FEW)
    search = Search(graph, Budget(0, 16))
    parts = [part for candidate in search.candidates for part in candidate.again.parts]
    every = [search.plan(chosen(c)) for c in alternatives(parts)]
    assert len(every) > 100
    low, high = min(p.peak for p in every), search.plain.peak
    for number in range(9):
        limit = low + (high - low) * number // 8
        best = min((p for p in every if p.peak <= limit), key=lambda p: p.time)
        found = fitted(graph, Budget(limit, 16))
        assert found.peak <= limit
        assert found.time <= 1.05 * best.time


@pytest.mark.parametrize("spec", ["resnet:resnet18", "unet:unet_padded"])
def test_no_slower_than_recomputing_every_part_alike(spec: str) -> None:
    """Uniform checkpointing: all calls of one block, or every second, third … of them."""
    graph = check(spec)
    search = Search(graph, Budget(0, 16))
    blocks = [s for s in graph.root.scopes() if s.kind == "block" and not any(True for t in s.scopes() if t is not s)]
    uniform: list[Plan] = [search.plan(Recompute(frozenset(blocks[::n]))) for n in (1, 2, 3)]
    uniform.append(search.plan(recompute(graph, "blocks")))
    for plan in uniform:
        assert fitted(graph, Budget(plan.peak, 16)).time <= plan.time


def test_a_budget_that_is_too_small_is_refused_with_the_smallest_peak() -> None:
    graph = check("resnet:resnet18")
    with pytest.raises(SpecError, match=r"does not fit into 50\.0 MiB") as refused:
        build(graph, memory="50MiB")
    assert "at least" in str(refused.value)
    least = Search(graph, Budget(0)).least().peak
    assert f"{least:,} bytes" in str(refused.value)
    assert "recomputed" in build(graph, memory=least)


def test_a_budget_that_is_large_enough_changes_nothing() -> None:
    assert build("resnet:resnet18", memory="100GiB") == build("resnet:resnet18")


@pytest.mark.parametrize("memory", ["much", "", "16", 0, -1, 8.0, True])
def test_what_is_no_budget_is_refused(memory: object) -> None:
    with pytest.raises(ValueError, match="not an amount of memory"):
        build("lenet:lenet", memory=memory)


def test_options_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="cannot be given with it"):
        build("lenet:lenet", memory="1GiB", recompute="blocks")
    with pytest.raises(ValueError, match="no backward pass"):
        load("lenet:lenet", memory="1GiB", inference=True)
    with pytest.raises(ValueError, match="no free size D"):
        build("resnet:resnet18", memory=Budget(2**30, sizes=(("D", 64),)))
    with pytest.raises(ValueError, match="number types are"):
        Budget(1, dtype="int8")
    with pytest.raises(ValueError, match="optimizers are"):
        Budget(1, optimizer="lamb")


@pytest.mark.parametrize(
    ("spec", "least"), [("resnet:resnet18", 0.9), pytest.param("densenet:densenet121", 0.4, marks=pytest.mark.long)]
)
def test_more_memory_is_never_slower(spec: str, least: float) -> None:
    plans = front(check(spec), Budget(0, 8), 4)
    assert [p.time for p in plans] == sorted(p.time for p in plans)
    assert [p.peak for p in plans] == sorted((p.peak for p in plans), reverse=True)
    assert plans[0].time == 1
    assert plans[-1].peak < least * plans[0].peak


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, picture, module = (tmp_path / name for name in ("net.arch", "front.svg", "net.py"))
    spec.write_text(SMALL)
    assert cli.run(["show", str(spec), "--recompute", "auto", "--batch", "16", "--json", "-o", str(picture)]) == 0
    forms = json.loads(capsys.readouterr().out)["front"]
    assert len(forms) > 2 and forms[0]["recomputed"] == [] and forms[0]["time"] == 1
    assert "peak of a training step" in picture.read_text()
    assert cli.run(["show", str(spec), "--recompute", "auto", "--batch", "16"]) == 0
    assert f"{forms[-1]['peak']:,}" in capsys.readouterr().out
    command = ["build", str(spec), "-o", str(module), "--memory", f"{forms[-1]['peak']}B", "--batch"]
    assert cli.run([*command, "16"]) == 0
    assert "@recomputed" in module.read_text()
    assert cli.run([*command, "32"]) == 1
    assert "E0607" in capsys.readouterr().err
    assert cli.run(["build", str(spec), "--batch", "16"]) == 2
    assert "--memory is meant, which is not given" in capsys.readouterr().err
    assert cli.run(["show", str(spec), "lenet:lenet", "--recompute", "auto"]) == 2
