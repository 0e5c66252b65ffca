"""A run without Beam: this process is the one worker.

What a job of a minute does not need of Beam took one of the four seconds that it had for its start.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from beamhub.engine.shard import WorkItem
from beamhub.engine.tablespec import TableSpec
from beamhub.engine.worker import Worker
from beamhub.engine.worklist import commit_run, read_again, read_worklist
from beamhub.errors import EndedEarlyError
from beamhub.features.paths import VersionPaths
from beamhub.modules.reason import reason


def run_alone(spec: TableSpec, out: str, run: str, worklists: Sequence[str], progress: str | None) -> dict[str, int]:
    """Does what the pipeline does (`beamhub.transforms.ComputeTable`), in this thread and the compute threads.

    Returns:
        The sums of beamhub's counters.

    Raises:
        EndedEarlyError: the table's folder cannot be written any more.
    """
    paths = VersionPaths(out, spec.version)
    worker = Worker(spec, out, progress=progress)
    try:
        _compute(worker, itertools.chain.from_iterable(map(read_worklist, worklists)))
        _compute(worker, read_again(paths, run))
        commit_run(paths, run)
    except OSError as error:
        raise EndedEarlyError(reason(error)) from error
    return worker.take_counts()


def _compute(worker: Worker, items: Iterable[WorkItem]) -> None:
    worker.begin()
    try:
        for item in items:
            worker.submit(item)
    finally:
        worker.finish()
