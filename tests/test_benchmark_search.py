"""The search for the settings with which the limit is fastest."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.results import Results, Settings
from benchmarks.search import REPEATS, Search, near
from benchmarks.systems import ENVIRONMENT, tries
from benchmarks.workloads import WORKLOADS, Choice, Inputs

HERE = Settings("two cores", "3.11", {"numpy": "2"}, "abc")


def searched(
    tmp_path: Path, name: str, rate: Callable[[Choice], float], runs_left: float = math.inf
) -> tuple[Choice | None, list[Choice]]:
    """What is chosen where a run of each choice has such a rate, and all runs; time is over after so many."""
    runs: list[Choice] = []

    def run(given: Inputs, choices: Sequence[Choice]) -> dict[Choice, list[float]]:
        runs.extend(choices)
        return {choice: [rate(choice) for _ in range(REPEATS)] for choice in choices}

    tmp_path.mkdir(exist_ok=True)
    given = Inputs(tmp_path, WORKLOADS[name], "parquet")
    found = Search(Results(tmp_path / "search.jsonl", HERE), run, lambda: len(runs) >= runs_left).chosen(given)
    return found and found.choice, runs


def test_search_goes_on_until_none_beside_the_best_is_faster(tmp_path: Path) -> None:
    first = WORKLOADS["vae"].choice
    wanted = Choice(first.size * 8, not first.frozen)

    found, runs = searched(
        tmp_path,
        "vae",
        lambda choice: 10 - abs(math.log2(choice.size / wanted.size)) - (choice.frozen != wanted.frozen),
    )

    assert found == wanted
    assert Choice(wanted.size * 2, wanted.frozen) in runs
    assert Choice(wanted.size * 4, wanted.frozen) not in runs


def test_a_lucky_run_is_outvoted(tmp_path: Path) -> None:
    first = WORKLOADS["text"].choice
    lucky = iter([1.0, 9.0])

    found, runs = searched(tmp_path, "text", lambda choice: 5.0 if choice == first else next(lucky, 1.0))

    assert found == first
    # A module with a table has no frozen form.
    assert set(runs) == {Choice(size, False) for size in (first.size // 2, first.size, first.size * 2)}


def test_a_choice_that_was_ahead_by_chance_goes_back(tmp_path: Path) -> None:
    """Twice as many records seem better when they are first tried, in a quiet moment, and worse ever after."""
    first = WORKLOADS["text"].choice
    quiet = iter([5.4] * REPEATS)
    rates = {first.size: lambda: 5.0, first.size * 2: lambda: next(quiet, 4.0), first.size * 4: lambda: 3.0}

    found, runs = searched(tmp_path, "text", lambda choice: rates.get(choice.size, lambda: 1.0)())

    assert Choice(first.size * 4, False) in runs
    assert found == first


def test_where_all_are_alike_the_search_stays_near_where_it_began(tmp_path: Path) -> None:
    first = WORKLOADS["text"].choice

    found, runs = searched(tmp_path, "text", lambda choice: 1.0 + math.log2(choice.size) / 100)

    assert found == Choice(first.size * 4, False)
    assert {each.size for each in runs} == {first.size // 2, first.size, first.size * 2, first.size * 4}


def test_what_was_found_is_not_searched_again(tmp_path: Path) -> None:
    found, _ = searched(tmp_path, "text", lambda choice: choice.size if choice.size < 10**5 else 1.0)

    assert searched(tmp_path, "text", lambda _: pytest.fail("searched again")) == (found, [])


def test_a_search_is_done_in_pieces(tmp_path: Path) -> None:
    """Wherever it is cut, it goes on to the same end, three steps from its beginning."""
    wanted = WORKLOADS["text"].choice.size * 8

    def rate(choice: Choice) -> float:
        return 10 - abs(math.log2(choice.size / wanted))

    whole, runs = searched(tmp_path / "whole", "text", rate)
    assert whole == Choice(wanted, False)

    for cut in range(1, len(runs)):
        first, begun = searched(tmp_path / str(cut), "text", rate, runs_left=cut)
        second, rest = searched(tmp_path / str(cut), "text", rate)

        assert second == whole
        # What was done before is not done again.
        assert begun + rest == runs
        assert first == (None if rest else whole)


def test_the_limit_runs_with_each_choice_by_turns(tmp_path: Path) -> None:
    given = Inputs(tmp_path, replace(WORKLOADS["vae"], rows=100, small=1, large=1), "parquet")
    given.make()
    wanted = {Choice(32, False), Choice(32, True), Choice(64, False)}

    subprocess.run(
        tries(given, list(wanted), 2, tmp_path / "out", tmp_path / "told"),
        check=True,
        env={**os.environ, **ENVIRONMENT},
    )

    found = {Choice.named(name): rates for name, rates in json.loads((tmp_path / "told").read_text()).items()}
    assert found.keys() == wanted
    assert all(len(rates) == 2 and min(rates) > 0 for rates in found.values())
    assert pq.read_metadata(tmp_path / "out" / "part-000.parquet").num_rows == 100


def test_nothing_is_beside_one_record_but_two() -> None:
    assert near(Choice(1, True), can_freeze=True) == [Choice(2, True), Choice(1, False)]


def test_a_choice_as_flags() -> None:
    assert Choice(8, False).flags == ["--size", "8"]
    assert Choice(8, True).flags == ["--size", "8", "--frozen"]


@pytest.mark.parametrize(("choice", "name"), [(Choice(8, False), "8"), (Choice(16, True), "16f")])
def test_a_choice_by_name(choice: Choice, name: str) -> None:
    assert choice.name == name
    assert Choice.named(name) == choice
