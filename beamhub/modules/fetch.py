"""Bringing a module from elsewhere to this machine: over http(s), or from any file system that Beam knows."""

from __future__ import annotations

import http.client
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request

from beamhub import storage
from beamhub.errors import ModuleError
from beamhub.modules.archive import is_archive, leaves, unpack
from beamhub.modules.folder import check_module, module_root
from beamhub.modules.reason import reason

_TIMEOUT = 60
"""Seconds without a byte before a server is given up."""


def is_http(handle: str) -> bool:
    """True for an http or https URL."""
    return handle.startswith(("http://", "https://"))


def archive_url(handle: str) -> str:
    """The URL that answers with a module's archive.

    A handle that names no archive is asked for one by the query `tf-hub-format=compressed`, as TF Hub's
    hosting protocol says (www.tensorflow.org/hub/hosting).
    """
    parts = urllib.parse.urlsplit(handle)
    if is_archive(parts.path):
        return handle
    query = [*urllib.parse.parse_qsl(parts.query), ("tf-hub-format", "compressed")]
    return urllib.parse.urlunsplit(parts._replace(query=urllib.parse.urlencode(query)))


def fetch_http(handle: str, temporary: str) -> str:
    """Downloads and unpacks a module below a folder; returns where. Raises ModuleError."""
    url, archive = archive_url(handle), os.path.join(temporary, "archive")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, open(archive, "wb") as file:
            shutil.copyfileobj(response, file, 1 << 20)
    except urllib.error.HTTPError as error:
        raise ModuleError(f"{handle}: the server answered {error.code} {error.reason} for {url}") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise ModuleError(f"{handle}: cannot be downloaded: {getattr(error, 'reason', error)}") from error
    return _unpacked(archive, handle, temporary)


def fetch_archive(handle: str, temporary: str) -> str:
    """Copies and unpacks an archive on any file system below a folder; returns where. Raises ModuleError."""
    archive = os.path.join(temporary, "archive")
    _copy(handle, archive, handle)
    return _unpacked(archive, handle, temporary)


def fetch_folder(handle: str, temporary: str) -> str:
    """Copies a module's folder from a remote file system, file by file; returns where. Raises ModuleError."""
    target = os.path.join(temporary, "module")
    prefix = handle.rstrip("/") + "/"
    try:
        paths = [file.path for file in storage.list_files(handle)]
    except (OSError, ValueError) as error:
        raise ModuleError(f"{handle}: cannot be listed: {reason(error)}") from error
    if not paths:
        raise ModuleError(f"{handle}: no such folder, or an empty one")
    for path in paths:
        relative = path.removeprefix(prefix)
        if leaves(relative):
            raise ModuleError(f"{handle}: file '{relative}' would leave the folder; nothing was copied")
    for path in paths:
        _copy(path, os.path.join(target, path.removeprefix(prefix)), handle)
    check_module(target, handle)
    return target


def _unpacked(archive: str, handle: str, temporary: str) -> str:
    folder = os.path.join(temporary, "module")
    unpack(archive, folder, handle)
    root = module_root(folder)
    check_module(root, handle)
    return root


def _copy(source: str, target: str, handle: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        with storage.open_read(source) as opened, open(target, "wb") as file:
            shutil.copyfileobj(opened, file, 1 << 20)
    except (OSError, ValueError) as error:
        raise ModuleError(f"{handle}: cannot be copied: {source}: {reason(error)}") from error
