"""A job that is killed and run again, a job that has nothing to do, and a corpus that changes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import beamhub as library
from beamhub.features.paths import VersionPaths
from tests.jobs import beamhub, start, succeed, tensor_column

WIDTH = 16


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A module that multiplies vectors of 16 by a matrix, some times over, so that a shard takes a while."""
    saved = tf.Module()
    saved.weights = tf.Variable(np.random.default_rng(0).normal(size=(WIDTH, 8)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, WIDTH), tf.float32, name="x")])
    def embed(x: tf.Tensor) -> dict[str, tf.Tensor]:
        slow = tf.while_loop(lambda i, _: i < 200, lambda i, y: (i + 1, tf.tanh(y) + 0.1 * y), (0, x))[1]
        return {"default": slow @ saved.weights}

    path = str(tmp_path_factory.mktemp("module"))
    tf.saved_model.save(saved, path, signatures={"serving_default": embed})
    return path


def write_shard(path: Path, seed: int, rows: int = 300) -> None:
    values = np.random.default_rng(seed).normal(size=(rows, WIDTH)).astype(np.float32)
    keys = [f"{seed}-{row}" for row in range(rows)]
    pq.write_table(pa.table({"id": keys, "x": tensor_column(values)}), path)


def write_corpus(folder: Path, shards: int, rows: int = 300) -> None:
    folder.mkdir()
    for seed in range(shards):
        write_shard(folder / f"part-{seed:05d}.parquet", seed, rows)


def flags(module: str, corpus: Path, out: Path) -> list[object]:
    return ["--module", module, "--corpus", f"{corpus}/*.parquet", "--out", out, "--key=id", "--batch-size=32"]


def data_files(out: Path) -> dict[str, str]:
    """Every data file below a table, with its digest."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in out.rglob("*.parquet")
    }


@pytest.mark.parametrize(("runner", "workers"), [(False, 1), (True, 1), (True, 3)])
def test_sigkill_half_way_and_run_again(module: str, runner: bool, workers: int, tmp_path: Path) -> None:
    """Given a job killed when some of its 40 shards are done, when it is run again (with another number of workers), then
    the finished files are left alone, and all files equal those of an undisturbed run byte for byte."""
    write_corpus(tmp_path / "corpus", 40)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    succeed("embed", *flags(module, tmp_path / "corpus", undisturbed))
    process = start("embed", *flags(module, tmp_path / "corpus", killed), runner=runner)
    while len(data_files(killed)) < 10:
        assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()
    finished = {path: path.stat().st_mtime_ns for path in killed.rglob("*.parquet")}
    assert 10 <= len(finished) < 40
    assert not list(killed.rglob("gen-*.json"))

    several = [f"--direct_num_workers={workers}", "--direct_running_mode=multi_threading"] if workers > 1 else []
    succeed("embed", *flags(module, tmp_path / "corpus", killed), *several, runner=runner)

    assert data_files(killed) == data_files(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    papers = max(killed.rglob("run.json"), key=lambda path: path.parent.name)
    assert json.loads(papers.read_text())["shards"] == 40 - len(finished)
    assert library.open(str(killed)).rows == 40 * 300


def test_multi_processing_gives_the_same_bytes(module: str, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 6)
    succeed("embed", *flags(module, tmp_path / "corpus", tmp_path / "one"))

    succeed(
        "embed", *flags(module, tmp_path / "corpus", tmp_path / "two"), "--direct_running_mode=multi_processing",
        "--direct_num_workers=2",
    )  # fmt: skip

    assert data_files(tmp_path / "two") == data_files(tmp_path / "one")


def test_nothing_to_do_is_found_without_tensorflow_and_beam(module: str, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 3)
    line = ["embed", *map(str, flags(module, tmp_path / "corpus", tmp_path / "out"))]
    succeed(*line)
    script = (
        "import sys; from beamhub.cli import main; main(sys.argv[1:]); "
        "print(sorted({'tensorflow', 'apache_beam', 'tfx_bsl'} & set(sys.modules)))"
    )

    again = subprocess.run([sys.executable, "-c", script, *line], capture_output=True, text=True, check=True)

    assert again.stdout.startswith("nothing to do: ")
    assert again.stdout.endswith("\n[]\n")


def test_second_run_does_nothing_and_says_so(module: str, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 3)
    succeed("embed", *flags(module, tmp_path / "corpus", tmp_path / "out"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}

    printed = succeed("embed", *flags(module, tmp_path / "corpus", tmp_path / "out"))

    assert printed.startswith("nothing to do: ")
    assert "all 3 shards" in printed
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


@pytest.mark.long
def test_second_run_over_10000_shards(module: str, tmp_path: Path) -> None:
    """Nothing is computed, whatever the number of shards; that it takes less than 3 s beyond imports is measured by
    benchmarks/replan.py, for a timed test would fail on a busy machine."""
    write_corpus(tmp_path / "corpus", 1, rows=2)
    first = tmp_path / "corpus" / "part-00000.parquet"
    for number in range(1, 10_000):
        os.link(first, tmp_path / "corpus" / f"part-{number:05d}.parquet")
    succeed("embed", *flags(module, tmp_path / "corpus", tmp_path / "out"))
    assert library.open(str(tmp_path / "out")).rows == 20_000

    printed = succeed("embed", *flags(module, tmp_path / "corpus", tmp_path / "out"))

    assert "all 10,000 shards" in printed


class Reader(threading.Thread):
    """Opens the table again and again, and checks that every file of its manifest is there and whole."""

    def __init__(self, out: Path) -> None:
        super().__init__()
        self._out = out
        self._stop_asked = threading.Event()
        self.rounds = 0
        self.problems: list[str] = []
        self.generations: set[int] = set()

    def run(self) -> None:
        while not self._stop_asked.is_set():
            table = library.open(str(self._out))
            entries = table.manifest.ordered
            rows = [self._rows(table, file) for file in table.files]
            # A commit may replace files while this reads those of the generation before: then there is a newer one.
            if library.open(str(self._out)).manifest.generation == table.manifest.generation:
                self.generations.add(table.manifest.generation)
                if rows != entries.column("rows").to_pylist():
                    self.problems.append(f"{rows} rows, the manifest says {entries.column('rows').to_pylist()}")
            self.rounds += 1

    @staticmethod
    def _rows(table: library.FeatureTable, file: str) -> int:
        try:
            return pq.read_table(file).num_rows
        except FileNotFoundError:
            return -1

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()


def test_changed_added_and_deleted_files(module: str, tmp_path: Path) -> None:
    """Given a finished table of four files, when one is changed, one added and one deleted, then only two shards are
    computed, the deleted one's rows leave, and a reader sees whole files at every instant."""
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    write_corpus(corpus, 4)
    succeed("embed", *flags(module, corpus, out))
    version = VersionPaths(str(out), library.open(str(out)).version)
    untouched = {path: path.stat().st_mtime_ns for path in map(Path, library.open(str(out)).files)}
    write_shard(corpus / "part-00001.parquet", 71)
    write_shard(corpus / "part-00004.parquet", 4)
    (corpus / "part-00002.parquet").unlink()
    reader = Reader(out)
    reader.start()

    try:
        summary = succeed("embed", *flags(module, corpus, out))
    finally:
        reader.stop()

    assert "2 committed in this run, 4 in the table" in summary
    keys = library.open(str(out)).to_table(["key"]).column("key").to_pylist()
    assert sorted({key.split("-")[0] for key in keys}) == ["0", "3", "4", "71"]
    assert len(keys) == 4 * 300
    kept = [path for path in untouched if path.exists()]
    assert len(kept) == 2
    assert all(path.stat().st_mtime_ns == untouched[path] for path in kept)
    assert reader.problems == []
    assert reader.rounds > 3
    assert reader.generations == {1, 2}
    # A reader without beamhub sees the same rows.
    assert pq.read_table(version.root).num_rows == 4 * 300


