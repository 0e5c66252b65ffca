"""JSON documents that are written once: spec and lineage of a version, and which version is current."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from beamhub import storage
from beamhub.errors import TableError


def encode_document(document: Mapping[str, Any]) -> bytes:
    """The document as JSON with sorted keys, so that equal documents are equal bytes."""
    return (json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def write_once(path: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the document unless there is one; returns the one that is there.

    Raises TableError when what is there cannot be read.
    """
    storage.create_exclusive(path, encode_document(document))
    return read_document(path)


def read_document(path: str) -> dict[str, Any]:
    """The document. Raises FileNotFoundError, or TableError when it is not a JSON object."""
    try:
        document = json.loads(storage.read_bytes(path))
    except ValueError as error:
        raise TableError(f"{path}: not a JSON document ({error}); restore it or write the table anew") from error
    if not isinstance(document, dict):
        raise TableError(f"{path}: wanted a JSON object, got {type(document).__name__}; restore it")
    return document
