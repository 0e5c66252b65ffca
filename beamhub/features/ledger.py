"""What became of each shard: results, and the ledger that workers leave them in.

A ledger file is an Arrow IPC file with many results. Each is of one writer, so workers need no lock; a commit deletes those
whose results the manifest holds. A result that a writer adds to a file just then is lost as one whose worker died is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import Any, Literal, Self

import pyarrow as pa

from beamhub import storage
from beamhub.corpus.shard_list import BLOCK, Ids
from beamhub.corpus.shards import Shard
from beamhub.errors import TableError
from beamhub.features.shard_index import ShardIndex, numbers_of

Outcome = Literal["done", "failed", "stale"]

READERS = 16
"""Threads that fetch small files: what bounds them is latency."""
_GATHERED = 100


@dataclass(frozen=True, slots=True)
class Counts:
    """Records of a shard: `read` = `produced` + `dead` + `skipped`; `null_keys` of those produced have no
    key. Where keys increase all the way, `first_key` and `last_key` are these, as `KeyOrder` tells them.
    `begins` and `ends` are the bytes of the file where the first record of a range begins and the last one ends, where
    ranges could disagree on that."""

    read: int
    produced: int
    dead: int = 0
    skipped: int = 0
    null_keys: int = 0
    first_key: str | None = None
    last_key: str | None = None
    begins: int | None = None
    ends: int | None = None


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What became of a shard.

    `shard` is its id; `relative`, `start`, `end` and `token` are the shard's. `file` is the name of the data
    file below the version folder, `rows`, `bytes` and `checksum` (CRC-32C, 8 hex digits) are that file's, and
    `pending` says that it waits for its commit. A shard that is not done has no file, and a `reason`.
    """

    shard: str
    relative: str
    start: int
    end: int
    token: str
    outcome: Outcome
    file: str = ""
    read: int = 0
    produced: int = 0
    dead: int = 0
    skipped: int = 0
    rows: int = 0
    bytes: int = 0
    checksum: str = ""
    null_keys: int = 0
    first_key: str | None = None
    last_key: str | None = None
    begins: int | None = None
    ends: int | None = None
    reason: str = ""
    pending: bool = False

    @classmethod
    def not_done(cls, shard: Shard, outcome: Literal["failed", "stale"], reason: str) -> Self:
        """The result of a shard that failed, or whose input changed while it was read."""
        return cls(shard.id, shard.relative, shard.start, shard.end, shard.token, outcome, reason=reason)

    @property
    def balanced(self) -> bool:
        """Whether every record read is accounted for."""
        return self.read == self.produced + self.dead + self.skipped


RESULT_SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("relative", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("token", pa.string()),
        ("outcome", pa.string()),
        ("file", pa.string()),
        ("read", pa.int64()),
        ("produced", pa.int64()),
        ("dead", pa.int64()),
        ("skipped", pa.int64()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("checksum", pa.string()),
        ("null_keys", pa.int64()),
        ("first_key", pa.string()),
        ("last_key", pa.string()),
        ("begins", pa.int64()),
        ("ends", pa.int64()),
        ("reason", pa.string()),
        ("pending", pa.bool_()),
    ]
)


def results_to_table(results: Iterable[ShardResult], schema: pa.Schema = RESULT_SCHEMA) -> pa.Table:
    """One row for each result; `schema` may leave columns out."""
    rows = list(results)
    columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def table_to_results(table: pa.Table) -> list[ShardResult]:
    """The results that a table of any subset of the columns holds; an outcome that is not there is "done"."""
    return [ShardResult(**{"outcome": "done"} | row) for row in table.to_pylist()]


def encode_table(table: pa.Table) -> bytes:
    """The table as an Arrow IPC file; equal tables give equal bytes, however they were chunked."""
    sink = pa.BufferOutputStream()
    write_tables(sink, table.schema, [table.combine_chunks()])
    return bytes(sink.getvalue())


def write_tables(sink: Any, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Writes an Arrow IPC file table by table."""
    with table_writer(sink, schema) as writer:
        for table in tables:
            writer.write_table(table)


def table_writer(sink: Any, schema: pa.Schema) -> Any:
    """A writer of an Arrow IPC file; a context manager."""
    return pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))


def decode_table(data: bytes, path: str) -> pa.Table:
    """The table of an Arrow IPC file. Raises TableError when it is not one; `path` is for the message."""
    try:
        with pa.ipc.open_file(pa.BufferReader(data)) as reader:
            return reader.read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"{path}: not a whole Arrow file ({error}); restore or delete it") from error


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the schema's columns; one that came later than the table was written has its default."""
    columns = [
        table.column(field.name)
        if field.name in table.column_names
        else pa.repeat(pa.scalar(_DEFAULTS.get(field.name), field.type), len(table))
        for field in schema
    ]
    return pa.table(columns, schema=schema)


_DEFAULTS = {each.name: each.default for each in fields(ShardResult) if each.default is not MISSING}


@dataclass(frozen=True)
class Ledger:
    """All results that workers left: `table` file by file, and of each of the `files` (its whole path) how many rows."""

    table: pa.Table
    files: Mapping[str, int]

    @classmethod
    def read(cls, paths: Iterable[str]) -> Self:
        """Reads ledger files; one that a commit deletes meanwhile is left out, for the manifest has what it
        held."""

        def load(path: str) -> pa.Table | None:
            try:
                return conform(decode_table(storage.read_bytes(path), path), RESULT_SCHEMA)
            except FileNotFoundError:
                return None

        files: dict[str, int] = {}
        blocks: list[pa.Table] = []
        gathered: list[pa.Table] = []
        names = sorted(paths)
        with ThreadPoolExecutor(READERS) as pool:
            # Not all at once: each name that waits for a thread takes a kilobyte.
            some = (names[start : start + _GATHERED] for start in range(0, len(names), _GATHERED))
            for name, table in itertools.chain.from_iterable(zip(n, pool.map(load, n), strict=True) for n in some):
                if table is None:
                    continue
                files[name] = len(table)
                gathered.append(table)
                if len(gathered) == _GATHERED:
                    # Thousands of small tables are slow, and larger than what is in them.
                    blocks.append(pa.concat_tables(gathered).combine_chunks())
                    gathered = []
        return cls(pa.concat_tables([RESULT_SCHEMA.empty_table(), *blocks, *gathered]), files)

    @cached_property
    def ids(self) -> Ids:
        """The shard id of each row."""
        return numbers_of(self.table.column("shard"))

    @cached_property
    def index(self) -> ShardIndex:
        """The rows of each shard id."""
        return ShardIndex(self.ids)

    def of(self, shard: str) -> Sequence[ShardResult]:
        """All results of a shard id, as they were written."""
        rows = self.index.rows(shard)
        return table_to_results(self.table.take(rows)) if len(rows) else []

    def best(self, shard: str, token: str) -> ShardResult | None:
        """The result of a shard with this token: a done one if there is any."""
        found = [result for result in self.of(shard) if result.token == token]
        return next((result for result in found if result.outcome == "done"), found[-1] if found else None)

    def results(self) -> Iterator[ShardResult]:
        """All results."""
        for start in range(0, len(self.table), BLOCK):
            yield from table_to_results(self.table.slice(start, BLOCK))