def test_replacements_are_not_seen_before_their_commit(module: str, tmp_path: Path) -> None:
    """Given a changed file, and a broken one so that nothing is committed, then a reader of the folder sees the old rows."""
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    write_corpus(corpus, 2)
    succeed("embed", *flags(module, corpus, out))
    write_shard(corpus / "part-00001.parquet", 71)
    (corpus / "part-00002.parquet").write_bytes(b"PAR1 this is no Parquet file PAR1")

    assert beamhub("embed", *flags(module, corpus, out)).status == 4

    keys = pq.read_table(succeed("path", out).strip()).column("key").to_pylist()
    assert sorted({key.split("-")[0] for key in keys}) == ["0", "1"]
    assert len(keys) == 600
    (corpus / "part-00002.parquet").unlink()
    succeed("embed", *flags(module, corpus, out))
    keys = pq.read_table(succeed("path", out).strip()).column("key").to_pylist()
    assert sorted({key.split("-")[0] for key in keys}) == ["0", "71"]


def test_narrower_glob_removes_nothing(module: str, tmp_path: Path) -> None:
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    write_corpus(corpus, 3)
    succeed("embed", *flags(module, corpus, out))
    arguments = flags(module, corpus, out)
    arguments[3] = f"{corpus}/part-00000*"

    printed = succeed("embed", *arguments)

    assert printed.startswith("nothing to do")
    assert library.open(str(out)).rows == 3 * 300


def test_status_counts_shards(module: str, tmp_path: Path) -> None:
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    write_corpus(corpus, 4)
    succeed("embed", *flags(module, corpus, out))
    write_shard(corpus / "part-00001.parquet", 71)
    write_shard(corpus / "part-00004.parquet", 4)
    (corpus / "part-00002.parquet").unlink()
    (corpus / "part-00005.parquet").write_bytes(b"PAR1 this is no Parquet file PAR1")
    assert beamhub("embed", *flags(module, corpus, out)).status == 4

    found = json.loads(succeed("status", out, "--json"))

    expected = {"done": 4, "uncommitted": 2, "missing": 0, "stale": 0, "failed": 1, "deleted": 1, "generation": 1}
    assert {name: found[name] for name in expected} == expected
    assert found["rows"] == 4 * 300
    assert found["failures"][0][0] == "part-00005.parquet"
    assert re.search(r"4 done \(2 not committed\), 0 missing, 0 stale, 1 failed", succeed("status", out))


def test_path_prints_the_folder_to_read(module: str, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 2)
    succeed("embed", *flags(module, tmp_path / "corpus", tmp_path / "out"))

    folder = succeed("path", tmp_path / "out").strip()

    assert pq.read_table(folder).num_rows == 600
