"""From what was asked for to a version's spec: reads the module's signatures and the first records, and tries the module."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from beamhub import storage
from beamhub.corpus.format import Wanted
from beamhub.corpus.formats import infer_schema, reader_for
from beamhub.corpus.listing import Corpus
from beamhub.corpus.shards import Chunk
from beamhub.corpus.splitting import SPLIT_BYTES
from beamhub.engine.calibration import Calibration
from beamhub.engine.caller import Failure, Rows
from beamhub.engine.pool import acquire_module, bind_caller
from beamhub.engine.short_calls import ascending_calls, most_in_short_call
from beamhub.engine.sizing import LEAST_BATCH, SMALLEST_BATCH, Load, result_bytes, rows_together
from beamhub.engine.tablespec import Call, TableSpec
from beamhub.engine.threads import configure_tensorflow
from beamhub.engine.trial import Trial
from beamhub.errors import CorpusError, ModuleError, UsageError
from beamhub.modules.inspect import ModuleInfo
from beamhub.modules.signatures import Signature, choose_signature
from beamhub.spec import RECORD, Job, flag, nearest
from beamhub.tasks import Task, task_of
from beamhub.tasks.base import OutputShape
from beamhub.tasks.binding import BatchAxis, Binder, Binding
from beamhub.tasks.prepare import parse_constants

SAMPLE_ROWS = 64
SAMPLE_BYTES = 8 << 20
SAMPLE_CHUNKS = 16
"""The module is tried on the first chunk whose records it takes, of this many."""


@dataclass(frozen=True)
class _Tried:
    """What the outputs look like, the bytes that a record feeds, the records tried (None: there are none), and the rows of
    those that went."""

    shapes: dict[str, OutputShape]
    fed: int
    sample: Chunk | None
    rows: Rows


def settle(job: Job, request: dict[str, Any], info: ModuleInfo, corpus: Corpus) -> TableSpec:
    """Decides everything that decides the bytes of a version; `request` is kept in it.

    Raises:
        UsageError, CorpusError, ModuleError: the job, the corpus and the module do not go together.
    """
    return _Settling(job, request, info, corpus).spec()


@dataclass
class _Settling:
    job: Job
    request: dict[str, Any]
    info: ModuleInfo
    corpus: Corpus

    def spec(self) -> TableSpec:
        variant = self.info.variant(self.job.tags)
        name = self.info.signature(self.job.signature, self.job.tags).name
        configure_tensorflow()
        module = acquire_module(self.info.handle, self.info.digest, variant.tags)
        # A loaded graph may know shapes that its files leave open.
        signature = choose_signature(module.variant, name, self.info.handle)
        task = task_of(self.job, signature)
        schema = self._schema()
        bindings, axis = self._bind(signature, schema)
        columns = [self.job.key or "", *self.job.keep, *(each.column for each in bindings)]
        read = pa.schema([schema.field(name) for name in dict.fromkeys(columns) if name not in ("", RECORD)])
        call = self._call(signature, variant.tags, bindings, axis)
        call, shapes = self._size(module, call, task, read)
        settled = task.settle(shapes)
        self._check_columns(settled)
        return TableSpec(
            self.request,
            call,
            settled,
            self.job.key,
            self.job.keep,
            self.job.output_format,
            self.corpus.format,
            self.corpus.root,
            read,
            SPLIT_BYTES if self.job.split_bytes is None else self.job.split_bytes,
        )

    def _schema(self) -> pa.Schema:
        declared = None if self.job.schema is None else storage.read_bytes(self.job.schema)
        schema = infer_schema(self.corpus, declared)
        for name, column in [("--key", self.job.key), *(("--keep", each) for each in self.job.keep)]:
            if column is not None and column not in schema.names:
                raise CorpusError(
                    f"{name} {column}: no such column in {self.corpus.pattern}{nearest(column, schema.names)}; "
                    f"its columns are {', '.join(schema.names) or 'none'}"
                )
        key = None if self.job.key is None else schema.field(self.job.key).type
        if key is not None and pa.types.is_nested(key):
            raise CorpusError(
                f"--key {self.job.key} is {key}: a key is a number, a text or a time; name another column"
            )
        return schema

    def _bind(self, signature: Signature, schema: pa.Schema) -> tuple[tuple[Binding, ...], BatchAxis]:
        one_integer = self.corpus.format == "tfrecord"
        named = [name for name in self.job.pairs("input").values() if name in schema.names]
        candidates = pa.schema([schema.field(name) for name in named]) if named else schema
        sample = next(self._samples(candidates, records=False), None)
        columns = pa.RecordBatch.from_pylist([], schema) if sample is None else sample.columns
        bindings, axis = Binder(self.job, signature, schema, columns, one_integer).bind()
        if any(each.column == RECORD for each in bindings) and self.corpus.format != "tfrecord":
            raise CorpusError(f"{RECORD} is a serialized record of a TFRecord corpus; {self.corpus.pattern} is Parquet")
        if not any(each.pixels is not None for each in bindings):
            fed = ", ".join(f"{each.input} <- {each.column} ({each.dtype})" for each in bindings)
            for name in ("image_range", "image_size", "image_shape"):
                if getattr(self.job, name) is not None:
                    raise UsageError(f"{flag(name)}: no input is fed with images ({fed}); leave the flag out")
        return bindings, axis

    def _samples(self, schema: pa.Schema, records: bool) -> Iterator[Chunk]:
        reader = reader_for(self.corpus.format)
        chunks = itertools.chain.from_iterable(
            reader.read(shard, schema, Wanted(SAMPLE_ROWS, SAMPLE_BYTES, records=records))
            for shard in self.corpus.shards
        )
        yield from itertools.islice((each for each in chunks if each.rows), SAMPLE_CHUNKS)

    def _call(
        self, signature: Signature, tags: tuple[str, ...], bindings: tuple[Binding, ...], axis: BatchAxis
    ) -> Call:
        if axis.fixed is not None and self.job.batch_size not in (None, axis.fixed):
            raise UsageError(
                f"--batch-size {self.job.batch_size}: the signature takes {axis.fixed or 1} at a time; leave it out"
            )
        return Call(
            handle=self.info.handle,
            digest=self.info.digest,
            tags=tags,
            signature=signature.name,
            bindings=bindings,
            constants=parse_constants(self.job.pairs("constant"), signature),
            fixed=axis.fixed,
            batch_size=SMALLEST_BATCH if axis.fixed is None else axis.fixed or 1,
            stacked=axis.fixed != 0,
            precision=self.job.precision,
        )

    def _size(self, module: Any, call: Call, task: Task, read: pa.Schema) -> tuple[Call, dict[str, OutputShape]]:
        """Tries the module on the first records.

        What comes out tells how many a call can have; where TensorFlow does not know that before, few are tried at first.
        """
        trial = Trial(bind_caller(module, call, task))
        if call.fixed == 1:
            call = replace(call, stacked=self._is_stacked(trial, call, read))
            trial = Trial(bind_caller(module, call, task))
        known = trial.known_result_bytes() if call.fixed is None else None
        sample = next(self._samples(read, _feeds_records(call)), None)
        if known is None:
            tried = self._try(trial, call, read)
            load = Load(tried.fed, result_bytes(tried.shapes), _read_bytes(sample))
        else:
            load = Load(trial.fed_bytes(sample), known, _read_bytes(sample))
        # Where one is called at a time, none wait for others of their length.
        is_open = call.is_open and call.sizes[0] > 1
        call = replace(call, together=rows_together(load.fed, load.result, is_open))
        sizes: tuple[int, ...] = (call.batch_size,)
        if call.fixed is None:
            sizes = (self.job.batch_size,) if self.job.batch_size else self._sizes(module, call, task, read, load)
            call = replace(call, batch_size=sizes[0])
            # Again, as the job will: some sizes are known only now.
            tried = self._try(Trial(bind_caller(module, call, task)), call, read)
        return self._measure(module, call, task, tried, sizes), tried.shapes

    def _sizes(self, module: Any, call: Call, task: Task, read: pa.Schema, load: Load) -> tuple[int, ...]:
        """The default batch size, and others that are worth measuring."""
        if load.default > LEAST_BATCH:
            ascending = ascending_calls(replace(call, batch_size=load.default))
            tried = self._try(Trial(bind_caller(module, ascending[0], task)), ascending[0], read)
            if tried.sample is not None:
                callers = [bind_caller(module, each, task) for each in ascending]
                load = replace(load, most=most_in_short_call(callers, tried.sample, tried.rows))
        return load.worth_measuring

    def _measure(self, module: Any, call: Call, task: Task, tried: _Tried, sizes: tuple[int, ...]) -> Call:
        """The call with the fastest batch size and kind of variables, or those that were asked for."""
        if self.job.variables == "frozen" and not module.can_freeze(call.signature):
            raise ModuleError(
                f"--variables frozen: {call.handle}, signature {call.signature}, has none that can be made constants: "
                "tables, sparse outputs and assignments stay as they are; leave the flag out"
            )
        call = replace(call, frozen=self.job.variables == "frozen")
        if tried.sample is None:
            return call

        def can_freeze() -> bool:
            return self.job.variables is None and bool(module.can_freeze(call.signature))

        chosen = Calibration(
            call,
            tried.sample,
            self._about_records(tried.sample),
            sizes,
            lambda c: bind_caller(module, c, task),
            can_freeze,
        ).choose()
        if not chosen.frozen:
            module.forget_frozen(chosen.signature)
        if chosen.fixed is None:
            bind_caller(module, chosen, task).bound.keep({*chosen.sizes, *chosen.probes})
        return chosen

    def _about_records(self, sample: Chunk) -> int:
        """Records in the corpus, by the size of the first ones; compression and columns that are not read are left out."""
        return self.corpus.shards.bytes // max(1, _read_bytes(sample))

    def _try(self, trial: Trial, call: Call, read: pa.Schema) -> _Tried:
        """What comes of the first records that the module takes."""
        failures: dict[int, Failure] = {}
        empty = True
        for sample in self._samples(read, _feeds_records(call)):
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

    def _is_stacked(self, trial: Trial, call: Call, read: pa.Schema) -> bool:
        """Whether outputs of a call with one record have a batch dimension: a record with none or several objects tells."""
        samples = self._samples(read, _feeds_records(call))
        return not any(trial.lacks_batch(sample) for sample in itertools.islice(samples, 1))

    def _check_columns(self, task: Task) -> None:
        # Readers that look at folders (DuckDB) make columns of them; the version's own is v=VERSION.
        partitions = self.corpus.shards.partitions()
        folders = {"v", *(part.partition("=")[0] for each in partitions for part in each.split("/") if part)}
        for name in task.fields():
            if name == "key" or name in folders:
                raise UsageError(
                    f"output {name}: readers take a column of that name from the key or from folders {name}=...; leave it "
                    f"out of --outputs"
                )
        taken = [name for name in self.job.keep if name == "key" or name in task.fields()]
        if taken:
            raise UsageError(
                f"--keep {taken[0]}: the table has a column of that name from {task.kind}; rename it in the corpus"
            )
        if len(set(self.job.keep)) < len(self.job.keep):
            raise UsageError(f"--keep {','.join(self.job.keep)}: a column is named twice; name each once")
        both = [name for name in self.job.keep if name in folders]
        if both:
            raise UsageError(
                f"--keep {both[0]}: readers take a column of that name from the folders {both[0]}=...; rename it in the corpus"
            )


def _read_bytes(sample: Chunk | None) -> int:
    """Bytes of a record, of the columns that are read or of all in a TFRecord, decoded; 0 where there is none."""
    if sample is None:
        return 0
    read = sample.columns.nbytes if sample.records is None else sum(map(len, sample.records))
    return int(read // max(1, sample.rows))


def _feeds_records(call: Call) -> bool:
    return any(each.column == RECORD for each in call.bindings)
