"""A job without flags of Beam's: this process is the one worker."""

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beamhub.features.ledger_writer import LedgerWriter
from beamhub.features.table import open as open_table
from tests.jobs import Ran, beamhub, refused, succeed
from tests.small import identity


@pytest.fixture
def job(tmp_path: Path) -> list[object]:
    """A job over five files, one of them empty; --out is to be added."""
    (tmp_path / "corpus").mkdir()
    for n in range(5):
        values = pa.array(np.arange(7.0 * n, dtype=np.float32))
        pq.write_table(pa.table({"x": values}), tmp_path / "corpus" / f"{n}.parquet")
    return ["--module", identity(tmp_path / "module", (None,)), "--corpus", tmp_path / "corpus" / "*.parquet"]


def alone(*arguments: object) -> Ran:
    return beamhub("extract", *arguments, runner=False)


def rows_of(out: Path) -> pa.Table:
    return open_table(str(out)).to_table()


def counted(printed: str) -> list[str]:
    """The lines of a summary that do not tell of time or place; traces of an earlier job in this process are left out."""
    lines = [line.partition(";")[0] for line in printed.splitlines()]
    return [line for line in lines if line.split(maxsplit=1)[0] in ("shards", "records", "calls", "table")]


def test_it_gives_the_table_and_the_summary_of_a_pipeline(tmp_path: Path, job: list[object]) -> None:
    ran = alone(*job, "--out", tmp_path / "alone")
    piped = succeed("extract", *job, "--out", tmp_path / "piped")

    assert ran.status == 0, ran.err
    assert rows_of(tmp_path / "alone").equals(rows_of(tmp_path / "piped"))
    assert rows_of(tmp_path / "alone").num_rows == 7 * (1 + 2 + 3 + 4)
    assert counted(ran.out) == counted(piped)
    assert len(counted(ran.out)) == 5


def test_beam_is_not_imported(tmp_path: Path, job: list[object]) -> None:
    line = ["extract", *map(str, job), f"--out={tmp_path / 'out'}"]
    script = f"import sys; from beamhub.cli import main; main({line!r}); print('apache_beam' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "False"
    assert rows_of(tmp_path / "out").num_rows == 70


def test_a_shard_that_fails_keeps_no_other_from_being_done(tmp_path: Path, job: list[object]) -> None:
    broken = tmp_path / "corpus" / "2.parquet"
    whole = broken.read_bytes()
    broken.write_bytes(b"PAR1" + bytes(len(whole) - 8) + b"PAR1")

    first = alone(*job, "--out", tmp_path / "out")
    broken.write_bytes(whole)
    second = alone(*job, "--out", tmp_path / "out")

    assert first.status == 4
    assert "2.parquet" in first.err
    assert second.status == 0, second.err
    assert "5 in the table" in second.out
    assert rows_of(tmp_path / "out").num_rows == 70


def test_a_disk_that_is_full_ends_it_with_one_line(
    tmp_path: Path, job: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(writer: LedgerWriter) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(LedgerWriter, "flush", full)
        line = refused(1, "extract", *job, "--out", tmp_path / "out", runner=False)

    assert "No space left on device" in line
    assert "run again to go on" in line
    succeed("extract", *job, "--out", tmp_path / "out", runner=False)
    assert rows_of(tmp_path / "out").num_rows == 70
