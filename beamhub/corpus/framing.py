"""TFRecord: a file of byte strings, each framed by its length and two checksums.

The format (TensorFlow, `tensorflow/core/lib/io/record_writer.h` and
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details), all little-endian:

    uint64 length, uint32 masked CRC-32C of those 8 bytes, data, uint32 masked CRC-32C of the data

    masked = ((crc >> 15) | (crc << 17)) + 0xa282ead8, modulo 2**32

A file may be compressed as a whole: `beamhub.corpus.inflated`.
"""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa

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
_LARGE_BUFFER = 4 << 20
"""What is cut of a buffer is let go at once where it is more: one long record filled it."""

_LARGEST_VIEWED = (1 << 31) - 1
_LONGEST_INLINE = 12
"""A view of so many bytes holds them itself."""

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


@functools.cache
def _length_tables() -> npt.NDArray[np.uint32]:
    """What each value of each of the low four bytes of a length changes in its checksum, uint32 [4, 256].

    A CRC is affine over bits: those of the bytes that are set, taken one by one, add up by exclusive or.
    """
    values = [[google_crc32c.value(_LENGTH.pack(value << 8 * place)) for value in range(256)] for place in range(4)]
    return np.array(values, np.uint32) ^ np.uint32(google_crc32c.value(bytes(8)))


def _length_checks(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """The masked checksums of lengths below 4 GiB."""
    tables = _length_tables()
    places = lengths.astype("<u4").view(np.uint8).reshape(-1, 4)
    crcs = np.full(len(lengths), google_crc32c.value(bytes(8)), np.uint32)
    for place in range(4):
        crcs ^= tables[place][places[:, place]]
    return masked(crcs)


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


def _slices(buffer: bytes, starts: Offsets, ends: Offsets) -> list[bytes]:
    """The parts of a buffer. Arrow makes them in a third of the time of Python's slices, of parts that views refer to."""
    lengths = ends - starts
    if not starts.size or len(buffer) > _LARGEST_VIEWED or lengths.min() <= _LONGEST_INLINE:
        return [buffer[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    # https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout: length, the first four bytes (which
    # making `bytes` does not look at), which buffer, where in it.
    views = np.zeros((len(starts), 4), np.int32)
    views[:, 0] = lengths
    views[:, 3] = starts
    parts = pa.Array.from_buffers(pa.binary_view(), len(starts), [None, pa.py_buffer(views), pa.py_buffer(buffer)])
    made: list[bytes] = parts.to_numpy(zero_copy_only=False).tolist()
    return made


class FrameReader:
    """Reads frames from a stream of uncompressed bytes and verifies every checksum.

    The loop over records does nothing but add up lengths; records are cut, and checksums compared, a block at a time. Memory
    is one chunk and one block of 1 MiB.
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
        if self._position > _LARGE_BUFFER:
            self._drop()
        return Frames(records, np.concatenate(offsets)) if records else None

    def _is_past(self, offset: int) -> bool:
        return self.stop is not None and offset >= self.stop

    def _cut(self, records: list[bytes], offsets: list[Offsets], rows: int, limit: int) -> int:
        """Appends the records that are whole in the buffer and end before `limit`; the size of the next, 0 for none."""
        ends = np.array(self._walk(rows - len(records), min(len(self._buffer), limit - self._base)), np.int64)
        starts = np.concatenate(([self._position], ends[:-1])) if ends.size else ends
        if self.stop is not None:
            ours = int(np.searchsorted(starts, self.stop - self._base))
            starts, ends = starts[:ours], ends[:ours]
        self._verify_lengths(starts, ends)
        cut = _slices(self._buffer, starts + HEADER_BYTES, ends - _FOOTER_BYTES)
        self._verify(cut, starts, ends)
        records += cut
        offsets.append(self._base + starts)
        self._position = int(ends[-1]) if ends.size else self._position
        return 0 if len(records) == rows or self._is_past(self.offset) else self._needed()

    def _walk(self, rows: int, end: int) -> list[int]:
        """Where frames end that are whole before `end`, by their lengths alone."""
        buffer, position, unpack = self._buffer, self._position, _LENGTH.unpack_from
        stops: list[int] = []
        append = stops.append
        last = len(buffer) - HEADER_BYTES
        for _ in itertools.repeat(None, rows):
            if position > last:
                break
            stop = position + FRAME_BYTES + unpack(buffer, position)[0]
            if stop > end:
                break
            append(stop)
            position = stop
        return stops

    def _needed(self) -> int:
        """The size of the next frame; that of a header where its own is not in the buffer."""
        if self._position + HEADER_BYTES > len(self._buffer):
            return HEADER_BYTES
        length, check = _HEADER.unpack_from(self._buffer, self._position)
        if _masked(_LENGTH.pack(length)) != check:
            raise self._damaged(self.offset, "length")
        return int(length) + FRAME_BYTES

    def _verify_lengths(self, starts: Offsets, ends: Offsets) -> None:
        checks = _length_checks(ends - starts - FRAME_BYTES)
        wrong = np.flatnonzero(checks != self._words(starts + _LENGTH.size))
        if wrong.size:
            raise self._damaged(self._base + int(starts[wrong[0]]), "length")

    def _verify(self, records: list[bytes], starts: Offsets, ends: Offsets) -> None:
        """Compares the checksums of the data."""
        crcs = np.fromiter(map(google_crc32c.value, records), np.uint32, len(records))
        wrong = np.flatnonzero(masked(crcs) != self._words(ends - _FOOTER_BYTES))
        if wrong.size:
            raise self._damaged(self._base + int(starts[wrong[0]]), "data")

    def _words(self, places: Offsets) -> npt.NDArray[np.uint32]:
        """The 32 bits at some places of the buffer, which need not be aligned."""
        every: npt.NDArray[np.uint32] = np.ndarray((max(0, len(self._buffer) - 3),), "<u4", self._buffer, strides=(1,))
        return every[places]

    def _drop(self) -> None:
        """Lets go of what is cut."""
        self._buffer = self._buffer[self._position :]
        self._base += self._position
        self._position = 0

    def _fill(self, needed: int) -> bool:
        """Reads until the next record is in the buffer; False at the end of the file."""
        self._drop()
        parts = [self._buffer]
        have = len(self._buffer)
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
