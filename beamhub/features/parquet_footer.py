"""What Parquet says of a file at its end, of a page at its head, as Thrift structs whose fields have names here.

https://github.com/apache/parquet-format, src/main/thrift/parquet.thrift: the numbers of fields, by struct.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from beamhub.features.thrift import BINARY, I32, I64, LIST, STRUCT, Struct, decode, encode

MAGIC = b"PAR1"

ColumnPath = tuple[bytes, ...]
"""Names from the top of the schema to a leaf, which is what Parquet calls a column."""


class _File:
    """FileMetaData."""

    SCHEMA, NUM_ROWS, ROW_GROUPS, KEY_VALUE_METADATA = 2, 3, 4, 5


class _Element:
    """SchemaElement."""

    TYPE, REPETITION, NAME, NUM_CHILDREN = 1, 3, 4, 5
    OPTIONAL, REPEATED = 1, 2


class _Group:
    """RowGroup."""

    COLUMNS, TOTAL_BYTE_SIZE, NUM_ROWS, FILE_OFFSET, TOTAL_COMPRESSED_SIZE = 1, 2, 3, 5, 6


class _Chunk:
    """ColumnChunk."""

    FILE_OFFSET, META_DATA = 2, 3


class _Column:
    """ColumnMetaData."""

    TYPE, ENCODINGS, PATH, CODEC, NUM_VALUES, UNCOMPRESSED_SIZE, COMPRESSED_SIZE = 1, 2, 3, 4, 5, 6, 7
    DATA_PAGE_OFFSET, INDEX_PAGE_OFFSET, DICTIONARY_PAGE_OFFSET = 9, 10, 11
    UNCOMPRESSED = 0


class _Page:
    """PageHeader, and DataPageHeader in it."""

    TYPE, UNCOMPRESSED_SIZE, COMPRESSED_SIZE, DATA_PAGE_HEADER = 1, 2, 3, 5
    DATA_PAGE = 0
    NUM_VALUES, ENCODING, DEFINITION_LEVEL_ENCODING, REPETITION_LEVEL_ENCODING = 1, 2, 3, 4


_PLAIN, _RLE = 0, 3
"""Encoding."""


@dataclass(frozen=True)
class Leaf:
    """A column of Parquet: its path, physical type, and the definition level of a value that is there."""

    path: ColumnPath
    physical: int
    definition: int


@dataclass(frozen=True)
class Chunk:
    """A column chunk, by its metadata."""

    column: Struct

    @property
    def path(self) -> ColumnPath:
        """Of the column."""
        _, names = self.column[_Column.PATH][1]
        return tuple(names)

    @property
    def uncompressed(self) -> int:
        """Bytes that its pages would have."""
        return int(self.column[_Column.UNCOMPRESSED_SIZE][1])

    @property
    def compressed(self) -> int:
        """Bytes that its pages have."""
        return int(self.column[_Column.COMPRESSED_SIZE][1])

    def moved(self, shift: int) -> Chunk:
        """The same so many bytes further on."""
        offsets = {_Column.DATA_PAGE_OFFSET, _Column.INDEX_PAGE_OFFSET, _Column.DICTIONARY_PAGE_OFFSET}
        there = offsets & self.column.keys()
        return Chunk(self.column | {number: (I64, self.column[number][1] + shift) for number in there})


class Footer:
    """The end of a file that Arrow wrote."""

    def __init__(self, data: pa.Buffer | memoryview) -> None:
        """`data` is the file, or as much of its end as has the footer."""
        view = memoryview(data)
        size = int.from_bytes(view[-8:-4], "little")
        self._struct = decode(bytes(view[-8 - size : -8]))

    def leaves(self) -> list[Leaf]:
        """The columns in their order."""
        # Elements stand in depth-first order, the root first.
        elements = iter(self._struct[_File.SCHEMA][1][1])

        def below(path: ColumnPath, definition: int, children: int) -> Iterator[Leaf]:
            for _ in range(children):
                element = next(elements)
                here = (*path, element[_Element.NAME][1])
                level = definition + (element[_Element.REPETITION][1] in (_Element.OPTIONAL, _Element.REPEATED))
                if _Element.NUM_CHILDREN in element:
                    yield from below(here, level, element[_Element.NUM_CHILDREN][1])
                else:
                    yield Leaf(here, element[_Element.TYPE][1], level)

        return list(below((), 0, next(elements)[_Element.NUM_CHILDREN][1]))

    def chunks(self) -> list[Chunk]:
        """Of the only row group."""
        _, (group,) = self._struct[_File.ROW_GROUPS][1]
        _, columns = group[_Group.COLUMNS][1]
        return [Chunk(each[_Chunk.META_DATA][1]) for each in columns]

    def of(self, rows: int, groups: Sequence[bytes], metadata: Mapping[bytes, bytes]) -> bytes:
        """The end of a file of the same schema with other row groups, and more key-value metadata."""
        _, pairs = self._struct.get(_File.KEY_VALUE_METADATA, (LIST, (STRUCT, [])))[1]
        told = [{1: (BINARY, key), 2: (BINARY, value)} for key, value in metadata.items()]
        whole = self._struct | {
            _File.NUM_ROWS: (I64, rows),
            _File.ROW_GROUPS: (LIST, (STRUCT, list(groups))),
            _File.KEY_VALUE_METADATA: (LIST, (STRUCT, [*pairs, *told])),
        }
        data = encode(whole)
        return data + len(data).to_bytes(4, "little") + MAGIC


def row_group(chunks: Sequence[Chunk], rows: int, begin: int) -> bytes:
    """The entry of a row group whose first byte is at `begin`."""
    columns = [{_Chunk.FILE_OFFSET: (I64, 0), _Chunk.META_DATA: (STRUCT, each.column)} for each in chunks]
    return encode(
        {
            _Group.COLUMNS: (LIST, (STRUCT, columns)),
            _Group.TOTAL_BYTE_SIZE: (I64, sum(each.uncompressed for each in chunks)),
            _Group.NUM_ROWS: (I64, rows),
            _Group.FILE_OFFSET: (I64, begin),
            _Group.TOTAL_COMPRESSED_SIZE: (I64, sum(each.compressed for each in chunks)),
        }
    )


def plain_chunk(leaf: Leaf, values: int, begin: int, size: int) -> Chunk:
    """A column chunk of plain pages: so many values in so many bytes."""
    return Chunk(
        {
            _Column.TYPE: (I32, leaf.physical),
            _Column.ENCODINGS: (LIST, (I32, [_PLAIN, _RLE])),
            _Column.PATH: (LIST, (BINARY, list(leaf.path))),
            _Column.CODEC: (I32, _Column.UNCOMPRESSED),
            _Column.NUM_VALUES: (I64, values),
            _Column.UNCOMPRESSED_SIZE: (I64, size),
            _Column.COMPRESSED_SIZE: (I64, size),
            _Column.DATA_PAGE_OFFSET: (I64, begin),
        }
    )


def plain_page(values: int, size: int) -> bytes:
    """The header of a data page of plain values: so many in so many bytes, their levels among them."""
    data: Struct = {
        _Page.NUM_VALUES: (I32, values),
        _Page.ENCODING: (I32, _PLAIN),
        _Page.DEFINITION_LEVEL_ENCODING: (I32, _RLE),
        _Page.REPETITION_LEVEL_ENCODING: (I32, _RLE),
    }
    return encode(
        {
            _Page.TYPE: (I32, _Page.DATA_PAGE),
            _Page.UNCOMPRESSED_SIZE: (I32, size),
            _Page.COMPRESSED_SIZE: (I32, size),
            _Page.DATA_PAGE_HEADER: (STRUCT, data),
        }
    )
