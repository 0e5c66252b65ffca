from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from beamhub.corpus import framing
from beamhub.corpus.framing import FrameReader, write_records
from beamhub.corpus.inflated import Inflated
from beamhub.errors import CorpusError

FRAME = 16
"""Bytes of a frame beside its data: length 8, its checksum 4, the data's checksum 4."""


class _Drip:
    """A stream that gives at most so many bytes at a time, as a socket does."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file = io.BytesIO(data)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._step))


def written(records: list[bytes]) -> bytes:
    file = io.BytesIO()
    write_records(file, records)
    return file.getvalue()


def read_all(data: bytes, rows: int = 1000, max_bytes: int = 1 << 20) -> list[bytes]:
    reader = FrameReader(io.BytesIO(data), "file")
    found: list[bytes] = []
    while frames := reader.take(rows, max_bytes):
        found += frames.records
    return found


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
def test_reads_what_tensorflow_writes(tmp_path: Path, compression: str) -> None:
    # More than one block of 1 MiB, with records that lie across its border, an empty one, and one of several blocks.
    records = [bytes([n % 251]) * (n % 700) for n in range(5000)] + [b"x" * 3_000_000, b"", b"end"]
    path = str(tmp_path / "file")
    with tf.io.TFRecordWriter(path, compression) as writer:
        for record in records:
            writer.write(record)

    with open(path, "rb") as file:
        reader = FrameReader(Inflated(file, path) if compression else file, path)
        found = []
        while frames := reader.take(1000, 1 << 20):
            found += frames.records

    assert found == records


def test_tensorflow_reads_what_is_written(tmp_path: Path) -> None:
    records = [b"", b"a", b"b" * 100_000]
    with open(tmp_path / "file", "wb") as file:
        assert write_records(file, records) == 3

    assert list(tf.data.TFRecordDataset(str(tmp_path / "file")).as_numpy_iterator()) == records


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(*(st.lists(st.binary(min_size=least, max_size=60), max_size=30) for least in (0, 12, 13))),
    st.integers(1, 80),
    st.integers(1, 7),
    st.integers(1, 200),
    st.data(),
)
def test_chunks_do_not_depend_on_how_the_stream_is_cut(
    records: list[bytes], step: int, rows: int, max_bytes: int, data: st.DataObject
) -> None:
    whole = written(records)
    block = data.draw(st.integers(1, 100))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "_BLOCK", block)
        dripping = FrameReader(_Drip(whole, step), "file")
        dripped = list(iter(lambda: dripping.take(rows, max_bytes), None))
    at_once = FrameReader(io.BytesIO(whole), "file")
    expected = list(iter(lambda: at_once.take(rows, max_bytes), None))

    assert [each.records for each in dripped] == [each.records for each in expected]
    assert [record for each in dripped for record in each.records] == records
    for each in dripped:
        assert len(each.records) <= rows
        assert len(each.records) == 1 or sum(len(r) + FRAME for r in each.records) <= max_bytes
        for offset, record in zip(each.offsets, each.records, strict=True):
            assert whole[offset + 12 : offset + 12 + len(record)] == record


def test_chunks_are_as_full_as_they_may_be() -> None:
    # Five frames of 20 bytes: two fit into 45 bytes.
    reader = FrameReader(io.BytesIO(written([b"1234"] * 5)), "file")

    assert [len(each.records) for each in iter(lambda: reader.take(10, 45), None)] == [2, 2, 1]


def test_a_file_cut_off_anywhere_is_an_error_unless_between_records() -> None:
    whole = written([b"one", b"", b"three"])
    ends = {0: 0, 3 + FRAME: 1, 3 + 2 * FRAME: 2, len(whole): 3}

    for size in range(len(whole) + 1):
        if size in ends:
            assert len(read_all(whole[:size])) == ends[size]
        else:
            with pytest.raises(CorpusError, match="file: truncated inside the record at byte"):
                read_all(whole[:size])


def test_each_flipped_bit_is_an_error() -> None:
    whole = written([b"one", b"", b"three"])

    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorpusError):
            read_all(bytes(damaged))


def test_damage_names_file_and_offset() -> None:
    whole = bytearray(written([b"one", b"two", b"three"]))
    whole[2 * (3 + FRAME) + 13] ^= 1

    with pytest.raises(CorpusError, match="file: the data of the record at byte 38 is not what was written; write"):
        read_all(bytes(whole))


def test_a_length_that_nobody_could_mean_is_an_error_and_allocates_nothing() -> None:
    length = (1 << 60).to_bytes(8, "little")
    checksum = framing._masked(length).to_bytes(4, "little")

    with pytest.raises(CorpusError, match="the record at byte 0 claims 1,152,921,504,606,846,9"):
        read_all(length + checksum)


def inflated(data: bytes) -> bytes:
    stream = Inflated(io.BytesIO(data), "file")
    return b"".join(iter(lambda: stream.read(100), b""))


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_streams_in_a_row_are_one(compress: Callable[[bytes], bytes]) -> None:
    assert inflated(compress(b"a" * 1000) + compress(b"") + compress(b"b")) == b"a" * 1000 + b"b"


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_a_compressed_file_cut_off_anywhere_is_an_error(compress: Callable[[bytes], bytes]) -> None:
    whole = compress(written([b"one", b"", b"three"]))

    for size in range(1, len(whole)):
        with pytest.raises(CorpusError, match=f"file: the compressed file ends early, at byte {size};"):
            inflated(whole[:size])


@pytest.mark.parametrize(
    ("compress", "idle"),
    # What means nothing: gzip's text flag, time, hints and system; the last bits before the checksum.
    [(gzip.compress, {3, 4, 5, 6, 7, 8, 9, -9}), (zlib.compress, {-5})],
)
def test_a_flipped_bit_of_a_compressed_file_is_an_error_or_changes_nothing(
    compress: Callable[[bytes], bytes], idle: set[int]
) -> None:
    records = [b"one", b"", b"three"]
    whole = compress(written(records))
    idle = {place % len(whole) for place in idle}

    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert read_all(inflated(bytes(damaged))) == records
            assert bit // 8 in idle
        except CorpusError:
            pass
