"""What is looked up all at once is what is looked up one by one, and costs columns, not objects, for each shard."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from beamhub import storage
from beamhub.corpus.listing import list_corpus
from beamhub.corpus.shard_list import ShardList
from beamhub.corpus.shards import WHOLE, Shard
from beamhub.corpus.splitting import split
from beamhub.engine.ranges import settle_ranges
from beamhub.engine.worklist import RunPapers, WorkItems, commit_run, read_outcome, read_worklist
from beamhub.errors import TableError
from beamhub.features.commit import commit
from beamhub.features.ledger import RESULT_SCHEMA, ShardResult, decode_table, encode_table, results_to_table
from beamhub.features.ledger_writer import LedgerWriter
from beamhub.features.manifest import Manifest, revise
from beamhub.features.paths import VersionPaths, pending_name
from beamhub.features.reconcile import Limits
from beamhub.features.results import Results
from beamhub.features.roots import create_root
from beamhub.features.state import VersionState
from tests.features_job import VERSION

SHARDS = [
    Shard("dt=1/a", "dt=1/a", 1, "t1"),
    Shard("b", "b", 2, "t1", 0, 1),
    Shard("b", "b", 2, "t1", 1, WHOLE),
    Shard("c", "c", 3, "t2"),
]
RESULTS = st.tuples(
    st.sampled_from(SHARDS),
    st.sampled_from(["t1", "t2"]),
    st.sampled_from(["done", "failed"]),
    st.sampled_from([10, 11]),
    st.booleans(),
)
"""Shard, token, outcome, bytes of its file, and whether it waits."""
PLACES = st.lists(st.tuples(RESULTS, st.booleans()), max_size=5)
"""Files that are there, in their place or in `pending/`."""


def noted(shard: Shard, token: str, outcome: Any, size: int, pending: bool) -> ShardResult:
    shard = replace(shard, token=token)
    if outcome == "failed":
        return ShardResult.not_done(shard, "failed", f"size {size}")
    name = VersionPaths("out", VERSION).data_name(shard, "tfrecord.gz")
    return ShardResult(
        shard.id, shard.relative, shard.start, shard.end, token, "done", name, bytes=size, checksum="c", pending=pending
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(RESULTS, max_size=8), PLACES, st.lists(RESULTS, max_size=3, unique_by=lambda each: each[0].id))
@example([], [((SHARDS[0], "t2", "done", 10, False), False)], [(SHARDS[0], "t2", "done", 10, False)])
@example(
    [(SHARDS[0], "t1", "done", 10, True)], [((SHARDS[0], "t1", "done", 10, True), place) for place in (True, False)], []
)
def test_all_at_once_is_as_one_by_one(ledger: list[Any], places: list[Any], committed: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = VersionPaths(folder, VERSION)
        entries = [noted(*each) for each in committed if each[2] == "done"]
        write_manifest(paths, entries)
        with LedgerWriter(paths) as writer:
            for each in ledger:
                writer.add(noted(*each))
        for (shard, token, _, size, _), waits in places:
            name = noted(shard, token, "done", size, False).file
            storage.write_bytes(paths.path(pending_name(name) if waits else name), bytes(size))
        state = VersionState.load(paths)

        found = state.find(ShardList.of(SHARDS))

        assert found.committed.tolist() == [state.committed(shard) for shard in SHARDS]
        assert found.done.tolist() == [state.done(shard) is not None for shard in SHARDS]
        failed = [state.done(shard) is None and state.failed(shard) is not None for shard in SHARDS]
        assert found.failed.tolist() == failed
        assert found.standings() == Counter(state.standing(shard) for shard in SHARDS)
        assert state.waiting(ShardList.of(SHARDS)).tolist() == [state.waits(shard) for shard in SHARDS]
        every = found.results(np.arange(len(SHARDS)))
        assert [result and asdict(result) for result in every] == [
            (result := state.result(shard)) and asdict(result) for shard in SHARDS
        ]


def write_manifest(paths: VersionPaths, entries: list[ShardResult]) -> None:
    """A first generation with these entries, whose files need not be there."""
    none = np.zeros(0, np.bool_)
    added = Results(RESULT_SCHEMA.empty_table(), np.zeros(0, np.int64), none, entries)

    def write(name: str, data: bytes) -> None:
        storage.write_bytes(storage.join(paths.manifest, name), data)

    create_root(paths, revise(Manifest.empty(), none, added, [], "run", write))


SPANS = st.lists(st.none() | st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=3)


@settings(max_examples=80, deadline=None)
@given(st.lists(SPANS, min_size=1, max_size=4), *[st.lists(st.integers(0, 9), min_size=12, max_size=12)] * 2)
def test_ranges_of_all_files_disagree_as_those_of_one_do(files: list[Any], listed: list[int], tried: list[int]) -> None:
    """Given files of three ranges with any first and last bytes, some not listed, some not done, when they are settled all at
    once, then those come whole of which a look at one after the other says so, and where not all are done, none."""
    present = [listed[n] > 0 for n in range(3 * len(files))]
    done = [tried[n] > 0 for n in range(3 * len(files))]
    shards = split([Shard(f"f{n}", f"f{n}", 90, "t") for n in range(len(files))], 30)
    spans = [span for file in files for span in file]
    results = [
        ShardResult(s.id, s.relative, s.start, s.end, "t", "done", f"part-{n}", begins=b and b[0], ends=b and b[1])
        for n, (s, b) in enumerate(zip(shards, spans, strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder:
        paths = VersionPaths(folder, VERSION)
        with LedgerWriter(paths) as ledger:
            for result, is_done in zip(results, done, strict=True):
                if is_done:
                    ledger.add(result)
                    storage.write_bytes(paths.path(result.file), b"")

        settled = settle_ranges(shards.filter(np.array(present)), VersionState.load(paths))

    expected = []
    for n in range(len(files)):
        here = [k for k in range(3 * n, 3 * n + 3) if present[k]]
        again = all(done[k] for k in here) and disagree([results[k] for k in here])
        expected += [Shard(f"f{n}", f"f{n}", 30 * len(here), "t")] if again else [shards[k] for k in here]
    assert list(settled) == expected


def disagree(ranges: list[ShardResult]) -> bool:
    """Whether one that knows where it begins does so elsewhere than the one before it ends, with no gap in between."""
    ends = None
    for before, one in zip([None, *ranges], ranges, strict=False):
        if before is not None and before.end != one.start:
            ends = None
        if one.begins is not None:
            if ends is not None and one.begins != ends:
                return True
            ends = one.ends
    return False


def test_columns_that_came_later_have_their_defaults(tmp_path: Path) -> None:
    """Given ledger and manifest files of before there were key bounds and ranges, when they are read, then what they lack is as
    `ShardResult` has it by default."""
    paths = VersionPaths(str(tmp_path), VERSION)
    result = noted(SHARDS[0], "t1", "done", 0, False)
    later = ["null_keys", "first_key", "last_key", "begins", "ends"]
    storage.write_bytes(paths.path(result.file), b"")
    storage.write_bytes(f"{paths.ledger}/old.arrow", encode_table(results_to_table([result]).drop_columns(later)))

    assert VersionState.load(paths).result(SHARDS[0]) == result

    commit(paths, [SHARDS[0]], [], None, Limits(), "run")
    (part,) = Path(paths.manifest).glob("*.arrow")
    part.write_bytes(encode_table(decode_table(part.read_bytes(), "part").drop_columns(later)))
    assert VersionState.load(paths).result(SHARDS[0]) == result


def test_a_shard_id_that_is_none_is_named(tmp_path: Path) -> None:
    paths = VersionPaths(str(tmp_path), VERSION)
    for wrong in ("", "0123456789abcdeg", "0123456789abcdef0"):
        with LedgerWriter(paths) as ledger:
            ledger.add(replace(noted(SHARDS[0], "t1", "done", 0, False), shard=wrong))
        with pytest.raises(TableError, match=f"shard id '{wrong}': not 16 hex digits; .* damaged: restore it"):
            VersionState.load(paths).result(SHARDS[0])
        for path in Path(paths.ledger).iterdir():
            path.unlink()


def corpus_of(folder: Path, shards: int) -> str:
    """Empty files, which are TFRecord files without records."""
    for n in range(shards):
        if n < 10:
            (folder / f"corpus/dt={n}").mkdir(parents=True)
        (folder / f"corpus/dt={n % 10}/part-{n:06d}").touch()
    return f"{folder}/corpus/*/*"


def planned(paths: VersionPaths, pattern: str) -> WorkItems:
    """What `make_plan` does with shards, without a module."""
    shards = list_corpus(pattern).shards
    state = VersionState.load(paths)
    found = state.find(shards)
    missing = shards.filter(~found.done)
    todo = WorkItems(missing, state.waiting(missing))
    document = {"gone": [], "limits": {}, "key": None}
    RunPapers(paths, "run").write(todo, shards.filter(~found.committed), document)
    return todo


def worked(paths: VersionPaths) -> None:
    """What workers leave: an empty data file for each shard, and one ledger file."""
    with LedgerWriter(paths, most=10**9, age=1e9) as ledger:
        for worklist in sorted(Path(paths.runs, "run").glob("worklist-*")):
            for item in read_worklist(str(worklist)):
                result = noted(item.shard, item.shard.token, "done", 0, item.pending)
                file = Path(paths.path(pending_name(result.file) if result.pending else result.file))
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
                ledger.add(result)


def changed(pattern: str) -> None:
    """Every hundredth file of the corpus is written anew."""
    for path in sorted(Path(pattern.removesuffix("/*/*")).glob("*/*"))[::100]:
        os.utime(path, ns=(1, 1))


def steps(folder: Path, shards: int) -> dict[str, Callable[[], object]]:
    """A table's life: planned, committed, nothing to do, and one shard of a hundred anew."""
    paths = VersionPaths(str(folder / "out"), VERSION)
    pattern = corpus_of(folder, shards)
    return {
        "list": lambda: list_corpus(pattern),
        "plan": lambda: planned(paths, pattern),
        "work": lambda: worked(paths),
        "look": lambda: VersionState.load(paths),
        "commit": lambda: commit_run(paths, "run"),
        "nothing": lambda: planned(paths, pattern),
        "change": lambda: changed(pattern),
        "again": lambda: planned(paths, pattern),
        "work again": lambda: worked(paths),
        "commit again": lambda: commit_run(paths, "run"),
    }


