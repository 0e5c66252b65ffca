"""The file of a SavedModel's graph: with an operation that nobody has, and as text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tensorflow as tf

from beamhub.errors import ModuleError
from beamhub.modules.load import load_module
from beamhub.modules.protos import read_saved_model
from tests.small import save


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Counts words."""

    def count(text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"count": tf.strings.split(text).row_lengths()}

    return save(tmp_path_factory.mktemp("module") / "m", count, tf.TensorSpec((None,), tf.string, "text"))


def test_a_module_with_an_operation_that_tensorflow_lacks_is_refused_in_one_line(path: str, tmp_path: Path) -> None:
    saved_model = read_saved_model(path)
    for function in saved_model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "StringSplitV2":
                node.op = "OpOfAnotherLibrary"
    shutil.copytree(path, tmp_path, dirs_exist_ok=True)
    (tmp_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())

    with pytest.raises(ModuleError, match="Op type not registered 'OpOfAnotherLibrary'") as caught:
        load_module(str(tmp_path))

    assert "\n" not in str(caught.value)


def test_a_graph_in_text_form_loads_as_well(path: str, tmp_path: Path) -> None:
    from google.protobuf import text_format

    for file in Path(path).rglob("*"):
        if file.is_file() and file.name != "saved_model.pb":
            target = tmp_path / file.relative_to(path)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.read_bytes())
    text = text_format.MessageToString(read_saved_model(path))
    (tmp_path / "saved_model.pbtxt").write_text(text, encoding="utf-8")

    got = load_module(str(tmp_path)).call("serving_default", ["two words"])

    assert got["count"].tolist() == [2]
