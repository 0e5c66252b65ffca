"""What a module reaches is found wherever a graph hides it, and what every module needs is not called reaching out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from beamhub.modules.operations import KNOWN
from beamhub.modules.protos import read_saved_model
from beamhub.modules.reaching import LIBRARY, reaches
from tests.jobs import refused, succeed
from tests.shared import FOLDER, shared
from tests.small import FLOATS, flags, identity, save

TEXT = tf.TensorSpec((None,), tf.string, "x")


def found(path: Path | str) -> list[tuple[str, str]]:
    return [(each.operation, each.does) for each in reaches(read_saved_model(str(path)))]


def read(x: Any) -> Any:
    return {"y": tf.map_fn(tf.io.read_file, x)}


def read_constant(x: Any) -> Any:
    return {"y": tf.strings.join([x, tf.io.read_file("/etc/hostname")])}


def write(x: Any) -> Any:
    tf.io.write_file("/tmp/beamhub-never", x[0])
    return {"y": x}


def print_to_file(x: Any) -> Any:
    tf.print(x, output_stream="file:///tmp/beamhub-never")
    return {"y": x}


def print_to_console(x: Any) -> Any:
    tf.print(x)
    return {"y": x}


def in_a_branch(x: Any) -> Any:
    return {"y": tf.cond(tf.size(x) > 1000, lambda: tf.map_fn(tf.io.read_file, x), lambda: x)}


def list_files(x: Any) -> Any:
    return {"y": tf.strings.join([x, tf.strings.reduce_join(tf.io.matching_files("/etc/*"))])}


def run_python(x: Any) -> Any:
    return {"y": tf.ensure_shape(tf.py_function(lambda y: y, [x], tf.string), (None,))}


def run_numpy(x: Any) -> Any:
    return {"y": tf.ensure_shape(tf.numpy_function(lambda y: y, [x], tf.string), (None,))}


def read_records(x: Any) -> Any:
    return {
        "y": tf.strings.join([x, tf.data.TFRecordDataset("/tmp/beamhub-never").reduce("", lambda old, new: old + new)])
    }


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (read, [("ReadFile", "reads files")]),
        (read_constant, [("ReadFile", "reads files")]),
        (write, [("WriteFile", "writes files")]),
        (print_to_file, [("PrintV2", "writes files")]),
        (print_to_console, []),
        (in_a_branch, [("ReadFile", "reads files")]),
        (list_files, [("MatchingFiles", "reads files")]),
        (run_python, [("EagerPyFunc", "runs Python")]),
        (run_numpy, [("PyFunc", "runs Python")]),
        (read_records, [("TFRecordDataset", "reads files")]),
    ],
)
def test_operation_in_a_signature(
    tmp_path: Path, function: Callable[[Any], Any], expected: list[tuple[str, str]]
) -> None:
    assert found(save(tmp_path / "m", function, TEXT)) == expected


class Looked(tf.Module):
    """Has a variable, which a saver saves, and a table from a file of its own."""

    def __init__(self, words: Path) -> None:
        super().__init__()
        self.scale = tf.Variable(2.0)
        self.file = tf.saved_model.Asset(str(words))
        whole, line = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        rows = tf.lookup.TextFileInitializer(self.file, tf.string, whole, tf.int64, line)
        self.table = tf.lookup.StaticHashTable(rows, -1)

    @tf.function(input_signature=[TEXT])
    def look_up(self, x: Any) -> Any:
        return {"y": tf.cast(self.table.lookup(x), tf.float32) * self.scale}

    @tf.function(input_signature=[TEXT])
    def read_own(self, x: Any) -> Any:
        return {"y": tf.strings.join([x, tf.io.read_file(self.file.asset_path)])}

    @tf.function(input_signature=[TEXT])
    def read_beside_own(self, x: Any) -> Any:
        return {"y": tf.strings.join([x, tf.io.read_file(tf.strings.join([self.file.asset_path, "/../../secret"]))])}


@pytest.mark.parametrize(
    ("signature", "expected"),
    [("look_up", []), ("read_own", []), ("read_beside_own", [("ReadFile", "reads files")])],
)
def test_own_assets(tmp_path: Path, signature: str, expected: list[tuple[str, str]]) -> None:
    words = tmp_path / "words.txt"
    words.write_text("one\ntwo\n")
    module = Looked(words)
    kept = tf.Module()
    kept.own = [module.scale, module.file, module.table]
    kept.call = getattr(module, signature)
    tf.saved_model.save(kept, str(tmp_path / "m"), signatures={"serving_default": kept.call})

    assert found(tmp_path / "m") == expected


@pytest.mark.parametrize("is_own", [True, False])
def test_table_of_the_first_tensorflow(tmp_path: Path, is_own: bool) -> None:
    """Its initializer is an operation of the graph, in a collection."""
    words = tmp_path / "words.txt"
    words.write_text("one\ntwo\n")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.string, (None,), "x")
        whole, line = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        rows = tf.lookup.TextFileInitializer(str(words), tf.string, whole, tf.int64, line)
        table = tf.lookup.StaticHashTable(rows, -1)
        y = table.lookup(x)
        session.run(tf.compat.v1.tables_initializer())
        builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "m"))
        signature = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": signature},
            assets_collection=tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS) if is_own else None,
            main_op=tf.compat.v1.tables_initializer(),
        )
        builder.save()

    assert found(tmp_path / "m") == ([] if is_own else [("InitializeTableFromTextFileV2", "reads files")])


def test_operation_of_a_library(tmp_path: Path) -> None:
    path = Path(save(tmp_path / "m", lambda x: {"y": tf.strings.upper(x)}, TEXT))
    model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    nodes = [node for each in model.meta_graphs[0].graph_def.library.function for node in each.node_def]
    (upper,) = (node for node in nodes if node.op == "StringUpper")
    upper.op = "SentencepieceTokenizeOp"
    (path / "saved_model.pb").write_bytes(model.SerializeToString())

    assert found(path) == [("SentencepieceTokenizeOp", LIBRARY)]


def real_modules() -> list[str]:
    marks = FOLDER.glob("modules/**/saved_model.pb")
    return sorted(str(mark.parent.relative_to(FOLDER)) for mark in marks) or ["modules/tf1_hub_oracle/doc"]


@pytest.mark.shared
@pytest.mark.parametrize("module", real_modules())
def test_published_modules_reach_nothing(module: str) -> None:
    assert found(shared(module)) == []


_NAMES = ("file", "path", "address", "url", "uri", "directory", "server", "output_stream")
"""What operations call inputs and attributes that say where to read or write."""

_HARMLESS = {"CTCBeamSearchDecoder", "TensorSliceDataset"}
"""Operations with such a name that neither open anything nor connect to anything."""


def test_every_operation_that_names_a_place_is_known() -> None:
    """By what TensorFlow itself says of its operations."""
    unknown = {}
    for name in dir(tf.raw_ops):
        definition = op_def_registry.get(name)
        if definition is None or name in KNOWN or name in _HARMLESS:
            continue
        arguments = [each.name for each in (*definition.input_arg, *definition.attr)]
        named = [each for each in arguments if any(word in each.lower() for word in _NAMES)]
        if named:
            unknown[name] = named
    assert unknown == {}


def test_every_known_operation_is_one() -> None:
    """But for those of older versions, and of TensorFlow's own debugger and servers."""
    older = {"BigQueryReader", "GenerateBigQueryReaderPartitions", "Rpc", "TryRpc", "WriteRawProtoSummary"}
    assert [name for name in sorted(KNOWN - older) if op_def_registry.get(name) is None] == []


