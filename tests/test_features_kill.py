"""SIGKILL at every named point of a run, and then the run again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import beamhub.features.table as tables
from beamhub.features.checksums import checksum_of
from beamhub.features.manifest import Manifest
from beamhub.features.paths import VersionPaths
from beamhub.features.steps import listening
from tests.features_job import VERSION, File, run, save, tree

BEFORE = {
    "dt=1/same": File("s1", (1, 2)),
    "dt=1/changed": File("c1", (3, 4, -5, 6), split=2),
    "dt=2/deleted": File("d1", (7,)),
}
AFTER = {
    "dt=1/same": File("s1", (1, 2)),
    "dt=1/changed": File("c2", (30, -40), split=2),
    "dt=3/added": File("a1", (8, 9)),
}


def points_of(out: Path) -> list[str]:
    """NAME:COUNT of every point that the second run passes."""
    run(out, BEFORE)
    seen: Counter[str] = Counter()
    found: list[str] = []

    def note(name: str) -> None:
        seen[name] += 1
        found.append(f"{name}:{seen[name]}")

    with listening(note):
        run(out, AFTER)
    return found


def check_whole(out: Path) -> None:
    """Every file that the manifest lists is there, with the checksum that it says."""
    paths = VersionPaths(str(out), VERSION)
    manifest = Manifest.load(paths)
    assert manifest is not None
    for entry in manifest.entries.to_pylist():
        with open(paths.path(entry["file"]), "rb") as file:
            assert checksum_of(file) == (entry["bytes"], entry["checksum"])


def kill_at(point: str, out: Path, corpus: Path) -> int:
    command = [sys.executable, "-m", "tests.features_job", str(out), str(corpus)]
    return subprocess.run(command, env={**os.environ, "BEAMHUB_KILL_AT": point}, check=False).returncode


def test_every_kind_of_step_is_a_point(tmp_path: Path) -> None:
    names = {point.split(":")[0] for point in points_of(tmp_path)}
    assert names == {
        *("read parts", "dead", "data", "ledger"),
        *("part", "intent", "publish", "root", "current", "delete", "old generations", "end of intent"),
    }


def test_killed_anywhere_and_run_again_equals_an_undisturbed_run(tmp_path: Path) -> None:
    points = points_of(tmp_path / "undisturbed")
    wanted = tree(tmp_path / "undisturbed")
    run(tmp_path / "base", BEFORE)
    old_rows = list(tables.open(str(tmp_path / "base")).to_numpy("value"))
    new_rows = list(tables.open(str(tmp_path / "undisturbed")).to_numpy("value"))
    corpus = save(AFTER, tmp_path / "corpus.json")
    for number, point in enumerate(points):
        out = tmp_path / f"killed-{number}"
        shutil.copytree(tmp_path / "base", out)
        assert kill_at(point, out, corpus) == -signal.SIGKILL, point
        check_whole(out)
        is_past = points.index("root:1") < number
        assert list(tables.open(str(out)).to_numpy("value")) == (new_rows if is_past else old_rows), point
        run(out, AFTER)
        assert tree(out) == wanted, point


def test_killed_at_two_points_in_a_row(tmp_path: Path) -> None:
    points_of(tmp_path / "undisturbed")
    out = tmp_path / "killed"
    run(out, BEFORE)
    corpus = save(AFTER, tmp_path / "corpus.json")
    assert kill_at("publish:1", out, corpus) == -signal.SIGKILL
    assert kill_at("delete:2", out, corpus) == -signal.SIGKILL
    check_whole(out)
    run(out, AFTER)
    assert tree(out) == tree(tmp_path / "undisturbed")


@pytest.mark.parametrize("point", ["part:1", "intent:1", "root:1", "current:1", "end of intent:1"])
def test_first_commit_killed(tmp_path: Path, point: str) -> None:
    run(tmp_path / "undisturbed", BEFORE)
    out = tmp_path / "killed"
    assert kill_at(point, out, save(BEFORE, tmp_path / "corpus.json")) == -signal.SIGKILL
    run(out, BEFORE)
    assert tree(out) == tree(tmp_path / "undisturbed")
