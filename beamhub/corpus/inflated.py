"""TFRecord files that are compressed as a whole, by gzip or zlib."""

from __future__ import annotations

import zlib
from typing import BinaryIO

from beamhub.corpus.framing import HEADER_BYTES
from beamhub.errors import CorpusError

_BLOCK = 1 << 20

_MEND = "write the file again or leave it out of the corpus"


def is_compressed(head: bytes) -> bool:
    """Do these bytes begin as a gzip (RFC 1952) or zlib (RFC 1950) stream does?"""
    zlib_header = len(head) > 1 and head[0] & 0x0F == 8 and int.from_bytes(head[:2], "big") % 31 == 0
    return head.startswith(b"\x1f\x8b") or zlib_header


def inflate_head(head: bytes) -> bytes | None:
    """The first uncompressed bytes, by the first bytes of a compressed stream; None when they are damaged."""
    try:
        return zlib.decompressobj(wbits=_ANY_HEADER).decompress(head, HEADER_BYTES)
    except zlib.error:
        return None


_ANY_HEADER = 32 + zlib.MAX_WBITS
"""zlib: take a gzip or a zlib header, whichever comes."""


class Inflated:
    """The uncompressed bytes of a gzip or zlib file, of one stream or several in a row, in bounded memory.

    `read` raises CorpusError when the file is damaged or ends early.
    """

    def __init__(self, file: BinaryIO, path: str) -> None:
        """`path` is for messages."""
        self._file = file
        self._path = path
        self._stream = zlib.decompressobj(wbits=_ANY_HEADER)
        self._pending = b""
        self._given = 0

    @property
    def density(self) -> float:
        """Bytes of the file for each uncompressed byte given so far."""
        return (self._file.tell() - len(self._pending)) / max(1, self._given)

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""
        while True:
            if self._stream.eof:
                self._pending = self._pending or self._file.read(_BLOCK)
                if not self._pending:
                    return b""
                self._stream = zlib.decompressobj(wbits=_ANY_HEADER)
            data = self._inflate(size)
            if data:
                self._given += len(data)
                return data
            if not self._stream.eof and not self._pending:
                self._pending = self._file.read(_BLOCK)
                if not self._pending:
                    raise CorpusError(
                        f"{self._path}: the compressed file ends early, at byte {self._file.tell()}; {_MEND}"
                    )

    def _inflate(self, size: int) -> bytes:
        try:
            # With no input left zlib may still hold output, so it is called all the same.
            data = self._stream.decompress(self._pending, size)
        except zlib.error as error:
            raise CorpusError(
                f"{self._path}: the compressed file is damaged at byte {self._file.tell()} or before; {_MEND}"
            ) from error
        # At a stream's end both may hold what follows it.
        self._pending = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        return data
