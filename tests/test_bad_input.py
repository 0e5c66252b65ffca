"""Bad input: one clear line (what, where, wanted, what to do), exit status 2, and what was committed is unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from tests.jobs import refused, succeed, tensor_column


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Doubles vectors of 4; a second signature takes two inputs."""
    saved = tf.Module()
    spec = tf.TensorSpec((None, 4), tf.float32, name="x")
    other = tf.TensorSpec((None, 4), tf.float32, name="y")
    double = tf.function(lambda x: {"default": 2 * x, "sum": tf.reduce_sum(x, 1)}, input_signature=[spec])
    add = tf.function(lambda x, y: {"default": x + y}, input_signature=[spec, other])
    path = str(tmp_path_factory.mktemp("module"))
    tf.saved_model.save(saved, path, signatures={"serving_default": double, "add": add})
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    vectors = np.arange(40, dtype=np.float32).reshape(10, 4)
    table = pa.table({"id": [f"r{row}" for row in range(10)], "x": tensor_column(vectors), "text": ["a"] * 10})
    pq.write_table(table, folder / "part-0.parquet")
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def flags(module: str, corpus: object, out: Path, *more: object) -> list[object]:
    return ["--module", module, "--corpus", corpus, "--out", out, "--input=x=x", "--output=default", *more]


# Each case: flags that make the job bad, and words that the line must say.
BAD_FLAGS: dict[str, tuple[list[str], list[str]]] = {
    "no such key column": (["--key=idd"], ["--key idd", "did you mean id", "id, x, text"]),
    "no such kept column": (["--keep=id,nothing"], ["--keep nothing", "id, x, text"]),
    "no such input column": (["--input=x=xx"], ["'xx'", "did you mean x"]),
    "column of the wrong type": (["--input=x=text"], ["column text is string", "float32 [?,4]"]),
    "no such input": (["--input=z=x"], ["no input 'z'", "x"]),
    "input given twice": (["--input=x=text", "--input=x=x"], ["given before"]),
    "no such signature": (["--signature=addd"], ["'addd'", "add, serving_default", "did you mean 'add'"]),
    "no such output": (["--output=defualt"], ["'defualt'", "default, sum", "did you mean 'default'"]),
    "output that is no vector": (["--output=sum"], ["output sum", "embed keeps one vector", "extract"]),
    "inputs without a column": (["--signature=add", "--input=x=x"], ["2 inputs", "y"]),
    "no such tags": (["--tags=train"], ["{train}", "{serve}"]),
    "unknown flag": (["--sigature=add"], ["--sigature", "did you mean --signature"]),
    "unknown flag of Beam": (["--direct_num_worker=2"], ["--direct_num_worker", "did you mean --direct_num_workers"]),
    "stray word": (["stray"], ["stray"]),
    "share above one": (["--max-dead-fraction=2"], ["--max-dead-fraction", "between 0 and 1"]),
    "batch of none": (["--batch-size=0"], ["--batch-size", "at least 1"]),
    "no number": (["--top-k=many"], ["--top-k"]),
    "kept column that the table has": (["--keep=embedding"], ["--keep embedding"]),
    "schema for Parquet": (["--schema=x.pbtxt"], ["--schema", "Parquet"]),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_bad_flags(case: str, module: str, corpus: Path, tmp_path: Path) -> None:
    """Given a committed table, when a job on it is asked for what cannot be, then the table is unchanged."""
    bad, words = BAD_FLAGS[case]
    out = tmp_path / "out"
    succeed("embed", *flags(module, f"{corpus}/*", out))
    before = digests(out)
    named = {flag.partition("=")[0] for flag in bad}
    kept = [
        f for f in flags(module, f"{corpus}/*", out) if str(f).partition("=")[0] not in named & {"--input", "--output"}
    ]

    line = refused(2, "embed", *kept, *bad)

    for word in words:
        assert word in line
    assert digests(out) == before


def test_several_columns_fit(module: str, tmp_path: Path) -> None:
    vectors = tensor_column(np.zeros((2, 4), np.float32))
    pq.write_table(pa.table({"one": vectors, "two": vectors}), tmp_path / "c.parquet")

    line = refused(2, "embed", "--module", module, "--corpus", tmp_path / "c.parquet", "--out", tmp_path / "out")

    assert "columns one, two all fit input x (float32 [?,4])" in line
    assert "--input x=COLUMN" in line


def no_such_folder(folder: Path) -> str:
    return f"{folder}/nowhere/*.parquet"


def empty_glob(folder: Path) -> str:
    return f"{folder}/*.tfrecord"


def not_a_corpus(folder: Path) -> str:
    (folder / "part-0.parquet").write_bytes(b"these are no records at all, only words in a file")
    return f"{folder}/*"


def truncated_parquet(folder: Path) -> str:
    whole = (folder / "part-0.parquet").read_bytes()
    (folder / "part-0.parquet").write_bytes(whole[: len(whole) // 2])
    return f"{folder}/*"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_such_folder, ["nowhere", "does not exist"]),
        (empty_glob, ["*.tfrecord", "no file"]),
        (not_a_corpus, ["part-0.parquet", "neither TFRecord nor Parquet"]),
        (truncated_parquet, ["part-0.parquet"]),
    ],
)
def test_bad_corpus(spoil: Callable[[Path], str], words: list[str], module: str, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    succeed("embed", *flags(module, f"{corpus}/*", out))
    before = digests(out)

    line = refused(2, "embed", *flags(module, spoil(corpus), out))

    for word in words:
        assert word in line
    assert digests(out) == before


def spoil_parquet(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"PAR1")


def spoil_tfrecord(path: Path) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"a record")
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize("spoil", [spoil_parquet, spoil_tfrecord])
def test_broken_file_among_good_ones_is_a_failed_shard(
    spoil: Callable[[Path], None], module: str, corpus: Path, tmp_path: Path
) -> None:
    """The good shards are computed and kept, nothing is committed, and the line names the broken file."""
    out = tmp_path / "out"
    succeed("embed", *flags(module, f"{corpus}/*", out))
    committed = {
        name: digest for name, digest in digests(out).items() if "/ledger/" not in name and "/runs/" not in name
    }
    pq.write_table(pq.read_table(corpus / "part-0.parquet"), corpus / "part-1.parquet")
    pq.write_table(pq.read_table(corpus / "part-0.parquet"), corpus / "part-2.parquet")
    spoil(corpus / "part-2.parquet")

    line = refused(4, "embed", *flags(module, f"{corpus}/*", out))

    assert "1 shards failed, 0 allowed; nothing was committed" in line
    assert "part-2.parquet" in line
    after = digests(out)
    assert committed.items() <= after.items()

    summary = succeed("embed", *flags(module, f"{corpus}/*", out, "--allow-failed=1"))

    assert "hole      part-2.parquet" in summary
    assert "1 committed in this run, 2 in the table" in summary


