"""A feature table, read: by its manifest, with Arrow and NumPy alone.

table = beamhub.open("OUT")
x = table.to_numpy("embedding")          # float32 [rows, d]
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beamhub import storage
from beamhub.errors import TableError
from beamhub.features.arrays import dtype_of, shape_of, tensor_spec, to_numpy, to_tensor
from beamhub.features.dead import read_dead
from beamhub.features.formats import TableFormat, format_of
from beamhub.features.grouping import ROWS
from beamhub.features.key_order import overlapping
from beamhub.features.keys import RepeatedKeys, repeated_keys
from beamhub.features.lineage import read_document
from beamhub.features.manifest import Manifest, in_order
from beamhub.features.paths import META, VersionPaths, current_path, dead_name
from beamhub.features.roots import Hole, Totals, latest_generation

if TYPE_CHECKING:
    import tensorflow as tf

_BATCH = ROWS
"""What is decoded at once: a row group, 32 MiB at most."""
_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, repr=False)
class FeatureTable:
    """The rows of one generation of one version, in the order of the corpus.

    Its methods raise TableError when a commit has replaced files meanwhile: then it has to be opened again.
    """

    paths: VersionPaths
    manifest: Manifest

    def __repr__(self) -> str:
        return f"<FeatureTable {self.path}, generation {self.manifest.generation}, {self.rows:,} rows>"

    @property
    def version(self) -> str:
        """The version's name."""
        return self.paths.version

    @property
    def path(self) -> str:
        """The version's folder; other programs read all data files below it."""
        return self.paths.root

    @property
    def totals(self) -> Totals:
        """Shards, records, rows and bytes."""
        return self.manifest.root.totals

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.totals.rows

    @property
    def holes(self) -> tuple[Hole, ...]:
        """Shards that a commit was allowed to go without."""
        return self.manifest.root.holes

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The paths of the data files, in the order of the corpus."""
        return tuple(self.paths.path(name) for name in self.manifest.ordered.column("file").to_pylist())

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns. Raises TableError when the table has no file."""
        with self._unchanged():
            return self._format.schema(self.paths, self._first)

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The spec that made the version; empty when none was written."""
        return _document(self.paths.spec)

    @cached_property
    def lineage(self) -> dict[str, Any]:
        """What made the version: module, corpus, versions; empty when none was written."""
        return _document(self.paths.lineage)

    def to_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows as an Arrow table, with all columns or those named.

        Raises TableError for one that is not there.
        """
        schema = self._select(columns)

        def load(file: str) -> list[pa.RecordBatch]:
            return list(self._format.read(file, self.schema, schema.names, _BATCH))

        with self._unchanged(), ThreadPoolExecutor(_THREADS) as pool:
            return pa.Table.from_batches([batch for batches in pool.map(load, self.files) for batch in batches], schema)

    def to_numpy(self, column: str) -> npt.NDArray[Any]:
        """A column as one array: [rows, d] of vectors, [rows, ...] of tensors, [rows] of anything else.

        Strings, lists and the like give an array of objects; nulls among floats become NaN. Files are decoded
        straight into their place. Raises TableError for a column that is not there, or nulls that the dtype
        cannot hold.
        """
        kind = self._select([column]).field(0).type
        ends = np.cumsum(self.manifest.ordered.column("rows").to_numpy()).tolist()
        filled = np.empty((self.rows, *shape_of(kind)), dtype_of(kind))

        def fill(file: str, start: int, end: int) -> None:
            for batch in self._format.read(file, self.schema, [column], _BATCH):
                filled[start : start + batch.num_rows] = to_numpy(batch.column(0), column)
                start += batch.num_rows
            if start != end:
                raise TableError(f"{file}: {end - start} rows less than the manifest says; restore it or run again")

        with self._unchanged(), ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(fill, self.files, [0, *ends[:-1]], ends))
        return filled

    def to_batches(self, columns: Sequence[str] | None = None, rows: int = _BATCH) -> Iterator[pa.RecordBatch]:
        """The rows in batches of exactly `rows` (the last may be smaller), file by file, so that memory
        holds a row group."""
        schema = self._select(columns)
        waiting: list[pa.RecordBatch] = []
        gathered = 0
        with self._unchanged():
            for file in self.files:
                for batch in self._format.read(file, self.schema, schema.names, rows):
                    rest = batch
                    while gathered + rest.num_rows >= rows:
                        waiting.append(rest.slice(0, rows - gathered))
                        rest = rest.slice(rows - gathered)
                        yield pa.concat_batches(waiting)
                        waiting, gathered = [], 0
                    if rest.num_rows:
                        waiting.append(rest)
                        gathered += rest.num_rows
        if waiting:
            yield pa.concat_batches(waiting)

    def to_tf_dataset(self, columns: Sequence[str] | None = None, batch_size: int = 256) -> tf.data.Dataset:
        """Batches of all columns, or those named, as dicts of tensors, ragged ones for lists.

        Raises TableError for a column that is not there, or that TensorFlow has no type for. Nulls that a tensor
        cannot hold end the iteration with a `tf.errors.OpError` that names the column.
        """
        import tensorflow as tf

        schema = self._select(columns)

        def batches() -> Iterator[dict[str, Any]]:
            for batch in self.to_batches(schema.names, batch_size):
                yield {name: to_tensor(batch.column(name), name) for name in schema.names}

        signature = {field.name: tensor_spec(field.type, field.name) for field in schema}
        return tf.data.Dataset.from_generator(batches, output_signature=signature)

    def dead_letters(self) -> pa.Table:
        """The records that could not be processed (`dead.DEAD_SCHEMA`)."""
        entries = self.manifest.ordered
        dead = entries.filter(pc.greater(entries.column("dead"), 0))
        with self._unchanged():
            return read_dead(self.paths, [dead_name(file) for file in dead.column("file").to_pylist()])

    def repeated_keys(self) -> RepeatedKeys:
        """Keys that occur more than once. Raises TableError when there is no column `key`.

        Only files whose keys do not increase, or reach into another file's, are read.
        """
        kind = self._select(["key"]).field("key").type
        places = overlapping(self.manifest.column("first_key"), self.manifest.column("last_key"), kind)
        entries = in_order(self.manifest.entries.take(pa.array(places, pa.int64())))
        rows = entries.column("rows").to_numpy().sum()
        files = [self.paths.path(name) for name in entries.column("file").to_pylist()]
        with self._unchanged():
            return repeated_keys(files, lambda file: self._format.read_keys(file, self.schema), int(rows))

    @cached_property
    def _format(self) -> TableFormat:
        return format_of(self._first)

    @property
    def _first(self) -> str:
        if not self.totals.shards:
            raise TableError(f"{self.path}: the table has no files, for all its input is gone; add some and run again")
        relative = self.manifest.column("relative")
        first = in_order(self.manifest.entries.filter(pc.equal(relative, pc.min(relative))))
        return self.paths.path(first.column("file")[0].as_py())

    def _select(self, columns: Sequence[str] | None) -> pa.Schema:
        for name in columns or ():
            if name not in self.schema.names:
                raise TableError(f"{self.path}: no column {name!r}; it has {', '.join(self.schema.names)}")
        return self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])

    @contextlib.contextmanager
    def _unchanged(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if latest_generation(self.paths) != self.manifest.generation:
                raise TableError(
                    f"{self.path}: a commit replaced files while they were read; open the table again"
                ) from error
            raise TableError(
                f"{error.filename or error}: a file of the table is missing; run again to compute it"
            ) from error


def open(out: str, version: str | None = None) -> FeatureTable:
    """The current version of the table in folder `out`, or the version named.

    Raises TableError when there is no such folder, it is not a feature table, has no such version, or nothing
    was committed.
    """
    chosen = version or current_version(out)
    paths = VersionPaths(out, chosen)
    manifest = Manifest.load(paths)
    if manifest is not None:
        return FeatureTable(paths, manifest)
    there = _versions(out)
    if chosen not in there:
        raise TableError(f"{out}: no version {chosen!r}; {_named(there)}")
    raise TableError(f"{paths.root}: nothing is committed yet; let the run end, or run it again")


def current_version(out: str) -> str:
    """The version that readers should use: what `current.json` says, or the only one.

    Raises TableError when `out` is not a folder of a feature table, or several versions are there and none is
    current.
    """
    path = current_path(out)
    with contextlib.suppress(FileNotFoundError):
        version = read_document(path).get("version")
        if not isinstance(version, str):
            raise TableError(f"{path}: names no version; write the version there, or name one")
        return version
    there = _versions(out)
    if len(there) == 1:
        return there[0]
    if there:
        raise TableError(f"{out}: several versions and none is current: {', '.join(there)}; name one")
    if storage.list_files(out):
        raise TableError(f"{out}: not a feature table (no folder v=VERSION in it); give the folder that was --out")
    raise TableError(f"{out}: no such folder, or an empty one; give the folder that was --out")


def _versions(out: str) -> list[str]:
    """Versions that something has been written of."""
    root = storage.absolute(out)
    folders = {file.path[len(root) + 1 :].split("/")[0] for file in storage.list_files(root)}
    return sorted(name[2:] for name in folders if name.startswith("v=") and name != META)


def _named(versions: Sequence[str]) -> str:
    return f"there is {', '.join(versions)}" if versions else "there is none"


def _document(path: str) -> dict[str, Any]:
    try:
        return read_document(path)
    except FileNotFoundError:
        return {}
