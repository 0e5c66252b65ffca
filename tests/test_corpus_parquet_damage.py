"""Damaged Parquet files: an error in one line, never a row lost or made up."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from beamhub.corpus.format import Wanted
from beamhub.corpus.formats import reader_for
from beamhub.corpus.shards import Shard
from beamhub.errors import CorpusError
from tests.corpora import read_parquet, write_parquet


def test_a_file_cut_off_anywhere_is_an_error(tmp_path: Path) -> None:
    whole = Path(write_parquet(tmp_path / "x.parquet", {"a": [1, 2, 3]})).read_bytes()

    for size in range(len(whole)):
        (tmp_path / "x.parquet").write_bytes(whole[:size])
        with pytest.raises(CorpusError, match=r"x\.parquet: not Parquet, truncated or damaged") as caught:
            read_parquet(str(tmp_path / "x.parquet"), pa.schema({"a": pa.int64()}))
        assert "\n" not in str(caught.value)


def test_damaged_data_is_an_error(tmp_path: Path) -> None:
    # Plain values without compression: only the page's checksum can tell.
    path = write_parquet(
        tmp_path / "x.parquet",
        {"a": list(range(1000))},
        write_page_checksum=True,
        use_dictionary=False,
        compression="NONE",
    )
    whole = bytearray(Path(path).read_bytes())
    whole[500] ^= 1
    Path(path).write_bytes(whole)

    with pytest.raises(CorpusError, match=r"x\.parquet: not Parquet, truncated or damaged .*; write the file again"):
        read_parquet(path, pa.schema({"a": pa.int64()}))


def test_a_flipped_bit_is_an_error_or_loses_no_row(tmp_path: Path) -> None:
    # Without checksums a flipped bit of a number is another number; but rows must not vanish, nor the process.
    path = write_parquet(tmp_path / "x.parquet", {"a": list(range(30)), "s": ["x"] * 30}, store_schema=False)
    whole = Path(path).read_bytes()
    failed = 0

    for bit in range(0, 8 * len(whole), 3):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        Path(path).write_bytes(damaged)
        try:
            chunks = read_parquet(path, pa.schema({"a": pa.int64(), "s": pa.string()}))
            assert sum(chunk.rows + len(chunk.unread) for chunk in chunks) == 30
        except CorpusError:
            failed += 1
    assert failed > 100


def test_an_error_of_the_file_system_is_not_taken_for_damage(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", {"a": list(range(10))})
    chunks = reader_for("parquet").read(Shard(path, "", 0, ""), pa.schema({"a": pa.int64()}), Wanted(2, 1 << 20))
    next(chunks)

    with pytest.raises(ConnectionError):
        chunks.throw(ConnectionError("lost"))
