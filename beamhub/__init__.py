"""beamhub: TensorFlow Hub modules and SavedModels over large corpora, into feature tables.

`open(OUT)` reads a feature table. Everything else is imported from its own module; `import beamhub` loads neither Beam nor
TensorFlow.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from beamhub.features.table import FeatureTable

__all__ = ["__version__", "open"]

__version__ = metadata.version("beamhub")


def open(out: str, version: str | None = None) -> FeatureTable:
    """The feature table in a folder: its current version, or the one named.

    >>> table = beamhub.open("features")
    >>> vectors = table.to_numpy("embedding")

    Raises:
        TableError: there is no such table or version, or nothing was committed yet.
    """
    from beamhub.features.table import open as open_table

    return open_table(out, version)
