"""Many shards as columns: a million of them take 0.1 GB and not 0.5, and are looked up all at once."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beamhub.corpus.shards import WHOLE, Shard

BLOCK = 1 << 12
"""Rows that are Python objects at a time."""

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Ids = npt.NDArray[np.uint64]
"""Shard ids as numbers: an id is 16 hex digits."""


@dataclass(frozen=True, eq=False)
class ShardList(Sequence[Shard]):
    """Shards of one corpus, made into `Shard`s when they are asked for.

    `prefix` is what a path has before the relative one ("/data/corpus/"); `relative` and `token` are string arrays; `size`,
    `start` and `end` as `Shard` has them.
    """

    prefix: str
    relative: pa.Array
    token: pa.Array
    size: Integers
    start: Integers
    end: Integers

    @classmethod
    def of(cls, shards: Iterable[Shard]) -> ShardList:
        """The shards as columns. Raises ValueError where they are not all below one root."""
        if isinstance(shards, ShardList):
            return shards
        found = iter(shards)
        first = next(found, None)
        if first is None:
            return cls.of_columns("", [])
        prefix = first.path[: len(first.path) - len(first.relative)]
        blocks = []
        rows = itertools.chain([first], found)
        while block := list(itertools.islice(rows, BLOCK)):
            if any(shard.path != prefix + shard.relative for shard in block):
                raise ValueError(f"shards of one list lie below one root, as the first one does below {prefix!r}")
            blocks.append(
                pa.table(
                    {
                        "relative": pa.array([shard.relative for shard in block], pa.string()),
                        "token": pa.array([shard.token for shard in block], pa.string()),
                        "size": pa.array([shard.size for shard in block], pa.int64()),
                        "start": pa.array([shard.start for shard in block], pa.int64()),
                        "end": pa.array([shard.end for shard in block], pa.int64()),
                    }
                )
            )
        return cls.of_columns(prefix, blocks)

    @classmethod
    def of_columns(cls, prefix: str, blocks: Sequence[pa.Table]) -> ShardList:
        """From tables with the columns `relative`, `token` and `size`, and `start` and `end` where they are ranges."""
        table = pa.concat_tables(blocks or [pa.schema(_COLUMNS).empty_table()])
        size = table.column("size").to_numpy()
        whole = "start" not in table.column_names
        return cls(
            prefix,
            one_array(table.column("relative")),
            one_array(table.column("token")),
            size,
            # One number for all of them.
            np.broadcast_to(0, len(size)) if whole else table.column("start").to_numpy(),
            np.broadcast_to(WHOLE, len(size)) if whole else table.column("end").to_numpy(),
        )

    def __len__(self) -> int:
        return len(self.size)

    @overload
    def __getitem__(self, index: int) -> Shard: ...

    @overload
    def __getitem__(self, index: slice) -> ShardList: ...

    def __getitem__(self, index: int | slice) -> Shard | ShardList:
        """A shard, or a stretch of them."""
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        place = range(len(self))[index]
        return next(iter(self._stretch(place, place + 1)))

    def __iter__(self) -> Iterator[Shard]:
        """The shards, a block at a time."""
        for start in range(0, len(self), BLOCK):
            yield from self._stretch(start, start + BLOCK)

    def __eq__(self, other: object) -> bool:
        """Whether it has the same shards, in the same order."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    def _stretch(self, start: int, stop: int) -> Iterable[Shard]:
        names = self.relative.slice(start, stop - start).to_pylist()
        return map(
            Shard,
            [self.prefix + name for name in names],
            names,
            self.size[start:stop].tolist(),
            self.token.slice(start, stop - start).to_pylist(),
            self.start[start:stop].tolist(),
            self.end[start:stop].tolist(),
        )

    @cached_property
    def ids(self) -> Ids:
        """The ids as numbers: `shard.id` is 16 hex digits of one."""
        found = np.empty(len(self), np.uint64)
        for first in range(0, len(self), BLOCK):
            rows = slice(first, first + BLOCK)
            names = self.relative.slice(first, BLOCK).to_pylist()
            texts = zip(names, self.start[rows].tolist(), self.end[rows].tolist(), strict=True)
            digests = b"".join([hashlib.sha256(f"{n}\n{s}\n{e}".encode()).digest()[:8] for n, s, e in texts])
            found[rows] = np.frombuffer(digests, ">u8")
        return found

    @cached_property
    def is_range(self) -> Mask:
        """Which of them are less than a file."""
        found: Mask = (self.start != 0) | (self.end != WHOLE)
        return found

    @property
    def bytes(self) -> int:
        """The sum of the sizes."""
        return int(self.size.sum())

    def take(self, places: Integers) -> ShardList:
        """The shards at these places."""
        if len(places) == len(self) and np.array_equal(places, np.arange(len(self))):
            return self
        rows = pa.array(places)
        taken = self.relative.take(rows), self.token.take(rows)
        return ShardList(self.prefix, *taken, self.size[places], self.start[places], self.end[places])

    def filter(self, mask: Mask) -> ShardList:
        """The shards where the mask is true."""
        return self if mask.all() else self.take(np.flatnonzero(mask))

    def paths(self) -> pa.Array:
        """The paths, as a string array."""
        return pc.binary_join_element_wise(pa.scalar(self.prefix), self.relative, "")

    def partitions(self) -> set[str]:
        """The different `Shard.partition`s."""
        folders = pc.unique(pc.replace_substring_regex(self.relative, r"[^/]*$", ""))
        return {Shard("", folder, 0, "").partition for folder in folders.to_pylist()}

    def lies_below(self, folder: str) -> bool:
        """Whether any of the files is in this folder, at any depth."""
        inside = folder.rstrip("/") + "/"
        if self.prefix.startswith(inside):
            return len(self) > 0
        rest = inside.removeprefix(self.prefix)
        return inside.startswith(self.prefix) and bool(pc.any(pc.starts_with(self.relative, rest), min_count=0).as_py())


_COLUMNS = [("relative", pa.string()), ("token", pa.string()), ("size", pa.int64())]


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece: look-ups by place are slow across many."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([pa.array([], column.type), *column.chunks])


def as_mask(values: pa.Array | pa.ChunkedArray) -> Mask:
    """Booleans of Arrow; a null is False."""
    found: Mask = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return found


def blocks_of(places: Integers, keys: Integers, size: int = BLOCK) -> Iterator[Integers]:
    """Cuts places into blocks of about `size`, never between two with the same key; `keys` are sorted."""
    start = 0
    while start < len(places):
        stop = min(start + size, len(places))
        stop = int(np.searchsorted(keys, keys[stop - 1], "right"))
        yield places[start:stop]
        start = stop
