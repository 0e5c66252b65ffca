"""Rows of Parquet's row groups: which a range owns, and batches of them that memory bounds."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beamhub.corpus.format import Wanted
from beamhub.corpus.shards import WHOLE, Shard
from beamhub.errors import CorpusError

MEND = "write the file again or leave it out of the corpus"
_FIRST = 64
"""Rows of a row group's first batch."""
_GROWTH = 8
"""How many times the rows of a batch the next one may have."""


def groups_of(metadata: pq.FileMetaData, shard: Shard, size: int) -> range:
    """The row groups of a range: those whose middle lies in it, by their share of the file's `size` bytes.

    By shares, for where each lies is told by its columns only, and asking for those ends the process where a footer is
    damaged. Every row group has one range, whatever the shares.
    """
    sizes = np.array(
        [max(0, metadata.row_group(n).total_byte_size) for n in range(metadata.num_row_groups)], np.float64
    )
    middles = (np.cumsum(sizes) - sizes / 2) * (size / max(1.0, sizes.sum()))
    first, last = np.searchsorted(middles, [shard.start, np.inf if shard.end == WHOLE else shard.end])
    return range(int(first), int(last))


def starts_of(metadata: pq.FileMetaData, path: str) -> list[int]:
    """The row at which each row group begins, and the number of rows in the end."""
    counts = (metadata.row_group(n).num_rows for n in range(metadata.num_row_groups))
    starts = [0, *itertools.accumulate(counts)]
    if starts[-1] != metadata.num_rows:
        raise miscounted(path, starts[-1], metadata.num_rows)
    return starts


def miscounted(path: str, got: int, wanted: int) -> CorpusError:
    """The error for a file that has not as many rows as it says."""
    return CorpusError(f"{path}: damaged: has {got} rows where its footer says {wanted}; {MEND}")


def batches_of(
    file: pq.ParquetFile, groups: range, names: Sequence[str], wanted: Wanted
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """The rows of row groups, in batches that `wanted` bounds, and the bytes of each.

    A footer tells how large rows are in the file, where a value of many rows may stand once. So a row group is begun
    with few rows, and each batch tells how many the next may have. (A footer tells the sizes of single columns too, but
    asking for them ends the process where a footer is damaged.)

    Batches end at multiples of their usual size, for calls have such sizes: what is cut elsewhere has to be joined, and every
    row to be copied for it.
    """
    # One thread: several shards are read at once.
    begin = functools.partial(file.iter_batches, row_groups=list(groups), columns=names, use_threads=False)
    if not names:
        yield from ((batch, 0) for batch in begin(wanted.rows))
        return
    batches: Iterator[pa.RecordBatch] | None = None
    reached = 0
    for left, stored in _sizes(file.metadata, groups):
        allowed, read = _FIRST, stored
        while left > 0:
            usual = _halved(wanted.rows, wanted.max_bytes / max(1.0, stored, read))
            rows = min(allowed, left, usual - reached % usual)
            batches = batches or begin(rows)
            file.reader.set_batch_size(rows)
            batch = next(batches, None)
            if batch is None:
                return
            # Once: asking for them lets go of the interpreter's lock, for which others wait.
            size = int(batch.nbytes)
            count = batch.num_rows
            yield batch, size
            del batch
            reached += count
            left -= count
            read = size / max(1, count)
            # A few rows before a seam do not tell about so many more.
            allowed *= _GROWTH if rows == allowed else 1


def _halved(rows: int, most: float) -> int:
    """As often as it takes to be no more than some, 1 at least: calls are of such sizes too."""
    while rows > max(1.0, most):
        rows //= 2
    return rows


def _sizes(metadata: pq.FileMetaData, groups: range) -> list[tuple[int, float]]:
    """Rows of each row group, and bytes a row as the file holds them; groups of few rows count as part of their neighbour."""
    found: list[tuple[int, float]] = []
    for group in map(metadata.row_group, groups):
        rows, width = group.num_rows, group.total_byte_size / max(1, group.num_rows)
        if found and rows <= _FIRST:
            before, widest = found.pop()
            rows, width = before + rows, max(widest, width)
        found.append((rows, width))
    return found
