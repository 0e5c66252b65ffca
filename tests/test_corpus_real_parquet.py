"""Real Parquet files, as pyarrow reads them."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from beamhub.corpus.formats import infer_schema
from beamhub.corpus.listing import list_corpus
from tests.corpora import columns, read
from tests.shared import shared


@pytest.mark.shared
def test_real_taxi_trips() -> None:
    path = shared("data/chicago_taxi/parquet/data.parquet")
    corpus = list_corpus(path)
    expected = pq.read_table(path)

    chunks = read(corpus, infer_schema(corpus), rows=777)

    assert sum(chunk.rows for chunk in chunks) == 10_000
    assert columns(chunks) == expected.to_pydict()
