"""Whether a system wrote what the limit wrote: every row, by key. A fast way to other values is no way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

RTOL, ATOL = 1e-3, 1e-4

Rows = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


class WrongOutputError(RuntimeError):
    """A system wrote other rows than the limit."""


def files_of(out: Path) -> list[Path]:
    return sorted(path for path in out.rglob("*.parquet") if path.is_file())


def count(out: Path) -> int:
    """Rows in a folder, from the footers."""
    return sum(int(pq.ParquetFile(path).metadata.num_rows) for path in files_of(out))


def read(out: Path) -> Rows:
    """Keys in order, [n], and vectors, [n, d], whichever kind of list they are in."""
    keys, vectors = [], []
    for path in files_of(out):
        table = pq.ParquetFile(path).read(columns=["key", "embedding"]).combine_chunks()
        if table.num_rows:
            keys.append(table["key"].to_numpy())
            flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            vectors.append(flat.reshape(table.num_rows, -1))
    if not keys:
        return np.empty(0, np.int64), np.empty((0, 0), np.float32)
    joined = np.concatenate(keys)
    order = np.argsort(joined, kind="stable")
    return joined[order], np.concatenate(vectors)[order]


def compare(limit: Rows, system: Rows, name: str) -> int:
    """The number of rows, if both are the same. Raises WrongOutputError, one line, if not."""
    (keys, vectors), (other_keys, other) = limit, system
    if keys.shape != other_keys.shape:
        raise WrongOutputError(f"{name}: {len(other_keys):,} rows, the limit wrote {len(keys):,} from the same files")
    if (keys != other_keys).any():
        first = keys[keys != other_keys][0]
        raise WrongOutputError(f"{name}: other keys than the limit's, the first that differs is {first}")
    if vectors.shape != other.shape:
        raise WrongOutputError(f"{name}: vectors of {other.shape[1]}, the limit wrote vectors of {vectors.shape[1]}")
    wrong = ~np.isclose(other, vectors, rtol=RTOL, atol=ATOL).all(axis=1)
    if wrong.any():
        largest = float(np.abs(other - vectors).max())
        raise WrongOutputError(
            f"{name}: {wrong.sum():,} of {len(keys):,} rows have other values than the limit's (rtol {RTOL}, atol {ATOL}), "
            f"the first at key {keys[wrong][0]}, the largest difference {largest:.3g}"
        )
    return len(keys)
