"""Unpacking an archive that came from elsewhere."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import PurePosixPath

from beamhub.errors import ModuleError
from beamhub.modules.reason import reason

SUFFIXES = (".tar.gz", ".tgz")

MOST_BYTES, MOST_MEMBERS = 32 << 30, 100_000
"""What an archive may unpack to: published modules have some thousand files at most and some GB, and 32 MiB of gzip can
hold 32 GiB of zeros."""


def is_archive(path: str) -> bool:
    """True where a path or URL names an archive."""
    return path.endswith(SUFFIXES)


def unpack(archive: str, folder: str, handle: str) -> None:
    """Unpacks a tar file, compressed or not, into a folder.

    Raises ModuleError, which names the member, before anything is written where one would leave the folder,
    and for an archive that is broken or none, or that would unpack to more than `MOST_BYTES` or `MOST_MEMBERS`. `handle` is what
    errors call the archive.
    """
    try:
        with tarfile.open(archive, mode="r:*") as opened:
            held = 0
            # By turns: the next member's name is behind this one's data, which is not read before it is known how much it is.
            for count, member in enumerate(opened, 1):
                _check_member(member, handle)
                held += member.size
                if held > MOST_BYTES or count > MOST_MEMBERS:
                    raise ModuleError(
                        f"{handle}: unpacks to more than {MOST_BYTES >> 30} GiB or {MOST_MEMBERS:,} files; nothing was unpacked: "
                        f"if it is what it should be, unpack it and give the folder"
                    )
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
