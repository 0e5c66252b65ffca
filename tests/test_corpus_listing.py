from __future__ import annotations

import glob
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beamhub.corpus.formats import reader_for
from beamhub.corpus.globs import covers
from beamhub.corpus.listing import list_corpus
from beamhub.errors import CorpusError
from tests.corpora import write_tfrecord


def parquet(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"a": [1]}), path)


def test_a_glob_starts_at_its_leading_folder(tmp_path: Path) -> None:
    for name in ("dt=2/b.parquet", "dt=1/a.parquet", "dt=1/a.txt"):
        parquet(tmp_path / name)

    corpus = list_corpus(f"{tmp_path}/dt=*/*.parquet")

    assert (corpus.root, corpus.format, corpus.warnings) == (str(tmp_path), "parquet", ())
    assert [shard.relative for shard in corpus.shards] == ["dt=1/a.parquet", "dt=2/b.parquet"]
    assert [shard.partition for shard in corpus.shards] == ["dt=1", "dt=2"]
    assert corpus.shards[0].size == (tmp_path / "dt=1/a.parquet").stat().st_size


def test_a_file_and_a_folder_are_corpora(tmp_path: Path) -> None:
    for name in (
        "a.parquet",
        "deep/b.parquet",
        "_c.parquet",
        ".d.parquet",
        "_deep/e.parquet",
        "f[1].parquet",
    ):
        parquet(tmp_path / name)

    assert [shard.relative for shard in list_corpus(str(tmp_path / "a.parquet")).shards] == ["a.parquet"]
    assert [shard.relative for shard in list_corpus(str(tmp_path / "f[1].parquet")).shards] == ["f[1].parquet"]
    folder = list_corpus(f"{tmp_path}/")
    assert folder.root == str(tmp_path)
    assert [shard.relative for shard in folder.shards] == ["a.parquet", "deep/b.parquet", "f[1].parquet"]


def test_a_given_root_keeps_shards_the_same_under_a_narrower_glob(tmp_path: Path) -> None:
    parquet(tmp_path / "x/dt=1/a.parquet")

    wide = list_corpus(f"{tmp_path}/*/*/*.parquet")
    narrow = list_corpus(f"{tmp_path}/x/dt=1/*.parquet", root=str(tmp_path))

    assert wide.shards == narrow.shards
    with pytest.raises(CorpusError, match=f"a.parquet: not below the corpus root {tmp_path}/y; give a root"):
        list_corpus(f"{tmp_path}/x/dt=1/*.parquet", root=f"{tmp_path}/y")


def test_a_relative_pattern_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(tmp_path / "a.parquet")
    monkeypatch.chdir(tmp_path)

    assert list_corpus("*.parquet").shards[0].path == str(tmp_path / "a.parquet")


def test_nothing_found_says_where(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(CorpusError, match=r"corpus .*/no/\*\.parquet: the folder .*/no does not exist; give"):
        list_corpus(f"{tmp_path}/no/*.parquet")
    with pytest.raises(CorpusError, match=r"corpus .*/empty/\*\.parquet: no file below .*/empty matches; give"):
        list_corpus(f"{tmp_path}/empty/*.parquet")
    for missing in ("no", "empty"):
        with pytest.raises(CorpusError, match=f"corpus .*/{missing}: there is no such file, and no folder"):
            list_corpus(f"{tmp_path}/{missing}")


def test_the_format_is_found_by_content(tmp_path: Path) -> None:
    parquet(tmp_path / "parquet.tfrecord")
    for number, compression in enumerate(("", "GZIP", "ZLIB")):
        write_tfrecord(tmp_path / f"tfrecord-{number}.parquet", [b"x" * 100], compression)
        assert list_corpus(f"{tmp_path}/tfrecord-{number}.parquet").format == "tfrecord"

    assert list_corpus(f"{tmp_path}/*.tfrecord").format == "parquet"


def test_empty_files_are_tfrecord(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert list_corpus(f"{tmp_path}/*").format == "tfrecord"

    write_tfrecord(tmp_path / "b", [b"x"])
    assert len(list_corpus(f"{tmp_path}/*").shards) == 2

    parquet(tmp_path / "c/x.parquet")
    (tmp_path / "c/_SUCCESS").touch()
    with pytest.raises(CorpusError, match="_SUCCESS: empty, not a Parquet file as the others are; narrow"):
        list_corpus(f"{tmp_path}/c/*")


def test_mixed_formats_name_one_of_each(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet")
    write_tfrecord(tmp_path / "b.tfrecord", [b"x"])

    with pytest.raises(CorpusError, match=r"mixed formats: .*a\.parquet is parquet, .*b\.tfrecord is tfrecord; narrow"):
        list_corpus(f"{tmp_path}/*")


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"hello, this is a text",
        b"PAR1 but no end",
        b"\x1f\x8b but no gzip",
        b"\x78\x9c but no zlib",
        b"\x05",
    ],
)
def test_a_file_of_no_format_is_named_with_its_first_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(CorpusError) as caught:
        list_corpus(str(tmp_path / "file"))

    assert f"{tmp_path}/file: neither TFRecord nor Parquet, or damaged: begins with {content[:12]!r}" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)


