"""The first of a corpus, whichever of its files are damaged: each of these fails its own shard, and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from beamhub.corpus.shards import Shard
from beamhub.errors import CorpusError

Sampled = TypeVar("Sampled")

MOST_DAMAGED = 8
"""Files that are looked into in vain."""


def sampled(shards: Iterable[Shard], read: Callable[[Shard], Iterable[Sampled]]) -> Iterator[Sampled]:
    """What is read of the files, one after the other; what cannot be read is left out, from where it is damaged.

    Raises:
        CorpusError: of the first file, where nothing could be read of any, or of so many that others are hardly better.
    """
    errors: list[CorpusError] = []
    is_empty = True
    for shard in shards:
        try:
            for each in read(shard):
                is_empty = False
                yield each
        except CorpusError as error:
            errors.append(error)
            if len(errors) == MOST_DAMAGED:
                break
    if errors and is_empty:
        raise errors[0]
