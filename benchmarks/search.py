"""Which batch size, and whether frozen variables, make the limit fastest on this machine: whole runs, one after the other.

Found once for a workload and a format, under the same versions and code of the limit; `make bench` begins with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from benchmarks.results import Results
from benchmarks.workloads import Choice, Inputs

REPEATS = 3


@dataclass(frozen=True)
class Search:
    """`results` are of the limit's settings; `seconds` runs the limit over all files of inputs as they were chosen."""

    results: Results
    seconds: Callable[[Inputs], float]

    def chosen(self, given: Inputs) -> Inputs:
        """The inputs with the fastest choice, which is searched for if no earlier search has found it."""
        return given.choose(self.results.choice(given.row) or self._found(given))

    def _found(self, given: Inputs) -> Choice:
        took: dict[Choice, list[float]] = {}
        best = given.choice
        # Until none beside the best is better.
        while others := [each for each in near(best, not given.workload.has_table) if each not in took]:
            candidates = [best, *others]
            for number in range(REPEATS):
                for each in candidates if number % 2 == 0 else reversed(candidates):
                    took.setdefault(each, []).append(self.seconds(given.choose(each)))
            best = fastest({choice: median(took[choice]) for choice in candidates})
            if best == candidates[0]:
                break
        tried = [{"size": each.size, "frozen": each.frozen, "seconds": took[each]} for each in took]
        self.results.add(given.row, "limit", size=best.size, frozen=best.frozen, tried=tried)
        kind = "frozen" if best.frozen else "plain"
        print(
            f"{given.workload.name:13} {given.format:9} the limit calls {best.size}, {kind} variables", file=sys.stderr
        )
        return best


def near(choice: Choice, can_freeze: bool) -> list[Choice]:
    """The choices beside one."""
    beside = [Choice(choice.size // 2, choice.frozen), Choice(choice.size * 2, choice.frozen)]
    return [*beside, *([Choice(choice.size, not choice.frozen)] if can_freeze else [])]


def fastest(seconds: dict[Choice, float]) -> Choice:
    """Of the choice with the least seconds."""
    return min(seconds, key=lambda choice: seconds[choice])
