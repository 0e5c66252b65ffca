"""How a worker adds its results to the ledger: few files, none of which two workers write."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Self

from beamhub import storage
from beamhub.features.ledger import ShardResult, encode_table, results_to_table
from beamhub.features.paths import VersionPaths
from beamhub.features.steps import step

REST = 1.0
"""Seconds between two writes of one file: object stores refuse more."""


class LedgerWriter:
    """Gathers a worker's results and writes them as ledger files of `most`; the last one is replaced by a longer one when the
    oldest result that waits is `age` seconds old.

    So there are few files, however long a shard takes: a commit opens each. A result that is lost with its worker costs the
    next run a look into a data file's footer, so a few may wait; one bundle ends with `flush`. Not for several threads: each
    has its own. As a context manager it flushes at the end.
    """

    def __init__(
        self,
        paths: VersionPaths,
        most: int = 200,
        age: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` tells seconds."""
        self._paths = paths
        self._most = most
        self._age = age
        self._clock = clock
        self._name = uuid.uuid4().hex
        self._number = 0
        self._written: list[ShardResult] = []
        self._written_at = 0.0
        self._waiting: list[ShardResult] = []
        self._oldest = 0.0

    def add(self, result: ShardResult) -> None:
        """Takes a result, and writes what has gathered when that is many or old."""
        if not self._waiting:
            self._oldest = self._clock()
        self._waiting.append(result)
        if len(self._written) + len(self._waiting) >= self._most or self._clock() - self._oldest >= self._age:
            self.flush()

    def flush(self) -> None:
        """Writes what has gathered. Raises OSError when it cannot; the results are kept then."""
        if not self._waiting:
            return
        step("ledger")
        if self._written and self._clock() - self._written_at < REST:
            self._begin_file()
        together = [*self._written, *self._waiting]
        path = storage.join(self._paths.ledger, f"{self._name}-{self._number}.arrow")
        storage.write_bytes(path, encode_table(results_to_table(together)))
        self._waiting.clear()
        self._written, self._written_at = together, self._clock()
        if len(together) >= self._most:
            self._begin_file()

    def _begin_file(self) -> None:
        self._number += 1
        self._written = []

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flushes, after an error too: what is finished is finished."""
        self.flush()
