"""The folder that a module lives in: what makes it one."""

from __future__ import annotations

import os

from beamhub.errors import ModuleError

GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
"""The file that every module has: the `SavedModel` protocol buffer, binary or text."""

HUB_MARK = "tfhub_module.pb"
"""The file that tells the TF1 Hub format from a SavedModel."""

_SHOWN = 5
_GIVE = "give a module's folder, a .tar.gz of one, or a URL of either"


def is_module(folder: str) -> bool:
    """True where the folder holds a module's graph."""
    return any(os.path.isfile(os.path.join(folder, name)) for name in GRAPHS)


def is_tf1_hub(folder: str) -> bool:
    """True where the module is in the TF1 Hub format, False for a SavedModel."""
    return os.path.isfile(os.path.join(folder, HUB_MARK))


def check_module(folder: str, handle: str | None = None) -> None:
    """Raises ModuleError, naming what is there instead, where a folder is no module.

    `handle` is what the user gave, where that is not the folder itself.
    """
    where = handle or folder
    if not os.path.exists(folder):
        raise ModuleError(f"{where}: no such folder; {_GIVE}")
    if not os.path.isdir(folder):
        raise ModuleError(f"{where}: a file, not a module; {_GIVE}")
    if not is_module(folder):
        missing = " nor ".join(GRAPHS)
        raise ModuleError(f"{where}: not a module: neither {missing} there, but {_contents(folder)}; {_GIVE}")


def module_root(folder: str) -> str:
    """The module in an unpacked archive: the folder, or the one folder in it when only that is a module."""
    if is_module(folder):
        return folder
    inner = [entry.path for entry in os.scandir(folder) if entry.is_dir()]
    return inner[0] if len(inner) == 1 and is_module(inner[0]) else folder


def _contents(folder: str) -> str:
    names = sorted(os.listdir(folder))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) if names else "nothing"
