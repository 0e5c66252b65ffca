"""Tables written from a Beam pipeline by Arrow: a file for each bundle, plain.

`WriteToParquetBatched` has no option to leave dictionaries and statistics out, which cost several times what vectors cost to
write.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq

from benchmarks.peers.job import PLAIN


class WriteTables(beam.DoFn):
    """Elements are Arrow tables of one schema; gives back nothing."""

    def __init__(self, out: Path) -> None:
        self._out = str(out)

    def start_bundle(self) -> None:
        """A bundle without tables leaves no file."""
        self._writer: Any = None

    def process(self, table: Any) -> Iterable[Any]:
        if self._writer is None:
            folder = Path(self._out)
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(folder / f"{uuid.uuid4()}.parquet", table.schema, **PLAIN)
        self._writer.write_table(table)
        return ()

    def finish_bundle(self) -> None:
        """The file is whole."""
        if self._writer is not None:
            self._writer.close()
