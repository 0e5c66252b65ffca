"""Batches of equal size from stretches of any size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from beamhub.corpus.format import Stretch

BATCH_BYTES = 8 << 20
"""A batch is cut short where it would hold more."""


def batches(stretches: Iterable[Stretch], size: int, most_bytes: int = BATCH_BYTES) -> Iterator[Stretch]:
    """Cuts stretches into batches of exactly `size` records.

    One that reaches `most_bytes` is cut short, and the last may be smaller.
    """
    waiting: list[Stretch] = []
    rows = held = 0
    for stretch in stretches:
        waiting.append(stretch)
        rows += stretch.rows
        held += stretch.nbytes
        if rows < size and held < most_bytes:
            continue
        joined = waiting[0].join(waiting[1:]) if len(waiting) > 1 else stretch
        waiting.clear()
        # Nothing is held here while the next is read: it may be one large record.
        del stretch
        if rows <= size:
            yield from _pieces(joined, 2 * most_bytes)
            del joined
            rows = held = 0
            continue
        whole = rows - rows % size
        for start in range(0, whole, size):
            yield joined.cut(start, size)
        rest = joined.cut(whole, rows - whole)
        waiting = [rest] if rest.rows else []
        rows, held = rest.rows, rest.nbytes if rest.rows else 0
    if rows:
        yield waiting[0].join(waiting[1:]) if len(waiting) > 1 else waiting[0]


def _pieces(batch: Stretch, most_bytes: int) -> Iterator[Stretch]:
    """A batch of which one stretch alone was far too large, in halves."""
    if batch.rows < 2 or batch.nbytes <= most_bytes:
        yield batch
        return
    half = batch.rows // 2
    yield from _pieces(batch.cut(0, half), most_bytes)
    yield from _pieces(batch.cut(half, batch.rows - half), most_bytes)
