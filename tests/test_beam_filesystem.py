"""Corpus, module and table on a file system that only Beam knows: bytes go through Beam's `FileSystems` alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata, FileSystem

import beamhub as library
from beamhub import storage
from tests.jobs import refused, succeed, tensor_column


class DiskStore(FileSystem):
    """A store with flat names, as object stores have, kept in a folder; there is no rename, and no append."""

    folder: ClassVar[str] = ""

    @classmethod
    def scheme(cls) -> str:
        return "diskstore"

    def _place(self, path: str) -> str:
        return os.path.join(self.folder, path.removeprefix("diskstore://").replace("/", "%"))

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for name in sorted(os.listdir(self.folder)):
            path = "diskstore://" + name.replace("%", "/")
            if path.startswith(dir_or_prefix):
                yield self.metadata(path)

    def metadata(self, path: str) -> FileMetadata:
        try:
            status = os.stat(self._place(path))
        except FileNotFoundError as error:
            raise BeamIOError(f"no {path}") from error
        return FileMetadata(path, status.st_size, status.st_mtime)

    def open(self, path: str, mime_type: str = "", compression_type: str = CompressionTypes.AUTO) -> object:
        try:
            return open(self._place(path), "rb")
        except FileNotFoundError as error:
            raise BeamIOError(f"no {path}") from error

    def create(self, path: str, mime_type: str = "", compression_type: str = CompressionTypes.AUTO) -> object:
        return open(self._place(path), "wb")

    def copy(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            Path(self._place(target)).write_bytes(Path(self._place(source)).read_bytes())

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            os.unlink(self._place(path))

    def exists(self, path: str) -> bool:
        return os.path.exists(self._place(path))

    def size(self, path: str) -> int:
        return self.metadata(path).size_in_bytes

    def last_updated(self, path: str) -> float:
        return self.metadata(path).last_updated_in_seconds

    def has_dirs(self) -> bool:
        return False

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        raise BeamIOError("there are no folders")

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        raise BeamIOError("a rename is not atomic here")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The store's root, empty."""
    (tmp_path / "store").mkdir()
    monkeypatch.setattr(DiskStore, "folder", str(tmp_path / "store"))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    return "diskstore://bucket"


def upload(source: Path, target: str) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            storage.write_bytes(f"{target}/{path.relative_to(source)}", path.read_bytes())


def write_job(folder: Path, store: str) -> np.ndarray:
    """Uploads a module that doubles vectors, and a corpus of three files; returns the vectors."""
    spec = tf.TensorSpec((None, 3), tf.float32, name="x")
    double = tf.function(lambda x: {"default": 2 * x}, input_signature=[spec])
    tf.saved_model.save(tf.Module(), str(folder / "module"), signatures={"serving_default": double})
    vectors = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    (folder / "corpus").mkdir()
    for number in range(3):
        rows = tensor_column(vectors[number * 10 : number * 10 + 10])
        pq.write_table(pa.table({"x": rows}), folder / "corpus" / f"part-{number}.parquet")
    upload(folder / "module", f"{store}/module")
    upload(folder / "corpus", f"{store}/corpus")
    return vectors


def test_job_resume_and_replacement(store: str, tmp_path: Path) -> None:
    vectors = write_job(tmp_path, store)
    flags = ["--module", f"{store}/module", "--corpus", f"{store}/corpus/*.parquet", "--out", f"{store}/out"]

    succeed("embed", *flags)
    again = succeed("embed", *flags)

    assert again.startswith("nothing to do")
    np.testing.assert_array_equal(library.open(f"{store}/out").to_numpy("embedding"), 2 * vectors)

    changed = tensor_column(-vectors[:10])
    pq.write_table(pa.table({"x": changed}), tmp_path / "corpus" / "part-0.parquet")
    upload(tmp_path / "corpus", f"{store}/corpus")
    storage.delete([f"{store}/corpus/part-2.parquet"])
    succeed("embed", *flags)

    found = library.open(f"{store}/out").to_numpy("embedding")
    np.testing.assert_array_equal(found, 2 * np.concatenate([-vectors[:10], vectors[10:20]]))
    assert "2 done (0 not committed), 0 missing" in succeed("status", f"{store}/out")
    data = [file.path for file in storage.list_files(f"{store}/out") if file.path.endswith(".parquet")]
    assert len(data) == 2


def test_corpus_that_is_not_there(store: str, tmp_path: Path) -> None:
    write_job(tmp_path, store)

    line = refused(
        2, "embed", "--module", f"{store}/module", "--corpus", f"{store}/none/*", "--out", f"{store}/out"
    )  # fmt: skip

    assert f"{store}/none/*" in line


def test_scheme_that_nobody_knows(tmp_path: Path, store: str) -> None:
    write_job(tmp_path, store)

    line = refused(2, "embed", "--module", f"{store}/module", "--corpus", "nowhere://x/*", "--out", f"{store}/out")

    assert "nowhere://" in line
