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
"""What constants must be ahead of variables to be taken, and smaller calls of larger ones: less may be noise, and another run
would choose another. More calls for as many records cost more beside the module too, which is not measured."""
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
    _cores: int = field(default_factory=cores, init=False)
    _threads: Executor = field(init=False)
    _is_warm: set[Setting] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        """Makes the threads, as many as cores are found now."""
        self._threads = ThreadPoolExecutor(self._cores)

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
        until = time.monotonic() + max(LEAST_SECONDS, SHARE * work)
        took = 0.0
        if self.can_freeze(self.call):
            began = time.monotonic()
            best, rate = self._kind(best, rate)
            took = time.monotonic() - began
        for size in self.sizes[1:]:
            began = time.monotonic()
            # The next one takes about as long as the last one did.
            if began + took > until:
                break
            smaller = replace(best, batch_size=size)
            if led := self._leads_twice(smaller, best, rate):
                best, rate = smaller, led
            took = time.monotonic() - began
        return best.of(self.call)

    def _kind(self, plain: Setting, rate: float) -> tuple[Setting, float]:
        """Variables or constants, and the rate.

        What disturbs a measurement makes it slower, so the better of two of each counts; what leads is measured again only
        if it does not lead any more.
        """
        frozen = replace(plain, frozen=True)
        rates = {plain: rate, frozen: self._rate(frozen)}

        def leader() -> Setting:
            return frozen if rates[frozen] > BETTER * rates[plain] else plain

        first = leader()
        other = plain if first == frozen else frozen
        if rates[other]:
            rates[other] = max(rates[other], self._rate(other))
        if leader() != first:
            rates[first] = max(rates[first], self._rate(first))
        return leader(), rates[leader()]

    def _leads_twice(self, smaller: Setting, than: Setting, rate: float) -> float:
        """The rate of smaller calls that are clearly ahead, and are so again when both are measured anew; else 0.

        A default that was held up is slower by any factor, and half the rate of the job may hang on it; where in doubt, calls
        stay large.
        """
        if self._rate(smaller) <= SMALLER_BETTER * rate:
            return 0.0
        again = max(rate, self._rate(than))
        led = self._rate(smaller)
        return led if led > SMALLER_BETTER * again else 0.0

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
        rate = measure(attempt, self._cores, self._threads, setting in self._is_warm) * call.batch_size
        if rate:
            self._is_warm.add(setting)
        return rate


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
        try:
            begin.wait()
        except threading.BrokenBarrierError:
            # What broke it is raised where that thread is asked.
            return 0.0
        calls, started = 0, time.monotonic()
        while good and (not calls or time.monotonic() < started + _TRIAL_SECONDS):
            good = work()
            calls += 1
        return calls / (time.monotonic() - started) if good else 0.0

    rates = list(pool.map(lambda _: repeat(), range(threads)))
    return sum(rates) if all(rates) else 0.0
