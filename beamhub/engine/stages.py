"""How busy each stage of the work is, so that a run can say what holds it up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Stage = Literal["read", "prepare", "infer", "encode", "write", "close"]
COMPUTED = ("prepare", "infer", "encode")
"""Stages of the compute threads. `read`, `write` and `close` (which waits for the disk, or uploads) have a thread each for every
lane."""


class Stages:
    """Microseconds that the stages of one process were busy, all threads together, and for how long they could have been.

    `lanes` counts the microseconds of threads that read (those that write are as many), `compute` those of the compute
    threads; both only while there is work. May be used by several threads.
    """

    def __init__(self, threads: int) -> None:
        """`threads` compute."""
        self._threads = threads
        self._lock = threading.Lock()
        self._micros: dict[str, int] = {}
        self._lanes = 0
        self._since = 0.0

    @contextmanager
    def busy(self, stage: Stage) -> Iterator[None]:
        """The block is work of that stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.count(f"{stage}_us", int((time.perf_counter() - started) * 1e6))

    def count(self, name: str, amount: int) -> None:
        """Adds to a figure of any name."""
        with self._lock:
            self._micros[name] = self._micros.get(name, 0) + amount

    @contextmanager
    def lane(self) -> Iterator[None]:
        """While the block runs, a thread feeds the stages."""
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def _change(self, lanes: int) -> None:
        with self._lock:
            self._settle()
            self._lanes += lanes

    def _settle(self) -> None:
        now = time.perf_counter()
        if self._lanes:
            passed = int((now - self._since) * 1e6)
            self._micros["lanes_us"] = self._micros.get("lanes_us", 0) + passed * self._lanes
            self._micros["compute_us"] = self._micros.get("compute_us", 0) + passed * self._threads
        self._since = now

    def take(self) -> dict[str, int]:
        """All figures since they were last taken; whoever takes them adds them up."""
        with self._lock:
            self._settle()
            taken, self._micros = self._micros, {}
        return taken
