"""What a benchmark holds of a guest's memory, on a machine whose free memory the test says."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from benchmarks import ballast
from benchmarks.ballast import FREE, Ballast, free_bytes, has_free_page_reporting, paid_from_ballast

BLOCK = 1 << 20


class Machine:
    """Ten blocks more than what is left free, of which `taken` are in use, beside what the ballast holds."""

    def __init__(self) -> None:
        self.held = Ballast()
        self.taken = 0
        self.is_enough = threading.Event()

    def free(self) -> int:
        free = FREE + (10 - self.taken) * BLOCK - self.held.held
        if self.taken and free == FREE:
            self.is_enough.set()
        return free


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine()
    monkeypatch.setattr(ballast, "BLOCK", BLOCK)
    monkeypatch.setattr(ballast, "free_bytes", found.free)
    monkeypatch.setattr(ballast, "_ballast", lambda: found.held)
    return found


def test_what_is_free_is_held_and_given_out_as_it_is_taken(machine: Machine) -> None:
    machine.held.fill()
    filled = machine.held.held
    machine.taken = 4
    assert machine.is_enough.wait(60)
    given = machine.held.held
    machine.taken = 0
    machine.held.fill()
    again = machine.held.held
    machine.held.release()

    assert [each // BLOCK for each in (filled, given, again, machine.held.held)] == [9, 6, 9, 0]


def test_a_command_runs_beside_what_is_held(machine: Machine) -> None:
    cost = paid_from_ballast([sys.executable, "-c", "sum(range(1000))"], {})

    assert machine.held.held == 9 * BLOCK
    assert 0 < cost.cpu < cost.seconds + 1
    machine.held.release()


@pytest.mark.parametrize(("features", "has"), [("011001", True), ("111110", False), ("", False)])
def test_the_device_tells_of_free_page_reporting(tmp_path: Path, features: str, has: bool) -> None:
    device = tmp_path / "virtio1"
    device.mkdir()
    (device / "features").write_text(features + "0" * 58 + "\n")

    assert has_free_page_reporting(tmp_path) is has
    assert not has_free_page_reporting(tmp_path / "none")


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")

    assert free_bytes(tmp_path) == 3000
    assert free_bytes(tmp_path / "none") > 3000
