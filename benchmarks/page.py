"""`python -m benchmarks.page`: the tables of `docs/performance.md` from `results.jsonl`. The text around them stays."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.results import MEASURED, Kept, Results, Row, by_row
from benchmarks.statistics import Interval, Pair, exceeds, median, meets
from benchmarks.systems import BARE, LIMIT, OURS, SYSTEMS
from benchmarks.workloads import WORKLOADS, Choice

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
WAYS = [name for name, system in SYSTEMS.items() if system.ours]
PEERS = [name for name, system in SYSTEMS.items() if system.peer]
PLAIN = "runinference-plain"
FEWEST = 5
"""Rounds that a verdict needs."""

SHARES = {
    "parquet": {"text": 0.95, "vae": 0.95, "mobilenet035": 0.97, "mobilenet100": 0.98},
    "tfrecord": {"text": 0.92, "vae": 0.95, "mobilenet035": 0.97, "mobilenet100": 0.98},
}
"""Of the limit, to be reached by one process with all cores."""
LEAST_SHARE = 0.85
"""To be reached by the other ways to run beamhub."""
START_UP = 1.5
"""Seconds that its start may take beyond the limit's."""
TARGETS = {"text": 1.2, "vae": 1.2}
"""How many times the best peer's rate is wanted; on images, only more than it."""
RUN_INFERENCE = {PLAIN: 30.0, "runinference": None, "runinference-tables": None}
"""How many times the rate of Beam's `RunInference`, as it is documented, is wanted on texts; the others are shown beside it."""

BY_HAND = ", around hand-written reading"


Measured = Mapping[Row, Results]
"""Each row with the results that it is in: rows may be measured on different machines, one row on one."""


class PageError(RuntimeError):
    """The page cannot be written."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def title(row: Row) -> list[str]:
    return [WORKLOADS[row[0]].title, row[1]]


def verdict(found: Interval, met: bool) -> str:
    if few(found):
        return "**too few rounds**"
    return "met" if met else "**missed**"


def limit_shares(measured: Measured) -> str:
    """beamhub's ratios to the limit, with their targets, the bare module's, and how both call."""

    def cell(row: Row, results: Results, name: str) -> str:
        ratio = results.ratio(row, name, LIMIT)
        if ratio is None:
            return ""
        target = SHARES[row[1]][row[0]] if name == OURS else LEAST_SHARE
        return f"{ratio}, {target} {verdict(ratio, meets(ratio, target))}"

    rows = (
        [
            *title(row),
            *(cell(row, results, name) for name in WAYS),
            str(results.ratio(row, BARE, LIMIT) or ""),
            calls([choice] if (choice := results.choice(row)) else []),
            calls(results.settled(row, OURS)),
        ]
        for row, results in measured.items()
    )
    ways = [SYSTEMS[name].title for name in WAYS]
    return table(["workload", "corpus", *ways, "the module alone", "the limit's calls", "beamhub's"], rows)


def calls(found: Sequence[Choice]) -> str:
    """How a module is called; where it is not always the same, in how many of the runs."""
    times = Counter(found)
    names = {each: f"{each.size:,} records, {'frozen' if each.frozen else 'plain'}" for each in times}
    if len(times) < 2:
        return "".join(names.values())
    return "; ".join(f"{names[each]} in {count} of {len(found)}" for each, count in times.most_common())


def peer_shares(measured: Measured) -> str:
    """The peers' ratios to the limit."""
    rows = (
        [*title(row), *(str(results.ratio(row, name, LIMIT) or "") for name in [OURS, *PEERS])]
        for row, results in measured.items()
    )
    return table(["workload", "corpus", *(SYSTEMS[name].title for name in [OURS, *PEERS])], rows)


def against_peers(measured: Measured) -> str:
    """How many times the best peer's rate beamhub's is, and `RunInference`'s.

    The best of those libraries that read and make batches themselves, and the best of those programs in which hand-written code
    does that, have a line each.
    """
    lines = []
    for row, results in measured.items():
        peers = {name: ratio for name in PEERS if (ratio := results.ratio(row, OURS, name))}
        by_hand = [name for name in PEERS if row[1] in SYSTEMS[name].by_hand]
        for group in [name for name in PEERS if name not in by_hand], by_hand:
            found = {name: peers[name] for name in group if name in peers}
            if found:
                best = min(found, key=lambda name: found[name].median)
                target = TARGETS.get(row[0])
                met = meets(found[best], target) if target else all(exceeds(ratio, 1.0) for ratio in found.values())
                lacking = [name for name in group if row[1] in SYSTEMS[name].formats and few(found.get(name))]
                told = f"**not measured: {', '.join(lacking)}**" if lacking else verdict(found[best], met)
                name = f"{SYSTEMS[best].title}{BY_HAND if group is by_hand else ''}"
                lines.append([*title(row), name, str(found[best]), str(target or "more than 1"), told])
        for name, wanted in RUN_INFERENCE.items() if row[0] == "text" else ():
            if ratio := peers.get(name):
                told = "" if wanted is None else verdict(ratio, meets(ratio, wanted))
                lines.append([*title(row), SYSTEMS[name].title, str(ratio), f"{wanted:.0f}" if wanted else "", told])
    return table(["workload", "corpus", "peer", "beamhub's rate over it", "target", ""], lines)


