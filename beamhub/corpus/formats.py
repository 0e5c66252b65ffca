"""The formats that a corpus can have: what a format must do, and which there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from beamhub.corpus.files import opened
from beamhub.corpus.parquet import ParquetFormat
from beamhub.corpus.shards import Chunk, Shard
from beamhub.corpus.tfrecord import TFRecordFormat
from beamhub.errors import CorpusError

if TYPE_CHECKING:
    from beamhub.corpus.listing import Corpus

_HEAD = 4096


class CorpusFormat(Protocol):
    """All that a format is. A new one is a class with these members, and an entry in `FORMATS`."""

    @property
    def name(self) -> str:
        """How a corpus, a spec and a message call it."""

    def sniff(self, head: bytes, tail: bytes) -> bool:
        """Is a file of this format, by its first 4096 bytes (fewer if it is shorter) and its last 4?"""

    def schema(self, shards: Sequence[Shard], declared: bytes | None, sample: int) -> pa.Schema:
        """The columns that can be read, by name and Arrow type. See `infer_schema`."""

    def read(self, shard: Shard, schema: pa.Schema, *, records: bool, rows: int, max_bytes: int) -> Iterator[Chunk]:
        """The shard's records in order, in chunks of at most `rows` records and about `max_bytes` bytes.

        `Chunk.columns` has exactly the columns of `schema`, with its types; where the chunks are cut depends
        on the file, the columns and the two limits only. `records` asks for the serialized records. A record
        that cannot be parsed is an `Unread`; a file that cannot be is a CorpusError. An OSError of the file
        system passes, to be tried again.
        """


FORMATS: dict[str, CorpusFormat] = {each.name: each for each in (ParquetFormat(), TFRecordFormat())}


def reader_for(name: str) -> CorpusFormat:
    """The format of that name. Raises CorpusError, naming those there are."""
    if name not in FORMATS:
        raise CorpusError(f"no corpus format {name!r}; there are {', '.join(FORMATS)}")
    return FORMATS[name]


def detect(path: str) -> str:
    """The name of a file's format, by its content. Raises CorpusError when it has none that is known."""
    with opened(path) as file:
        head = file.read(_HEAD)
        file.seek(max(0, file.seek(0, 2) - 4))
        tail = file.read(4)
    for each in FORMATS.values():
        if each.sniff(head, tail):
            return each.name
    raise CorpusError(
        f"{path}: neither TFRecord nor Parquet, or damaged: begins with {head[:12]!r}, ends with {tail!r}; "
        "narrow the glob or write the file again"
    )


def infer_schema(corpus: Corpus, tfmd_schema: bytes | None = None, sample: int = 1000) -> pa.Schema:
    """The columns that the corpus has, by name and Arrow type.

    Parquet: of the first file, with the fields of structs beside them as `a.b`; dictionaries count as what
    they hold. TFRecord: by the first `sample` records, or by a TFMD `schema.pbtxt` (the text of
    `tensorflow_metadata`'s `Schema`); `beamhub.corpus.inference` says how. Raises CorpusError when the files
    or the schema cannot be read.
    """
    return reader_for(corpus.format).schema(corpus.shards, tfmd_schema, sample)
