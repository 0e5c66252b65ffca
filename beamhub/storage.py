"""Bytes on any file system: local paths by the operating system, all with a scheme by Beam's `FileSystems`.

Three guarantees that the rest of beamhub stands on:

* `create` is atomic: a file is seen under its name whole or not at all. Locally a hidden file is written
beside its
  place and renamed; on an object store an upload is atomic and a rename is not, so it goes straight to its
  name.
* `create_exclusive` succeeds for exactly one of several callers.
* `FileInfo.token` changes when a file's content does, as far as the file system can tell.

Beam is imported only when a path has a scheme, so that feature tables on a local disk are read without it.
"""

from __future__ import annotations

import contextlib
import errno
import glob as _glob
import os
import re
import stat
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, cast

_HIDDEN = ".beamhub-"


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as a listing shows it: path, size in bytes, and a token that changes with its content."""

    path: str
    size: int
    token: str


def is_local(path: str) -> bool:
    """True for a path without a scheme (or with `file://`)."""
    return "://" not in path or path.startswith("file://")


def _local(path: str) -> str:
    return path.removeprefix("file://")


def join(base: str, *parts: str) -> str:
    """Joins with '/', which every file system here understands."""
    names = [name for part in parts if (name := part.strip("/"))]
    return "/".join([base.rstrip("/"), *names]) if base else "/".join(names)


def absolute(path: str) -> str:
    """The path as every worker process would name it: local paths made absolute, others unchanged."""
    return os.path.abspath(_local(path)) if is_local(path) else path.rstrip("/")


def _local_info(path: str) -> FileInfo | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return FileInfo(path, status.st_size, f"{status.st_size:x}-{status.st_mtime_ns:x}")


def _beam() -> Any:
    from apache_beam.io.filesystems import FileSystems

    return FileSystems


def _beam_info(metadata: Any) -> FileInfo:
    # Beam's FileMetadata has neither etag nor generation.
    stamp = int(metadata.last_updated_in_seconds * 1e6)
    return FileInfo(metadata.path, metadata.size_in_bytes, f"{metadata.size_in_bytes:x}-{stamp:x}")


def _remote(pattern: str) -> list[Any]:
    from apache_beam.io.filesystem import BeamIOError

    try:
        return [metadata for result in _beam().match([pattern]) for metadata in result.metadata_list]
    except (BeamIOError, ValueError) as error:
        # Beam raises ValueError for a scheme that it does not know.
        raise OSError(f"{pattern} cannot be listed: {error}") from error


def find(pattern: str) -> Iterator[FileInfo]:
    """Files that a glob matches, in no order, for a million of them need not stand in memory at once; `**` crosses
    folders. A file may come several times where there are several `**`.

    Beam has no public way to list part by part, so on its file systems the answer is whole before the first file is given.
    """
    if not is_local(pattern):
        yield from (_beam_info(metadata) for metadata in _remote(pattern))
        return
    for path in _glob.iglob(_local(pattern), recursive=True):
        found = _local_info(path)
        if found is not None:
            yield found


def match(pattern: str) -> list[FileInfo]:
    """Files that a glob matches, each once, sorted by path. Empty when none does."""
    return sorted(set(find(pattern)), key=lambda info: info.path)


def info(path: str) -> FileInfo | None:
    """The file as it is now, or None when there is none."""
    if is_local(path):
        return _local_info(_local(path))
    found = [_beam_info(metadata) for metadata in _remote(path)]
    return next((each for each in found if each.path == path), None)


def escape(path: str) -> str:
    """The path as a pattern that matches it alone."""
    return _glob.escape(path) if is_local(path) else re.sub(r"([*?[])", r"[\1]", path)


def walk(folder: str) -> Iterator[FileInfo]:
    """All files below a folder but unfinished ones, in no order; none when it does not exist."""
    if not is_local(folder):
        yield from (f for f in find(join(escape(folder), "**")) if not f.path.endswith("/"))
        return
    folders = [_local(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir():
                        folders.append(entry.path)
                    elif not entry.name.startswith(_HIDDEN) and (file := _local_info(entry.path)) is not None:
                        yield file
        except (FileNotFoundError, NotADirectoryError):
            continue


def list_files(folder: str) -> list[FileInfo]:
    """`walk`, sorted by path."""
    return sorted(walk(folder), key=lambda each: each.path)


def open_read(path: str) -> BinaryIO:
    """A seekable binary file. Raises FileNotFoundError or another OSError."""
    if is_local(path):
        return open(_local(path), "rb")
    from apache_beam.io.filesystem import BeamIOError, CompressionTypes

    try:
        return cast(BinaryIO, _beam().open(path, compression_type=CompressionTypes.UNCOMPRESSED))
    except BeamIOError as error:
        # Beam says with one exception that a file is not there and that its store is out of reach.
        if info(path) is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path) from error
        raise OSError(str(error)) from error


def read_bytes(path: str) -> bytes:
    """The whole file. Raises FileNotFoundError or another OSError."""
    with open_read(path) as file:
        return file.read()


@contextlib.contextmanager
def create(path: str, *, replace: bool = True) -> Iterator[IO[bytes]]:
    """Writes a file that appears whole when the block ends, and not at all when it raises.

    A file that is already there is replaced, or, with `replace=False`, kept: then FileExistsError is raised
    when the block ends. Missing folders are made.
    """
    if not is_local(path):
        from apache_beam.io.filesystem import CompressionTypes

        # Closing is what uploads: on an error the buffer is dropped, and nothing appears.
        with tempfile.SpooledTemporaryFile(max_size=64 << 20) as buffer:
            yield cast(IO[bytes], buffer)
            buffer.seek(0)
            if not replace and info(path) is not None:
                raise FileExistsError(path)
            target = _beam().create(path, compression_type=CompressionTypes.UNCOMPRESSED)
            while block := buffer.read(8 << 20):
                target.write(block)
            target.close()
        return
    with _beside(_local(path)) as (file, temporary):
        yield file
        _settle(file)
        if replace:
            os.replace(temporary, _local(path))
        else:
            os.link(temporary, _local(path))


def create_exclusive(path: str, data: bytes) -> bool:
    """Writes a file unless there is one; True for exactly one of several callers, whose bytes are there."""
    if not is_local(path):
        if info(path) is not None:
            return False
        with create(path) as remote:
            remote.write(data)
        return True
    with _beside(_local(path)) as (file, temporary):
        file.write(data)
        _settle(file)
        try:
            os.link(temporary, _local(path))
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
    return True


@contextlib.contextmanager
def _beside(path: str) -> Iterator[tuple[IO[bytes], str]]:
    folder, name = os.path.split(path)
    os.makedirs(folder or ".", exist_ok=True)
    # The random part comes last, for DuckDB and Polars would take a name that ends as the finished file's
    # does for data. Not by tempfile, whose files only their owner may read.
    temporary = os.path.join(folder, f"{_HIDDEN}{name[-40:]}-{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            yield file, temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _settle(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def write_bytes(path: str, data: bytes) -> None:
    """`create` for bytes at hand."""
    with create(path) as file:
        file.write(data)


def delete(paths: Iterable[str]) -> None:
    """Deletes files; one that is not there is no error."""
    for path in paths:
        if is_local(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_local(path))
        elif info(path) is not None:
            _beam().delete([path])


def move(source: str, target: str) -> None:
    """Moves a file; no source, but a target, is done already. FileNotFoundError when neither is there."""
    if is_local(source):
        os.makedirs(os.path.dirname(_local(target)) or ".", exist_ok=True)
        try:
            os.replace(_local(source), _local(target))
        except FileNotFoundError:
            if not os.path.isfile(_local(target)):
                raise
        return
    if info(source) is not None:
        _beam().copy([source], [target])
        _beam().delete([source])
    elif info(target) is None:
        raise FileNotFoundError(source)