def few(found: Interval | None) -> bool:
    return found is None or found.count < FEWEST


def costs(measured: Measured) -> str:
    """Start-up, memory, CPU and, as a remark, the absolute rate: medians over the rounds."""
    lines = []
    for row, results in measured.items():
        base = results.pairs(row, LIMIT)
        for name, system in SYSTEMS.items():
            found = [(pair, base[number]) for number, pair in results.pairs(row, name).items() if number in base]
            if found:
                later, *rest = cost(found)
                met = f", {START_UP} {verdict(later, later.median <= START_UP)}" if name == OURS else ""
                told = f"{later.median:.1f}{met}"
                lines.append([*title(row), system.title, told, *rest])
    header = ["workload", "corpus", "system", "start-up over the limit's, s", "peak memory, MiB"]
    return table([*header, "rows per CPU-second", "rows/s", "rounds"], lines)


def cost(found: Sequence[tuple[Pair, Pair]]) -> tuple[Interval, str, str, str, str]:
    """Of a system and of the limit in the same rounds; the first is seconds."""
    later = median([pair.start_up - limit.start_up for pair, limit in found])
    memory = median([pair.peak / 2**20 for pair, _ in found]).median
    work = median([pair.rows_per_cpu_second for pair, _ in found]).median
    rate = median([pair.rate for pair, _ in found]).median
    return later, f"{memory:,.0f}", f"{work:,.0f}", f"{rate:,.0f}", str(len(found))


def section(measured: Measured) -> str:
    """What stands between the two marks."""
    checked = [count for row, results in measured.items() for count in results.checks(row)]
    settings = next(iter(measured.values())).settings
    packages = ", ".join(f"{name} {version}" for name, version in sorted(settings.packages.items()))
    return "\n\n".join(
        [
            f"{machines(measured)}; Python {settings.python}, {packages}; code {settings.source}. Measured by "
            f"`python -m benchmarks`, which is what `make bench` runs.{kept(measured)}",
            f"Before they were timed, {len(checked)} outputs ({sum(checked):,} rows) were compared with the limit's, "
            "row by row: equal within rtol 1e-3 and atol 1e-4.",
            "### beamhub as a share of the limit",
            limit_shares(measured),
            "### Shares of the limit, all systems",
            peer_shares(measured),
            "### beamhub over its peers",
            against_peers(measured),
            "### Start-up, memory, CPU",
            costs(measured),
        ]
    )


def machines(measured: Measured) -> str:
    """The machine; where there were several, which row was measured on which."""
    found: dict[str, list[str]] = {}
    for row, results in measured.items():
        found.setdefault(results.settings.machine, []).append(" of ".join(title(row)))
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{', '.join(rows)} on {machine}" for machine, rows in found.items())


def kept(measured: Measured) -> str:
    """Which rows are of earlier code too, and why they count."""
    found: dict[Kept, list[str]] = {}
    for row, results in measured.items():
        for each in results.kept.get(row, ()):
            found.setdefault(each, []).append(" of ".join(title(row)))
    return "".join(
        f" Of code {each.source} too{_but(each)}: {'; '.join(rows)}. {each.why}" for each, rows in found.items()
    )


def _but(each: Kept) -> str:
    return f" (but for {', '.join(each.but)})" if each.but else ""


def replaced(page: str, text: str) -> str:
    """The page with another text between the marks. Raises PageError if it lacks them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise PageError(
            f"the page has no lines {BEGIN} and {END}, in this order: put them where the tables are to stand"
        )
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main() -> None:
    parse = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parse.add_argument("--measured", type=Path, default=MEASURED, help="where repetitions are kept")
    args = parse.parse_args()
    path = args.measured / "results.jsonl"
    measured = by_row(path)
    if not measured:
        sys.exit(f"{path} has no results: run `make bench` first")
    PAGE.write_text(replaced(PAGE.read_text(), section(measured)))


if __name__ == "__main__":
    main()
