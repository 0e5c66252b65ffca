"""Inputs that nobody wrote on purpose: no crash, no hang, and every record and byte accounted for.

`BEAMHUB_CHAOS=N` tries about N inputs of each kind (`make chaos`), otherwise a few hundred.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamhub.corpus.decoding import ExampleDecoder
from beamhub.corpus.format import Wanted
from beamhub.corpus.formats import reader_for
from beamhub.corpus.framing import DamagedFrameError, FrameReader, Frames, write_records
from beamhub.corpus.shards import Shard
from beamhub.errors import CorpusError
from tests.corpora import example

TRIES = int(os.environ.get("BEAMHUB_CHAOS", "300"))
MANY = settings(
    max_examples=TRIES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

SCHEMA = pa.schema({"a": pa.int64(), "t": pa.string(), "v": pa.list_(pa.float32())})
GOOD = [example(a=[row], t=[b"text"], v=[0.5] * (row % 4 + 1)) for row in range(8)]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes with some flipped, cut out, doubled or put in."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        length = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(["flip", "cut", "double", "insert", "end"]))
        if kind == "flip" and content:
            content[place] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del content[place : place + length]
        elif kind == "double":
            content[place:place] = content[place : place + length]
        elif kind == "insert":
            content[place:place] = draw(st.binary(max_size=length))
        else:
            del content[place:]
    return bytes(content)


def check_one_line(error: CorpusError) -> None:
    assert "\n" not in str(error)


def framed(records: list[bytes]) -> bytes:
    file = io.BytesIO()
    write_records(file, records)
    return file.getvalue()


@MANY
@given(damaged(framed(GOOD)), st.integers(1, 5))
def test_frames_of_damaged_files(content: bytes, rows: int) -> None:
    """What is read are whole frames of the file, one behind the other from its first byte; what is left is said to be damaged."""
    reader = FrameReader(io.BytesIO(content), "x")
    records: list[bytes] = []
    try:
        while frames := reader.take(rows, 1 << 20):
            records += frames.records
        end = len(content)
    except DamagedFrameError as error:
        end = error.offset
        check_one_line(error)

    assert framed(records) == content[: len(framed(records))]
    assert len(framed(records)) <= end <= len(content)
    if end == len(content):
        assert framed(records) == content


@MANY
@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from(GOOD).flatmap(damaged)), min_size=1, max_size=6))
def test_examples_of_any_bytes(strange: list[bytes]) -> None:
    """Each is a row or is told apart, whatever stands beside it, and the good ones keep their values."""
    records = [each for pair in zip(GOOD, strange, strict=False) for each in pair]
    offsets = np.cumsum([0, *(len(record) + 16 for record in records[:-1])])

    chunk = ExampleDecoder(SCHEMA).decode(Frames(records, offsets))

    bad = {unread.address for unread in chunk.unread}
    assert sorted([*chunk.addresses.tolist(), *bad]) == offsets.tolist()
    assert all(unread.reason and unread.payload in records for unread in chunk.unread)
    rows = dict(zip(chunk.addresses.tolist(), chunk.columns.to_pylist(), strict=True))
    for place, record in enumerate(records):
        (alone,) = [ExampleDecoder(SCHEMA).decode(Frames([record], np.array([0])))]
        expected = alone.columns.to_pylist()
        assert [rows[offset] for offset in offsets[place : place + 1].tolist() if offset in rows] == expected


CHILD = """
import random, sys
from pathlib import Path
import pyarrow as pa
from beamhub.corpus.format import Wanted
from beamhub.corpus.formats import reader_for
from beamhub.corpus.shards import Shard
from beamhub.errors import CorpusError
whole, path, first, count = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
schema = pa.schema({"a": pa.int64(), "t": pa.string(), "v": pa.list_(pa.float32())})
rows = refused = 0
for seed in range(first, first + count):
    rng = random.Random(seed)
    content = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        place, length = rng.randrange(max(1, len(content))), rng.randint(1, 64)
        kind = rng.randrange(5)
        if kind == 0 and content: content[place] ^= rng.randint(1, 255)
        elif kind == 1: del content[place : place + length]
        elif kind == 2: content[place:place] = content[place : place + length]
        elif kind == 3: content[place:place] = rng.randbytes(length)
        else: del content[len(content) - rng.randrange(16) :]
    path.write_bytes(content)
    try:
        chunks = reader_for("parquet").read(Shard(str(path), "x", 0, ""), schema, Wanted(16, 1 << 20))
        found = sum(chunk.rows + len(chunk.unread) for chunk in chunks)
        assert found == 100, (seed, found)
        rows += 1
    except CorpusError as error:
        assert "\\n" not in str(error), seed
        refused += 1
    print(seed, flush=True)
print("of", count, "read", rows, "refused", refused)
"""


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_damaged_parquet_files(tmp_path: Path, compression: str) -> None:
    """In a process of its own, for a crash is what is looked for: each is read with all its rows, or refused in one line."""
    table = pa.table(
        {"a": list(range(100)), "t": ["text"] * 100, "v": [[0.5] * (row % 4) for row in range(100)]}, SCHEMA
    )
    pq.write_table(
        table, tmp_path / "whole.parquet", compression=compression, row_group_size=40, write_page_checksum=True
    )

    done = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path / "whole.parquet", tmp_path / "x.parquet", "0", str(TRIES)],
        capture_output=True,
        text=True,
        timeout=60 + TRIES,
        check=False,
    )

    assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.stderr[-2000:])
    assert done.stdout.splitlines()[-1].startswith(f"of {TRIES} read ")


@MANY
@given(st.binary(max_size=300))
def test_files_of_any_bytes(content: bytes) -> None:
    """Of either format: an error in one line, or no records."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x")
        path.write_bytes(content)
        for format in ("tfrecord", "parquet"):
            try:
                chunks = list(
                    reader_for(format).read(Shard(str(path), "x", len(content), ""), SCHEMA, Wanted(16, 1 << 20))
                )
                assert not content or format == "tfrecord"
                assert all(chunk.read for chunk in chunks)
            except CorpusError as error:
                check_one_line(error)
