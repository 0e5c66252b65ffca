"""Dead letters: records that could not be processed, kept with their address, their payload and the reason.

One Arrow IPC file for each shard that has any, named after the shard's data file and written before it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from beamhub import storage
from beamhub.corpus.shards import Shard
from beamhub.errors import BeamhubError
from beamhub.features.ledger import READERS, decode_table, table_writer
from beamhub.features.paths import VersionPaths
from beamhub.features.steps import step

BYTES = 4 << 20
"""Payloads, reasons and tracebacks that are written together."""

DEAD_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("file", pa.string()),
        ("range", pa.string()),
        ("address", pa.int64()),
        ("stage", pa.string()),
        ("error", pa.string()),
        ("traceback", pa.string()),
        ("identity", pa.string()),
        ("attempts", pa.int32()),
        ("payload", pa.large_binary()),
    ]
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be processed.

    `key` is as text, None where it could not be read. `file` is relative to the corpus root, `range` the
    shard's ("0:-1"), `address` the record's in the file (`Chunk.addresses`). `stage` is "read", "decode",
    "check", "infer" or "encode". `identity` is the feature identity that failed, `payload` the record's
    bytes.
    """

    key: str | None
    file: str
    range: str
    address: int
    stage: str
    error: str
    traceback: str
    identity: str
    attempts: int
    payload: bytes


class DeadWriter:
    """Writes a shard's dead letters as they come, so that memory holds no more than `BYTES` of them.

    A context manager: left without `close`, it leaves nothing. A shard without dead letters has no file.
    """

    def __init__(self, paths: VersionPaths, shard: Shard) -> None:
        """Touches no file before there is enough to write."""
        self._path = paths.dead_file(shard)
        self._waiting: list[DeadLetter] = []
        self._held = 0
        self._open = contextlib.ExitStack()
        self._writer: Any = None
        self.count = 0

    def add(self, letters: Iterable[DeadLetter]) -> None:
        """Takes the letters of the records that come next, in any order; they are written in that of their addresses."""
        for letter in sorted(letters, key=lambda letter: letter.address):
            self._waiting.append(letter)
            self._held += len(letter.payload) + len(letter.traceback) + len(letter.error)
            self.count += 1
            if self._held >= BYTES:
                self._flush()

    def close(self) -> None:
        """Gives the file its name, if there is one."""
        if not self.count:
            return
        step("dead")
        self._flush()
        self._open.close()

    def _flush(self) -> None:
        if self._writer is None:
            file = self._open.enter_context(storage.create(self._path))
            self._writer = self._open.enter_context(table_writer(file, DEAD_SCHEMA))
        if self._waiting:
            rows = [asdict(letter) for letter in self._waiting]
            self._writer.write_table(pa.Table.from_pylist(rows, schema=DEAD_SCHEMA))
        self._waiting, self._held = [], 0

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drops the file, unless it was closed."""
        dropped = error or BeamhubError(f"{self._path}: left without close()")
        self._open.__exit__(type(dropped), dropped, trace)


def read_dead(paths: VersionPaths, names: Iterable[str] | None = None) -> pa.Table:
    """The dead letters in the files named, or all that are there, committed or not.

    Raises TableError for a broken file.
    """
    found = [file.path for file in storage.list_files(paths.dead)] if names is None else [paths.path(n) for n in names]

    def load(path: str) -> pa.Table:
        return decode_table(storage.read_bytes(path), path)

    with ThreadPoolExecutor(READERS) as pool:
        return pa.concat_tables([DEAD_SCHEMA.empty_table(), *pool.map(load, found)])