def test_an_unreadable_corpus_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    (tmp_path / "file/inner").write_bytes(b"x")

    with pytest.raises(CorpusError, match="inner: neither"):
        list_corpus(str(tmp_path / "file"))
    with pytest.raises(CorpusError, match="no corpus format 'csv'; there are parquet, tfrecord"):
        reader_for("csv")


def test_ten_thousand_files_are_listed_in_a_moment_and_warned_about(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"part-{number}").touch()

    begun = time.monotonic()
    corpus = list_corpus(f"{tmp_path}/part-*")
    took = time.monotonic() - begun

    assert len(corpus.shards) == 10_000
    assert took < 2, "0.1 s on an idle machine"
    assert corpus.warnings == (
        "10,000 files of 0 bytes on average: opening them costs more than reading them; "
        "pack the corpus into files of 64 MiB or more",
    )


NAMES = (
    "a.parquet",
    "b.txt",
    ".hidden",
    "x/a.parquet",
    "x/y/a.parquet",
    "x/y/z/b1.parquet",
    "x/.y/a.parquet",
    "x/y/.h.parquet",
    "_x/a.parquet",
    "[q]/a.parquet",
)


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "*.parquet",
        ".*",
        "*/*",
        "*/a.parquet",
        "**",
        "**/*",
        "**/a.parquet",
        "**/**/a.parquet",
        "x/**/*.parquet",
        "x/**/[!a]*.parquet",
        "x/y/?.parquet",
        "x/y/**",
        "x/**.parquet",
        "x/.*/*",
        "_x/*",
        "[[]q]/*",
        "x/y/.h.parquet",
        "**/.h*",
    ],
)
def test_covers_what_a_listing_would_find(tmp_path: Path, pattern: str) -> None:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    pattern = f"{tmp_path}/{pattern}"
    listed = {path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)}

    corpus = list_corpus(pattern)

    assert {shard.path for shard in corpus.shards} == listed
    assert {name for name in NAMES if covers(pattern, f"{tmp_path}/{name}")} == {
        os.path.relpath(path, tmp_path) for path in listed
    }
    assert all(corpus.covers(shard.relative) for shard in corpus.shards)


def test_a_folder_covers_what_is_below_it_and_not_hidden() -> None:
    assert covers("/data/in", "/data/in/x/a.parquet")
    assert not covers("/data/in", "/data/in/_x/a.parquet")
    assert not covers("/data/in", "/data/inside/a.parquet")
    assert covers("/data/in/a.parquet", "/data/in/a.parquet")


def test_covers_on_an_object_store_is_as_beam_matches() -> None:
    assert covers("gs://bucket/in/*.parquet", "gs://bucket/in/a.parquet")
    assert not covers("gs://bucket/in/*.parquet", "gs://bucket/in/x/a.parquet")
    assert covers("gs://bucket/in/**.parquet", "gs://bucket/in/x/a.parquet")
