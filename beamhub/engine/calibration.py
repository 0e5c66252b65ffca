"""Measures, before the first shard, which batch size is fastest, and whether constants are faster than variables.

Both change the last bits of every row, so they are chosen once, and written into the version.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from beamhub.corpus.shards import Chunk
from beamhub.engine.caller import Caller, Gathered, Rows
from beamhub.engine.tablespec import Call
from beamhub.engine.threads import cores
from beamhub.errors import BeamhubError
from beamhub.startup import return_freed_memory

WORTH_SECONDS = 2.0
"""A corpus that takes less work than this is not worth measuring for."""
LEAST_SECONDS, SHARE = 0.2, 0.01
"""Settings beside the default are measured about so long, or this share of the work that there is; frozen variables are tried
in any case."""
BETTER, SMALLER_BETTER = 1.05, 1.1
"""What a setting must be ahead of the plain default to be taken: less may be noise, and another run would choose another. More
calls for as many records cost more beside the module too, which is not measured."""
CHANCE = 1.3
"""By so much, measurements of one setting differ: of texts in calls of 8,192, 1.0 and 1.26 million a second in succession."""

_TRIAL_SECONDS = 0.06
"""A setting is tried for so long, by one call of each thread at least."""


@dataclass(frozen=True)
class Setting:
    """What is chosen: records in a call, and whether variables are constants."""

    batch_size: int
    frozen: bool

    def of(self, call: Call) -> Call:
        """The call with this setting."""
        return replace(call.of_size(self.batch_size), frozen=self.frozen)


@dataclass
class Calibration:
    """Tries settings of a call on records of a sample, with all threads at once, as the job will.

    `rows` of the sample are such as the module takes. `bind` makes a caller; `records` is about how many there are in the
    corpus; `sizes` the batch sizes that memory allows, the default first. `can_freeze` is asked only when it matters, for it
    costs time. `rate` is how many records a second one thread does with the default, where that is known.
    """

    call: Call
    sample: Chunk
    rows: Rows
    records: int
    sizes: tuple[int, ...]
    bind: Callable[[Call], Caller]
    can_freeze: Callable[[Call], bool]
    rate: int | None = None
    _threads: Executor = field(default_factory=lambda: ThreadPoolExecutor(cores()), init=False)
    _is_warm: set[Setting] = field(default_factory=set, init=False)

    def choose(self) -> Call:
        """The fastest setting found in the time that measuring may take; the default where all the work takes no longer.

        To be called once.
        """
        with self._threads:
            chosen = self._chosen()
        # What these threads let go of, others would take again.
        return_freed_memory()
        return chosen

    def _chosen(self) -> Call:
        best = Setting(self.sizes[0], self.call.frozen)
        # What is known already is not measured with more records than there are.
        if self.rate is not None and self.records < WORTH_SECONDS * self.rate:
            return best.of(self.call)
        rate = self._rate(best)
        work = self.records / rate if rate else 0.0
        if work < WORTH_SECONDS:
            return best.of(self.call)
        rates, took = {best: rate}, 0.0
        until = time.monotonic() + max(LEAST_SECONDS, SHARE * work)
        if self.can_freeze(self.call):
            frozen = replace(best, frozen=True)
            rates[frozen], took = self._timed_rate(frozen)
        for size in self.sizes[1:]:
            # The next one takes about as long as the last one did.
            if time.monotonic() + took > until:
                break
            other = Setting(size, _fastest(rates).frozen)
            rates[other], took = self._timed_rate(other)
        return self._confirmed(rates).of(self.call)

    def _confirmed(self, rates: dict[Setting, float]) -> Setting:
        """The fastest, where chance may have decided by the better of two measurements: what disturbs one makes it slower.

        What seems the fastest is measured again only if something else does then.
        """
        chosen = _fastest(rates)
        close = [setting for setting in rates if rates[setting] * CHANCE > max(rates.values()) and setting != chosen]
        for setting in reversed(close):
            rates[setting] = max(rates[setting], self._rate(setting))
        if _fastest(rates) != chosen:
            rates[chosen] = max(rates[chosen], self._rate(chosen))
        return _fastest(rates)

    def _timed_rate(self, setting: Setting) -> tuple[float, float]:
        """The rate, and the seconds that it took to know it."""
        begun = time.monotonic()
        return self._rate(setting), time.monotonic() - begun

    def _rate(self, setting: Setting) -> float:
        """Records a second; 0 where the module refuses the sample, or breaks down."""
        call = setting.of(self.call)
        caller = self.bind(call)
        gathered = Gathered(call, self.sample)
        some = self.rows[: call.batch_size]

        def attempt() -> bool:
            try:
                return not isinstance(caller.attempt(gathered.feeds, some, call.batch_size), Exception)
            except BeamhubError:
                # It breaks down: there may be too little memory for calls of that size, or for several at a time.
                return False

        # The first call of each thread is not timed: one traces, and each takes memory.
        is_warm = setting in self._is_warm
        self._is_warm.add(setting)
        return measure(attempt, cores(), self._threads, is_warm) * call.batch_size


def _fastest(rates: dict[Setting, float]) -> Setting:
    """The first setting, unless others are clearly faster."""
    first = next(iter(rates))

    def is_clear(other: Setting) -> bool:
        return rates[other] > rates[first] * (SMALLER_BETTER if other.batch_size < first.batch_size else BETTER)

    return max(filter(is_clear, rates), key=lambda setting: rates[setting], default=first)


def measure(work: Callable[[], bool], threads: int, pool: Executor, is_warm: bool = False) -> float:
    """Calls a second of `work` in the threads of a pool, of which there are so many, at once; 0 where one call fails.

    Each makes one before, unless `is_warm` says that they have done so.
    """
    begin = threading.Barrier(threads)

    def repeat() -> float:
        with contextlib.ExitStack() as broken:
            # Others would wait for this thread for ever.
            broken.callback(begin.abort)
            good = is_warm or work()
            broken.pop_all()
        begin.wait()
        calls, started = 0, time.monotonic()
        while good and (not calls or time.monotonic() < started + _TRIAL_SECONDS):
            good = work()
            calls += 1
        return calls / (time.monotonic() - started) if good else 0.0

    rates = list(pool.map(lambda _: repeat(), range(threads)))
    return sum(rates) if all(rates) else 0.0
