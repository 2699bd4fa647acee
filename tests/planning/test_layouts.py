"""What fits on a cluster: the layouts, their commands, and refusals."""

from __future__ import annotations

import json
import time
from functools import cache
from typing import Any

import pytest

from archdsl import cli
from archdsl.common.choices import Budget, Mode
from archdsl.compiler import check
from archdsl.diagnostics import SpecError
from archdsl.planning.layouts import Cluster, Layouts, Training, layouts
from archdsl.planning.pipelines import pipeline
from archdsl.planning.sharding import ROOT, units
from archdsl.planning.stages import split
from archdsl.report.layouts import command
from archdsl.transform.fitting import Search
from archdsl.transform.recompute import recompute
from tests.helpers import source_of

GIB = 1 << 30
SIZES = (("H", 224), ("W", 224))
PLAN = ["plan", "resnet:resnet18", "--size", "3x64x64"]


@cache
def plan_of(spec: str, gpus: int, memory: float, batch: int, **more: float) -> Layouts:
    cluster = Cluster(gpus, int(memory * GIB), **{**RATES, **more})  # type: ignore[arg-type]
    return layouts(check(spec), cluster, Training(batch, sizes=SIZES))


RATES: dict[str, Any] = {"node": 8, "bandwidth": 25e9, "near": 300e9, "speed": 20e12}


def test_what_fits_is_simple_where_it_can_be() -> None:
    best = plan_of("resnet:resnet18", 64, 80, 4096).found[0]
    assert (best.replicas, best.shards, best.stages, best.microbatches, best.recompute) == (64, 1, 1, 1, "none")


def test_everything_that_is_found_is_of_that_cluster() -> None:
    plan = plan_of("resnet:resnet18", 16, 2, 512)
    assert {(f.shards > 1, f.stages > 1) for f in plan.found} == {(False, False), (True, False), (False, True)}
    for layout in plan.found:
        assert layout.replicas * layout.shards * layout.stages == 16
        data = 16 // layout.stages
        assert layout.microbatches * layout.microbatch * data == 512
        assert layout.peak <= 2 * GIB and 0 <= layout.share < 1 and 0 <= layout.idle < 1


def test_less_memory_costs_time() -> None:
    times = [plan_of("resnet:resnet18", 8, memory, 512).found[0].time for memory in (80, 0.2, 0.1)]
    assert times == sorted(times) and times[0] < times[-1]


