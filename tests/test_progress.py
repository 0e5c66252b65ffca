"""What a worker process counts and tells, and what the launcher reads of it."""

from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beamhub.corpus.format import Stretch, Wanted
from beamhub.corpus.formats import reader_for
from beamhub.corpus.framing import write_records
from beamhub.corpus.listing import list_corpus
from beamhub.corpus.shards import Shard
from beamhub.engine.batches import batches
from beamhub.engine.progress import Progress, Reporter, Reports, acquire_reporter
from tests.corpora import example

ONE = Shard("c/1", "1", 1000, "t")
OTHER = Shard("c/2", "2", 500, "t")


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_time_before_the_first_batch_is_in_no_rate() -> None:
    """Batches of 10 rows and a tenth of 1,000 bytes, after 60 seconds of starting and then every 2 seconds: half of the 6 is
    3, and the last batch before it was that after 2."""
    clock = Clock()
    progress = Progress(clock)
    clock.now += 60
    progress.advance(ONE, 10, 0.1)
    for reached in (0.2, 0.3, 0.4):
        clock.now += 2
        progress.advance(ONE, 10, reached)
    clock.now += 1.5

    report = progress.report(is_working=True)

    assert (report.first, report.rows, report.nbytes, report.ahead) == (ONE.id, 40, 400, 600)
    assert (report.paced_rows, report.paced_bytes, report.batches, report.seconds) == (20, 200, 2, 4.0)
    assert report.last == 100 + 66


def test_what_was_slow_long_ago_is_in_no_rate() -> None:
    """100 batches of a byte, 10 s each; then 5,000 of 0.5 s each: 2,500 s of them are later than half of the 3,500."""
    clock = Clock()
    progress = Progress(clock)
    whole = Shard("c/1", "1", 5100, "t")
    for number in range(5100):
        clock.now += 10 if number < 100 else 0.5
        progress.advance(whole, 1, (number + 1) / 5100)

    report = progress.report(is_working=True)

    assert report.paced_bytes / report.seconds == pytest.approx(2.0)
    assert report.seconds == pytest.approx(3500 / 2, rel=0.05)


def test_a_failed_shard_is_behind_but_no_work() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.advance(ONE, 10, 0.1)
    clock.now += 1
    progress.advance(OTHER, 10, 0.5)

    progress.finish(ONE)

    report = progress.report(is_working=True)
    assert (report.shards, report.nbytes, report.ahead) == (1, 1000 + 250, 250)
    assert (report.paced_bytes, report.seconds) == (250, 1.0)


def reached(path: Path, schema: pa.Schema, format: str, rows: int, size: int) -> list[Stretch]:
    (shard,) = list_corpus(str(path)).shards
    stretches = reader_for(format).scan(shard, schema, Wanted(rows, 1 << 14))
    return list(batches(stretches, size))


def test_share_of_a_parquet_shard(tmp_path: Path) -> None:
    """100 rows in row groups of 30, read 20 at a time, in batches of 25: a quarter each."""
    pq.write_table(pa.table({"x": pa.array(range(100))}), tmp_path / "c.parquet", row_group_size=30)

    made = reached(tmp_path / "c.parquet", pa.schema([("x", pa.int64())]), "parquet", 20, 25)

    assert [batch.reached for batch in made] == [0.25, 0.5, 0.75, 1.0]


