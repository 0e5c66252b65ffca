"""Measuring: rounds of systems on a workload, one right after the other, the limit in each."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from os import environ
from pathlib import Path

from benchmarks import check
from benchmarks.check import WrongOutputError
from benchmarks.process import CommandFailedError, Cost, cost_of
from benchmarks.results import Results, Row
from benchmarks.search import REPEATS, Search
from benchmarks.statistics import Pair
from benchmarks.systems import BARE, ENVIRONMENT, LIMIT, OURS, System, tries
from benchmarks.workloads import Choice, Inputs


@dataclass(frozen=True)
class Rounds:
    """Measures what `results` lack, with the systems given, the limit among them, and an empty folder to write to.

    `alone` is the command that prints the rate of the bare module, if that is wanted; `searched` keeps what the limit's best
    settings are, without which it has those of earlier searches. A peer that fails is left out from then on, and stands in
    `failed`, by row and name; a failure of the limit or of beamhub ends the run.
    """

    results: Results
    systems: Mapping[str, System]
    out: Path
    alone: Callable[[Inputs], list[str]] | None = None
    searched: Results | None = None
    cost: Callable[[Sequence[str], Mapping[str, str]], Cost] = cost_of
    failed: dict[tuple[Row, str], str] = field(default_factory=dict)

    def run(self, rows: Sequence[Inputs], repeats: int, deadline: float = math.inf) -> None:
        """Settles how the limit calls, checks outputs, then measures.

        No search goes on, and no workload and no round is begun, after `deadline` of the monotonic clock.
        """
        ready = [self._prepared(given, deadline) for given in rows]
        for _ in range(repeats):
            for given in filter(None, ready):
                names = [system.name for system in self._able(given)] + ([BARE] if self.alone else [])
                lacking = self.results.lacking(given.row, names, repeats)
                if lacking and time.monotonic() < deadline:
                    self._round(given, lacking)

    def _able(self, given: Inputs) -> list[System]:
        named = [system for system in self.systems.values() if given.format in system.formats]
        return [system for system in named if (given.row, system.name) not in self.failed]

    @contextlib.contextmanager
    def _sparing(self, given: Inputs, system: System) -> Iterator[None]:
        """Goes on after what a peer does wrong: hours of others' runs are not for one of them to end."""
        try:
            yield
        except (CommandFailedError, WrongOutputError) as error:
            if not system.peer:
                raise
            self.failed[given.row, system.name] = str(error)
            print(f"{given.row} {system.name}: left out from here on, {error}", file=sys.stderr, flush=True)

    def _prepared(self, found: Inputs, deadline: float) -> Inputs | None:
        """Makes what the systems read, and compares what they write with what the limit writes.

        Returns the inputs with the limit's settings; None where there is no time left.
        """

        def is_over() -> bool:
            return time.monotonic() >= deadline

        if is_over():
            return None
        found.make()
        given = Search(self.searched, self._limit_rates, is_over).chosen(found) if self.searched else found
        if given is None:
            return None
        self.results.choose(given.row, given.choice)
        able = self._able(given)
        for system in able:
            system.given(given).make(system.of_examples)
        wanted: dict[int, check.Rows] = {}
        for system in able:
            if system.name == LIMIT or self.results.checked(given.row, system.name):
                continue
            its = system.given(given)
            rows = its.workload.rows
            if rows not in wanted:
                wanted[rows] = self._written(self.systems[LIMIT], its)
            with self._sparing(given, system):
                name = f"{system.name} on {given.workload.name}, {given.format}"
                checked = check.compare(wanted[rows], self._written(system, its), name)
                self.results.add(given.row, system.name, checked=checked)
        return given

    def _limit_rates(self, given: Inputs, choices: Sequence[Choice]) -> dict[Choice, list[float]]:
        told = self.out.with_name("rates.json")
        self.cost(tries(given, choices, REPEATS, self.out, told), ENVIRONMENT)
        return {Choice.named(name): rates for name, rates in json.loads(told.read_text()).items()}

    def _written(self, system: System, its: Inputs) -> check.Rows:
        """Of one file: how many rows there are of several is seen whenever they are measured."""
        self._run(system, its, 1)
        return check.read(self.out)

    def _run(self, system: System, its: Inputs, files: int) -> Cost:
        """Runs a system into an empty folder."""
        shutil.rmtree(self.out, ignore_errors=True)
        return self.cost(system.command(its, files, self.out), ENVIRONMENT)

    def _round(self, given: Inputs, lacking: Sequence[str]) -> None:
        """The limit, beamhub and what is lacking, every other round in the opposite order.

        beamhub is in every round, lest peers that are measured later have none to be compared with.
        """
        number = self.results.next_round(given.row)
        if BARE in lacking and self.alone:
            self.results.add(given.row, BARE, round=number, rate=printed_rate(self.alone(given)))
        beside = [LIMIT, *({OURS} & self.systems.keys())]
        names = [*beside, *(name for name in lacking if name not in (*beside, BARE))]
        for name in names if number % 2 == 0 else reversed(names):
            with self._sparing(given, self.systems[name]):
                self._measured(self.systems[name], given, number)

    def _measured(self, system: System, given: Inputs, number: int) -> None:
        pair, settled = self._pair(system, given)
        if pair.large.seconds <= pair.small.seconds:
            print(
                f"{given.row} {system.name}: the large corpus took no longer than the small one; not counted",
                file=sys.stderr,
                flush=True,
            )
            return
        told = {"settled": [choice.name for choice in settled]} if settled else {}
        self.results.add(given.row, system.name, round=number, **asdict(pair), **told)
        self._tell(given, system.name, pair)

    def _pair(self, system: System, given: Inputs) -> tuple[Pair, list[Choice]]:
        """What both runs cost, and how beamhub called the module in each, which it settles anew."""
        its = system.given(given)
        load = its.workload
        costs: list[Cost] = []
        settled: list[Choice] = []
        for files in (load.small, load.large):
            costs.append(self._run(system, its, files))
            rows = check.count(self.out)
            if rows != files * load.rows:
                raise WrongOutputError(f"{system.name} on {given.row}: {rows:,} rows of {files * load.rows:,}")
            settled += settled_in(self.out)
        shutil.rmtree(self.out)
        return Pair(costs[0], costs[1], load.small * load.rows, load.large * load.rows), settled

    def _tell(self, given: Inputs, name: str, pair: Pair) -> None:
        print(
            f"{given.workload.name:13} {given.format:9} {name:20} {pair.rate:12,.0f} rows/s  start {pair.start_up:5.1f} s  "
            f"peak {pair.peak / 2**20:7,.0f} MiB  {pair.rows_per_cpu_second:10,.0f} rows/CPU s",
            file=sys.stderr,
            flush=True,
        )


def settled_in(out: Path) -> list[Choice]:
    """How beamhub calls the module, by the version that it wrote; none where another system wrote."""
    calls = [json.loads(path.read_text())["call"] for path in out.glob("v=*/_beamhub/spec.json")]
    return [Choice(call["batch_size"], call["frozen"]) for call in calls]


def printed_rate(command: Sequence[str]) -> float:
    """Runs a program that prints its rate as the last line, in JSON."""
    done = subprocess.run(
        command, env={**environ, **ENVIRONMENT}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    return float(json.loads(done.stdout.splitlines()[-1])["rows_per_s"])
