"""Columns of a corpus: choosing them by name, and giving them the types they should have."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beamhub.errors import CorpusError

SAMPLED = b"beamhub.sampled"
"""Schema metadata: how many records a schema was inferred from."""


def select(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """The named columns of a corpus's schema, in the order asked for.

    Raises CorpusError for a name it has not, with the nearest ones, all there are, and how far was looked for
    it.
    """
    sampled = (schema.metadata or {}).get(SAMPLED)
    where = "the corpus" if sampled is None else f"the {int(sampled)} records looked at"
    hint = "" if sampled is None else "; declare a column that is rarer than that with --schema"
    for name in names:
        if name not in schema.names:
            raise CorpusError(f"no column {name!r} in {where}: {_alternatives(name, schema.names)}{hint}")
    return pa.schema([schema.field(name) for name in names])


def missing(name: str, path: str, available: Sequence[str]) -> CorpusError:
    """The error for a file that lacks a column."""
    return CorpusError(f"{path}: no column {name!r}: {_alternatives(name, available)}")


def _alternatives(name: str, available: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, available, n=3)
    meant = f"did you mean {', '.join(near)}? " if near else ""
    return f"{meant}columns are {', '.join(available) or 'none'}"


def is_list(type: pa.DataType) -> bool:
    """True for the three list types."""
    return bool(pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type))


def plain(type: pa.DataType) -> pa.DataType:
    """The type as a table holds it: each dictionary replaced by what it holds, views by the type without."""
    if pa.types.is_dictionary(type):
        return plain(type.value_type)
    if pa.types.is_string_view(type):
        return pa.large_string()
    if pa.types.is_binary_view(type):
        return pa.large_binary()
    if pa.types.is_struct(type):
        return pa.struct([field.with_type(plain(field.type)) for field in type])
    if pa.types.is_list(type):
        return pa.list_(type.value_field.with_type(plain(type.value_type)))
    if pa.types.is_large_list(type):
        return pa.large_list(type.value_field.with_type(plain(type.value_type)))
    return type


def lossless(source: pa.DataType, target: pa.DataType) -> bool:
    """Can every value of one type be cast to the other and back unchanged?

    Wider integers and floats, text of any offset width (and as bytes), lists of any offset width,
    dictionaries as what they hold. Integers to floats are not: ask for the column as it is and cast where the
    loss is wanted.
    """
    if source.equals(target) or pa.types.is_null(source):
        return True
    if pa.types.is_dictionary(source):
        return lossless(source.value_type, target)
    if pa.types.is_integer(source) and pa.types.is_integer(target):
        return _fits(source, target)
    if pa.types.is_floating(source) and pa.types.is_floating(target):
        return bool(source.bit_width <= target.bit_width)
    if is_list(source) and is_list(target):
        same_length = not pa.types.is_fixed_size_list(target)
        return same_length and lossless(source.value_type, target.value_type)
    if is_text(source):
        return is_text(target) or is_bytes(target)
    return is_bytes(source) and is_bytes(target)


def _fits(source: pa.DataType, target: pa.DataType) -> bool:
    signed = pa.types.is_signed_integer(target)
    if pa.types.is_signed_integer(source) == signed:
        return bool(source.bit_width <= target.bit_width)
    return bool(signed and source.bit_width < target.bit_width)


def is_text(type: pa.DataType) -> bool:
    """True for the string types, whose bytes must be UTF-8."""
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type))


def is_bytes(type: pa.DataType) -> bool:
    """True for the binary types of varying length."""
    return bool(pa.types.is_binary(type) or pa.types.is_large_binary(type) or pa.types.is_binary_view(type))


def invalid_text(array: pa.Array) -> list[int]:
    """The rows that hold text which is not UTF-8, at any depth. Costs O(log rows) checks for one such row."""
    if all(map(_is_valid, _texts(array))):
        return []
    if len(array) == 1:
        return [0]
    half = len(array) // 2
    return invalid_text(array[:half]) + [half + row for row in invalid_text(array[half:])]


def _texts(array: pa.Array) -> Iterator[pa.Array]:
    # Lists and structs are flattened, since a check of a slice of them would look at all that lies beneath.
    if is_list(array.type):
        yield from _texts(array.flatten())
    elif pa.types.is_struct(array.type):
        for child in array.flatten():
            yield from _texts(child)
    elif is_text(array.type):
        yield array


def _is_valid(array: pa.Array) -> bool:
    # A tenth of the time: most texts are ASCII.
    if not pa.types.is_string_view(array.type) and binary_parts(array)[1].max(initial=0) < 0x80:
        return True
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def binary_parts(array: pa.Array) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """Strings or binaries, small or large, as they lie in memory: n + 1 offsets, and the bytes from the first of them on.

    https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-layout; nothing is copied. By buffers, for each call
    of Arrow's compute functions lets go of the interpreter's lock, for which others wait.
    """
    is_large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    width = np.dtype(np.int64 if is_large else np.int32)
    _, bounds, data = array.buffers()
    if not len(array) or data is None:
        # An empty array may have no buffers.
        return np.zeros(len(array) + 1, width), np.empty(0, np.uint8)
    offsets = np.frombuffer(bounds, width, len(array) + 1, array.offset * width.itemsize)
    return offsets - offsets[0], np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]


def without_columns(rows: int) -> pa.RecordBatch:
    """A record batch of no column and so many rows."""
    return pa.record_batch({"": pa.nulls(rows)}).select([])
