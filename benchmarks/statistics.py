"""Rates as slopes between two corpus sizes, and ratios of paired repetitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    """A median, the 90 % interval of it by bootstrap, and of how many repetitions."""

    median: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def median(values: Sequence[float]) -> Interval:
    """The median of repetitions; 10,000 resamples with a fixed seed."""
    given = np.asarray(values)
    drawn = np.random.default_rng(0).choice(given, (10_000, len(given)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.05, 0.95])
    return Interval(float(np.median(given)), float(low), float(high), len(given))


def meets(ratio: Interval, target: float) -> bool:
    """Whether a target is met: the interval reaches it, and the median is at most .03 below."""
    return ratio.high >= target and ratio.median >= target - 0.03


def exceeds(ratio: Interval, target: float) -> bool:
    """Whether the whole interval lies above."""
    return ratio.low > target
