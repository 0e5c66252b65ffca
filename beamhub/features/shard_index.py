"""Rows of a table by shard id: looked up one by one or all at once, without a Python object for each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beamhub.corpus.shard_list import Ids, Integers
from beamhub.errors import TableError

_DIGITS = 16
_NIBBLES = np.full(256, 255, np.uint8)
for _value, _digit in enumerate(b"0123456789abcdef"):
    _NIBBLES[_digit] = _value


def numbers_of(ids: pa.ChunkedArray) -> Ids:
    """Shard ids as numbers. Raises TableError for what is none."""
    return np.concatenate([np.empty(0, np.uint64), *(_numbers(chunk) for chunk in ids.chunks)])


def _numbers(ids: pa.Array) -> Ids:
    if not len(ids):
        return np.empty(0, np.uint64)
    _, offsets, text = ids.buffers()
    bounds = np.frombuffer(offsets, np.int32)[ids.offset : ids.offset + len(ids) + 1]
    wrong = np.diff(bounds) != _DIGITS
    if ids.null_count or wrong.any():
        raise _damaged(ids, wrong)
    digits = _NIBBLES[np.frombuffer(text, np.uint8)[bounds[0] : bounds[-1]].reshape(-1, _DIGITS)]
    wrong = (digits == 255).any(axis=1)
    if wrong.any():
        raise _damaged(ids, wrong)
    octets: npt.NDArray[np.uint8] = np.ascontiguousarray(digits[:, 0::2] << 4 | digits[:, 1::2])
    return octets.view(">u8").ravel().astype(np.uint64)


def _damaged(ids: pa.Array, wrong: npt.NDArray[np.bool_]) -> TableError:
    value = ids[int(wrong.argmax())].as_py()
    return TableError(f"shard id {value!r}: not 16 hex digits; manifest or ledger is damaged: restore it")


class ShardIndex:
    """The rows of each shard id; an id may have several."""

    def __init__(self, ids: Ids) -> None:
        """`ids` are those of the rows."""
        self._order: Integers = np.argsort(ids, kind="stable")
        self._sorted = ids[self._order]

    def rows(self, shard: str) -> Integers:
        """The rows of one id, ascending."""
        wanted = np.uint64(int(shard, 16))
        return self._order[np.searchsorted(self._sorted, wanted) : np.searchsorted(self._sorted, wanted, "right")]

    def firsts(self, ids: Ids) -> Integers:
        """The first row of each id; -1 where there is none."""
        if not len(self._sorted):
            return np.full(len(ids), -1)
        # In order the look-ups walk through memory once.
        order = np.argsort(ids)
        places = np.minimum(np.searchsorted(self._sorted, ids[order]), len(self._sorted) - 1)
        found = np.empty(len(ids), np.int64)
        found[order] = np.where(self._sorted[places] == ids[order], self._order[places], -1)
        return found

    def pairs(self, ids: Ids) -> tuple[Integers, Integers]:
        """All rows of all ids: the place of the id and the row, by place, then row."""
        order = np.argsort(ids)
        starts, counts = np.empty(len(ids), np.int64), np.empty(len(ids), np.int64)
        starts[order] = np.searchsorted(self._sorted, ids[order])
        counts[order] = np.searchsorted(self._sorted, ids[order], "right")
        counts -= starts
        places = np.repeat(np.arange(len(ids)), counts)
        within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        return places, self._order[np.repeat(starts, counts) + within]
