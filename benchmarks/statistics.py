"""Rates as slopes between two corpus sizes, and ratios of paired repetitions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.process import Cost


@dataclass(frozen=True)
class Pair:
    """A system on a small and a large corpus, one right after the other."""

    small: Cost
    large: Cost
    small_rows: int
    large_rows: int

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Pair:
        """The inverse of `dataclasses.asdict`; other keys are left aside."""
        return cls(Cost(**values["small"]), Cost(**values["large"]), values["small_rows"], values["large_rows"])

    @property
    def rate(self) -> float:
        """Rows per second once it runs: what starting costs is in both, and cancels out."""
        return (self.large_rows - self.small_rows) / (self.large.seconds - self.small.seconds)

    @property
    def start_up(self) -> float:
        """Seconds that a run over no rows would take."""
        return self.small.seconds - self.small_rows / self.rate

    @property
    def peak(self) -> int:
        """Bytes resident at once in the whole process tree."""
        return max(self.small.peak, self.large.peak)

    @property
    def rows_per_cpu_second(self) -> float:
        return (self.large_rows - self.small_rows) / (self.large.cpu - self.small.cpu)


@dataclass(frozen=True)
class Interval:
    """A median, an interval that holds the true one with 90 % probability at least, and of how many repetitions.

    Fewer than five give no such interval: it is their range then.
    """

    median: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def median(values: Sequence[float]) -> Interval:
    """The median of repetitions; its interval lies between two of them, the lowest and the highest of five to seven.

    Each of n repetitions is below the true median by a half, so the k lowest are all below it, or the k highest all above,
    with the probabilities of a binomial distribution (David and Nagaraja, Order Statistics, 2003, 7.1).
    """
    given, count = sorted(values), len(values)
    left_out = 0
    while 2 * sum(math.comb(count, k) for k in range(left_out + 2)) <= 0.1 * 2**count:
        left_out += 1
    return Interval(statistics.median(given), given[left_out], given[-1 - left_out], count)


def meets(ratio: Interval, target: float) -> bool:
    """Whether a target is met: the interval reaches it, and the median is at most .03 below."""
    return ratio.high >= target and ratio.median >= target - 0.03


def exceeds(ratio: Interval, target: float) -> bool:
    """Whether the whole interval lies above."""
    return ratio.low > target
