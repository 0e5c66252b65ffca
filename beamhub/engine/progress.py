"""How far a worker process is: counted while it writes, and told by a small file where a launcher watches.

runs/RUN/progress/UNIQUE.json   one for each worker process, replaced at most once a second (10 on an object store)
"""

from __future__ import annotations

import bisect
import contextlib
import json
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from beamhub import storage
from beamhub.corpus.shards import Shard

Clock = Callable[[], float]

_MOMENTS = 128
"""Moments of its past that a process keeps."""


@dataclass(frozen=True, slots=True)
class Report:
    """How far one process is.

    `first` is the id of the first shard of which it wrote anything, `rows` the records written, `shards` those finished
    (failed ones too), `nbytes` the bytes of input that are behind it, `ahead` those that are still ahead in shards that it
    has begun. `paced_rows` and `paced_bytes` came in the last `batches` and `seconds` (see `_Pace`). `last` is the
    moment of its last batch, in seconds since the epoch; `is_working` is false between bundles.
    """

    first: str
    rows: int
    shards: int
    nbytes: int
    ahead: int
    paced_rows: int
    paced_bytes: int
    batches: int
    seconds: float
    last: float
    is_working: bool


@dataclass(frozen=True, slots=True)
class _Moment:
    at: float
    rows: int
    nbytes: int
    batches: int


class _Pace:
    """What was written in the latter half of the time since the first batch.

    The first batch counts for no rate, since the time before it was the start; and what went before the half counts no
    more, for a machine has other work to do, and gets rid of it. A half is long enough for a steady rate.
    """

    def __init__(self) -> None:
        self._moments: list[_Moment] = []
        self._spacing = 0.1
        self._last = _Moment(0.0, 0, 0, 0)

    @property
    def last(self) -> float:
        """When the last batch was written."""
        return self._last.at

    def add(self, at: float, rows: int, nbytes: int) -> None:
        """A batch is written."""
        self._last = _Moment(at, self._last.rows + rows, self._last.nbytes + nbytes, self._last.batches + 1)
        if not self._moments or at >= self._moments[-1].at + self._spacing:
            self._moments.append(self._last)
        if len(self._moments) > _MOMENTS:
            self._moments = self._moments[::2]
            self._spacing *= 2

    def of_latter_half(self) -> _Moment:
        """The differences."""
        if not self._moments:
            return self._last
        half = (self._moments[0].at + self._last.at) / 2
        since = self._moments[bisect.bisect_right(self._moments, half, key=lambda each: each.at) - 1]
        last = self._last
        return _Moment(
            last.at - since.at, last.rows - since.rows, last.nbytes - since.nbytes, last.batches - since.batches
        )


class Progress:
    """What the threads of one process have written in a run. May be used by several threads."""

    def __init__(self, clock: Clock = time.time) -> None:
        """`clock` gives seconds since the epoch."""
        self._clock = clock
        self._lock = threading.Lock()
        self._behind: dict[Shard, int] = {}
        self._first = ""
        self._rows = self._shards = self._bytes = 0
        self._pace = _Pace()

    def advance(self, shard: Shard, rows: int, reached: float) -> None:
        """A batch is written; `reached` is the share of the shard that ends with it."""
        with self._lock:
            before = self._behind.get(shard, 0)
            behind = max(before, min(shard.size, round(reached * shard.size)))
            self._behind[shard] = behind
            self._rows += rows
            self._bytes += behind - before
            self._first = self._first or shard.id
            self._pace.add(self._clock(), rows, behind - before)

    def finish(self, shard: Shard) -> None:
        """Nothing more comes of a shard. What a failed one left undone is behind us, but in no rate."""
        with self._lock:
            self._bytes += shard.size - self._behind.pop(shard, 0)
            self._shards += 1

    def report(self, *, is_working: bool) -> Report:
        """The figures as they are now."""
        with self._lock:
            paced = self._pace.of_latter_half()
            return Report(
                self._first,
                self._rows,
                self._shards,
                self._bytes,
                sum(shard.size - behind for shard, behind in self._behind.items()),
                paced.rows,
                paced.nbytes,
                paced.batches,
                paced.at,
                self._pace.last,
                is_working,
            )


def interval(folder: str) -> float:
    """Seconds between two reports of one process: an object store takes its time, and money, for each."""
    return 1.0 if storage.is_local(folder) else 10.0


class Reporter:
    """Tells a process's progress by a file in the run's folder, while any of its threads works."""

    def __init__(self, folder: str) -> None:
        self.progress = Progress()
        self._path = storage.join(folder, f"{uuid.uuid4().hex}.json")
        self._interval = interval(folder)
        self._lock = threading.Lock()
        self._working = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def working(self) -> Iterator[Progress]:
        """The block works. When the last one ends, all that was done has been told."""
        with self._lock:
            self._working += 1
            if self._working == 1:
                self._stop = threading.Event()
                # A thread of its own: no batch waits for the disk, and no fault of a store ends a shard.
                self._thread = threading.Thread(
                    target=self._tell, args=(self._stop,), name="beamhub-progress", daemon=True
                )
                self._thread.start()
        try:
            yield self.progress
        finally:
            with self._lock:
                self._working -= 1
                if not self._working and self._thread is not None:
                    self._stop.set()
                    self._thread.join()

    def _tell(self, stop: threading.Event) -> None:
        while not stop.wait(self._interval):
            self._write(is_working=True)
        self._write(is_working=False)

    def _write(self, *, is_working: bool) -> None:
        report = self.progress.report(is_working=is_working)
        with contextlib.suppress(OSError):
            storage.write_bytes(self._path, json.dumps(asdict(report)).encode())


_reporters: weakref.WeakValueDictionary[str, Reporter] = weakref.WeakValueDictionary()
_acquiring = threading.Lock()


def acquire_reporter(folder: str) -> Reporter:
    """The process's reporter for a run: one, however many threads and steps ask for it."""
    with _acquiring:
        found = _reporters.get(folder)
        if found is None:
            found = _reporters[folder] = Reporter(folder)
        return found


@dataclass(frozen=True, slots=True)
class Told:
    """A report, and the seconds since its last batch as the reader sees it: at most what is usual between two."""

    report: Report
    age: float


class Reports:
    """All processes' reports of a run; a file is read again where it changed."""

    def __init__(self, folder: str, clock: Clock = time.time) -> None:
        """`clock` gives seconds since the epoch."""
        self._folder = folder
        self._clock = clock
        self._seen: dict[str, tuple[str, Report]] = {}

    def refresh(self) -> None:
        """Looks at the files. Raises OSError where the store does not answer."""
        for file in storage.list_files(self._folder):
            if file.path not in self._seen or self._seen[file.path][0] != file.token:
                document = json.loads(storage.read_bytes(file.path))
                self._seen[file.path] = (file.token, Report(**document))

    def told(self) -> list[Told]:
        """What was read last, grown older."""
        return [Told(report, self._age(report)) for _, report in self._seen.values()]

    def clear(self) -> None:
        """Deletes the files: with thousands of workers, every later run would list them. Raises OSError."""
        storage.delete(file.path for file in storage.list_files(self._folder))

    def _age(self, report: Report) -> float:
        # Time that passes is taken as work that goes on; not for longer than usual, lest a run that stands seems to end, or
        # one whose clock is not ours.
        usual = report.seconds / max(1, report.batches) + 2 * interval(self._folder)
        return max(0.0, min(self._clock() - report.last, usual))
