"""Files in ranges: every record in exactly one of them, or the ranges disagree in a way that is noticed."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beamhub.corpus.format import FalseStartError, Span, Wanted
from beamhub.corpus.formats import reader_for
from beamhub.corpus.framing import write_records
from beamhub.corpus.headers import find_record
from beamhub.corpus.shards import WHOLE, Shard
from beamhub.corpus.splitting import split, whole
from beamhub.errors import CorpusError
from beamhub.features.ledger import ShardResult, results_to_table
from beamhub.features.ranges import Ranges


def framed(records: list[bytes]) -> bytes:
    file = io.BytesIO()
    write_records(file, records)
    return file.getvalue()


def shard_of(path: Path) -> Shard:
    return Shard(str(path), path.name, path.stat().st_size, "token")


def pieces_of(path: Path, count: int) -> list[Shard]:
    file = shard_of(path)
    return split([file], max(1, file.size // count))


def read_range(shard: Shard, rows: int = 7) -> tuple[list[bytes], Span | None]:
    """A range's records, as the engine reads it: again behind each false start."""
    behind = None
    while True:
        scan = reader_for("tfrecord").scan(shard, pa.schema([]), Wanted(rows, 1 << 20, records=True, behind=behind))
        try:
            return [record for stretch in scan for record in stretch.decode().records or ()], scan.span
        except FalseStartError as start:
            behind = start.offset


def result_of(shard: Shard, span: Span | None) -> ShardResult:
    begins, ends = span or (None, None)
    return ShardResult(shard.id, "file", shard.start, shard.end, "token", "done", begins=begins, ends=ends)


def read_ranges(pieces: list[Shard]) -> tuple[list[bytes], str | None]:
    """The records of all ranges, and why the ranges cannot stand side by side."""
    records: list[bytes] = []
    results = []
    for piece in pieces:
        found, span = read_range(piece)
        records += found
        results.append(result_of(piece, span))
    conflicts = Ranges.of(np.zeros(len(results), np.int64), results_to_table(results)).conflicts()
    return records, next((wrong for _, wrong in conflicts), None)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=90), min_size=1, max_size=40), st.integers(2, 12))
def test_ranges_of_a_file_have_each_record_once(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], count: int
) -> None:
    path = tmp_path_factory.mktemp("corpus") / "file"
    path.write_bytes(framed(records))

    found, wrong = read_ranges(pieces_of(path, count))

    assert wrong is None
    assert found == records


NESTED = st.recursive(
    st.binary(max_size=40),
    lambda inner: st.builds(lambda some, tail: framed(some) + tail, st.lists(inner, max_size=6), st.binary(max_size=9)),
    max_leaves=12,
)
"""Records that are TFRecord files themselves, to any depth, with other bytes behind."""


@settings(max_examples=300, deadline=None)
@given(st.lists(NESTED, min_size=1, max_size=12), st.integers(2, 12))
def test_records_within_records_are_left_out_or_noticed(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], count: int
) -> None:
    path = tmp_path_factory.mktemp("corpus") / "file"
    path.write_bytes(framed(records))

    found, wrong = read_ranges(pieces_of(path, count))

    assert wrong is not None or found == records


def test_a_false_start_is_noticed_where_the_chain_breaks(tmp_path: Path) -> None:
    """The second range begins within a record of 50 records; the chain of these ends with it, and the true next one is
    found behind."""
    inner = framed([b"inner %d" % n for n in range(50)])
    records = [b"first", inner + b"tail", b"second", b"third"]
    path = tmp_path / "file"
    path.write_bytes(framed(records))
    inside = len(framed([b"first"])) + 12 + 3
    second = Shard(str(path), "file", 0, "token", inside, WHOLE)

    with pytest.raises(FalseStartError) as start:
        list(reader_for("tfrecord").scan(second, pa.schema([]), Wanted(7, 1 << 20, records=True)))
    assert start.value.offset == len(framed([b"first"])) + 12 + len(inner)
    assert read_range(second) == ([b"second", b"third"], (len(framed(records[:2])), path.stat().st_size))


def test_ranges_within_a_record_that_is_a_file_disagree(tmp_path: Path) -> None:
    """Given a record of many records, whose chain goes on past a range's end, then that range's end is found wrong."""
    inner = [b"inner %d" % n for n in range(200)]
    path = tmp_path / "file"
    path.write_bytes(framed([b"first", framed(inner), b"last"]))

    found, wrong = read_ranges(pieces_of(path, 4))

    assert found != [b"first", framed(inner), b"last"]
    assert wrong is not None
    assert wrong.endswith("so rows would be lost or doubled")


