"""The format TFRecord of `tf.Example`: plain, gzip or zlib."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from beamhub.corpus import framing
from beamhub.corpus.decoding import ExampleDecoder
from beamhub.corpus.files import opened
from beamhub.corpus.framing import FrameReader, Inflated, write_records
from beamhub.corpus.inference import sampled_schema
from beamhub.corpus.shards import WHOLE, Chunk, Shard
from beamhub.errors import CorpusError

__all__ = ["TFRecordFormat", "write_records"]

_SAMPLED_FILES = 32
_SAMPLED_BYTES = 64 << 20


class TFRecordFormat:
    """TFRecord files as a corpus. See `beamhub.corpus.formats.CorpusFormat` for what each member does."""

    name = "tfrecord"

    def sniff(self, head: bytes, tail: bytes) -> bool:
        """An empty file, a frame's header with its checksum, or a compressed stream of such."""
        if framing.is_compressed(head) and not framing.is_framed(head):
            inflated = framing.inflate_head(head)
            return inflated is not None and framing.is_framed(inflated)
        return framing.is_framed(head)

    def schema(self, shards: Sequence[Shard], declared: bytes | None, sample: int) -> pa.Schema:
        """Looks into 32 files at most and stops after 64 MiB, however few records that is."""
        return sampled_schema(_first_records(shards, sample), declared)

    def read(self, shard: Shard, schema: pa.Schema, *, records: bool, rows: int, max_bytes: int) -> Iterator[Chunk]:
        """The serialized records come with every chunk, asked for or not, since they are in memory anyway."""
        if (shard.start, shard.end) != (0, WHOLE):
            raise CorpusError(f"{shard.path}: a TFRecord file is read whole, not as a range of bytes")
        decoder = ExampleDecoder(schema)
        with _frames(shard.path) as reader:
            while frames := reader.take(rows, max_bytes):
                yield decoder.decode(frames)


@contextmanager
def _frames(path: str) -> Iterator[FrameReader]:
    with opened(path) as file:
        head = file.read(4096)
        file.seek(0)
        # Frames first: the first record's length may look like a gzip header.
        if framing.is_framed(head):
            yield FrameReader(file, path)
        elif framing.is_compressed(head):
            yield FrameReader(Inflated(file, path), path)
        else:
            raise CorpusError(
                f"{path}: not TFRecord, or damaged: it begins with {head[:12]!r}; "
                "write the file again or leave it out of the corpus"
            )


def _first_records(shards: Sequence[Shard], count: int) -> list[bytes]:
    records: list[bytes] = []
    room = _SAMPLED_BYTES
    for shard in [shard for shard in shards if shard.size][:_SAMPLED_FILES]:
        with _frames(shard.path) as reader:
            while len(records) < count and room > 0 and (frames := reader.take(count - len(records), room)):
                records += frames.records
                room -= sum(map(len, frames.records))
        if len(records) >= count or room <= 0:
            break
    return records
