"""The bytes by which a dead letter keeps a record."""

from __future__ import annotations

import pyarrow as pa

from beamhub.corpus.shards import Chunk


def payload(chunk: Chunk, row: int) -> bytes:
    """A record as a dead letter keeps it: serialized as in the file (TFRecord), or by `row_payload`."""
    if chunk.records is not None:
        return chunk.records[row]
    return row_payload(chunk.columns, row)


def row_payload(columns: pa.RecordBatch, row: int) -> bytes:
    """One row as an Arrow IPC stream; `pyarrow.ipc.open_stream(payload).read_all()` gives it back."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, columns.schema) as writer:
        writer.write_batch(columns.slice(row, 1))
    return bytes(sink.getvalue())
