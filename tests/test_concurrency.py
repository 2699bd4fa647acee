"""Concurrent compilations in threads, tasks and forked processes: each as if it ran alone."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Thread

import pytest

import archdsl
from archdsl import built
from archdsl.common import limits, threads
from archdsl.common.limits import Budget, Exceeded, Limits, deep_calls, limited
from tests.helpers import ROOT, source_of

SPECS = ("lenet:lenet", "alexnet:alexnet", "edges:edges")
WRONG = "model m {\n    input x[3, H, W]\n    con(8, 3)\n    (conv(4, 3), conv(8, 3)) -> add\n}\n"
DEEP = "block b(n) { if n > 0 { b(n - 1) }\nrelu }\nmodel m {\ninput x[1, 8, 8]\nb(95)\n}\n"
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture
def hasty() -> Iterator[None]:
    """Makes threads switch far more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def answers(turn: int = 0) -> list[object]:
    """The results of archdsl for some specs, in another order each time."""
    found: dict[str, object] = {}
    for spec in SPECS[turn % 3 :] + SPECS[: turn % 3]:
        graph = archdsl.check(spec)
        found[spec] = (archdsl.build(graph), archdsl.draw(graph, depth=1).dot)
    for text in (WRONG, DEEP):
        try:
            found[text] = archdsl.build(archdsl.check(archdsl.Source("m.arch", text)))
        except archdsl.SpecError as error:
            found[text] = str(error)
    found["few"] = refused(Limits(nodes=3))
    return [found[key] for key in sorted(found)]


def refused(most: Limits) -> str:
    with pytest.raises(archdsl.SpecError) as caught:
        archdsl.check("lenet:lenet", limits=most)
    return str(caught.value)


def test_threads_get_what_one_gets(hasty: None) -> None:
    alone, allowed = answers(), sys.getrecursionlimit()
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(answers, range(6)))
    assert all(found == alone for found in together)
    assert sys.getrecursionlimit() == allowed


def test_threads_that_load_the_same_get_one_class(hasty: None) -> None:
    specs = [source_of(f"model n{i} {{\n    input x[3, 8, 8]\n    conv(4, 3)\n}}\n") for i in range(4)]
    barrier = Barrier(16)

    def load(number: int) -> type:
        barrier.wait()
        return type(archdsl.load(specs[number % 4]))

    with ThreadPoolExecutor(16) as pool:
        classes = list(pool.map(load, range(16)))
    assert [len(set(classes[i::4])) for i in range(4)] == [1] * 4
    assert all(getattr(sys.modules[c.__module__], c.__name__) is c for c in classes)
    assert len(built._latest) <= built.KEPT


FIRST = """
import sys, threading
sys.setswitchinterval(1e-6)
import archdsl
found = []
def work():
    graph = archdsl.check("lenet:lenet")
    found.append(len(archdsl.build(graph)) + len(archdsl.draw(graph).dot))
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), len(set(found)))
"""


def test_the_first_calls_of_a_process_may_come_from_many_threads() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", FIRST], env=env, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("8 1\n", "")


def test_tasks_keep_their_own_limits() -> None:
    async def one(nodes: int) -> int:
        with limited(Limits(nodes=nodes)):
            await asyncio.sleep(0)
            assert limits.limits().nodes == nodes
            with pytest.raises(archdsl.SpecError, match=f"more than {nodes} nodes"):
                archdsl.check("lenet:lenet")
            return len(await asyncio.to_thread(archdsl.check, "lenet:lenet", limits=Limits()))

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(one(nodes) for nodes in range(1, 5)))

    assert len(set(asyncio.run(all_of_them()))) == 1
    assert limits.limits() == Limits()


# ---------------------------------------------------------------- what threads share


def test_the_last_thread_puts_the_recursion_limit_back() -> None:
    allowed = sys.getrecursionlimit()
    inside, leave = Event(), Event()

    def other() -> None:
        with deep_calls():
            inside.set()
            leave.wait(60)

    thread = Thread(target=other)
    with deep_calls():
        thread.start()
        assert inside.wait(60)
    assert sys.getrecursionlimit() == limits.STACK
    leave.set()
    thread.join()
    assert sys.getrecursionlimit() == allowed


