"""Rounds of a benchmark: outputs are compared first, and what is measured is kept, whatever a peer does wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import check
from benchmarks.process import CommandFailedError, Cost, cost_of
from benchmarks.results import Results
from benchmarks.rounds import Rounds
from benchmarks.systems import LIMIT, System
from benchmarks.workloads import WORKLOADS, Choice, Inputs
from tests.test_benchmarks import HERE, TEXT


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


def test_how_beamhub_called_is_kept_of_both_runs(tmp_path: Path, given: Inputs) -> None:
    """A slope between runs that settled on different sizes tells nothing."""

    def copy_with_version(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
        cost = copy(command, environment)
        spec = Path(command[0], "v=1", "_beamhub", "spec.json")
        spec.parent.mkdir(parents=True)
        size = 8192 if int(command[1]) > 500 else 16384
        spec.write_text(json.dumps({"call": {"batch_size": size, "frozen": size == 8192}}))
        return cost

    measured = Results(tmp_path / "results.jsonl", HERE)
    named = {LIMIT: copying(LIMIT), "beamhub": copying("beamhub")}
    Rounds(measured, named, tmp_path / "out", cost=copy_with_version).run([given], 1)

    found = [Choice(16384, False), Choice(8192, True)]
    assert measured.settled(TEXT, "beamhub") == found
    assert Results(tmp_path / "results.jsonl", HERE).settled(TEXT, "beamhub") == found


def test_other_systems_settle_nothing(tmp_path: Path, given: Inputs) -> None:
    rounds(tmp_path, copying(LIMIT)).run([given], 1)

    assert Results(tmp_path / "results.jsonl", HERE).settled(TEXT, LIMIT) == []


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
