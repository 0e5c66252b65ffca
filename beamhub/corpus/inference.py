"""The columns of a TFRecord corpus: by a sample of its records, or by a TFMD schema.

By the sample: a feature's kind gives int64, float32 or bytes; bytes are string when every sampled value is
UTF-8 without control characters other than white space, else binary. A feature with exactly one value in
every sampled record that has any is a scalar column, else a list. Where records disagree about the kind, most
of them decide.

By the schema (https://github.com/tensorflow/metadata, `schema.proto`): its features, in its order. `type`
gives the kind. BYTES with `domain`, `string_domain`, `natural_language_domain`, `url_domain`, `mid_domain` or
`time_domain` is string, with another domain (`image_domain` ...) binary, and with none the sample decides,
binary where it has no value. A `shape` of one value in all, or a `value_count` whose `max` is 1, makes a
scalar; anything else a list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from beamhub.corpus.coders import example_coder
from beamhub.corpus.columns import SAMPLED, invalid_text
from beamhub.corpus.decoding import KINDS
from beamhub.errors import CorpusError

_TEXT_DOMAINS = frozenset(
    {"domain", "string_domain", "natural_language_domain", "url_domain", "mid_domain", "time_domain"}
)
_CONTROL = r"[\x00-\x08\x0e-\x1f\x7f]"


def sampled_schema(records: list[bytes], declared: bytes | None) -> pa.Schema:
    """The columns, with the number of records looked at as metadata. `declared` is the text of a TFMD schema.

    Raises CorpusError when not one of the records is a `tf.Example`, or the text is no schema.
    """
    samples = _look_at(records)
    if declared is not None:
        return pa.schema([_declared_field(feature, samples) for feature in _parse(declared).feature])
    fields = [pa.field(name, sample.type) for name, sample in sorted(samples.items())]
    return pa.schema(fields, metadata={SAMPLED: str(len(records)).encode()})


@dataclass(slots=True)
class _Sample:
    """What the sampled records have under one name."""

    kinds: dict[pa.DataType, int] = field(default_factory=dict)
    longest: int = 0
    text: bool = True
    values: int = 0

    @property
    def type(self) -> pa.DataType:
        kind = max(self.kinds, key=self.kinds.__getitem__)
        return _column_type(kind, self.text, scalar=self.longest == 1)

    def add(self, column: pa.Array) -> None:
        kind = column.type.value_type
        values = column.flatten()
        self.kinds[kind] = self.kinds.get(kind, 0) + len(column) - column.null_count
        self.longest = max(self.longest, int(np.diff(column.offsets.to_numpy()).max(initial=0)))
        self.values += len(values)
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            self.text = self.text and _is_plain_text(values)


def _column_type(kind: pa.DataType, text: bool, scalar: bool) -> pa.DataType:
    if kind not in (pa.int64(), pa.float32()):
        kind = pa.string() if text else pa.binary()
    return kind if scalar else pa.list_(kind)


def _is_plain_text(values: pa.Array) -> bool:
    import pyarrow.compute as pc

    texts = values.cast(pa.large_binary()).view(pa.large_string())
    if invalid_text(texts):
        return False
    return not pc.any(pc.match_substring_regex(texts, _CONTROL)).as_py()


def _look_at(records: list[bytes]) -> dict[str, _Sample]:
    samples: dict[str, _Sample] = {}
    batches = list(_batches(records))
    if records and not batches:
        raise CorpusError(f"none of the first {len(records)} records is a tf.Example; this corpus cannot be read")
    for batch in batches:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            # Null is the type of a feature that no record of the batch gives a kind.
            if not pa.types.is_null(column.type):
                samples.setdefault(name, _Sample()).add(column)
    return samples


def _batches(records: list[bytes]) -> Iterable[pa.RecordBatch]:
    """The records as decoded without a schema, cut where kinds change; bad records are left out."""
    try:
        yield example_coder().ExamplesToRecordBatchDecoder().DecodeBatch(records)
    except RuntimeError:
        if len(records) > 1:
            half = len(records) // 2
            yield from _batches(records[:half])
            yield from _batches(records[half:])


def _parse(text: bytes) -> Any:
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    try:
        return text_format.Parse(text.decode(), schema_pb2.Schema())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise CorpusError(f"the schema is no text of a TFMD Schema: {_one_line(error)}; give a schema.pbtxt") from error


def _one_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error))


def _declared_field(feature: Any, samples: dict[str, _Sample]) -> pa.Field:
    from tensorflow_metadata.proto.v0 import schema_pb2

    kind = KINDS.get(schema_pb2.FeatureType.Name(feature.type))
    if kind is None:
        raise CorpusError(f"feature {feature.name!r} of the schema has no type INT, FLOAT or BYTES; give it one")
    domain = feature.WhichOneof("domain_info")
    sample = samples.get(feature.name, _Sample())
    text = domain in _TEXT_DOMAINS if domain else sample.text and sample.values > 0
    return pa.field(feature.name, _column_type(kind, text, _is_scalar(feature)))


def _is_scalar(feature: Any) -> bool:
    if feature.HasField("shape"):
        return all(dim.size == 1 for dim in feature.shape.dim)
    return bool(feature.value_count.max == 1)
