"""The benchmark's own arithmetic: slopes, intervals, pairing, and which results go on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.process import Cost
from benchmarks.results import EVERYTHING, THE_LIMIT, Results, Row, Settings, by_row, processor, source, statements
from benchmarks.statistics import Interval, Pair, exceeds, median, meets
from benchmarks.systems import LIMIT
from benchmarks.workloads import Choice

HERE = Settings("two cores", "3.11", {"numpy": "2"}, "abc")
TEXT = ("text", "parquet")


def pair(rate: float, start_up: float = 5.0, peak: int = 2**20) -> Pair:
    """Of 100 and 1,100 rows, with one CPU second for each second of work."""
    small, large = 100 / rate, 1100 / rate
    return Pair(Cost(start_up + small, small, peak), Cost(start_up + large, large, peak), 100, 1100)


def record(results: Results, system: str, rates: dict[int, float], row: Row = TEXT, **costs: Any) -> None:
    for number, rate in rates.items():
        results.add(row, system, round=number, **asdict(pair(rate, **costs)))


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


def test_kept_rows_count_for_later_code_and_no_others_do(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    vae = ("vae", "parquet")
    older = Results(path, replace(HERE, source="old"))
    record(older, LIMIT, {0: 100.0})
    older.choose(TEXT, Choice(8, True))
    record(older, LIMIT, {1: 200.0})
    older.add(TEXT, "ray", checked=7)
    record(older, "ray", {1: 20.0})
    record(older, "spark", {1: 30.0})
    older.add(vae, LIMIT, round=0, **asdict(pair(50.0)))

    kept = Results(path, HERE).keep([TEXT], older.settings, "Another program has changed.", but=["spark"])
    kept.add(("vae", "tfrecord"), LIMIT, round=0, **asdict(pair(50.0)))

    found = by_row(path)
    assert list(found) == [TEXT, ("vae", "tfrecord")]
    for again in (kept, found[TEXT]):
        assert again.settings == HERE
        assert again.rates(TEXT, LIMIT) == {1: pytest.approx(200.0)}
        assert again.choice(TEXT) == Choice(8, True)
        assert again.checks(TEXT) == [7]
        assert again.rates(TEXT, "ray") == {1: pytest.approx(20.0)}
        assert again.rates(TEXT, "spark") == {}
        assert again.rates(vae, LIMIT) == {}
    assert Results(path, older.settings).rates(vae, LIMIT) == {0: pytest.approx(50.0)}


def test_rows_are_kept_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    older = Results(path, replace(Settings.here(), source="old"))
    record(older, LIMIT, {0: 100.0})

    def keep(*flags: str) -> str:
        line = [sys.executable, "-m", "benchmarks.keep", "--measured", str(tmp_path), "--why", "A comment.", *flags]
        return subprocess.run(line, capture_output=True, text=True, check=False).stderr

    assert "has no settings 0123" in keep("--of", "0123", "--rows", "text:parquet")
    assert "has nothing of vae:parquet" in keep("--of", older.settings.key, "--rows", "text:parquet", "vae:parquet")
    assert Results(path, Settings.here()).rates(TEXT, LIMIT) == {}

    assert keep("--of", older.settings.key, "--rows", "text:parquet") == ""
    assert Results(path, Settings.here()).rates(TEXT, LIMIT) == {0: pytest.approx(100.0)}


def test_rows_of_another_machine_are_not_kept(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl", HERE)

    with pytest.raises(ValueError, match="another machine"):
        results.keep([TEXT], replace(HERE, machine="three cores", source="old"), "Nothing has changed.")


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
