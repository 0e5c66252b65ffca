"""Data files that are not finished, or were there before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beamhub.errors import BeamhubError
from beamhub.features.parquet_format import ParquetFormat
from beamhub.features.paths import VersionPaths
from beamhub.features.writer import ShardWriter
from tests.shard_rows import SCHEMA, SHARD, batch, path_of, write


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with ShardWriter(ParquetFormat(), VersionPaths(str(tmp_path), "e1"), SHARD, SCHEMA) as writer:
            writer.write(batch(9000))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


FULL_DISK = """
import os, resource, sys
from pathlib import Path
from tests.shard_rows import batch, write

rows = batch(90_000).select(sys.argv[2].split(","))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
before = len(os.listdir("/proc/self/fd"))
try:
    write(Path(sys.argv[1]), rows, schema=rows.schema)
except OSError as error:
    raised = error
print(type(raised).__name__, len(os.listdir("/proc/self/fd")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="open files are counted in /proc")
@pytest.mark.parametrize("columns", ["key,tags", "key,embedding"])
def test_a_full_disk_leaves_nothing_nor_an_open_file(columns: str, tmp_path: Path) -> None:
    """Whether Arrow writes all of the file or not."""
    done = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path, columns], capture_output=True, text=True)

    assert (done.stdout.split(), done.stderr) == (["OSError", "0"], "")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_left_without_close_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    writer = ShardWriter(ParquetFormat(), VersionPaths(str(tmp_path), "e1"), SHARD, SCHEMA)
    with pytest.raises(BeamhubError, match="left without close"), writer:
        writer.write(batch(1))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_first_whole_attempt_stays(tmp_path: Path) -> None:
    first = write(tmp_path, batch(5))
    again = write(tmp_path, batch(6))
    assert again == first
    assert pq.read_metadata(path_of(tmp_path, first)).num_rows == 5


def test_broken_file_in_its_place_is_replaced(tmp_path: Path) -> None:
    first = write(tmp_path, batch(5))
    path_of(tmp_path, first).write_bytes(b"PAR1")
    assert write(tmp_path, batch(5)) == first
    assert pq.read_metadata(path_of(tmp_path, first)).num_rows == 5
