"""Work of one batch that several threads do together."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from beamhub.engine.sharing import with_free_threads


def test_threads_share_the_calls_of_a_batch() -> None:
    """The first call does not end before another one has begun, which takes a second thread."""
    second = threading.Event()
    overlapped = []

    def work() -> None:
        for number in numbers:
            if number == 0:
                overlapped.append(second.wait(30))
            else:
                second.set()
            done.append(number)

    numbers, done = iter(range(20)), list[int]()
    with ThreadPoolExecutor(2) as executor:
        # From one of the executor's own threads, as the compute threads do.
        executor.submit(with_free_threads, executor, 1, work).result()

    assert overlapped == [True]
    assert sorted(done) == list(range(20))


def test_sharing_does_not_wait_for_threads_that_are_taken() -> None:
    taken, done = threading.Event(), list[int]()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(taken.wait)
        sharing = threading.Thread(target=with_free_threads, args=(executor, 3, lambda: done.append(1)), daemon=True)
        sharing.start()
        sharing.join(10)
        waits = sharing.is_alive()
        taken.set()

    assert (waits, done) == (False, [1])


def test_what_another_thread_raises_is_raised() -> None:
    main, begun = threading.get_ident(), threading.Event()

    def work() -> None:
        if threading.get_ident() == main:
            begun.wait(30)
        else:
            begun.set()
            raise ValueError("no")

    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="no"):
        with_free_threads(executor, 1, work)
