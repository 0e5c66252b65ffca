"""Footers are read and written as Arrow and the specification have them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub.features.thrift import (
    BINARY,
    DOUBLE,
    FALSE,
    I8,
    I16,
    I32,
    I64,
    LIST,
    MAP,
    SET,
    STRUCT,
    TRUE,
    NotThriftError,
    decode,
    encode,
    varint,
)

TABLE = pa.table(
    {
        "key": ["a", "b", None],
        "many": pa.array([[1, 2], [], None], pa.list_(pa.int64())),
        "flag": [True, False, None],
        "when": pa.array([1, 2, 3], pa.timestamp("us", "UTC")),
        "price": pa.array([1, 2, 3]).cast(pa.decimal128(21, 2)),
    }
)


@pytest.mark.parametrize(
    "options",
    [{}, {"write_page_index": True}, {"compression": "zstd", "use_dictionary": False}, {"row_group_size": 1}],
)
def test_footers_of_arrow_come_out_as_they_went_in(options: dict[str, Any]) -> None:
    file = pa.BufferOutputStream()
    pq.write_table(TABLE, file, **options)
    data = file.getvalue().to_pybytes()
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") : -8]

    assert encode(decode(footer)) == footer
    # Of parquet.thrift, FileMetaData: the number of rows.
    assert decode(footer)[3] == (I64, 3)


def test_fields_are_as_the_specification_has_them() -> None:
    # Numbers of fields as differences up to 15, and zigzag beyond; integers as zigzag varints.
    fields = {1: (I32, 5), 3: (I64, -3), 19: (TRUE, None), 20: (FALSE, None), 21: (BINARY, b"ab")}

    assert encode(fields) == bytes([0x15, 10, 0x26, 5, 0x01, 38, 0x12, 0x18, 2, 97, 98, 0])
    assert varint(300) == bytes([0xAC, 0x02])
    # Sizes of lists up to 14 in the header.
    assert encode({1: (LIST, (I32, [1, 2]))}) == bytes([0x19, 0x25, 2, 4, 0])
    assert encode({1: (LIST, (I8, [7] * 15))}) == bytes([0x19, 0xF3, 15, *[7] * 15, 0])


def values() -> st.SearchStrategy[tuple[int, Any]]:
    small, large = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
    plain = st.one_of(
        st.tuples(st.just(I8), st.integers(-128, 127)),
        st.tuples(st.just(I16), st.integers(-(2**15), 2**15 - 1)),
        st.tuples(st.just(I32), small),
        st.tuples(st.just(I64), large),
        st.tuples(st.sampled_from([TRUE, FALSE]), st.none()),
        st.tuples(st.just(DOUBLE), st.binary(min_size=8, max_size=8)),
        st.tuples(st.just(BINARY), st.binary(max_size=300)),
        st.tuples(
            st.sampled_from([LIST, SET]), st.tuples(st.just(TRUE), st.lists(st.sampled_from([1, 2]), max_size=20))
        ),
    )

    def nested(inner: st.SearchStrategy[tuple[int, Any]]) -> st.SearchStrategy[tuple[int, Any]]:
        struct = st.dictionaries(st.integers(1, 2**15 - 1), inner, max_size=4)
        lists = st.tuples(st.just(LIST), st.tuples(st.just(STRUCT), st.lists(struct, max_size=17)))
        return st.one_of(st.tuples(st.just(STRUCT), struct), lists)

    return st.recursive(plain, nested, max_leaves=20)


@given(st.dictionaries(st.integers(1, 2**15 - 1), values(), max_size=5))
def test_what_is_written_is_read(fields: dict[int, tuple[int, Any]]) -> None:
    assert decode(encode(fields)) == fields


def test_structs_may_be_encoded_before() -> None:
    inner = {1: (I32, 7)}

    assert encode({2: (STRUCT, encode(inner))}) == encode({2: (STRUCT, inner)})
    assert encode({2: (LIST, (STRUCT, [encode(inner)]))}) == encode({2: (LIST, (STRUCT, [inner]))})


@pytest.mark.parametrize("data", [b"", b"\x15", b"\x18\x05ab\x00", bytes([0x10 | MAP, 0, 0])])
def test_what_is_no_struct_is_refused(data: bytes) -> None:
    with pytest.raises(NotThriftError):
        decode(data)
