"""A batch on its way through the compute threads."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType

from beamhub.corpus.format import Stretch
from beamhub.corpus.shards import Chunk
from beamhub.engine.budget import Budget
from beamhub.engine.inference import Inference, Inferred


class Work:
    """A batch that is being computed. As a context manager it gives its records and what came of them, and its room back.

    Entering raises what computing raised.
    """

    def __init__(self, batch: Stretch, inference: Inference, executor: ThreadPoolExecutor, budget: Budget) -> None:
        """Waits for room in the budget, then hands the batch to the threads."""
        self._inference = inference
        self._budget = budget
        self.reached = batch.reached
        # What it will be counts from the start, or all threads would be at work on more than there is room for.
        self._size = batch.nbytes + budget.expected(batch.rows)
        budget.acquire(self._size)
        self._future: Future[tuple[Chunk, Inferred]] = executor.submit(self._run, batch)

    def _run(self, batch: Stretch) -> tuple[Chunk, Inferred]:
        with self._inference.stages.busy("prepare"):
            chunk = batch.decode()
        inferred = self._inference.run(chunk)
        read = batch.nbytes
        if chunk.records is not None and not inferred.failures:
            # Objects by the thousand, which the thread that writes would have to fetch into its core's cache to free them.
            chunk = chunk.without_records()
            read = int(chunk.columns.nbytes)
        made = sum(int(column.nbytes) for column in inferred.columns)
        self._budget.learn(batch.rows, made)
        size = read + made
        self._budget.resize(self._size, size)
        self._size = size
        return chunk, inferred

    def cancel(self) -> None:
        """Gives the room back, once the batch is not begun any more, or computed."""
        if not self._future.cancel():
            wait([self._future])
        self._budget.release(self._size)

    def __enter__(self) -> tuple[Chunk, Inferred]:
        """Waits for what came of the batch."""
        if self._future.exception() is not None:
            # Then __exit__ is not called.
            self._budget.release(self._size)
        return self._future.result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives the room back, and lets go of what came of the batch, whoever still holds this."""
        del self._future
        self._budget.release(self._size)
