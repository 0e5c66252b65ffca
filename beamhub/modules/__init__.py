"""Modules: found by a handle, described from their files, loaded and called.

`load_module` is in `beamhub.modules.load`, which imports TensorFlow; nothing here does before it is called.
"""

from beamhub.modules.describe import format_info, info_json
from beamhub.modules.digest import module_digest
from beamhub.modules.inspect import ModuleInfo, inspect_module
from beamhub.modules.resolve import resolve
from beamhub.modules.signatures import Signature, TensorSpec, Variant

__all__ = [
    "ModuleInfo",
    "Signature",
    "TensorSpec",
    "Variant",
    "format_info",
    "info_json",
    "inspect_module",
    "module_digest",
    "resolve",
]
