"""How many records a call can have and still be short."""

from __future__ import annotations

import timeit
from collections.abc import Sequence
from dataclasses import replace

from beamhub.corpus.shards import Chunk
from beamhub.engine.caller import Caller, Gathered, Rows
from beamhub.engine.sizing import LEAST_BATCH
from beamhub.engine.tablespec import Call

CALL_SECONDS = 1.0
"""What a call may take: one of many heavy records would hold much that the module computes on its way."""
TRIAL_SECONDS = 4.0
"""What a call may be feared to take that is made to find out."""


def ascending_calls(call: Call) -> list[Call]:
    """A call of each of the sizes that the job will have, for which graphs are traced in any case; the smallest first, of eight
    records or more where there are so many."""
    least = min(LEAST_BATCH, call.batch_size)
    return [replace(call, batch_size=size) for size in reversed(call.sizes) if size >= least]


def most_in_short_call(callers: Sequence[Caller], sample: Chunk, rows: Rows) -> int:
    """How many records make a call of one second, as far as some callers, with ever larger batch sizes, tell.

    From the first it goes on to the largest whose call would not be long even if each record took as long: much of what a small
    call takes, it takes whatever its size. `rows` of the sample are such as the module takes.
    """
    caller = callers[0]
    while True:
        size = caller.call.batch_size
        seconds = _seconds(caller, sample, rows)
        larger = [each for each in callers if size < each.call.batch_size <= size * TRIAL_SECONDS / seconds]
        if seconds > CALL_SECONDS or not larger:
            return int(size * CALL_SECONDS / seconds)
        caller = larger[-1]


def _seconds(caller: Caller, sample: Chunk, rows: Rows) -> float:
    """What a call takes, after the first, which traces."""
    gathered = Gathered(caller.call, sample)
    size = caller.call.batch_size

    def seconds() -> float:
        return timeit.timeit(lambda: caller.attempt(gathered.feeds, rows[:size], size), number=1)

    seconds()
    took = seconds()
    # The machine may have been busy.
    return took if took < CALL_SECONDS else min(took, seconds())
