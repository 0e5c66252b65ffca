"""The search for the settings with which the limit is fastest."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.results import Results, Settings
from benchmarks.search import Search
from benchmarks.workloads import WORKLOADS, Choice, Inputs

HERE = Settings("two cores", "3.11", {"numpy": "2"}, "abc")


def searched(tmp_path: Path, name: str, seconds: Callable[[Choice], float]) -> tuple[Choice, list[Choice]]:
    """What is chosen where a run of each choice takes so long, and all runs."""
    runs: list[Choice] = []

    def run(given: Inputs) -> float:
        runs.append(given.choice)
        return seconds(given.choice)

    given = Inputs(tmp_path, WORKLOADS[name], "parquet")
    return Search(Results(tmp_path / "search.jsonl", HERE), run).chosen(given).choice, runs


def test_search_goes_on_until_none_beside_the_best_is_faster(tmp_path: Path) -> None:
    first = WORKLOADS["vae"].choice
    wanted = Choice(first.size * 8, not first.frozen)

    found, runs = searched(
        tmp_path, "vae", lambda choice: abs(math.log2(choice.size / wanted.size)) + (choice.frozen != wanted.frozen)
    )

    assert found == wanted
    assert Choice(wanted.size * 2, wanted.frozen) in runs
    assert Choice(wanted.size * 4, wanted.frozen) not in runs


def test_a_lucky_run_is_outvoted(tmp_path: Path) -> None:
    first = WORKLOADS["text"].choice
    lucky = iter([9.0, 1.0])

    found, runs = searched(tmp_path, "text", lambda choice: 5.0 if choice == first else next(lucky, 9.0))

    assert found == first
    # A module with a table has no frozen form.
    assert set(runs) == {Choice(size, False) for size in (first.size // 2, first.size, first.size * 2)}


def test_what_was_found_is_not_searched_again(tmp_path: Path) -> None:
    found, _ = searched(tmp_path, "text", lambda choice: 1 / choice.size if choice.size < 10**5 else 1.0)

    assert searched(tmp_path, "text", lambda _: pytest.fail("searched again")) == (found, [])


def test_a_choice_as_flags() -> None:
    assert Choice(8, False).flags == ["--size", "8"]
    assert Choice(8, True).flags == ["--size", "8", "--frozen"]
