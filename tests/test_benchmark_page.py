"""The tables of `docs/performance.md`, made of kept results."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks import page
from benchmarks.results import Results
from benchmarks.systems import LIMIT
from benchmarks.workloads import Choice
from tests.test_benchmarks import HERE, TEXT, pair, record


def cells(text: str, *wanted: str) -> list[str]:
    """The cells of the one line of a table that has all the words."""
    (line,) = [line for line in text.splitlines() if all(word in line for word in wanted)]
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_page_shows_ratios_targets_and_costs(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl", HERE)
    ours, rows, spark = 90.0, 2.0, 80.0
    record(results, LIMIT, dict.fromkeys(range(5), 100.0), start_up=4.0)
    record(results, "beamhub", dict.fromkeys(range(5), ours), start_up=5.5, peak=3 * 2**20)
    record(results, "beamhub-threads", dict.fromkeys(range(5), 80.0))
    record(results, "runinference-plain", dict.fromkeys(range(5), rows))
    record(results, "spark", dict.fromkeys(range(5), spark))
    record(results, "runinference", dict.fromkeys(range(5), 20.0))
    record(results, "runinference-tables", dict.fromkeys(range(5), 70.0))
    record(results, "ray", dict.fromkeys(range(5), 60.0))
    results.add(TEXT, "beamhub", checked=1234)

    text = page.section({TEXT: results})

    shares = cells(text, "0.95 **missed**")
    assert shares[2] == "0.90 (0.90-0.90), 0.95 **missed**"
    assert shares[5] == "0.80 (0.80-0.80), 0.85 **missed**"
    assert cells(text, "Spark, mapInArrow", "1.2")[2:] == ["Spark, mapInArrow", "1.12 (1.12-1.12)", "1.2", "**missed**"]
    assert cells(text, "hand-written reading")[2:] == [
        "the same, elements are tables, around hand-written reading",
        "1.29 (1.29-1.29)",
        "1.2",
        "met",
    ]
    assert cells(text, "Beam RunInference, as documented", "| 30 |")[3:] == ["45.00 (45.00-45.00)", "30", "met"]
    assert cells(text, "the same, well set up", "4.50")[3:] == ["4.50 (4.50-4.50)"]
    assert cells(text, "beamhub, one process", "| 5 |")[3:] == ["1.5, 1.5 met", "3", "90", "90", "5"]
    assert "1 outputs (1,234 rows)" in text
    assert "two cores; Python 3.11, numpy 2; code abc" in text


def test_page_tells_which_rows_are_of_earlier_code(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    older = Results(path, replace(HERE, source="old"))
    record(older, LIMIT, {0: 100.0})

    kept = Results(path, HERE).keep([TEXT], older.settings, "Since then Spark has changed.", but=["spark"])

    (told,) = [line for line in page.section({TEXT: kept}).splitlines() if "code abc" in line]
    assert (
        "Of code old too (but for spark): short texts, 64-d embedding of parquet. Since then Spark has changed." in told
    )


def test_page_tells_how_limit_and_beamhub_called(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl", HERE)
    results.choose(TEXT, Choice(16384, False))
    record(results, LIMIT, {0: 100.0})
    results.add(TEXT, "beamhub", round=0, settled=["8192f", "16384"], **asdict(pair(95.0)))

    assert cells(page.limit_shares({TEXT: results}), "0.95")[7:] == [
        "16,384 records, plain",
        "8,192 records, frozen in 1 of 2; 16,384 records, plain in 1 of 2",
    ]

    results.choose(TEXT, Choice(8192, False))
    record(results, LIMIT, {1: 100.0})
    results.add(TEXT, "beamhub", round=1, settled=["8192", "8192"], **asdict(pair(95.0)))

    assert cells(page.limit_shares({TEXT: results}), "0.95")[7:] == ["8,192 records, plain"] * 2


def test_ahead_of_the_best_peer_is_only_who_was_measured_beside_all(tmp_path: Path) -> None:
    """Each five times."""
    results = Results(tmp_path / "results.jsonl", HERE)
    for name, count in {
        LIMIT: 5,
        "beamhub": 5,
        "spark": 5,
        "runinference-plain": 5,
        "runinference": 5,
        "ray": 4,
    }.items():
        record(results, name, dict.fromkeys(range(count), 50.0))

    text = page.section({TEXT: results})

    assert cells(text, "not measured")[5] == "**not measured: ray**"


def test_hand_written_reading_in_a_library_is_told_from_its_own(tmp_path: Path) -> None:
    """Spark has no reader for TFRecord, and reads Parquet itself."""
    results = Results(tmp_path / "results.jsonl", HERE)
    rates = {LIMIT: 100.0, "beamhub": 96.0, "runinference-plain": 2.0, "runinference": 40.0, "tfx_bsl": 10.0}
    for name, rate in {**rates, "runinference-tables": 96.0, "ray": 48.0, "spark": 192.0}.items():
        record(results, name, dict.fromkeys(range(5), rate), row=("text", "tfrecord"))

    text = page.against_peers({("text", "tfrecord"): results})

    assert cells(text, "2.40", "1.2")[2:] == ["the same, well set up", "2.40 (2.40-2.40)", "1.2", "met"]
    assert cells(text, "Spark")[2:] == [
        "Spark, mapInArrow, around hand-written reading",
        "0.50 (0.50-0.50)",
        "1.2",
        "**missed**",
    ]


def test_page_tells_which_row_was_measured_on_which_machine(tmp_path: Path) -> None:
    here, there = (
        Results(tmp_path / "results.jsonl", HERE),
        Results(tmp_path / "there", replace(HERE, machine="a phone")),
    )
    vae = ("vae", "tfrecord")
    record(here, LIMIT, {0: 100.0})
    there.add(vae, LIMIT, round=0, **asdict(pair(10.0)))

    text = page.section({TEXT: here, vae: there})

    assert text.startswith(
        "short texts, 64-d embedding of parquet on two cores; 28x28 VAE encoder of tfrecord on a phone; Python 3.11"
    )


def test_page_gives_no_verdict_for_fewer_than_five_rounds(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl", HERE)
    record(results, LIMIT, dict.fromkeys(range(4), 100.0))
    record(results, "beamhub", dict.fromkeys(range(4), 100.0))

    text = page.section({TEXT: results})

    assert cells(text, "0.95 ")[2] == "1.00 (1.00-1.00), 0.95 **too few rounds**"
    assert "met" not in text


def test_page_keeps_the_text_around_the_marks() -> None:
    assert page.replaced(f"a\n{page.BEGIN}\nold\n{page.END}\nb\n", "new") == (
        f"a\n{page.BEGIN}\n\nnew\n\n{page.END}\nb\n"
    )
    with pytest.raises(page.PageError, match="no lines"):
        page.replaced(f"{page.END}{page.BEGIN}", "new")


def test_the_page_of_the_documentation_has_the_marks() -> None:
    assert "Ratios are the claim" in page.replaced(page.PAGE.read_text(), "new")
