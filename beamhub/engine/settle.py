"""From what was asked for to a version's spec: reads the module's signatures and the first records, tries the module on them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from beamhub import storage
from beamhub.corpus.formats import infer_schema, reader_for
from beamhub.corpus.listing import Corpus
from beamhub.corpus.shards import Chunk
from beamhub.engine.inference import Failure, Inference
from beamhub.engine.pool import acquire_module, bind_inference
from beamhub.engine.tablespec import Call, TableSpec
from beamhub.engine.threads import configure_tensorflow
from beamhub.errors import CorpusError, ModuleError, UsageError
from beamhub.modules.inspect import ModuleInfo
from beamhub.modules.signatures import Signature, choose_signature
from beamhub.spec import RECORD, Job, nearest
from beamhub.tasks import Task, task_of
from beamhub.tasks.base import OutputShape
from beamhub.tasks.binding import BatchAxis, Binder, Binding

SAMPLE_ROWS = 64
SAMPLE_BYTES = 8 << 20
SAMPLE_CHUNKS = 16
"""The module is tried on the first chunk whose records it takes, of this many."""

BATCH_BYTES = 1 << 20
LARGEST_BATCH = 8192
SMALLEST_BATCH = 4


def settle(job: Job, info: ModuleInfo, corpus: Corpus) -> TableSpec:
    """Decides everything that decides the bytes of a version.

    Raises:
        UsageError, CorpusError, ModuleError: the job, the corpus and the module do not go together.
    """
    return _Settling(job, info, corpus).spec()


@dataclass
class _Settling:
    job: Job
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
        bindings = self._bind(signature, schema)
        wanted = dict.fromkeys([*([self.job.key] if self.job.key else []), *self.job.keep])
        names = dict.fromkeys([*wanted, *(each.column for each in bindings if each.column != RECORD)])
        read = pa.schema([schema.field(name) for name in names])
        fixed = BatchAxis.of(signature).fixed
        call = Call(
            self.info.handle,
            self.info.digest,
            variant.tags,
            signature.name,
            bindings,
            self.job.pairs("constant"),
            fixed,
            self._batch_size(fixed, bindings, read),
        )
        settled = task.settle(self._try(bind_inference(module, call, task), call, read))
        self._check_columns(settled)
        return TableSpec(
            self.job.request(),
            call,
            settled,
            self.job.key,
            self.job.keep,
            self.job.output_format,
            self.corpus.format,
            self.corpus.root,
            read,
        )

    def _schema(self) -> pa.Schema:
        declared = None
        if self.job.schema is not None:
            if self.corpus.format != "tfrecord":
                raise UsageError("--schema is for TFRecord; a Parquet corpus has its types in its files: leave it out")
            try:
                declared = storage.read_bytes(self.job.schema)
            except OSError as error:
                raise UsageError(f"--schema {self.job.schema} cannot be read: {error}") from error
        schema = infer_schema(self.corpus, declared)
        for name, column in [("--key", self.job.key), *(("--keep", each) for each in self.job.keep)]:
            if column is not None and column not in schema.names:
                raise CorpusError(
                    f"{name} {column}: no such column in {self.corpus.pattern}{nearest(column, schema.names)}; "
                    f"its columns are {', '.join(schema.names) or 'none'}"
                )
        return schema

    def _bind(self, signature: Signature, schema: pa.Schema) -> tuple[Binding, ...]:
        one_integer = self.corpus.format == "tfrecord"
        named = [name for name in self.job.pairs("input").values() if name in schema.names]
        candidates = pa.schema([schema.field(name) for name in named]) if named else schema
        sample = next(self._samples(candidates, records=False), None)
        columns = pa.RecordBatch.from_pylist([], schema) if sample is None else sample.columns
        bindings = Binder(self.job, signature, schema, columns, one_integer).bind()
        if any(each.column == RECORD for each in bindings) and self.corpus.format != "tfrecord":
            raise CorpusError(f"{RECORD} is a serialized record of a TFRecord corpus; {self.corpus.pattern} is Parquet")
        return bindings

    def _samples(self, schema: pa.Schema, records: bool) -> Iterator[Chunk]:
        reader = reader_for(self.corpus.format)
        chunks = itertools.chain.from_iterable(
            reader.read(shard, schema, records=records, rows=SAMPLE_ROWS, max_bytes=SAMPLE_BYTES)
            for shard in self.corpus.shards
        )
        yield from itertools.islice((each for each in chunks if each.rows), SAMPLE_CHUNKS)

    def _batch_size(self, fixed: int | None, bindings: tuple[Binding, ...], read: pa.Schema) -> int:
        if fixed is not None:
            if self.job.batch_size not in (None, fixed or 1):
                raise UsageError(
                    f"--batch-size {self.job.batch_size}: the signature takes {fixed or 1} at a time; leave it out"
                )
            return fixed or 1
        if self.job.batch_size is not None:
            return self.job.batch_size
        return default_batch_size(bindings)

    def _try(self, inference: Inference, call: Call, read: pa.Schema) -> dict[str, OutputShape]:
        """Runs the module on the first records that it takes, and tells what its outputs look like."""
        failures: dict[int, Failure] = {}
        empty = True
        for sample in self._samples(read, any(each.column == RECORD for each in call.bindings)):
            empty = False
            outputs, failures = inference.try_first(sample)
            if outputs is not None:
                return inference.output_shapes(outputs)
        outputs = inference.try_empty() if empty else None
        if outputs is not None:
            return inference.output_shapes(outputs)
        failure = failures[min(failures)] if failures else Failure("read", "there is none")
        raise (ModuleError if failure.stage == "infer" else CorpusError)(
            f"none of the first records of {self.corpus.pattern} can be fed to {call.handle}, signature {call.signature}: "
            f"{failure.reason}"
        )

    def _check_columns(self, task: Task) -> None:
        made = ["key", *task.fields()]
        taken = [name for name in self.job.keep if name in made]
        if taken:
            raise UsageError(
                f"--keep {taken[0]}: the table has a column of that name from {task.kind}; rename it in the corpus"
            )
        if len(set(self.job.keep)) < len(self.job.keep):
            raise UsageError(f"--keep {','.join(self.job.keep)}: a column is named twice; name each once")
        folders = {
            part.partition("=")[0] for shard in self.corpus.shards for part in shard.partition.split("/") if part
        }
        both = [name for name in self.job.keep if name in folders]
        if both:
            raise UsageError(
                f"--keep {both[0]}: the folders {both[0]}=... of the corpus give the table that column already"
            )


def default_batch_size(bindings: tuple[Binding, ...]) -> int:
    """Records in one call: a power of two with about 1 MiB of input tensors, from 4 to 8,192.

    Measured on two cores: larger batches of images fall out of the cache, smaller ones of texts pay for the call.
    """
    size = 0
    for binding in bindings:
        if binding.pixels is not None and binding.pixels.size is not None:
            size += 4 * binding.pixels.channels * int(np.prod(binding.pixels.size))
        elif binding.dtype == "string":
            size += 64
        else:
            known = [each for each in binding.shape or () if each is not None]
            size += np.dtype(binding.dtype).itemsize * int(np.prod(known))
    most = max(1, BATCH_BYTES // max(size, 1))
    return int(min(LARGEST_BATCH, max(SMALLEST_BATCH, 2 ** int(np.log2(most)))))
