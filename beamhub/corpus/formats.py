"""The formats that a corpus can have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from beamhub.corpus.files import opened
from beamhub.corpus.format import CorpusFormat
from beamhub.corpus.parquet import ParquetFormat
from beamhub.corpus.tfrecord import TFRecordFormat
from beamhub.errors import CorpusError

if TYPE_CHECKING:
    from beamhub.corpus.listing import Corpus

_HEAD = 4096


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
