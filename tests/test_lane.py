"""Shards through the stages: in order, overlapping, and each with a result of its own."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from beamhub.corpus.listing import list_corpus
from beamhub.corpus.shards import Chunk
from beamhub.engine.budget import Budget
from beamhub.engine.inference import Inference, Inferred
from beamhub.engine.lane import Lane
from beamhub.engine.planning import read_specs
from beamhub.engine.pool import ComputePool, acquire_pool
from beamhub.engine.shard import WorkItem
from beamhub.engine.tablespec import TableSpec
from beamhub.features.paths import VersionPaths
from tests.jobs import succeed
from tests.small import save

FILES = 4


@pytest.fixture
def spec(tmp_path: Path) -> TableSpec:
    """The spec of a committed table of four shards of three rows."""
    module = save(tmp_path / "m", lambda x: {"y": 2 * x}, tf.TensorSpec((None,), tf.float32, "x"))
    (tmp_path / "c").mkdir()
    for number in range(FILES):
        table = pa.table({"x": pa.array([3.0 * number, 3.0 * number + 1, 3.0 * number + 2], pa.float32())})
        pq.write_table(table, tmp_path / "c" / f"{number}.parquet")
    succeed("extract", "--module", module, "--corpus", tmp_path / "c" / "*", "--out", tmp_path / "out")
    (found,) = read_specs(str(tmp_path / "out")).values()
    return found


@pytest.fixture
def items(tmp_path: Path, spec: TableSpec) -> list[WorkItem]:
    return [WorkItem(shard) for shard in list_corpus(str(tmp_path / "c" / "*")).shards]


@pytest.fixture
def paths(tmp_path: Path, spec: TableSpec) -> VersionPaths:
    return VersionPaths(str(tmp_path / "elsewhere"), spec.version)


def test_results_come_in_order(spec: TableSpec, items: list[WorkItem], paths: VersionPaths) -> None:
    with Lane(spec, paths, acquire_pool(spec)) as lane:
        results = [result for item in items for result in lane.submit(item)] + lane.drain()

    assert [(result.relative, result.outcome) for result in results] == [(f"{n}.parquet", "done") for n in range(FILES)]
    values = [pq.read_table(paths.path(result.file)).column("y").to_pylist() for result in results]
    assert values == [[6.0 * n, 6.0 * n + 2, 6.0 * n + 4] for n in range(FILES)]


def test_a_failed_shard_leaves_the_others_alone(spec: TableSpec, items: list[WorkItem], paths: VersionPaths) -> None:
    """The second file is damaged after it was planned with the token that it has now."""
    Path(items[1].shard.path).write_bytes(b"PAR1 no more PAR1")
    damaged = [WorkItem(shard) for shard in list_corpus(str(Path(items[1].shard.path))).shards]

    with Lane(spec, paths, acquire_pool(spec)) as lane:
        results = [r for item in (items[0], damaged[0], items[2]) for r in lane.submit(item)] + lane.drain()

    assert [result.outcome for result in results] == ["done", "failed", "done"]
    assert "not Parquet, truncated or damaged" in results[1].reason
    assert len(list(Path(paths.root).rglob("part-*"))) == 2


@dataclass(frozen=True)
class Gate(Inference):
    """Inference of which the first batch does not end before a second one has begun."""

    batches: Iterator[int] = field(default_factory=itertools.count)
    second: threading.Event = field(default_factory=threading.Event)
    overlapped: list[bool] = field(default_factory=list)

    def run(self, batch: Chunk) -> Inferred:
        if next(self.batches) == 0:
            self.overlapped.append(self.second.wait(30))
        else:
            self.second.set()
        return super().run(batch)


def test_the_next_shard_begins_before_the_last_has_ended(
    spec: TableSpec, items: list[WorkItem], paths: VersionPaths
) -> None:
    genuine = acquire_pool(spec, 2)
    gate = Gate(genuine.inference.caller, genuine.inference.task, genuine.stages)
    pool = ComputePool(genuine.module, gate, genuine.threads)

    with Lane(spec, paths, pool) as lane:
        for item in items:
            lane.submit(item)
        lane.drain()

    assert gate.overlapped == [True]


@dataclass
class Meeting:
    """A bound signature whose first call waits for another thread to come, and then a little for it to compute too."""

    bound: Any
    calls: Iterator[int] = field(default_factory=itertools.count)
    came: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    both: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))
    another_came: bool = False
    computed_together: bool = False

    def __call__(self, raw: Mapping[str, npt.NDArray[Any]], turn: AbstractContextManager[Any]) -> Any:
        self.came.release()
        with turn:
            if next(self.calls) == 0:
                self.another_came = self.came.acquire(timeout=30) and self.came.acquire(timeout=30)
            with contextlib.suppress(threading.BrokenBarrierError):
                self.both.wait(0.5)
                self.computed_together = True
        return self.bound(raw)


@pytest.mark.parametrize("turns", [1, 2])
def test_one_thread_prepares_while_the_others_compute(
    spec: TableSpec, items: list[WorkItem], paths: VersionPaths, turns: int
) -> None:
    genuine = acquire_pool(spec, turns)
    caller = genuine.inference.caller
    meeting: Any = Meeting(caller.bound)
    pool = ComputePool(
        genuine.module, replace(genuine.inference, caller=replace(caller, bound=meeting)), genuine.threads
    )  # fmt: skip

    with Lane(spec, paths, pool) as lane:
        results = [result for item in items for result in lane.submit(item)] + lane.drain()

    assert [result.outcome for result in results] == ["done"] * FILES
    assert meeting.another_came
    assert meeting.computed_together == (turns == 2)


class Broken(Inference):
    """Inference with a mistake in it."""

    def run(self, batch: Chunk) -> Inferred:
        raise AssertionError("a mistake")


def test_a_mistake_in_the_code_is_raised(spec: TableSpec, items: list[WorkItem], paths: VersionPaths) -> None:
    genuine = acquire_pool(spec, 2)
    broken = Broken(genuine.inference.caller, genuine.inference.task, genuine.stages)
    pool = ComputePool(genuine.module, broken, genuine.threads)

    with Lane(spec, paths, pool) as lane:
        lane.submit(items[0])
        with pytest.raises(AssertionError, match="a mistake"):
            lane.drain()


def entering(budget: Budget, size: int) -> threading.Thread:
    """A thread that takes room for a batch of that size; it is alive while it waits."""
    taken = threading.Thread(target=budget.acquire, args=(size,), daemon=True)
    taken.start()
    taken.join(0.2)
    return taken


def test_the_budget_bounds_bytes_and_batches() -> None:
    budget = Budget(most_batches=2, most_bytes=100)
    budget.acquire(1000)  # a batch larger than the budget goes alone
    second = entering(budget, 1)
    assert second.is_alive()
    budget.resize(1000, 10)
    second.join(30)
    assert not second.is_alive()
    budget.release(10)
    budget.release(1)
    budget.acquire(60)
    assert entering(budget, 60).is_alive()


def test_the_budget_expects_what_came_of_the_last_records() -> None:
    budget = Budget(most_batches=2, most_bytes=100)
    assert budget.expected(8) == 0
    budget.learn(4, 200)
    assert budget.expected(8) == 400


def test_the_budget_lets_the_next_one_in_when_one_leaves() -> None:
    budget = Budget(most_batches=1, most_bytes=100)
    budget.acquire(5)
    waiting = threading.Thread(target=budget.acquire, args=(7,))
    waiting.start()
    budget.release(5)
    waiting.join(30)

    assert not waiting.is_alive()
