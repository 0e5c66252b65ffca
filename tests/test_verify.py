"""`beamhub verify`: a table that is whole passes, and whatever is done to it or to its corpus is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import beamhub as library
from beamhub.features.ledger import (
    RESULT_SCHEMA,
    ShardResult,
    decode_table,
    encode_table,
    table_to_results,
    table_writer,
)
from beamhub.features.lineage import encode_document
from beamhub.features.manifest import Manifest, revise
from beamhub.features.paths import VersionPaths
from beamhub.features.results import Results
from tests.jobs import beamhub, refused, succeed
from tests.small import save

FILES = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of three files with one bad record in each, and its table."""
    folder = tmp_path_factory.mktemp("verify")
    module = save(
        folder / "m", lambda x: {"y": tf.strings.to_number(x)}, tf.TensorSpec((None,), tf.string, "x")
    )  # fmt: skip
    (folder / "corpus" / "dt=1").mkdir(parents=True)
    for number in range(FILES):
        texts = [str(100 * number + row) for row in range(50)]
        pq.write_table(pa.table({"x": [*texts, "bad"]}), folder / "corpus" / "dt=1" / f"{number}.parquet")
    corpus = folder / "corpus" / "**" / "*.parquet"
    flags = ["--module", module, "--corpus", corpus, "--out", folder / "out", "--max-dead-fraction=0.5"]
    succeed("extract", *flags)
    return folder


