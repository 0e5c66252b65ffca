"""Keys that occur more than once in a table, found exactly and in bounded memory.

Keys are hashed to 64 bits, vectorised; the hashes are sorted in passes by their top bits, so that memory
holds a bounded number of them; the examples are then looked up by their real keys. That two different keys
among n have one hash has a probability of about n^2 / 2^65 (3 % for a thousand million keys): the count may
then be too large by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MOST_HASHES = 32 << 20
"""Hashes in memory at once: 256 MiB."""

_EXAMPLES = 5
_BLOCK_BYTES = 1 << 20

Hashes = npt.NDArray[np.uint64]
ReadKeys = Callable[[str], Iterable[pa.Array]]


@dataclass(frozen=True, slots=True)
class RepeatedKeys:
    """`count` is of the records whose key an earlier one has; `examples` are (key, file, file), at most 5."""

    count: int
    examples: tuple[tuple[Any, str, str], ...]


def repeated_keys(
    files: Sequence[str], read_keys: ReadKeys, records: int, most_hashes: int = MOST_HASHES
) -> RepeatedKeys:
    """Repeated keys of all files together; nulls are none. `records` is about how many there are, to plan the
    passes.

    Each pass reads all keys once. Keys are strings, binary, or anything that Arrow casts to strings one to
    one.
    """
    bits = max(0, (max(records, 1) - 1) // most_hashes).bit_length()
    count = 0
    suspects: list[Hashes] = []
    for radix in range(1 << bits):
        hashes = np.sort(
            np.concatenate([_of_radix(h, bits, radix) for _, h, _ in _hashed(files, read_keys)] or [_NONE])
        )
        repeats = hashes[1:][hashes[1:] == hashes[:-1]]
        count += len(repeats)
        if sum(map(len, suspects)) < _EXAMPLES:
            suspects.append(np.unique(repeats)[:_EXAMPLES])
    if not count:
        return RepeatedKeys(0, ())
    return RepeatedKeys(count, _examples(np.sort(np.concatenate(suspects)), files, read_keys))


def hash_keys(keys: pa.Array) -> Hashes:
    """A 64-bit hash of each key, uint64 [keys], the same for equal keys wherever they are. Keys must not be
    null.

    Integers are hashed by value (splitmix64, Steele et al. 2014, is one to one); strings and bytes by the sum
    of a random number for each (position, byte), after Zobrist 1970.
    """
    kind = keys.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        whole = keys.cast(pa.uint64() if pa.types.is_uint64(kind) else pa.int64())
        return _mix(np.asarray(whole).astype(np.uint64))
    if not (pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)):
        is_text = pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind)
        keys = keys.cast(pa.large_binary() if is_text else pa.large_string())
    _, offset_buffer, data_buffer = keys.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[keys.offset : keys.offset + len(keys) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)
    pieces = []
    start = 0
    while start < len(keys):
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + _BLOCK_BYTES, "right")) - 1)
        stop = min(stop, len(keys))
        pieces.append(_hash_bytes(data, offsets[start : stop + 1]))
        start = stop
    return np.concatenate([*pieces, _NONE])


_NONE: Hashes = np.zeros(0, np.uint64)


def _hash_bytes(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Hashes:
    lengths = np.diff(offsets)
    block = data[offsets[0] : offsets[-1]].astype(np.uint64)
    position = (np.arange(len(block)) - np.repeat(offsets[:-1] - offsets[0], lengths)).astype(np.uint64)
    # Sums modulo 2^64 by differences of one running sum, which empty keys do not disturb as they would
    # `reduceat`.
    sums = np.concatenate(
        [np.zeros(1, np.uint64), np.cumsum(_mix((position << np.uint64(8)) | block), dtype=np.uint64)]
    )
    ends = offsets - offsets[0]
    return _mix(sums[ends[1:]] - sums[ends[:-1]] + lengths.astype(np.uint64))


def _mix(values: Hashes) -> Hashes:
    """splitmix64."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _of_radix(hashes: Hashes, bits: int, radix: int) -> Hashes:
    return hashes[hashes >> np.uint64(64 - bits) == radix] if bits else hashes


def _hashed(files: Sequence[str], read_keys: ReadKeys) -> Iterator[tuple[str, Hashes, pa.Array]]:
    for file in files:
        for keys in read_keys(file):
            present = keys.drop_null()
            yield file, hash_keys(present), present


def _examples(suspects: Hashes, files: Sequence[str], read_keys: ReadKeys) -> tuple[tuple[Any, str, str], ...]:
    """Real keys that occur twice, among those with one of the suspect hashes."""
    first: dict[Any, str] = {}
    found: dict[Any, tuple[Any, str, str]] = {}
    for file, hashes, keys in _hashed(files, read_keys):
        for key in pc.filter(keys, pa.array(np.isin(hashes, suspects))).to_pylist():
            if key in first:
                found.setdefault(key, (key, first[key], file))
            first.setdefault(key, file)
            if len(found) >= _EXAMPLES:
                return tuple(found.values())
    return tuple(found.values())
