"""Arrow types in JSON documents: the bytes of an Arrow IPC schema, beside words that a person can read."""

from __future__ import annotations

import base64

import pyarrow as pa


def schema_to_text(schema: pa.Schema) -> str:
    """Base64 of the schema's IPC message, which keeps every type, extension types included."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def schema_from_text(text: str) -> pa.Schema:
    """The inverse of `schema_to_text`."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def type_to_text(arrow: pa.DataType) -> str:
    """An Arrow type as text, for `type_from_text`."""
    return schema_to_text(pa.schema([("", arrow)]))


def type_from_text(text: str) -> pa.DataType:
    """The inverse of `type_to_text`."""
    return schema_from_text(text).field(0).type
