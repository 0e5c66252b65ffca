"""A command, and what it cost: wall time, CPU time and memory of its whole process tree."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Cost:
    """`seconds` by the clock, `cpu` seconds of all processes, `peak` bytes resident at once in all of them."""

    seconds: float
    cpu: float
    peak: int


class CommandFailedError(RuntimeError):
    """A benchmarked command ended with an error."""


LIMIT_SECONDS = 900
"""A command that takes longer has hung."""


def cost_of(command: Sequence[str], environment: Mapping[str, str], limit: float = LIMIT_SECONDS) -> Cost:
    """Runs a command to its end. Raises CommandFailedError with the end of what it said; no process is left behind."""
    with tempfile.TemporaryFile("w+") as log:
        started = time.monotonic()
        # Bytecode is there, as that of an installed package is.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**inherited, **environment})
        watch = _Watch(process.pid, limit)
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        watch.stop()
        log.seek(0)
        output = log.read()
    if watch.late:
        raise CommandFailedError(f"{' '.join(command)}: not done after {limit:.0f} s\n{output[-3000:]}")
    if process.returncode:
        raise CommandFailedError(f"{' '.join(command)}: exit {process.returncode}\n{output[-3000:]}")
    # Processes that nobody waits for (a daemon's workers) are in no rusage, but were seen alive.
    return Cost(seconds, max(usage.ru_utime + usage.ru_stime, watch.cpu), watch.peak)


class _Watch(threading.Thread):
    """Looks at a process and its children ten times a second, and ends them all when they are late."""

    def __init__(self, pid: int, limit: float) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._deadline = time.monotonic() + limit
        self._seen: dict[int, psutil.Process] = {}
        self.late = False
        self._done = threading.Event()
        self._cpu: dict[int, float] = {}
        self.peak = 0

    @property
    def cpu(self) -> float:
        return sum(self._cpu.values())

    def run(self) -> None:
        while not self._done.wait(0.1):
            self._look()
            if time.monotonic() > self._deadline and not self.late:
                self.late = True
                self._kill()

    def _look(self) -> None:
        with contextlib.suppress(psutil.Error):
            resident = 0
            for each in [self._root, *self._root.children(recursive=True)]:
                self._seen[each.pid] = each
                with contextlib.suppress(psutil.Error):
                    resident += each.memory_info().rss
                    times = each.cpu_times()
                    self._cpu[each.pid] = times.user + times.system
            self.peak = max(self.peak, resident)

    def _kill(self) -> None:
        for each in self._seen.values():
            # psutil looks at the start time too: an id that another process has by now is left alone.
            with contextlib.suppress(psutil.Error):
                each.kill()

    def stop(self) -> None:
        """Ends what the command left running, and waits for it: daemons of a cluster that nobody shut down."""
        self._done.set()
        self.join()
        self._kill()
        psutil.wait_procs([each for each in self._seen.values() if each.pid != self._root.pid], timeout=30)