def test_damage_within_a_range_is_noticed(tmp_path: Path) -> None:
    records = [b"record %d" % n for n in range(100)]
    data = bytearray(framed(records))
    data[len(data) * 3 // 5] ^= 1
    path = tmp_path / "file"
    path.write_bytes(data)
    pieces = pieces_of(path, 4)

    assert read_ranges(pieces)[1] is not None
    with pytest.raises(CorpusError, match="is not what was written"):
        read_range(whole(pieces))


@pytest.mark.parametrize("left", [5, 13, 30])
def test_damage_behind_a_range_is_not_its_own(tmp_path: Path, left: int) -> None:
    """The last frame is cut off in its header or behind; the range before it ends where it begins."""
    whole_ones = framed([b"record %d" % n for n in range(5)])
    path = tmp_path / "file"
    path.write_bytes(whole_ones + framed([b"x" * 50])[:left])
    before = Shard(str(path), "file", 0, "token", 0, len(whole_ones))

    assert read_range(before) == ([b"record %d" % n for n in range(5)], (0, len(whole_ones)))


def test_damage_at_the_end_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(framed([b"record %d" % n for n in range(100)])[:-1])

    assert read_ranges(pieces_of(path, 4))[1] is not None


def test_a_record_longer_than_ranges(tmp_path: Path) -> None:
    records = [b"a", b"x" * 10_000, b"b"]
    path = tmp_path / "file"
    path.write_bytes(framed(records))

    found, wrong = read_ranges(pieces_of(path, 20))

    assert wrong is None
    assert found == records


@pytest.mark.parametrize("records", [[b"record %d" % n for n in range(50)], []])
def test_the_first_range_of_a_compressed_file_has_all(tmp_path: Path, records: list[bytes]) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(framed(records)))
    first, *others = pieces_of(path, 3)

    assert read_range(first) == (records, None)
    assert [read_range(other) for other in others] == [([], None)] * len(others)


def headers_by_hand(data: bytes) -> list[int]:
    """Where a length stands before its checksum, byte by byte."""
    found = []
    for at in range(len(data) - 11):
        crc = google_crc32c.value(data[at : at + 8])
        masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        length = struct.unpack_from("<Q", data, at)[0]
        if struct.unpack_from("<I", data, at + 8)[0] == masked and length < 1 << 31:
            found.append(at)
    return found


def test_every_header_is_found() -> None:
    random = np.random.default_rng(0)
    lengths = [0, 1, 255, 256, 70_000, 0, 3]
    data = framed([random.bytes(length) for length in lengths]) + random.bytes(50)
    wanted = headers_by_hand(data)

    found, at = [], 0
    while (place := find_record(io.BytesIO(data), at, len(data), len(data))) is not None:
        found.append(place)
        at = place + 1

    assert found == wanted
    assert len(found) == len(lengths)


@pytest.mark.parametrize("before", [(1 << 20) - 13, (1 << 20) - 12, (1 << 20) - 11, (1 << 20) - 1, 1 << 20, 3 << 20])
def test_a_header_across_blocks_is_found(before: int) -> None:
    data = bytes(before) + framed([b"record"])

    assert find_record(io.BytesIO(data), 0, len(data), len(data)) == before
    assert find_record(io.BytesIO(data), 0, before, len(data)) is None
    # Its record would end behind the file.
    assert find_record(io.BytesIO(data), 0, len(data), len(data) - 1) is None


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_each_row_group_is_in_one_range(tmp_path: Path, count: int) -> None:
    path = tmp_path / "x.parquet"
    schema = pa.schema({"a": pa.int64()})
    with pq.ParquetWriter(path, schema) as writer:
        for start, end in [(0, 1), (1, 400), (400, 401), (401, 1000), (1000, 1003)]:
            writer.write_table(pa.table({"a": range(start, end)}, schema))

    chunks = [list(reader_for("parquet").read(piece, schema, Wanted(300, 1 << 20))) for piece in pieces_of(path, count)]

    rows = [row for found in chunks for chunk in found for row in chunk.columns.column(0).to_pylist()]
    addresses = [row for found in chunks for chunk in found for row in chunk.addresses.tolist()]
    assert rows == addresses == list(range(1003))


def test_equal_ranges_and_the_last_to_the_end() -> None:
    file = Shard("dir/file", "file", 1000, "token")

    assert split([file], 0) == [file]
    assert split([file], 700) == [file]
    pieces = split([file], 300)
    assert [(piece.start, piece.end, piece.size) for piece in pieces] == [
        (0, 333, 333),
        (333, 666, 333),
        (666, WHOLE, 334),
    ]
    assert whole(pieces) == file
    assert len({piece.id for piece in [*pieces, file]}) == 4
