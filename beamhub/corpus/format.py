"""What a corpus format is: all that a new one must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import pyarrow as pa

from beamhub.corpus.shards import Chunk, Shard


class Stretch(ABC):
    """Consecutive records of a shard, read but not decoded: reading is one thread's work, decoding may be any thread's."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """Records, good or bad."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that they take."""

    @property
    @abstractmethod
    def reached(self) -> float:
        """The share of the shard that ends with these records, 0 to 1, by what is cheap to know: it is for people to see."""

    @abstractmethod
    def cut(self, start: int, rows: int) -> Self:
        """Some of the records, from `start` on."""

    @abstractmethod
    def join(self, others: Sequence[Self]) -> Self:
        """These records and those that follow them."""

    @abstractmethod
    def decode(self) -> Chunk:
        """The records as columns. Raises CorpusError where the stretch as a whole cannot be decoded."""


Span = tuple[int, int]
"""Bytes of a file: where the first record begins and where the last one ends."""


class Scan(Iterator[Stretch]):
    """The stretches of a shard, in order. Once they are read, `span` tells what they covered.

    None where the shard has no records, or where ranges of this format cannot disagree on whose a record is.
    """

    def __init__(self, stretches: Generator[Stretch, None, Span | None]) -> None:
        """The generator returns the span."""
        self._stretches = stretches
        self.span: Span | None = None

    def __next__(self) -> Stretch:
        """The next stretch."""
        try:
            return next(self._stretches)
        except StopIteration as end:
            self.span = self.span or end.value
            raise


class FalseStartError(Exception):
    """What a range took for its first record is none: reading on met bytes, at `offset`, that are no record.

    Such a start lies inside another record's data; the range's first record is looked for behind `offset`.
    """

    def __init__(self, offset: int) -> None:
        super().__init__(f"no record begins at byte {offset}")
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a shard's records are wanted: in stretches of at most `rows` of them and about `max_bytes` bytes.

    `records`: serialized too. `tensors`: columns for which `Chunk.tensors` will do. `behind`: the offset of the last
    FalseStartError, where there was one.
    """

    rows: int
    max_bytes: int
    records: bool = False
    tensors: frozenset[str] = frozenset()
    behind: int | None = None


class CorpusFormat(ABC):
    """A new one is a class with these members, and an entry in `formats.FORMATS`."""

    name: str
    """How a corpus, a spec and a message call it."""

    @abstractmethod
    def sniff(self, head: bytes, tail: bytes) -> bool:
        """Is a file of this format, by its first 4096 bytes (fewer if it is shorter) and its last 4?"""

    @abstractmethod
    def schema(self, shards: Sequence[Shard], declared: bytes | None, sample: int) -> pa.Schema:
        """The columns that can be read, by name and Arrow type. See `formats.infer_schema`."""

    def density(self, shard: Shard) -> float:
        """Records in a byte of the shard's file, where that is cheap to know; else 0. Raises as `scan` does."""
        return 0.0

    def scan(self, shard: Shard, schema: pa.Schema, wanted: Wanted) -> Scan:
        """The shard's records in order, in stretches.

        Where they are cut depends on the file, the columns and the two limits only. A file that cannot be read is a
        CorpusError. An OSError of the file system passes, to be tried again. A FalseStartError asks for another scan, behind
        its offset.
        """
        return Scan(self._stretches(shard, schema, wanted))

    @abstractmethod
    def _stretches(self, shard: Shard, schema: pa.Schema, wanted: Wanted) -> Generator[Stretch, None, Span | None]:
        """What `scan` gives."""

    def read(self, shard: Shard, schema: pa.Schema, wanted: Wanted) -> Iterator[Chunk]:
        """The stretches of `scan`, decoded.

        `Chunk.columns` has exactly the columns of `schema`, with its types; a record that cannot be parsed is an `Unread`.
        """
        for stretch in self.scan(shard, schema, wanted):
            chunk = stretch.decode()
            # Neither is held while the next is read, nor the stretch beside what it was decoded to.
            del stretch
            yield chunk
            del chunk
