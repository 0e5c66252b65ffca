from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub.features.keys import RepeatedKeys, hash_keys, repeated_keys

Files = Mapping[str, list[pa.Array]]


def repeats(files: Files, most_hashes: int = 1000) -> RepeatedKeys:
    def read(file: str) -> Iterable[pa.Array]:
        return files[file]

    records = sum(len(keys) for each in files.values() for keys in each)
    return repeated_keys(list(files), read, records, most_hashes)


def test_no_key_twice() -> None:
    assert repeats({"one": [pa.array(["a", "b"])], "two": [pa.array(["c"])], "none": []}) == RepeatedKeys(0, ())


def test_repeated_keys_are_counted_and_named() -> None:
    files = {"one": [pa.array(["a", "b"]), pa.array(["b", None])], "two": [pa.array(["a", "a", None, "c"])]}
    found = repeats(files)
    assert found.count == 3
    assert set(found.examples) == {("b", "one", "one"), ("a", "one", "two")}


def test_at_most_five_examples() -> None:
    keys = pa.array(np.arange(100))
    found = repeats({"one": [keys], "two": [keys]})
    assert found.count == 100
    assert len(found.examples) == 5
    assert all(example[1:] == ("one", "two") for example in found.examples)


@pytest.mark.parametrize("most_hashes", [1, 7, 64, 1000])
def test_count_does_not_depend_on_the_passes(most_hashes: int) -> None:
    files = {
        "one": [pa.array([f"key {n}" for n in range(200)])],
        "two": [pa.array([f"key {n}" for n in range(150, 300)])],
    }
    assert repeats(files, most_hashes).count == 50


@pytest.mark.parametrize(
    "keys",
    [
        pa.array([-1, 0, 1, 2**62]),
        pa.array([0, 2**64 - 1], pa.uint64()),
        pa.array(["", "\0", "\0\0", "a", "ab", "ba", "aa", "ä"]),
        pa.array([b"", b"\0", b"ab\xff"]),
        pa.array([b"\0\1", b"\1\0"], pa.binary(2)),
        pa.array([True, False]),
        pa.array([1.5, -1.5]),
        pa.array([0, 1], pa.timestamp("s")),
    ],
)
def test_different_keys_have_different_hashes_and_equal_ones_equal(keys: pa.Array) -> None:
    hashes = hash_keys(keys)
    assert hashes.dtype == np.uint64
    assert len(set(hashes.tolist())) == len(keys)
    assert [hash_keys(keys.slice(n, 1))[0] for n in range(len(keys))] == hashes.tolist()


def test_strings_and_large_strings_hash_alike() -> None:
    keys = pa.array(["x" * n for n in range(50)])
    assert hash_keys(keys).tolist() == hash_keys(keys.cast(pa.large_string())).tolist()


def test_keys_longer_than_a_block() -> None:
    keys = pa.array(["a" * 3_000_000, "b", "a" * 3_000_000])
    first, second, third = hash_keys(keys).tolist()
    assert first == third != second


@given(st.lists(st.text(max_size=3), max_size=60), st.integers(0, 60))
def test_agrees_with_a_counter(keys: list[str], cut: int) -> None:
    found = repeats({"one": [pa.array(keys[:cut], pa.string())], "two": [pa.array(keys[cut:], pa.string())]}, 16)
    assert found.count == sum(n - 1 for n in Counter(keys).values())
    assert all(Counter(keys)[key] > 1 for key, _, _ in found.examples)
