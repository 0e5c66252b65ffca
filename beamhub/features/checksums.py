"""CRC-32C of files, while they are written or afterwards."""

from __future__ import annotations

import io
from typing import IO, BinaryIO, cast

import google_crc32c
import numpy as np
import pyarrow as pa

_BLOCK = 1 << 20
"""More would not stay in a core's cache between reading and adding up: 8 MiB take twice as long."""


def checksum_of(file: BinaryIO) -> tuple[int, str]:
    """Bytes and CRC-32C (8 hex digits) of what is left of a file."""
    # Always the same memory: a block made anew would be taken from the system, cleared and given back. Of what can be written
    # to, google_crc32c takes arrays of numpy and nothing else.
    block = np.empty(_BLOCK, np.uint8)
    size, crc = 0, 0
    while length := cast(io.BufferedIOBase, file).readinto(block.data):
        size += length
        crc = google_crc32c.extend(crc, block[:length])
    return size, f"{crc:08x}"


class ChecksumFile(io.IOBase):
    """Passes what is written on to `file`, which it does not close, and knows its length and CRC-32C."""

    def __init__(self, file: IO[bytes]) -> None:
        """Begins with nothing written."""
        super().__init__()
        self._file = file
        self._crc = 0
        self.size = 0

    @property
    def checksum(self) -> str:
        """CRC-32C of all that was written, 8 hex digits."""
        return f"{self._crc:08x}"

    def write(self, data: bytes | memoryview) -> int:
        """Writes all of it."""
        # google_crc32c takes bytes and nothing else.
        block = data if isinstance(data, bytes) else bytes(data)
        self._file.write(block)
        self._crc = google_crc32c.extend(self._crc, block)
        self.size += len(block)
        return len(block)

    def native(self) -> pa.NativeFile:
        """The same file for Arrow, which then writes it all; `measure` afterwards.

        A file of this machine Arrow writes by itself. Through Python each page would wait for the interpreter's lock: beside
        a thread that holds it, 11 microseconds a row of 64 floats instead of 1.7.
        """
        if isinstance(self._file, io.BufferedWriter):
            return pa.OSFile(self._file.name, "wb")
        return pa.PythonFile(self, "w")

    def measure(self) -> None:
        """Takes the length and the checksum of what Arrow has written by itself."""
        if isinstance(self._file, io.BufferedWriter):
            with open(self._file.name, "rb", buffering=0) as written:
                self.size, checksum = checksum_of(written)
            self._crc = int(checksum, 16)

    def writable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Bytes written."""
        return self.size
