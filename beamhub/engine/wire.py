"""Arrays from one process to another, over a socket, as plain bytes.

Not pickled: what comes out of a module's process is to be trusted no more than the module. A message is a length (four bytes,
little-endian), a JSON document of so many bytes, and the buffers that it tells the sizes of.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes  # noqa: F401 - gives numpy the names of bfloat16 and others
import numpy as np

from beamhub.modules.ragged import Output, Ragged

_LENGTH = struct.Struct("<I")
_MOST_HEADER = 16 << 20
_TEXT = "text"


class WireError(Exception):
    """The other side is gone, or says what makes no sense."""


class Wire:
    """One end of a connection. Not for several threads at once."""

    def __init__(self, end: socket.socket) -> None:
        """`end` is closed by `close`."""
        self._end = end

    def send(self, document: Mapping[str, Any], values: Mapping[str, Output] | None = None) -> None:
        """A document, and arrays by name. Raises OSError where the other side is gone."""
        described, buffers = [], []
        for name, value in (values or {}).items():
            arrays = [value.values, *value.levels] if isinstance(value, Ragged) else [value]
            packed = [_pack(np.asarray(each)) for each in arrays]
            described.append([name, isinstance(value, Ragged), [told for told, _ in packed]])
            buffers += [buffer for _, parts in packed for buffer in parts]
        header = json.dumps({"document": document, "values": described}).encode()
        self._end.sendall(_LENGTH.pack(len(header)) + header)
        for buffer in buffers:
            self._end.sendall(buffer)

    def receive(self, seconds: float | None = None) -> tuple[dict[str, Any], dict[str, Output]]:
        """What the other side sent. Raises WireError where it is gone, TimeoutError after so many seconds without a byte."""
        self._end.settimeout(seconds)
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        if length > _MOST_HEADER:
            raise WireError(f"a header of {length:,} bytes")
        try:
            message = json.loads(bytes(self._read(length)))
            values = {name: self._output(is_ragged, told) for name, is_ragged, told in message["values"]}
            return message["document"], values
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise WireError(f"no message ({error})") from error

    def close(self) -> None:
        """Ends the connection."""
        self._end.close()

    def _output(self, is_ragged: bool, told: list[dict[str, Any]]) -> Output:
        arrays = [self._unpack(each) for each in told]
        return Ragged(arrays[0], arrays[1], tuple(arrays[2:])) if is_ragged else arrays[0]

    def _unpack(self, told: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        shape = tuple(map(int, told["shape"]))
        if told["dtype"] != _TEXT:
            dtype = np.dtype(told["dtype"])
            if dtype.hasobject:
                raise ValueError(f"an array of {dtype}")
            return np.frombuffer(self._read(dtype.itemsize * math.prod(shape)), dtype).reshape(shape)
        ends = np.cumsum(np.frombuffer(self._read(8 * math.prod(shape)), np.int64)).tolist()
        text = bytes(self._read(ends[-1] if ends else 0))
        array = np.empty(len(ends), object)
        array[:] = list(_cut(text, ends))
        return array.reshape(shape)

    def _read(self, count: int) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        while view:
            try:
                got = self._end.recv_into(view)
            except ConnectionError as error:
                raise WireError(str(error)) from error
            if not got:
                raise WireError("the connection was closed")
            view = view[got:]
        return data


def _pack(array: np.ndarray[Any, Any]) -> tuple[dict[str, Any], list[Any]]:
    if array.dtype.kind not in "OSU":
        whole = np.ascontiguousarray(array)
        return {"dtype": array.dtype.name, "shape": array.shape}, [whole.reshape(-1).view(np.uint8).data]
    texts = [each.encode() if isinstance(each, str) else bytes(each) for each in array.ravel().tolist()]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return {"dtype": _TEXT, "shape": array.shape}, [lengths.view(np.uint8).data, b"".join(texts)]


def _cut(text: bytes, ends: list[int]) -> Iterator[bytes]:
    start = 0
    for end in ends:
        yield text[start:end]
        start = end
