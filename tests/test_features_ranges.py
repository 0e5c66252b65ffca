"""Commits of files that were done in ranges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import beamhub.features.table as tables
from beamhub.errors import BeamhubError, ShardsFailedError
from beamhub.features.commit import commit
from beamhub.features.ledger import ShardResult
from beamhub.features.ledger_writer import LedgerWriter
from beamhub.features.paths import VersionPaths
from beamhub.features.reconcile import Limits
from tests.features_job import VERSION, File, compute, run, shards_of, tree, values_of

ALL = Limits(max_dead_fraction=1.0)
B = File("b1", (4, 5))


def values(out: Path) -> list[int]:
    return list(tables.open(str(out)).to_numpy("value"))


def data_files(out: Path) -> set[str]:
    return {name for name in tree(out) if name.endswith(".parquet")}


def noted(paths: VersionPaths, *results: ShardResult) -> None:
    with LedgerWriter(paths) as ledger:
        for result in results:
            ledger.add(result)


def test_overlapping_ranges_are_refused(tmp_path: Path) -> None:
    run(tmp_path, {"a": File("a1", (1, 2, 3, 4), split=2)})
    paths = VersionPaths(str(tmp_path), VERSION)
    middle = replace(shards_of({"a": File("a1", (1, 2, 3, 4))})[0], start=1, end=3)
    result = compute(paths, middle, (2, 3), pending=True)
    with pytest.raises(BeamhubError, match="overlap, so rows would be doubled"):
        commit(paths, [middle], [], lambda _: result, ALL, "run")
    assert values(tmp_path) == [1, 2, 3, 4]


def test_a_range_that_does_not_begin_where_its_neighbour_ends_is_refused(tmp_path: Path) -> None:
    """Either range alone is whole: only beside each other are they seen to lose or double a record."""
    run(tmp_path, {"b": B})
    corpus = {"a": File("a1", (1, 2, 3, 4), split=2), "b": B}
    paths = VersionPaths(str(tmp_path), VERSION)
    first, second = (shard for shard in shards_of(corpus) if shard.relative == "a")
    noted(
        paths,
        replace(compute(paths, first, (1, 2)), begins=0, ends=2),
        replace(compute(paths, second, (4,)), begins=3, ends=4),
    )

    wanted = "a: range 0:2 ends at byte 2, range 2:4 begins at byte 3, so rows would be lost or doubled; nothing was committed"
    with pytest.raises(BeamhubError, match=wanted):
        commit(paths, [first, second], [], None, ALL, "run")
    assert values(tmp_path) == list(B.values)


def test_ranges_behind_one_that_failed_wait_for_it(tmp_path: Path) -> None:
    """Whose the records of a range are is known from the file's start on only, where a format leaves that open."""
    corpus = {"a": File("a1", (1, 2, 3, 4, 5, 6), split=2), "b": B}
    paths = VersionPaths(str(tmp_path), VERSION)
    shards = shards_of(corpus)
    for shard in shards:
        if shard.start != 2:
            result = compute(paths, shard, values_of(corpus, shard))
            noted(paths, result if shard.relative == "b" else replace(result, begins=shard.start, ends=shard.end))

    with pytest.raises(ShardsFailedError, match=r"3 shards failed.*: a \[2:4\]: it was never finished;"):
        commit(paths, shards, [], None, Limits(1.0, None, 1), "run")
    commit(paths, shards, [], None, Limits(1.0, None, 3), "run")
    assert values(tmp_path) == list(B.values)


def test_ranges_of_two_states_of_a_file_are_refused(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    first, second = shards_of({"a": File("a1", (1, 2, 3, 4), split=2)})
    second = replace(second, token="a2")
    noted(paths, compute(paths, first, (1, 2)), compute(paths, second, (3, 4)))

    with pytest.raises(BeamhubError, match="a: shards of one file with different tokens; plan again"):
        commit(paths, [first, second], [], None, ALL, "run")


def test_a_file_that_was_done_again_whole_replaces_its_ranges(tmp_path: Path) -> None:
    run(tmp_path, {"a": File("a1", (1, 2, 3, 4), split=2), "b": B})
    run(tmp_path, {"a": File("a1", (1, 2, 3, 4)), "b": B})
    assert values(tmp_path) == [1, 2, 3, 4, *B.values]
    assert len(data_files(tmp_path)) == 2
