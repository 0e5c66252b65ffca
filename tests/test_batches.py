"""Batches of equal size from stretches of any size."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from beamhub.corpus.format import Stretch
from beamhub.corpus.shards import Chunk
from beamhub.engine.batches import batches


@dataclass(frozen=True)
class Numbers(Stretch):
    """Records that are numbers, each `width` bytes."""

    numbers: tuple[int, ...]
    width: int = 1

    @property
    def rows(self) -> int:
        return len(self.numbers)

    @property
    def nbytes(self) -> int:
        return self.width * len(self.numbers)

    @property
    def reached(self) -> float:
        raise NotImplementedError

    def cut(self, start: int, rows: int) -> Numbers:
        return Numbers(self.numbers[start : start + rows], self.width)

    def join(self, others: Sequence[Numbers]) -> Numbers:
        return Numbers(tuple(itertools.chain(self.numbers, *(each.numbers for each in others))), self.width)

    def decode(self) -> Chunk:
        raise NotImplementedError


def stretches(*sizes: int, width: int = 1) -> list[Numbers]:
    """Stretches with the numbers 0, 1, 2 ... over all of them."""
    ends = np.cumsum(sizes).tolist()
    return [Numbers(tuple(range(end - size, end)), width) for size, end in zip(sizes, ends, strict=True)]


@pytest.mark.parametrize("sizes", [(10,), (3, 3, 4), (4, 4, 2), (1,) * 10, (8, 2), (0, 10)])
def test_only_the_last_is_smaller(sizes: tuple[int, ...]) -> None:
    made = list(batches(stretches(*sizes), 4))

    assert [batch.numbers for batch in made] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]


def test_large_records_cut_a_batch_short() -> None:
    """Ten records of 1,000 bytes, two a stretch; 3,500 bytes are reached with the second stretch."""
    made = list(batches(stretches(2, 2, 2, 2, 2, width=1000), 8, most_bytes=3500))

    assert [batch.numbers for batch in made] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]


def test_a_stretch_that_alone_is_far_too_large_is_halved() -> None:
    """Rows that are far larger than those before told."""
    found = [batch.numbers for batch in batches([Numbers(tuple(range(5)), width=10)], 8, most_bytes=10)]

    assert found == [(0, 1), (2,), (3, 4)]
    assert [batch.numbers for batch in batches([Numbers((1,), width=100)], 8, most_bytes=10)] == [(1,)]


def test_nothing_gives_no_batch() -> None:
    assert list(batches([], 4)) == []
    assert list(batches(stretches(0, 0), 4)) == []
