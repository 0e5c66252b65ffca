"""Shards through the stages: read, prepare, infer, encode, write, all at once.

The thread that hands shards in reads, the pool's threads prepare, infer and encode, one thread writes and one closes files,
on one shard and across the seam to the next; the pool's budget bounds what is on its way.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from beamhub.corpus.format import FalseStartError, Span
from beamhub.corpus.shards import Shard
from beamhub.engine.budget import LARGE_BYTES
from beamhub.engine.pool import ComputePool
from beamhub.engine.progress import Progress
from beamhub.engine.shard import ShardOutput, WorkItem, check_token, result_of, scan
from beamhub.engine.tablespec import TableSpec
from beamhub.engine.work import Work
from beamhub.features.ledger import ShardResult
from beamhub.features.paths import VersionPaths


def compute_shard(item: WorkItem, spec: TableSpec, paths: VersionPaths, pool: ComputePool) -> ShardResult:
    """Computes one shard and writes its files, dead letters first.

    Returns:
        The result; a shard that cannot be read or written, or whose input changes meanwhile, is a result too.
    """
    with Lane(spec, paths, pool) as lane:
        return [*lane.submit(item), *lane.drain()][0]


class Lane:
    """A sequence of shards that one thread hands in. A context manager; leaving it ends its threads.

    with Lane(spec, paths, pool) as lane:
        for item in items:
            results += lane.submit(item)
        results += lane.drain()
    """

    def __init__(
        self, spec: TableSpec, paths: VersionPaths, pool: ComputePool, progress: Progress | None = None
    ) -> None:
        """`progress` is where shards are counted."""
        self._spec = spec
        self._paths = paths
        self._pool = pool
        self._progress = progress or Progress()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="beamhub-write")
        # Closing waits for the disk, or uploads: the next shard is written meanwhile.
        self._closer = ThreadPoolExecutor(1, thread_name_prefix="beamhub-close")
        self._flows: collections.deque[_Flow] = collections.deque()

    def submit(self, item: WorkItem) -> list[ShardResult]:
        """Reads a shard, and returns when it is read: its last batches may still be on their way.

        Returns:
            Results of shards handed in so far that are finished, in order.
        """
        self._begin(item)
        return self._finished(lambda result: result.done())

    def _begin(self, item: WorkItem) -> None:
        flow = _Flow(item, previous=self._flows[-1].result if self._flows else None)
        flow.result.add_done_callback(functools.partial(self._count, item.shard))
        # From here on the writer is told of the end, whatever ends it.
        with flow.reading():
            with flow.settling():
                self._writer.submit(self._write, flow)
            self._flows.append(flow)
            if not flow.result.done():
                self._read(flow)

    def _count(self, shard: Shard, result: Future[ShardResult]) -> None:
        # One that was begun in a wrong place is not finished.
        if result.exception() is None:
            self._progress.finish(shard)

    def drain(self) -> list[ShardResult]:
        """Waits for all shards; the results not yet returned."""
        return self._finished(lambda _: True)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for what was handed in."""
        self._writer.shutdown()
        self._closer.shutdown()

    def _finished(self, is_wanted: Callable[[Future[ShardResult]], bool]) -> list[ShardResult]:
        found = []
        while self._flows and is_wanted(self._flows[0].result):
            flow = self._flows.popleft()
            try:
                found.append(flow.result.result())
            except FalseStartError as start:
                self._begin(replace(flow.item, behind=start.offset))
        return found

    def _read(self, flow: _Flow) -> None:
        check_token(flow.item.shard)
        stretches, batches = scan(flow.item, self._spec)
        while not flow.failed.is_set():
            with self._pool.stages.busy("read"):
                batch = next(batches, None)
            if batch is None:
                flow.span = stretches.span
                return
            flow.put(self._pool.submit(batch))
            size = batch.nbytes
            # Nor is it held here, and by the compute threads only as long as they need it.
            del batch
            if size > LARGE_BYTES:
                self._pool.wait_for_room(size)

    def _write(self, flow: _Flow) -> None:
        with flow.settling(), contextlib.ExitStack() as abandoned:
            abandoned.callback(flow.abandon)
            with contextlib.ExitStack() as stack:
                output = stack.enter_context(ShardOutput(flow.item, self._spec, self._paths))
                for work in flow:
                    self._write_batch(flow.item.shard, output, work)
                if flow.previous is not None:
                    # No more than one file waits to be closed.
                    wait([flow.previous])
                self._closer.submit(self._close, flow, output, stack.pop_all())

    def _write_batch(self, shard: Shard, output: ShardOutput, work: Work) -> None:
        with work as (batch, inferred), self._pool.stages.busy("write"):
            output.write(batch, inferred)
        self._progress.advance(shard, batch.read, work.reached)

    def _close(self, flow: _Flow, output: ShardOutput, stack: contextlib.ExitStack) -> None:
        with flow.settling(), stack, self._pool.stages.busy("close"):
            flow.result.set_result(output.close(flow.span))


@dataclass
class _Flow:
    """Batches of one shard on their way from the thread that reads to the one that writes, and its result in the end.

    `span` is the scan's, once the batches have come to their end.
    """

    item: WorkItem
    previous: Future[ShardResult] | None
    result: Future[ShardResult] = field(default_factory=Future)
    span: Span | None = None
    failed: threading.Event = field(default_factory=threading.Event)
    _queue: queue.SimpleQueue[Work | _End] = field(default_factory=queue.SimpleQueue)
    _ended: bool = False

    def put(self, work: Work) -> None:
        """Hands a batch on."""
        self._queue.put(work)

    def reading(self) -> contextlib.AbstractContextManager[object]:
        """The block reads; the error that ends it, if it is a failure of the shard, goes the way of the batches."""
        return _Reading(self)

    def end(self, error: BaseException | None) -> None:
        """There are no more batches, for an error or because the shard is read."""
        self._queue.put(_End(error))

    def __iter__(self) -> Iterator[Work]:
        """The batches in order. Raises the error by which reading ended."""
        while isinstance(each := self._queue.get(), Work):
            yield each
        self._ended = True
        if each.error is not None:
            raise each.error

    def abandon(self) -> None:
        """Tells the reader to stop, and gives back what is still on its way."""
        self.failed.set()
        while not self._ended:
            each = self._queue.get()
            if isinstance(each, Work):
                each.cancel()
            else:
                self._ended = True

    def settling(self) -> contextlib.AbstractContextManager[object]:
        """An error in the block is the shard's result; one that is no failure of the shard is raised by `result`."""
        return _Settling(self)


class _Reading(contextlib.AbstractContextManager["_Reading"]):
    def __init__(self, flow: _Flow) -> None:
        self._flow = flow

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._flow.end(error)
        return isinstance(error, FalseStartError) or (
            error is not None and result_of(self._flow.item.shard, error) is not None
        )


class _Settling(contextlib.AbstractContextManager["_Settling"]):
    def __init__(self, flow: _Flow) -> None:
        self._flow = flow

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is not None:
            result = result_of(self._flow.item.shard, error)
            if result is None:
                self._flow.result.set_exception(error)
            else:
                self._flow.result.set_result(result)
        return True


@dataclass(frozen=True)
class _End:
    error: BaseException | None
