"""CRC-32C of files, while they are written or afterwards."""

from __future__ import annotations

import io
from typing import IO, BinaryIO

import google_crc32c

_BLOCK = 8 << 20


def checksum_of(file: BinaryIO) -> tuple[int, str]:
    """Bytes and CRC-32C (8 hex digits) of what is left of a file."""
    size, crc = 0, 0
    while block := file.read(_BLOCK):
        size += len(block)
        crc = google_crc32c.extend(crc, block)
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

    def writable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Bytes written."""
        return self.size
