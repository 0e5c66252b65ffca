"""How far a run is and when its last shard will be done, from what its worker processes tell."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from beamhub.corpus.shards import Shard
from beamhub.engine.progress import Report, Told

_STEADY = 0.5
"""Seconds that a rate must be of, to be worth showing."""

_FEW = 100
"""Waiting shards for each process. Where there are more, how they fall matters less than a percent."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Records written, records a second, shards finished, the share of the input that is done (0 to 1), and the seconds
    until the last shard is; None where nothing tells yet."""

    rows: int
    rows_per_second: float | None
    shards: int
    share: float
    seconds: float | None


class Forecaster:
    """Knows the shards of a run in the order of its worklist.

    `dealt` is the number of processes that get every so-manieth shard before any begins; None where each takes the next.
    Each process is taken to go on as fast as it was in the latter half of its time.
    """

    def __init__(self, shards: Sequence[Shard], dealt: int | None = None) -> None:
        self._sizes = [shard.size for shard in shards]
        self._total = sum(self._sizes)
        self._hands = [sum(self._sizes[n::dealt]) for n in range(dealt)] if dealt else []
        self._heads = {shard.id: n for n, shard in enumerate(shards[: len(self._hands)])}

    @property
    def shards(self) -> int:
        """How many there are."""
        return len(self._sizes)

    def forecast(self, told: Sequence[Told]) -> Forecast:
        """From the present reports; of work that was done twice, for its worker was lost, no more counts than there is."""
        reports = [each.report for each in told]
        shards = min(self.shards, sum(report.shards for report in reports))
        share = min(1.0, sum(report.nbytes for report in reports) / self._total) if self._total else 0.0
        return Forecast(
            sum(report.rows for report in reports), _rows_per_second(reports), shards, share, self._seconds(told)
        )

    def _seconds(self, told: Sequence[Told]) -> float | None:
        begun = [each for each in told if each.report.first]
        if any(_pace(each.report) is not None for each in begun):
            if self._hands and all(each.report.first in self._heads for each in begun):
                return self._of_hands(begun)
            return self._of_queue(begun)
        return None

    def _of_hands(self, told: Sequence[Told]) -> float:
        """Each process has its own shards to do; one that has not begun will be as fast as the others are."""
        paces = [pace for each in told if (pace := _pace(each.report)) is not None]
        usual = sum(paces) / len(paces)
        ends = dict(enumerate(hand / usual for hand in self._hands))
        for each in told:
            hand = self._heads[each.report.first]
            left = max(0, self._hands[hand] - each.report.nbytes)
            ends[hand] = left / (_pace(each.report) or usual) - each.age
        return max(0.0, *ends.values())

    def _of_queue(self, told: Sequence[Told]) -> float:
        """Whoever has done with a shard takes the largest that waits."""
        paced = [each for each in told if _pace(each.report) is not None]
        working = [each for each in paced if each.report.is_working] or paced
        paces = [_pace(each.report) or 0.0 for each in working]
        free = [each.report.ahead / pace - each.age for each, pace in zip(working, paces, strict=True)]
        ahead = sum(each.report.ahead for each in told)
        left = max(0, self._total - ahead - sum(each.report.nbytes for each in told))
        together = (sum(end * pace for end, pace in zip(free, paces, strict=True)) + left) / sum(paces)
        if len(working) == 1:
            return max(0.0, together)
        return max(0.0, together, self._last_of_queue(free, paces, told, left))

    def _last_of_queue(self, free: Sequence[float], paces: Sequence[float], told: Sequence[Told], left: int) -> float:
        """When the last process ends, its own share of `left` bytes included."""
        taken = sum(each.report.shards for each in told) + sum(each.report.ahead > 0 for each in told)
        waiting = self._sizes[taken:]
        if len(waiting) > _FEW * len(free) or not sum(waiting):
            return max(free)
        # Which shards wait is not told: about as many as were not taken, and together as large as what is left.
        scale = left / sum(waiting)
        queue = [(end, pace) for end, pace in zip(free, paces, strict=True)]
        heapq.heapify(queue)
        for size in waiting:
            end, pace = queue[0]
            heapq.heapreplace(queue, (end + size * scale / pace, pace))
        return max(end for end, _ in queue)


def _pace(report: Report) -> float | None:
    """Bytes of input a second; None where it is too early to tell."""
    return report.paced_bytes / report.seconds if report.seconds >= _STEADY and report.paced_bytes else None


def _rows_per_second(reports: Sequence[Report]) -> float | None:
    """All processes together, those that work."""
    paced = [report for report in reports if report.seconds >= _STEADY]
    working = [report for report in paced if report.is_working] or paced
    return sum(report.paced_rows / report.seconds for report in working) if working else None