def test_recomputed_blocks_take_the_time_that_memory_takes_them_for() -> None:
    """A recomputation stops as soon as all that is saved is there: here before the last convolution of each block."""
    text = "block pair { conv(64, 1) -> relu -> conv(64, 3) }\nmodel net {\n input x[64, 64, 64]\n repeat 8 { pair }\n}"
    graph = check(source_of(text))
    fit = layouts(graph, Cluster(8, GIB // 10, **RATES), Training(512)).found
    plain, again = (next(f for f in fit if f.recompute == how and f.stages == 1) for how in ("none", "blocks"))
    expected = Search(graph, Budget(0, 8)).plan(recompute(graph, "blocks")).time
    assert 1.05 < expected < 1.2
    assert again.compute / plain.compute == pytest.approx(expected)
    modes: tuple[Mode, ...] = ("none", "blocks")
    plain_step, again_step = (pipeline(split(graph, 4), "1f1b", 4, 8, 1, recompute=how).run.time for how in modes)
    assert again_step / plain_step == pytest.approx(expected, rel=0.002)  # the first stage takes the image besides


def test_bytes_sent() -> None:
    """A ring sends (n - 1) / n of what it gathers or reduces: gradients, and with shards weights, twice."""
    graph = check("resnet:resnet18")
    gradients = 4 * 11_689_512
    found = plan_of("resnet:resnet18", 8, 80, 64).found
    copies = next(f for f in found if f.replicas == 8 and f.recompute == "none" and f.microbatches == 1)
    assert copies.sent == 2 * gradients * 7 // 8
    parts = units(graph, 8, "float32")
    shards = next(f for f in found if f.shards == 8 and f.recompute == "none")
    total = sum(parts.gathered.values())
    assert total >= gradients
    assert shards.sent == shards.microbatches * ((3 * total - parts.gathered[ROOT]) * 7 // 8)


def test_shards_are_padded() -> None:
    """A weight with 64 rows has no more than 64 parts with something in them: 1024 shards gather padding."""
    graph = check("resnet:resnet18")
    few, many = (sum(units(graph, count, "float32").gathered.values()) for count in (8, 1024))
    assert many > 2 * few


@pytest.mark.parametrize(
    "spec",
    [
        "resnet:resnet50",
        pytest.param("vit:vit_b_16", marks=pytest.mark.long),
        pytest.param("densenet:densenet201", marks=pytest.mark.long),
    ],
)
def test_thousands_of_gpus_take_seconds(spec: str) -> None:
    graph = check(spec)
    start = time.process_time()
    found = layouts(graph, Cluster(4096, 16 * GIB, **RATES), Training(65536, sizes=SIZES))
    assert time.process_time() - start < 10 and found.tried > 50


@pytest.mark.parametrize(
    ("gpus", "memory", "batch", "words"),
    [
        (2, 0.1, 64, "the smallest takes"),
        (6, 80, 64, "the next batch that can is 66"),
    ],
)
def test_what_does_not_fit(gpus: int, memory: float, batch: int, words: str) -> None:
    with pytest.raises(SpecError, match=words) as error:
        plan_of("resnet:resnet18", gpus, memory, batch)
    assert error.value.diagnostics[0].code == "E0621"


def test_commands() -> None:
    plan = plan_of("resnet:resnet18", 16, 2, 512)
    both = next(f for f in plan.found if f.shards == 8 and f.recompute == "blocks")
    assert both.microbatches == 1
    assert command(plan, both, "my net.arch", ["--set", "classes=10"]).endswith(
        "--nproc-per-node 8 examples/cluster/train.py --folder runs/resnet18 --spec 'my net.arch' --set classes=10 "
        "--axes replicate,shard --sizes 2x8 --batch 512 --recompute blocks"
    )
    staged = next(f for f in plan.found if f.stages == 2)
    assert "--axes replicate,stage --sizes 8x2" in command(plan, staged, "net.arch")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*PLAN, "--gpus", "4", "--batch", "64", "--memory", "2GiB", "--best", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["gpus"] == 4 and len(found["layouts"]) == 3 and found["fit"] <= found["tried"]
    assert all(layout["peak_bytes"] <= 2 * GIB for layout in found["layouts"])
    assert cli.run([*PLAN, "--stages", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [stage["rank"] for stage in found["stages"]] == [0, 1, 2] and len(found["peak_bytes"]) == 3
    assert found["stages"][0]["gives"] == found["stages"][1]["takes"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "say what to plan"),
        (["--gpus", "8", "--stages", "2"], "say what to plan"),
        (["--gpus", "8"], "--gpus needs --batch"),
        (["--gpus", "12", "--batch", "24"], "12 GPUs do not fill machines of 8"),
        (["--gpus", "8", "--batch", "8", "--bandwidth", "fast"], "'fast' is not an amount a second"),
        (["--gpus", "8", "--batch", "8", "--bandwidth", "25"], "write 25GB/s, or 25B/s for bytes"),
        (["--gpus", "8", "--batch", "8", "--node-bandwidth", "25/s"], "write 25GB/s, or"),
        (["--gpus", "8", "--batch", "8", "--memory", "80"], "write 80GiB, or 80B for bytes"),
        (["--gpus", "8", "--batch", "8", "--speed", "-1"], "'-1' is not a number of operations"),
        (["--gpus", "8", "--batch", "8", "--speed", "20"], "'20' is not a number of operations such as 20T or 2e13"),
        (["--stages", "4", "--batch", "6", "--microbatches", "4"], "--batch 6 cannot be cut into 4"),
        (["--stages", "3", "--schedule", "interleaved", "--ranks", "2"], "3 stages do not fit 2 ranks"),
        (["--stages", "4", "--schedule", "interleaved", "--microbatches", "3"], "a multiple of 2, the ranks"),
    ],
)
def test_wrong_options(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*PLAN, *options]) == 2
    assert words in capsys.readouterr().err


def test_build_options(capsys: pytest.CaptureFixture[str]) -> None:
    for other in (["--for", "inference"], ["--memory", "1GiB"], ["--parallel"]):
        assert cli.run(["build", "lenet:lenet", "--stages", "2", *other]) == 2
        assert "--stages cannot be used with" in capsys.readouterr().err
    assert cli.run(["build", "lenet:lenet", "--stages", "2"]) == 0
    assert "STAGES = (\n    LenetStage0,\n    LenetStage1,\n)" in capsys.readouterr().out
