"""A command on a terminal of its own (a pseudo-terminal as its standard error), and what it draws there."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_FIGURES = re.compile(
    r"(?P<phase>starting|computing|committing).*? (?P<percent>\d+)% (?P<rows>[\d,]+) rows (?:(?P<rate>[\d,]+) rows/s )?"
    r"(?P<shards>[\d,]+)/(?P<of>[\d,]+) shards(?: ETA (?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+))?"
)


@dataclass(frozen=True)
class Drawn:
    """One state of the bar; `at` is when it was seen, `eta` in seconds, None where it shows none."""

    at: float
    phase: str
    percent: int
    rows: int
    shards: int
    of: int
    rate: int | None
    eta: int | None


class Terminal:
    """Runs a command; a context manager that ends it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], columns: int = 120) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=slave,
            text=True,
            env={**environment, "TERM": environment.get("TERM", "xterm"), "COLUMNS": str(columns)},
            start_new_session=True,
        )
        os.close(slave)
        self.raw = ""

    def drawn(self) -> Iterator[Drawn]:
        """The states of the bar as they come, until the command ends or hangs up."""
        while True:
            try:
                block = os.read(self._master, 1 << 16)
            except OSError:
                # Linux's way to say that nobody holds the other end.
                return
            text = block.decode(errors="replace")
            self.raw += text
            yield from states(text, time.monotonic())

    def hang_up(self) -> None:
        """The terminal goes away."""
        os.close(self._master)
        self._master = -1

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        if self._master >= 0:
            self.hang_up()


def states(text: str, at: float) -> Iterator[Drawn]:
    """The states of the bar in what was written to a terminal."""
    for found in _FIGURES.finditer(_CONTROL.sub("", text)):
        numbers = {
            name: int(value.replace(",", "")) for name, value in found.groupdict("-1").items() if name != "phase"
        }
        eta = 3600 * numbers["hours"] + 60 * numbers["minutes"] + numbers["seconds"] if found["hours"] else None
        rate = numbers["rate"] if found["rate"] else None
        yield Drawn(
            at, found["phase"], numbers["percent"], numbers["rows"], numbers["shards"], numbers["of"], rate, eta
        )
