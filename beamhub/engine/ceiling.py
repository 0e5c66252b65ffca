"""How large a call may be, as far as memory has shown."""

from __future__ import annotations

import math
import threading

PATIENCE, MOST_PATIENCE = 64, 4096
"""So many calls as large as may be have to pass before one twice as large is tried; twice as many after each try in vain."""


class Ceiling:
    """Of calls of one module in one process; may be used by several threads.

    It is of values, not of records: of a module whose records differ in length the long ones come in smaller calls.
    """

    def __init__(self) -> None:
        """Nothing was refused yet."""
        self._lock = threading.Lock()
        self._most = math.inf
        self._passed = 0
        self._patience = PATIENCE
        self._has_grown = False

    def size(self, wanted: int, length: int, least: int) -> int:
        """Records in a call where `wanted` would be called, of `length` values each: halved until they may be, `least` at
        least."""
        size = wanted
        while size * length > self._most and size // 2 >= least:
            size //= 2
        return size

    def lower(self, size: int, length: int) -> None:
        """Such a call took more memory than there was. Of several at once it is halved once."""
        with self._lock:
            half = size * length / 2
            if half < self._most:
                if self._has_grown:
                    self._patience = min(2 * self._patience, MOST_PATIENCE)
                self._most, self._passed, self._has_grown = half, 0, False

    def passed(self, size: int, length: int) -> None:
        """Such a call had enough."""
        if 2 * size * length <= self._most or self._most == math.inf:
            return
        with self._lock:
            self._passed += 1
            if self._passed >= self._patience:
                self._most, self._passed, self._has_grown = 2 * self._most, 0, True
