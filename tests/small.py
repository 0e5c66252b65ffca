"""Small modules and corpora for tests that are about neither."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from beamhub.engine.caller import Caller, Rows
from beamhub.errors import ModuleError
from beamhub.modules.precision import check_processor
from beamhub.tasks.base import Outputs
from beamhub.tasks.gather import Feed
from tests.shared import required


def save(path: Path, function: object, *specs: tf.TensorSpec) -> str:
    """A SavedModel with one signature; returns its path."""
    tf.saved_model.save(
        tf.Module(), str(path), signatures={"serving_default": tf.function(function, input_signature=list(specs))}
    )  # fmt: skip
    return str(path)


def flags(tmp_path: Path, module: str, table: pa.Table) -> list[object]:
    """The flags of a job over one Parquet file; --out comes last."""
    (tmp_path / "corpus").mkdir(exist_ok=True)
    pq.write_table(table, tmp_path / "corpus" / "c.parquet")
    return ["--module", module, "--corpus", tmp_path / "corpus" / "*.parquet", "--out", tmp_path / "out"]


def identity(path: Path, shape: tuple[int | None, ...], dtype: tf.DType = tf.float32, output: str = "y") -> str:
    """A module that gives back its input `x`."""
    return save(path, lambda x: {output: tf.identity(x)}, tf.TensorSpec(shape, dtype, "x"))


def sizes_called(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Fills with the numbers of records in all calls from now on."""
    sizes: set[int] = set()
    attempt = Caller.attempt

    def noted(self: Caller, feeds: list[Feed], rows: Rows, size: int) -> Outputs | Exception:
        sizes.add(size)
        return attempt(self, feeds, rows, size)

    monkeypatch.setattr(Caller, "attempt", noted)
    return sizes


FLOATS = pa.array([0.25, 0.5], pa.float32())


def _has_bf16() -> bool:
    try:
        check_processor()
    except ModuleError:
        return False
    return True


native = pytest.mark.skipif(
    not (_has_bf16() or required("bf16")), reason="needs a processor with instructions for bfloat16"
)
"""Marks tests that compute in bfloat16. Where CI requires it they run, and fail on a processor without."""
