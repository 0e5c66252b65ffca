"""Memory that a virtual machine really has: held while nothing needs it, and given out as a measured command asks for it.

Some hosts take back what a guest has had free for two seconds (free page reporting of virtio-balloon), and must find it again
when it is next touched: 1 to 2.5 seconds for each GiB on ours, instead of 0.06. Which of the pages that a command writes
files to are such is chance, and costs more than what systems differ by.
"""

from __future__ import annotations

import functools
import mmap
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.process import Cost, cost_of

BLOCK = 64 << 20
"""Bytes that are held or given out at a time."""
FREE = 1 << 30
"""Bytes that are left free for what is asked for between two looks."""
SECONDS = 0.01
"""Between two looks."""
_REPORTING = 5
"""The number of the feature: VIRTIO_BALLOON_F_REPORTING, Virtual I/O Device (VIRTIO) 1.2, 5.5.3."""


def has_free_page_reporting(devices: Path = Path("/sys/bus/virtio/drivers/virtio_balloon")) -> bool:
    """Whether this machine is such a guest."""
    features = [path.read_text().strip() for path in devices.glob("virtio*/features")]
    return any(each[_REPORTING : _REPORTING + 1] == "1" for each in features)


def paid_from_ballast(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """`cost_of` a command that gets memory which the machine really has."""
    _ballast().fill()
    return cost_of(command, environment)


class Ballast:
    """Holds free memory but for `FREE`, touched, once it is filled; gives it out, from then on, to whoever takes some."""

    def __init__(self) -> None:
        self._held: list[mmap.mmap] = []
        self._over = threading.Event()
        self._giving = threading.Thread(target=self._give, daemon=True)

    @property
    def held(self) -> int:
        """Bytes."""
        return len(self._held) * BLOCK

    def fill(self) -> None:
        """Takes what is free."""
        while free_bytes() > FREE + BLOCK:
            populated = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
            self._held.append(mmap.mmap(-1, BLOCK, flags=populated))
        if not self._giving.ident:
            self._giving.start()

    def release(self) -> None:
        """Gives everything back, for good."""
        self._over.set()
        self._giving.join()
        while self._held:
            self._held.pop().close()

    def _give(self) -> None:
        while not self._over.wait(SECONDS):
            while self._held and free_bytes() < FREE:
                self._held.pop().close()


@functools.cache
def _ballast() -> Ballast:
    return Ballast()


def free_bytes(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that nothing is in, and that this process may have: a container's limit counts."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemFree:"))
    most, used = group / "memory.max", group / "memory.current"
    if not most.exists() or (text := most.read_text().strip()) == "max":
        return free
    return min(free, int(text) - int(used.read_text()))
