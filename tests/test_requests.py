"""What is asked for: constants, label files, names and folders, and which of it makes another version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import beamhub as library
from tests.jobs import beamhub, refused, succeed, tensor_column
from tests.small import FLOATS, flags, identity, save


def test_sigmoid_scores_are_not_softmaxed(tmp_path: Path) -> None:
    module = identity(tmp_path / "m", (None, 3), output="predictions")
    shares = np.array([[0.9, 0.8, 0.1], [0.2, 0.1, 0.05]], np.float32)

    summary = succeed("classify", *flags(tmp_path, module, pa.table({"x": tensor_column(shares)})), "--top-k=3")

    assert "of predictions, taken as probabilities" in summary
    scores = library.open(str(tmp_path / "out")).to_table().column("scores").to_pylist()
    np.testing.assert_array_equal(scores, -np.sort(-shares, axis=1))


def test_edited_label_file_is_another_version(tmp_path: Path) -> None:
    module = identity(tmp_path / "m", (None, 2), output="logits")
    arguments = flags(tmp_path, module, pa.table({"x": tensor_column(np.eye(2, dtype=np.float32))}))
    for words in (("a", "b"), ("A", "B")):
        (tmp_path / "labels.txt").write_text("\n".join(words))
        succeed("classify", *arguments, f"--label-file={tmp_path}/labels.txt", "--top-k=1")
        version = max((tmp_path / "out").glob("v=*"), key=lambda path: path.stat().st_mtime)
        rows = library.open(str(tmp_path / "out"), version.name[2:]).to_table()
        assert rows.column("labels").to_pylist() == [[words[0]], [words[1]]]


def test_longer_label_file_is_refused(tmp_path: Path) -> None:
    """A list with a background class would shift every label by one."""
    (tmp_path / "labels.txt").write_text("background\na\nb\n")
    module = identity(tmp_path / "m", (None, 2), output="logits")
    arguments = flags(tmp_path, module, pa.table({"x": tensor_column(np.eye(2, dtype=np.float32))}))

    line = refused(2, "classify", *arguments, f"--label-file={tmp_path}/labels.txt")

    assert "has 2 classes, the label file names 3" in line


def test_label_file_with_a_mark_and_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("\ufeff1,b\n\n0,a\n".encode())
    module = identity(tmp_path / "m", (None, 2), output="logits")
    arguments = flags(tmp_path, module, pa.table({"x": tensor_column(np.eye(2, dtype=np.float32))}))

    succeed("classify", *arguments, f"--label-file={tmp_path}/labels.txt", "--top-k=1")

    assert library.open(str(tmp_path / "out")).to_table().column("labels").to_pylist() == [["a"], ["b"]]


@pytest.mark.parametrize("text", ["no", "007", "1.10", "hello # world", "null", "[x"])
def test_constant_texts_are_taken_as_they_are(text: str, tmp_path: Path) -> None:
    module = save(
        tmp_path / "m",
        lambda x, s: {"y": tf.fill([tf.shape(x)[0]], s)},
        tf.TensorSpec((None,), tf.float32, "x"),
        tf.TensorSpec((), tf.string, "s"),
    )

    succeed("extract", *flags(tmp_path, module, pa.table({"x": FLOATS})), f"--constant=s={text}", "--input=x=x")

    assert library.open(str(tmp_path / "out")).to_table(["y"]).column("y").to_pylist() == [text, text]


@pytest.mark.parametrize("text", ["", "null", "12:30", "yes", "true", '"1"', "[1, [2]]"])
def test_constants_that_are_no_numbers(text: str, tmp_path: Path) -> None:
    module = save(
        tmp_path / "m",
        lambda x, s: {"y": x * s},
        tf.TensorSpec((None,), tf.float32, "x"),
        tf.TensorSpec((), tf.float32, "s"),
    )

    line = refused(
        2, "extract", *flags(tmp_path, module, pa.table({"x": FLOATS})), f"--constant=s={text}", "--input=x=x"
    )

    assert f"--constant s={text}" in line


def test_equal_constants_are_the_same_version(tmp_path: Path) -> None:
    module = save(
        tmp_path / "m",
        lambda x, s: {"y": x * s},
        tf.TensorSpec((None,), tf.float32, "x"),
        tf.TensorSpec((), tf.float32, "s"),
    )
    arguments = flags(tmp_path, module, pa.table({"x": FLOATS}))
    succeed("extract", *arguments, "--constant=s=1", "--input=x=x")

    assert succeed("extract", *arguments, "--constant=s=1.0", "--input=x=x").startswith("nothing to do")


@pytest.mark.parametrize(
    "flag",
    ["--image-range=nan,1", "--image-size=inf,1", "--image-shape=nan,1,1", "--batch-size=1", "--image-range=0,1"],
)
def test_flags_that_make_no_sense(flag: str, tmp_path: Path) -> None:
    """The last one makes sense for images only, and this is none."""
    line = refused(2, "extract", *flags(tmp_path, identity(tmp_path / "m", (None,)), pa.table({"x": FLOATS})), flag)

    assert flag.partition("=")[0] in line


def test_threshold_that_is_no_number() -> None:
    assert "--threshold" in refused(2, "detect", "--module=m", "--corpus=c", "--out=o", "--threshold=nan")


def test_kept_maps_do_not_split_the_version(tmp_path: Path) -> None:
    maps = pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64()))
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,)), pa.table({"x": FLOATS, "m": maps}))

    succeed("extract", *arguments, "--keep=m", "--input=x=x")

    assert library.open(str(tmp_path / "out")).to_table().column("m").to_pylist() == maps.to_pylist()
    assert len(list((tmp_path / "out").glob("v=*"))) == 1


def test_nested_keys_are_refused(tmp_path: Path) -> None:
    keys = pa.array([[1], [2]])
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,)), pa.table({"x": FLOATS, "k": keys}))

    assert "--key k is list" in refused(2, "extract", *arguments, "--key=k")
    assert not (tmp_path / "out").exists()


def test_output_named_key(tmp_path: Path) -> None:
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,), output="key"), pa.table({"x": FLOATS}))

    assert "output key" in refused(2, "extract", *arguments)


def test_brackets_in_the_name_of_the_output(tmp_path: Path) -> None:
    (tmp_path / "out1").mkdir()
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,)), pa.table({"x": FLOATS}))
    arguments[-1] = tmp_path / "out[1]"

    succeed("extract", *arguments)

    assert succeed("extract", *arguments).startswith("nothing to do")
    assert "1 done" in succeed("status", tmp_path / "out[1]")
    assert list((tmp_path / "out1").iterdir()) == []


def test_table_inside_its_own_corpus(tmp_path: Path) -> None:
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,)), pa.table({"x": FLOATS}))
    arguments[3], arguments[-1] = tmp_path / "corpus", tmp_path / "corpus" / "out"

    assert "lies inside the corpus" in refused(2, "extract", *arguments)


def test_signature_with_a_fixed_size_and_a_constant(tmp_path: Path) -> None:
    module = save(
        tmp_path / "m",
        lambda x, c: {"y": x * tf.reduce_sum(c)},
        tf.TensorSpec((2, 2), tf.float32, "x"),
        tf.TensorSpec((5,), tf.float32, "c"),
    )
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)

    succeed(
        "extract", *flags(tmp_path, module, pa.table({"x": tensor_column(vectors)})), "--constant=c=[1,1,1,1,1]", "--input=x=x"
    )  # fmt: skip

    np.testing.assert_array_equal(library.open(str(tmp_path / "out")).to_numpy("y"), 5 * vectors)


def test_input_without_records_wants_a_constant(tmp_path: Path) -> None:
    module = save(
        tmp_path / "m",
        lambda x, s: {"y": x * s},
        tf.TensorSpec((None,), tf.float32, "x"),
        tf.TensorSpec((), tf.float32, "s"),
    )

    line = refused(2, "extract", *flags(tmp_path, module, pa.table({"x": FLOATS})), "--input=x=x", "--input=s=x")

    assert "give s by --constant" in line


def test_runner_that_nobody_knows(tmp_path: Path) -> None:
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,)), pa.table({"x": FLOATS}))

    ran = beamhub("extract", *arguments, "--runner=Foo", runner=False)

    assert ran.status == 2
    assert ran.err.startswith("beamhub: --runner Foo")
    assert not (tmp_path / "out").exists()


def test_no_command() -> None:
    assert "--nonsense" in refused(2, "--nonsense")


def test_status_of_a_table_whose_corpus_is_gone(tmp_path: Path) -> None:
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,)), pa.table({"x": FLOATS}))
    succeed("extract", *arguments)
    (tmp_path / "corpus" / "c.parquet").unlink()

    printed = succeed("status", tmp_path / "out")

    assert "1 corpus files are gone" in printed


def test_run_shard_of_a_committed_shard_changes_nothing(tmp_path: Path) -> None:
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,)), pa.table({"x": FLOATS}))
    succeed("extract", *arguments)
    before = sorted((tmp_path / "out").rglob("*"))

    printed = succeed("run-shard", tmp_path / "out", "c.parquet")

    assert "equal to the committed file" in printed
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_declared_schema_decides_the_types(tmp_path: Path) -> None:
    """Seen from the records `tags` would be a scalar of text; declared, it is a list of bytes, and stays one."""
    (tmp_path / "schema.pbtxt").write_text(
        'feature { name: "x" type: FLOAT shape { dim { size: 1 } } }\n'
        'feature { name: "tags" type: BYTES image_domain {} value_count { min: 0 max: 5 } }\n'
    )
    with tf.io.TFRecordWriter(str(tmp_path / "c.tfrecord")) as writer:
        for value in (1.0, 2.0):
            feature = {
                "x": tf.train.Feature(float_list=tf.train.FloatList(value=[value])),
                "tags": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a"])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    arguments = [
        "--module", identity(tmp_path / "m", (None,)), "--corpus", tmp_path / "c.tfrecord", "--out", tmp_path / "out",
        "--keep=tags", "--input=x=x",
    ]  # fmt: skip

    succeed("extract", *arguments, f"--schema={tmp_path}/schema.pbtxt")

    assert library.open(str(tmp_path / "out")).to_table(["tags", "y"]).to_pylist() == [
        {"tags": [b"a"], "y": 1.0},
        {"tags": [b"a"], "y": 2.0},
    ]


def test_names_that_readers_take_from_folders(tmp_path: Path) -> None:
    """DuckDB makes a column of v=VERSION, which would silently replace one of that name."""
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,), output="v"), pa.table({"x": FLOATS, "w": FLOATS}))

    assert "output v" in refused(2, "extract", *arguments, "--input=x=x")


def test_flag_given_twice(tmp_path: Path) -> None:
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,)), pa.table({"x": FLOATS}))

    assert "--corpus is given twice" in refused(2, "extract", *arguments, "--corpus=other")


def test_unquoted_glob(tmp_path: Path) -> None:
    arguments = flags(tmp_path, identity(tmp_path / "m", (None,)), pa.table({"x": FLOATS}))

    assert "quote a glob" in refused(2, "extract", *arguments, "part-1.parquet")
