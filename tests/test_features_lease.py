"""Leases: one run at a time, and none that waits for the dead."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from beamhub.errors import TableError
from beamhub.features.lease import Holder, Lease, newest
from beamhub.features.paths import VersionPaths

HOLD = """
import sys, time
from beamhub.features.lease import Lease
from beamhub.features.paths import VersionPaths
with Lease(VersionPaths(sys.argv[1], "e0123"), "first"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def paths(tmp_path: Path) -> VersionPaths:
    return VersionPaths(str(tmp_path), "e0123")


def holder(paths: VersionPaths) -> dict[str, object]:
    document: dict[str, object] = json.loads(Path(paths.leases, f"{newest(paths):08d}.json").read_text())
    return document


def write(paths: VersionPaths, holder: Holder) -> None:
    """As a run that is not of this process."""
    Path(paths.leases).mkdir(parents=True, exist_ok=True)
    Path(paths.leases, "00000007.json").write_text(
        json.dumps({name: getattr(holder, name) for name in ("run", "host", "process", "began", "ends")})
    )


def test_second_run_is_refused_while_the_first_one_lives(paths: VersionPaths) -> None:
    with Lease(paths, "first"):
        with pytest.raises(TableError, match=r"run first \(process \d+ on .*\) is at work"), Lease(paths, "second"):
            pass
        assert holder(paths)["run"] == "first"

    with Lease(paths, "third"):
        assert holder(paths)["run"] == "third"
    assert [path.name for path in Path(paths.leases).iterdir()] == ["00000002.json"]


def test_process_that_was_killed_is_not_waited_for(paths: VersionPaths) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, paths.out], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(TableError, match="run first"), Lease(paths, "second"):
        pass
    process.kill()
    process.communicate()

    with Lease(paths, "second") as lease:
        assert not lease.is_lost
        assert newest(paths) == 2


def test_lease_of_another_machine_is_waited_for_until_it_ends(paths: VersionPaths) -> None:
    write(paths, Holder("first", "elsewhere", 1, 1, ends=1000.0))

    with (
        pytest.raises(TableError, match=r"elsewhere\) is at work; .* 1 s until"),
        Lease(paths, "second", clock=lambda: 999.0),
    ):
        pass
    with Lease(paths, "second", clock=lambda: 1001.0):
        assert newest(paths) == 8


def test_holder_that_is_late_finds_that_it_lost_the_lease(paths: VersionPaths) -> None:
    now = [0.0]
    with Lease(paths, "first", clock=lambda: now[0]) as first:
        write(paths, Holder("second", "elsewhere", 1, 1, ends=1e12))
        now[0] = 1e6

        assert first.is_lost
        assert not first.renew()

    # What it gives back is not the other one's.
    assert holder(paths)["run"] == "second"


def test_lease_is_renewed_while_its_holder_lives(paths: VersionPaths) -> None:
    renewed = threading.Event()
    times = iter(range(1000))

    def clock() -> float:
        now = next(times)
        if now == 5:
            renewed.set()
        return now

    with Lease(paths, "first", seconds=0.01, clock=clock):
        assert renewed.wait(60)
        assert float(str(holder(paths)["ends"])) > 1


def test_of_many_that_begin_at_once_one_has_it(paths: VersionPaths) -> None:
    begin, end = threading.Barrier(8), threading.Barrier(8)
    held: list[int] = []

    def run(number: int) -> None:
        begin.wait()
        try:
            with Lease(paths, f"run-{number}"):
                held.append(number)
                end.wait()
        except TableError:
            end.wait()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1


def test_broken_lease_says_what_to_do(paths: VersionPaths) -> None:
    Path(paths.leases).mkdir(parents=True)
    Path(paths.leases, "00000003.json").write_text('{"run": "x"}')

    with pytest.raises(TableError, match=r"not a lease .*; delete it and run again"), Lease(paths, "second"):
        pass
