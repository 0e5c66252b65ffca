from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import beamhub.features.table as tables
from beamhub import storage
from beamhub.corpus.shards import Shard
from beamhub.errors import BeamhubError, DeadLetterLimitError, ShardsFailedError
from beamhub.features.commit import commit
from beamhub.features.ledger import ShardResult
from beamhub.features.ledger_writer import LedgerWriter
from beamhub.features.manifest import Manifest
from beamhub.features.paths import VersionPaths
from beamhub.features.reconcile import Limits
from beamhub.features.roots import generations
from beamhub.features.state import VersionState
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
A = File("a1", (1, 2, 3))
B = File("b1", (4, 5))


def values(out: Path) -> list[int]:
    return list(tables.open(str(out)).to_numpy("value"))


def data_files(out: Path) -> set[str]:
    return {name for name in tree(out) if name.endswith(".parquet")}


def work(out: Path, corpus: Corpus) -> VersionPaths:
    """Computes and notes every shard that is not there, without a commit."""
    paths = VersionPaths(str(out), VERSION)
    state = VersionState.load(paths)
    with LedgerWriter(paths) as ledger:
        for shard in shards_of(corpus):
            if state.done(shard) is None:
                ledger.add(compute(paths, shard, values_of(corpus, shard), state.waits(shard)))
    return paths


def test_first_commit_makes_the_rows_readable(tmp_path: Path) -> None:
    outcome = run(tmp_path, {"a": A, "b": B})
    assert (outcome.generation, outcome.committed, outcome.totals.rows, outcome.removed) == (1, True, 5, 0)
    assert values(tmp_path) == [1, 2, 3, 4, 5]


def test_second_run_does_nothing(tmp_path: Path) -> None:
    run(tmp_path, {"a": A, "b": B})
    before = tree(tmp_path)
    outcome = run(tmp_path, {"a": A, "b": B})
    assert (outcome.generation, outcome.committed, outcome.totals.rows) == (1, False, 5)
    assert tree(tmp_path) == before


def test_changed_added_and_deleted_files_in_one_commit(tmp_path: Path) -> None:
    run(tmp_path, {"a": A, "b": B})
    corpus = {"b": File("b2", (40,)), "c": File("c1", (6,))}
    outcome = run(tmp_path, corpus)
    assert (outcome.generation, outcome.added.shards, outcome.removed) == (2, 2, 2)
    assert values(tmp_path) == [40, 6]
    assert len(data_files(tmp_path)) == 2
    assert not [name for name in tree(tmp_path) if "/pending/" in name or "/ledger/" in name or "/intents/" in name]


def test_replacement_waits_and_the_committed_file_stays_until_the_commit(tmp_path: Path) -> None:
    run(tmp_path, {"a": A})
    committed = data_files(tmp_path)
    paths = work(tmp_path, {"a": File("a2", (7,))})
    assert data_files(tmp_path) == committed
    assert values(tmp_path) == [1, 2, 3]
    finish(paths, {"a": File("a2", (7,))}, ALL)
    assert data_files(tmp_path).isdisjoint(committed)
    assert values(tmp_path) == [7]


def test_unchanged_partitions_keep_their_manifest_part(tmp_path: Path) -> None:
    corpus = {"dt=1/a": A, "dt=2/b": B}
    run(tmp_path, corpus)
    paths = VersionPaths(str(tmp_path), VERSION)
    before = Manifest.load(paths)
    run(tmp_path, corpus | {"dt=2/b": File("b2", (9,))})
    after = Manifest.load(paths)
    assert before is not None
    assert after is not None
    assert len(set(before.root.parts) & set(after.root.parts)) == 1
    assert len(after.root.parts) == 2


def test_the_last_two_generations_stay(tmp_path: Path) -> None:
    for n in range(1, 5):
        run(tmp_path, {"a": File(f"a{n}", (n,))})
    paths = VersionPaths(str(tmp_path), VERSION)
    assert generations(paths) == [3, 4]
    assert len([name for name in tree(tmp_path) if "/manifest/" in name and name.endswith(".arrow")]) == 2


def test_fewer_ranges_replace_all_old_ones(tmp_path: Path) -> None:
    run(tmp_path, {"a": File("a1", (1, 2, 3, 4), split=2)})
    assert values(tmp_path) == [1, 2, 3, 4]
    run(tmp_path, {"a": File("a2", (8, 9), split=2)})
    assert values(tmp_path) == [8, 9]
    assert len(data_files(tmp_path)) == 1


