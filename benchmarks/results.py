"""`results.jsonl`: every repetition as a line, so that a run of hours may be done in pieces.

A line belongs to *settings* (versions, machine, source) and to a *round*: the systems of one round ran one right after the
other, the limit among them, and only those are paired. Lines of other settings are left alone, and not used, but for rows that a
line says to be *kept*: what changed in the code cannot have changed their figures, for the reason that stands there.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.ballast import has_free_page_reporting
from benchmarks.statistics import Interval, Pair, median
from benchmarks.systems import LIMIT
from benchmarks.workloads import WORKLOADS, Choice

Row = tuple[str, str]
"""A workload and a format."""

MEASURED = Path(__file__).parent / "measured"
"""Where the repetitions that the page shows are kept."""
PACKAGES = ("apache-beam", "numpy", "pyarrow", "pyspark", "ray", "tensorflow", "tfx-bsl")
_BOTH = ("ballast", "corpora", "limit", "networks", "process", "workloads")
EVERYTHING = (
    "beamhub/**/*.py",
    "benchmarks/peers/*.py",
    *(f"benchmarks/{name}.py" for name in (*_BOTH, "bare", "rounds", "systems")),
)
"""The code that figures in `results.jsonl` depend on: beamhub, the limit, the peers and the workloads."""
THE_LIMIT = (
    *(f"benchmarks/{name}.py" for name in (*_BOTH, "search", "tries")),
    *(f"beamhub/features/{name}.py" for name in ("parquet_footer", "thrift", "vector_file")),
)
"""The code that a search for the limit's settings depends on."""


@dataclass(frozen=True)
class Settings:
    """What figures may be compared under. `key` names it in `results.jsonl`."""

    machine: str
    python: str
    packages: Mapping[str, str]
    source: str

    @cached_property
    def key(self) -> str:
        told = json.dumps([self.machine, self.python, sorted(self.packages.items()), self.source])
        return hashlib.sha256(told.encode()).hexdigest()[:12]

    @classmethod
    def here(cls, files: Sequence[str] = EVERYTHING) -> Settings:
        """Of this machine and this code, of which `files` are measured."""
        installed = {each.name.lower(): each.version for each in metadata.distributions()}
        packages = {name: installed[name] for name in PACKAGES if name in installed}
        return cls(machine(), platform.python_version(), packages, source(Path(__file__).parents[1], files))


def machine(told: Path = Path("/proc/cpuinfo")) -> str:
    """Processor, cores and memory; no name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    held = ", free page reporting" if has_free_page_reporting() else ""
    return f"{processor(told)}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB{held}"


def processor(told: Path) -> str:
    """Its model, as Linux tells it; by numbers too, for virtual machines call processors of several generations the same."""
    lines = (line.partition(":") for line in (told.read_text().splitlines() if told.exists() else ()))
    # Of the last core, which is as the others are.
    found = {name.strip(): value.strip() for name, _, value in lines}
    if "model name" not in found:
        return platform.machine()
    return f"{found['model name']} (family {found.get('cpu family')}, model {found.get('model')})"


def source(root: Path, files: Sequence[str] = EVERYTHING) -> str:
    """A digest of the code that is measured."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in files for path in root.glob(pattern)):
        digest.update(f"{path.relative_to(root)}\0{statements(path.read_text())}\0".encode())
    return digest.hexdigest()[:12]


def statements(text: str) -> str:
    """What a program does, whatever its comments and docstrings say."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [each for each in body if not _is_said(each)]
    return ast.dump(tree)


def _is_said(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@dataclass(frozen=True)
class Kept:
    """A row whose lines of other settings count, but for some systems: the code that they are of, and why it does not matter."""

    settings: str
    source: str
    why: str
    but: tuple[str, ...] = ()


def read(path: Path) -> list[dict[str, Any]]:
    """All lines of a file of results, those of other settings too; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def all_settings(lines: Sequence[Mapping[str, Any]]) -> dict[str, Settings]:
    """By key."""
    return {line["settings"]: Settings(**line["described"]) for line in lines if "described" in line}


