"""The benchmark's own arithmetic: slopes, intervals, pairing, resuming, checking, and the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import check
from benchmarks.process import CommandFailedError, Cost, cost_of
from benchmarks.results import EVERYTHING, THE_LIMIT, Results, Settings, by_row, processor, source, statements
from benchmarks.rounds import Rounds
from benchmarks.statistics import Interval, Pair, exceeds, median, meets
from benchmarks.systems import LIMIT, System
from benchmarks.workloads import WORKLOADS, Choice, Inputs

HERE = Settings("two cores", "3.11", {"numpy": "2"}, "abc")
TEXT = ("text", "parquet")


def pair(rate: float, start_up: float = 5.0, peak: int = 2**20) -> Pair:
    """Of 100 and 1,100 rows, with one CPU second for each second of work."""
    small, large = 100 / rate, 1100 / rate
    return Pair(Cost(start_up + small, small, peak), Cost(start_up + large, large, peak), 100, 1100)


def record(results: Results, system: str, rates: dict[int, float], **costs: Any) -> None:
    for number, rate in rates.items():
        results.add(TEXT, system, round=number, **asdict(pair(rate, **costs)))


def test_rate_is_the_slope_and_leaves_start_up_out() -> None:
    found = Pair(Cost(9.0, 8.0, 30), Cost(21.0, 28.0, 20), 2_000, 8_000)

    assert found.rate == 500.0  # 6,000 rows in 12 s
    assert found.start_up == 5.0  # 9 s less 2,000 rows at 500 a second
    assert found.rows_per_cpu_second == 300.0  # 6,000 rows in 20 s
    assert found.peak == 30
    assert Pair.from_json({**asdict(found), "round": 3}) == found


@pytest.mark.parametrize("count", [5, 6, 7, 8, 9, 12, 25])
def test_interval_holds_the_median_in_nine_of_ten_cases(count: int) -> None:
    """By drawing from a distribution whose median is 0. One repetition less on either side would hold it too rarely."""
    drawn = np.sort(np.random.default_rng(5).standard_normal((20_000, count)), axis=1)
    found = median(range(count))
    low, high = int(found.low), int(found.high)

    def share(first: int, last: int) -> float:
        return float(np.mean((drawn[:, first] <= 0) & (drawn[:, last] >= 0)))

    assert low == count - 1 - high
    assert share(low, high) > 0.895
    assert share(low + 1, high - 1) < 0.905


def test_interval_of_few_repetitions_is_their_range() -> None:
    assert median([3.0, 1.0, 2.0]) == Interval(2.0, 1.0, 3.0, 3)


@pytest.mark.parametrize(
    ("ratio", "met"),
    [
        (Interval(0.90, 0.88, 0.92, 5), True),
        (Interval(0.83, 0.80, 0.86, 5), True),
        (Interval(0.81, 0.70, 0.99, 5), False),  # the median is more than .03 below
        (Interval(0.84, 0.83, 0.849, 5), False),  # the interval does not reach it
    ],
)
def test_target_is_met(ratio: Interval, met: bool) -> None:
    assert meets(ratio, 0.85) == met


def test_ahead_means_the_whole_interval() -> None:
    assert exceeds(Interval(1.2, 1.01, 1.3, 5), 1.0)
    assert not exceeds(Interval(1.2, 0.99, 1.3, 5), 1.0)


def test_only_systems_of_one_round_are_paired(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl", HERE)
    record(results, LIMIT, {0: 100.0, 1: 200.0, 3: 50.0})
    record(results, "ray", {0: 50.0, 1: 150.0, 2: 1000.0})

    ratio = results.ratio(TEXT, "ray", LIMIT)

    assert ratio is not None
    assert ratio.median == pytest.approx((0.5 + 0.75) / 2)
    assert results.lacking(TEXT, [LIMIT, "ray", "spark"], 2) == ["spark"]
    assert results.lacking(TEXT, [LIMIT, "ray"], 3) == ["ray"]
    assert results.next_round(TEXT) == 4
    assert results.ratio(TEXT, "spark", LIMIT) is None


def test_results_go_on_where_they_were_left_under_the_same_settings(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    record(Results(path, HERE), LIMIT, {0: 100.0})
    other = Settings("two cores", "3.11", {"numpy": "3"}, "abc")
    record(Results(path, other), LIMIT, {0: 200.0, 1: 300.0})

    assert Results(path, HERE).rates(TEXT, LIMIT) == {0: pytest.approx(100.0)}
    assert Results(path, other).rates(TEXT, LIMIT) == {0: pytest.approx(200.0), 1: pytest.approx(300.0)}


def test_each_row_is_of_the_machine_that_did_most_of_it_with_the_last_code(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    vae = ("vae", "parquet")
    older, newer = replace(HERE, source="old", machine="three cores"), replace(HERE, machine="four cores")
    record(Results(path, older), LIMIT, dict.fromkeys(range(9), 1.0))
    record(Results(path, HERE), LIMIT, {0: 100.0, 1: 100.0})
    Results(path, HERE).add(vae, LIMIT, round=0, **asdict(pair(100.0)))
    record(Results(path, newer), LIMIT, {0: 200.0})
    Results(path, newer).add(vae, LIMIT, round=0, **asdict(pair(200.0)))

    found = by_row(path)

    assert {row: results.settings for row, results in found.items()} == {TEXT: HERE, vae: newer}
    assert by_row(tmp_path / "none.jsonl") == {}


def test_processors_of_one_name_are_told_apart(tmp_path: Path) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: fpu\n\n")

    assert processor(told) == "AMD EPYC (family 25, model 17)"


def test_another_choice_of_the_limit_voids_what_was_measured_beside_the_first(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results = Results(path, HERE)
    results.choose(TEXT, Choice(8, True))
    record(results, LIMIT, {0: 100.0})
    results.add(("vae", "parquet"), LIMIT, round=0, **asdict(pair(50.0)))
    results.choose(TEXT, Choice(8, True))
    assert results.rates(TEXT, LIMIT) == {0: pytest.approx(100.0)}

    results.choose(TEXT, Choice(16, True))

    for same in (results, Results(path, HERE)):
        assert same.choice(TEXT) == Choice(16, True)
        assert same.rates(TEXT, LIMIT) == {}
        assert same.rates(("vae", "parquet"), LIMIT) == {0: pytest.approx(50.0)}


def test_all_that_is_measured_is_there() -> None:
    root = Path(__file__).parents[1]
    assert [pattern for pattern in (*EVERYTHING, *THE_LIMIT) if not any(root.glob(pattern))] == []


def test_what_a_program_says_of_itself_is_no_change() -> None:
    said = '"""Doc."""\ndef f():\n    """Doc."""\n    return 1  # why\nX = 1\n"""Of X."""\n'

    assert statements(said) == statements("def f():\n    return 1\nX = 1\n")
    assert statements(said) != statements("def f():\n    return 2\nX = 1\n")


def test_source_changes_with_what_is_measured_alone(tmp_path: Path) -> None:
    for name in ("beamhub/run.py", "benchmarks/limit.py", "benchmarks/page.py", "benchmarks/peers/page.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    first, named = source(tmp_path), source(tmp_path, ["benchmarks/page.py"])
    (tmp_path / "benchmarks/page.py").write_text("other")
    assert source(tmp_path) == first
    # A file that is named counts: what is searched depends on other code than what is measured.
    assert source(tmp_path, ["benchmarks/page.py"]) != named
    for name in ("beamhub/run.py", "benchmarks/limit.py", "benchmarks/peers/page.py"):
        (tmp_path / name).write_text("other")
        assert source(tmp_path) != first
        (tmp_path / name).write_text("")


def written(out: Path, keys: list[int], values: list[list[float]], fixed: bool = True) -> Path:
    kind = pa.list_(pa.float32(), len(values[0])) if fixed else pa.list_(pa.float32())
    out.mkdir(parents=True, exist_ok=True)
    number = len(list(out.iterdir()))
    pq.write_table(pa.table({"key": pa.array(keys), "embedding": pa.array(values, kind)}), out / f"{number}.parquet")
    return out


def test_outputs_are_compared_by_key_whatever_their_order_files_and_lists(tmp_path: Path) -> None:
    limit = written(tmp_path / "limit", [1, 2, 3], [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    other = written(tmp_path / "other", [3], [[3.002, 0.00005]], fixed=False)
    written(other, [2, 1], [[2.0, 0.0], [1.0, 0.0]])

    assert check.count(other) == 3
    assert check.compare(check.read(limit), check.read(other), "other") == 3


@pytest.mark.parametrize(
    ("keys", "values", "said"),
    [
        ([1], [[1.0]], "x: 1 rows, the limit wrote 2"),
        ([1, 3], [[1.0], [2.0]], "x: other keys than the limit's, the first that differs is 2"),
        ([1, 2], [[1.0, 1.0], [2.0, 2.0]], "x: vectors of 2, the limit wrote vectors of 1"),
        (
            [2, 1],
            [[2.01], [1.0]],
            r"x: 1 of 2 rows have other values .* the first at key 2, the largest difference 0.01",
        ),
        ([1, 2], [[float("nan")], [2.0]], "x: 1 of 2 rows have other values"),
    ],
)
def test_other_rows_are_refused_in_one_line(
    tmp_path: Path, keys: list[int], values: list[list[float]], said: str
) -> None:
    limit = check.read(written(tmp_path / "limit", [1, 2], [[1.0], [2.0]]))
    with pytest.raises(check.WrongOutputError, match=said) as caught:
        check.compare(limit, check.read(written(tmp_path / "x", keys, values)), "x")
    assert "\n" not in str(caught.value)


def copying(name: str, plus: float = 0.0, lost: int = 0, peer: bool = False) -> System:
    """A system whose command says where to write how many rows, and what to add to their values."""

    def command(inputs: Inputs, files: int, out: Path) -> list[str]:
        return [str(out), str(files * inputs.workload.rows - lost), str(plus)]

    return System(name, name, command, formats=("parquet",), peer=peer)


def copy(command: Sequence[str], _: Mapping[str, str]) -> Cost:
    """Writes rows whose values are their keys; a hundred rows take a second."""
    out, rows, plus = command
    written(Path(out), list(range(int(rows))), [[key + float(plus)] for key in range(int(rows))])
    return Cost(5 + int(rows) / 100, 1 + int(rows) / 100, 2**20)


@pytest.fixture
def given(tmp_path: Path) -> Inputs:
    """A workload whose files are there already."""
    found = Inputs(tmp_path, WORKLOADS["text"].of(100), "parquet")
    for path in (found.module / "saved_model.pb", *found.files):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return found


def rounds(tmp_path: Path, *systems: System) -> Rounds:
    named = {system.name: system for system in systems}
    return Rounds(Results(tmp_path / "results.jsonl", HERE), named, tmp_path / "out", cost=copy)


def steps(tmp_path: Path) -> list[tuple[str, int | None]]:
    """System and round of each line, in the order measured; no round for a check. How the limit calls is left out."""
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    return [(line["system"], line.get("round")) for line in lines if "round" in line or "checked" in line]


def test_rounds_are_done_in_pieces_and_the_limit_is_in_each(tmp_path: Path, given: Inputs) -> None:
    rounds(tmp_path, copying(LIMIT), copying("a")).run([given], 2)
    first = [("a", None), (LIMIT, 0), ("a", 0), ("a", 1), (LIMIT, 1)]
    assert steps(tmp_path) == first

    rounds(tmp_path, copying(LIMIT), copying("a")).run([given], 2)
    assert steps(tmp_path) == first

    rounds(tmp_path, copying(LIMIT), copying("a"), copying("b")).run([given], 1)
    assert steps(tmp_path) == [*first, ("b", None), (LIMIT, 2), ("b", 2)]


def test_peers_that_come_later_have_beamhub_beside_them(tmp_path: Path, given: Inputs) -> None:
    rounds(tmp_path, copying(LIMIT), copying("beamhub")).run([given], 1)
    rounds(tmp_path, copying(LIMIT), copying("beamhub"), copying("peer")).run([given], 1)

    assert [name for name, number in steps(tmp_path) if number == 1] == ["peer", "beamhub", LIMIT]
    assert Results(tmp_path / "results.jsonl", HERE).ratio(TEXT, "beamhub", "peer") is not None


def test_nothing_begins_after_the_deadline(tmp_path: Path, given: Inputs) -> None:
    rounds(tmp_path, copying(LIMIT), copying("a")).run([given], 2, deadline=0.0)
    assert not (tmp_path / "results.jsonl").exists()


@pytest.mark.parametrize(
    ("system", "said"),
    [
        (copying("a", plus=10.0), "a on text, parquet: 100 of 100 rows have other values"),
        (copying("a", lost=1), "a on text, parquet: 99 rows, the limit wrote 100"),
    ],
)
def test_system_that_writes_something_else_ends_the_benchmark(
    tmp_path: Path, given: Inputs, system: System, said: str
) -> None:
    with pytest.raises(check.WrongOutputError, match=said):
        rounds(tmp_path, copying(LIMIT), system).run([given], 1)


def test_peer_that_writes_something_else_is_left_out_and_told(
    tmp_path: Path, given: Inputs, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = rounds(tmp_path, copying(LIMIT), copying("bad", plus=10.0, peer=True), copying("good", peer=True))
    measured.run([given], 2)
    assert steps(tmp_path) == [("good", None), (LIMIT, 0), ("good", 0), ("good", 1), (LIMIT, 1)]
    assert list(measured.failed) == [(TEXT, "bad")]
    assert "bad: left out from here on, bad on text, parquet: 100 of 100 rows" in capsys.readouterr().err


def test_late_command_is_ended_with_its_children(tmp_path: Path) -> None:
    script = f"tail -f /dev/null & echo $! > {tmp_path}/child; wait"
    with pytest.raises(CommandFailedError, match="not done after 1 s"):
        cost_of(["sh", "-c", script], {}, limit=1.0)
    child = int((tmp_path / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
