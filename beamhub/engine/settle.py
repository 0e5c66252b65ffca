"""From what was asked for to a version's spec: reads the module's signatures and the first records, and tries the module."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from beamhub import storage
from beamhub.corpus.format import Wanted
from beamhub.corpus.formats import infer_schema, reader_for
from beamhub.corpus.listing import Corpus
from beamhub.corpus.sampling import sampled
from beamhub.corpus.shards import Chunk
from beamhub.corpus.splitting import SPLIT_BYTES
from beamhub.engine.fitting import Fitting
from beamhub.engine.pool import acquire_module
from beamhub.engine.sizing import SMALLEST_BATCH
from beamhub.engine.tablespec import Call, TableSpec
from beamhub.engine.threads import configure_tensorflow, cores
from beamhub.errors import CorpusError, UsageError
from beamhub.modules.inspect import ModuleInfo
from beamhub.modules.signatures import Signature, choose_signature
from beamhub.spec import RECORD, Job, flag, nearest
from beamhub.tasks import Task, task_of
from beamhub.tasks.binding import BatchAxis, Binder, Binding
from beamhub.tasks.prepare import parse_constants

SAMPLE_ROWS = 64
SAMPLE_BYTES = 8 << 20
SAMPLE_CHUNKS = 16
"""The module is tried on the first chunk whose records it takes, of this many."""


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
        configure_tensorflow(cores())
        module = acquire_module(self.info.handle, self.info.digest, variant.tags)
        # A loaded graph may know shapes that its files leave open.
        signature = choose_signature(module.variant, name, self.info.handle)
        task = task_of(self.job, signature)
        schema = self._schema()
        bindings, axis = self._bind(signature, schema)
        columns = [self.job.key or "", *self.job.keep, *(each.column for each in bindings)]
        read = pa.schema([schema.field(name) for name in dict.fromkeys(columns) if name not in ("", RECORD)])
        call = self._call(signature, variant.tags, bindings, axis)
        fitting = Fitting(self.job, module, task, self.corpus, lambda records: self._samples(read, records))
        call, shapes = fitting.fit(call)
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
        wanted = Wanted(SAMPLE_ROWS, SAMPLE_BYTES, records=records)
        chunks = sampled(self.corpus.shards, lambda shard: reader.read(shard, schema, wanted))
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