def test_share_of_a_range_of_row_groups(tmp_path: Path) -> None:
    """The second and the third of four row groups of 30 rows lie in the middle half of the file; in batches of 15."""
    pq.write_table(pa.table({"x": pa.array(range(120))}), tmp_path / "c.parquet", row_group_size=30)
    (whole,) = list_corpus(str(tmp_path / "c.parquet")).shards
    shard = Shard(whole.path, whole.relative, whole.size // 2, whole.token, whole.size // 4, whole.size * 3 // 4)

    schema = pa.schema([("x", pa.int64())])
    made = batches(reader_for("parquet").scan(shard, schema, Wanted(64, 1 << 20)), 15)

    assert [batch.reached for batch in made] == [0.25, 0.5, 0.75, 1.0]


RECORDS = [example(x=np.random.default_rng(n).integers(0, 1 << 40, 1 + 50 * (n % 7)).tolist()) for n in range(600)]


def test_share_of_a_range_of_bytes(tmp_path: Path) -> None:
    """From where the range begins to the ends of its frames, of its size."""
    with open(tmp_path / "c.tfrecord", "wb") as file:
        write_records(file, RECORDS)
    ends = np.cumsum([len(record) + 16 for record in RECORDS])
    (whole,) = list_corpus(str(tmp_path / "c.tfrecord")).shards
    start, end = int(ends[199]), int(ends[399])
    shard = Shard(whole.path, whole.relative, end - start, whole.token, start, end)

    made = batches(reader_for("tfrecord").scan(shard, pa.schema([]), Wanted(128, 1 << 20)), 50)

    wanted = (ends[249:400:50] - start) / (end - start)
    np.testing.assert_allclose([batch.reached for batch in made], wanted)


def test_share_of_a_tfrecord_shard(tmp_path: Path) -> None:
    """By the offsets at which TFRecord frames end: 16 bytes more than each record."""
    with open(tmp_path / "c.tfrecord", "wb") as file:
        write_records(file, RECORDS)
    ends = np.cumsum([len(record) + 16 for record in RECORDS])

    made = reached(tmp_path / "c.tfrecord", pa.schema([("x", pa.list_(pa.int64()))]), "tfrecord", 128, 50)

    assert [batch.reached for batch in made] == pytest.approx((ends[49::50] / ends[-1]).tolist())


def test_share_of_a_compressed_tfrecord_shard(tmp_path: Path) -> None:
    """The compressed bytes tell it roughly: random numbers compress alike everywhere."""
    with gzip.open(tmp_path / "c.gz", "wb") as file:
        write_records(file, RECORDS)
    ends = np.cumsum([len(record) + 16 for record in RECORDS])

    made = reached(tmp_path / "c.gz", pa.schema([("x", pa.list_(pa.int64()))]), "tfrecord", 128, 50)

    shares = [batch.reached for batch in made]
    assert shares == pytest.approx((ends[49::50] / ends[-1]).tolist(), abs=0.05)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0, abs=0.001)


def test_reports_are_there_when_the_work_ends(tmp_path: Path) -> None:
    """Two threads of one process share a file; the last that ends leaves all figures in it."""
    folder = str(tmp_path / "progress")
    reporter = acquire_reporter(folder)
    assert acquire_reporter(folder) is reporter
    with reporter.working() as one, reporter.working() as other:
        one.advance(ONE, 10, 0.5)
        other.advance(OTHER, 5, 1.0)
        other.finish(OTHER)

    reports = Reports(folder)
    reports.refresh()

    (told,) = reports.told()
    assert told.report == reporter.progress.report(is_working=False).__class__(**json.loads(only_file(folder)))
    assert (told.report.rows, told.report.shards, told.report.nbytes) == (15, 1, 1000)
    assert (told.report.ahead, told.report.is_working) == (500, False)
    assert not [thread for thread in threading.enumerate() if thread.name == "beamhub-progress"]
    reports.clear()
    assert os.listdir(folder) == []


def only_file(folder: str) -> bytes:
    (name,) = os.listdir(folder)
    return Path(folder, name).read_bytes()


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_report_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    """The folder is a file."""
    (tmp_path / "progress").write_text("in the way")

    with Reporter(str(tmp_path / "progress")).working() as progress:
        progress.advance(ONE, 10, 0.5)

    assert progress.report(is_working=False).rows == 10
    assert (tmp_path / "progress").read_text() == "in the way"


def test_age_of_a_report(tmp_path: Path) -> None:
    """Its last batch was a quarter of a second ago. Batches come every 2 s, reports every second and are seen within another:
    4 s are usual, and no more. A clock that is behind gives no age below 0."""
    clock = Clock()
    document = {"first": "a", "rows": 4, "shards": 0, "nbytes": 4, "ahead": 4, "paced_rows": 3, "paced_bytes": 3}
    (tmp_path / "a.json").write_text(
        json.dumps({**document, "batches": 3, "seconds": 6.0, "last": 99.75, "is_working": True})
    )
    reports = Reports(str(tmp_path), clock)
    reports.refresh()
    ages = []
    for passed in (0, 1, 1, 50, -60):
        clock.now += passed
        reports.refresh()
        ages += [told.age for told in reports.told()]

    assert ages == [0.25, 1.25, 2.25, 4.0, 0.0]