def failed(paths: VersionPaths, shard: Shard) -> None:
    with LedgerWriter(paths) as ledger:
        ledger.add(ShardResult.not_done(shard, "failed", "disk on fire"))


def test_failed_shard_stops_the_commit_and_keeps_what_is_finished(tmp_path: Path) -> None:
    paths = work(tmp_path, {"a": A})
    failed(paths, shards_of({"b": B})[0])
    with pytest.raises(ShardsFailedError, match=r"1 shards failed, 0 allowed.*b: disk on fire"):
        finish(paths, {"a": A, "b": B}, ALL)
    assert Manifest.load(paths) is None
    assert VersionState.load(paths).standing(shards_of({"b": B})[0]) == "failed"
    assert VersionState.load(paths).done(shards_of({"a": A})[0]) is not None


def test_allowed_failures_are_holes_until_they_are_done(tmp_path: Path) -> None:
    corpus = {"a": A, "b": B}
    paths = work(tmp_path, {"a": A})
    failed(paths, shards_of({"b": B})[0])
    allowed = replace(ALL, allow_failed=1)
    outcome = finish(paths, corpus, allowed)
    assert [(hole.relative, hole.reason) for hole in outcome.holes] == [("b", "disk on fire")]
    assert finish(paths, corpus, allowed).committed is False
    assert run(tmp_path, corpus).holes == ()
    assert values(tmp_path) == [1, 2, 3, 4, 5]


def test_file_with_a_failed_range_keeps_its_old_rows(tmp_path: Path) -> None:
    run(tmp_path, {"a": File("a1", (1, 2, 3, 4), split=2), "b": B})
    corpus = {"a": File("a2", (10, 20, 30, 40), split=2), "b": File("b2", (50,))}
    first, second = shards_of(corpus)[:2]
    paths = VersionPaths(str(tmp_path), VERSION)
    with LedgerWriter(paths) as ledger:
        ledger.add(compute(paths, first, (10, 20), pending=True))
        ledger.add(compute(paths, shards_of(corpus)[2], (50,), pending=True))
    failed(paths, second)
    outcome = finish(paths, corpus, replace(ALL, allow_failed=1))
    assert [hole.shard for hole in outcome.holes] == [second.id]
    assert values(tmp_path) == [1, 2, 3, 4, 50]
    assert VersionState.load(paths).done(first) is not None
    run(tmp_path, corpus)
    assert values(tmp_path) == [10, 20, 30, 40, 50]


def test_range_that_failed_at_first_joins_its_siblings_later(tmp_path: Path) -> None:
    corpus = {"a": File("a1", (1, 2, 3, 4), split=2)}
    paths = VersionPaths(str(tmp_path), VERSION)
    with LedgerWriter(paths) as ledger:
        ledger.add(compute(paths, shards_of(corpus)[1], (3, 4)))
    finish(paths, corpus, replace(ALL, allow_failed=1))
    assert values(tmp_path) == [3, 4]
    run(tmp_path, corpus)
    assert values(tmp_path) == [1, 2, 3, 4]


@pytest.mark.parametrize("limits", [Limits(max_dead_fraction=0.49), Limits(1.0, max_dead_rows=1)])
def test_over_the_dead_letter_limit_nothing_is_committed(tmp_path: Path, limits: Limits) -> None:
    run(tmp_path, {"a": A})
    before = Manifest.load(VersionPaths(str(tmp_path), VERSION))
    paths = work(tmp_path, {"a": A, "b": File("b1", (-1, -2, 3, 4))})
    with pytest.raises(DeadLetterLimitError, match=r"2 of 4 records \(50.00%\).*/dead"):
        finish(paths, {"a": A, "b": File("b1", (-1, -2, 3, 4))}, limits)
    after = Manifest.load(paths)
    assert before is not None
    assert after is not None
    assert after.root == before.root
    assert values(tmp_path) == [1, 2, 3]


