"""Files that were cut into ranges, and those among them that have to be done in one piece after all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.compute as pc

from beamhub.corpus.listing import Corpus
from beamhub.corpus.shard_list import Integers, Mask, ShardList
from beamhub.corpus.shards import WHOLE
from beamhub.corpus.splitting import split
from beamhub.engine.tablespec import TableSpec
from beamhub.features.ranges import COLUMNS, Ranges
from beamhub.features.state import VersionState


def in_ranges(corpus: Corpus, spec: TableSpec, state: VersionState) -> Corpus:
    """The corpus with its large files cut, as the version has them."""
    return replace(corpus, shards=settle_ranges(split(corpus.shards, spec.split_bytes), state))


def settle_ranges(shards: ShardList, state: VersionState) -> ShardList:
    """The shards, with the ranges of a file replaced by the file where they disagree on whose a record is.

    They do where a record's data is itself a TFRecord, and a range took a record of that for its first one; or where a file
    is damaged, which is then told by reading it whole. A file that was once tried whole stays whole. `shards` has the
    ranges of a file one after the other, all of them.
    """
    if not shards.is_range.any():
        return shards
    is_first = np.ones(len(shards), np.bool_)
    is_first[1:] = pc.not_equal(shards.relative[1:], shards.relative[:-1]).to_numpy(zero_copy_only=False)
    firsts = np.flatnonzero(is_first)
    sizes = np.add.reduceat(shards.size, firsts)
    pieces = shards.take(firsts)
    wholes = replace(pieces, size=sizes, start=np.zeros_like(sizes), end=np.full_like(sizes, WHOLE))
    tried = state.find(wholes)
    file = np.cumsum(is_first) - 1
    again = pieces.is_range & (tried.done | tried.failed | _disagree(shards, file, state))
    kept = ~again[file] | is_first
    one = again[file[kept]]
    found = shards.filter(kept)
    return replace(
        found,
        size=np.where(one, sizes[file[kept]], found.size),
        start=np.where(one, 0, found.start),
        end=np.where(one, WHOLE, found.end),
    )


def _disagree(shards: ShardList, file: Integers, state: VersionState) -> Mask:
    """The files whose ranges are all done and cannot stand side by side."""
    found = state.find(shards)
    # Where some are missing, the rest is to be done first.
    is_complete = np.bincount(file[~found.done], minlength=file[-1] + 1) == 0
    places = np.flatnonzero(is_complete[file] & shards.is_range)
    wrong = np.zeros(len(is_complete), np.bool_)
    wrong[[number for number, _ in Ranges.of(file[places], found.columns(COLUMNS, places)).conflicts()]] = True
    return wrong