@pytest.fixture
def there(made: Path, tmp_path: Path) -> Path:
    """A copy of the table, and the corpus where it was, both to be damaged."""
    shutil.copytree(made / "corpus", tmp_path / "kept", copy_function=shutil.copy2)
    shutil.copytree(made / "out", tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def corpus(made: Path, there: Path) -> Iterator[Path]:
    """The corpus; it is put back, with its times, when the test is done."""
    yield made / "corpus" / "dt=1"
    shutil.rmtree(made / "corpus")
    shutil.copytree(there.parent / "kept", made / "corpus", copy_function=shutil.copy2)


def data(out: Path) -> list[Path]:
    return sorted(path for path in out.glob("v=*/**/*.parquet") if "_beamhub" not in path.parts)


def paths(out: Path) -> VersionPaths:
    (version,) = out.glob("v=*")
    return VersionPaths(str(out), version.name[2:])


def test_whole_table(made: Path) -> None:
    said = succeed("verify", made / "out")

    assert f"files     {FILES} of" in said
    assert "153 read = 150 produced + 3 dead + 0 skipped; each shard once: yes" in said
    assert f"inputs    {FILES} as they were read: yes" in said
    assert "WRONG" not in said


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def flip_footer(path: Path) -> None:
    content = path.read_bytes()
    assert content.count(b'"produced":50') == 1
    path.write_bytes(content.replace(b'"produced":50', b'"produced":51'))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit": (flip, "checksum"),
    "the footer": (flip_footer, "produced 51, the manifest says 50"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "bytes, the manifest says"),
    "empty": (lambda path: path.write_bytes(b""), "0 bytes, the manifest says"),
    "gone": (lambda path: path.unlink(), "is not there"),
    "another shard's": (lambda path: shutil.copy(data(path.parents[2])[1], path), "relative 'dt=1/"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_data_file_is_named(there: Path, damage: str) -> None:
    wrong, reason = DAMAGES[damage]
    name = data(there)[0]
    wrong(name)

    ran = beamhub("verify", there)

    assert ran.status == 1
    assert "files     3 of" in ran.out
    assert ": 1 WRONG" in ran.out
    assert reason.lower() in next(line for line in ran.out.splitlines() if name.name in line).lower()
    assert "1 things do not hold; beamhub verify --repair computes" in ran.err


@pytest.mark.parametrize("wrong", ["gone", "fewer", "damaged"])
def test_dead_letters_are_counted(there: Path, wrong: str) -> None:
    letters = next(there.glob("v=*/_beamhub/dead/*.arrow"))
    if wrong == "gone":
        letters.unlink()
    elif wrong == "fewer":
        kept = decode_table(letters.read_bytes(), "").slice(0, 0)
        with letters.open("wb") as file, table_writer(file, kept.schema) as writer:
            writer.write_table(kept)
    else:
        letters.write_bytes(b"ARROW1 and nothing else")

    reason = {"gone": "is not there", "fewer": "0 dead letters, the manifest says 1", "damaged": "cannot be read"}[
        wrong
    ]
    found = json.loads(beamhub("verify", there, "--json").out)["problems"]
    assert [(each["kind"], Path(each["name"]).name) for each in found] == [("file", letters.name)]
    assert reason in found[0]["reason"]


def test_totals_are_added_up(there: Path) -> None:
    (root,) = there.glob("v=*/_beamhub/manifest/gen-*.json")
    document = json.loads(root.read_text())
    document["totals"]["rows"] += 1
    root.write_bytes(encode_document(document))

    ran = beamhub("verify", there)

    assert "each shard once: 1 WRONG" in ran.out
    assert "restore what is named of the manifest" in ran.err


def test_part_of_the_manifest_is_not_what_was_written(there: Path) -> None:
    part = next(there.glob("v=*/_beamhub/manifest/*.arrow"))
    entries = decode_table(part.read_bytes(), "")
    place = entries.schema.get_field_index("token")
    part.write_bytes(encode_table(entries.set_column(place, "token", pa.array(["other"] * len(entries)))))

    found = json.loads(beamhub("verify", there, "--json", "--skip-inputs").out)["problems"]

    assert (found[0]["kind"], Path(found[0]["name"]).name) == ("manifest", part.name)
    assert any("token" in each["reason"] for each in found[1:])


def revised(out: Path, change: Callable[[list[ShardResult]], list[ShardResult]]) -> None:
    """A further generation, with other entries."""
    version = paths(out)
    manifest = Manifest.load(version)
    assert manifest is not None
    every = table_to_results(manifest.ordered)
    none = np.zeros(0, np.bool_)
    changed = Results(RESULT_SCHEMA.empty_table(), np.zeros(0, np.int64), none, change(every))

    def write(name: str, content: bytes) -> None:
        Path(version.manifest, name).write_bytes(content)

    root = revise(manifest, np.ones(len(every), np.bool_), changed, (), "again", write)
    Path(version.root_file(root.generation)).write_bytes(encode_document(root.to_json()))


def test_a_shard_that_is_listed_twice(there: Path) -> None:
    revised(there, lambda every: [*every, every[0]])

    assert "listed more than once, so its rows are doubled" in beamhub("verify", there).out


def test_counts_that_do_not_come_out(there: Path) -> None:
    revised(there, lambda every: [replace(every[0], read=60), *every[1:]])

    assert "60 records read, but 50 produced + 1 dead + 0 skipped" in beamhub("verify", there).out


def test_ranges_that_overlap(there: Path) -> None:
    revised(there, lambda every: [replace(every[0], end=100), replace(every[0], shard="1" * 16, start=90), *every[1:]])

    assert "ranges 0:100 and 90:-1 overlap, so rows would be doubled" in beamhub("verify", there).out


@pytest.mark.parametrize("wrong", ["changed", "gone"])
def test_inputs_that_are_others_by_now(there: Path, corpus: Path, wrong: str) -> None:
    if wrong == "changed":
        pq.write_table(pa.table({"x": ["1"]}), corpus / "1.parquet")
    else:
        (corpus / "1.parquet").unlink()

    ran = beamhub("verify", there)

    assert ran.status == 1
    assert f"inputs    {FILES} as they were read: 1 WRONG" in ran.out
    assert f"dt=1/1.parquet: {'changed since it was read' if wrong == 'changed' else 'is gone'}" in ran.out
    assert "run the job again" in ran.err
    assert "inputs  " not in succeed("verify", there, "--skip-inputs")


def test_files_that_wait_for_a_commit_are_counted(there: Path) -> None:
    shutil.copy(data(there)[0], data(there)[0].with_name("part-0123456789abcdef-01234567.parquet"))

    assert "others    1 data files are not committed" in succeed("verify", there)


def test_table_of_tfrecord(made: Path, tmp_path: Path) -> None:
    flags = ["--module", made / "m", "--corpus", made / "corpus" / "dt=1" / "0.parquet", "--out", tmp_path / "out"]
    succeed("extract", *flags, "--max-dead-fraction=0.5", "--output-format=tfrecord")
    (file,) = tmp_path.glob("out/v=*/*.tfrecord")
    assert ": yes" in succeed("verify", tmp_path / "out")
    flip(file)

    assert "CRC-32C" in beamhub("verify", tmp_path / "out").out


def test_nothing_is_committed(made: Path, there: Path) -> None:
    for root in there.glob("v=*/_beamhub/manifest/*"):
        root.unlink()

    assert "nothing is committed yet" in refused(2, "verify", there)


@pytest.mark.parametrize("damage", [*DAMAGES, "dead letters"])
def test_repair_computes_what_is_damaged(there: Path, damage: str) -> None:
    """And nothing else: afterwards the table has the same rows, and every other file is the same one."""
    rows = library.open(str(there)).to_table()
    letters = library.open(str(there)).dead_letters()
    others = {path: path.stat().st_mtime_ns for path in data(there)[1:]}
    if damage == "dead letters":
        next(there.glob(f"v=*/_beamhub/dead/{data(there)[0].stem}.arrow")).unlink()
    else:
        DAMAGES[damage][0](data(there)[0])

    said = succeed("verify", there, "--repair")

    assert "1 shards computed anew" in said
    assert "files     3 of" in said.split("repaired:")[1]
    assert "WRONG" not in said.split("repaired:")[1]
    table = library.open(str(there))
    assert table.to_table().equals(rows)
    assert table.dead_letters().equals(letters)
    assert {path: path.stat().st_mtime_ns for path in data(there) if path in others} == others
    assert "WRONG" not in succeed("verify", there)


def test_repair_of_what_has_changed_is_the_jobs(there: Path, corpus: Path) -> None:
    data(there)[0].unlink()
    pq.write_table(pa.table({"x": ["1"]}), corpus / "0.parquet")

    ran = beamhub("verify", there, "--repair")

    assert ran.status == 1
    assert "run the job again" in ran.err
