"""`--precision bf16` is refused, in one line, where nothing would be computed in bfloat16, or only slowly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from beamhub.errors import ModuleError
from beamhub.modules.precision import check_processor
from beamhub.modules.protos import read_saved_model, variants
from beamhub.modules.session import SessionModule
from tests.jobs import refused, start, succeed, tensor_column
from tests.small import flags, native, save


def products(tmp_path: Path) -> list[object]:
    """The flags of a job whose module has an output `product` of matrices, and an output `sum`."""

    def outputs(x: Any) -> Any:
        return {"product": x @ tf.ones((3, 3)), "sum": x + 1}

    module = save(tmp_path / "m", outputs, tf.TensorSpec((None, 3), tf.float32, "x"))
    return flags(tmp_path, module, pa.table({"x": tensor_column(np.ones((4, 3), np.float32))}))


UNCHANGED: dict[str, Callable[[Any], Any]] = {
    "sums": lambda x: {"y": tf.nn.relu(1.1 * x) + 3},
    "integers": lambda x: {"y": tf.cast(x, tf.int32) @ tf.ones((3, 3), tf.int32)},
    "float64": lambda x: {"y": tf.cast(x, tf.float64) @ tf.ones((3, 3), tf.float64)},
    "own bfloat16": lambda x: {"y": tf.cast(tf.cast(x, tf.bfloat16) * 1.5, tf.float32)},
}


@native
@pytest.mark.parametrize("kind", UNCHANGED)
def test_no_bf16_where_nothing_changes(kind: str, tmp_path: Path) -> None:
    module = save(tmp_path / "m", UNCHANGED[kind], tf.TensorSpec((None, 3), tf.float32, "x"))
    arguments = flags(tmp_path, module, pa.table({"x": tensor_column(np.ones((4, 3), np.float32))}))

    line = refused(2, "extract", *arguments, "--precision=bf16")

    assert "--precision bf16: nothing of signature serving_default runs in bfloat16" in line
    assert "leave the flag out" in line
    assert not (tmp_path / "out").exists()
    succeed("extract", *arguments)


@native
def test_what_the_wanted_outputs_do_not_need_does_not_count(tmp_path: Path) -> None:
    arguments = products(tmp_path)

    assert "nothing of signature" in refused(2, "extract", *arguments, "--precision=bf16", "--outputs=sum")
    succeed("extract", *arguments, "--precision=bf16", "--outputs=product")


def test_sessions_are_refused(tmp_path: Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, 3), "x")
        y = tf.matmul(x, tf.ones((3, 3)))
        v1.saved_model.simple_save(session, str(tmp_path / "m"), {"x": x}, {"y": y})
    (variant,) = variants(read_saved_model(str(tmp_path / "m")))

    with pytest.raises(ModuleError, match=r"--precision bf16: .* runs in a session, which computes in float32"):
        SessionModule(str(tmp_path / "m"), variant).bind(None, precision="bf16")


@pytest.mark.parametrize("told", ["flags : fpu avx2 avx512f avx512_vnni", ""])
def test_a_processor_without_bf16_is_refused(told: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(told)

    with pytest.raises(ModuleError, match="processor has none of amx_bf16, avx512_bf16"):
        check_processor(tmp_path / "cpuinfo")
    with pytest.raises(ModuleError, match="processor has none"):
        check_processor(tmp_path / "missing")


@pytest.mark.parametrize("told", ["flags : fpu avx512_bf16", "flags : amx_bf16 amx_tile"])
def test_a_processor_with_bf16_is_taken(told: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(told)

    check_processor(tmp_path / "cpuinfo")


@native
def test_without_onednn_nothing_changes(tmp_path: Path) -> None:
    """Its operations can be switched off before TensorFlow starts, so in a process of its own."""
    job = products(tmp_path)

    process = start("extract", *job, "--precision=bf16", TF_ENABLE_ONEDNN_OPTS="0")
    _, err = process.communicate()

    assert process.returncode == 2
    assert "nothing of signature serving_default runs in bfloat16" in err


def test_an_unknown_precision(tmp_path: Path) -> None:
    assert "float32" in refused(2, "extract", *products(tmp_path), "--precision=fp16")
