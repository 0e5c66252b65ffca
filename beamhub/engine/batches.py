"""Batches of equal size from chunks of any size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from beamhub.corpus.shards import Chunk, Unread

BATCH_BYTES = 16 << 20
"""A batch is cut short where its columns would hold more."""


def batches(chunks: Iterable[Chunk], size: int, most_bytes: int = BATCH_BYTES) -> Iterator[Chunk]:
    """Cuts chunks into batches of exactly `size` records.

    One that reaches `most_bytes` is cut short, and the last may be smaller (it is empty only to carry `unread`).
    """
    waiting: list[Chunk] = []
    unread: list[Unread] = []
    rows = 0
    for chunk in chunks:
        waiting.append(chunk)
        unread.extend(chunk.unread)
        rows += chunk.rows
        large = sum(each.nbytes for each in waiting) >= most_bytes
        if rows < size and not (large and rows):
            continue
        joined = _join(waiting)
        whole = rows if rows < size else rows - rows % size
        for start in range(0, whole, size):
            yield _cut(joined, start, min(size, whole - start), tuple(unread))
            unread.clear()
        rest = _cut(joined, whole, rows - whole, ())
        waiting = [rest] if rest.rows else []
        rows = rest.rows
    if rows or unread:
        yield _cut(_join(waiting), 0, rows, tuple(unread))


def _join(chunks: list[Chunk]) -> Chunk:
    if len(chunks) == 1:
        return chunks[0]
    records = [chunk.records for chunk in chunks if chunk.records is not None]
    return Chunk(
        pa.concat_batches([chunk.columns for chunk in chunks]),
        np.concatenate([chunk.addresses for chunk in chunks]),
        pa.concat_arrays(records) if records else None,
    )


def _cut(chunk: Chunk, start: int, rows: int, unread: tuple[Unread, ...]) -> Chunk:
    records = None if chunk.records is None else chunk.records.slice(start, rows)
    return Chunk(chunk.columns.slice(start, rows), chunk.addresses[start : start + rows], records, unread)
