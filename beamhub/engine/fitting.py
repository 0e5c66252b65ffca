"""Fits a call to a module and a corpus: tries the module on the first records, and decides how many records a call has."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from beamhub.corpus.formats import reader_for
from beamhub.corpus.listing import Corpus
from beamhub.corpus.shards import Chunk
from beamhub.engine.calibration import Calibration
from beamhub.engine.caller import Caller, Failure, Gathered, Rows
from beamhub.engine.pool import bind_caller
from beamhub.engine.short_calls import most_in_short_call
from beamhub.engine.sizing import (
    LARGE_RECORD,
    LARGEST_BATCH,
    MOST_PINNED_BYTES,
    SMALLEST_BATCH,
    Load,
    power_of_two,
    result_bytes,
    rows_together,
)
from beamhub.engine.tablespec import Call
from beamhub.engine.threads import cores
from beamhub.engine.trial import Trial
from beamhub.errors import CorpusError, ModuleError, UsageError
from beamhub.spec import RECORD, Job
from beamhub.tasks import Task
from beamhub.tasks.base import OutputShape

AHEAD_BYTES = 8 << 20
"""A smaller corpus may be too little work for frozen variables to be tried at all."""
FIRST_SHARDS = 100
"""Of which the largest tells how many records a byte has."""


@dataclass(frozen=True)
class _Tried:
    """What the outputs look like, the bytes that a record feeds, the records tried (None: there are none), and the rows of
    those that went."""

    shapes: dict[str, OutputShape]
    fed: int
    sample: Chunk | None
    rows: Rows


@dataclass(frozen=True)
class Fitting:
    """`samples` gives the first records that can be read, a few at a time; with serialized ones where it is asked for them."""

    job: Job
    module: Any
    task: Task
    corpus: Corpus
    samples: Callable[[bool], Iterator[Chunk]]

    def fit(self, call: Call) -> tuple[Call, dict[str, OutputShape]]:
        """The call with its size and kind of variables, and its outputs; the one given has few records.

        Raises:
            ModuleError, CorpusError: the module takes none of the first records, or its variables cannot be frozen as was asked.
        """
        with self._other_core() as ahead:
            if ahead is not None:
                # It is kept, and what it raises is raised again where it is asked for.
                ahead.submit(self.module.can_freeze, call.signature)
            call, tried, load = self._tried(call, ahead)
        if load is None:
            return self._measured(call, tried, (call.batch_size,)), tried.shapes
        return self._measured(call, tried, load.worth_measuring, load.most), tried.shapes

    @contextlib.contextmanager
    def _other_core(self) -> Iterator[ThreadPoolExecutor | None]:
        """Another core, to make the constants that will be tried, and the graph with them, while the module is tried with its
        variables: MobileNetV2 takes a second for each. In the end it has done so. None where that is not worth it."""
        if self.job.variables is None and cores() > 1 and self.corpus.shards.bytes >= AHEAD_BYTES:
            with ThreadPoolExecutor(1) as ahead:
                yield ahead
        else:
            yield None

    def _tried(self, call: Call, ahead: ThreadPoolExecutor | None) -> tuple[Call, _Tried, Load | None]:
        """The call with a size, and what decided it, where nobody had."""
        if call.fixed == 1:
            call = replace(call, stacked=self._is_stacked(call))
        load, tried = self._load(call)
        # Where one is called at a time, none wait for others of their length.
        is_open = call.is_open and call.sizes[0] > 1
        call = replace(call, together=rows_together(load.fed, load.result, is_open))
        if call.fixed is not None and tried is not None:
            return call, tried, None
        if self.job.batch_size is not None:
            self._check_pinned(self.job.batch_size, load)
            call = call.of_size(self.job.batch_size)
            return call, self._try(call), None
        largest = replace(load, most=LARGEST_BATCH * LARGEST_BATCH).default
        few = min(size for size in call.of_size(largest).sizes if size >= min(SMALLEST_BATCH, largest))
        if SMALLEST_BATCH < largest < 4 * SMALLEST_BATCH:
            # Of such records a call may have so few, and it is hardly worth another graph, and its time, to know what twice as
            # many would take.
            few = largest = SMALLEST_BATCH
        tried = self._try(call.of_size(few))
        if tried.sample is not None:

            def call_ahead(size: int) -> None:
                if ahead is not None:
                    ahead.submit(self._call_frozen, call.of_size(size), tried)

            if few == SMALLEST_BATCH:
                call_ahead(few)
            last = min(largest, power_of_two(self._about_records(tried.sample)))
            most = most_in_short_call(
                lambda size: self._bound(call.of_size(size)),
                few,
                last,
                tried.sample,
                tried.rows,
                # With more it would be the same.
                lambda most: replace(load, most=most).default >= largest,
                call_ahead,
            )
            load = replace(load, most=most)
        return call.of_size(load.default), tried, load

    def _check_pinned(self, size: int, load: Load) -> None:
        most = max(SMALLEST_BATCH, power_of_two(MOST_PINNED_BYTES // load.held))
        if size > most:
            raise UsageError(
                f"--batch-size {size}: a call would hold {size * load.held / 1e9:.1f} GB of input and outputs, for a record has "
                f"{load.held:,} bytes, and each thread makes one; give {most} at most, or leave it out"
            )

    def _load(self, call: Call) -> tuple[Load, _Tried | None]:
        """What TensorFlow knows of a record's outputs without a run, or what comes of the first ones."""
        trial = Trial(self._bound(call))
        sample = next(self.samples(_feeds_records(call)), None)
        read = 0 if sample is None else _read_bytes(sample)
        load = Load(trial.fed_bytes(sample), 0, read)
        del sample
        known = trial.known_result_bytes() if call.fixed is None else None
        if known is not None:
            return replace(load, result=known), None
        tried = self._try(call if call.fixed is not None else call.of_size(load.fewest))
        return Load(tried.fed, result_bytes(tried.shapes), read), tried

    def _measured(self, call: Call, tried: _Tried, sizes: tuple[int, ...], rate: int | None = None) -> Call:
        """The call with the fastest of some batch sizes and kind of variables, or those that were asked for.

        `rate` is how many records a second one thread does with the first of the sizes, where that is known.
        """
        if self.job.variables == "frozen" and not self.module.can_freeze(call.signature):
            raise ModuleError(
                f"--variables frozen: {call.handle}, signature {call.signature}, has none that can be made constants: "
                "tables, sparse outputs and assignments stay as they are; leave the flag out"
            )
        chosen = self._fastest(replace(call, frozen=self.job.variables == "frozen"), tried, sizes, rate)
        if not chosen.frozen:
            self.module.forget_frozen(chosen.signature)
        # What was bound last is held.
        bound = self._bound(chosen).bound
        if chosen.fixed is None:
            bound.keep({*chosen.sizes, *chosen.probes})
        return chosen

    def _fastest(self, call: Call, tried: _Tried, sizes: tuple[int, ...], rate: int | None) -> Call:
        """What is measured to be fastest, where anything is to be measured."""
        if tried.sample is None or tried.fed > LARGE_RECORD:
            return call
        if len(sizes) == 1 and self.job.variables is not None:
            return call.of_size(sizes[0])
        records = self._about_records(tried.sample)
        can_freeze = self._can_freeze
        return Calibration(call, tried.sample, tried.rows, records, sizes, self._bound, can_freeze, rate).choose()

    def _call_frozen(self, call: Call, tried: _Tried) -> None:
        """Makes the first call with constants, which traces and optimizes the graph; it is kept."""
        if self._can_freeze(call) and tried.sample is not None:
            caller = self._bound(replace(call, frozen=True))
            caller.attempt(Gathered(caller.call, tried.sample).feeds, tried.rows[: call.batch_size], call.batch_size)

    def _can_freeze(self, call: Call) -> bool:
        return self.job.variables is None and bool(self.module.can_freeze(call.signature))

    def _bound(self, call: Call) -> Caller:
        return bind_caller(self.module, call, self.task)

    def _about_records(self, sample: Chunk) -> int:
        """Records in the corpus, by what a file tells, or by the size of the first ones: then compression, and columns that are
        not read, are left out."""
        return int(self.corpus.shards.bytes * (self._density or 1 / max(1, _read_bytes(sample))))

    @functools.cached_property
    def _density(self) -> float:
        # Of files with next to no records most is a footer.
        first = (self.corpus.shards[n] for n in range(min(len(self.corpus.shards), FIRST_SHARDS)))
        try:
            return reader_for(self.corpus.format).density(max(first, key=lambda shard: shard.size))
        except (CorpusError, OSError):
            # A damaged file fails its own shard, and no other.
            return 0.0

    def _try(self, call: Call) -> _Tried:
        """What comes of the first records that the module takes."""
        trial = Trial(self._bound(call))
        failures: dict[int, Failure] = {}
        empty = True
        for sample in self.samples(_feeds_records(call)):
            empty = False
            outputs, rows, failures = trial.first(sample)
            if outputs is not None:
                return _Tried(trial.output_shapes(outputs), trial.fed_bytes(sample), sample, rows)
        outputs = trial.empty() if empty else None
        if outputs is not None:
            return _Tried(trial.output_shapes(outputs), trial.fed_bytes(None), None, np.empty(0, np.int64))
        failure = failures[min(failures)] if failures else Failure("read", "there is none")
        raise (ModuleError if failure.stage == "infer" else CorpusError)(
            f"none of the first records of {self.corpus.pattern} can be fed to {call.handle}, signature "
            f"{call.signature}: {failure.reason}"
        )

    def _is_stacked(self, call: Call) -> bool:
        """Whether outputs of a call with one record have a batch dimension: a record with none or several objects tells."""
        trial = Trial(self._bound(call))
        samples = self.samples(_feeds_records(call))
        return not any(trial.lacks_batch(sample) for sample in itertools.islice(samples, 1))


def _read_bytes(sample: Chunk) -> int:
    """Bytes of a record, of the columns that are read or of all in a TFRecord, decoded."""
    read = sample.columns.nbytes if sample.records is None else sum(map(len, sample.records))
    return int(read // max(1, sample.rows))


def _feeds_records(call: Call) -> bool:
    return any(each.column == RECORD for each in call.bindings)
