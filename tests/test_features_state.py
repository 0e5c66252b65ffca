from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from beamhub.errors import TableError
from beamhub.features import dead
from beamhub.features.dead import DEAD_SCHEMA, DeadWriter, read_dead
from beamhub.features.ledger import Ledger, ShardResult
from beamhub.features.ledger_writer import LedgerWriter
from beamhub.features.lineage import read_document, write_once
from beamhub.features.manifest import Manifest
from beamhub.features.paths import VersionPaths, dead_name, parse_name, pending_name
from beamhub.features.state import VersionState
from tests.features_job import VERSION, File, compute, letter, run, shards_of, tree, write_dead

CORPUS = {"dt=1/a": File("a1", (1, 2)), "b": File("b1", (3,))}
FIRST, SECOND = shards_of(CORPUS)


def done(shard: int = 0) -> ShardResult:
    return ShardResult(f"{shard:016x}", "a", 0, -1, "t1", "done", file=f"part-{shard}")


def ledger_files(paths: VersionPaths) -> list[str]:
    return [name for name in tree(paths.root) if "/ledger/" in name]


def test_names_of_a_shard(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    name = paths.data_name(FIRST, "parquet")
    assert name == f"dt=1/part-{FIRST.id}-{FIRST.token_id}.parquet"
    assert paths.data_file(FIRST, "parquet") == f"{tmp_path}/v={VERSION}/{name}"
    stem = name.removeprefix("dt=1/").removesuffix(".parquet")
    assert pending_name(name) == f"_beamhub/pending/{stem}.parquet.pending"
    assert dead_name(name) == f"_beamhub/dead/{stem}.arrow"
    assert paths.dead_file(FIRST) == paths.path(dead_name(name))
    assert {parse_name(n) for n in (name, pending_name(name), dead_name(name))} == {(FIRST.id, FIRST.token_id)}
    assert parse_name("spec.json") is None


def test_ledger_is_written_when_much_has_gathered(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    writer = LedgerWriter(paths, most=3)
    for shard in range(7):
        writer.add(done(shard))
    assert len(ledger_files(paths)) == 2
    writer.flush()
    writer.flush()
    assert len(ledger_files(paths)) == 3


def test_ledger_is_written_when_the_oldest_result_is_old(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    now = [100.0]
    writer = LedgerWriter(paths, age=10, clock=lambda: now[0])
    writer.add(done(1))
    now[0] = 109.0
    writer.add(done(2))
    assert ledger_files(paths) == []
    now[0] = 110.0
    writer.add(done(3))
    assert len(ledger_files(paths)) == 1


def test_shards_of_a_minute_each_do_not_make_a_ledger_file_each(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    now = [0.0]
    writer = LedgerWriter(paths, most=200, clock=lambda: now[0])

    for shard in range(500):
        writer.add(done(shard))
        writer.flush()
        now[0] += 60

    found = Ledger.read(str(path) for path in Path(paths.ledger).iterdir())
    assert sorted(found.files.values()) == [100, 200, 200]
    assert sorted(found.table["shard"].to_pylist()) == sorted(done(shard).shard for shard in range(500))


def test_one_ledger_file_is_not_written_twice_in_a_second(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    now = [0.0]
    writer = LedgerWriter(paths, clock=lambda: now[0])

    for shard, moment in enumerate((0.0, 0.9, 2.0)):
        now[0] = moment
        writer.add(done(shard))
        writer.flush()

    found = Ledger.read(str(path) for path in Path(paths.ledger).iterdir())
    assert sorted(found.files.values()) == [1, 2]


def test_ledger_prefers_a_done_result_with_the_token(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    failed = ShardResult(done().shard, "a", 0, -1, "t1", "failed", reason="once")
    for result in (failed, done(), replace(failed, reason="twice"), replace(done(), token="t0")):
        with LedgerWriter(paths) as writer:
            writer.add(result)
    ledger = Ledger.read(str(path) for path in Path(paths.ledger).iterdir())
    assert ledger.best(done().shard, "t1") == done()
    assert ledger.best(done().shard, "t9") is None
    assert len(list(ledger.results())) == 4


def test_ledger_file_that_a_commit_deletes_meanwhile_is_left_out(tmp_path: Path) -> None:
    assert Ledger.read([str(tmp_path / "gone.arrow")]).files == {}


def test_broken_ledger_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.arrow").write_bytes(b"ARROW1")
    with pytest.raises(TableError, match=r"x\.arrow: not a whole Arrow file"):
        Ledger.read([str(tmp_path / "x.arrow")])


def test_state_of_nothing(tmp_path: Path) -> None:
    state = VersionState.load(VersionPaths(str(tmp_path), VERSION))
    assert (state.manifest.generation, state.relatives) == (0, frozenset())
    assert state.done(FIRST) is None
    assert state.standing(FIRST) == "missing"
    assert not state.waits(FIRST)


def test_standing_of_shards(tmp_path: Path) -> None:
    run(tmp_path, CORPUS)
    paths = VersionPaths(str(tmp_path), VERSION)
    added, broken = shards_of({"c": File("c1", (1,)), "d": File("d1", (1,))})
    with LedgerWriter(paths) as ledger:
        ledger.add(compute(paths, added, (1,)))
        ledger.add(ShardResult.not_done(broken, "failed", "no"))
    state = VersionState.load(paths)
    changed = replace(SECOND, token="b2")
    unknown = replace(SECOND, relative="e")
    shards = (FIRST, added, broken, changed, unknown)
    assert [state.standing(shard) for shard in shards] == ["done", "done", "failed", "stale", "missing"]
    assert [state.committed(shard) for shard in shards] == [True, False, False, False, False]
    assert [state.waits(shard) for shard in shards] == [True, False, False, True, False]
    assert state.relatives == {"dt=1/a", "b", "c", "d"}
    assert state.result(broken) == ShardResult.not_done(broken, "failed", "no")


@pytest.mark.parametrize("pending", [False, True])
def test_result_that_was_never_noted_comes_from_the_footer(tmp_path: Path, pending: bool) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    result = compute(paths, FIRST, (1, 2), pending)
    assert VersionState.load(paths).done(FIRST) == result
    assert VersionState.load(paths).relatives == {"dt=1/a"}


def test_noted_file_that_is_not_there_or_cut_is_not_done(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    with LedgerWriter(paths) as ledger:
        for shard in (FIRST, SECOND):
            ledger.add(compute(paths, shard, (1,)))
    Path(paths.data_file(FIRST, "parquet")).unlink()
    second = Path(paths.data_file(SECOND, "parquet"))
    second.write_bytes(second.read_bytes()[:-1])
    state = VersionState.load(paths)
    assert state.done(FIRST) is None
    assert state.done(SECOND) is None


def test_of_two_different_attempts_the_file_tells_which_it_is_of(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    result = compute(paths, FIRST, (1, 2))
    with LedgerWriter(paths) as ledger:
        ledger.add(replace(result, checksum="00000000"))
        ledger.add(result)
    assert VersionState.load(paths).done(FIRST) == result


def test_file_under_a_name_that_is_not_its_own_is_nobodys(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    compute(paths, FIRST, (1, 2))
    Path(paths.data_file(FIRST, "parquet")).rename(paths.data_file(SECOND, "parquet"))
    assert VersionState.load(paths).done(SECOND) is None


def test_manifest_of_a_newer_beamhub_is_refused(tmp_path: Path) -> None:
    run(tmp_path, CORPUS)
    paths = VersionPaths(str(tmp_path), VERSION)
    root = Path(paths.root_file(1))
    root.write_text(root.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(TableError, match=r"written by a newer beamhub .*; upgrade beamhub"):
        Manifest.load(paths)


def test_missing_part_of_the_manifest_is_named(tmp_path: Path) -> None:
    run(tmp_path, CORPUS)
    paths = VersionPaths(str(tmp_path), VERSION)
    part = next(Path(paths.manifest).glob("*.arrow"))
    part.unlink()
    with pytest.raises(TableError, match="a part of the manifest is missing"):
        Manifest.load(paths)


def test_dead_letters_are_kept_by_address(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    write_dead(paths, FIRST, [replace(letter(FIRST, -1), address=7), replace(letter(FIRST, -2), address=3)])
    write_dead(paths, SECOND, [])
    found = read_dead(paths)
    assert found.schema == DEAD_SCHEMA
    assert found.column("address").to_pylist() == [3, 7]
    assert found.column("payload").to_pylist() == [b"-2", b"-1"]
    assert list(tree(paths.dead)) == [Path(paths.dead_file(FIRST)).name]


def test_many_dead_letters_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead, "BYTES", 100)
    paths = VersionPaths(str(tmp_path), VERSION)
    letters = [replace(letter(FIRST, -1), address=n, payload=b"x" * 40) for n in range(20)]

    with DeadWriter(paths, FIRST) as writer:
        for start in range(0, 20, 5):
            writer.add(letters[start : start + 5])
        assert list(tree(paths.dead)) != [Path(paths.dead_file(FIRST)).name]
        writer.close()

    assert read_dead(paths).column("address").to_pylist() == list(range(20))
    with pa.ipc.open_file(paths.dead_file(FIRST)) as reader:
        assert reader.num_record_batches > 5


def test_dead_letters_of_a_shard_that_fails_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead, "BYTES", 1)
    paths = VersionPaths(str(tmp_path), VERSION)

    def fail() -> None:
        with DeadWriter(paths, FIRST) as writer:
            writer.add([letter(FIRST, -1)])
            raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        fail()
    with DeadWriter(paths, SECOND) as writer:
        writer.add([letter(SECOND, -1)])

    assert list(Path(paths.dead).iterdir()) == []


def test_document_is_written_once(tmp_path: Path) -> None:
    path = str(tmp_path / "spec.json")
    assert write_once(path, {"b": 1, "a": "ä"}) == {"a": "ä", "b": 1}
    assert write_once(path, {"other": 1}) == {"a": "ä", "b": 1}
    assert Path(path).read_text() == '{\n "a": "ä",\n "b": 1\n}\n'
    Path(path).write_text("[]")
    with pytest.raises(TableError, match="wanted a JSON object, got list"):
        read_document(path)
