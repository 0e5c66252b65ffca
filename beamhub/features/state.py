"""What a version's folder holds: the manifest, the ledger, and the files that are there, read together.

It costs one listing, the ledger's files, and a look into each data file that neither manifest nor ledger
knows (its worker died before the ledger was written).
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Self

import pyarrow as pa
import pyarrow.compute as pc

from beamhub import storage
from beamhub.corpus.shard_list import Mask, ShardList, as_mask
from beamhub.corpus.shards import Shard
from beamhub.errors import TableError
from beamhub.features.file_sizes import FileSizes
from beamhub.features.formats import FORMATS, format_of
from beamhub.features.found import Found, find
from beamhub.features.ledger import READERS, Ledger, ShardResult
from beamhub.features.manifest import Manifest
from beamhub.features.paths import META, VersionPaths, parse_name, pending_name, pending_names
from beamhub.features.roots import latest_generation

_ATTEMPTS = 5

Standing = Literal["done", "failed", "stale", "missing"]


@dataclass(frozen=True)
class VersionState:
    """A snapshot.

    `manifest` is an empty one before the first commit; `files` are all files that are there. What is asked of one shard is
    answered here; of many, `find` answers the same all at once.
    """

    paths: VersionPaths
    manifest: Manifest
    ledger: Ledger
    files: FileSizes
    recovered: Mapping[tuple[str, str], ShardResult]

    @classmethod
    def load(cls, paths: VersionPaths) -> Self:
        """Reads the version's folder as it is; an empty or missing one is a version without anything.

        Raises TableError when manifest or ledger cannot be read.
        """
        for _ in range(_ATTEMPTS):
            manifest = Manifest.load(paths) or Manifest.empty()
            files = FileSizes.of((paths.name(file.path), file.size) for file in storage.walk(paths.root))
            # A commit in between has moved and deleted what the manifest at hand speaks of.
            if latest_generation(paths) == manifest.generation:
                break
        else:
            raise TableError(f"{paths.root}: commits follow each other too fast to read it; try again")
        noted = files.names.filter(pc.starts_with(files.names, f"{META}/ledger/")).to_pylist()
        ledger = Ledger.read(map(paths.path, noted))
        recovered = _recover(paths, manifest, ledger, files)
        # What it took to read and sort is as much as what is kept.
        pa.default_memory_pool().release_unused()
        return cls(paths, manifest, ledger, files, recovered)

    def find(self, shards: ShardList) -> Found:
        """What became of each of many shards."""
        return find(self, shards)

    def committed(self, shard: Shard) -> bool:
        """Whether the manifest has the shard with its present token, and the file is there with the size it
        says."""
        entry = self.manifest.result(shard.id)
        return entry is not None and entry.token == shard.token and self.files.get(entry.file) == entry.bytes

    def done(self, shard: Shard) -> ShardResult | None:
        """The result of a shard that need not be computed: committed, or finished and waiting for a commit."""
        if self.committed(shard):
            return self.manifest.result(shard.id)
        found = [r for r in self.ledger.of(shard.id) if r.token == shard.token and r.outcome == "done"]
        there = {present.checksum: present for result in found if (present := self.located(result)) is not None}
        if len(there) > 1:
            # Attempts on different machines: only the file can tell which of them it is of.
            whole = _recover_file(self.paths, next(iter(there.values())))
            return whole and there.get(whole.checksum)
        return next(iter(there.values()), None) or self.recovered.get((shard.id, shard.token))

    def failed(self, shard: Shard) -> ShardResult | None:
        """The result of a shard that was tried with its present token, in vain."""
        found = self.ledger.best(shard.id, shard.token)
        return found if found is not None and found.outcome != "done" else None

    def result(self, shard: Shard) -> ShardResult | None:
        """`done`, else `failed`: what `commit` asks for."""
        return self.done(shard) or self.failed(shard)

    def standing(self, shard: Shard) -> Standing:
        """How a shard stands: a stale one was done with another token, a missing one was never tried."""
        if self.committed(shard) or self.done(shard) is not None:
            return "done"
        if self.failed(shard) is not None:
            return "failed"
        is_known = self.manifest.token(shard.id) not in (None, shard.token) or bool(self.ledger.of(shard.id))
        return "stale" if is_known else "missing"

    def waits(self, shard: Shard) -> bool:
        """Whether the shard's file has to wait in `pending/`: the manifest has rows of the same corpus file."""
        return bool(pc.any(pc.equal(self.manifest.column("relative"), shard.relative)).as_py())

    def waiting(self, shards: ShardList) -> Mask:
        """`waits` of many shards."""
        return as_mask(pc.is_in(shards.relative, self.manifest.column("relative")))

    @cached_property
    def relatives(self) -> frozenset[str]:
        """The corpus files that rows are here of, committed or not."""
        known = pc.unique(self.ledger.table.column("relative")).to_pylist()
        return self.manifest.relatives.union(known, (result.relative for result in self.recovered.values()))

    def located(self, result: ShardResult) -> ShardResult | None:
        """The result with `pending` as its file lies now; None when there is no such file of the right size."""
        places = {False: result.file, True: pending_name(result.file)}
        for pending in (result.pending, not result.pending):
            if self.files.get(places[pending]) == result.bytes:
                return replace(result, pending=pending)
        return None


def _recover(
    paths: VersionPaths, manifest: Manifest, ledger: Ledger, files: FileSizes
) -> dict[tuple[str, str], ShardResult]:
    """Results of the data files that neither manifest nor ledger knows, by shard id and token."""
    known = manifest.column("file"), ledger.table.column("file")
    strange = files.others(*known)
    if pc.any(pc.starts_with(strange, f"{META}/pending/")).as_py():
        strange = files.others(*known, *map(pending_names, known))
    unknown = [name for name in strange.to_pylist() if _is_data(name)]
    with ThreadPoolExecutor(READERS) as pool:
        results = pool.map(lambda name: _read_footer(paths, name), unknown)
        return {(result.shard, result.token): result for result in results if result is not None}


def _is_data(name: str) -> bool:
    pending = name.startswith(f"{META}/pending/")
    if parse_name(name) is None or (name.startswith(f"{META}/") and not pending):
        return False
    return name.removesuffix(".pending").rpartition(".")[2] in FORMATS


def _read_footer(paths: VersionPaths, name: str) -> ShardResult | None:
    found = format_of(name).recover(paths.path(name))
    if found is None:
        return None
    shard = Shard(path="", relative=found.relative, size=0, token=found.token, start=found.start, end=found.end)
    file = paths.data_name(shard, format_of(name).extension)
    # A file that was renamed or copied by hand is not the shard's.
    return replace(found, file=file, pending=name != file) if name in (file, pending_name(file)) else None


def _recover_file(paths: VersionPaths, result: ShardResult) -> ShardResult | None:
    return _read_footer(paths, pending_name(result.file) if result.pending else result.file)
