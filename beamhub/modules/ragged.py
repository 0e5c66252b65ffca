"""Rows of different lengths, as a call to a module gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """Rows of different lengths.

    `values` are all rows' values, one after the other; `row_lengths`, int64 [rows], how many of the next
    level each row has. Of a tensor with several ragged dimensions `inner` has the lengths of the deeper
    levels, the outermost first: [["ab", "c"], ["d"]] split into letters is values a b c d, row_lengths 2 1,
    inner (2 1 1,).

    A sparse tensor's row holds its values in the order of their indices; where in the row they stood is not
    kept.
    """

    values: npt.NDArray[Any]
    row_lengths: npt.NDArray[np.int64]
    inner: tuple[npt.NDArray[np.int64], ...] = ()

    @property
    def levels(self) -> tuple[npt.NDArray[np.int64], ...]:
        """The lengths of every level, the outermost first."""
        return (self.row_lengths, *self.inner)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.row_lengths)

    def __getitem__(self, rows: slice) -> Ragged:
        """Some rows, without gaps."""
        kept = []
        start, stop, _ = rows.indices(len(self))
        for lengths in self.levels:
            kept.append(lengths[start:stop])
            start, stop = int(lengths[:start].sum()), int(lengths[:stop].sum())
        return Ragged(self.values[start:stop], kept[0], tuple(kept[1:]))


Output = npt.NDArray[Any] | Ragged
"""A dense tensor [rows, ...], or rows of different lengths."""
