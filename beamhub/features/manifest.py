"""The manifest: the committed list of a version's shards and files.

Columnar, in parts: the partition folders are spread over 16 buckets by a hash, and a part holds the
entries of one bucket. A commit writes the parts that change and a new root; the others are used again. So a
commit costs what changed, and a load some Arrow files, however many partitions there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beamhub import storage
from beamhub.corpus.shard_list import Ids, Mask
from beamhub.errors import TableError
from beamhub.features.ledger import (
    READERS,
    RESULT_SCHEMA,
    ShardResult,
    conform,
    decode_table,
    encode_table,
    table_to_results,
)
from beamhub.features.paths import VersionPaths
from beamhub.features.results import Results
from beamhub.features.roots import Hole, Part, Root, Totals, latest_generation, read_root
from beamhub.features.shard_index import ShardIndex, numbers_of
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
        """One row for each shard (`ENTRY_SCHEMA`), bucket by bucket; what `tables` has, not a copy."""
        return pa.concat_tables([ENTRY_SCHEMA.empty_table(), *self.tables.values()])

    @cached_property
    def ordered(self) -> pa.Table:
        """The entries in the order of the corpus: by relative path, then range."""
        return in_order(self.entries)

    @cached_property
    def relatives(self) -> frozenset[str]:
        """The corpus files that rows are here of, as Python objects; `column("relative")` has them without."""
        return frozenset(pc.unique(self.column("relative")).to_pylist())

    @cached_property
    def ids(self) -> Ids:
        """The shard id of each entry."""
        return numbers_of(self.column("shard"))

    @cached_property
    def index(self) -> ShardIndex:
        """The row of each shard id in `entries`."""
        return ShardIndex(self.ids)

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of `entries`."""
        return self.entries.column(name)

    def token(self, shard: str) -> str | None:
        """The token that a shard id was committed with."""
        found = self.result(shard)
        return None if found is None else found.token

    def result(self, shard: str) -> ShardResult | None:
        """The entry of a shard id."""
        rows = self.index.rows(shard)
        return table_to_results(self.entries.take(rows))[0] if len(rows) else None


def revise(
    base: Manifest,
    removed: Mask,
    added: Results,
    holes: Iterable[Hole],
    run: str,
    write: Callable[[str, bytes], None],
) -> Root:
    """The root of the generation after `base`: without the entries `removed`, with `added`.

    `write` is given the name and the bytes of each part that is new, one after the other, for all of them would not be held
    in memory. The bytes depend on nothing else but `run`.
    """
    generation = base.generation + 1
    parts = {part.bucket: part for part in base.root.parts}
    arriving = buckets_of(added.column("file"))
    totals = []
    start = 0
    leaving = {}
    for bucket, table in base.tables.items():
        leaving[bucket] = removed[start : start + len(table)]
        start += len(table)
    for number, bucket in enumerate("0123456789abcdef"):
        old = base.tables.get(bucket, ENTRY_SCHEMA.empty_table())
        places = np.flatnonzero(arriving == number)
        gone = leaving.get(bucket, np.zeros(0, np.bool_))
        if not (len(places) or gone.any()):
            totals.append(Totals.of_table(old))
            continue
        new = pa.concat_tables([old.filter(pa.array(~gone)), added.table(places).select(ENTRY_SCHEMA.names)])
        totals.append(Totals.of_table(new))
        parts.pop(bucket, None)
        if len(new):
            data = encode_table(in_order(new))
            parts[bucket] = Part(bucket, f"{bucket}-{generation:08d}-{hashlib.sha256(data).hexdigest()[:16]}.arrow")
            write(parts[bucket].name, data)
    listed = tuple(parts[bucket] for bucket in sorted(parts))
    ordered_holes = tuple(sorted(holes, key=lambda hole: (hole.relative, hole.start)))
    return Root(generation, listed, Totals.sum(totals), ordered_holes, run)


def in_order(entries: pa.Table) -> pa.Table:
    """Entries in the order of the corpus: by relative path, then range."""
    return entries.sort_by(_ORDER)


def buckets_of(files: pa.Array) -> npt.NDArray[np.int8]:
    """The number of each data file's bucket."""
    folders = pc.replace_substring_regex(files, r"/?[^/]*$", "").dictionary_encode()
    # There are few folders, or as many as files at most.
    numbers = np.array([int(bucket_of(f"{name}/"), 16) for name in folders.dictionary.to_pylist()], np.int8)
    found: npt.NDArray[np.int8] = numbers[folders.indices.to_numpy()]
    return found


def _read_parts(paths: VersionPaths, root: Root) -> dict[str, pa.Table]:
    def load(part: Part) -> pa.Table:
        path = storage.join(paths.manifest, part.name)
        return conform(decode_table(storage.read_bytes(path), path), ENTRY_SCHEMA)

    with ThreadPoolExecutor(READERS) as pool:
        return {part.bucket: table for part, table in zip(root.parts, pool.map(load, root.parts), strict=True)}
