"""Which batch size, and whether frozen variables, make the limit fastest on this machine.

Found once for a workload and a format, under the same versions and code of the limit; `make bench` begins with it. Every run
is a line of `search.jsonl`, so that a search may be done in pieces.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from benchmarks.results import Results
from benchmarks.systems import LIMIT
from benchmarks.workloads import Choice, Inputs

REPEATS = 3
NEAR = 1.05
"""What is behind by less may be the fastest: chance does as much."""


@dataclass(frozen=True)
class Search:
    """`results` are of the limit's settings; `rates` runs the limit on inputs with each of some choices, by turns, `REPEATS`
    times: rows a second.

    None begin once the time `is_over`.
    """

    results: Results
    rates: Callable[[Inputs, Sequence[Choice]], Mapping[Choice, Sequence[float]]]
    is_over: Callable[[], bool]

    def chosen(self, given: Inputs) -> Inputs | None:
        """The inputs with the fastest choice, which is searched for if no earlier search has found it; None: no time left."""
        found = self.results.choice(given.row) or self._found(given)
        return None if found is None else given.choose(found)

    def _found(self, given: Inputs) -> Choice | None:
        here = given.choice
        while True:
            unknown = self._unknown(given, [here, *near(here, not given.workload.has_table)])
            if unknown:
                if not self._run(given, [here, *(each for each in unknown if each != here)]):
                    return None
                continue
            best, rates = self._fastest(given), self._rates(given)
            if rates[best] > NEAR * rates[here]:
                # Only so far ahead: where all are alike, the best of a few runs would lead on and on.
                here = best
                continue
            beside = near(here, not given.workload.has_table)
            unknown = self._unknown(given, near(best, not given.workload.has_table)) if best in beside else []
            if unknown:
                # One step more: it may be faster still.
                if not self._run(given, [best, *unknown]):
                    return None
                continue
            # It is ahead a second time of those that were close.
            close = self._close(given, best)
            if not close:
                break
            if not self._run(given, [best, *close]):
                return None
        self.results.add(given.row, LIMIT, **asdict(best))
        kind = "frozen" if best.frozen else "plain"
        print(
            f"{given.workload.name:13} {given.format:9} the limit calls {best.size}, {kind} variables", file=sys.stderr
        )
        return best

    def _close(self, given: Inputs, best: Choice) -> list[Choice]:
        """Others that may be the fastest, and were not yet run twice as often as is usual."""
        tried = self.results.tries(given.row)
        rates = self._rates(given)
        return [
            each
            for each in rates
            if each != best and rates[each] * NEAR >= rates[best] and len(tried[each]) < 2 * REPEATS
        ]

    def _unknown(self, given: Inputs, choices: Sequence[Choice]) -> list[Choice]:
        tried = self.results.tries(given.row)
        return [each for each in choices if len(tried.get(each, [])) < REPEATS]

    def _run(self, given: Inputs, choices: Sequence[Choice]) -> bool:
        """Runs each some times; False where the time is over."""
        if self.is_over():
            return False
        for choice, rates in self.rates(given, choices).items():
            for rate in rates:
                self.results.add(given.row, LIMIT, tried=asdict(choice), rate=rate)
        return True

    def _rates(self, given: Inputs) -> dict[Choice, float]:
        return {choice: median(rates) for choice, rates in self.results.tries(given.row).items()}

    def _fastest(self, given: Inputs) -> Choice:
        rates = self._rates(given)
        return max(rates, key=lambda choice: rates[choice])


def near(choice: Choice, can_freeze: bool) -> list[Choice]:
    """The choices beside one."""
    sizes = [size for size in (choice.size // 2, choice.size * 2) if size]
    beside = [Choice(size, choice.frozen) for size in sizes]
    return [*beside, *([Choice(choice.size, not choice.frozen)] if can_freeze else [])]
