"""Where a module may come from: handles that are pinned to a digest, and sources that are trusted.

A module is a program. It is looked at before it is loaded, but who made it is for its user to know.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

from beamhub import storage
from beamhub.errors import ModuleError, UsageError

_PIN = re.compile(r"(?P<handle>.+)@(?P<digest>sha256:.*)", re.DOTALL)
_SECRET = re.compile("sig|token|cred|secret|pass|key", re.IGNORECASE)
"""In the name of a query's parameter."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Source:
    """A handle as a user writes it: "HANDLE" or "HANDLE@sha256:..."; `pin` is the digest, None where it names none."""

    handle: str
    pin: str | None

    @classmethod
    def parse(cls, text: str) -> Source:
        """Raises UsageError for a pin that is no digest, for a part of one could be met by another module on purpose; and for a
        URL with credentials: a table's spec tells its readers the handle."""
        _check_open(text)
        found = _PIN.fullmatch(text)
        if found is None:
            return cls(text, None)
        if not _DIGEST.fullmatch(found["digest"]):
            raise UsageError(
                f"{text}: wanted @sha256: and 64 hex digits, got {found['digest']!r}; beamhub inspect shows a module's digest"
            )
        return cls(found["handle"], found["digest"])

    def check(self, digest: str) -> None:
        """Raises ModuleError where the module that was found is not the one that the handle is pinned to."""
        if self.pin not in (None, digest):
            raise ModuleError(
                f"{self.handle} is {digest}, pinned is {self.pin}: it was changed, or is another module; nothing was loaded"
            )

    def check_trust(self, trusted: Sequence[str] | None) -> None:
        """Raises ModuleError where a module must not be taken from here.

        What is pinned may come from anywhere. Of the others, local paths may be taken, and where sources are named by --trust,
        these alone.
        """
        if self.pin is not None or (trusted is None and storage.is_local(self.handle)):
            return
        if not any(_is_below(self.handle, each) for each in trusted or ()):
            every = ",".join([*(trusted or ()), _source_of(self.handle)])
            raise ModuleError(
                f"{self.handle}: a module is a program, and this is no source that was said to be trusted: give --trust {every}, "
                f"or pin the module, HANDLE@sha256:..., which beamhub inspect shows"
            )


def _check_open(handle: str) -> None:
    if storage.is_local(handle):
        return
    parts = urllib.parse.urlsplit(handle)
    secret = [name for name, _ in urllib.parse.parse_qsl(parts.query) if _SECRET.search(name)]
    if secret or "@" in parts.netloc:
        shown = urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        raise UsageError(
            f"{shown}: given with credentials ({', '.join(secret) or 'before the host'}), which would be written into the table: "
            f"download the module and give the file, or a URL that needs none"
        )


def _is_below(handle: str, source: str) -> bool:
    """Whether a handle lies in a trusted folder, bucket or host, or is what was named."""
    if storage.is_local(handle):
        # Links count by where they lead, for that is what is loaded.
        return storage.is_local(source) and _is_inside(_real(handle), _real(source))
    if "://" not in source:
        # A host; without a certificate it may be anybody's answer.
        return _parts(handle)[:2] == ("https", source)
    here, there = _parts(handle), _parts(source)
    return here[:2] == there[:2] and _is_inside(here[2], there[2])


def _parts(url: str) -> tuple[str, str, str]:
    """Scheme, host or bucket, and path without `..`, which a server or a store may follow."""
    parts = urllib.parse.urlsplit(url)
    path = os.path.normpath(f"/{urllib.parse.unquote(parts.path)}")
    return parts.scheme.lower(), parts.netloc.lower(), path


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _real(path: str) -> str:
    return os.path.realpath(storage.absolute(path))


def _source_of(handle: str) -> str:
    """What to name for handles of the same source: a folder, a bucket or a host."""
    if storage.is_local(handle):
        return os.path.dirname(_real(handle))
    scheme, host, _ = _parts(handle)
    return host if scheme == "https" else f"{scheme}://{host}"
