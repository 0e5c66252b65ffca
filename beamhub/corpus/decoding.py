"""Serialized `tf.Example`s to Arrow columns, in batches, with the bad ones told apart."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beamhub.corpus.coders import example_coder
from beamhub.corpus.columns import invalid_text, is_list, is_text, without_columns
from beamhub.corpus.framing import Frames
from beamhub.corpus.parsing import Parser
from beamhub.corpus.shards import Chunk, Unread
from beamhub.errors import CorpusError

KINDS = {"BYTES": pa.large_binary(), "INT": pa.int64(), "FLOAT": pa.float32()}
"""The three kinds of feature, by their names in a TFMD schema, as the decoder gives them."""


_MOST_REFUSED = 8
"""Where the parser has refused so many batches of a shard, it would most likely only cost time."""


class ExampleDecoder:
    """Decodes records to the columns of a schema: int64, float32, string, binary (large ones too), lists of
    them.

    A feature that is absent, or a scalar's that is empty, is null. A record is bad, and becomes an `Unread`,
    when it is no `tf.Example`, or a feature is of another kind, has several values where the column holds
    one, or is not UTF-8 where the column is a string. Not thread-safe, as `tfx_bsl`'s decoder beneath is not:
    make one for each thread.
    """

    def __init__(self, schema: pa.Schema, tensors: Collection[str] = ()) -> None:
        """`tensors` are columns for which `Chunk.tensors` will do.

        Raises CorpusError for a column of a type that `tf.Example` cannot hold.
        """
        self._schema = schema.remove_metadata()
        self._parser = Parser.of(self._schema, tensors)
        self._refused = 0
        self._declared = _declare(schema)
        self._decoder = _decoder(self._declared)

    def decode(self, frames: Frames) -> Chunk:
        """The chunk of these records; their addresses are the offsets of their frames."""
        records: Sequence[bytes] = frames.records
        if self._parser and self._refused < _MOST_REFUSED:
            parsed = self._parser.parse(frames.records)
            if parsed:
                batch, tensors = parsed
                return Chunk(batch, frames.offsets, records, tensors=tensors)
            self._refused += 1
        if not self._schema.names:
            return Chunk(without_columns(len(records)), frames.offsets, records)
        bad: dict[int, str] = {}
        parsed = self._parse(frames.records, 0, bad)
        kept = np.delete(np.arange(len(records)), list(bad))
        unfit = self._unfit(parsed)
        if unfit:
            bad |= {int(kept[row]): reason for row, reason in unfit.items()}
            fit = np.delete(np.arange(len(kept)), list(unfit))
            parsed, kept = parsed.take(pa.array(fit)), kept[fit]
        if bad:
            records = [records[row] for row in kept.tolist()]
        columns = [_fit(parsed.column(n), field.type) for n, field in enumerate(self._schema)]
        unread = tuple(Unread(int(frames.offsets[n]), bad[n], frames.records[n]) for n in sorted(bad))
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        return Chunk(batch, frames.offsets[kept], records, unread)

    def _parse(self, records: list[bytes], first: int, bad: dict[int, str]) -> pa.RecordBatch:
        try:
            return self._decoder.DecodeBatch(records)
        except RuntimeError as error:
            # A decoder that has failed keeps half a row, and would put it into its next batch.
            self._decoder = _decoder(self._declared)
            if len(records) == 1:
                # The parser does not look at other features; nor must it matter whose batch a record is in.
                reduced = self._parser.reduced(records[0]) if self._parser else []
                if not reduced:
                    bad[first] = _reason(error)
                return self._decoder.DecodeBatch(reduced)
        half = len(records) // 2
        left = self._parse(records[:half], first, bad)
        return pa.concat_batches([left, self._parse(records[half:], first + half, bad)])

    def _unfit(self, parsed: pa.RecordBatch) -> dict[int, str]:
        unfit: dict[int, str] = {}
        for field, column in zip(self._schema, parsed.columns, strict=True):
            values = field.type.value_type if is_list(field.type) else field.type
            if is_text(values):
                for row in invalid_text(column.view(pa.large_list(pa.large_string()))):
                    unfit[row] = f"feature {field.name!r} is not UTF-8 text"
            if not is_list(field.type):
                counts = _counts(column)
                for row in np.flatnonzero(counts > 1).tolist():
                    unfit[row] = f"feature {field.name!r} has {counts[row]} values, wanted one"
        return unfit


class ExampleDecoders:
    """One `ExampleDecoder` for each thread that decodes."""

    def __init__(self, schema: pa.Schema, tensors: Collection[str] = ()) -> None:
        """As `ExampleDecoder`'s."""
        self._schema = schema
        self._tensors = tensors
        self._own = threading.local()
        self._own.decoder = ExampleDecoder(schema, tensors)

    def decode(self, frames: Frames) -> Chunk:
        """As `ExampleDecoder.decode`, from any thread."""
        decoder = getattr(self._own, "decoder", None)
        if decoder is None:
            decoder = self._own.decoder = ExampleDecoder(self._schema, self._tensors)
        return decoder.decode(frames)


def _declare(schema: pa.Schema) -> bytes:
    from tensorflow_metadata.proto.v0 import schema_pb2

    declared = schema_pb2.Schema()
    for field in schema:
        values = field.type.value_type if is_list(field.type) else field.type
        kind = _kind(values)
        if kind is None or pa.types.is_fixed_size_list(field.type):
            raise CorpusError(
                f"column {field.name!r} cannot be read as {field.type} from TFRecord; "
                "tf.Example has int64, float32, string and binary, and lists of them"
            )
        declared.feature.add(name=field.name, type=schema_pb2.FeatureType.Value(kind))
    return bytes(declared.SerializeToString())


def _kind(type: pa.DataType) -> str | None:
    for kind, decoded in KINDS.items():
        if type.equals(decoded):
            return kind
    texts = (pa.string(), pa.large_string(), pa.binary())
    return "BYTES" if type in texts else None


def _decoder(declared: bytes) -> Any:
    return example_coder().ExamplesToRecordBatchDecoder(declared)


def _reason(error: RuntimeError) -> str:
    # "DATA_LOSS: Unable to parse example." -> "Unable to parse example"
    first, *_ = str(error).partition(": ")[2].splitlines() or [""]
    return first.rstrip(".") or "no tf.Example"


def _counts(column: pa.Array) -> npt.NDArray[np.int64]:
    counts: npt.NDArray[np.int64] = np.diff(column.offsets.to_numpy())
    return counts


def _fit(column: pa.Array, type: pa.DataType) -> pa.Array:
    """A decoded column, large_list of rows, as its type: a list, or at most one value for each row."""
    if is_list(type):
        return column.cast(type)
    counts = _counts(column)
    values = column.flatten().cast(type)
    if np.all(counts == 1):
        return values
    return values.take(pa.array(column.offsets.to_numpy()[:-1], mask=counts == 0))