def test_a_recursion_limit_that_somebody_sets_meanwhile_stays() -> None:
    allowed = sys.getrecursionlimit()
    with deep_calls():
        sys.setrecursionlimit(limits.STACK + 1)
    assert sys.getrecursionlimit() == limits.STACK + 1
    sys.setrecursionlimit(allowed)


def test_what_others_compute_takes_nothing_of_the_solvers_time() -> None:
    def compute() -> None:
        for _ in range(20):
            hashlib.sha256(bytes(20_000_000)).digest()

    budget = Budget(Limits(solver_seconds=1))
    thread = Thread(target=compute)
    with budget.solving():
        thread.start()
        thread.join()
        budget.tick()
    assert budget.seconds < 0.1


# ---------------------------------------------------------------- processes


def in_a_fork(work: object) -> int:
    """The exit status of a forked process that does the work; kills one that hangs."""
    process = os.fork()
    if process == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        status = 1
        try:
            work()  # type: ignore[operator]
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@needs_fork
def test_forks_while_threads_compile(hasty: None) -> None:
    archdsl.build(archdsl.check("lenet:lenet"))  # a fork during an import cannot be made safe
    allowed, over = sys.getrecursionlimit(), Event()

    def compile_on() -> None:
        while not over.is_set():
            archdsl.build(archdsl.check("lenet:lenet"))

    def compile_once() -> None:
        assert sys.getrecursionlimit() == allowed
        archdsl.build(archdsl.check("lenet:lenet"))
        assert sys.getrecursionlimit() == allowed

    thread = Thread(target=compile_on)
    thread.start()
    try:
        assert [in_a_fork(compile_once) for _ in range(10)] == [0] * 10
    finally:
        over.set()
        thread.join()


@needs_fork
def test_a_fork_within_a_compilation_keeps_its_room() -> None:
    def nested() -> None:
        assert sys.getrecursionlimit() == limits.STACK
        archdsl.check("lenet:lenet")
        assert sys.getrecursionlimit() == limits.STACK

    with deep_calls():
        assert in_a_fork(nested) == 0


class Slow:
    """A value that takes a controlled time to compute."""

    def __init__(self, begun: Event, go_on: Event) -> None:
        self.begun, self.go_on = begun, go_on

    @threads.cached_property
    def value(self) -> int:
        self.begun.set()
        self.go_on.wait(60)
        return 3


@needs_fork
def test_a_fork_waits_for_no_value_that_a_thread_computes() -> None:
    begun, go_on, free = Event(), Event(), Event()
    free.set()
    slow = Slow(begun, go_on)
    thread = Thread(target=lambda: slow.value)
    thread.start()
    assert begun.wait(60)
    assert in_a_fork(lambda: Slow(Event(), free).value) == 0
    go_on.set()
    thread.join()
    assert slow.value == 3 and "value" in vars(slow)


def size_of(spec: str) -> int:
    return len(archdsl.build(archdsl.check(spec)))


@pytest.mark.parametrize("way", ["fork", "spawn", "forkserver"])
def test_pools_of_processes(way: str) -> None:
    if way not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {way}")
    if __name__ != "tests.test_concurrency" and way != "fork":
        # Its processes import this file by name, which only a separate program has.
        code = f"from tests.test_concurrency import pooled\nif __name__ == '__main__': print(pooled({way!r}))"
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
        assert done.stdout == f"{pooled('fork')}\n", done.stderr
    else:
        assert pooled(way) == [size_of(spec) for spec in SPECS]


def pooled(way: str) -> list[int]:
    with multiprocessing.get_context(way).Pool(2) as pool:
        return pool.map(size_of, SPECS)


def test_a_compilation_that_fails_in_a_thread_leaves_nothing() -> None:
    allowed = sys.getrecursionlimit()

    def fail() -> None:
        with pytest.raises(Exceeded), deep_calls():
            raise RecursionError

    thread = Thread(target=fail)
    thread.start()
    thread.join()
    assert sys.getrecursionlimit() == allowed
