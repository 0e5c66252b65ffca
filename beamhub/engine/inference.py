"""The module on a batch: check, call, encode, and find the records that cannot be done."""

from __future__ import annotations

import base64
import itertools
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beamhub.corpus.shards import Chunk
from beamhub.engine.tablespec import Call
from beamhub.errors import BeamhubError, ModuleError, RecordError
from beamhub.modules.ragged import Output, Ragged
from beamhub.modules.reason import reason
from beamhub.spec import RECORD
from beamhub.tasks.base import Outputs, OutputShape, Task
from beamhub.tasks.binding import Binding
from beamhub.tasks.gather import Array, Feed, gather

if TYPE_CHECKING:
    from beamhub.modules.loaded import BoundSignature

Rows = npt.NDArray[np.int64]
_Part = tuple[Rows, list[pa.Array]]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a record cannot be done: the stage, the reason, the traceback ("" where there is none), and calls made with it."""

    stage: str
    reason: str
    traceback: str = ""
    attempts: int = 0


@dataclass
class Inferred:
    """What came of a batch: `columns` of the task for `rows` (ascending), and the `failures` of the others."""

    rows: Rows
    columns: list[pa.Array]
    failures: dict[int, Failure] = field(default_factory=dict)


class Inference:
    """A bound module and a task, ready to run on batches from several threads.

    `bound` maps fed arrays, by input name, to outputs by name; `errors` are the exceptions by which it refuses records.
    A `breakdown` that is none of them is no record's fault: it fails the shard.
    """

    def __init__(
        self,
        bound: BoundSignature,
        call: Call,
        task: Task,
        errors: tuple[type[Exception], ...],
        breakdown: type[Exception],
    ) -> None:
        self._bound = bound
        self._call = call
        self._task = task
        self._errors = errors
        self._breakdown = breakdown

    def run(self, batch: Chunk) -> Inferred:
        """The task's columns for a batch.

        Where the module refuses the batch, the records that cause it are found by bisecting, and the others are called
        again in the batch's own size, so that they keep their bits. What fills a call up to its size are its own records.

        Raises:
            ModuleError: an output has another number of rows than the call.
            BeamhubError: the module broke down.
        """
        groups = _Groups(self._feeds(batch))
        failures = {row: Failure("check", problem) for row, problem in groups.problems.items()}
        parts: list[_Part] = []
        largest = self._call.sizes[0]
        for rows in groups.rows(batch.rows):
            for start in range(0, len(rows), largest):
                self._infer(groups.feeds, rows[start : start + largest], parts, failures)
        return _merge(parts, failures)

    def try_first(self, batch: Chunk) -> tuple[Outputs | None, dict[int, Failure]]:
        """Calls the module with the first records of a batch that it takes; None where it takes none.

        The failures are those of the records that it did not take.
        """
        groups = _Groups(self._feeds(batch))
        failures = {row: Failure("check", problem) for row, problem in groups.problems.items()}
        size = self._call.sizes[0]
        for rows in groups.rows(batch.rows):
            # Together, as the job will; one by one where a record is in the way.
            for some in (rows[:size], *(rows[place : place + 1] for place in range(len(rows)))):
                outputs = self._try(groups.feeds, some, size)
                if not isinstance(outputs, Exception):
                    return outputs, failures
                failures[int(some[0])] = _failure("infer", outputs, 1)
        return None, failures

    def lacks_batch(self, batch: Chunk) -> bool:
        """Whether a call with one record gives, for some record of a batch, an output that has not one row."""
        groups = _Groups(self._feeds(batch))
        for row in itertools.chain.from_iterable(groups.rows(batch.rows)):
            try:
                outputs = self._bound({feed.binding.input: feed.take(np.array([row])) for feed in groups.feeds})
            except self._errors:
                continue
            if any(
                isinstance(value, np.ndarray) and (value.ndim == 0 or len(value) != 1) for value in outputs.values()
            ):
                return True
        return False

    def try_empty(self) -> Outputs | None:
        """Calls the module with zeros, empty texts and black images; None where it does not take them."""
        size = self._call.sizes[0]
        raw = {binding.input: _neutral(binding, size) for binding in self._call.bindings}
        try:
            return self._stacked(self._bound(raw), size)
        except self._errors:
            return None

    def output_shapes(self, sample: Outputs) -> dict[str, OutputShape]:
        """What is known of each output: sizes that TensorFlow proves for every call of this shape; the others vary."""
        import tensorflow as tf

        specs = {
            each.input: tf.TensorSpec((self._call.sizes[0], *(each.shape or ())), each.dtype)
            for each in self._call.bindings
        }
        static = self._bound.output_shapes(specs)
        shapes = {}
        for name, value in sample.items():
            kind = self._bound.signature.outputs[name].kind
            found = () if isinstance(value, Ragged) else value.shape[1:]
            proven = static[name]
            if isinstance(value, np.ndarray) and proven is not None:
                # A static shape has the batch dimension too, but for modules that take one record without it.
                record = proven[len(proven) - len(found) :]
                found = tuple(record)
            elif proven is None:
                found = tuple(None for _ in found)
            values = value.values if isinstance(value, Ragged) else value
            dtype = "string" if values.dtype == object else str(values.dtype)
            shapes[name] = OutputShape(name, dtype, kind, found, value)
        return shapes

    def lengths(self, batch: Chunk) -> dict[str, int]:
        """The most values that a record of a batch feeds to each input."""
        return {feed.binding.input: int(feed.lengths.max(initial=0)) for feed in self._feeds(batch)}

    def _feeds(self, batch: Chunk) -> list[Feed]:
        feeds = []
        for binding in self._call.bindings:
            column = batch.records if binding.column == RECORD else batch.columns.column(binding.column)
            feeds.append(gather(binding, column))
        return feeds

    def _try(self, feeds: Sequence[Feed], rows: Rows, size: int) -> Outputs | Exception:
        """The outputs for some records in a call of `size`, or the exception by which the module refuses them."""
        padded = np.resize(rows, size)
        raw = {feed.binding.input: feed.take(padded) for feed in feeds}
        try:
            outputs = self._bound(raw)
        except self._errors as error:
            return error
        except self._breakdown as error:
            raise BeamhubError(f"the module failed: {reason(error)}") from error
        return take_rows(self._stacked(outputs, size), np.arange(len(rows)))

    def _stacked(self, outputs: Outputs, size: int) -> Outputs:
        """Gives outputs of a call with one record the batch dimension that they lack, and checks that of others."""
        if not self._call.stacked:
            return {name: v[np.newaxis] if isinstance(v, np.ndarray) else v for name, v in outputs.items()}
        for name, value in outputs.items():
            count = rows_in(value)
            if count != size:
                raise ModuleError(
                    f"output {name} of signature {self._call.signature} has {count} rows for a call with {size} records: "
                    f"it is no output for each record; choose others"
                )
        return outputs

    def _infer(self, feeds: Sequence[Feed], rows: Rows, parts: list[_Part], failures: dict[int, Failure]) -> None:
        size = min(each for each in self._call.sizes if each >= len(rows))
        outputs = self._try(feeds, rows, size)
        if not isinstance(outputs, Exception):
            self._encode(outputs, rows, parts, failures)
            return
        found = self._culprits(feeds, rows, outputs)
        failures.update(found)
        good = rows[~np.isin(rows, np.fromiter(found, np.int64, len(found)))]
        if not len(good):
            return
        outputs = self._try(feeds, good, size)
        if not isinstance(outputs, Exception):
            self._encode(outputs, good, parts, failures)
            return
        # Each passed alone, but not together: nothing tells whose fault it is.
        failures.update({int(row): _failure("infer", outputs, 1) for row in good})

    def _culprits(self, feeds: Sequence[Feed], rows: Rows, error: Exception) -> dict[int, Failure]:
        """The records of a refused batch that the module refuses alone, by bisecting, in calls as small as there are."""
        found: dict[int, Failure] = {}
        waiting: list[tuple[Rows, int, Exception]] = [(rows, 1, error)]
        while waiting:
            some, attempt, refusal = waiting.pop()
            if len(some) == 1:
                found[int(some[0])] = _failure("infer", refusal, attempt)
                continue
            middle = len(some) // 2
            for half in (some[middle:], some[:middle]):
                size = min(each for each in self._call.probes if each >= len(half))
                outputs = self._try(feeds, half, size)
                if isinstance(outputs, Exception):
                    waiting.append((half, attempt + 1, outputs))
        return found

    def _encode(self, outputs: Outputs, rows: Rows, parts: list[_Part], failures: dict[int, Failure]) -> None:
        try:
            parts.append((rows, self._task.encode(outputs)))
        except RecordError as error:
            if len(rows) == 1:
                failures[int(rows[0])] = _failure(error.stage, error, 1)
                return
            middle = len(rows) // 2
            self._encode(take_rows(outputs, np.arange(middle)), rows[:middle], parts, failures)
            self._encode(take_rows(outputs, np.arange(middle, len(rows))), rows[middle:], parts, failures)


class _Groups:
    """Records whose tensors can be stacked."""

    def __init__(self, feeds: list[Feed]) -> None:
        self.feeds = feeds
        self.problems: dict[int, str] = {}
        for feed in feeds:
            for row, problem in feed.problems.items():
                self.problems.setdefault(row, f"column {feed.binding.column} {problem}")

    def rows(self, count: int) -> list[Rows]:
        """The good records, ascending, in groups of equal shape, in the order of their first record."""
        good = np.setdiff1d(np.arange(count), np.fromiter(self.problems, np.int64, len(self.problems)))
        varying = [feed.lengths[good] for feed in self.feeds if not feed.uniform]
        if not varying or not len(good):
            return [good] if len(good) else []
        _, first, group = np.unique(np.stack(varying), axis=1, return_index=True, return_inverse=True)
        return [good[group.ravel() == each] for each in np.argsort(first, kind="stable")]


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


def rows_in(output: Output) -> int:
    """The number of rows of an output; 0 for a scalar."""
    if isinstance(output, Ragged):
        return len(output)
    return len(output) if output.ndim else 0


def take_rows(outputs: Mapping[str, Output], rows: Rows) -> dict[str, Any]:
    """Some rows, ascending and without gaps, of each output."""
    window = slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)
    return {name: value[window] for name, value in outputs.items()}


_BLACK_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
"""A grey PNG image of one black pixel."""


def _neutral(binding: Binding, size: int) -> Array:
    if binding.dtype == "string":
        return np.full(size, _BLACK_PIXEL if binding.pixels is not None else b"", object)
    return np.zeros((size, *(1 if each is None else each for each in binding.shape or ())), binding.dtype)


def _failure(stage: str, error: Exception, attempts: int) -> Failure:
    return Failure(stage, reason(error), "".join(traceback.format_exception(error)), attempts)
