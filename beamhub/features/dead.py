"""Dead letters: records that could not be processed, kept with their address, their payload and the reason.

One Arrow IPC file for each shard that has any, named after the shard's data file and written before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import pyarrow as pa

from beamhub import storage
from beamhub.corpus.shards import Shard
from beamhub.features.ledger import READERS, decode_table, encode_table
from beamhub.features.paths import VersionPaths
from beamhub.features.steps import step

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


def write_dead(paths: VersionPaths, shard: Shard, letters: Sequence[DeadLetter]) -> None:
    """Writes a shard's dead letters, in the order of their addresses; no file for none."""
    if not letters:
        return
    step("dead")
    rows = [asdict(letter) for letter in sorted(letters, key=lambda letter: letter.address)]
    storage.write_bytes(paths.dead_file(shard), encode_table(pa.Table.from_pylist(rows, schema=DEAD_SCHEMA)))


def read_dead(paths: VersionPaths, names: Iterable[str] | None = None) -> pa.Table:
    """The dead letters in the files named, or all that are there, committed or not.

    Raises TableError for a broken file.
    """
    found = [file.path for file in storage.list_files(paths.dead)] if names is None else [paths.path(n) for n in names]

    def load(path: str) -> pa.Table:
        return decode_table(storage.read_bytes(path), path)

    with ThreadPoolExecutor(READERS) as pool:
        return pa.concat_tables([DEAD_SCHEMA.empty_table(), *pool.map(load, found)])
