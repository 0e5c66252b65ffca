"""Large files in ranges, so that one giant file keeps every worker busy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from beamhub.corpus.shards import WHOLE, Shard

SPLIT_BYTES = 256 << 20
"""A range has about so many bytes, where nobody says: tens of seconds of work, and few files for a table."""


def split(files: Iterable[Shard], size: int) -> list[Shard]:
    """Cuts each file into equal ranges of about `size` bytes; 0 leaves them whole.

    It takes no look into the files: whose each record is, is found when they are read. A file has the same ranges as long
    as it has the same size.
    """
    return [piece for file in files for piece in (_pieces(file, size) if size else (file,))]


def _pieces(file: Shard, size: int) -> Sequence[Shard]:
    count = round(file.size / size)
    if count < 2:
        return (file,)
    bounds = [file.size * n // count for n in range(count)]
    ends = [*bounds[1:], WHOLE]
    return [
        replace(file, start=start, end=end, size=(file.size if end == WHOLE else end) - start)
        for start, end in zip(bounds, ends, strict=True)
    ]


def whole(pieces: Sequence[Shard]) -> Shard:
    """The file that these ranges are all of."""
    return replace(pieces[0], start=0, end=WHOLE, size=sum(piece.size for piece in pieces))
