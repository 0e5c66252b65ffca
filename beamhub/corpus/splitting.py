"""Large files in ranges, so that one giant file keeps every worker busy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from beamhub.corpus.shard_list import Integers, ShardList
from beamhub.corpus.shards import WHOLE, Shard

SPLIT_BYTES = 256 << 20
"""A range has about so many bytes, where nobody says: tens of seconds of work, and few files for a table."""


def split(files: Iterable[Shard], size: int) -> ShardList:
    """Cuts each file into equal ranges of about `size` bytes; 0 leaves them whole.

    It takes no look into the files: whose each record is, is found when they are read. A file has the same ranges as long
    as it has the same size.
    """
    found = ShardList.of(files)
    # As Python rounds, to even: the ranges of tables that are there depend on it.
    counts = np.maximum(np.rint(found.size / size).astype(np.int64), 1) if size else np.ones(len(found), np.int64)
    if not (counts > 1).any():
        return found
    file = np.repeat(np.arange(len(found)), counts)
    number = np.arange(len(file)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = _bound(found.size[file], number, counts[file])
    stop = _bound(found.size[file], number + 1, counts[file])
    end = np.where(number + 1 == counts[file], WHOLE, stop)
    rows = pa.array(file)
    return ShardList(found.prefix, found.relative.take(rows), found.token.take(rows), stop - start, start, end)


def _bound(size: Integers, number: Integers, count: Integers) -> Integers:
    """size * number // count, without a product that does not fit."""
    return size // count * number + size % count * number // count


def whole(pieces: Sequence[Shard]) -> Shard:
    """The file that these ranges are all of."""
    return replace(pieces[0], start=0, end=WHOLE, size=sum(piece.size for piece in pieces))
