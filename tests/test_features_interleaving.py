"""Attempts and commits that run at the same time, in any order of their steps."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import beamhub.features.table as tables
from beamhub.errors import BeamhubError
from beamhub.features.checksums import checksum_of
from beamhub.features.ledger_writer import LedgerWriter
from beamhub.features.manifest import Manifest
from beamhub.features.parquet_format import ParquetFormat
from beamhub.features.paths import VersionPaths
from beamhub.features.reconcile import Limits
from beamhub.features.state import VersionState
from beamhub.features.steps import listening
from tests.features_job import (
    VERSION,
    Corpus,
    File,
    compute,
    finish,
    rows_of,
    run,
    shards_of,
    tree,
    values_of,
)

ALL = Limits(max_dead_fraction=1.0)
FEW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ANY_ORDER = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 25)), max_size=8)
"""Which of two threads goes on, and for how many steps."""


class Turns:
    """Lets exactly one of several threads go on at a time, from step to step, in a given order."""

    def __init__(self, tasks: Sequence[Callable[[], object]]) -> None:
        self.errors: list[Exception | None] = [None] * len(tasks)
        self._running = [threading.Semaphore(0) for _ in tasks]
        self._paused = threading.Semaphore(0)
        self._ended = [False] * len(tasks)
        self._threads = [threading.Thread(target=self._run, args=(n, t)) for n, t in enumerate(tasks)]
        self._numbers = {thread: number for number, thread in enumerate(self._threads)}

    def run(self, order: Sequence[tuple[int, int]]) -> None:
        with listening(self._pause):
            for thread in self._threads:
                thread.start()
            for number, steps in [*order, *((number, 10_000) for number in range(len(self._threads)))]:
                for _ in range(steps):
                    if self._ended[number]:
                        break
                    self._running[number].release()
                    self._paused.acquire()
            for thread in self._threads:
                thread.join()

    def _run(self, number: int, task: Callable[[], object]) -> None:
        self._running[number].acquire()
        try:
            task()
        except (BeamhubError, OSError) as error:
            self.errors[number] = error
        finally:
            self._ended[number] = True
            self._paused.release()

    def _pause(self, name: str) -> None:
        number = self._numbers.get(threading.current_thread())
        if number is not None:
            self._paused.release()
            self._running[number].acquire()


def together(order: Sequence[tuple[int, int]], *tasks: Callable[[], object]) -> list[Exception | None]:
    turns = Turns(tasks)
    turns.run(order)
    return turns.errors


def check_whole(out: Path) -> None:
    """Every file of the manifest is whole, and of its corpus files no other data is in the table's folders."""
    paths = VersionPaths(str(out), VERSION)
    manifest = Manifest.load(paths)
    assert manifest is not None
    for entry in manifest.entries.to_pylist():
        with open(paths.path(entry["file"]), "rb") as file:
            assert checksum_of(file) == (entry["bytes"], entry["checksum"])
    data = {ParquetFormat().recover(str(path)): path.name for path in Path(paths.root).rglob("*.parquet")}
    of_the_table = {
        name for result, name in data.items() if result is not None and result.relative in manifest.relatives
    }
    assert of_the_table == set(manifest.entries.column("file").to_pylist())


def without_ledger(out: Path) -> dict[str, bytes]:
    """All files but what a late worker notes after the commit, which the next commit deletes."""
    return {name: data for name, data in tree(out).items() if "/ledger/" not in name}


def prepared(out: Path, corpus: Corpus) -> VersionPaths:
    """All shards computed and noted, nothing committed."""
    paths = VersionPaths(str(out), VERSION)
    state = VersionState.load(paths)
    with LedgerWriter(paths) as ledger:
        for shard in shards_of(corpus):
            if state.done(shard) is None:
                ledger.add(compute(paths, shard, values_of(corpus, shard), state.waits(shard)))
    return paths


OLD = {"a": File("a1", (1, 2)), "b": File("b1", (3,)), "c": File("c1", (4, -4))}
NEW = {"a": File("a2", (10,)), "b": File("b1", (3,)), "d": File("d1", (5,))}
OTHER = {"a": File("a1", (1, 2)), "b": File("b2", (30,)), "c": File("c1", (4, -4)), "e": File("e1", (6,))}


