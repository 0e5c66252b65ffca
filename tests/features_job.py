"""A job without Beam and without a module, for tests of the feature table: it turns numbers into rows.

A corpus is {relative path: File}. A number n becomes the row (key "n", value n, embedding [n, n, n, n]); a
negative one a dead letter. Run as a program it is a process that a test can kill:

    python -m tests.features_job OUT CORPUS.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa

from beamhub.corpus.shards import WHOLE, Shard
from beamhub.features.commit import CommitOutcome, commit
from beamhub.features.dead import DeadLetter, DeadWriter
from beamhub.features.formats import format_named
from beamhub.features.intent import roll_forward
from beamhub.features.ledger import Counts, ShardResult
from beamhub.features.ledger_writer import LedgerWriter
from beamhub.features.paths import VersionPaths
from beamhub.features.reconcile import Limits
from beamhub.features.state import VersionState
from beamhub.features.writer import ShardWriter

SCHEMA = pa.schema([("key", pa.string()), ("value", pa.int64()), ("embedding", pa.list_(pa.float32(), 4))])
VERSION = "e0123"
HALF = Limits(max_dead_fraction=0.5)


@dataclass(frozen=True)
class File:
    """A corpus file: its token, its numbers, and how many values each of its shards has (0: one shard for all)."""

    token: str
    values: tuple[int, ...]
    split: int = 0


Corpus = Mapping[str, File]


def shards_of(corpus: Corpus) -> list[Shard]:
    found = []
    for relative, file in corpus.items():
        whole = Shard(path=relative, relative=relative, size=len(file.values), token=file.token)
        starts = range(0, len(file.values), file.split) if file.split else []
        found += [replace(whole, start=start, end=start + file.split) for start in starts] or [whole]
    return found


def values_of(corpus: Corpus, shard: Shard) -> tuple[int, ...]:
    values = corpus[shard.relative].values
    return values[shard.start :] if shard.end == WHOLE else values[shard.start : shard.end]


def batch_of(values: tuple[int, ...]) -> pa.RecordBatch:
    rows = [{"key": str(n), "value": n, "embedding": [n] * 4} for n in values]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def letter(shard: Shard, value: int) -> DeadLetter:
    return DeadLetter(
        key=str(value),
        file=shard.relative,
        range=f"{shard.start}:{shard.end}",
        address=0,
        stage="check",
        error="negative",
        traceback="",
        identity="test",
        attempts=1,
        payload=str(value).encode(),
    )


def write_dead(paths: VersionPaths, shard: Shard, letters: Iterable[DeadLetter]) -> None:
    with DeadWriter(paths, shard) as writer:
        writer.add(letters)
        writer.close()


def compute(
    paths: VersionPaths,
    shard: Shard,
    values: tuple[int, ...],
    pending: bool = False,
    extension: str = "parquet",
) -> ShardResult:
    good = tuple(n for n in values if n >= 0)
    bad = [letter(shard, n) for n in values if n < 0]
    with ShardWriter(format_named(extension), paths, shard, SCHEMA, pending) as writer:
        writer.write(batch_of(good))
        write_dead(paths, shard, bad)
        return writer.close(Counts(read=len(values), produced=len(good), dead=len(bad)))


def run(out: Path | str, corpus: Corpus, limits: Limits = HALF) -> CommitOutcome:
    """Computes what is missing and commits: what every job of beamhub does."""
    paths = VersionPaths(str(out), VERSION)
    roll_forward(paths)
    state = VersionState.load(paths)
    shards = shards_of(corpus)
    with LedgerWriter(paths, most=2) as ledger:
        for shard in shards:
            if state.done(shard) is None:
                ledger.add(compute(paths, shard, values_of(corpus, shard), state.waits(shard)))
    return finish(paths, corpus, limits)


def finish(paths: VersionPaths, corpus: Corpus, limits: Limits, run_id: str = "run") -> CommitOutcome:
    """Commits what is there."""
    state = VersionState.load(paths)
    changes = [shard for shard in shards_of(corpus) if not state.committed(shard)]
    return commit(paths, changes, state.relatives - set(corpus), None, limits, run_id)


def rows_of(corpus: Corpus) -> list[int]:
    """The values that a table of the corpus has, in its order."""
    return [n for relative in sorted(corpus) for n in corpus[relative].values if n >= 0]


def tree(out: Path | str) -> dict[str, bytes]:
    """Every file below a folder, but for what killed processes left unfinished."""
    root = Path(out)
    found = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".beamhub-"))
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def save(corpus: Corpus, path: Path) -> Path:
    path.write_text(json.dumps({relative: asdict(file) for relative, file in corpus.items()}))
    return path


def load(path: str) -> Corpus:
    found = json.loads(Path(path).read_text())
    return {name: File(f["token"], tuple(f["values"]), f["split"]) for name, f in found.items()}


if __name__ == "__main__":
    run(sys.argv[1], load(sys.argv[2]))
