"""Unpacking an archive that came from elsewhere."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import PurePosixPath

from beamhub.errors import ModuleError
from beamhub.modules.reason import reason

SUFFIXES = (".tar.gz", ".tgz")


def is_archive(path: str) -> bool:
    """True where a path or URL names an archive."""
    return path.endswith(SUFFIXES)


def unpack(archive: str, folder: str, handle: str) -> None:
    """Unpacks a tar file, compressed or not, into a folder.

    Raises ModuleError, which names the member, before anything is written where one would leave the folder,
    and for an archive that is broken or none. `handle` is what errors call the archive.
    """
    try:
        with tarfile.open(archive, mode="r:*") as opened:
            for member in opened.getmembers():
                _check_member(member, handle)
            # The second line of defence, where this Python has it (3.11.4).
            opened.extraction_filter = getattr(tarfile, "data_filter", None)
            opened.extractall(folder)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise ModuleError(f"{handle}: not a .tar.gz that can be unpacked: {reason(error)}") from error


def leaves(name: str) -> bool:
    """True for a relative name that does not stay below the folder it is joined to."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _check_member(member: tarfile.TarInfo, handle: str) -> None:
    if leaves(member.name):
        raise ModuleError(f"{handle}: member '{member.name}' would leave the folder; nothing was unpacked")
    if member.issym() or member.islnk():
        # Any '..' is refused, also one that would stay inside: what it means depends on the links before it.
        if leaves(member.linkname):
            to = f"links to '{member.linkname}', which may leave the folder"
            raise ModuleError(f"{handle}: member '{member.name}' {to}; nothing was unpacked")
    elif not (member.isreg() or member.isdir()):
        raise ModuleError(f"{handle}: member '{member.name}' is a device or pipe; nothing was unpacked")
