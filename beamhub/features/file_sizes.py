"""The files of a version's folder and their sizes, as columns."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beamhub.corpus.shard_list import BLOCK, Integers, one_array

NONE = -1
"""The size, and the place, of a file that is not there."""


@dataclass(frozen=True, eq=False)
class FileSizes:
    """`names` are sorted strings, `sizes` bytes."""

    names: pa.Array
    sizes: Integers

    @classmethod
    def of(cls, files: Iterable[tuple[str, int]]) -> FileSizes:
        """From names and sizes, in any order. A name that is not UTF-8 is left out: no file of a table has one."""
        found = iter(files)
        names, sizes = [pa.array([], pa.string())], [np.empty(0, np.int64)]
        while block := list(itertools.islice(found, BLOCK)):
            block = [each for each in block if each[0].isascii() or _is_text(each[0])]
            names.append(pa.array([name for name, _ in block], pa.string()))
            sizes.append(np.array([size for _, size in block], np.int64))
        unsorted = pa.concat_arrays(names)
        order = pc.sort_indices(unsorted)
        return cls(unsorted.take(order), np.concatenate(sizes)[order.to_numpy()])

    def get(self, name: str) -> int | None:
        """The size of a file; None when it is not there."""
        place = bisect_left(self.names, name, key=pa.StringScalar.as_py)
        is_there = place < len(self.names) and self.names[place].as_py() == name
        return int(self.sizes[place]) if is_there else None

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def look_up(self, names: pa.Array | pa.ChunkedArray) -> Integers:
        """The sizes of files, `NONE` for one that is not there."""
        places = self.places(names)
        sizes = np.full(len(names), NONE)
        sizes[places != NONE] = self.sizes[places[places != NONE]]
        return sizes

    def places(self, names: pa.Array | pa.ChunkedArray) -> Integers:
        """Where files are among `names`, `NONE` for one that is not there."""
        found = np.full(len(names), NONE)
        if not len(self.names):
            return found
        # In order, so that each block is looked up in a stretch of the names: a hash of all of them would take 100 MB.
        names = one_array(names) if isinstance(names, pa.ChunkedArray) else names
        order = pc.sort_indices(names)
        for start in range(0, len(names), BLOCK):
            rows = order.slice(start, BLOCK)
            block = names.take(rows)
            first = bisect_left(self.names, block[0].as_py(), key=pa.StringScalar.as_py)
            last = bisect_right(self.names, block[-1].as_py(), key=pa.StringScalar.as_py)
            within = pc.index_in(block, self.names.slice(first, last - first))
            found[rows.to_numpy()] = pc.fill_null(pc.add(within.cast(pa.int64()), first), NONE).to_numpy()
        return found

    def others(self, *names: pa.Array | pa.ChunkedArray) -> pa.Array:
        """The names of the files that are not among these."""
        is_other = np.ones(len(self.names), np.bool_)
        for each in names:
            places = self.places(each)
            is_other[places[places != NONE]] = False
        return self.names.filter(pa.array(is_other))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
