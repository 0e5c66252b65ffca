"""One call of a module with some records of a batch: gather, fill up, call, and tell a refusal from a breakdown."""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beamhub.corpus.shards import Chunk
from beamhub.engine.tablespec import Call
from beamhub.errors import BeamhubError, ModuleError
from beamhub.modules.ragged import Output, Ragged
from beamhub.modules.reason import reason
from beamhub.spec import RECORD
from beamhub.tasks.base import Outputs
from beamhub.tasks.binding import Binding
from beamhub.tasks.gather import Array, Feed, StringsFeed, gather

if TYPE_CHECKING:
    from beamhub.modules.loaded import BoundSignature

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a record cannot be done: the stage, the reason, the traceback ("" where there is none), and calls made with it."""

    stage: str
    reason: str
    traceback: str = ""
    attempts: int = 0

    @classmethod
    def of(cls, stage: str, error: Exception, attempts: int) -> Self:
        """The failure that an exception is."""
        return cls(stage, reason(error), "".join(traceback.format_exception(error)), attempts)


class Gathered:
    """The feeds of a batch. `failures` are of the records that cannot be fed."""

    def __init__(self, call: Call, batch: Chunk) -> None:
        self.feeds = [_feed(each, batch) for each in call.bindings]
        self.failures: dict[int, Failure] = {}
        for feed in self.feeds:
            for row, problem in feed.problems.items():
                self.failures.setdefault(row, Failure("check", f"column {feed.binding.column} {problem}"))
        self._count = batch.rows

    def groups(self) -> list[Rows]:
        """The good records, ascending, in groups whose tensors can be stacked, in the order of their first record."""
        good = np.arange(self._count)
        if self.failures:
            good = np.setdiff1d(good, np.fromiter(self.failures, np.int64, len(self.failures)))
        varying = [feed.lengths[good] for feed in self.feeds if not feed.uniform]
        if not varying or not len(good):
            return [good] if len(good) else []
        _, first, group, sizes = np.unique(
            np.stack(varying), axis=1, return_index=True, return_inverse=True, return_counts=True
        )
        groups = np.split(good[np.argsort(group.ravel(), kind="stable")], np.cumsum(sizes)[:-1])
        return [groups[each] for each in np.argsort(first)]

    @functools.cached_property
    def text_bytes(self) -> int:
        """Bytes of all strings that are fed."""
        return sum(feed.text_bytes for feed in self.feeds)

    def length(self, group: Rows) -> int:
        """Values in each record of a group."""
        return sum(int(feed.lengths[group[0]]) for feed in self.feeds)


@dataclass(frozen=True)
class Caller:
    """A module, bound to a signature; may be used by several threads.

    `bound` maps fed arrays, by input name, to outputs by name, and computes in its `turn`. `refusals` are the exceptions by which
    it refuses records; a `breakdown` that is none of them is no record's fault.
    """

    bound: BoundSignature
    call: Call
    refusals: tuple[type[Exception], ...]
    breakdown: type[Exception]
    turn: AbstractContextManager[Any] = field(default_factory=contextlib.nullcontext)

    def attempt(self, feeds: list[Feed], rows: Rows, size: int) -> Outputs | Exception:
        """The outputs for some records, ascending and each once, or the exception by which the module refuses them.

        The call has `size` records: the given ones, over and over, for a record that is taken once is taken again.

        Raises:
            ModuleError: an output has another number of rows than the call.
            BeamhubError: the module broke down.
        """
        outputs = self.raw({feed.binding.input: feed.take(rows, size) for feed in feeds})
        return outputs if isinstance(outputs, Exception) else slice_rows(self.stack(outputs, size), 0, len(rows))

    def raw(self, fed: Mapping[str, Array]) -> Outputs | Exception:
        """The module's own outputs for arrays, or the exception by which it refuses them. Raises BeamhubError as `attempt`."""
        try:
            return self.bound(fed, self.turn)
        except self.refusals as error:
            return error
        except self.breakdown as error:
            raise BeamhubError(f"the module failed: {reason(error)}") from error

    def stack(self, outputs: Outputs, size: int) -> Outputs:
        """Gives outputs of a call with one record the batch dimension that they lack, and checks that of others."""
        if not self.call.stacked:
            return {name: v[np.newaxis] if isinstance(v, np.ndarray) else v for name, v in outputs.items()}
        for name, value in outputs.items():
            count = _rows_in(value)
            if count != size:
                raise ModuleError(
                    f"output {name} of signature {self.call.signature} has {count} rows for a call with {size} records: "
                    f"it is no output for each record; choose others"
                )
        return outputs


def _feed(binding: Binding, batch: Chunk) -> Feed:
    if binding.column in batch.tensors:
        return StringsFeed(binding, batch.tensors[binding.column])
    if binding.column == RECORD:
        return gather(binding, pa.array(batch.records, pa.large_binary()))
    return gather(binding, batch.columns.column(binding.column))


def _rows_in(output: Output) -> int:
    if isinstance(output, Ragged):
        return len(output)
    return len(output) if output.ndim else 0


def slice_rows(outputs: Mapping[str, Output], start: int, stop: int) -> Outputs:
    """The rows from `start` to before `stop` of each output."""
    return {name: value[start:stop] for name, value in outputs.items()}
