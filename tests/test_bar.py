"""What a run shows on a terminal, and that it shows nothing anywhere else. Each run is a process with a pseudo-terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import beamhub as library
from beamhub.engine.planning import read_specs
from beamhub.engine.worklist import last_run
from beamhub.features.ledger import Ledger
from beamhub.features.paths import VersionPaths
from benchmarks.terminal import Drawn, Terminal
from tests.jobs import RUNNER, refused, succeed
from tests.small import save

ROWS = {"a": 256, "b": 96, "c": 96}
DEALT = (RUNNER, "--direct_running_mode=multi_processing", "--direct_num_workers=2")
THREADS = (RUNNER, "--direct_running_mode=multi_threading", "--direct_num_workers=2")


def slow(x: tf.Tensor) -> dict[str, tf.Tensor]:
    """Gives `x` back, after some milliseconds for each record."""
    eye = tf.eye(256)
    steps = 120 * tf.shape(x)[0]
    _, product = tf.while_loop(lambda i, m: i < steps, lambda i, m: (i + 1, tf.linalg.matmul(m, eye)), [0, eye])
    return {"y": x * product[0, 0]}


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("module") / "m", slow, tf.TensorSpec((None,), tf.float32, "x"))


@pytest.fixture
def job(tmp_path: Path, module: str) -> list[str]:
    """The flags of a job of three files, the first with more rows than the others have; all that is measured is given."""
    (tmp_path / "c").mkdir()
    for name, rows in ROWS.items():
        write_file(tmp_path, name, rows)
    corpus = ["--module", module, "--corpus", f"{tmp_path}/c/*.parquet", "--out", f"{tmp_path}/out"]
    return [*corpus, "--batch-size=8", "--variables=plain"]


def write_file(tmp_path: Path, name: str, rows: int) -> None:
    pq.write_table(pa.table({"x": pa.array(range(rows), pa.float32())}), tmp_path / "c" / f"{name}.parquet")


def terminal(job: list[str], *flags: str, columns: int = 120, **environment: str) -> Terminal:
    """Without flags the job runs without Beam."""
    command = [sys.executable, "-m", "beamhub", "extract", *job, *flags]
    return Terminal(command, {**os.environ, **environment}, columns)


def ended(shown: Terminal) -> tuple[list[Drawn], str, int]:
    """All states of the bar, standard output, and the status."""
    states = list(shown.drawn())
    out, _ = shown.process.communicate()
    return states, out, shown.process.returncode


def left_behind(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "out").rglob("progress/*") if path.is_file()]


@pytest.mark.parametrize("flags", [(), (RUNNER,), DEALT, THREADS])
def test_the_bar_follows_the_run(job: list[str], tmp_path: Path, flags: tuple[str, ...]) -> None:
    with terminal(job, *flags) as shown:
        states, out, status = ended(shown)

    assert status == 0, shown.raw
    rows = [state.rows for state in states]
    assert rows == sorted(rows)
    assert rows[-1] == sum(ROWS.values())
    assert any(0 < row < sum(ROWS.values()) for row in rows)
    assert {state.of for state in states} == {3}
    assert list(dict.fromkeys(state.phase for state in states)) == ["starting", "computing", "committing"]
    assert (states[-1].percent, states[-1].shards, states[-1].eta) == (100, 3, None)
    # In the middle of the run there is a rate, and so a time left.
    assert any(state.rate and state.eta is not None for state in states if state.phase == "computing")
    assert out.startswith("extract: version ")
    assert shown.raw.count("\x1b[?25h") >= shown.raw.count("\x1b[?25l") == 1
    assert shown.raw.endswith("\x1b[2K"), "the line is erased"
    assert left_behind(tmp_path) == []


def test_the_percentage_is_of_bytes(job: list[str], tmp_path: Path) -> None:
    """Of the four times as wide file, half of the rows are as many bytes as the others have in all."""
    sizes = {path.stem: path.stat().st_size for path in (tmp_path / "c").iterdir()}
    with terminal(job) as shown:
        states, _, _ = ended(shown)

    for state in states:
        behind = sizes["a"] * min(1.0, state.rows / ROWS["a"])
        behind += sizes["b"] * min(1.0, max(0, state.rows - ROWS["a"]) / ROWS["b"])
        behind += sizes["c"] * max(0, state.rows - ROWS["a"] - ROWS["b"]) / ROWS["c"]
        assert state.percent == pytest.approx(100 * behind / sum(sizes.values()), abs=0.6)


def test_a_resumed_run_counts_what_is_to_do(job: list[str], tmp_path: Path) -> None:
    succeed("extract", *job)
    write_file(tmp_path, "d", 160)

    with terminal(job) as shown:
        states, out, status = ended(shown)

    assert (status, states[-1].rows, states[-1].of) == (0, 160, 1), shown.raw
    assert "1 committed in this run, 4 in the table" in out


def test_failed_shards_end_the_bar_too(job: list[str], tmp_path: Path) -> None:
    """What fails is behind us: the bar reaches its end, and the status is what it was without one."""
    (tmp_path / "c" / "d.parquet").write_bytes(b"PAR1 no more PAR1")

    with terminal(job) as shown:
        states, out, status = ended(shown)

    assert (status, out) == (4, "")
    assert (states[-1].phase, states[-1].percent, states[-1].shards) == ("committing", 100, 4)
    assert "1 shards failed" in shown.raw.rpartition("\x1b[2K")[2]


@pytest.mark.parametrize("flags", [(), (RUNNER,)])
def test_interrupted(job: list[str], tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Ctrl-C in the middle: the line is erased, the cursor is there, and our own line follows."""
    write_file(tmp_path, "a", 20_000)
    with terminal(job, *flags) as shown:
        next(state for state in shown.drawn() if state.phase == "computing")
        shown.process.send_signal(signal.SIGINT)
        _, out, status = ended(shown)

    before, _, after = shown.raw.rpartition("\x1b[2K")
    # Beam, where the signal finds it at work, raises an error of its own.
    assert (status in (1, 130), out, after.count("\n")) == (True, "", 1), after
    assert after.startswith("beamhub: ")
    assert after.endswith("run again to go on\r\n")
    assert before.rindex("\x1b[?25h") > before.rindex("\x1b[?25l")


