"""The module on a batch: call, encode, and find the records that cannot be done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from beamhub.corpus.shards import Chunk
from beamhub.engine.caller import Caller, Failure, Gathered, Rows, slice_rows
from beamhub.engine.sharing import Work, alone
from beamhub.engine.sizing import MOST_HEAVY_CALL_BYTES
from beamhub.engine.stages import Stages
from beamhub.errors import RecordError
from beamhub.tasks.base import Outputs, Task
from beamhub.tasks.gather import Feed

_Part = tuple[Rows, list[pa.Array]]


@dataclass
class Inferred:
    """What came of a batch: `columns` of the task for `rows` (ascending), and the `failures` of the others."""

    rows: Rows
    columns: list[pa.Array]
    failures: dict[int, Failure] = field(default_factory=dict)


@dataclass(frozen=True)
class Inference:
    """A module and a task, ready to run on batches from several threads.

    `share` runs the work of one batch, in this thread or in several.
    """

    caller: Caller
    task: Task
    stages: Stages
    share: Callable[[Work], None] = alone

    def run(self, batch: Chunk) -> Inferred:
        """The task's columns for a batch.

        Where the module refuses the batch, the records that cause it are found by bisecting, and the others are called
        again in the batch's own size, on which their last bits depend.

        Raises:
            ModuleError: an output has another number of rows than the call.
            BeamhubError: the module broke down.
        """
        with self.stages.busy("prepare"):
            gathered = Gathered(self.caller.call, batch)
        failures = gathered.failures
        parts: list[_Part] = []
        # Whichever thread comes takes the next call: a list's iterator gives each to one of them. Which calls there are is
        # settled before, and what comes of them is put in the order of the records.
        calls = iter(self._calls(gathered))

        def work() -> None:
            for rows, size in calls:
                self._infer(gathered.feeds, rows, size, parts, failures)

        self.share(work)
        return _merge(parts, failures)

    def _calls(self, gathered: Gathered) -> list[tuple[Rows, int]]:
        """The records of each call, and its size."""
        calls = []
        for rows in gathered.groups():
            start = 0
            while start < len(rows):
                left = len(rows) - start
                size = self.caller.call.next_size(left)
                if size > left and gathered.text_bytes * size > left * MOST_HEAVY_CALL_BYTES:
                    # Few and large, and the call would be filled up with copies of them.
                    size = self.caller.call.probes[-1]
                calls.append((rows[start : start + size], size))
                start += size
        return calls

    def _infer(
        self, feeds: list[Feed], rows: Rows, size: int, parts: list[_Part], failures: dict[int, Failure]
    ) -> None:
        self.stages.count("called", size)
        self.stages.count("padded", size - len(rows))
        with self.stages.busy("infer"):
            outputs = self.caller.attempt(feeds, rows, size)
        if isinstance(outputs, Exception):
            found = self._culprits(feeds, rows, outputs)
            failures.update(found)
            rows = rows[~np.isin(rows, np.fromiter(found, np.int64, len(found)))]
            if not len(rows):
                return
            outputs = self.caller.attempt(feeds, rows, size)
        if isinstance(outputs, Exception):
            # Each passed alone, but not together: nothing tells whose fault it is.
            failures.update({int(row): Failure.of("infer", outputs, 1) for row in rows})
        else:
            with self.stages.busy("encode"):
                self._encode(outputs, rows, parts, failures)

    def _culprits(self, feeds: list[Feed], rows: Rows, error: Exception) -> dict[int, Failure]:
        """The records of a refused batch that the module refuses alone, by bisecting, in calls as small as there are."""
        found: dict[int, Failure] = {}
        waiting: list[tuple[Rows, int, Exception]] = [(rows, 1, error)]
        while waiting:
            some, attempt, refusal = waiting.pop()
            if len(some) == 1:
                found[int(some[0])] = Failure.of("infer", refusal, attempt)
                continue
            middle = len(some) // 2
            for half in (some[middle:], some[:middle]):
                size = min(each for each in self.caller.call.probes if each >= len(half))
                outputs = self.caller.attempt(feeds, half, size)
                if isinstance(outputs, Exception):
                    waiting.append((half, attempt + 1, outputs))
        return found

    def _encode(self, outputs: Outputs, rows: Rows, parts: list[_Part], failures: dict[int, Failure]) -> None:
        try:
            parts.append((rows, self.task.encode(outputs)))
        except RecordError as error:
            if len(rows) == 1:
                failures[int(rows[0])] = Failure.of(error.stage, error, 1)
                return
            middle = len(rows) // 2
            self._encode(slice_rows(outputs, 0, middle), rows[:middle], parts, failures)
            self._encode(slice_rows(outputs, middle, len(rows)), rows[middle:], parts, failures)


def _merge(parts: list[_Part], failures: dict[int, Failure]) -> Inferred:
    if not parts:
        return Inferred(np.empty(0, np.int64), [], failures)
    if len(parts) == 1:
        return Inferred(parts[0][0], parts[0][1], failures)
    rows = np.concatenate([part[0] for part in parts])
    order = np.argsort(rows, kind="stable")
    columns = [pa.concat_arrays(pieces) for pieces in zip(*(part[1] for part in parts), strict=True)]
    if np.any(np.diff(rows) < 0):
        columns = [column.take(pa.array(order)) for column in columns]
    return Inferred(rows[order], columns, failures)
