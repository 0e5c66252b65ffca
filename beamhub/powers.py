"""Powers of two: sizes of calls and of batches, so that one divides the other."""

from __future__ import annotations


def power_of_two(most: int) -> int:
    """The largest that is no larger, 1 at least."""
    return 1 << max(1, most).bit_length() - 1
