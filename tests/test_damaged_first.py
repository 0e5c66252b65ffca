"""Files that are damaged and come first, where the job is settled: each is a failed shard, as one that comes later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import beamhub as library
from beamhub.corpus.sampling import MOST_DAMAGED, sampled
from beamhub.corpus.shards import Shard
from beamhub.errors import CorpusError
from tests.corpora import example, write_tfrecord
from tests.jobs import refused, succeed
from tests.small import identity


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def begin_otherwise(path: Path) -> None:
    path.write_bytes(b"no format at all" + path.read_bytes()[16:-4] + b"none")


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)


def write_parquet(path: Path, values: list[float]) -> None:
    pq.write_table(pa.table({"x": pa.array([[value] for value in values], pa.list_(pa.float32(), 1))}), path)


def write_examples(path: Path, values: list[float]) -> None:
    write_tfrecord(path, [example(x=[value]) for value in values])


@pytest.mark.parametrize(
    ("write", "damage"),
    [
        (write_parquet, cut),
        (write_parquet, begin_otherwise),
        (write_examples, cut),
        (write_examples, begin_otherwise),
        (write_examples, flip_a_byte),
    ],
)
def test_it_fails_alone(
    write: Callable[[Path, list[float]], None], damage: Callable[[Path], None], tmp_path: Path
) -> None:
    module = identity(tmp_path / "m", (None, 1))
    (tmp_path / "c").mkdir()
    for name, values in {"a": [1.0] * 20, "b": [2.0, 3.0]}.items():
        write(tmp_path / "c" / name, values)
    damage(tmp_path / "c" / "a")
    job = ["--module", module, "--corpus", tmp_path / "c" / "*", "--out", tmp_path / "out"]

    line = refused(4, "extract", *job)
    summary = succeed("extract", *job, "--allow-failed=1")

    assert "1 shards failed, 0 allowed; nothing was committed" in line
    assert "hole      a: " in summary
    assert library.open(str(tmp_path / "out")).to_numpy("y").ravel().tolist() == [2.0, 3.0]


def shards(count: int) -> list[Shard]:
    return [Shard(path=str(n), relative=str(n), size=1, token="") for n in range(count)]


def fails(shard: Shard) -> Iterator[int]:
    """Gives the number of an even shard, and fails after it; an odd one gives nothing."""
    if int(shard.path) % 2 == 0:
        yield int(shard.path)
    raise CorpusError(f"{shard.path}: damaged")


def test_what_comes_before_the_damage_counts() -> None:
    assert list(sampled(shards(5), fails)) == [0, 2, 4]


def test_where_nothing_can_be_read_the_first_error_is_raised() -> None:
    looked_into = list[str]()

    def look(shard: Shard) -> Iterator[int]:
        looked_into.append(shard.path)
        yield from fails(shard)

    with pytest.raises(CorpusError, match="1: damaged"):
        list(sampled(shards(100)[1::2], look))
    assert len(looked_into) == MOST_DAMAGED
