"""From an Arrow column to the array that is fed, with a check of each record."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beamhub.corpus.columns import binary_parts
from beamhub.corpus.parsing import Strings
from beamhub.tasks.binding import Binding
from beamhub.tasks.columns import is_bytes, is_list

Array = npt.NDArray[Any]

_SMALL = (pa.types.is_string, pa.types.is_binary)
_LARGE = (pa.types.is_large_string, pa.types.is_large_binary)
"""Strings and binaries by the width of their offsets."""


@dataclass
class Feed(ABC):
    """The values of one input for some records.

    Record i has `lengths[i]` of them. `problems` tells what is wrong with a record (row number to reason); such a record must
    not be taken.
    """

    binding: Binding
    lengths: npt.NDArray[np.int64]
    problems: dict[int, str] = field(default_factory=dict)

    @abstractmethod
    def take(self, rows: npt.NDArray[np.int64], size: int) -> Any:
        """The array or tensor of some records, [size, *shape]: of `rows`, over and over where there are fewer.

        Rows must ascend, each once, and have equal lengths.
        """

    @property
    @abstractmethod
    def text_bytes(self) -> int:
        """Bytes of all its strings."""

    @property
    def uniform(self) -> bool:
        """True where every record has the same shape by its binding."""
        return not self.binding.is_open


class StringsFeed(Feed):
    """Records that are single strings, all of them good."""

    def __init__(self, binding: Binding, values: Strings) -> None:
        super().__init__(binding, np.ones(len(values), np.int64))
        self._values = values

    def take(self, rows: npt.NDArray[np.int64], size: int) -> Any:
        """A tensor."""
        if len(rows) == size == len(self._values):
            return self._values.tensor
        return self._values.take(np.resize(rows, size))

    @property
    def text_bytes(self) -> int:
        """Bytes of all."""
        return self._values.nbytes


class TextsFeed(Feed):
    """Records that are single strings, in an Arrow array of binaries without nulls.

    Python's objects are made for one call and gone before the module runs: to free them afterwards, when they have left the
    core's cache, would take as long as to make them.
    """

    def __init__(self, binding: Binding, texts: pa.Array, problems: dict[int, str]) -> None:
        super().__init__(binding, np.ones(len(texts), np.int64), problems)
        self._texts = texts

    def take(self, rows: npt.NDArray[np.int64], size: int) -> Any:
        """A tensor; records that are taken more than once, to fill a call up, are copied once they are one."""
        import tensorflow as tf

        part = self._texts.slice(rows[0], len(rows)) if _are_consecutive(rows) else self._texts.take(pa.array(rows))
        tensor = tf.constant(part.to_numpy(zero_copy_only=False), tf.string)
        return tf.gather(tensor, np.resize(np.arange(len(rows)), size)) if len(rows) < size else tensor

    @property
    def text_bytes(self) -> int:
        """Bytes of all."""
        return int(pc.sum(pc.binary_length(self._texts), min_count=0).as_py())


@dataclass
class ArrayFeed(Feed):
    """Values in a flat array; record i has its own from `starts[i]` on."""

    values: Array = field(kw_only=True)
    starts: npt.NDArray[np.int64] = field(kw_only=True)

    def take(self, rows: npt.NDArray[np.int64], size: int) -> Array:
        """An array."""
        length = int(self.lengths[rows[0]])
        if len(rows) < size:
            rows = np.resize(rows, size)
        elif _are_consecutive(rows) and self._contiguous(rows, length):
            start = int(self.starts[rows[0]])
            return self.values[start : start + len(rows) * length].reshape(len(rows), *self._shape(length))
        some: Array = self.values[self.starts[rows][:, None] + np.arange(length)]
        return some.reshape(size, *self._shape(length))

    @property
    def text_bytes(self) -> int:
        """Bytes of all objects; 0 for numbers."""
        return sum(map(len, self.values)) if self.values.dtype == object else 0

    def _contiguous(self, rows: npt.NDArray[np.int64], length: int) -> bool:
        return int(self.starts[rows[-1]]) - int(self.starts[rows[0]]) == (len(rows) - 1) * length

    def _shape(self, length: int) -> tuple[int, ...]:
        """The shape of a record with that many values."""
        wanted = self.binding.shape or ()
        known = math.prod(size for size in wanted if size is not None)
        return tuple(length // max(known, 1) if size is None else size for size in wanted)


def _are_consecutive(rows: npt.NDArray[np.int64]) -> bool:
    return bool(len(rows) == rows[-1] - rows[0] + 1)


def gather(binding: Binding, column: pa.Array) -> Feed:
    """Reads a column into what feeds an input.

    Args:
        binding: what the input wants.
        column: one row for each record, as the binding's column.

    Returns:
        The feed, its `problems` naming each record that is null, of a wrong length, or out of range.
    """
    feed = _flatten(binding, column)
    if isinstance(feed, ArrayFeed):
        _check_lengths(feed)
        if binding.dtype != "string":
            _cast(feed)
    return feed


def _flatten(binding: Binding, column: pa.Array) -> Feed:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    count = len(column)
    problems = {int(row): "is missing" for row in np.flatnonzero(_nulls(column))} if column.null_count else {}
    if is_bytes(column.type) and binding.dtype != "string":
        return _raw_bytes(binding, column, problems)
    if binding.shape == () and binding.dtype == "string" and not is_list(column.type):
        return TextsFeed(binding, _filled(column), problems)
    levels: list[npt.NDArray[np.int64]] = []
    while is_list(column.type):
        inner = _list_lengths(column)
        levels.append(inner)
        column = column.flatten()
    for row, reason in _irregular(binding, levels):
        problems.setdefault(row, reason)
    lengths = levels[-1] if levels else np.ones(count, np.int64)
    for outer in reversed(levels[:-1]):
        # Values of a list of lists: the sum over its lists.
        ends = np.concatenate(([0], np.cumsum(lengths)))
        stops = np.cumsum(outer)
        lengths = ends[stops] - ends[stops - outer]
    if levels and column.null_count:
        _mark_null_elements(column, lengths, problems)
    starts = np.cumsum(lengths) - lengths
    return ArrayFeed(binding, lengths, problems, values=_values(binding, column), starts=starts)


def _nulls(column: pa.Array) -> npt.NDArray[np.bool_]:
    nulls: npt.NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
    return nulls


def _list_lengths(column: pa.Array) -> npt.NDArray[np.int64]:
    if pa.types.is_fixed_size_list(column.type):
        lengths = np.full(len(column), column.type.list_size, np.int64)
        # flatten() leaves out the values of null lists.
        lengths[_nulls(column)] = 0
        return lengths
    counted: Array = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return counted.astype(np.int64)


def _irregular(binding: Binding, levels: list[npt.NDArray[np.int64]]) -> list[tuple[int, str]]:
    """Records whose nested lists do not have the sizes wanted, or differ among themselves where any size is."""
    if len(levels) < 2:
        return []
    found: dict[int, str] = {}
    owner = np.arange(len(levels[0]))
    for level, lengths in enumerate(levels):
        wanted = (binding.shape or ())[level]
        # The first list of each record tells the size that the others must have.
        first = lengths[np.searchsorted(owner, owner)] if wanted is None else np.full(len(lengths), wanted)
        for place in np.flatnonzero(lengths != first):
            reason = f"has {lengths[place]} values at depth {level + 1}, {first[place]} wanted"
            found.setdefault(int(owner[place]), reason)
        owner = np.repeat(owner, lengths)
    return list(found.items())


def _mark_null_elements(column: pa.Array, lengths: npt.NDArray[np.int64], problems: dict[int, str]) -> None:
    ends = np.cumsum(lengths)
    for row in np.unique(np.searchsorted(ends, np.flatnonzero(_nulls(column)), side="right")):
        problems.setdefault(int(row), "has a null among its values")


def _as_bytes(column: pa.Array) -> pa.Array:
    """Strings and binaries of any kind as binary, large where they are."""
    if any(test(column.type) for test in _SMALL):
        return column.view(pa.binary())
    if not any(test(column.type) for test in _LARGE):
        # From a string view there is no cast to binaries.
        column = column.cast(pa.large_string() if pa.types.is_string_view(column.type) else pa.large_binary())
    return column.view(pa.large_binary())


def _filled(column: pa.Array) -> pa.Array:
    """Strings and binaries of any kind as binary, an empty one in the place of a null."""
    texts = _as_bytes(column)
    return pc.fill_null(texts, b"") if texts.null_count else texts


def _values(binding: Binding, column: pa.Array) -> Array:
    if binding.dtype == "string":
        values: Array = _filled(column).to_numpy(zero_copy_only=False)
        return values
    if column.null_count:
        column = pc.fill_null(column, False if pa.types.is_boolean(column.type) else 0)
    numbers: Array = column.to_numpy(zero_copy_only=False)
    return numbers


def _raw_bytes(binding: Binding, column: pa.Array, problems: dict[int, str]) -> ArrayFeed:
    """Raw pixels in a binary column: one byte a value. Nulls have no length, or are in `problems` whatever they have."""
    offsets, values = binary_parts(_as_bytes(column))
    offsets = offsets.astype(np.int64)
    return ArrayFeed(binding, np.diff(offsets), problems, values=values, starts=offsets[:-1])


def _check_lengths(feed: ArrayFeed) -> None:
    shape = feed.binding.shape or ()
    known = math.prod(size for size in shape if size is not None)
    if feed.uniform:
        wrong = np.flatnonzero(feed.lengths != known)
        wanted = str(known)
    else:
        wrong = np.flatnonzero((feed.lengths % max(known, 1) != 0) | (feed.lengths == 0))
        wanted = f"a multiple of {known}" if known > 1 else "at least 1"
    for row in wrong:
        feed.problems.setdefault(int(row), f"has {feed.lengths[row]} values, {wanted} wanted")


def _cast(feed: ArrayFeed) -> None:
    wanted = np.dtype(feed.binding.dtype)
    given = feed.values
    if given.dtype == wanted:
        return
    if feed.binding.narrow or (feed.binding.pixels is not None and wanted == np.uint8):
        limits = np.iinfo(wanted)
        _mark(feed, (given < limits.min) | (given > limits.max), f"outside {limits.min}..{limits.max}")
    with np.errstate(over="ignore"):
        feed.values = given.astype(wanted)
    if wanted.kind == "f":
        _mark(feed, np.isinf(feed.values) & np.isfinite(given), f"too large for {wanted}", given)


def _mark(feed: ArrayFeed, wrong: npt.NDArray[np.bool_], why: str, given: Array | None = None) -> None:
    values = feed.values if given is None else given
    for place in np.flatnonzero(wrong):
        row = int(np.searchsorted(feed.starts + feed.lengths, place, side="right"))
        feed.problems.setdefault(row, f"has the value {values[place]}, {why}")
