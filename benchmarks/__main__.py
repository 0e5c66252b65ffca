"""`python -m benchmarks`: runs the systems on the workloads, interleaved, and keeps every repetition as a line of JSON."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from benchmarks.process import cost_of
from benchmarks.statistics import Interval, Pair, median
from benchmarks.systems import SYSTEMS, System
from benchmarks.workloads import WORKLOADS, Inputs, inputs

LIMIT = "limit"
PACKAGES = ("apache-beam", "numpy", "pyarrow", "tensorflow", "tfx-bsl")

Row = tuple[str, str]
"""A workload and a format."""


def pair(system: System, given: Inputs, out: Path) -> Pair:
    """Runs a system on the small and on the large corpus, into an empty folder each."""
    load = given.workload
    costs = []
    for files in (load.small, load.large):
        shutil.rmtree(out, ignore_errors=True)
        costs.append(cost_of(system.command(given, files, out), system.environment))
    shutil.rmtree(out, ignore_errors=True)
    return Pair(*costs, load.small * load.rows, load.large * load.rows)


def repetitions(rows: Sequence[Inputs], systems: Sequence[System], repeats: int, root: Path) -> Iterable[None]:
    """Measures, every other time in the opposite order, and appends to `results.jsonl`."""
    for given in rows:
        given.make()
    for repeat in range(repeats):
        for given in rows:
            able = [system for system in systems if given.format in system.formats]
            for system in able if repeat % 2 == 0 else reversed(able):
                found = pair(system, given, root / "out")
                line = {
                    "workload": given.workload.name,
                    "format": given.format,
                    "system": system.name,
                    "repeat": repeat,
                    **asdict(found),
                }
                with (root / "results.jsonl").open("a") as file:
                    file.write(json.dumps(line) + "\n")
                peak = max(found.small.peak, found.large.peak) / 2**20
                print(
                    f"{given.workload.name:13} {given.format:9} {system.name:12} {found.rate:12,.0f} rows/s  "
                    f"start {found.start_up:5.1f} s  peak {peak:7,.0f} MiB  {found.rows_per_cpu_second:10,.0f} rows/CPU s",
                    flush=True,
                )
                yield


def ratios(results: Iterable[dict[str, object]]) -> dict[tuple[Row, str], Interval]:
    """The rate of each system as a share of the limit's, by workload, format and system, of paired repetitions."""
    rates: dict[tuple[Row, str], dict[int, float]] = {}
    for each in results:
        key = ((str(each["workload"]), str(each["format"])), str(each["system"]))
        rates.setdefault(key, {})[int(str(each["repeat"]))] = Pair.from_json(each).rate
    found = {}
    for (row, system), mine in rates.items():
        base = rates.get((row, LIMIT), {})
        paired = [rate / base[repeat] for repeat, rate in mine.items() if repeat in base]
        if system != LIMIT and paired:
            found[row, system] = median(paired)
    return found


def main() -> None:
    """The command line."""
    parse = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parse.add_argument("--root", type=Path, default=Path(".bench"), help="where corpora, modules and results are kept")
    parse.add_argument("--workloads", default=",".join(WORKLOADS), metavar="A,B")
    parse.add_argument("--formats", default="parquet,tfrecord", metavar="A,B")
    parse.add_argument("--systems", default=",".join(SYSTEMS), metavar="A,B")
    parse.add_argument("--repeats", type=int, default=5)
    args = parse.parse_args()
    args.root.mkdir(exist_ok=True)
    results = args.root / "results.jsonl"
    results.unlink(missing_ok=True)
    rows = list(inputs(args.root, args.workloads.split(","), args.formats.split(",")))
    systems = [SYSTEMS[name] for name in args.systems.split(",")]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {versions}", flush=True)
    for _ in repetitions(rows, systems, args.repeats, args.root):
        pass
    found = ratios(json.loads(line) for line in results.read_text().splitlines())
    told = [f"{workload} {format} {system} {ratio}" for ((workload, format), system), ratio in found.items()]
    print("share of the limit, median and 90 % interval: " + "; ".join(told))


if __name__ == "__main__":
    main()
