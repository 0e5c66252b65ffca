"""How many records a call can have and still be short."""

from __future__ import annotations

import time
from collections.abc import Callable

from beamhub.corpus.shards import Chunk
from beamhub.engine.caller import Caller, Gathered, Rows
from beamhub.engine.sizing import LARGEST_BATCH, power_of_two
from beamhub.errors import BeamhubError

CALL_SECONDS = 1.0
"""What a call may take: one of many heavy records would hold much that the module computes on its way."""
TRIAL_SECONDS = 4.0
"""What a call may be feared to take that is made to find out."""
ENOUGH_SECONDS = 1 / 64
"""A call that takes longer tells what one of a second has, if most of its time is the records'; four times as much is aimed
at."""
MOMENT, SHORT = 0.05, 0.5
"""A call that takes less than the first is timed three times, for the machine may have been busy; less than the second, twice:
the first after the one that traces takes memory from the system, a third of the time of a VAE."""


def most_in_short_call(
    bind: Callable[[int], Caller],
    first: int,
    last: int,
    sample: Chunk,
    rows: Rows,
    suffices: Callable[[int], bool] = lambda _: False,
    begin_last: Callable[[int], None] = lambda _: None,
) -> int:
    """How many records make a call of one second, as far as calls of `first` to `last` records tell, or so many that it
    `suffices`.

    From one it goes on to a power of two that takes long enough to tell if each record takes as long, or, where that is no
    larger, to the largest that would not be long even so: much of what a small call takes, it takes whatever its size. Where
    half of what suffices is told, it goes on to the last size, for that will be it, and others are not traced for nothing. A
    call that is refused, or in which the module breaks down, has too many.
    `bind` makes a caller for calls of a size, of which one of `first` was made before; `rows` of the sample are such as the
    module takes. `begin_last` is told of the size that is gone on to where half suffices.
    """
    size, most = first, LARGEST_BATCH * LARGEST_BATCH
    took = _seconds(bind(size), sample, rows, suffices, is_traced=True)
    if took is None:
        return first
    while took <= CALL_SECONDS:
        is_near = suffices(2 * _in_a_second(size, took))
        following = min(last, most) if is_near else min(last, most, _following(size, took))
        if following <= size:
            break
        if is_near:
            begin_last(following)
        longer = _seconds(bind(following), sample, rows, suffices)
        if longer is None:
            most = max(size, following // 8)
            continue
        # What calls take whatever their size is no more than the shorter one took.
        is_told = longer >= max(ENOUGH_SECONDS, 2 * took)
        size, took = following, longer
        if is_told:
            break
    return min(most, _in_a_second(size, took))


def _in_a_second(size: int, took: float) -> int:
    return int(size * CALL_SECONDS / took)


def _following(size: int, took: float) -> int:
    """The records of the call to try after one of so many, which took so long."""
    telling = power_of_two(int(size * 4 * ENOUGH_SECONDS / took))
    return telling if telling > size else power_of_two(int(size * TRIAL_SECONDS / took))


def _seconds(
    caller: Caller, sample: Chunk, rows: Rows, suffices: Callable[[int], bool], is_traced: bool = False
) -> float | None:
    """What a call takes, after the first, which traces, or once it took so little that it `suffices`; None where it cannot be
    made."""
    gathered = Gathered(caller.call, sample)
    size = caller.call.batch_size

    def attempt() -> float | None:
        started = time.perf_counter()
        try:
            refused = isinstance(caller.attempt(gathered.feeds, rows[:size], size), Exception)
        except BeamhubError:
            return None
        return None if refused else max(1e-6, time.perf_counter() - started)

    if not is_traced:
        tracing = attempt()
        if tracing is None or suffices(_in_a_second(size, tracing)):
            return tracing
    took = attempt()
    again = 0 if took is None or took > SHORT else 1 if took > MOMENT else 2
    for _ in range(again):
        if took is None or suffices(_in_a_second(size, took)):
            break
        took = min(filter(None, (took, attempt())), default=None)
    return took
