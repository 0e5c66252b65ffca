"""TFRecord: a file of byte strings, each framed by its length and two checksums.

The format (TensorFlow, `tensorflow/core/lib/io/record_writer.h` and
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details), all little-endian:

    uint64 length, uint32 masked CRC-32C of those 8 bytes, data, uint32 masked CRC-32C of the data

    masked = ((crc >> 15) | (crc << 17)) + 0xa282ead8, modulo 2**32

A file may be compressed as a whole: `beamhub.corpus.inflated`.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import google_crc32c
import numpy as np
import numpy.typing as npt

from beamhub.errors import CorpusError

_HEADER = struct.Struct("<QI")
_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_FOOTER_BYTES = _CHECKSUM.size
_MASK = 0xA282EAD8

HEADER_BYTES = _HEADER.size
FRAME_BYTES = HEADER_BYTES + _FOOTER_BYTES
"""What a frame takes beside its data."""

_BLOCK = 1 << 20
LARGEST_RECORD = (1 << 31) - 1
"""A protocol buffer ends at 2 GiB, so a longer record is damage (or an attack), not data."""

_MEND = "write the file again or leave it out of the corpus"


def write_records(file: BinaryIO, records: Iterable[bytes]) -> int:
    """Writes records as TFRecord frames, uncompressed, to an open file; returns how many."""
    count = 0
    for record in records:
        file.write(_header(len(record)) + record + _CHECKSUM.pack(_masked(record)))
        count += 1
    return count


@functools.lru_cache(maxsize=4096)
def _header(length: int) -> bytes:
    data = _LENGTH.pack(length)
    return data + _CHECKSUM.pack(_masked(data))


def _masked(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def masked(crcs: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Checksums as frames hold them."""
    return ((crcs >> np.uint32(15)) | (crcs << np.uint32(17))) + np.uint32(_MASK)


class DamagedFrameError(CorpusError):
    """Bytes that are no whole frame; `offset` is where it would begin."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


def is_framed(head: bytes) -> bool:
    """Do these bytes begin with a whole frame header? True for no bytes: a file without records is empty."""
    if len(head) < _HEADER.size:
        return not head
    return bool(_HEADER.unpack_from(head)[1] == _masked(head[: _LENGTH.size]))


class Readable(Protocol):
    """What bytes are read from: `read(n)` gives some, at most n, and none at the end only."""

    def read(self, size: int, /) -> bytes:
        """Some bytes, at most `size`."""


Offsets = npt.NDArray[np.int64]

_NOWHERE: Offsets = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Frames:
    """Consecutive records, and where the frame of each begins in the uncompressed stream, int64 [records]."""

    records: list[bytes]
    offsets: Offsets

    @property
    def nbytes(self) -> int:
        """Bytes of the frames."""
        return self.end - int(self.offsets[0]) if self.records else 0

    @property
    def end(self) -> int:
        """Where the last one's frame ends in the uncompressed stream; 0 for none."""
        return int(self.offsets[-1]) + len(self.records[-1]) + FRAME_BYTES if self.records else 0


