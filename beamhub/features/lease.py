"""A lease on a version of a table: while a run lives, no other begins.

_beamhub/lease/00000007.json     who has it, and until when

Leases are numbered; the highest number is the one that counts, and of several runs that want the next number
`storage.create_exclusive` lets one have it. The holder writes its file anew, with a later end, as long as it lives. A holder
that is late finds a higher number beside its own. It is there to save two runs from doing the same work: what keeps a table
whole is the commit, of which there is only ever one at work (`beamhub.features.intent`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from beamhub import storage
from beamhub.errors import TableError
from beamhub.features.lineage import encode_document, read_document
from beamhub.features.paths import VersionPaths
from beamhub.features.steps import step

SECONDS = 120.0
"""A lease ends so long after its holder was last heard of; it is written anew after a quarter of that."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A run, the process that launched it, and when the lease `ends`, seconds of the epoch. `began` tells a process from another
    that has its number by now: the kernel's clock ticks at its start; 0 where the system does not tell."""

    run: str
    host: str
    process: int
    began: int
    ends: float

    @classmethod
    def here(cls, run: str, ends: float) -> Self:
        """This process."""
        return cls(run, socket.gethostname(), os.getpid(), _began(os.getpid()), ends)

    @classmethod
    def read(cls, path: str) -> Self:
        """Raises FileNotFoundError, or TableError where it is no lease."""
        document = read_document(path)
        try:
            return cls(**document)
        except TypeError as error:
            raise TableError(f"{path}: not a lease ({error}); delete it and run again") from error

    @property
    def is_dead(self) -> bool:
        """Whether it is known that it will not go on: it was a process of this machine, and is there no more."""
        return self.host == socket.gethostname() and _began(self.process) != self.began

    def __str__(self) -> str:
        """For people."""
        return f"run {self.run} (process {self.process} on {self.host})"


class Lease:
    """A context manager around a run: it holds the version's lease, or raises TableError where another run does."""

    def __init__(
        self, paths: VersionPaths, run: str, seconds: float = SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` gives seconds of the epoch."""
        self._paths = paths
        self._run = run
        self._seconds = seconds
        self._clock = clock
        self._number = 0
        self._over = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="beamhub-lease", daemon=True)

    def __enter__(self) -> Self:
        """Takes the lease where nobody has it, where its holder is dead, or where it has ended."""
        number = newest(self._paths)
        if number:
            self._check_over(number)
        step("lease")
        self._number = number + 1
        try:
            is_ours = storage.create_exclusive(self._path(self._number), self._document())
        except OSError as error:
            raise TableError(f"{self._paths.out} cannot be written ({error}): give a folder that can be") from error
        if not is_ours:
            raise self._refused(self._number)
        if self.is_lost:
            # Others have had this number and the next one since this run looked.
            storage.delete([self._path(self._number)])
            raise self._refused(newest(self._paths))
        storage.delete(self._path(each) for each in _numbers(self._paths) if each < self._number)
        self._renewer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives it back."""
        self._over.set()
        self._renewer.join()
        # Its number stays, with an end that has passed: the next one is higher whoever looks when. Where that cannot be written,
        # this process is gone soon, and on other machines the end comes by itself.
        with contextlib.suppress(OSError):
            if not self.is_lost:
                storage.write_bytes(self._path(self._number), self._document(ends=0.0))

    @property
    def is_lost(self) -> bool:
        """Whether another run has taken it, for this one was not heard of for too long."""
        return newest(self._paths) != self._number

    def renew(self) -> bool:
        """Puts off the end. False where another run has taken it."""
        if self.is_lost:
            return False
        storage.write_bytes(self._path(self._number), self._document())
        return True

    def _renew(self) -> None:
        while not self._over.wait(self._seconds / 4):
            # What cannot be written now may be the next time; until then the lease goes on as it is.
            with contextlib.suppress(OSError):
                if not self.renew():
                    return

    def _check_over(self, number: int) -> None:
        try:
            holder = Holder.read(self._path(number))
        except FileNotFoundError:
            # Deleted just now, by who has the next one.
            raise self._refused(number + 1) from None
        if holder.ends > self._clock() and not holder.is_dead:
            raise self._refused(number, holder)

    def _refused(self, number: int, holder: Holder | None = None) -> TableError:
        with contextlib.suppress(OSError, TableError):
            holder = holder or Holder.read(self._path(number))
        if holder is None:
            return TableError(f"{self._paths.root}: another run has begun just now; wait until it has ended")
        left = max(0.0, holder.ends - self._clock())
        return TableError(
            f"{self._paths.root}: {holder} is at work; wait until it has ended, or, if it is dead, {left:.0f} s until its lease "
            f"ends; nothing was changed"
        )

    def _document(self, ends: float | None = None) -> bytes:
        holder: dict[str, Any] = asdict(Holder.here(self._run, self._clock() + self._seconds if ends is None else ends))
        return encode_document(holder)

    def _path(self, number: int) -> str:
        return storage.join(self._paths.leases, f"{number:08d}.json")


def newest(paths: VersionPaths) -> int:
    """The number of the lease that counts; 0 where there was none yet."""
    return max(_numbers(paths), default=0)


def _numbers(paths: VersionPaths) -> list[int]:
    names = (file.path.rpartition("/")[2].removesuffix(".json") for file in storage.list_files(paths.leases))
    return [int(name) for name in names if name.isdigit()]


def _began(process: int) -> int:
    """When a process of this machine began, in clock ticks (proc(5), /proc/PID/stat, field 22); 0 where there is none."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            # The second field is the command in parentheses, which may hold anything.
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0
