"""Work of one batch that several threads do together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, wait

Work = Callable[[], None]
"""Takes pieces from a common heap until there are none left."""


def alone(work: Work) -> None:
    """This thread does it all."""
    work()


def with_free_threads(executor: Executor, others: int, work: Work) -> None:
    """Runs `work` in this thread, and in up to `others` threads of an executor that are free meanwhile; then all have ended.

    This thread may be one of the executor's: none waits for work that has not begun. Raises what `work` raises in any.
    """
    joining = [executor.submit(work) for _ in range(others)]
    try:
        work()
    finally:
        begun = [each for each in joining if not each.cancel()]
        wait(begun)
    for each in begun:
        each.result()
