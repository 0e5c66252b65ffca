"""Every module of the TF1 Hub oracle through the whole job, against what the genuine library computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import beamhub
from tests.jobs import succeed, tensor_column
from tests.shared import shared

pytestmark = pytest.mark.shared

ORACLE = "modules/tf1_hub_oracle"
CASES = [
    ("doc", "-", "default", ("default", "hidden_activations")),
    ("fruit", "-", "default", ("default",)),
    ("fruit", "-", "fruit_to_pet", ("cats", "dogs")),
    ("image", "-", "default", ("default",)),
    ("image", "-", "image_classification", ("Net/Logits", "Net/global_pool", "default")),
    ("image", "-", "image_feature_vector", ("Net/conv", "Net/global_pool", "default")),
    ("text", "-", "default", ("default",)),
    ("text", "-", "words", ("default",)),
    ("const", "-", "default", ("default",)),
]


def write_inputs(name: str, folder: Path, copies: int = 1) -> tuple[str, list[str]]:
    """The reference's inputs as a Parquet file with a row number; returns its path and the --input flags."""
    reference = np.load(shared(f"{ORACLE}/{name}_reference.npz"))
    columns, flags = {}, []
    for entry in reference.files:
        if entry.split("/")[0] != "input":
            continue
        column = entry.replace("/", "_")
        values = np.concatenate([reference[entry]] * copies)
        columns[column] = pa.array(values.tolist()) if values.ndim == 1 else tensor_column(values)
        if "/" in entry:
            flags.append(f"--input={entry.split('/')[1]}={column}")
        else:
            flags.append(f"--input={column}")
    columns["row"] = pa.array(range(len(next(iter(columns.values())))))
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table(columns), path)
    return str(path), flags


@pytest.mark.parametrize(("name", "tags", "signature", "outputs"), CASES)
def test_equals_the_reference(name: str, tags: str, signature: str, outputs: tuple[str, ...], tmp_path: Path) -> None:
    corpus, inputs = write_inputs(name, tmp_path)
    out = tmp_path / "out"

    succeed(
        "extract", "--module", shared(f"{ORACLE}/{name}"), "--corpus", corpus, "--out", out, "--key=row",
        f"--signature={signature}", f"--outputs={','.join(outputs)}", *inputs,
    )  # fmt: skip

    table = beamhub.open(str(out))
    reference = np.load(shared(f"{ORACLE}/{name}_reference.npz"))
    for output in outputs:
        np.testing.assert_allclose(
            table.to_numpy(output), reference[f"output/{tags}/{signature}/{output}"], rtol=1e-5, atol=1e-5
        )


def test_sparse_output_becomes_lists(tmp_path: Path) -> None:
    corpus, inputs = write_inputs("text", tmp_path)
    out = tmp_path / "out"

    succeed(
        "extract", "--module", shared(f"{ORACLE}/text"), "--corpus", corpus, "--out", out, "--signature=words",
        "--outputs=ids", *inputs,
    )  # fmt: skip

    reference = np.load(shared(f"{ORACLE}/text_reference.npz"))
    rows = reference["output/-/words/ids.indices"][:, 0]
    expected = [reference["output/-/words/ids.values"][rows == row].tolist() for row in range(4)]
    assert beamhub.open(str(out)).to_table(["ids"]).column("ids").to_pylist() == expected


@pytest.mark.parametrize(
    ("signature", "output", "shape"),
    [
        ("image_classification", "Net/Logits", (10,)),
        ("image_classification", "Net/global_pool", (1, 1, 8)),
        ("image_feature_vector", "Net/conv", (8, 8, 8)),
        ("default", "default", (10,)),
    ],
)
def test_train_variant_of_image(signature: str, output: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Batch statistics and dropout make these depend on the batch: with the reference's own batch of four the outputs
    before the dropout equal it; those behind it are compared by shape and dtype here, and by their mean below."""
    corpus, inputs = write_inputs("image", tmp_path)
    out = tmp_path / "out"

    summary = succeed(
        "extract", "--module", shared(f"{ORACLE}/image"), "--corpus", corpus, "--out", out, "--tags=train",
        f"--signature={signature}", f"--outputs={output}", "--batch-size=4", "--key=row", *inputs,
    )  # fmt: skip

    found = beamhub.open(str(out)).to_numpy(output)
    assert found.shape == (4, *shape)
    assert found.dtype == np.float32
    if output.startswith("Net/conv") or output == "Net/global_pool":
        reference = np.load(shared(f"{ORACLE}/image_reference.npz"))[f"output/train/{signature}/{output}"]
        np.testing.assert_allclose(found, reference, rtol=1e-5, atol=1e-5)
    else:
        assert "random numbers" in summary


def test_dropout_keeps_its_mean_over_many_calls(tmp_path: Path) -> None:
    """Dropout zeroes half and doubles the rest, so the mean over many calls is the value before it: `Net/global_pool`."""
    corpus, inputs = write_inputs("image", tmp_path, copies=500)
    out = tmp_path / "out"

    succeed(
        "extract", "--module", shared(f"{ORACLE}/image"), "--corpus", corpus, "--out", out, "--tags=train",
        "--signature=image_feature_vector", "--outputs=default,Net/global_pool", "--batch-size=4", "--key=row", *inputs,
    )  # fmt: skip

    table = beamhub.open(str(out))
    dropped = table.to_numpy("default").reshape(500, 4, 8)
    before = table.to_numpy("Net/global_pool").reshape(500, 4, 8)[0]
    assert set(np.unique(np.round(dropped / np.where(before == 0, 1, before), 3))) <= {0.0, 2.0}
    # Of 500 calls the mean's standard deviation is before/sqrt(500); six of them leave no test to chance.
    np.testing.assert_array_less(np.abs(dropped.mean(axis=0) - before), 6 * before / np.sqrt(500) + 1e-6)
