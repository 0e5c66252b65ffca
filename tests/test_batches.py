"""Batches of equal size from chunks of any size."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest

from beamhub.corpus.shards import Chunk, Unread
from beamhub.engine.batches import batches


def chunks(*sizes: int, width: int = 1) -> list[Chunk]:
    """Chunks with the numbers 0, 1, 2 ... over all of them, and texts of some width."""
    starts = np.cumsum([0, *sizes])
    made = []
    for start, stop in itertools.pairwise(starts):
        numbers = np.arange(start, stop)
        columns = pa.record_batch({"n": numbers, "text": pa.array(["x" * width] * len(numbers), pa.string())})
        made.append(Chunk(columns, 10 * numbers, pa.array([b"%d" % n for n in numbers], pa.large_binary())))
    return made


@pytest.mark.parametrize("sizes", [(10,), (3, 3, 4), (4, 4, 2), (1,) * 10, (8, 2), (0, 10)])
def test_only_the_last_is_smaller(sizes: tuple[int, ...]) -> None:
    made = list(batches(chunks(*sizes), 4))

    assert [batch.rows for batch in made] == [4, 4, 2]
    assert [n for batch in made for n in batch.columns.column("n").to_pylist()] == list(range(10))
    assert [int(a) for batch in made for a in batch.addresses] == [10 * n for n in range(10)]
    records = [record.as_py() for batch in made for record in batch.records]
    assert records == [b"%d" % n for n in range(10)]


def test_large_records_cut_a_batch_short() -> None:
    """Ten texts of 1,000 bytes, two a chunk; more than 3,500 bytes are reached with the second chunk."""
    made = list(batches(chunks(2, 2, 2, 2, 2, width=1000), 8, most_bytes=3500))

    assert [batch.rows for batch in made] == [4, 4, 2]


def test_unread_records_are_carried_once() -> None:
    lost = Unread(5, "no record", b"?")
    (chunk,) = chunks(6)
    made = list(batches([Chunk(chunk.columns, chunk.addresses, chunk.records, (lost,))], 4))

    assert [batch.read for batch in made] == [5, 2]


def test_unread_records_alone() -> None:
    lost = Unread(5, "no record", b"?")
    (chunk,) = chunks(0)

    (batch,) = batches([Chunk(chunk.columns, chunk.addresses, chunk.records, (lost,))], 4)

    assert (batch.rows, batch.read) == (0, 1)
