"""Settings shared by all tests."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Worker processes share the cores, so each computes on one; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# If a test uses two threads, idle ones sleep while they wait.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from hypothesis import settings

from archdsl.checker import spec
from archdsl.graph import Graph
from archdsl.graph.verifying import verify
from tests.quick import quick_names

settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite the expected outputs kept in files")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files without a quick test are not imported for `-m quick`, since imports take as long as the quick tests."""
    if config.option.markexpr == "quick" and collection_path.suffix == ".py" and not quick_names(collection_path):
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.name.startswith(quick_names(item.path)) and item.get_closest_marker("long") is None:
            item.add_marker("quick")


def pytest_collection_finish() -> None:
    """Garbage collection skips what lives to the end, all modules and tests: else it takes a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 30)  # one full collection where Python makes three


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The reason why some tests are deselected."""
    if terminalreporter.stats.get("deselected") and config.option.markexpr == "not long":
        terminalreporter.write_line("deselected: what takes minutes (marked long); `make test-long` runs it")


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    """Whether to rewrite expected outputs instead of comparing them."""
    return bool(request.config.getoption("--update"))


@pytest.fixture(autouse=True, scope="session")
def verified() -> Iterator[None]:
    """Every graph that a test checks keeps the invariants. Those that are made of it are verified as they are made."""
    checked = spec._checked

    def and_verified(*args: object) -> Graph:
        graph = checked(*args)  # type: ignore[arg-type]
        verify(graph)
        return graph

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spec, "_checked", and_verified)
        yield


# A background job ignores Ctrl-C, and so would the programs that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
