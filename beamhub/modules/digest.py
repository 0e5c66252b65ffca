"""What tells two modules apart: a digest of the files that decide what they compute."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from beamhub.errors import ModuleError
from beamhub.modules.folder import GRAPHS, HUB_MARK, check_module

_FOLDERS = ("assets", "assets.extra", "variables")
_BLOCK = 1 << 20


def module_digest(path: str) -> str:
    """A digest of the module in a local folder: "sha256:" and 64 hex digits.

    It is the same for a folder and for an archive of it. Hashed are, sorted by name, each file's path below
    the module ('/' between), its size and its content. The files are the graph, the TF1 Hub mark, and all
    below `variables`, `assets` and `assets.extra` (label files are there). `fingerprint.pb` is left out:
    TensorFlow derives it from the others, adds a random id, and computes nothing from it, and model stores
    strip it. So are files that only stand beside a module (README, `keras_metadata.pb`).

    Raises ModuleError where the folder is no module or a file cannot be read.
    """
    check_module(path)
    digest = hashlib.sha256()
    try:
        for relative, file in sorted(_files(path)):
            digest.update(f"{relative}\0{os.path.getsize(file)}\0".encode())
            with open(file, "rb") as opened:
                while block := opened.read(_BLOCK):
                    digest.update(block)
    except OSError as error:
        raise ModuleError(f"{path}: cannot read the module: {error}") from error
    return f"sha256:{digest.hexdigest()}"


def _files(path: str) -> Iterator[tuple[str, str]]:
    for name in (*GRAPHS, HUB_MARK):
        file = os.path.join(path, name)
        if os.path.isfile(file):
            yield name, file
    for name in _FOLDERS:
        yield from _below(os.path.join(path, name), name, ())


def _below(folder: str, relative: str, parents: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if not os.path.isdir(folder):
        return
    # Model stores keep modules as links, so links are followed; one to a parent would never end.
    real = os.path.realpath(folder)
    if real in parents:
        raise ModuleError(f"{folder}: a link to a folder that holds it; a module's folders must end")
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from _below(entry.path, f"{relative}/{entry.name}", (*parents, real))
        else:
            yield f"{relative}/{entry.name}", entry.path
