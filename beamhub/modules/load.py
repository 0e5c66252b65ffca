"""Loading a module, by whichever of TensorFlow's loaders takes it.

Imports TensorFlow. Threads are configured by whoever starts TensorFlow, before this is imported.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import tensorflow as tf

from beamhub.errors import ModuleError
from beamhub.modules import protos
from beamhub.modules.function import FunctionModule
from beamhub.modules.loaded import BoundSignature, Feeding, LoadedModule, Prepare
from beamhub.modules.ragged import Output, Ragged
from beamhub.modules.reason import reason
from beamhub.modules.session import SessionModule
from beamhub.modules.signatures import choose_variant

__all__ = ["BoundSignature", "Feeding", "LoadedModule", "Output", "Prepare", "Ragged", "load_module"]

# What TensorFlow's loaders raise for a module they do not take: there is no common base.
_REFUSALS = (tf.errors.OpError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, OSError)


def load_module(path: str, tags: Sequence[str] | None = None) -> LoadedModule:
    """Loads one variant of the module in a local folder, its variables once.

    `tags` chooses the variant; by default as `ModuleInfo.variant` does. `tf.saved_model.load` takes both
    formats; where it refuses an old SavedModel, a `tf.compat.v1` session runs it. Raises ModuleError where
    neither takes it, the folder is no module, or there is no such variant.
    """
    variant = choose_variant(protos.variants(protos.read_saved_model(path)), tags, path)
    with _quiet():
        try:
            return FunctionModule(path, variant)
        except _REFUSALS as refusal:
            try:
                return SessionModule(path, variant)
            except _REFUSALS as error:
                why = f"{reason(refusal)}; as a TF1 session: {reason(error)}"
                raise ModuleError(f"{path}: TensorFlow {tf.__version__} cannot load it: {why}") from refusal


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # Both loaders warn, line upon line, about what is normal for old modules; what fails is raised. A filter
    # and not the level: of two loads at once, the one that ends last would leave the level that the other had
    # set.
    def errors_only(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    tf.get_logger().addFilter(errors_only)
    try:
        yield
    finally:
        tf.get_logger().removeFilter(errors_only)
