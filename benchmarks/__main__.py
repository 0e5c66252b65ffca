"""`python -m benchmarks`: runs the systems on the workloads, interleaved; every repetition is kept as a line of JSON.

What `results.jsonl` already has for the same versions, machine and code is not run again, so a run may be done in pieces.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.ballast import has_free_page_reporting, paid_from_ballast
from benchmarks.check import WrongOutputError
from benchmarks.process import CommandFailedError, cost_of
from benchmarks.results import MEASURED, THE_LIMIT, Results, Settings
from benchmarks.rounds import Rounds
from benchmarks.short import SHORT
from benchmarks.systems import LIMIT, SYSTEMS, System, bare
from benchmarks.workloads import WORKLOADS, Inputs

T = TypeVar("T")
FORMATS = {"parquet": "parquet", "tfrecord": "tfrecord"}


def main() -> None:
    """The command line."""
    started = time.monotonic()
    args = arguments()
    for folder in (args.root, args.measured):
        folder.mkdir(parents=True, exist_ok=True)
    workloads = chosen(args.workloads, SHORT if args.short else WORKLOADS, "workload")
    formats = chosen(args.formats or ("parquet" if args.short else None), FORMATS, "format")
    systems = chosen_systems(args.systems or ("limit,beamhub" if args.short else None))
    path = args.root / "short.jsonl" if args.short else args.measured / "results.jsonl"
    searches = args.measured / "search.jsonl"
    if args.fresh or args.short:
        path.unlink(missing_ok=True)
    if args.fresh and not args.short:
        searches.unlink(missing_ok=True)
    results = Results(path, Settings.here())
    rows = [Inputs(args.root.resolve(), workload, format) for workload in workloads for format in formats]
    named = {system.name: system for system in systems}
    cost = paid_from_ballast if has_free_page_reporting() else cost_of
    if args.short:
        rounds = Rounds(results, named, args.root / "out", cost=cost)
    else:
        searched = Results(searches, Settings.here(THE_LIMIT))
        rounds = Rounds(results, named, args.root / "out", bare, searched, cost)
    try:
        rounds.run(rows, args.repeats, started + 60 * args.minutes)
    except (CommandFailedError, WrongOutputError) as error:
        sys.exit(str(error))
    print(told(results, rows, systems))
    if rounds.failed:
        left_out = ", ".join(f"{name} on {row[0]} {row[1]}" for row, name in rounds.failed)
        sys.exit(f"failed and left out, for the reason said above: {left_out}")


def arguments() -> argparse.Namespace:
    parse = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parse.add_argument("--root", type=Path, default=Path(".bench"), help="where corpora and modules are kept")
    parse.add_argument("--measured", type=Path, default=MEASURED, help="where repetitions are kept")
    parse.add_argument("--workloads", metavar="A,B", help=", ".join(WORKLOADS))
    parse.add_argument("--formats", metavar="A,B", help=", ".join(FORMATS))
    parse.add_argument("--systems", metavar="A,B", help=", ".join(SYSTEMS) + "; those that are installed")
    parse.add_argument("--repeats", type=int, default=5)
    parse.add_argument("--minutes", type=float, default=math.inf, help="begin nothing after so many")
    parse.add_argument("--fresh", action="store_true", help="forget earlier results and searches")
    parse.add_argument("--short", action="store_true", help="one row of each task, small corpora, against the limit")
    return parse.parse_args()


def chosen(names: str | None, known: Mapping[str, T], what: str) -> list[T]:
    """What a flag names, or all."""
    wanted = names.split(",") if names else list(known)
    for name in wanted:
        if name not in known:
            sys.exit(f"no {what} {name!r}: choose from {', '.join(known)}")
    return [known[name] for name in wanted]


def chosen_systems(names: str | None) -> list[System]:
    """The limit always; without names, all that are installed."""
    systems = chosen(names, SYSTEMS, "system")
    missing = [system for system in systems if not system.installed]
    if names and missing:
        sys.exit(f"{missing[0].name} needs {missing[0].needs}: pip install -c constraints.txt -e '.[bench-peers]'")
    able = [system for system in systems if system not in missing]
    return able if SYSTEMS[LIMIT] in able else [SYSTEMS[LIMIT], *able]


def told(results: Results, rows: Sequence[Inputs], systems: Sequence[System]) -> str:
    """The one line that a run ends with."""
    ratios = [
        f"{given.workload.name} {given.format} {system.name} {ratio} of {ratio.count}"
        for given in rows
        for system in systems
        if system.name != LIMIT and (ratio := results.ratio(given.row, system.name, LIMIT))
    ]
    return "share of the limit, median and 90 % interval of some rounds: " + ("; ".join(ratios) or "nothing measured")


if __name__ == "__main__":
    main()
