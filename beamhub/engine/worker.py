"""What a worker does with the shards that it is handed, whoever hands them out."""

from __future__ import annotations

import collections
import contextlib

from beamhub.engine.lane import Lane
from beamhub.engine.pool import ComputePool, acquire_pool
from beamhub.engine.progress import Progress, acquire_reporter
from beamhub.engine.shard import WorkItem
from beamhub.engine.tablespec import TableSpec
from beamhub.errors import ModuleError
from beamhub.features.ledger import ShardResult
from beamhub.features.ledger_writer import LedgerWriter
from beamhub.features.paths import VersionPaths
from beamhub.startup import collection_paused, started


class Worker:
    """Computes shards, a bundle of them at a time: what a bundle has finished is in the ledger at its end.

    for bundle in bundles:
        worker.begin()
        for item in bundle:
            results += worker.submit(item)
        results += worker.finish()
    """

    def __init__(self, spec: TableSpec, out: str, threads: int | None = None, progress: str | None = None) -> None:
        """The module is loaded, or found loaded, for the first shard: a worker without any needs none.

        Args:
            spec: what to compute.
            out: the table's folder.
            threads: compute threads; by default as many as there are cores.
            progress: the folder of the reports, where a launcher watches.
        """
        self._spec = spec
        self._paths = VersionPaths(out, spec.version)
        self._threads = threads
        self._ledger = LedgerWriter(self._paths)
        self._bundle = contextlib.ExitStack()
        self._reporter = acquire_reporter(progress) if progress is not None else None
        self._pool: ComputePool | None = None
        self._broken = ""
        self._counts: collections.Counter[str] = collections.Counter()

    def begin(self) -> None:
        """Begins a bundle."""
        self._bundle = contextlib.ExitStack()
        # Last, and also where an error ends the bundle.
        self._bundle.callback(self._ledger.flush)
        self._lane: Lane | None = None

    def submit(self, item: WorkItem) -> list[ShardResult]:
        """Reads a shard; the last steps of one go along with the first of the next.

        Returns:
            Results of shards of this bundle that are finished; a failed shard is one too.
        """
        if self._lane is None and not self._broken:
            self._open()
        if self._lane is None:
            return self._record([ShardResult.not_done(item.shard, "failed", self._broken)])
        return self._record(self._lane.submit(item))

    def _open(self) -> None:
        try:
            with collection_paused():
                pool = self._pool = acquire_pool(self._spec, self._threads)
            started()
        except ModuleError as error:
            # Raised on it would end the job, on some runners after hours; each shard says it instead.
            self._broken = str(error)
            return
        self._bundle.enter_context(pool.stages.lane())
        progress = Progress() if self._reporter is None else self._bundle.enter_context(self._reporter.working())
        self._lane = self._bundle.enter_context(Lane(self._spec, self._paths, pool, progress))

    def finish(self) -> list[ShardResult]:
        """Waits for the bundle's shards, and writes the rest of the ledger; the results not yet returned."""
        with self._bundle:
            last = [] if self._lane is None else self._record(self._lane.drain())
        if self._pool is not None:
            self._counts.update(self._pool.take_figures())
        return last

    def close(self) -> None:
        """Where a bundle was broken off: waits for what it had handed in, and writes down what it had finished."""
        # Whoever broke it off tells why; a full disk is a cause of that, not another one.
        with contextlib.suppress(OSError):
            self._bundle.close()

    def take_counts(self) -> dict[str, int]:
        """Counts since they were last taken: of records, bytes, shards by outcome, and the pool's figures."""
        taken, self._counts = self._counts, collections.Counter()
        return taken

    def _record(self, results: list[ShardResult]) -> list[ShardResult]:
        for result in results:
            self._ledger.add(result)
            self._counts.update({name: getattr(result, name) for name in ("read", "produced", "dead", "bytes")})
            self._counts[f"shards_{result.outcome}"] += 1
        return results