class Results:
    """The lines of one file that belong to some settings, and those of rows that are kept of others."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path, self.settings = path, settings
        self.kept: dict[Row, list[Kept]] = {}
        self._lines: list[dict[str, Any]] = []
        lines = read(path)
        self._described = settings.key in all_settings(lines)
        for line in lines:
            if line["settings"] == settings.key and "keeps" in line:
                kept = Kept(**{**line["of"], "but": tuple(line["of"].get("but", ()))})
                for name, format in line["keeps"]:
                    self.kept.setdefault((name, format), []).append(kept)
        for line in lines:
            if "workload" in line and self._counts(line):
                self._take(line)

    def _counts(self, line: Mapping[str, Any]) -> bool:
        kept = self.kept.get((line["workload"], line["format"]), ())
        return line["settings"] == self.settings.key or any(
            line["settings"] == each.settings and line["system"] not in each.but for each in kept
        )

    def keep(self, rows: Sequence[Row], of: Settings, why: str, but: Sequence[str] = ()) -> Results:
        """With lines of these rows that were measured under other settings, of which only the source differs.

        Those of the systems `but` stay out. Raises ValueError where more differs.
        """
        if replace(of, source=self.settings.source) != self.settings:
            raise ValueError(f"settings {of.key} are of another machine or other packages than {self.settings.key}")
        self._append({"keeps": rows, "of": asdict(Kept(of.key, of.source, why, tuple(but)))})
        return Results(self.path, self.settings)

    def add(self, row: Row, system: str, **values: Any) -> None:
        line = {"workload": row[0], "format": row[1], "system": system, **values}
        self._append(line)
        self._take(line)

    def choose(self, row: Row, choice: Choice) -> None:
        """From now on the limit calls so; what was measured beside another choice is used no more."""
        if self.choice(row) != choice:
            self.add(row, LIMIT, **asdict(choice))

    def _take(self, line: dict[str, Any]) -> None:
        if "size" in line:
            row = line["workload"], line["format"]
            self._lines = [each for each in self._lines if (each["workload"], each["format"]) != row]
        self._lines.append(line)

    def _append(self, line: Mapping[str, Any]) -> None:
        told = [line] if self._described else [{"described": asdict(self.settings)}, line]
        with self.path.open("a") as file:
            file.writelines(json.dumps({"settings": self.settings.key, **each}) + "\n" for each in told)
        self._described = True

    def _of(self, row: Row, system: str) -> list[dict[str, Any]]:
        return [line for line in self._lines if (line["workload"], line["format"], line["system"]) == (*row, system)]

    def choice(self, row: Row) -> Choice | None:
        """How the limit calls, as a search has found it to be the best."""
        found = [Choice(line["size"], line["frozen"]) for line in self._of(row, LIMIT) if "size" in line]
        return found[-1] if found else None

    def tries(self, row: Row) -> dict[Choice, list[float]]:
        """Rates of the limit with each choice that a search has tried."""
        found: dict[Choice, list[float]] = {}
        for line in self._of(row, LIMIT):
            if "tried" in line:
                found.setdefault(Choice(**line["tried"]), []).append(line["rate"])
        return found

    def checked(self, row: Row, system: str) -> bool:
        """Whether its output was found to be the limit's."""
        return any("checked" in line for line in self._of(row, system))

    def checks(self, row: Row) -> list[int]:
        """How many records of every output that was compared."""
        return [
            line["checked"] for line in self._lines if "checked" in line and row == (line["workload"], line["format"])
        ]

    def rows(self) -> list[Row]:
        """In the order of their first repetition."""
        return list(dict.fromkeys((line["workload"], line["format"]) for line in self._lines if "round" in line))

    def pairs(self, row: Row, system: str) -> dict[int, Pair]:
        """By round."""
        return {line["round"]: Pair.from_json(line) for line in self._of(row, system) if "small" in line}

    def settled(self, row: Row, system: str) -> list[Choice]:
        """How each run of beamhub called the module."""
        return [Choice.named(name) for line in self._of(row, system) for name in line.get("settled", [])]

    def rates(self, row: Row, system: str) -> dict[int, float]:
        """Rows per second by round; the bare module's are measured directly."""
        direct = {
            line["round"]: float(line["rate"]) for line in self._of(row, system) if "rate" in line and "round" in line
        }
        return direct | {number: pair.rate for number, pair in self.pairs(row, system).items()}

    def ratio(self, row: Row, system: str, base: str) -> Interval | None:
        """Of the rates of two systems, over the rounds that have both."""
        mine, other = self.rates(row, system), self.rates(row, base)
        paired = [mine[number] / other[number] for number in sorted(mine.keys() & other.keys())]
        return median(paired) if paired else None

    def rounds(self, row: Row) -> int:
        """Rounds of all systems, and of the bare module, that the limit was in."""
        base = self.rates(row, LIMIT).keys()
        return sum(
            line["round"] in base
            for line in self._lines
            if (line["workload"], line["format"]) == row and "round" in line
        )

    def next_round(self, row: Row) -> int:
        rounds = [
            line["round"] for line in self._lines if (line["workload"], line["format"]) == row and "round" in line
        ]
        return max(rounds, default=-1) + 1

    def lacking(self, row: Row, systems: Sequence[str], repeats: int) -> list[str]:
        """The systems with fewer repetitions than wanted; one without the limit beside it does not count."""
        base = self.rates(row, LIMIT).keys()
        return [name for name in systems if len(self.rates(row, name).keys() & base) < repeats]


def by_row(path: Path) -> dict[Row, Results]:
    """Each row with the results that have most rounds of it, of the code that was measured last; none where nothing was.

    One run of hours may be done in pieces on different machines: each row is of one of them.
    """
    lines = read(path)
    if not lines:
        return {}
    described = all_settings(lines)
    last = described[lines[-1]["settings"]]
    same = [
        Results(path, each) for each in described.values() if replace(each, machine="") == replace(last, machine="")
    ]
    rows = dict.fromkeys(row for results in same for row in results.rows())
    return {row: max(reversed(same), key=lambda results: results.rounds(row)) for row in sorted(rows, key=_place)}


def _place(row: Row) -> tuple[int, str]:
    return list(WORKLOADS).index(row[0]), row[1]
