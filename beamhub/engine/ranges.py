"""Files that were cut into ranges, and those among them that have to be done in one piece after all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter

from beamhub.corpus.listing import Corpus
from beamhub.corpus.shards import Shard
from beamhub.corpus.splitting import split, whole
from beamhub.engine.tablespec import TableSpec
from beamhub.features.ledger import ShardResult
from beamhub.features.reconcile import disagreement
from beamhub.features.state import VersionState


def in_ranges(corpus: Corpus, spec: TableSpec, state: VersionState) -> Corpus:
    """The corpus with its large files cut, as the version has them."""
    return replace(corpus, shards=settle_ranges(split(corpus.shards, spec.split_bytes), state))


def settle_ranges(shards: Iterable[Shard], state: VersionState) -> list[Shard]:
    """The shards, with the ranges of a file replaced by the file where they disagree on whose a record is.

    They do where a record's data is itself a TFRecord, and a range took a record of that for its first one; or where a file
    is damaged, which is then told by reading it whole. A file that was once tried whole stays whole. `shards` has the
    ranges of a file one after the other, all of them.
    """
    return [each for _, found in groupby(shards, attrgetter("path")) for each in _settled(list(found), state)]


def _settled(pieces: Sequence[Shard], state: VersionState) -> Iterator[Shard]:
    if not pieces[0].is_range:
        yield from pieces
        return
    file = whole(pieces)
    if state.result(file) is not None or _disagree(pieces, state):
        yield file
    else:
        yield from pieces


def _disagree(pieces: Sequence[Shard], state: VersionState) -> bool:
    results: list[ShardResult] = []
    for piece in pieces:
        result = state.done(piece)
        if result is None:
            # The rest is to be done first.
            return False
        results.append(result)
    return disagreement(results) is not None
