"""Keys that are in order are not looked at again."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import beamhub
from beamhub.features.key_order import KeyOrder, overlapping
from tests.jobs import succeed
from tests.small import identity


def order(*batches: pa.Array) -> tuple[str, str] | None:
    followed = KeyOrder()
    for batch in batches:
        followed.add(batch)
    return followed.range


def places(ranges: list[tuple[str | None, str | None]], kind: pa.DataType) -> list[int]:
    firsts, lasts = ([each[end] for each in ranges] for end in (0, 1))
    return overlapping(pa.chunked_array([firsts], pa.string()), pa.chunked_array([lasts], pa.string()), kind)


def test_increasing_over_batches() -> None:
    assert order(pa.array([1, 2, 5]), pa.array([], pa.int64()), pa.array([7])) == ("1", "7")
    assert order(pa.array(["a", "b"]), pa.array(["bb"])) == ("a", "bb")


@pytest.mark.parametrize(
    "batches",
    [([1, 1],), ([2, 1],), ([1, 2], [2, 3]), ([1, 3], [2]), ([],)],
)
def test_not_increasing(batches: tuple[list[int], ...]) -> None:
    assert order(*(pa.array(batch, pa.int64()) for batch in batches)) is None


def test_nulls_are_no_keys() -> None:
    assert order(pa.array([None, 1, None, 2]), pa.array([None], pa.int64())) == ("1", "2")


def test_other_types_are_not_followed() -> None:
    assert order(pa.array([1.0, 2.0])) is None
    assert order(pa.array([b"a", b"b"])) is None


def test_times_are_followed_as_numbers() -> None:
    days = pa.array([datetime.date(1970, 1, 2), datetime.date(1970, 1, 11)])
    assert order(days) == ("1", "10")


def test_long_texts_are_not_kept() -> None:
    assert order(pa.array(["a", "b" * 201])) is None


@given(st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 6)), max_size=8))
def test_overlaps_are_those_of_all_pairs(spans: list[tuple[int, int]]) -> None:
    ranges = [(first, first + length) for first, length in spans]
    expected = {i for i, (a, b) in enumerate(ranges) for j, (c, d) in enumerate(ranges) if i != j and a <= d and c <= b}

    assert places([(str(a), str(b)) for a, b in ranges], pa.int64()) == sorted(expected)


def test_texts_are_compared_as_texts() -> None:
    assert places([("10", "19"), ("2", "3")], pa.string()) == []
    assert places([("10", "30"), ("2", "3")], pa.string()) == [0, 1]


def test_one_shard_of_unknown_order_makes_all_suspect() -> None:
    assert places([("1", "2"), (None, None), ("5", "6")], pa.int64()) == [0, 1, 2]


def test_only_suspect_files_are_read(tmp_path: Path) -> None:
    """Three files in order, of which two share a key: the last, which is gone, is not missed."""
    (tmp_path / "c").mkdir()
    for number, keys in enumerate(([3, 4], [4, 5], [8, 9])):
        table = pa.table({"id": pa.array(keys), "x": pa.array([0.0] * 2, pa.float32())})
        pq.write_table(table, tmp_path / "c" / f"{number}.parquet")
    succeed(
        "extract", "--module", identity(tmp_path / "m", (None,)), "--corpus", tmp_path / "c" / "*", "--key", "id",
        "--input", "x", "--out", tmp_path / "out",
    )  # fmt: skip
    table = beamhub.open(str(tmp_path / "out"))
    Path(table.files[2]).unlink()

    found = table.repeated_keys()

    assert (found.count, [key for key, *_ in found.examples]) == (1, [4])
