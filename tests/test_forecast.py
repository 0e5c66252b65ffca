"""The time left, against runs whose every second is known: workers of a given speed, simulated batch by batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from beamhub.corpus.shards import Shard
from beamhub.engine.forecast import Forecast, Forecaster
from beamhub.engine.progress import Progress, Report, Told

EQUAL = (40_000,) * 8
ONE = (400_000,)
UNEVEN = (200_000, 100_000, 50_000, 25_000, 12_000, 6_000, 3_000, 1_500)
MANY = (1_000,) * 500
NOTHING = Report("", 0, 0, 0, 0, 0, 0, batches=0, seconds=0.0, last=0.0, is_working=True)
STEP = 250
"""Bytes of a batch; a row is 10 of them."""


def shards(sizes: Sequence[int]) -> list[Shard]:
    return [Shard(f"c/{n}", str(n), size, "t") for n, size in enumerate(sizes)]


class Worker:
    """Starts for some seconds, then does shards at its speed."""

    def __init__(self, speed: float, start: float) -> None:
        self.now = 0.0
        self._speed = speed
        self._start = start
        self.progress = Progress(lambda: self.now)

    def work(self, shard: Shard) -> Iterator[float]:
        """The moments at which a batch is written."""
        for end in range(STEP, shard.size + STEP, STEP):
            self.now = max(self.now, self._start) + (min(end, shard.size) - (end - STEP)) / self._speed
            self.progress.advance(shard, STEP // 10, min(1.0, end / shard.size))
            if end >= shard.size:
                self.progress.finish(shard)
            yield self.now


def simulate(workers: list[Worker], take: Callable[[int], Iterator[Shard]]) -> list[tuple[float, list[Report]]]:
    """All reports at each moment at which a batch is written, in time's order."""
    running = {n: itertools.chain.from_iterable(map(worker.work, take(n))) for n, worker in enumerate(workers)}
    due = {n: next(each, None) for n, each in running.items()}
    seen = []
    reports = {n: Progress().report(is_working=True) for n in running}
    while any(at is not None for at in due.values()):
        n, at = min(((n, at) for n, at in due.items() if at is not None), key=lambda each: each[1])
        reports[n] = workers[n].progress.report(is_working=True)
        seen.append((at, list(reports.values())))
        due[n] = next(running[n], None)
    return seen


def wrong(sizes: Sequence[int], seen: list[tuple[float, list[Report]]], forecaster: Forecaster) -> float:
    """The largest error of an ETA, as a share of the time that was left, between a tenth and nine tenths of the bytes."""
    end = seen[-1][0]
    errors = []
    for at, reports in seen:
        found = forecaster.forecast([Told(report, 0.0) for report in reports])
        assert found.share == pytest.approx(sum(report.nbytes for report in reports) / sum(sizes))
        if 0.1 <= found.share <= 0.9:
            assert found.seconds is not None
            errors.append(abs(found.seconds - (end - at)) / (end - at))
    assert len(errors) > 100
    return max(errors)


@pytest.mark.parametrize("sizes", [EQUAL, ONE, UNEVEN, MANY])
def test_one_worker(sizes: tuple[int, ...]) -> None:
    """It takes 30 s to start and does 5,000 bytes a second."""
    todo = shards(sizes)
    seen = simulate([Worker(5000, 30)], lambda _: iter(todo))

    assert wrong(sizes, seen, Forecaster(todo)) < 0.02


@pytest.mark.parametrize("sizes", [EQUAL, EQUAL[:3], UNEVEN, MANY])
def test_two_workers_that_were_dealt_their_shards(sizes: tuple[int, ...]) -> None:
    """Every other shard each; of the uneven ones, the first worker has twice as much to do."""
    todo = shards(sizes)
    seen = simulate([Worker(5000, 30), Worker(4000, 31)], lambda n: iter(todo[n::2]))

    assert wrong(sizes, seen, Forecaster(todo, dealt=2)) < 0.05


@pytest.mark.parametrize("sizes", [EQUAL, EQUAL[:5], UNEVEN, MANY])
def test_three_workers_that_take_the_next(sizes: tuple[int, ...]) -> None:
    todo = iter(shards(sizes))
    seen = simulate([Worker(5000, 30), Worker(4000, 30), Worker(6000, 30)], lambda _: todo)

    assert wrong(sizes, seen, Forecaster(shards(sizes))) < 0.2


def test_more_workers_than_shards() -> None:
    """Two of four get none, and never tell anything."""
    todo = shards(EQUAL[:2])
    seen = simulate([Worker(1000, 30) for _ in range(4)], lambda n: iter(todo[n::4]))

    assert wrong(EQUAL[:2], seen, Forecaster(todo, dealt=4)) < 0.1


def report(**figures: Any) -> Report:
    return replace(NOTHING, **figures)


def test_nothing_told_yet() -> None:
    assert Forecaster(shards(ONE)).forecast([]) == Forecast(0, None, 0, 0.0, None)


def test_too_early_for_a_rate() -> None:
    """The second batch came a tenth of a second after the first."""
    told = Told(report(first="a", rows=20, nbytes=20, ahead=80, paced_rows=10, paced_bytes=10, seconds=0.1), 0.0)

    assert Forecaster(shards([100])).forecast([told]) == Forecast(20, None, 0, 0.2, None)


def test_the_eta_counts_down_between_reports() -> None:
    """80 of 100 bytes are left at 10 a second, and 3 s have passed."""
    told = report(first="a", rows=20, nbytes=20, ahead=80, paced_rows=10, paced_bytes=20, seconds=2.0)
    forecaster = Forecaster(shards([100]))

    assert [forecaster.forecast([Told(told, age)]).seconds for age in (0.0, 3.0, 9.0)] == [8.0, 5.0, 0.0]
    assert forecaster.forecast([Told(told, 0.0)]).rows_per_second == 5.0


def test_work_done_twice_is_no_more_than_all() -> None:
    """A bundle that was tried again elsewhere."""
    done = report(first="a", rows=10, shards=1, nbytes=100, is_working=False)

    found = Forecaster(shards([100])).forecast([Told(done, 0.0), Told(done, 0.0)])

    assert (found.share, found.shards) == (1.0, 1)


def test_empty_shards_are_no_division_by_nothing() -> None:
    assert Forecaster(shards([0, 0])).forecast([Told(report(shards=1), 0.0)]) == Forecast(0, None, 1, 0.0, None)
