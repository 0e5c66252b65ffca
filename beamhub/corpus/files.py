"""How a file of the corpus is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from beamhub import storage
from beamhub.errors import CorpusError


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """A seekable binary file, closed at the end.

    Raises CorpusError when it is not there or may not be read; other errors of the file system, which may
    pass, as they are.
    """
    try:
        file = storage.open_read(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise CorpusError(f"{path}: there is no such file any more; list the corpus again") from error
    except PermissionError as error:
        raise CorpusError(f"{path}: may not be read; give this user the right to read it") from error
    with file:
        yield file
