"""Everything that decides the bytes of a version: made once, before the first shard, and used by every worker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from beamhub.engine.sizing import BATCH_ROWS
from beamhub.tasks import Task, from_json
from beamhub.tasks.binding import Binding
from beamhub.tasks.schema_text import schema_from_text, schema_to_text

FORMAT_VERSION = 1
"""Of the feature table; a newer beamhub reads older tables, an older one refuses newer ones."""

PREPROCESSING = 1
"""Raised when `beamhub.tasks.prepare` changes the values that a module is given."""

_MANY = 8192
"""A batch of so many, or more: also a sixty-fourth of it would be mostly padding at the end of a small shard."""


@dataclass(frozen=True)
class Call:
    """How the module is called: which one, which signature, what is fed.

    `digest` names the module's content, `handle` where it was found. `constants` are JSON values. `fixed` is the
    batch axis (see `BatchAxis`), `batch_size` the largest number of records in a call. `stacked` says that outputs have a
    batch dimension; those of some modules that take one image a call have none. `frozen` makes constants of variables.
    `together` is how many records go through the stages at a time, at least. There are `steps` sizes of calls.
    `precision` is that of `Job.precision`.
    """

    handle: str
    digest: str
    tags: tuple[str, ...]
    signature: str
    bindings: tuple[Binding, ...]
    constants: dict[str, Any]
    fixed: int | None
    batch_size: int
    stacked: bool = True
    frozen: bool = False
    together: int = BATCH_ROWS
    precision: str = "float32"
    steps: int = 3

    def of_size(self, batch_size: int) -> Call:
        """The same with another batch size, and the sizes that go with it."""
        return replace(self, batch_size=batch_size, steps=4 if batch_size >= _MANY else 3)

    @property
    def is_open(self) -> bool:
        """Whether records may differ in shape, and so cannot all be in one call."""
        return any(each.is_open for each in self.bindings)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of records that a call may have, largest first; a batch is padded to the smallest that holds it."""
        if self.fixed is not None:
            return (self.fixed or 1,)
        # Few records have the same length: the sizes lie closer, and reach further down.
        shares = [4**step for step in range(8)] if self.is_open else [8**step for step in range(self.steps)]
        # 1 is left out: with one row, libraries take other paths, and the last bits of a vector change.
        return tuple(dict.fromkeys(max(self.batch_size // share, min(2, self.batch_size)) for share in shares))

    def next_size(self, left: int) -> int:
        """The number of records in the next call where so many are left.

        The smallest that holds them all, unless more than a quarter of it would be padding: then a smaller one, which is full.
        """
        sizes = self.sizes
        holding = [size for size in sizes if size >= left] or [sizes[0]]
        smaller = [size for size in sizes if size < holding[-1]]
        return smaller[0] if smaller and left <= 3 * holding[-1] // 4 else holding[-1]

    @property
    def probes(self) -> tuple[int, ...]:
        """The sizes of calls whose outputs are thrown away: `sizes`, and the least that a batched module is called with."""
        return self.sizes if self.fixed is not None else (*self.sizes, min(2, self.sizes[-1]))

    @property
    def batched(self) -> bool:
        """False where the signature takes one record, without a batch dimension."""
        return self.fixed != 0

    def identity(self, outputs: Sequence[str]) -> str:
        """The feature identity of a column made of these outputs, "sha256:" and 64 hex digits."""
        inputs = {
            each.input: None if each.pixels is None else {**each.pixels.to_json(), "shape": None}
            for each in self.bindings
        }
        return _hash(
            {
                "module": self.digest,
                "signature": self.signature,
                "outputs": sorted(outputs),
                "tags": sorted(self.tags),
                "preprocessing": {"version": PREPROCESSING, "inputs": inputs},
                "precision": self.precision,
                "constants": self.constants,
            }
        )

    def to_json(self) -> dict[str, Any]:
        """The call as JSON values."""
        values = {**vars(self), "tags": list(self.tags), "bindings": [each.to_json() for each in self.bindings]}
        if self.precision == "float32":
            # As it was written before there was another.
            del values["precision"]
        if self.steps == 3:
            del values["steps"]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Call:
        """The inverse of `to_json`."""
        bindings = tuple(Binding.from_json(each) for each in values["bindings"])
        return cls(**{**values, "tags": tuple(values["tags"]), "bindings": bindings})


@dataclass(frozen=True)
class TableSpec:
    """The spec of a version.

    `request` is what was asked for, `corpus_format` and `corpus_root` where shards come from, `corpus_schema` the columns
    that are read. `key` and `keep` name columns; without `key` a record's address is its key. Files are cut into ranges of
    about `split_bytes`; 0: they are not.
    """

    request: dict[str, Any]
    call: Call
    task: Task
    key: str | None
    keep: tuple[str, ...]
    output_format: str
    corpus_format: str
    corpus_root: str
    corpus_schema: pa.Schema
    split_bytes: int = 0

    def __post_init__(self) -> None:
        # As it will be read back: names below maps and lists, which count for nothing, may change on the way.
        object.__setattr__(self, "corpus_schema", schema_from_text(schema_to_text(self.corpus_schema)))

    @property
    def schema(self) -> pa.Schema:
        """The table's columns: key, kept columns, the task's; the latter with their feature identity as metadata."""
        read = self.corpus_schema
        key = pa.string() if self.key is None else read.field(self.key).type
        columns = [pa.field("key", key), *(pa.field(name, read.field(name).type) for name in self.keep)]
        for name, (arrow, outputs) in self.task.fields().items():
            identity = {"beamhub.identity": self.call.identity(outputs)}
            columns.append(pa.field(name, arrow, nullable=False, metadata=identity))
        return pa.schema(columns)

    @property
    def version(self) -> str:
        """A letter and 12 hex digits: a hash of all feature identities and of what else decides the rows."""
        schema = self.schema
        identities = {field.name: field.metadata[b"beamhub.identity"].decode() for field in schema if field.metadata}
        decided = {
            "identities": identities,
            "task": [self.task.kind, self.task.decisions()],
            "inputs": [each.to_json() for each in self.call.bindings],
            "key": self.key,
            "columns": [[field.name, str(field.type)] for field in schema],
            "output_format": self.output_format,
        }
        # The letter keeps readers from taking the folder's value for a number.
        return "f" + _hash(decided).removeprefix("sha256:")[:12]

    def to_json(self) -> dict[str, Any]:
        """The document `spec.json`. Columns are listed for people; `corpus_schema` is what is read back."""
        return {
            "format_version": FORMAT_VERSION,
            "version": self.version,
            "request": self.request,
            "call": self.call.to_json(),
            "task": self.task.kind,
            "task_options": self.task.to_json(),
            "key": self.key,
            "keep": list(self.keep),
            "output_format": self.output_format,
            "corpus_format": self.corpus_format,
            "corpus_root": self.corpus_root,
            "split_bytes": self.split_bytes,
            "corpus_schema": schema_to_text(self.corpus_schema),
            "schema": schema_to_text(self.schema),
            "columns": [
                {
                    "name": field.name,
                    "type": str(field.type),
                    "identity": (field.metadata or {}).get(b"beamhub.identity", b"").decode() or None,
                }
                for field in self.schema
            ],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TableSpec:
        """The inverse of `to_json`."""
        return cls(
            values["request"],
            Call.from_json(values["call"]),
            from_json(values["task"], values["task_options"]),
            values["key"],
            tuple(values["keep"]),
            values["output_format"],
            values["corpus_format"],
            values["corpus_root"],
            schema_from_text(values["corpus_schema"]),
            # Tables of before there were ranges have files.
            values.get("split_bytes", 0),
        )


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
