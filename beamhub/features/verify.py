"""Whether a table is what its manifest says: every file whole, each shard once, counts right, inputs as they were read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import pyarrow as pa

from beamhub import storage
from beamhub.corpus.shard_list import BLOCK
from beamhub.errors import TableError
from beamhub.features.checksums import checksum_of
from beamhub.features.dead import read_dead
from beamhub.features.formats import FORMATS, format_of
from beamhub.features.ledger import READERS, ShardResult, table_to_results
from beamhub.features.manifest import Manifest, damaged_parts
from beamhub.features.paths import META, VersionPaths, dead_name
from beamhub.features.ranges import Ranges
from beamhub.features.roots import Totals
from beamhub.features.state import VersionState

_NAMED = 20

Kind = Literal["manifest", "file", "input"]

_REMEDIES: Mapping[Kind, str] = {
    "manifest": "restore what is named of the manifest from a copy",
    "file": "beamhub verify --repair computes the shards of the files named anew",
    "input": "run the job again: what changed is computed anew, and rows of files that are gone leave",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What does not hold: of the manifest, of a file of the table, or of an input file. `name` is below the version's folder, or
    below the corpus root."""

    kind: Kind
    name: str
    reason: str


@dataclass(frozen=True)
class Verified:
    """What was looked at, and what does not hold. `inputs` are corpus files, None where they were left out; `uncommitted` data
    files are in the folder and not in the manifest."""

    path: str
    generation: int
    totals: Totals
    inputs: int | None
    uncommitted: int
    problems: tuple[Problem, ...]

    @property
    def remedy(self) -> str:
        """What to do."""
        kinds = {problem.kind for problem in self.problems}
        return "; ".join(remedy for kind, remedy in _REMEDIES.items() if kind in kinds)


def verify(paths: VersionPaths, corpus_root: str | None) -> Verified:
    """Reads the whole table, and lists the corpus below its root, unless that is None.

    Raises TableError where nothing is committed, or the manifest cannot be read at all.
    """
    state = VersionState.load(paths)
    manifest = state.manifest
    if not manifest.generation:
        raise TableError(f"{paths.root}: nothing is committed yet; let the run end, or run it again")
    problems = [*_of_manifest(paths, manifest), *_of_files(state)]
    inputs = None
    if corpus_root is not None:
        inputs = len(manifest.relatives)
        problems += _of_inputs(manifest, corpus_root)
    others = state.files.others(manifest.column("file")).to_pylist()
    uncommitted = sum(not name.startswith(f"{META}/") and name.rpartition(".")[2] in FORMATS for name in others)
    return Verified(paths.root, manifest.generation, manifest.root.totals, inputs, uncommitted, tuple(problems))


def describe(found: Verified) -> str:
    """The verdict, for people."""
    totals = found.totals
    wrong = {kind: sum(problem.kind == kind for problem in found.problems) for kind in _REMEDIES}
    lines = [
        f"{found.path}, generation {found.generation}",
        f"  files     {totals.shards:,} of {totals.bytes:,} bytes read: {_said(wrong['file'])}",
        f"  records   {totals.read:,} read = {totals.produced:,} produced + {totals.dead:,} dead + {totals.skipped:,} skipped; "
        f"each shard once: {_said(wrong['manifest'])}",
    ]
    if found.inputs is not None:
        lines.append(f"  inputs    {found.inputs:,} as they were read: {_said(wrong['input'])}")
    if found.uncommitted:
        lines.append(
            f"  others    {found.uncommitted:,} data files are not committed; a reader of the folder shows their rows"
        )
    lines += [f"  {each.kind:9} {each.name}: {each.reason}" for each in found.problems[:_NAMED]]
    if len(found.problems) > _NAMED:
        lines.append(f"  and {len(found.problems) - _NAMED:,} more; --json has all")
    return "\n".join(lines)


def _said(wrong: int) -> str:
    return f"{wrong:,} WRONG" if wrong else "yes"


