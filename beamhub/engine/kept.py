"""Rows of a shard that are there already: what is done again is the batches that dead letters come from.

A batch is what a run would cut, so what is computed is computed as it would have been without the failure, in the same places
of calls of the same sizes.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType

import numpy as np
import pyarrow as pa

from beamhub import storage
from beamhub.corpus.format import Stretch
from beamhub.engine.budget import Budget
from beamhub.engine.tablespec import TableSpec
from beamhub.errors import BeamhubError
from beamhub.features.dead import read_dead
from beamhub.features.formats import format_of
from beamhub.features.paths import VersionPaths, dead_name

_ROWS = 1 << 14
"""What is decoded at once."""


class Base:
    """The file of a shard, and its dead letters, beside the shard's batches as they are read."""

    def __init__(self, paths: VersionPaths, name: str, spec: TableSpec) -> None:
        """`name` is the file's, or the one under which it waits for a commit. Raises FileNotFoundError, TableError."""
        self._path = paths.path(name)
        letters = dead_name(name.removesuffix(".pending"))
        # Only where they are: a payload may be large.
        column = (
            read_dead(paths, [letters], ["address"]).column("address") if storage.info(paths.path(letters)) else None
        )
        self._dead = np.sort(column.to_numpy()) if column is not None else np.zeros(0, np.int64)
        self._batches: Iterator[pa.RecordBatch] = format_of(name).read(
            self._path, spec.schema, spec.schema.names, _ROWS
        )
        self._waiting: collections.deque[pa.RecordBatch] = collections.deque()

    def take(self, batch: Stretch) -> pa.RecordBatch | None:
        """The rows of a batch's records; None where it has dead letters, and must be computed.

        Batches come in their order. Raises BeamhubError where the file has too few rows.
        """
        addresses = batch.addresses
        dead = int(np.isin(addresses, self._dead).sum())
        rows = list(self._rows(len(addresses) - dead))
        if dead:
            return None
        return pa.concat_batches(rows)

    def check_end(self) -> None:
        """Raises BeamhubError where the file has more rows than the batches had records."""
        if self._waiting or next(self._batches, None) is not None:
            raise self._other()

    def _rows(self, count: int) -> Iterator[pa.RecordBatch]:
        while count:
            if not self._waiting:
                following = next(self._batches, None)
                if following is None:
                    raise self._other()
                self._waiting.append(following)
            first = self._waiting.popleft()
            yield first.slice(0, count)
            if first.num_rows > count:
                self._waiting.appendleft(first.slice(count))
            count -= min(count, first.num_rows)

    def _other(self) -> BeamhubError:
        return BeamhubError(f"{self._path}: has other records than its input; run beamhub verify")


class Kept(AbstractContextManager["Kept"]):
    """Rows that are kept, on their way to the writer; `read` bytes were read of the shard for them."""

    def __init__(self, rows: pa.RecordBatch, batch: Stretch, budget: Budget) -> None:
        """Waits for room in the budget."""
        self.rows = rows
        self.records = batch.rows
        self.reached = batch.reached
        self._budget = budget
        self._size = int(rows.nbytes)
        budget.acquire(self._size)

    def cancel(self) -> None:
        """Gives the room back."""
        self._budget.release(self._size)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives the room back."""
        self._budget.release(self._size)
