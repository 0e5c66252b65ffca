"""The cache of fetched modules, laid out as tensorflow_hub's.

`<cache>/<sha1 of the handle>/` is the module, `<sha1>.descriptor.txt` beside it says where it came from. A
module appears under its name whole or not at all, by a rename. The cache is `TFHUB_CACHE_DIR`, or
`tfhub_modules` in the temporary folder.
"""

from __future__ import annotations

import contextlib
import datetime
import glob
import hashlib
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable

import filelock

from beamhub.errors import ModuleError
from beamhub.modules.reason import reason

Fetch = Callable[[str], str]
"""Writes a module somewhere below the folder it is given, and returns where."""


def cache_folder() -> str:
    """Where fetched modules are kept."""
    given = os.environ.get("TFHUB_CACHE_DIR", "")
    if "://" in given:
        raise ModuleError(f"TFHUB_CACHE_DIR={given}: modules are fetched to a local folder; give one")
    return os.path.abspath(given) if given else os.path.join(tempfile.gettempdir(), "tfhub_modules")


def cached(handle: str, fetch: Fetch) -> str:
    """The folder of a handle's module in the cache, fetched where it is not there.

    Of several processes one calls `fetch`, the others wait for it. Raises ModuleError where the cache cannot
    be written, and what `fetch` raises; nothing is kept then.
    """
    target = os.path.join(cache_folder(), hashlib.sha1(handle.encode()).hexdigest())
    if os.path.isdir(target):
        return target
    try:
        os.makedirs(cache_folder(), exist_ok=True)
        # flock, and so let go by the kernel when its holder dies. Not tensorflow_hub's `.lock`, whose mere
        # existence would make that library wait.
        with filelock.FileLock(f"{target}.beamhub-lock"):
            if not os.path.isdir(target):
                _remove_abandoned(target)
                _fill(target, handle, fetch)
    except OSError as error:
        raise ModuleError(
            f"{handle}: cannot be kept in {cache_folder()}: {reason(error)}; set TFHUB_CACHE_DIR"
        ) from error
    return target


def _fill(target: str, handle: str, fetch: Fetch) -> None:
    temporary = f"{target}.beamhub-{uuid.uuid4().hex}.tmp"
    os.mkdir(temporary)
    try:
        module = fetch(temporary)
        with open(f"{target}.descriptor.txt", "w", encoding="utf-8") as descriptor:
            descriptor.write(_descriptor(handle))
        os.rename(module, target)
    except OSError:
        # tensorflow_hub, which knows another lock, may have been faster.
        if not os.path.isdir(target):
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_abandoned(target: str) -> None:
    # Whoever wrote them held the lock that is held now, so they are dead.
    for folder in glob.glob(f"{glob.escape(target)}.beamhub-*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


def _descriptor(handle: str) -> str:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    who = f"{socket.gethostname()} (PID:{os.getpid()})"
    return f"Module: {handle}\nDownload Time: {now}\nDownloader Hostname: {who}\n"
