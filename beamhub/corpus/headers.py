"""Finds where a record of a TFRecord file may begin, for a reader that does not come from the file's start.

A record begins with 8 bytes of length and the checksum of these 8 bytes, which other bytes resemble once in four billion
times; but a record may hold a TFRecord file as its data. So what is found is a candidate, and only reading on tells.
"""

from __future__ import annotations

import functools
from typing import BinaryIO

import google_crc32c
import numpy as np
import numpy.typing as npt

from beamhub.corpus.framing import FRAME_BYTES, HEADER_BYTES, LARGEST_RECORD, masked

_BLOCK = 1 << 20


def find_record(file: BinaryIO, start: int, stop: int, size: int) -> int | None:
    """The first place from `start` to before `stop` where a record may begin that ends within the file's `size` bytes."""
    while start < stop:
        file.seek(start)
        block = file.read(_BLOCK)
        if len(block) < HEADER_BYTES:
            return None
        places, lengths = _headers(block)
        fits = (start + places < stop) & (start + places + lengths + FRAME_BYTES <= size)
        found = places[fits]
        if found.size:
            return start + int(found[0])
        # A header may lie across the seam.
        start += len(block) - HEADER_BYTES + 1
    return None


def _headers(block: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where headers begin whose checksum holds, and the lengths that they tell; both int64 [headers]."""
    data = np.frombuffer(block, np.uint8)
    count = len(data) - HEADER_BYTES + 1
    # No record has 2 GiB, so the upper half of a length is zero: few places are left, and the rest needs four bytes.
    blank = data == 0
    upper = np.logical_and.reduce([blank[at : at + count] for at in (4, 5, 6, 7)])
    places = np.flatnonzero(upper)
    crc = np.full(len(places), _crc(bytes(8)), np.uint32)
    lengths = np.zeros(len(places), np.int64)
    for at, table in enumerate(_tables()):
        values = data[places + at]
        crc ^= table[values]
        lengths |= values.astype(np.int64) << (8 * at)
    stored = data[places[:, None] + np.arange(8, HEADER_BYTES)].view("<u4").ravel()
    holds = (masked(crc) == stored) & (lengths <= LARGEST_RECORD)
    return places[holds], lengths[holds]


@functools.cache
def _tables() -> list[npt.NDArray[np.uint32]]:
    """What each value of each of the first four bytes adds to the checksum of 8 bytes, which is linear in its bits."""
    blank = _crc(bytes(8))
    return [
        np.array([_crc(bytes(at) + bytes([value]) + bytes(7 - at)) ^ blank for value in range(256)], np.uint32)
        for at in range(4)
    ]


def _crc(data: bytes) -> int:
    value: int = google_crc32c.value(data)
    return value
