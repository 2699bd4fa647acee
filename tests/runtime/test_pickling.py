"""Copies and pickles of modules made by `load`, and of those imported from built files."""

from __future__ import annotations

import copy
import gc
import importlib
import inspect
import linecache
import multiprocessing
import os
import pickle
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import archdsl
from archdsl import built
from archdsl.runtime import loading
from tests.helpers import ROOT, graph_of, source_of

SPECS = {
    "mobilenet:mobilenet_v2": {},
    "fcdensenet:fcdensenet56": {"recompute": "dense"},
    "resnet:resnet18": {"inference": True},
}
SMALL = "model net(width = 4) {\n    input image[3, H, W]\n    conv(width, 3) -> relu\n    head: conv(2, 1)\n}\n"


def small(width: int) -> nn.Module:
    return archdsl.load(source_of(SMALL), width=width)


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules have the same class, weights and structure."""
    first, second = one.state_dict(), other.state_dict()
    structure = [(n, type(m)) for n, m in one.named_modules()] == [(n, type(m)) for n, m in other.named_modules()]
    return structure and first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("spec", SPECS)
def test_a_loaded_module_is_copied_and_pickled(spec: str, tmp_path: Path) -> None:
    network = archdsl.load(spec, **SPECS[spec])  # type: ignore[arg-type]
    torch.save(network, tmp_path / "net.pt")
    others = [
        copy.deepcopy(network),
        copy.copy(network),
        pickle.loads(pickle.dumps(network)),
        torch.load(tmp_path / "net.pt", weights_only=False),
    ]
    assert all(same(network, other) for other in others)
    name, member = next((n, m) for n, m in network.named_parameters() if m.dim() == 4)
    with torch.no_grad():
        member.zero_()
    owned = [dict(other.named_parameters())[name].any() for other in others]
    assert owned == [True, False, True, True]  # copy.copy shares the weights, as of every module


def test_pickling_says_where_the_pickle_opens(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    network = small(4)
    copy.deepcopy(network), copy.copy(network), torch.save(network.state_dict(), tmp_path / "weights.pth")
    assert not recwarn.list
    for save in (lambda: torch.save(network, tmp_path / "net.pt"), lambda: pickle.dumps(network)):
        with pytest.warns(UserWarning, match=r"only after it has loaded the same spec.*state_dict"):
            save()


OPENED = f"""
import sys; sys.path[:0] = [{str(ROOT)!r}, "."]
import torch

print(*torch.load("weights.pth"))
print(type(torch.load("built.pt", weights_only=False)).__module__)
print("archdsl" in sys.modules)

def opened():
    try:
        return type(torch.load("loaded.pt", weights_only=False)).__name__
    except ModuleNotFoundError as error:
        return str(error)

print(opened())
import archdsl
archdsl.load(archdsl.Source("net.arch", {SMALL!r}), width=5)
print(opened())
archdsl.load(archdsl.Source("net.arch", {SMALL!r}), width=4)
print(opened())
try:
    torch.load("loaded.pt")
except Exception as error:
    print(type(error).__name__)
"""


def test_what_another_process_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small_net.py").write_text(archdsl.build(graph_of(SMALL)))
    monkeypatch.syspath_prepend(tmp_path)
    of_file = importlib.import_module("small_net").Net()
    assert same(of_file, pickle.loads(pickle.dumps(of_file))) and same(of_file, copy.deepcopy(of_file))
    torch.save(of_file, tmp_path / "built.pt")
    torch.save(small(4), tmp_path / "loaded.pt")
    torch.save(small(4).state_dict(), tmp_path / "weights.pth")
    del sys.modules["small_net"]
    done = subprocess.run([sys.executable, "-c", OPENED], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    weights, file, imported, *said = done.stdout.splitlines()
    assert "head.weight" in weights and (file, imported) == ("small_net", "False")
    assert "Load the same spec" in said[0] and "`net`" in said[0] and "state_dict" in said[0]
    # Loading another network of the same name changes nothing.
    assert said[1:] == [said[0], "Net", "UnpicklingError"]


def child(pipe: Connection) -> None:
    """Sends a module through the pipe, and returns its result."""
    pipe.send(pipe.recv()(torch.ones(1, 3, 5, 5)).sum().item())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_module_goes_to_a_process_that_has_loaded_it() -> None:
    network = small(4)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs,))
    process.start()
    ours.send(network)
    assert ours.recv() == network(torch.ones(1, 3, 5, 5)).sum().item()
    process.join()


# ---------------------------------------------------------------- lifetimes


def modules() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.startswith("archdsl.built.")}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduces the number of cached classes and modules, so that others replace them soon."""
    monkeypatch.setattr(built, "KEPT", 2)
    monkeypatch.setattr(loading, "KEPT", 2)


def test_modules_live_as_long_as_somebody_needs_them(few: None) -> None:
    first = small(100)
    name = type(first).__module__
    for width in range(101, 103 + built.KEPT):
        small(width)
    gc.collect()
    # The first is kept alive by its object: it is still found by its name.
    assert sys.modules[name].__dict__.get("Net") is None
    assert same(first, pickle.loads(pickle.dumps(first))) and same(first, copy.deepcopy(first))
    assert type(small(100)) is type(first)
    for width in range(201, 203 + built.KEPT):
        small(width)
    assert "nn.Conv2d(100, 2, 1, **kw)" in inspect.getsource(type(first))
    with pytest.raises(AttributeError, match="Nothing"):
        _ = sys.modules[name].Nothing
    del first
    gc.collect()
    assert name not in sys.modules
    gone = [f for f in linecache.cache if f.startswith("<archdsl net ")]
    assert len(gone) <= len(modules()) <= built.KEPT + len(built._alive)


CROPPED = "model cropped {\n    input x[3, H, W]\n    (x, conv(4, 3, pad = valid)) -> align(crop) -> concat\n}\n"


def test_what_is_kept_by_its_object_alone_compiles(few: None) -> None:
    network = archdsl.load(archdsl.Source("cropped.arch", CROPPED))  # with a function beside the class
    for width in range(301, 303 + built.KEPT):
        small(width)
    assert "crop_to_smallest" not in sys.modules[type(network).__module__].__dict__
    image = torch.randn(1, 3, 9, 9)
    assert torch.equal(torch.compile(network, fullgraph=True, backend="eager")(image), network(image))


def test_tracebacks_show_the_lines_of_their_own_text() -> None:
    networks = [small(4), archdsl.load(source_of(SMALL.replace("-> relu", "-> gelu -> relu")))]
    texts = [inspect.getsource(type(network)) for network in networks]
    assert ["gelu" in text.lower() for text in texts] == [False, True]
