"""How far reading may be ahead of writing."""

from __future__ import annotations

import threading

BYTES = 128 << 20
"""Of batches between reading and writing: their inputs and, once there are, their outputs."""


LARGE_BYTES = BYTES // 2
"""After a batch of more, which is a single record, the next is not read before there is room for one like it."""


class Budget:
    """What a process may hold between its readers and its writers. May be used by several threads.

    Few batches are faster than many: what was just computed is still in a core's cache when it is written.
    """

    def __init__(self, most_batches: int, most_bytes: int = BYTES) -> None:
        """One batch is let through whatever its size."""
        self._most_batches = most_batches
        self._most_bytes = most_bytes
        self._batches = 0
        self._bytes = 0
        self._bytes_made = 0.0
        self._changed = threading.Condition()

    def acquire(self, size: int) -> None:
        """Waits until there is room for a batch of `size` bytes, or nothing else is held."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(size))
            self._batches += 1
            self._bytes += size

    def wait_for(self, size: int) -> None:
        """Waits until `acquire` would not wait."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(size))

    def _has_room(self, size: int) -> bool:
        fits = self._batches < self._most_batches and self._bytes + size <= self._most_bytes
        return fits or not self._batches

    def expected(self, rows: int) -> int:
        """Bytes that so many records will be when they are computed, as those were that were computed last."""
        return int(rows * self._bytes_made)

    def resize(self, held: int, size: int) -> None:
        """What was `held` is now `size` bytes; it does not wait, for what is computed is there."""
        with self._changed:
            self._bytes += size - held
            if size < held:
                self._changed.notify_all()

    def learn(self, rows: int, size: int) -> None:
        """So many records have become so many bytes."""
        self._bytes_made = size / rows

    def release(self, size: int) -> None:
        """Gives a batch's bytes back."""
        with self._changed:
            self._batches -= 1
            self._bytes -= size
            self._changed.notify_all()