def test_counts_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    shard = shards_of({"a": A})[0]
    wrong = replace(compute(paths, shard, A.values), read=4)
    with pytest.raises(BeamhubError, match="read 4 records, but 3 produced"):
        commit(paths, [shard], [], lambda _: wrong, ALL, "run")
    assert Manifest.load(paths) is None


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    shard = shards_of({"a": A})[0]
    result = compute(paths, shard, A.values)
    file = Path(paths.data_file(shard, "parquet"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BeamhubError, match=f"has {result.bytes - 1} bytes, the ledger says {result.bytes}"):
        commit(paths, [shard], [], lambda _: result, ALL, "run")


def test_lost_dead_letters_are_refused(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    shard = shards_of({"a": File("a1", (1, -1))})[0]
    result = compute(paths, shard, (1, -1))
    storage.delete([paths.dead_file(shard)])
    with pytest.raises(BeamhubError, match="its 1 dead letters are not in"):
        commit(paths, [shard], [], lambda _: result, ALL, "run")


def test_committed_file_is_not_overwritten_by_other_bytes(tmp_path: Path) -> None:
    run(tmp_path, {"a": A})
    paths = VersionPaths(str(tmp_path), VERSION)
    shard = shards_of({"a": A})[0]
    other = compute(paths, shard, (1, 2, 4), pending=True)
    with pytest.raises(BeamhubError, match="may not overwrite"):
        commit(paths, [shard], [], lambda _: other, ALL, "run")
    assert values(tmp_path) == [1, 2, 3]


def test_lost_file_of_the_table_is_computed_again(tmp_path: Path) -> None:
    run(tmp_path, {"a": A, "b": B})
    before = data_files(tmp_path)
    (tmp_path / sorted(before)[0]).unlink()
    run(tmp_path, {"a": A, "b": B})
    assert data_files(tmp_path) == before
    assert values(tmp_path) == [1, 2, 3, 4, 5]


def test_files_of_superseded_attempts_go_with_the_commit(tmp_path: Path) -> None:
    work(tmp_path, {"a": A, "gone": B})
    run(tmp_path, {"a": File("a2", (7, -7), split=0)})
    assert values(tmp_path) == [7]
    assert len(data_files(tmp_path)) == 1
    run(tmp_path, {"a": File("a3", (8,))})
    assert not [name for name in tree(tmp_path) if "/dead/" in name]


def test_ranges_that_were_finished_for_an_older_file_go_with_the_commit(tmp_path: Path) -> None:
    work(tmp_path, {"a": File("a1", (1, 2, 3, 4), split=2)})
    run(tmp_path, {"a": File("a2", (5, 6, 7, 8, 9, 10), split=3)})
    assert values(tmp_path) == [5, 6, 7, 8, 9, 10]
    assert len(data_files(tmp_path)) == 2


def test_totals_count_parts_of_the_manifest_that_stay_as_they_are(tmp_path: Path) -> None:
    corpus = {f"dt={n}/a": File(f"a{n}", (n,)) for n in range(20)}
    run(tmp_path, corpus)
    outcome = run(tmp_path, {**corpus, "dt=3/a": File("new", (30, 31))})
    assert (outcome.totals.shards, outcome.totals.rows, outcome.added.rows) == (20, 21, 2)


def test_unnoted_file_of_deleted_input_goes_with_the_commit(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    compute(paths, shards_of({"deleted": B})[0], B.values)
    run(tmp_path, {"a": A})
    assert len(data_files(tmp_path)) == 1
    assert values(tmp_path) == [1, 2, 3]


def test_current_version_is_written_by_the_first_commit_only(tmp_path: Path) -> None:
    run(tmp_path, {"a": A})
    Path(tmp_path, "_beamhub/current.json").write_text('{"version": "promoted"}')
    run(tmp_path, {"a": A, "b": B})
    assert tables.current_version(str(tmp_path)) == "promoted"


def test_all_input_gone_leaves_an_empty_table(tmp_path: Path) -> None:
    run(tmp_path, {"a": A})
    outcome = run(tmp_path, {})
    assert (outcome.totals.rows, outcome.removed) == (0, 1)
    assert tables.open(str(tmp_path)).rows == 0
    assert data_files(tmp_path) == set()


def test_result_of_another_token_does_not_count(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    old = compute(paths, shards_of({"a": A})[0], A.values)
    present = shards_of({"a": File("a2", (7,))})[0]
    with pytest.raises(ShardsFailedError, match="never finished"):
        commit(paths, [present], [], lambda _: old, ALL, "run")


def test_rows_in_corpus_order(tmp_path: Path) -> None:
    corpus = {"z/b": File("1", (1, 2, 3), split=1), "a/c": B, "dt=1/q": A}
    run(tmp_path, corpus)
    assert values(tmp_path) == rows_of(corpus) == [4, 5, 1, 2, 3, 1, 2, 3]