@FEW
@given(order=ANY_ORDER)
def test_two_attempts_of_one_shard_leave_one_whole_file(order: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        corpus = {"a": File("a1", (1, 2, -3))}
        out, undisturbed = Path(folder, "out"), Path(folder, "undisturbed")
        run(undisturbed, corpus)
        errors = together(order, lambda: run(out, corpus), lambda: run(out, corpus))
        assert errors == [None, None]
        assert without_ledger(out) == without_ledger(undisturbed)


@FEW
@given(order=ANY_ORDER)
@example(order=[(0, 2), (1, 6)])
@example(order=[(0, 2), (1, 7)])
def test_the_same_commit_twice_at_once_makes_one_generation(order: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out, undisturbed = Path(folder, "out"), Path(folder, "undisturbed")
        run(out, OLD)
        paths = prepared(out, NEW)
        shutil.copytree(out, undisturbed)
        run(undisturbed, NEW)
        errors = together(order, lambda: finish(paths, NEW, ALL), lambda: finish(paths, NEW, ALL))
        assert errors == [None, None]
        assert tree(out) == tree(undisturbed)


@FEW
@given(order=ANY_ORDER)
def test_two_commits_at_once_one_is_refused_or_both_follow_each_other(order: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        run(out, OLD)
        paths = prepared(out, NEW)
        prepared(out, OTHER)
        errors = together(order, lambda: finish(paths, NEW, ALL), lambda: finish(paths, OTHER, ALL))
        assert all(error is None or isinstance(error, BeamhubError) for error in errors)
        assert None in errors
        check_whole(out)
        run(out, OTHER)
        check_whole(out)
        table = tables.open(str(out))
        assert list(table.to_numpy("value")) == rows_of(OTHER)
        run(out, NEW)
        check_whole(out)
        assert list(tables.open(str(out)).to_numpy("value")) == rows_of(NEW)
        assert len([name for name in tree(out) if name.endswith(".parquet")]) == 3


@FEW
@given(order=ANY_ORDER)
def test_late_attempt_does_not_disturb_the_commit(order: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        run(out, OLD)
        paths = prepared(out, NEW)
        shard = shards_of(NEW)[0]
        errors = together(order, lambda: finish(paths, NEW, ALL), lambda: compute(paths, shard, (10,), pending=True))
        assert errors == [None, None]
        check_whole(out)
        run(out, NEW)
        assert list(tables.open(str(out)).to_numpy("value")) == rows_of(NEW)


def steps_of(task: Callable[[], object]) -> list[str]:
    seen: list[str] = []
    with listening(seen.append):
        task()
    return seen


def test_commit_that_sleeps_at_any_step_while_others_go_on(tmp_path: Path) -> None:
    """When it wakes up, its files were published, replaced again, and are being made for a third time."""
    base, undisturbed = tmp_path / "base", tmp_path / "undisturbed"
    run(base, OLD)
    prepared(base, NEW)
    shutil.copytree(base, undisturbed)
    total = steps_of(lambda: commit_new(undisturbed))
    for steps in range(1, len(total) + 1):
        out = tmp_path / str(steps)
        shutil.copytree(base, out)
        sleeper, others = together([(0, steps), (1, 10_000)], lambda o=out: commit_new(o), lambda o=out: go_on(o))
        assert others is None, steps
        assert sleeper is None or isinstance(sleeper, BeamhubError), steps
        check_whole(out)
        run(out, NEW)
        check_whole(out)
        assert list(tables.open(str(out)).to_numpy("value")) == rows_of(NEW)


def commit_new(out: Path) -> None:
    finish(VersionPaths(str(out), VERSION), NEW, ALL)


def go_on(out: Path) -> None:
    run(out, NEW)
    run(out, OLD)
    prepared(out, NEW)


@pytest.mark.parametrize("point", ["read parts", "intent"])
def test_two_commits_that_both_sleep(tmp_path: Path, point: str) -> None:
    """The first sleeps at `point`, the second one step further on each time; the loser has changed nothing."""
    base, undisturbed = tmp_path / "base", tmp_path / "undisturbed"
    run(base, OLD)
    prepared(base, NEW)
    prepared(base, OTHER)
    shutil.copytree(base, undisturbed)
    until_point = steps_of(lambda: commit_new(undisturbed)).index(point) + 1
    refused: list[str] = []
    for steps in range(1, 20):
        out = tmp_path / str(steps)
        shutil.copytree(base, out)
        order = [(0, until_point), (1, steps), (0, 10_000)]
        errors = together(order, lambda o=out: commit_new(o), lambda o=out: commit_other(o))
        assert None in errors, steps
        assert all(isinstance(error, BeamhubError) for error in errors if error), steps
        check_whole(out)
        refused += [str(error) for error in errors if error]
    assert any("another commit made generation 2 first; this one changed nothing: run again" in e for e in refused)


def commit_other(out: Path) -> None:
    finish(VersionPaths(str(out), VERSION), OTHER, ALL)


def test_commit_that_sleeps_before_it_cleans_up_leaves_the_next_one_alone(tmp_path: Path) -> None:
    more = {**NEW, "z": File("z1", (7,))}
    base, undisturbed = tmp_path / "base", tmp_path / "undisturbed"
    run(base, OLD)
    prepared(base, NEW)
    shutil.copytree(base, undisturbed)
    until_clean_up = steps_of(lambda: commit_new(undisturbed)).index("old generations") + 1
    total = steps_of(lambda: run(undisturbed, more))
    for steps in range(1, len(total) + 8):
        out = tmp_path / str(steps)
        shutil.copytree(base, out)
        order = [(0, until_clean_up), (1, steps), (0, 10_000)]
        errors = together(order, lambda o=out: commit_new(o), lambda o=out: run(o, more))
        assert errors == [None, None], steps
        check_whole(out)
        assert list(tables.open(str(out)).to_numpy("value")) == rows_of(more)


def test_reader_that_sleeps_while_others_commit_sees_the_newest_generation(tmp_path: Path) -> None:
    run(tmp_path, OLD)
    paths = VersionPaths(str(tmp_path), VERSION)
    found: list[Manifest | None] = []

    def others() -> None:
        for corpus in (NEW, OLD, NEW):
            run(tmp_path, corpus)

    errors = together([(0, 1), (1, 10_000)], lambda: found.append(Manifest.load(paths)), others)
    assert errors == [None, None]
    assert found[0] is not None
    assert found[0].generation == 4
