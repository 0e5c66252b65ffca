"""`python -m benchmarks`: runs the systems on the workloads, interleaved, and keeps every repetition as a line of JSON."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from benchmarks.process import cost_of
from benchmarks.statistics import Pair, median
from benchmarks.systems import SYSTEMS, System
from benchmarks.workloads import WORKLOADS, Inputs, inputs


def pair(system: System, given: Inputs, out: Path) -> Pair:
    """Runs a system on the small and on the large corpus, into an empty folder each."""
    load = given.workload
    costs = []
    for files in (load.small, load.large):
        shutil.rmtree(out, ignore_errors=True)
        costs.append(cost_of(system.command(given, files, out), system.environment))
    shutil.rmtree(out, ignore_errors=True)
    return Pair(*costs, load.small * load.rows, load.large * load.rows)


def main() -> None:
    parse = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parse.add_argument("--root", type=Path, default=Path(".bench"), help="where corpora, modules and results are kept")
    parse.add_argument("--workloads", default=",".join(WORKLOADS))
    parse.add_argument("--formats", default="parquet,tfrecord")
    parse.add_argument("--systems", default=",".join(SYSTEMS))
    parse.add_argument("--repeats", type=int, default=5)
    args = parse.parse_args()
    systems = [SYSTEMS[name] for name in args.systems.split(",")]
    rows = list(inputs(args.root, args.workloads.split(","), args.formats.split(",")))
    results: dict[tuple[str, str, str], list[Pair]] = {}
    for given in rows:
        given.make()
        for repeat in range(args.repeats):
            for system in systems if repeat % 2 == 0 else reversed(systems):
                found = pair(system, given, args.root / "out")
                results.setdefault((given.workload.name, given.format, system.name), []).append(found)
                print(
                    given.workload.name,
                    given.format,
                    system.name,
                    f"{found.rate:,.0f} rows/s, start {found.start_up:.1f} s, peak {max(found.small.peak, found.large.peak) / 2**20:,.0f} MiB, {found.rows_per_cpu_second:,.0f}/cpu s",
                    flush=True,
                )
        base = results[given.workload.name, given.format, systems[0].name]
        for system in systems[1:]:
            mine = results[given.workload.name, given.format, system.name]
            print(
                "RATIO",
                given.workload.name,
                given.format,
                system.name,
                median([a.rate / b.rate for a, b in zip(mine, base, strict=True)]),
                flush=True,
            )


if __name__ == "__main__":
    main()
