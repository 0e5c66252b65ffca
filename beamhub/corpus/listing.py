"""What a corpus is: its files, found by a glob, all of one format."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from beamhub import storage
from beamhub.corpus import formats, globs
from beamhub.corpus.shards import Shard
from beamhub.errors import CorpusError

MANY_FILES = 1000
TINY_BYTES = 1 << 20
"""More than `MANY_FILES` files of less than `TINY_BYTES` on average are warned about: a shard costs 10 ms or
more, which is then more than the work in it."""

_LOOKED_INTO = 8


@dataclass(frozen=True, slots=True)
class Corpus:
    """The files that a pattern matches.

    `pattern` is the glob, file or folder that was asked for, `root` the folder that the shards' relative
    paths start at, `format` the name of their format ("parquet" or "tfrecord"), `shards` one for each file,
    sorted by path, `warnings` lines for the user.
    """

    pattern: str
    root: str
    format: str
    shards: Sequence[Shard]
    warnings: tuple[str, ...] = ()

    def covers(self, relative: str) -> bool:
        """Would the pattern match a file at this path below the root, if it existed? See `globs.covers`."""
        return globs.covers(self.pattern, storage.join(self.root, relative))


def list_corpus(pattern: str, root: str | None = None) -> Corpus:
    """Lists a corpus: a glob, a file, or a folder (its files at any depth, but for names with '_' or '.'
    first).

    `root` is by default the pattern's leading folder without wildcards. The format is found by content;
    looked into are the first file and the first of each other file-name ending, eight at most, since a reader
    checks its own file anyway. Raises CorpusError when nothing matches, a file is not below `root`, or the
    files are of no or of several formats.
    """
    pattern = storage.absolute(pattern)
    try:
        files, leading = _find(pattern)
    except OSError as error:
        raise CorpusError(f"corpus {pattern}: {error}; check the path, or whether the store can be reached") from error
    if not files:
        raise CorpusError(_nothing(pattern))
    root = leading if root is None else storage.absolute(root)
    shards = [_shard(file, root) for file in files]
    return Corpus(pattern, root, _format(shards), shards, _warnings(shards))


def _find(pattern: str) -> tuple[list[storage.FileInfo], str]:
    # Asked first, since a file's own name may have a '[' in it.
    alone = storage.info(pattern)
    if alone is not None:
        return [alone], os.path.dirname(pattern)
    if globs.has_wildcard(pattern):
        return storage.match(pattern), globs.root_of(pattern)
    files = storage.list_files(pattern)
    return [file for file in files if globs.covers(pattern, file.path)], pattern


def _nothing(pattern: str) -> str:
    if not globs.has_wildcard(pattern):
        wrong = "there is no such file, and no folder of that name with files in it"
    elif storage.is_local(pattern) and not os.path.isdir(globs.root_of(pattern)):
        wrong = f"the folder {globs.root_of(pattern)} does not exist"
    else:
        wrong = f"no file below {globs.root_of(pattern)} matches"
    return f"corpus {pattern}: {wrong}; give a glob, a file or a folder with TFRecord or Parquet files"


def _shard(file: storage.FileInfo, root: str) -> Shard:
    below = root.rstrip("/") + "/"
    if not file.path.startswith(below):
        raise CorpusError(f"{file.path}: not below the corpus root {root}; give a root that all files lie below")
    return Shard(file.path, file.path[len(below) :], file.size, file.token)


def _format(shards: Sequence[Shard]) -> str:
    samples: dict[str, Shard] = {}
    for shard in shards:
        if shard.size and len(samples) < _LOOKED_INTO:
            samples.setdefault(_ending(shard.path), shard)
    found = {formats.detect(shard.path): shard for shard in samples.values()}
    if len(found) > 1:
        (one, first), (other, second) = list(found.items())[:2]
        raise CorpusError(f"corpus of mixed formats: {first.path} is {one}, {second.path} is {other}; narrow the glob")
    # An empty file is a TFRecord file without records, so a corpus of nothing else is one too.
    name = next(iter(found), "tfrecord")
    empty = next((shard for shard in shards if not shard.size), None)
    if name == "parquet" and empty is not None:
        raise CorpusError(f"{empty.path}: empty, not a Parquet file as the others are; narrow the glob")
    return name


def _ending(path: str) -> str:
    return re.sub(r"\d+", "", os.path.splitext(path)[1])


def _warnings(shards: Sequence[Shard]) -> tuple[str, ...]:
    mean = sum(shard.size for shard in shards) // len(shards)
    if len(shards) <= MANY_FILES or mean >= TINY_BYTES:
        return ()
    return (
        f"{len(shards):,} files of {mean:,} bytes on average: opening them costs more than reading them; "
        "pack the corpus into files of 64 MiB or more",
    )
