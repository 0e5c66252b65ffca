"""What a unit of work is: a shard of the corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beamhub.corpus.parsing import Strings

WHOLE = -1
"""The `end` of a shard that reaches to the end of its file."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of the corpus, or a range of it.

    `path` is the file, `relative` the same below the corpus root. `start` and `end` are bytes of the file, `end`
    exclusive, `WHOLE` for the file's end: a range owns the records that begin in it (TFRecord), or the row groups whose
    middle lies in it (Parquet). `size` is in bytes, `token` the input token (`storage.FileInfo.token`) of the file.
    """

    path: str
    relative: str
    size: int
    token: str
    start: int = 0
    end: int = WHOLE

    @property
    def id(self) -> str:
        """16 hex digits that name the shard: a hash of its relative path and range, not of its content."""
        return _digest(f"{self.relative}\n{self.start}\n{self.end}")

    @property
    def token_id(self) -> str:
        """8 hex digits of the input token, for file names."""
        return _digest(self.token)[:8]

    @property
    def is_range(self) -> bool:
        """Whether it is less than a file."""
        return (self.start, self.end) != (0, WHOLE)

    @property
    def partition(self) -> str:
        """The `name=value` folders of the path below the root: "dt=2026-11-20"; "" where there are none.

        Other folders are not mirrored: pyarrow does not read below one that begins with '_' or '.'.
        """
        return "/".join(part for part in self.relative.split("/")[:-1] if "=" in part.strip("="))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Unread:
    """A record that could not be parsed: its address as in `Chunk`, and its bytes as `payload` gives them."""

    address: int
    reason: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive records of a shard, as Arrow columns.

    `columns` holds the columns asked for, in that order and under those names. `addresses`, int64 [rows], is
    where each record is: its row in the file (Parquet) or the offset at which its frame begins (TFRecord; in
    a compressed file the offset in the uncompressed stream). `records` has the serialized records of the rows, only
    where they were asked for or have to be read anyway (TFRecord). `unread` are records of this stretch that could
    not be parsed; they are in no row. `tensors` has columns that are not in `columns`: those that may come so, where the
    reader had them so.
    """

    columns: pa.RecordBatch
    addresses: npt.NDArray[np.int64]
    records: Sequence[bytes] | None = None
    unread: tuple[Unread, ...] = ()
    tensors: Mapping[str, Strings] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Records in `columns`."""
        return int(self.columns.num_rows)

    @property
    def nbytes(self) -> int:
        """Bytes of its columns and records."""
        return int(self.columns.nbytes) + sum(map(len, self.records or ()))

    def without_records(self) -> Chunk:
        """The columns and addresses alone: what is left where no record of it will be a dead letter."""
        return replace(self, records=None, tensors={})

    @property
    def read(self) -> int:
        """Records read, parsed or not."""
        return self.rows + len(self.unread)
