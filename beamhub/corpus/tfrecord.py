"""The format TFRecord of `tf.Example`: plain, gzip or zlib."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from beamhub.corpus.decoding import ExampleDecoders
from beamhub.corpus.files import opened
from beamhub.corpus.format import CorpusFormat, FalseStartError, Span, Stretch, Wanted
from beamhub.corpus.framing import DamagedFrameError, FrameReader, Frames, is_framed, write_records
from beamhub.corpus.headers import find_record
from beamhub.corpus.inference import sampled_schema
from beamhub.corpus.inflated import Inflated, inflate_head, is_compressed
from beamhub.corpus.sampling import sampled
from beamhub.corpus.shards import WHOLE, Chunk, Shard
from beamhub.errors import CorpusError

__all__ = ["TFRecordFormat", "write_records"]

_SAMPLED_FILES = 32
_SAMPLED_BYTES = 64 << 20


@dataclass(frozen=True)
class _Examples(Stretch):
    """Serialized records. `density`: bytes of the file for each byte of the uncompressed stream."""

    frames: Frames
    density: float
    shard: Shard
    decoders: ExampleDecoders

    @property
    def rows(self) -> int:
        return len(self.frames.records)

    @property
    def nbytes(self) -> int:
        return self.frames.nbytes

    @property
    def reached(self) -> float:
        return min(1.0, (self.frames.end * self.density - self.shard.start) / max(1, self.shard.size))

    def cut(self, start: int, rows: int) -> _Examples:
        if rows == self.rows:
            return self
        end = start + rows
        return replace(self, frames=Frames(self.frames.records[start:end], self.frames.offsets[start:end]))

    def join(self, others: Sequence[_Examples]) -> _Examples:
        every = [self.frames, *(each.frames for each in others)]
        records = list(itertools.chain.from_iterable(each.records for each in every))
        frames = Frames(records, np.concatenate([each.offsets for each in every]))
        return replace(self, frames=frames, density=others[-1].density if others else self.density)

    def decode(self) -> Chunk:
        return self.decoders.decode(self.frames)


class TFRecordFormat(CorpusFormat):
    """TFRecord files as a corpus. See `beamhub.corpus.format.CorpusFormat` for what each member does."""

    name = "tfrecord"

    def sniff(self, head: bytes, tail: bytes) -> bool:
        """An empty file, a frame's header with its checksum, or a compressed stream of such."""
        if is_compressed(head) and not is_framed(head):
            inflated = inflate_head(head)
            return inflated is not None and is_framed(inflated)
        return is_framed(head)

    def schema(self, shards: Sequence[Shard], declared: bytes | None, sample: int) -> pa.Schema:
        """Looks into 32 files at most and stops after 64 MiB, however few records that is."""
        return sampled_schema(_first_records(shards, sample), declared)

    def _stretches(self, shard: Shard, schema: pa.Schema, wanted: Wanted) -> Generator[Stretch, None, Span | None]:
        """The serialized records come with every chunk, asked for or not, since they are in memory anyway.

        A range owns the records whose frames begin in it; of a compressed file the first range owns all.
        """
        decoders = ExampleDecoders(schema, wanted.tensors)
        with _frames(shard, wanted.behind) as reader:
            if reader is None:
                return None
            begins = reader.offset
            with _noticing_false_starts(shard):
                while frames := reader.take(wanted.rows, wanted.max_bytes):
                    yield _Examples(frames, _density(reader), shard, decoders)
                    # Not held while the next are read: it may be one large record.
                    del frames
            return None if reader.stop is None else (begins, reader.offset)


def _density(reader: FrameReader) -> float:
    return reader.stream.density if isinstance(reader.stream, Inflated) else 1.0


@contextmanager
def _frames(shard: Shard, behind: int | None = None) -> Iterator[FrameReader | None]:
    """A reader at the first record of the shard; None where none begins in it."""
    path = shard.path
    with opened(path) as file:
        head = file.read(4096)
        file.seek(0)
        # Frames first: the first record's length may look like a gzip header.
        if is_framed(head):
            yield _reader_in(file, shard, behind) if shard.is_range else FrameReader(file, path)
        elif is_compressed(head):
            yield FrameReader(Inflated(file, path), path) if shard.start == 0 else None
        else:
            raise CorpusError(
                f"{path}: not TFRecord, or damaged: it begins with {head[:12]!r}; "
                "write the file again or leave it out of the corpus"
            )


def _reader_in(file: BinaryIO, shard: Shard, behind: int | None) -> FrameReader | None:
    size = file.seek(0, 2)
    stop = size if shard.end == WHOLE else shard.end
    start: int | None = 0
    if shard.start:
        start = find_record(file, shard.start if behind is None else behind + 1, stop, size)
    if start is None:
        # Of the last range, which nothing follows, it is told where the one before has to end.
        if shard.end != WHOLE:
            return None
        start = size
    file.seek(start)
    return FrameReader(file, shard.path, start, stop)


@contextmanager
def _noticing_false_starts(shard: Shard) -> Iterator[None]:
    try:
        yield
    except DamagedFrameError as error:
        # The first range begins where the file does: there it is damage.
        if shard.start == 0:
            raise
        raise FalseStartError(error.offset) from error


def _first_records(shards: Sequence[Shard], count: int) -> list[bytes]:
    def frames(shard: Shard) -> Iterator[bytes]:
        with _frames(shard) as reader:
            while reader and (some := reader.take(count, _SAMPLED_BYTES)):
                yield from some.records

    filled = itertools.islice((shard for shard in shards if shard.size), _SAMPLED_FILES)
    records: list[bytes] = []
    held = 0
    for record in sampled(filled, frames):
        records.append(record)
        held += len(record)
        if len(records) == count or held >= _SAMPLED_BYTES:
            break
    return records
