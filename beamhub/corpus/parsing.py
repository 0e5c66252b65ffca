"""Serialized `tf.Example`s to tensors by TensorFlow's own parser: fewer copies than by way of Arrow, for flawless batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beamhub.corpus.columns import is_text, without_columns
from beamhub.corpus.examples import to_examples


class Strings:
    """Byte strings as a string tensor [rows], and as an array of `bytes` where someone wants that."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __len__(self) -> int:
        return int(self.tensor.shape[0])

    @functools.cached_property
    def array(self) -> npt.NDArray[np.object_]:
        """As objects, made when they are first asked for."""
        array: npt.NDArray[np.object_] = self.tensor.numpy()
        return array

    @functools.cached_property
    def nbytes(self) -> int:
        """Bytes of all."""
        import tensorflow as tf

        return int(tf.strings.length(self.tensor).numpy().sum(dtype=np.int64))

    def take(self, rows: npt.NDArray[np.int64]) -> Any:
        """A tensor of some of them. Never by way of objects, which would be a copy more."""
        import tensorflow as tf

        return tf.gather(self.tensor, rows)


class Parser:
    """Parses batches in which every record has exactly one value, of the right kind, for every column of a schema.

    It is no judge of others: what it refuses, `decoding.ExampleDecoder` tells the reasons of. What it takes has the values
    that the decoder gives. It also takes records whose other features are damaged, for it does not look at them.
    """

    @classmethod
    def of(cls, schema: pa.Schema, tensors: Collection[str]) -> Parser | None:
        """The parser of a schema, with the columns that are wanted as tensors; None where it would be of no use."""
        kinds = {field.name: _kind(field.type) for field in schema}
        return cls(schema, frozenset(tensors)) if tensors and all(kinds.values()) else None

    def __init__(self, schema: pa.Schema, tensors: frozenset[str]) -> None:
        self._schema = pa.schema([field for field in schema if field.name not in tensors])
        self._tensors = tensors
        self._texts = [field.name for field in schema if field.name in tensors and is_text(field.type)]
        self._parse = _parse(tuple((field.name, _kind(field.type)) for field in schema))

    def parse(self, records: list[bytes]) -> tuple[pa.RecordBatch, dict[str, Strings]] | None:
        """The columns, [records] each, those wanted as tensors apart. None: it refuses the batch."""
        import tensorflow as tf

        try:
            # Where a message quotes bytes that are no text, TensorFlow's Python layer fails to decode it.
            parsed = self._parse(tf.constant(records, tf.string, (len(records),)))
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
            return None
        if not all(_is_text(parsed[name]) for name in self._texts):
            return None
        try:
            columns = [_column(parsed[field.name].numpy(), field.type) for field in self._schema]
        except pa.ArrowInvalid:
            return None
        rows = without_columns(len(records))
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema) if columns else rows
        return batch, {name: Strings(parsed[name]) for name in self._tensors}

    def reduced(self, record: bytes) -> list[bytes]:
        """One record with the columns alone; none where it is refused."""
        parsed = self.parse([record])
        if parsed is None:
            return []
        batch, tensors = parsed
        for name, strings in tensors.items():
            batch = batch.append_column(name, pa.array(strings.array, pa.large_binary()))
        return list(to_examples(batch))


def _kind(type: pa.DataType) -> str:
    """TensorFlow's dtype for a column of single values; "" for others."""
    if type in (pa.int64(), pa.float32()):
        return "int64" if type == pa.int64() else "float32"
    return "string" if is_text(type) or type in (pa.binary(), pa.large_binary()) else ""


@functools.lru_cache(maxsize=64)
def _parse(kinds: tuple[tuple[str, str], ...]) -> Callable[[Any], dict[str, Any]]:
    """Of serialized records, [n] strings, the columns by name, [n] each.

    One operation, called as it is: a traced function would hand it to other threads, and take longer by itself than for this.
    """
    import tensorflow as tf

    names = [name for name, _ in kinds]
    dense_keys = tf.constant(names, tf.string)
    none = tf.constant([], tf.string)
    defaults = [tf.constant([], kind) for _, kind in kinds]

    def parse(records: Any) -> dict[str, Any]:
        found = tf.raw_ops.ParseExampleV2(
            serialized=records,
            names=none,
            sparse_keys=none,
            dense_keys=dense_keys,
            ragged_keys=none,
            dense_defaults=defaults,
            num_sparse=0,
            sparse_types=[],
            ragged_value_types=[],
            ragged_split_types=[],
            dense_shapes=[()] * len(names),
        )
        return dict(zip(names, found.dense_values, strict=True))

    return parse


def _is_text(strings: Any) -> bool:
    import tensorflow as tf

    # A character never spans two values: between them is a line feed, which ends what came before.
    joined = tf.raw_ops.ReduceJoin(inputs=strings, reduction_indices=0, separator="\n").numpy()
    if joined.isascii():
        return True
    try:
        joined.decode()
    except UnicodeDecodeError:
        return False
    return True


def _column(values: npt.NDArray[Any], type: pa.DataType) -> pa.Array:
    if values.dtype != object:
        return pa.array(values, type)
    # The cast checks that text is UTF-8.
    return pa.array(values, pa.large_binary()).cast(type)