class FrameReader:
    """Reads frames from a stream of uncompressed bytes and verifies every checksum.

    About 0.5 microseconds for a record of 150 bytes, by two means: the loop over records does nothing but cut
    (the checksums of the data are compared afterwards, a block at a time), and the checksum of a length is
    computed once for each length that occurs. Memory is one chunk and one block of 1 MiB.
    """

    def __init__(self, stream: Readable, path: str, start: int = 0, stop: int | None = None) -> None:
        """`stream` is at offset `start`, where a frame begins; frames that begin at `stop` or later are left.

        `path` is for messages.
        """
        self.stream = stream
        self._path = path
        self.stop = stop
        self._buffer = b""
        self._base = start
        self._position = 0
        # The masked checksum of each length met so far.
        self._length_checks: dict[int, int] = {}

    @property
    def offset(self) -> int:
        """Where the next frame begins, or the end of the stream."""
        return self._base + self._position

    def take(self, rows: int, max_bytes: int) -> Frames | None:
        """The next records: at most `rows` and `max_bytes` (frames counted), one at least; None at the end.

        Raises DamagedFrameError, with the offset in the uncompressed stream, for damage and for an end inside a
        record.
        """
        records: list[bytes] = []
        offsets: list[Offsets] = []
        start = self.offset
        limit = start + max_bytes
        while len(records) < rows and not self._is_past(self.offset):
            needed = self._cut(records, offsets, rows, limit)
            if self._is_past(self.offset):
                break
            if needed > LARGEST_RECORD:
                raise DamagedFrameError(
                    self.offset, f"{self._path}: the record at byte {self.offset} claims {needed:,} bytes; {_MEND}"
                )
            if records and self.offset + needed > limit:
                break
            limit = max(limit, start + needed)
            if needed and not self._fill(needed):
                break
        return Frames(records, np.concatenate(offsets)) if records else None

    def _is_past(self, offset: int) -> bool:
        return self.stop is not None and offset >= self.stop

    def _cut(self, records: list[bytes], offsets: list[Offsets], rows: int, limit: int) -> int:
        """Appends the records that are whole in the buffer and end before `limit`; the size of the next, 0 for none."""
        buffer, base, position = self._buffer, self._base, self._position
        checks, unpack = self._length_checks, _HEADER.unpack_from
        end = min(len(buffer), limit - base)
        cut: list[bytes] = []
        append = cut.append
        needed = HEADER_BYTES
        for _ in range(rows - len(records)):
            if position + HEADER_BYTES > end:
                needed = HEADER_BYTES
                break
            length, check = unpack(buffer, position)
            try:
                known = checks[length]
            except KeyError:
                known = checks[length] = _masked(_LENGTH.pack(length))
            if known != check:
                if self._is_past(base + position):
                    break
                raise self._damaged(base + position, "length")
            needed = length + FRAME_BYTES
            if position + needed > end:
                break
            append(buffer[position + HEADER_BYTES : position + needed - _FOOTER_BYTES])
            position += needed
        else:
            needed = 0
        ends = self._position + np.cumsum(np.fromiter(map(len, cut), np.int64, len(cut)) + FRAME_BYTES)
        starts = base + np.concatenate(([self._position], ends[:-1])) if cut else _NOWHERE
        if self.stop is not None and self._is_past(base + position):
            ours = int(np.searchsorted(starts, self.stop))
            cut, starts, ends = cut[:ours], starts[:ours], ends[:ours]
            position = int(ends[-1]) if ours else self._position
        self._verify(cut, starts, ends)
        records += cut
        offsets.append(starts)
        self._position = position
        return needed

    def _verify(self, records: list[bytes], starts: Offsets, ends: Offsets) -> None:
        """Compares the checksums of the data; `ends` are where frames end in the buffer."""
        if not records:
            return
        footers = ends[:, None] + np.arange(-_FOOTER_BYTES, 0)
        stored = np.frombuffer(self._buffer, np.uint8)[footers].view("<u4").ravel()
        crcs = np.fromiter(map(google_crc32c.value, records), np.uint32, len(records))
        wrong = np.flatnonzero(masked(crcs) != stored)
        if wrong.size:
            raise self._damaged(int(starts[wrong[0]]), "data")

    def _fill(self, needed: int) -> bool:
        """Reads until the next record is in the buffer; False at the end of the file."""
        parts = [self._buffer[self._position :]]
        have = len(parts[0])
        self._base += self._position
        self._position = 0
        while have < needed:
            block = self.stream.read(_BLOCK)
            if not block:
                break
            parts.append(block)
            have += len(block)
        self._buffer = b"".join(parts)
        if 0 < have < needed:
            raise DamagedFrameError(
                self._base, f"{self._path}: truncated inside the record at byte {self._base}; {_MEND}"
            )
        return have > 0

    def _damaged(self, offset: int, part: str) -> DamagedFrameError:
        return DamagedFrameError(
            offset, f"{self._path}: the {part} of the record at byte {offset} is not what was written; {_MEND}"
        )
