"""From a handle to a local folder."""

from __future__ import annotations

import functools

from beamhub import storage
from beamhub.modules.archive import is_archive
from beamhub.modules.cache import cached
from beamhub.modules.fetch import fetch_archive, fetch_folder, fetch_http, is_http
from beamhub.modules.folder import check_module


def resolve(handle: str) -> str:
    """The local folder of the module that a handle names.

    A handle is a folder or a `.tar.gz` (`.tgz`), local, over http(s) or on any file system that Beam knows. A
    local folder is used in place. Everything else is fetched to the cache once (`beamhub.modules.cache`) and
    then taken from there, as tensorflow_hub does: a handle on a server is expected to mean the same module
    for ever. A local archive that was written anew is unpacked anew.

    Raises ModuleError: nothing there, not a module, a broken or hostile archive, a server's refusal.
    """
    if is_http(handle):
        return cached(handle, functools.partial(fetch_http, handle))
    if not storage.is_local(handle):
        fetch = fetch_archive if is_archive(handle) else fetch_folder
        return cached(handle, functools.partial(fetch, handle))
    path = storage.absolute(handle)
    archive = storage.info(path) if is_archive(path) else None
    if archive is not None:
        return cached(f"{path}#{archive.token}", functools.partial(fetch_archive, path))
    check_module(path)
    return path
