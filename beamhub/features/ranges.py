"""Finished ranges of corpus files, as columns, and which of them cannot stand side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beamhub.corpus.shard_list import Integers
from beamhub.corpus.shards import WHOLE

COLUMNS = ["start", "end", "begins", "ends"]
"""What of results it takes."""

_UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class Ranges:
    """Ranges in the order of their `file`, a number, then `start`, then `end`; the bytes of the file where the first record
    `begins` and the last one `ends` are -1 where that is not known, of a range without records or a format that leaves no
    doubt."""

    file: Integers
    start: Integers
    end: Integers
    begins: Integers
    ends: Integers

    @classmethod
    def of(cls, file: Integers, results: pa.Table) -> Self:
        """From the file of each, and the `COLUMNS` of their results, in any order."""
        start, end, begins, ends = (pc.fill_null(results.column(name), _UNKNOWN).to_numpy() for name in COLUMNS)
        order = np.lexsort((end, start, file))
        return cls(*(column[order] for column in (file, start, end, begins, ends)))

    def conflicts(self) -> Iterable[tuple[int, str]]:
        """Files where rows would be doubled or lost, and why; one may come several times.

        Of neighbours the later one has to begin where the earlier one ends. Where a range is missing (a hole), nothing is
        compared.
        """
        start, end = self.start, self.end
        same = self.file[1:] == self.file[:-1]
        overlaps = np.flatnonzero(same & ((end[:-1] == WHOLE) | (end[:-1] > start[1:])))
        for one in overlaps.tolist():
            yield (
                self._name(one),
                f"ranges {self._span(one)} and {self._span(one + 1)} overlap, so rows would be doubled",
            )
        # Those that follow each other without a gap; and of these, those that know where they begin.
        stretch = np.cumsum(np.concatenate([[True], ~same | (end[:-1] != start[1:])])[: len(end)])
        known = np.flatnonzero(self.begins != _UNKNOWN)
        before, after = known[:-1], known[1:]
        differs = (stretch[before] == stretch[after]) & (self.ends[before] != self.begins[after])
        for one, other in zip(before[differs].tolist(), after[differs].tolist(), strict=True):
            yield (
                self._name(one),
                f"range {self._span(one)} ends at byte {self.ends[one]}, range {self._span(other)} begins at byte "
                f"{self.begins[other]}, so rows would be lost or doubled",
            )

    def _name(self, place: int) -> int:
        return int(self.file[place])

    def _span(self, place: int) -> str:
        return f"{self.start[place]}:{self.end[place]}"
