"""What a corpus is: its files, found by a glob, all of one format."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beamhub import storage
from beamhub.corpus import formats, globs
from beamhub.corpus.sampling import MOST_DAMAGED, sampled
from beamhub.corpus.shard_list import BLOCK, ShardList
from beamhub.errors import CorpusError

MANY_FILES = 1000
TINY_BYTES = 1 << 20
"""More than `MANY_FILES` files of less than `TINY_BYTES` on average are warned about: a shard costs 10 ms or
more, which is then more than the work in it."""

_LOOKED_INTO = 8
_ENDING = r"(?s)^(?:.*/)?\.*[^/]*?(\.[^./]*)?$"
"""As os.path.splitext has it."""


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
    shards: ShardList
    warnings: tuple[str, ...] = ()

    def covers(self, relative: str) -> bool:
        """Would the pattern match a file at this path below the root, if it existed? See `globs.covers`."""
        return globs.covers(self.pattern, storage.join(self.root, relative))


def list_corpus(pattern: str, root: str | None = None) -> Corpus:
    """Lists a corpus: a glob, a file, or a folder (its files at any depth, but for names with '_' or '.'
    first).

    `root` is by default the pattern's leading folder without wildcards. The format is found by content: looked into are the
    first file and the first of each other file-name ending, eight at most, since a reader checks its own file anyway; where
    one is damaged, the next with its ending. Raises CorpusError when nothing matches, a file is not below `root`, or the
    files are of no or of several formats.
    """
    pattern = storage.absolute(pattern)
    try:
        files, leading = _find(pattern)
        root = leading if root is None else storage.absolute(root)
        shards = _sorted(_columns(files, root))
        # Of a million files the unsorted columns are 100 MB, and TensorFlow may come next.
        pa.default_memory_pool().release_unused()
    except OSError as error:
        raise CorpusError(f"corpus {pattern}: {error}; check the path, or whether the store can be reached") from error
    if not shards:
        raise CorpusError(_nothing(pattern))
    return Corpus(pattern, root, _format(shards), shards, _warnings(shards))


def _find(pattern: str) -> tuple[Iterator[storage.FileInfo], str]:
    # Asked first, since a file's own name may have a '[' in it.
    alone = storage.info(pattern)
    if alone is not None:
        return iter([alone]), os.path.dirname(pattern)
    if globs.has_wildcard(pattern):
        return storage.find(pattern), globs.root_of(pattern)
    return (file for file in storage.walk(pattern) if globs.covers(pattern, file.path)), pattern


def _nothing(pattern: str) -> str:
    if not globs.has_wildcard(pattern):
        wrong = "there is no such file, and no folder of that name with files in it"
    elif storage.is_local(pattern) and not os.path.isdir(globs.root_of(pattern)):
        wrong = f"the folder {globs.root_of(pattern)} does not exist"
    else:
        wrong = f"no file below {globs.root_of(pattern)} matches"
    return f"corpus {pattern}: {wrong}; give a glob, a file or a folder with TFRecord or Parquet files"


def _columns(files: Iterator[storage.FileInfo], root: str) -> ShardList:
    below = root.rstrip("/") + "/"
    blocks = []
    while block := list(itertools.islice(files, BLOCK)):
        names = [_relative(file.path, below, root) for file in block]
        blocks.append(
            pa.table(
                {
                    "relative": pa.array(names, pa.string()),
                    "token": pa.array([file.token for file in block], pa.string()),
                    "size": pa.array([file.size for file in block], pa.int64()),
                }
            )
        )
    return ShardList.of_columns(below, blocks)


def _relative(path: str, below: str, root: str) -> str:
    if not path.startswith(below):
        raise CorpusError(f"{path}: not below the corpus root {root}; give a root that all files lie below")
    if not path.isascii():
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise CorpusError(f"{path!r}: a file name that is not UTF-8; rename the file") from error
    return path[len(below) :]


def _sorted(shards: ShardList) -> ShardList:
    """By path, each file once."""
    shards = shards.take(pc.sort_indices(shards.relative).to_numpy().astype(np.int64))
    is_first = np.ones(len(shards), np.bool_)
    if len(shards) > 1:
        is_first[1:] = pc.not_equal(shards.relative[1:], shards.relative[:-1]).to_numpy(zero_copy_only=False)
    return shards.filter(is_first)


def _format(shards: ShardList) -> str:
    filled = shards.filter(shards.size > 0)
    # Digits in an ending only count files.
    endings = pc.replace_substring_regex(pc.replace_substring_regex(filled.relative, _ENDING, r"\1"), r"\d+", "")
    codes = endings.dictionary_encode().indices.to_numpy()
    found: dict[str, str] = {}
    # They are numbered in the order in which they come.
    for code in range(min(_LOOKED_INTO, codes.max(initial=-1) + 1)):
        like = filled.take(np.flatnonzero(codes == code)[:MOST_DAMAGED])
        name, path = next(sampled(like, lambda shard: [(formats.detect(shard.path), shard.path)]))
        found[name] = path
    if len(found) > 1:
        (one, first), (other, second) = list(found.items())[:2]
        raise CorpusError(f"corpus of mixed formats: {first} is {one}, {second} is {other}; narrow the glob")
    # An empty file is a TFRecord file without records, so a corpus of nothing else is one too.
    name = next(iter(found), "tfrecord")
    if name == "parquet" and len(filled) < len(shards):
        empty = shards[int(np.argmin(shards.size))]
        raise CorpusError(f"{empty.path}: empty, not a Parquet file as the others are; narrow the glob")
    return name


def _warnings(shards: ShardList) -> tuple[str, ...]:
    mean = shards.bytes // len(shards)
    if len(shards) <= MANY_FILES or mean >= TINY_BYTES:
        return ()
    return (
        f"{len(shards):,} files of {mean:,} bytes on average: opening them costs more than reading them; "
        "pack the corpus into files of 64 MiB or more",
    )
