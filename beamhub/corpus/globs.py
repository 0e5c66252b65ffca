"""Globs: the folder they start at, and which paths they cover."""

from __future__ import annotations

import glob
import re
from fnmatch import fnmatchcase

from beamhub import storage


def has_wildcard(text: str) -> bool:
    """True where the text has `*`, `?` or `[`."""
    return glob.has_magic(text)


def root_of(pattern: str) -> str:
    """The leading folder of a glob, up to its first part with a wildcard; of a path, its folder."""
    parts = pattern.split("/")
    fixed = next((n for n, part in enumerate(parts) if has_wildcard(part)), len(parts) - 1)
    return "/".join(parts[:fixed]) or "/"


def is_hidden(relative: str) -> bool:
    """True where a part of a path begins with '_' or '.': no data, when a whole folder is the corpus."""
    return any(part.startswith(("_", ".")) for part in relative.split("/"))


def covers(pattern: str, path: str) -> bool:
    """Would `storage.match` list this path for this pattern, if the file existed?

    Both are as a corpus has them (`Corpus.pattern`, `Shard.path`). It tells a deleted file from one that lies
    outside a narrower glob. A pattern without wildcards covers itself and, as a folder, what is below it and
    not hidden.
    """
    if path == pattern:
        return True
    if not has_wildcard(pattern):
        below = path.removeprefix(pattern.rstrip("/") + "/")
        return below != path and not is_hidden(below)
    if storage.is_local(pattern):
        return _matches(pattern.split("/"), path.split("/"))
    from apache_beam.io.filesystem import FileSystem

    return re.match(FileSystem.translate_pattern(pattern), path) is not None


def _matches(pattern: list[str], names: list[str]) -> bool:
    # As glob.iglob(recursive=True): a wildcard takes no name with a leading dot unless it is written; '**' is
    # any depth.
    if not pattern:
        return not names
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        deeper = bool(names) and not names[0].startswith(".") and _matches(pattern, names[1:])
        return deeper or _matches(rest, names)
    return bool(names) and _name_matches(first, names[0]) and _matches(rest, names[1:])


def _name_matches(pattern: str, name: str) -> bool:
    if not has_wildcard(pattern):
        return pattern == name
    return fnmatchcase(name, pattern) and (pattern.startswith(".") or not name.startswith("."))
