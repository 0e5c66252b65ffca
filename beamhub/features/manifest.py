"""The manifest: the committed list of a version's shards and files.

Columnar, in parts: the partition folders are spread over 16 buckets by a hash, and a part holds the
entries of one bucket. A commit writes the parts that change and a new root; the others are used again. So a
commit costs what changed, and a load some Arrow files, however many partitions there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from beamhub import storage
from beamhub.errors import TableError
from beamhub.features.ledger import (
    READERS,
    RESULT_SCHEMA,
    ShardResult,
    decode_table,
    encode_table,
    results_to_table,
    table_to_results,
)
from beamhub.features.paths import VersionPaths
from beamhub.features.roots import Hole, Part, Root, Totals, latest_generation, read_root
from beamhub.features.steps import step

_NOT_KEPT = ("outcome", "reason", "pending")
ENTRY_SCHEMA = pa.schema([field for field in RESULT_SCHEMA if field.name not in _NOT_KEPT])
"""An entry is the result of a shard that is done."""

_ORDER = [("relative", "ascending"), ("start", "ascending")]
_ATTEMPTS = 20


def bucket_of(file: str) -> str:
    """The bucket, a hex digit, of the partition folder that a data file lies in."""
    return hashlib.sha256(file.rpartition("/")[0].encode()).hexdigest()[0]


@dataclass(frozen=True)
class Manifest:
    """One generation, in memory: `tables` holds the entries of each bucket."""

    root: Root
    tables: Mapping[str, pa.Table]

    @classmethod
    def empty(cls) -> Self:
        """Before the first commit: generation 0."""
        return cls(Root(0, (), Totals(), (), ""), {})

    @classmethod
    def load(cls, paths: VersionPaths) -> Self | None:
        """The newest generation, or None before the first commit.

        Raises TableError when it is of a newer format, or not whole.
        """
        missing = None
        # A commit deletes old generations while this reads: then there is a newer one.
        for _ in range(_ATTEMPTS):
            generation = latest_generation(paths)
            if not generation:
                return None
            root = read_root(paths, generation)
            step("read parts")
            try:
                if root is not None:
                    return cls(root, _read_parts(paths, root))
            except FileNotFoundError as error:
                if missing == (generation, str(error)):
                    raise TableError(
                        f"{error.filename or error}: a part of the manifest is missing; restore it"
                    ) from error
                missing = (generation, str(error))
        raise TableError(f"{paths.manifest}: changes faster than it can be read; try again")

    @property
    def generation(self) -> int:
        """1 for the first commit."""
        return self.root.generation

    @cached_property
    def entries(self) -> pa.Table:
        """One row for each shard (`ENTRY_SCHEMA`), bucket by bucket."""
        return pa.concat_tables([ENTRY_SCHEMA.empty_table(), *self.tables.values()]).combine_chunks()

    @cached_property
    def ordered(self) -> pa.Table:
        """The entries in the order of the corpus: by relative path, then range."""
        return self.entries.sort_by(_ORDER)

    @cached_property
    def relatives(self) -> frozenset[str]:
        """The corpus files that have entries."""
        return frozenset(pc.unique(self.entries.column("relative")).to_pylist())

    @cached_property
    def _tokens(self) -> Mapping[str, str]:
        return dict(
            zip(
                self.entries.column("shard").to_pylist(),
                self.entries.column("token").to_pylist(),
                strict=True,
            )
        )

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return {shard: row for row, shard in enumerate(self._tokens)}

    def token(self, shard: str) -> str | None:
        """The token that a shard id was committed with."""
        return self._tokens.get(shard)

    def result(self, shard: str) -> ShardResult | None:
        """The entry of a shard id."""
        row = self._rows.get(shard)
        return None if row is None else table_to_results(self.entries.slice(row, 1))[0]

    def where(self, column: str, values: Iterable[str]) -> list[ShardResult]:
        """The entries whose `column` (a string one) is among the values."""
        wanted = pa.array(list(values), pa.string())
        return table_to_results(self.entries.filter(pc.is_in(self.entries.column(column), wanted)))


@dataclass(frozen=True, slots=True)
class Revision:
    """The next generation: its root, and the parts that have to be written before it, by name."""

    root: Root
    new_parts: Mapping[str, bytes]


def revise(
    base: Manifest, removed: Collection[str], added: Sequence[ShardResult], holes: Iterable[Hole], run: str
) -> Revision:
    """The generation after `base`: without the shard ids `removed`, with `added`.

    Its bytes depend on nothing else but `run`.
    """
    generation = base.generation + 1
    parts = {part.bucket: part for part in base.root.parts}
    tables = dict(base.tables)
    leaving = pa.array(sorted(removed), pa.string())
    new_parts = {}
    arriving: dict[str, list[ShardResult]] = {}
    for result in added:
        arriving.setdefault(bucket_of(result.file), []).append(result)
    touched = {bucket_of(entry.file) for entry in base.where("shard", removed)} | set(arriving)
    for bucket in sorted(touched):
        old = tables.get(bucket, ENTRY_SCHEMA.empty_table())
        kept = old.filter(pc.invert(pc.is_in(old.column("shard"), leaving)))
        new = pa.concat_tables([kept, results_to_table(arriving.get(bucket, ()), ENTRY_SCHEMA)]).sort_by(_ORDER)
        tables[bucket] = new.combine_chunks()
        parts.pop(bucket, None)
        if len(new):
            data = encode_table(new)
            part = Part(bucket, f"{bucket}-{generation:08d}-{hashlib.sha256(data).hexdigest()[:16]}.arrow")
            parts[bucket] = part
            new_parts[part.name] = data
    entries = pa.concat_tables([ENTRY_SCHEMA.empty_table(), *tables.values()])
    listed = tuple(parts[bucket] for bucket in sorted(parts))
    totals = Totals.of_table(entries)
    ordered_holes = tuple(sorted(holes, key=lambda hole: (hole.relative, hole.start)))
    return Revision(Root(generation, listed, totals, ordered_holes, run), new_parts)


def _read_parts(paths: VersionPaths, root: Root) -> dict[str, pa.Table]:
    def load(part: Part) -> pa.Table:
        path = storage.join(paths.manifest, part.name)
        table = decode_table(storage.read_bytes(path), path)
        # A column that came later is null for what was committed before.
        for column in ENTRY_SCHEMA:
            if column.name not in table.column_names:
                table = table.append_column(column, pa.nulls(len(table), column.type))
        return table.select(ENTRY_SCHEMA.names)

    with ThreadPoolExecutor(READERS) as pool:
        return {part.bucket: table for part, table in zip(root.parts, pool.map(load, root.parts), strict=True)}
