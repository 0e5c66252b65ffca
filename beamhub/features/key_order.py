"""Keys that are in order need no further look: a shard whose keys increase repeats none, and neither do shards whose ranges
of keys lie apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LONGEST = 200
"""Characters of a first or last key that a manifest holds."""

Key = Any
"""An int or a str, of one type within a table."""


def comparable(kind: pa.DataType) -> bool:
    """Whether keys of a type can be followed: integers, times and dates, and texts."""
    whole = pa.types.is_integer(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    return bool(whole or _is_text(kind))


class KeyOrder:
    """Follows the keys of one shard, batch by batch."""

    def __init__(self) -> None:
        """Before the first key."""
        self._first: Key | None = None
        self._last: Key | None = None
        self._increasing = True

    def add(self, keys: pa.Array) -> None:
        """The next keys of the shard; nulls are none."""
        if not self._increasing or not len(keys):
            return
        if not comparable(keys.type):
            self._increasing = False
            return
        keys = keys.drop_null() if keys.null_count else keys
        if not len(keys):
            return
        first, last = _key(keys[0]), _key(keys[-1])
        if (self._last is not None and not self._last < first) or not _increases(keys):
            self._increasing = False
        if self._first is None:
            self._first = first
        self._last = last

    @property
    def range(self) -> tuple[str, str] | None:
        """The first and the last key, as texts; None where the keys do not increase, there is none, or they are long."""
        if not self._increasing or self._first is None:
            return None
        found = str(self._first), str(self._last)
        return found if max(map(len, found)) <= LONGEST else None


def _increases(keys: pa.Array) -> bool:
    if _is_text(keys.type):
        return bool(pc.all(pc.less(keys[:-1], keys[1:]), min_count=0).as_py())
    # Not by Arrow, each of whose calls lets go of the interpreter's lock, for which others wait.
    numbers = keys.to_numpy(zero_copy_only=False)
    return bool(np.all(numbers[:-1] < numbers[1:]))


def _key(value: pa.Scalar) -> Key:
    if _is_text(value.type) or pa.types.is_integer(value.type):
        return value.as_py()
    return value.cast(pa.int32() if pa.types.is_date32(value.type) else pa.int64()).as_py()


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def overlapping(firsts: pa.ChunkedArray, lasts: pa.ChunkedArray, kind: pa.DataType) -> list[int]:
    """Places of the ranges of keys (as texts) that may share a key with another, ascending; all of them where one is null."""
    count = len(firsts)
    if firsts.null_count:
        return list(range(count))
    keys = pa.chunked_array([*firsts.chunks, *lasts.chunks], pa.string())
    if not _is_text(kind):
        keys = keys.cast(pa.uint64() if pa.types.is_uint64(kind) else pa.int64())
    ranks = pc.rank(keys, tiebreaker="dense").to_numpy().astype(np.int64)
    order = np.lexsort((ranks[count:], ranks[:count]))
    first, last = ranks[:count][order], ranks[count:][order]
    later = np.flatnonzero(first[1:] <= np.maximum.accumulate(last)[:-1]) + 1
    # The one before begins no later: it is that which reaches so far, or shares keys with that one too.
    found: list[int] = np.unique(order[np.concatenate([later, later - 1])]).tolist()
    return found