def test_a_killed_run_leaves_the_cursor(job: list[str], tmp_path: Path) -> None:
    write_file(tmp_path, "a", 20_000)
    with terminal(job) as shown:
        next(shown.drawn())
        shown.process.kill()
        ended(shown)

    assert shown.raw.rindex("\x1b[?25h") > shown.raw.rindex("\x1b[?25l")


def test_the_terminal_goes_away(job: list[str], tmp_path: Path) -> None:
    """Nobody looks any more, and the run goes on to its end."""
    with terminal(job) as shown:
        next(state for state in shown.drawn() if state.phase == "computing")
        shown.hang_up()
        out, _ = shown.process.communicate()

    assert (shown.process.returncode, out.split()[0]) == (0, "extract:")
    assert library.open(str(tmp_path / "out")).rows == sum(ROWS.values())
    assert left_behind(tmp_path) == []


def test_a_terminal_that_cannot_draw(job: list[str]) -> None:
    with terminal(job, TERM="dumb") as shown:
        _, out, status = ended(shown)

    assert (status, out.split()[0], shown.raw) == (0, "extract:", "")


def test_one_line_without_colours_on_a_narrow_terminal(job: list[str]) -> None:
    """What does not fit is cut: a second line would stay behind when the first is drawn again."""
    with terminal(job, columns=40, NO_COLOR="1") as shown:
        _, _, status = ended(shown)

    drawn = re.split(r"\r\x1b\[2K", shown.raw.partition("\x1b[?25h")[2])
    texts = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", each) for each in drawn]
    assert status == 0
    assert any(re.match(r"com\S+ \d+% \d+ rows", text) for text in texts), shown.raw
    assert max(len(text.rstrip("\r\n")) for text in texts) <= 40
    assert re.findall(r"\x1b\[[0-9;]*m", shown.raw.replace("\x1b[0m", "")) == []


def test_no_terminal_no_bar(job: list[str], tmp_path: Path) -> None:
    """Nothing is drawn, even where colours are forced upon a log, nothing is reported, and what draws is not imported."""
    line = ["extract", *job, RUNNER]
    code = f"import sys; from beamhub.cli import main; main({line!r}); print('rich.progress' in sys.modules)"
    environment = {**os.environ, "FORCE_COLOR": "1"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)

    assert ran.stderr == ""
    assert ran.stdout.splitlines()[-1] == "False"
    assert list((tmp_path / "out").rglob("progress")) == []


def test_shards_are_dealt_out_as_the_eta_takes_them(job: list[str], tmp_path: Path) -> None:
    """Each worker leaves a ledger file, for it is done soon; a failed shard keeps them from being committed away."""
    quick = save(tmp_path / "m", lambda x: {"y": 2 * x}, tf.TensorSpec((None,), tf.float32, "x"))
    for name, rows in {"d": 320, "e": 640}.items():
        write_file(tmp_path, name, rows)
    (tmp_path / "c" / "f.parquet").write_bytes(b"PAR1 no more PAR1")
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "c").iterdir()}
    worklist = sorted(sizes, key=lambda name: (-sizes[name], name))

    assert "1 shards failed" in refused(4, "extract", "--module", quick, *job[2:], *DEALT)

    (version,) = read_specs(str(tmp_path / "out"))
    folder = Path(VersionPaths(str(tmp_path / "out"), version).ledger)
    found = [{each.relative for each in Ledger.read([str(path)]).results()} for path in folder.iterdir()]
    assert sorted(found, key=min) == sorted([set(worklist[0::2]), set(worklist[1::2])], key=min)


def test_readers_do_not_mind_a_report_that_was_left(job: list[str], tmp_path: Path) -> None:
    """As by a launcher that was killed."""
    succeed("extract", *job)
    (version,) = read_specs(str(tmp_path / "out"))
    paths = VersionPaths(str(tmp_path / "out"), version)
    report = Path(paths.runs, last_run(paths), "progress", "0123.json")
    report.parent.mkdir()
    report.write_text('{"first": "", "rows": 1}')

    total = sum(ROWS.values())
    assert len(pd.read_parquet(paths.root)) == total
    assert duckdb.sql(f"SELECT count(*) FROM read_parquet('{paths.root}/**/*.parquet')").fetchall() == [(total,)]
    assert library.open(paths.out).rows == total
    assert succeed("extract", *job).startswith("nothing to do")
    assert "3 done" in succeed("status", paths.out)
