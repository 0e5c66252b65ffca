"""How a table stands against its corpus, and one shard of it by hand."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from beamhub import storage
from beamhub.corpus.listing import Corpus, list_corpus
from beamhub.corpus.shard_list import ShardList
from beamhub.corpus.shards import Shard
from beamhub.engine.lane import compute_shard
from beamhub.engine.pool import acquire_pool
from beamhub.engine.ranges import in_ranges
from beamhub.engine.shard import WorkItem
from beamhub.engine.tablespec import TableSpec
from beamhub.engine.worklist import RunPapers, last_run
from beamhub.errors import CorpusError, ShardsFailedError
from beamhub.features.lineage import read_document
from beamhub.features.paths import VersionPaths
from beamhub.features.state import VersionState
from beamhub.startup import memory_returned

_NAMED = 10


@dataclass(frozen=True)
class Standing:
    """Shards of the corpus by how they stand, and records of the committed table.

    `done` are committed or finished; `uncommitted` of them wait for a commit. `deleted` counts corpus files whose rows are
    in the table but which are gone. `failures` are (file, reason).
    """

    version: str
    generation: int
    corpus: str
    done: int
    uncommitted: int
    missing: int
    stale: int
    failed: int
    deleted: int
    read: int
    produced: int
    dead: int
    skipped: int
    rows: int
    failures: Sequence[tuple[str, str]]


@memory_returned()
def standing(paths: VersionPaths) -> Standing:
    """Compares the corpus of the last run, as it is now, with the table.

    A corpus without any file is one whose files are all deleted.
    """
    state = VersionState.load(paths)
    corpus = _corpus(paths, state, may_be_empty=True)
    found = state.find(corpus.shards)
    stands = found.standings()
    first = np.flatnonzero(found.failed)[:_NAMED]
    failures = [(each.relative, each.reason) for each in found.results(first) if each is not None]
    totals = state.manifest.root.totals
    return Standing(
        paths.version,
        state.manifest.generation,
        corpus.pattern,
        stands["done"],
        stands["done"] - int(found.committed.sum()),
        stands["missing"],
        stands["stale"],
        stands["failed"],
        len(gone_files(corpus, state)),
        totals.read,
        totals.produced,
        totals.dead,
        totals.skipped,
        totals.rows,
        failures,
    )


def gone_files(corpus: Corpus, state: VersionState) -> list[str]:
    """Files that the table has rows of and that the corpus would have, if they were there still; sorted."""
    names = pc.unique(state.manifest.column("relative"))
    missing = names.filter(pc.invert(pc.is_in(names, corpus.shards.relative))).to_pylist()
    return sorted(name for name in missing if corpus.covers(name))


def describe(found: Standing) -> str:
    """The standing, for people."""
    lines = [
        f"version {found.version}, generation {found.generation}, of {found.corpus}",
        f"  shards    {found.done:,} done ({found.uncommitted:,} not committed), {found.missing:,} missing, "
        f"{found.stale:,} stale, {found.failed:,} failed",
        f"  records   {found.read:,} read = {found.produced:,} produced + {found.dead:,} dead + {found.skipped:,} skipped",
        f"  rows      {found.rows:,} committed",
    ]
    if found.deleted:
        lines.append(f"  deleted   {found.deleted:,} corpus files are gone; their rows leave at the next commit")
    return "\n".join([*lines, *(f"  failed    {name}: {reason}" for name, reason in found.failures)])


def run_shard(paths: VersionPaths, name: str) -> str:
    """Computes one shard with the code that workers run, and says what came of it.

    Raises:
        CorpusError: no such shard.
        ShardsFailedError: it failed.
    """
    spec = TableSpec.from_json(read_document(paths.spec))
    state = VersionState.load(paths)
    shard = _find(_corpus(paths, state), name)
    committed = state.manifest.result(shard.id) if state.committed(shard) else None
    with tempfile.TemporaryDirectory() as scratch:
        # Of a shard that is committed nothing is missing: what it gives is only compared.
        target = paths if committed is None else VersionPaths(scratch, paths.version)
        result = compute_shard(
            WorkItem(shard, state.waits(shard) and committed is None), spec, target, acquire_pool(spec)
        )
    if result.outcome != "done":
        raise ShardsFailedError(f"shard {shard.id} ({shard.path}) {result.outcome}: {result.reason}")
    if committed is not None:
        same = "equal to" if committed.checksum == result.checksum else "other bytes than"
        return f"shard {shard.id} ({shard.path}) done, {same} the committed file; the table is unchanged"
    return f"shard {shard.id} ({shard.path}) done: {result.read:,} read, {result.produced:,} produced, {result.dead:,} dead"


def _find(corpus: Corpus, name: str) -> Shard:
    for shard in corpus.shards:
        if name in (shard.id, shard.relative, shard.path):
            return shard
    raise CorpusError(f"no shard {name!r} in {corpus.pattern}; give an id, or a path below {corpus.root}")


def _corpus(paths: VersionPaths, state: VersionState, may_be_empty: bool = False) -> Corpus:
    papers = RunPapers(paths, last_run(paths))
    spec = TableSpec.from_json(read_document(paths.spec))
    pattern = read_document(papers.path("run.json"))["corpus"]
    if may_be_empty and not storage.match(pattern) and not storage.list_files(pattern):
        return Corpus(pattern, spec.corpus_root, spec.corpus_format, ShardList.of([]))
    return in_ranges(list_corpus(pattern, spec.corpus_root), spec, state)
