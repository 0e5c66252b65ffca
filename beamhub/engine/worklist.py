"""A run's papers: what it has to compute, what it has to commit, and how it ended.

runs/RUN/worklist-00000.arrow   shards to compute, for the pipeline
runs/RUN/changes.arrow          shards to commit, those of an earlier run that died included
runs/RUN/run.json               options, corpus, files that are gone, limits
runs/RUN/outcome.json           what the commit did, or why it did not
runs/RUN/progress/              how far each worker process is, while a launcher watches (`beamhub.engine.progress`)
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beamhub import storage
from beamhub.corpus.shard_list import Integers, Mask, ShardList
from beamhub.corpus.shards import Shard
from beamhub.engine.ranges import settle_ranges
from beamhub.engine.shard import WorkItem
from beamhub.errors import BeamhubError, DeadLetterLimitError, ShardsFailedError, TableError
from beamhub.features.commit import CommitOutcome, commit
from beamhub.features.dead import read_dead
from beamhub.features.ledger import decode_table, encode_table, write_tables
from beamhub.features.lineage import encode_document, read_document
from beamhub.features.manifest import in_order
from beamhub.features.paths import VersionPaths
from beamhub.features.reconcile import Limits
from beamhub.features.state import VersionState
from beamhub.features.table import open as open_table
from beamhub.startup import memory_returned

SHARDS_PER_FILE = 10_000

EXAMPLES = 5
"""Files without keys, and repeated keys, that a summary names."""

_ITEMS = pa.schema(
    [
        ("path", pa.string()),
        ("relative", pa.string()),
        ("size", pa.int64()),
        ("token", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("pending", pa.bool_()),
    ]
)

_REFUSALS: dict[str, type[BeamhubError]] = {
    each.__name__: each for each in (BeamhubError, TableError, DeadLetterLimitError, ShardsFailedError)
}


def new_run_id(now: datetime.datetime) -> str:
    """A name that sorts by time and that no other run has."""
    # Two runs may begin in one second: the last one must be told from the one that died before it.
    return f"{now:%Y%m%dT%H%M%S.%f}-{secrets.token_hex(3)}"


@dataclass(frozen=True)
class RunPapers:
    """The files of one run."""

    paths: VersionPaths
    run: str

    def path(self, name: str) -> str:
        """A file of the run."""
        return storage.join(self.paths.runs, self.run, name)

    def write(self, todo: WorkItems, changes: ShardList, document: dict[str, Any]) -> list[str]:
        """Writes what the run has to do; returns the paths of the worklist files."""
        worklists = []
        order = todo.largest_first
        for start in range(0, len(todo), SHARDS_PER_FILE):
            path = self.path(f"worklist-{start // SHARDS_PER_FILE:05d}.arrow")
            storage.write_bytes(path, encode_table(todo.take(order[start : start + SHARDS_PER_FILE]).table()))
            worklists.append(path)
        every = WorkItems(changes, np.broadcast_to(False, len(changes)))
        with storage.create(self.path("changes.arrow")) as file:
            blocks = range(0, len(every), SHARDS_PER_FILE)
            write_tables(file, _ITEMS, (every[start : start + SHARDS_PER_FILE].table() for start in blocks))
        storage.write_bytes(self.path("run.json"), encode_document(document))
        return worklists

    def changes(self) -> ShardList:
        """The shards that the run has to commit."""
        path = self.path("changes.arrow")
        table = decode_table(storage.read_bytes(path), path)
        first = ShardList.of(_shards(table.slice(0, 1)))
        return ShardList.of_columns(first.prefix, [table.drop_columns(["path", "pending"])])


@dataclass(frozen=True, eq=False)
class WorkItems(Sequence[WorkItem]):
    """Shards to compute, as columns, and which of them have to wait for the commit."""

    shards: ShardList
    pending: Mask

    def __len__(self) -> int:
        return len(self.shards)

    @overload
    def __getitem__(self, index: int) -> WorkItem: ...

    @overload
    def __getitem__(self, index: slice) -> WorkItems: ...

    def __getitem__(self, index: int | slice) -> WorkItem | WorkItems:
        """One of them, or a stretch."""
        if isinstance(index, slice):
            return WorkItems(self.shards[index], self.pending[index])
        return WorkItem(self.shards[index], bool(self.pending[index]))

    def __iter__(self) -> Iterator[WorkItem]:
        """The items, a block at a time."""
        return map(WorkItem, self.shards, map(bool, self.pending))

    @property
    def largest_first(self) -> Integers:
        """Their places in the order of a worklist: what is left at the end, when workers run dry, is small.

        Those of one size come as in the corpus.
        """
        return np.argsort(-self.shards.size, kind="stable")

    def take(self, places: Integers) -> WorkItems:
        """Those at these places."""
        return WorkItems(self.shards.take(places), self.pending[places])

    def table(self) -> pa.Table:
        """The rows of a worklist file."""
        shards = self.shards
        columns = [shards.paths(), shards.relative, shards.size, shards.token, shards.start, shards.end, self.pending]
        return pa.Table.from_arrays([pa.array(column) for column in columns], schema=_ITEMS)


def _shards(table: pa.Table) -> Iterator[Shard]:
    return (Shard(**row) for row in table.drop_columns(["pending"]).to_pylist())


def read_worklist(path: str) -> Iterator[WorkItem]:
    """The shards of a worklist file."""
    for row in decode_table(storage.read_bytes(path), path).to_pylist():
        pending = row.pop("pending")
        yield WorkItem(Shard(**row), pending)


def read_again(paths: VersionPaths, run: str) -> Sequence[WorkItem]:
    """Files that a run has computed in ranges and now has to compute whole (see `settle_ranges`)."""
    changes = RunPapers(paths, run).changes()
    if not changes.is_range.any():
        return []
    state = VersionState.load(paths)
    settled = settle_ranges(changes, state)
    wholes = settled.filter(np.isin(settled.ids, changes.ids, invert=True))
    wholes = wholes.filter(~state.find(wholes).done)
    return WorkItems(wholes, state.waiting(wholes))


@memory_returned()
def commit_run(paths: VersionPaths, run: str) -> CommitOutcome | None:
    """Commits what a run had to commit, and leaves the outcome in its papers.

    Called by the pipeline's last step, by the launcher that waits, and by `beamhub commit`: doing it twice is doing it once.
    A refusal is left in the papers, for the launcher to raise (`read_outcome`); None is returned.
    """
    papers = RunPapers(paths, run)
    document = read_document(papers.path("run.json"))
    changes = papers.changes()
    if changes.is_range.any():
        changes = settle_ranges(changes, VersionState.load(paths))
    try:
        outcome = commit(paths, changes, document["gone"], None, Limits(**document["limits"]), run)
    except BeamhubError as error:
        example = _example(paths, changes) if isinstance(error, DeadLetterLimitError) else ""
        refusal = {"refused": type(error).__name__, "message": f"{error}{example}"}
        storage.write_bytes(papers.path("outcome.json"), encode_document(refusal))
        return None
    # First what was done; what is found out about the keys comes after, and cannot undo it.
    report = {**asdict(outcome), "keys": None}
    storage.write_bytes(papers.path("outcome.json"), encode_document(report))
    if document["key"] is not None:
        pa.default_memory_pool().release_unused()
        report["keys"] = _check_keys(paths)
        storage.write_bytes(papers.path("outcome.json"), encode_document(report))
    return outcome


def _example(paths: VersionPaths, changes: Sequence[Shard]) -> str:
    """One dead letter in words, of the first shard that has any."""
    for shard in changes:
        path = paths.dead_file(shard)
        if storage.info(path) is not None:
            letter = read_dead(paths, [paths.name(path)]).slice(0, 1).to_pylist()[0]
            return f"; for example {letter['key']} ({letter['stage']}: {letter['error']})"
    return ""


def _check_keys(paths: VersionPaths) -> dict[str, Any]:
    """Null and repeated keys of the whole table, with examples."""
    table = open_table(paths.out, paths.version)
    entries = table.manifest.entries
    if not len(entries):
        return {"null": 0, "null_files": [], "repeated": 0, "examples": []}
    repeated = table.repeated_keys()
    names = entries.column("file")

    def relative(file: str) -> str:
        return str(entries.column("relative")[pc.index(names, paths.name(file)).as_py()])

    without = in_order(entries.filter(pc.greater(entries.column("null_keys"), 0))).column("relative")
    return {
        "null": table.totals.null_keys,
        "null_files": without.to_pylist()[:EXAMPLES],
        "repeated": repeated.count,
        "examples": [[str(key), relative(first), relative(other)] for key, first, other in repeated.examples],
    }


def read_outcome(paths: VersionPaths, run: str) -> dict[str, Any]:
    """What a run's commit did.

    Raises:
        BeamhubError: the commit refused; of the type that it raised, with its message.
    """
    document = read_document(RunPapers(paths, run).path("outcome.json"))
    if "refused" in document:
        raise _REFUSALS.get(document["refused"], BeamhubError)(document["message"])
    return document


def last_run(paths: VersionPaths) -> str:
    """The run that began last. Raises TableError where none has."""
    runs = [
        file.path.split("/")[-2] for file in storage.match(storage.join(storage.escape(paths.runs), "*", "run.json"))
    ]
    if not runs:
        raise TableError(f"{paths.root}: no run has begun here; run the job first")
    return max(runs)
