"""Shards that are done again for the same input: those that have dead letters, and those whose files are damaged."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beamhub import storage
from beamhub.corpus.shard_list import ShardList
from beamhub.corpus.shards import WHOLE, Shard
from beamhub.engine.tablespec import TableSpec
from beamhub.engine.worklist import RunPapers, WorkItems, again_of, last_run
from beamhub.features.intent import roll_forward
from beamhub.features.ledger import ShardResult, table_to_results
from beamhub.features.lineage import read_document
from beamhub.features.paths import VersionPaths, dead_names, pending_name, revision_of
from beamhub.features.state import VersionState


@dataclass(frozen=True)
class Again:
    """What is to be done: `todo` are the shards to compute, `changes` those to commit, of which some may have been computed
    before.

    `dead` counts the dead letters that are tried again, `stale` names corpus files that are not what they were: these the job
    itself does anew. `document` is for the run's papers.
    """

    spec: TableSpec
    paths: VersionPaths
    todo: WorkItems
    changes: ShardList
    dead: int
    stale: Sequence[str]
    document: dict[str, Any]


def plan_retry(paths: VersionPaths) -> Again:
    """The shards of a version that have dead letters, committed, or finished by a run that was not allowed to commit.

    Raises TableError where no run has begun.
    """
    planner = _Planner(paths)
    for result in _with_dead_letters(planner.state, planner.waiting):
        planner.add(result, _base(planner.spec, result))
    return planner.plan()


def plan_repair(paths: VersionPaths, files: Collection[str]) -> Again:
    """The shards whose data files or dead letters are among these names.

    Raises TableError where no run has begun.
    """
    planner = _Planner(paths)
    entries = planner.state.manifest.ordered
    names = pa.array(sorted(files), pa.string())
    is_damaged = pc.or_(pc.is_in(entries.column("file"), names), pc.is_in(dead_names(entries.column("file")), names))
    for result in table_to_results(entries.filter(is_damaged)):
        planner.add(result, None)
    return planner.plan()


class _Planner:
    """Gathers results whose shards are done again."""

    def __init__(self, paths: VersionPaths) -> None:
        """Finishes a commit that died."""
        roll_forward(paths)
        self._paths = paths
        self.spec = TableSpec.from_json(read_document(paths.spec))
        self.state = VersionState.load(paths)
        papers = RunPapers(paths, last_run(paths))
        self._before = read_document(papers.path("run.json"))
        changes = papers.changes()
        found = self.state.find(changes)
        # What the last run has finished and was not allowed to commit is committed along, all of it or nothing.
        self.waiting = changes.filter(~found.committed & found.done.all())
        self._shards: list[Shard] = []
        self._todo: list[tuple[Shard, int, str]] = []
        self._dead = 0
        self._stale: set[str] = set()

    def add(self, result: ShardResult, base: str | None) -> None:
        """The shard of a result is done again; of the file `base` rows are kept, "" for none; None: it is damaged."""
        shard = _shard_now(self.spec, result)
        if shard is None:
            self._stale.add(result.relative)
            return
        self._shards.append(shard)
        last = self.state.latest(shard)
        if last is not None and revision_of(last.file) > revision_of(result.file):
            # Done by a run that died before its commit, or was not allowed to.
            if base is None or not last.dead:
                return
            result, base = last, _base(self.spec, last)
        self._todo.append((shard, revision_of(result.file) + 1, base or ""))
        self._dead += result.dead

    def plan(self) -> Again:
        known = {shard.id for shard in self._shards}
        changes = ShardList.of([*self._shards, *(shard for shard in self.waiting if shard.id not in known)])
        todo = ShardList.of([shard for shard, _, _ in self._todo])
        again = again_of(
            np.array([revision for _, revision, _ in self._todo], np.int32), [base for _, _, base in self._todo]
        )
        return Again(
            self.spec,
            self._paths,
            WorkItems(todo, self.state.waiting(todo), again),
            changes,
            self._dead,
            sorted(self._stale),
            {
                **self._before,
                "again": True,
                "gone": self._before["gone"] if len(self.waiting) else [],
                "shards": len(todo),
            },
        )


def _with_dead_letters(state: VersionState, waiting: ShardList) -> Iterator[ShardResult]:
    """Results of what is committed, and of what waits for a commit."""
    entries = state.manifest.ordered
    yield from table_to_results(entries.filter(pc.greater(entries.column("dead"), 0)))
    for shard in waiting:
        result = state.done(shard)
        if result is not None and result.dead:
            yield result


def _shard_now(spec: TableSpec, result: ShardResult) -> Shard | None:
    """The shard of a result; None where its file is not what it was."""
    path = storage.join(spec.corpus_root, result.relative)
    now = storage.info(path)
    if now is None or now.token != result.token:
        return None
    end = now.size if result.end == WHOLE else result.end
    return Shard(path, result.relative, end - result.start, result.token, result.start, result.end)


def _base(spec: TableSpec, result: ShardResult) -> str:
    """The file of which rows are kept; "" where what a record has made cannot be told from it."""
    if spec.output_format != "parquet" or result.rows != result.produced:
        return ""
    return pending_name(result.file) if result.pending else result.file


def dead_letters_of(paths: VersionPaths, shards: Iterable[Shard]) -> int:
    """How many dead letters the shards have, as they are committed."""
    manifest = VersionState.load(paths).manifest
    ids = pa.array([shard.id for shard in shards], pa.string())
    entries = manifest.entries.filter(pc.is_in(manifest.column("shard"), ids))
    return int(pc.sum(entries.column("dead"), min_count=0).as_py())
