"""What a benchmark holds of a guest's memory, on a machine whose free memory the test says."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from benchmarks import ballast
from benchmarks.ballast import BLOCK, FREE, Ballast, has_free_page_reporting, paid_from_ballast


class Machine:
    """`taken` bytes of `FREE` and ten blocks are in use, beside what the ballast holds."""

    def __init__(self, held: Ballast) -> None:
        self._held = held
        self.taken = 0
        self.looked = threading.Event()

    def free(self) -> int:
        self.looked.set()
        return FREE + 10 * BLOCK - self._held.held - self.taken


def test_what_is_free_is_held_and_given_out_as_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Ballast()
    machine = Machine(held)
    monkeypatch.setattr(ballast, "free_bytes", machine.free)

    with held:
        before = held.held
        machine.taken = 4 * BLOCK
        while held.held > 6 * BLOCK:
            machine.looked.clear()
            assert machine.looked.wait(10)
    given = held.held
    machine.taken = 0
    with held:
        again = held.held
    held.release()

    assert (before, given, again, held.held) == (9 * BLOCK, 6 * BLOCK, 9 * BLOCK, 0)


@pytest.mark.parametrize(("features", "has"), [("011001", True), ("111110", False), ("", False)])
def test_the_device_tells_of_free_page_reporting(tmp_path: Path, features: str, has: bool) -> None:
    device = tmp_path / "virtio1"
    device.mkdir()
    (device / "features").write_text(features + "0" * 58 + "\n")

    assert has_free_page_reporting(tmp_path) is has
    assert not has_free_page_reporting(tmp_path / "none")


def test_a_command_costs_what_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ballast, "free_bytes", lambda: FREE)

    cost = paid_from_ballast([sys.executable, "-c", "bytearray(64 << 20)"], {})

    assert 0 < cost.cpu < cost.seconds + 1
