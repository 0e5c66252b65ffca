"""Thrift's compact protocol, in which Parquet's footers and page headers are written.

Structs are read without knowing their definition, and written again as they were but for what was changed.
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

TRUE, FALSE, I8, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
"""Kinds of values, as a field's header has them."""

Struct = dict[int, tuple[int, Any]]
"""Kind and value of each field by its number. Integers are `int`, binary and doubles `bytes`, lists a kind and a list of values;
of booleans the kind tells all. A struct may be given as the bytes that `encode` made of it."""


class NotThriftError(ValueError):
    """Bytes that are no struct of the compact protocol, or have maps, which Parquet has none of."""


def decode(data: bytes) -> Struct:
    """The struct that begins with the first byte. Raises NotThriftError."""
    try:
        return _Reader(data).struct()
    except IndexError as error:
        raise NotThriftError("cut off") from error


def encode(fields: Struct) -> bytes:
    """The bytes of a struct, its fields in the order of their numbers."""
    out = bytearray()
    last = 0
    for number, (kind, value) in sorted(fields.items()):
        if 0 < number - last < 16:
            out.append(number - last << 4 | kind)
        else:
            out.append(kind)
            out += varint(_zigzag(number))
        last = number
        out += _value(kind, value)
    out.append(0)
    return bytes(out)


def varint(number: int) -> bytes:
    """A number of no sign, seven bits to a byte, the lowest first (ULEB128)."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def _value(kind: int, value: Any) -> bytes:
    if kind in (TRUE, FALSE):
        return b""
    if kind in (I16, I32, I64):
        return varint(_zigzag(value))
    if kind == I8:
        return bytes([value & 255])
    if kind == BINARY:
        return varint(len(value)) + bytes(value)
    if kind == STRUCT:
        return value if isinstance(value, bytes) else encode(value)
    if kind in (LIST, SET):
        element, values = value
        size = (
            bytes([len(values) << 4 | element]) if len(values) < 15 else bytes([0xF0 | element]) + varint(len(values))
        )
        return size + b"".join(_element(element, each) for each in values)
    return bytes(value)


def _element(kind: int, value: Any) -> bytes:
    return bytes([value]) if kind in (TRUE, FALSE) else _value(kind, value)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self) -> Struct:
        fields: Struct = {}
        number = 0
        while header := self._byte():
            step, kind = header >> 4, header & 15
            number = number + step if step else self._signed()
            fields[number] = kind, self._value(kind)
        return fields

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _unsigned(self) -> int:
        number = shift = 0
        while (byte := self._byte()) > 127:
            number |= (byte & 127) << shift
            shift += 7
        return number | byte << shift

    def _signed(self) -> int:
        number = self._unsigned()
        return number >> 1 ^ -(number & 1)

    def _bytes(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) < count:
            raise NotThriftError("cut off")
        self._at += count
        return found

    def _value(self, kind: int) -> Any:
        if kind in (TRUE, FALSE):
            return None
        if kind in (I16, I32, I64):
            return self._signed()
        if kind == I8:
            return int.from_bytes(self._bytes(1), signed=True)
        if kind == DOUBLE:
            return self._bytes(8)
        if kind == BINARY:
            return self._bytes(self._unsigned())
        if kind == STRUCT:
            return self.struct()
        if kind in (LIST, SET):
            header = self._byte()
            count, element = header >> 4, header & 15
            count = self._unsigned() if count == 15 else count
            return element, [self._element(element) for _ in range(count)]
        raise NotThriftError(f"a value of kind {kind}")

    def _element(self, kind: int) -> Any:
        return self._byte() if kind in (TRUE, FALSE) else self._value(kind)
