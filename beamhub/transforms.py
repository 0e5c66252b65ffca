"""The pipeline: worklist files -> ComputeShards -> ReadAgain -> ComputeShards -> CommitRun. The only DoFns there are.

The element is a shard, seconds of work, never a row; what happens to a shard is in `beamhub.engine.shard`, and what a commit
is in `beamhub.features.commit`. Neither knows of Beam.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beamhub.engine.shard import WorkItem
from beamhub.engine.tablespec import TableSpec
from beamhub.engine.threads import cores
from beamhub.engine.worker import Worker
from beamhub.engine.worklist import commit_run, read_again, read_worklist
from beamhub.features.ledger import ShardResult
from beamhub.features.paths import VersionPaths

NAMESPACE = "beamhub"


class ComputeShards(beam.DoFn):
    """Computes shards. Results go to the ledger; a failed shard is a result, not an exception.

    The spec travels as JSON, for it is small, and reads the same in every worker. `progress` is the folder of the reports
    where a launcher watches. `processes` like this one share a machine's cores; 0: one for each core.
    """

    def __init__(self, spec: dict[str, Any], out: str, processes: int, progress: str | None) -> None:
        self._spec_json = spec
        self._out = out
        self._processes = processes
        self._progress = progress

    def setup(self) -> None:
        """Reads the spec."""
        spec, threads = TableSpec.from_json(self._spec_json), max(1, cores() // (self._processes or cores()))
        self._worker = Worker(spec, self._out, threads, self._progress)

    def start_bundle(self) -> None:
        """What a bundle has finished is in the ledger when Beam takes it as done."""
        self._worker.begin()

    def process(self, item: WorkItem) -> Iterator[ShardResult]:
        """Reads one shard, and yields those that are finished."""
        yield from self._worker.submit(item)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Waits for the bundle's shards."""
        last = self._worker.finish()
        for name, amount in self._worker.take_counts().items():
            Metrics.counter(NAMESPACE, name).inc(amount)
        window = GlobalWindow()
        for result in last:
            yield WindowedValue(result, window.max_timestamp(), [window])

    def teardown(self) -> None:
        """Keeps what was finished of a bundle that was broken off."""
        self._worker.close()


class ReadAgain(beam.DoFn):
    """From the number of shards, once all are through, to the files that have to be done again whole."""

    def __init__(self, out: str, version: str, run: str) -> None:
        self._out = out
        self._version = version
        self._run = run

    def process(self, shards: int) -> Iterable[WorkItem]:
        """Looks at the ranges of each file."""
        return read_again(VersionPaths(self._out, self._version), self._run)


class CommitRun(beam.DoFn):
    """The pipeline's last step: commits what the run has computed, and leaves the outcome for the launcher."""

    def __init__(self, out: str, version: str, run: str) -> None:
        self._out = out
        self._version = version
        self._run = run

    def process(self, shards: int) -> Iterable[int]:
        """Commits once all shards are through."""
        commit_run(VersionPaths(self._out, self._version), self._run)
        return [shards]


class ComputeTable(beam.PTransform):
    """From paths of worklist files to one element, after the commit: the number of shards, those done again counted twice."""

    def __init__(self, spec: TableSpec, out: str, run: str, processes: int = 1, progress: str | None = None) -> None:
        """`processes` and `progress`: see `ComputeShards`."""
        super().__init__()
        self._spec = spec
        self._out = out
        self._run = run
        self._processes = processes
        self._progress = progress

    def expand(self, worklists: Any) -> Any:
        """Applies the steps."""
        shards = worklists | "ReadWorklist" >> beam.FlatMap(read_worklist)
        computed = shards | "Compute" >> self._compute() | "Computed" >> _Sum()
        # Files whose ranges disagree are done again whole; there are hardly ever any.
        again = computed | "ReadAgain" >> beam.ParDo(ReadAgain(self._out, self._spec.version, self._run))
        computed_again = again | "ComputeAgain" >> self._compute()
        every = (computed, computed_again) | beam.Flatten() | "All" >> _Sum()
        return every | "Commit" >> beam.ParDo(CommitRun(self._out, self._spec.version, self._run))

    def _compute(self) -> Any:
        """From shards to a 1 for each that is computed."""
        return _Compute(ComputeShards(self._spec.to_json(), self._out, self._processes, self._progress))


class _Compute(beam.PTransform):
    def __init__(self, compute: ComputeShards) -> None:
        super().__init__()
        self._do = compute

    def expand(self, shards: Any) -> Any:
        done = shards | "Spread" >> beam.Reshuffle() | "ComputeShards" >> beam.ParDo(self._do)
        return done | "One" >> beam.Map(lambda _: 1)


class _Sum(beam.PTransform):
    """One sum of some numbers, once all are there. Beam's global sum builds three times as many steps, to sum up none too."""

    def expand(self, numbers: Any) -> Any:
        keyed = numbers | "ForOneKey" >> beam.Map(lambda number: (0, number))
        return keyed | "Sum" >> beam.CombinePerKey(sum) | "Values" >> beam.Values()