def test_calls_of_more_than_memory(module: str, corpus: Path, tmp_path: Path) -> None:
    """A record is 16 bytes, and so is its output."""
    line = refused(2, "embed", *flags(module, f"{corpus}/*", tmp_path / "out", "--batch-size=100000000"))

    assert "--batch-size 100000000: a call would hold 3.2 GB" in line
    assert "give 33554432 at most" in line


def test_output_folder_that_holds_something_else(module: str, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("do not touch")

    line = refused(2, "embed", *flags(module, f"{corpus}/*", tmp_path / "out"))

    assert "thesis.txt" in line
    assert digests(tmp_path / "out").keys() == {str(tmp_path / "out" / "thesis.txt")}


def test_output_that_is_a_file(module: str, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("do not touch")

    line = refused(2, "embed", *flags(module, f"{corpus}/*", tmp_path / "out"))

    assert f"{tmp_path}/out" in line
    assert (tmp_path / "out").read_text() == "do not touch"


def test_unwritable_output(module: str, corpus: Path, tmp_path: Path) -> None:
    """A folder below a file cannot be made, by root neither."""
    (tmp_path / "file").write_text("")

    line = refused(2, "embed", *flags(module, f"{corpus}/*", tmp_path / "file" / "out"))

    assert f"{tmp_path}/file/out cannot be written" in line


def test_no_module_there(corpus: Path, tmp_path: Path) -> None:
    line = refused(2, "embed", *flags(f"{tmp_path}/nothing", f"{corpus}/*", tmp_path / "out"))

    assert f"{tmp_path}/nothing" in line


def test_other_batch_size_for_the_same_version(module: str, corpus: Path, tmp_path: Path) -> None:
    succeed("embed", *flags(module, f"{corpus}/*", tmp_path / "out", "--batch-size=4"))

    line = refused(2, "embed", *flags(module, f"{corpus}/*", tmp_path / "out", "--batch-size=8"))

    assert "was begun with 4" in line


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("path", ["nowhere"], ["nowhere"]),
        ("status", ["nowhere"], ["nowhere", "not a feature table"]),
        ("inspect", ["nowhere"], ["nowhere"]),
        ("embed", [], ["--module", "--corpus", "--out"]),
        ("embed", ["--spec=nowhere.yaml"], ["nowhere.yaml"]),
        ("emebd", [], ["emebd"]),
        ("path", ["x", "--jason"], ["--jason"]),
    ],
)
def test_other_commands(command: str, arguments: list[str], words: list[str]) -> None:
    line = refused(2, command, *arguments)

    for word in words:
        assert word in line


def test_spec_file_holds_the_same_fields(module: str, corpus: Path, tmp_path: Path) -> None:
    spec = tmp_path / "job.yaml"
    spec.write_text(
        f"task: embed\nmodule: {module}\ncorpus: {corpus}/*\nout: {tmp_path}/out\ninput: {{x: x}}\n"
        "output: default\nkey: id\nbatch-size: 4\n"
    )

    summary = succeed("embed", "--spec", spec)

    assert "10 read = 10 produced" in summary
    assert "calls     of 4, 2 records" in summary


def test_spec_file_with_an_unknown_field(module: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("modul: x\n")

    line = refused(2, "embed", "--spec", tmp_path / "job.yaml")

    assert "unknown field 'modul'" in line
    assert "did you mean module" in line