def _of_manifest(paths: VersionPaths, manifest: Manifest) -> Iterator[Problem]:
    for name in damaged_parts(paths, manifest.root):
        yield Problem("manifest", f"{META}/manifest/{name}", "not what was written")
    root = paths.name(paths.root_file(manifest.generation))
    if (summed := Totals.of_table(manifest.entries)) != manifest.root.totals:
        yield Problem("manifest", root, f"says {manifest.root.totals}, its entries come to {summed}")
    for result in table_to_results(manifest.entries.filter(pa.array(_unbalanced(manifest)))):
        yield Problem(
            "manifest",
            result.file,
            f"{result.read} records read, but {result.produced} produced + {result.dead} dead + {result.skipped} skipped",
        )
    numbers, counts = np.unique(manifest.ids, return_counts=True)
    for number in numbers[counts > 1].tolist():
        yield Problem("manifest", f"shard {number:016x}", "listed more than once, so its rows are doubled")
    relative = manifest.column("relative").combine_chunks().dictionary_encode()
    places = relative.indices.to_numpy().astype(np.int64)
    for file, reason in Ranges.of(places, manifest.entries).conflicts():
        yield Problem("manifest", relative.dictionary[file].as_py(), reason)


def _unbalanced(manifest: Manifest) -> np.ndarray:
    read, *parts = (manifest.column(name).to_numpy() for name in ("read", "produced", "dead", "skipped"))
    unbalanced: np.ndarray = read != sum(parts)
    return unbalanced


def _of_files(state: VersionState) -> Iterator[Problem]:
    entries = state.manifest.ordered
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(entries), BLOCK):
            results = table_to_results(entries.slice(start, BLOCK))
            for found in pool.map(lambda result: list(_of_file(state, result)), results):
                yield from found


def _of_file(state: VersionState, result: ShardResult) -> Iterator[Problem]:
    try:
        reason = _difference(state.paths.path(result.file), result)
    except OSError as error:
        reason = _cannot_be_read(error)
    if reason:
        yield Problem("file", result.file, reason)
    if not result.dead:
        return
    letters = dead_name(result.file)
    try:
        count = len(read_dead(state.paths, [letters]))
        reason = "" if count == result.dead else f"{count:,} dead letters, the manifest says {result.dead:,}"
    except (OSError, TableError) as error:
        reason = _cannot_be_read(error)
    if reason:
        yield Problem("file", letters, reason)


def _cannot_be_read(error: Exception) -> str:
    return (
        "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read ({' '.join(str(error).split())})"
    )


def _difference(path: str, entry: ShardResult) -> str:
    """Where a data file is not what its entry says; "" for nowhere."""
    format = format_of(path)
    told = format.recover(path) if format.has_footer else None
    if told is None:
        with storage.open_read(path) as file:
            size, checksum = checksum_of(file)
        if size != entry.bytes:
            return f"{size:,} bytes, the manifest says {entry.bytes:,}"
        if checksum != entry.checksum:
            return f"not the bytes that were written: their CRC-32C is {checksum}, the manifest says {entry.checksum}"
        return "its footer cannot be read" if format.has_footer else ""
    # A footer does not know the file's name.
    different = [
        f"{each.name} {getattr(told, each.name)!r}, the manifest says {getattr(entry, each.name)!r}"
        for each in fields(ShardResult)
        if each.name != "file" and getattr(told, each.name) != getattr(entry, each.name)
    ]
    return "; ".join(different)


def _of_inputs(manifest: Manifest, root: str) -> Iterator[Problem]:
    """By one listing, for to ask for each file would take days on an object store."""
    unique = manifest.entries.group_by(["relative", "token"], use_threads=False).aggregate([])
    expected: dict[str, set[str]] = {}
    for relative, token in zip(unique.column("relative").to_pylist(), unique.column("token").to_pylist(), strict=True):
        expected.setdefault(relative, set()).add(token)
    for found in _below(root, expected):
        if expected.pop(found.path[len(root) + 1 :]) != {found.token}:
            yield Problem("input", found.path[len(root) + 1 :], "changed since it was read")
    for relative in sorted(expected):
        yield Problem("input", relative, "is gone")


def _below(root: str, wanted: Mapping[str, object]) -> Iterable[storage.FileInfo]:
    return (found for found in storage.walk(root) if found.path[len(root) + 1 :] in wanted)