def peak_of(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes of Python, NumPy and Arrow at the highest."""
    pool = pa.default_memory_pool()
    counting = pa.proxy_memory_pool(pool)
    pa.set_memory_pool(counting)
    monkeypatch.setattr(pa, "system_memory_pool", lambda: counting)
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] + counting.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(pool)


def test_memory_for_each_shard_is_that_of_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured from 9,000 shards to 17,000, for two blocks of 4,096 are Python objects whatever the number."""
    peaks: dict[int, dict[str, int]] = {200: {}, 9_000: {}, 17_000: {}}
    # The first of them imports what the others find.
    for shards in peaks:
        (tmp_path / str(shards)).mkdir()
        for name, work in steps(tmp_path / str(shards), shards).items():
            if name in MOST_BYTES:
                peaks[shards][name] = peak_of(work, monkeypatch)
            else:
                work()
    outcome = read_outcome(VersionPaths(str(tmp_path / "17000/out"), VERSION), "run")
    assert (outcome["generation"], outcome["totals"]["shards"], outcome["removed"]) == (2, 17_000, 170)
    each = {name: (peaks[17_000][name] - peaks[9_000][name]) / 8_000 for name in MOST_BYTES}
    assert {name: most for name, most in MOST_BYTES.items() if each[name] > most} == {}, each


MOST_BYTES = {"list": 130, "plan": 280, "look": 440, "commit": 730, "nothing": 470, "again": 470, "commit again": 850}
"""For each shard, at the highest: a quarter more than measured. A listing of objects would be 250 more, results as objects
1,000."""


def test_storage_is_asked_as_often_for_many_shards_as_for_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()
    for name in ("info", "find", "walk", "read_bytes", "create", "create_exclusive", "move"):
        real = getattr(storage, name)

        def counted(*arguments: Any, name: str = name, real: Any = real, **options: Any) -> Any:
            calls[name] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(storage, name, counted)
    counts = []
    for shards in (200, 2000):
        (tmp_path / str(shards)).mkdir()
        life = steps(tmp_path / str(shards), shards)
        counts.append({})
        for name in ("list", "plan", "work", "look", "commit", "nothing"):
            calls.clear()
            life[name]()
            counts[-1][name] = dict(calls)
    assert counts[0] == counts[1]
    assert counts[0]["nothing"]["walk"] < 10
