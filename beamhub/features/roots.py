"""The root of a manifest generation: a small JSON file whose creation is the one atomic step of a commit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from beamhub import storage
from beamhub.corpus.shards import WHOLE
from beamhub.errors import TableError
from beamhub.features.lineage import encode_document, read_document
from beamhub.features.paths import FORMAT_VERSION, VersionPaths

KEPT_GENERATIONS = 2
"""Generations whose roots and parts stay, for readers that have just opened one."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over shards: records read, produced, dead and skipped; produced ones without a key; rows and
    bytes written."""

    shards: int = 0
    read: int = 0
    produced: int = 0
    dead: int = 0
    skipped: int = 0
    null_keys: int = 0
    rows: int = 0
    bytes: int = 0

    @classmethod
    def of_table(cls, entries: pa.Table) -> Self:
        """Sums a manifest's entries, or results."""
        return cls(len(entries), **{name: pc.sum(entries.column(name)).as_py() or 0 for name in cls.names()})

    @classmethod
    def names(cls) -> list[str]:
        """The columns that are summed."""
        return [field.name for field in fields(cls) if field.name != "shards"]

    @classmethod
    def sum(cls, parts: Iterable[Totals]) -> Self:
        """Sums sums."""
        every = list(parts)
        return cls(**{field.name: sum(getattr(part, field.name) for part in every) for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class Hole:
    """A shard that a commit was allowed to go without."""

    shard: str
    relative: str
    start: int
    end: int
    token: str
    reason: str

    def __str__(self) -> str:
        """The file, its range if it is one, and the reason."""
        part = "" if (self.start, self.end) == (0, WHOLE) else f" [{self.start}:{self.end}]"
        return f"{self.relative}{part}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Part:
    """An immutable file with the entries of the partitions of one bucket.

    `name` is that of a file in the manifest folder.
    """

    bucket: str
    name: str


@dataclass(frozen=True, slots=True)
class Root:
    """A generation: which parts it has. `run` says who made it and is no part of its content."""

    generation: int
    parts: tuple[Part, ...]
    totals: Totals
    holes: tuple[Hole, ...]
    run: str

    @property
    def content(self) -> tuple[object, ...]:
        """What makes two roots the same commit."""
        return (self.generation, self.parts, self.holes)

    def to_json(self) -> dict[str, Any]:
        """A JSON document."""
        return {"format_version": FORMAT_VERSION, "previous": self.generation - 1, **asdict(self)}

    @classmethod
    def from_json(cls, document: dict[str, Any], path: str) -> Self:
        """Reads `to_json`. Raises TableError for a newer format or a document that is something else."""
        try:
            if document["format_version"] > FORMAT_VERSION:
                raise TableError(
                    f"{path}: written by a newer beamhub (format {document['format_version']}, this one "
                    "reads up to "
                    f"{FORMAT_VERSION}); upgrade beamhub"
                )
            return cls(
                generation=document["generation"],
                parts=tuple(Part(**part) for part in document["parts"]),
                totals=Totals(**document["totals"]),
                holes=tuple(Hole(**hole) for hole in document["holes"]),
                run=document["run"],
            )
        except (KeyError, TypeError) as error:
            raise TableError(f"{path}: not a manifest root ({error!r}); restore it") from error


def generations(paths: VersionPaths) -> list[int]:
    """The generations that are there, oldest first."""
    names = (file.path.rpartition("/")[2] for file in storage.list_files(paths.manifest))
    return sorted(int(name[4:-5]) for name in names if name.startswith("gen-") and name.endswith(".json"))


def latest_generation(paths: VersionPaths) -> int:
    """The newest generation; 0 before the first commit."""
    return max(generations(paths), default=0)


def read_root(paths: VersionPaths, generation: int) -> Root | None:
    """The root of a generation, or None when there is none. Raises TableError when it cannot be read."""
    path = paths.root_file(generation)
    try:
        return Root.from_json(read_document(path), path)
    except FileNotFoundError:
        return None


def create_root(paths: VersionPaths, root: Root) -> bool:
    """Makes the generation, once and for all. True when it now has this root's content, whoever made it."""
    if storage.create_exclusive(paths.root_file(root.generation), encode_document(root.to_json())):
        return True
    found = read_root(paths, root.generation)
    return found is not None and found.content == root.content


def drop_old(paths: VersionPaths) -> None:
    """Deletes roots and parts that no kept generation needs.

    A part carries the generation that made it, and a generation uses parts of the one before it or new ones:
    so what is not newer than the latest generation and not used by a kept one is never used again, whatever
    other commits do meanwhile.
    """
    present = generations(paths)
    kept = present[-KEPT_GENERATIONS:]
    storage.delete(paths.root_file(generation) for generation in present[:-KEPT_GENERATIONS])
    roots = [read_root(paths, generation) for generation in kept]
    used = {part.name for root in roots if root is not None for part in root.parts}
    for file in storage.list_files(paths.manifest):
        name = file.path.rpartition("/")[2]
        if name.endswith(".arrow") and name not in used and int(name.split("-")[1]) <= kept[-1]:
            storage.delete([file.path])