def test_inspect_says_so(tmp_path: Path) -> None:
    module = save(tmp_path / "m", read, TEXT)

    said = succeed("inspect", module)
    told = json.loads(succeed("inspect", module, "--json"))["reaches"]

    assert "reaches     ReadFile reads files (" in said
    assert [(each["operation"], each["does"]) for each in told] == [("ReadFile", "reads files")]
    assert "reaches     no files but its own, no network, no Python" in succeed(
        "inspect", identity(tmp_path / "i", (None,))
    )
    assert not os.path.exists("/tmp/beamhub-never")


def test_job_does_not_load_what_reaches_out(tmp_path: Path) -> None:
    """A module that writes a file when it is called is refused before it is, and runs where that is allowed."""
    written = tmp_path / "written"

    def write_there(x: Any) -> Any:
        tf.io.write_file(str(written), "by the module")
        return {"y": tf.identity(x)}

    module = save(tmp_path / "m", write_there, tf.TensorSpec((None,), tf.float32, "x"))
    arguments = flags(tmp_path, module, pa.table({"x": FLOATS}))

    line = refused(2, "extract", *arguments)
    assert "WriteFile writes files (" in line
    assert "give --allow-operations WriteFile" in line
    assert not written.exists()
    assert not (tmp_path / "out").exists()
    assert "give --allow-operations ReadFile,WriteFile" in refused(
        2, "extract", *arguments, "--allow-operations=ReadFile"
    )

    succeed("extract", *arguments, "--allow-operations=WriteFile")
    assert written.read_text() == "by the module"
    assert "nothing to do" in succeed("extract", *arguments)
