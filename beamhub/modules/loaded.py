"""A module in memory: loaded once, bound to what is wanted of it, called from any thread.

Imports TensorFlow.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from beamhub.errors import ModuleError
from beamhub.modules.check import Given, check_inputs, check_outputs, dtype_name
from beamhub.modules.precision import FLOAT32
from beamhub.modules.ragged import Output
from beamhub.modules.signatures import Shape, Signature, Variant, choose_signature
from beamhub.modules.traces import Tensors

Prepare = Callable[[Tensors], Tensors]
"""From raw tensors, by column, to a signature's inputs, by name; traced into a graph, without AutoGraph."""


@dataclass(frozen=True)
class Feeding:
    """How raw tensors become a signature's inputs: as they are, or as `prepare` makes them.

    `records` has the shape of one record, without the batch, of raw tensors in which records differ: None for a size that
    does. They are traced once for each number of records, and each size that is None must be open in `prepare` and in the
    signature too: then the module's own graph was saved with the size open, and any call can be traced so.
    """

    prepare: Prepare | None = None
    records: Mapping[str, Shape] = field(default_factory=dict)


FREE: AbstractContextManager[None] = contextlib.nullcontext()
"""Any number of threads compute at a time."""

AS_GIVEN = Feeding()
"""Raw tensors are the inputs, each with its full shape."""


class BoundSignature(ABC):
    """A signature with the outputs that are wanted of it and the preparation that comes before.

    May be called from several threads at once.
    """

    def __init__(self, signature: Signature, outputs: tuple[str, ...], feeding: Feeding) -> None:
        """`outputs` are of the signature, and in the order that calls return them."""
        self.signature = signature
        self.outputs = outputs
        self._feeding = feeding
        self._traces = 0
        self._counting = threading.Lock()

    @property
    def traces(self) -> int:
        """How often TensorFlow has traced: once for each new set of raw dtypes and shapes, sizes that are open left out."""
        return self._traces

    @abstractmethod
    def __call__(
        self, raw: Mapping[str, npt.NDArray[Any]], turn: AbstractContextManager[Any] = FREE
    ) -> dict[str, Output]:
        """Prepares the raw arrays, runs the module, and returns the wanted outputs; only these are computed.

        `turn` is entered while TensorFlow computes, not while arrays become tensors, and tensors arrays.
        Raises ModuleError where the prepared tensors are not what the signature wants, and
        `tf.errors.OpError` or ValueError where TensorFlow fails on the values or shapes.
        """

    @abstractmethod
    def keep(self, sizes: Collection[int]) -> None:
        """Forgets what was traced for calls with other numbers of records than these: of each there may be a copy of all
        constants."""

    @abstractmethod
    def output_shapes(self, raw_specs: Mapping[str, tf.TensorSpec]) -> dict[str, Shape]:
        """The outputs' shapes for raw tensors of these dtypes and shapes, found without a run.

        None for a size that is not known before a run, None alone for an unknown rank.
        """

    def _prepared(self, raw: Tensors) -> Tensors:
        # Runs while TensorFlow traces, so each new set of shapes is checked, and counted, once.
        prepare = self._feeding.prepare
        inputs = dict(raw) if prepare is None else prepare(dict(raw))
        check_inputs(self.signature, {name: _given(tensor) for name, tensor in inputs.items()})
        return inputs

    def _counted(self, raw: Tensors) -> Tensors:
        with self._counting:
            self._traces += 1
        return self._prepared(raw)


class LoadedModule(ABC):
    """One variant of a module with its variables in memory.

    `path` is the module's folder; `variant` what it can be asked for, with shapes as far as the loaded graph
    knows them, which may be further than its files say.
    """

    def __init__(self, path: str, variant: Variant) -> None:
        """`variant` is described as it was loaded."""
        self.path = path
        self.variant = variant
        self._calls: dict[tuple[str, tuple[str, ...]], BoundSignature] = {}
        self._calls_lock = threading.Lock()
        self._frozen: dict[str, Callable[..., Any] | None] = {}

    def signature(self, name: str | None = None) -> Signature:
        """The signature of that name; by default the only one, or 'serving_default', or 'default'."""
        return choose_signature(self.variant, name, self.path)

    def bind(
        self,
        signature: str | None,
        outputs: Sequence[str] | None = None,
        feeding: Feeding = AS_GIVEN,
        frozen: bool = False,
        precision: str = FLOAT32,
    ) -> BoundSignature:
        """A callable that gives the named outputs (all by default), in that order.

        `feeding` makes the signature's inputs of raw tensors, in the same `tf.function` where the module has
        one. `frozen` makes constants of the variables. `precision` is float32, or bf16: what TensorFlow can compute in
        bfloat16 is. Raises ModuleError for an unknown signature or output, for sparse or ragged inputs, and where variables
        cannot be frozen or the processor has no bfloat16; the first call raises it where nothing runs in bfloat16.
        """
        chosen = self.signature(signature)
        wanted = tuple(chosen.outputs if outputs is None else outputs)
        check_outputs(chosen, wanted)
        for spec in chosen.inputs.values():
            if spec.kind != "dense":
                raise ModuleError(f"{self.path}: input '{spec.name}' is {spec}; only dense inputs can be fed")
        return self._bind(chosen, wanted, feeding, frozen, precision)

    def can_freeze(self, signature: str) -> bool:
        """Whether the signature's variables can be made constants. The work of doing so is done, and kept."""
        return False

    def forget_frozen(self, signature: str) -> None:
        """Frees the constants that `can_freeze` made, where it did and nothing that is bound uses them."""
        with self._calls_lock:
            self._frozen.pop(signature, None)

    def call(
        self,
        signature: str | None,
        inputs: Mapping[str, npt.ArrayLike] | npt.ArrayLike,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, Output]:
        """One call, without preparation: named inputs, or the lone input of a signature that has one.

        Returns all outputs, or those named. Raises ModuleError where an input is missing or unknown, or its
        dtype, rank or a size is not what the signature wants.

        >>> module.call("image_feature_vector", {"images": images}, outputs=["default"])
        """
        chosen = self.signature(signature)
        named = inputs if isinstance(inputs, Mapping) else {_lone_input(chosen): inputs}
        raw = {name: np.asarray(value) for name, value in named.items()}
        return self._call_for(chosen.name, tuple(chosen.outputs if outputs is None else outputs))(raw)

    def _call_for(self, signature: str, outputs: tuple[str, ...]) -> BoundSignature:
        with self._calls_lock:
            if (signature, outputs) not in self._calls:
                self._calls[signature, outputs] = self.bind(signature, outputs)
            return self._calls[signature, outputs]

    @abstractmethod
    def _bind(
        self, signature: Signature, outputs: tuple[str, ...], feeding: Feeding, frozen: bool, precision: str
    ) -> BoundSignature:
        """`bind` after its checks."""


def to_tensors(raw: Mapping[str, npt.NDArray[Any] | tf.Tensor]) -> Tensors:
    """Arrays as tensors; text and bytes, also as objects, become strings. Tensors stay as they are."""
    return {name: each if tf.is_tensor(each) else _to_tensor(each) for name, each in raw.items()}


def _to_tensor(array: npt.NDArray[Any]) -> tf.Tensor:
    return tf.convert_to_tensor(array, dtype=tf.string if dtype_name(array) == "string" else None)


def static_shape(shape: tf.TensorShape) -> Shape:
    """TensorFlow's static shape as a tuple; None for an unknown rank."""
    return None if shape.rank is None else tuple(shape.as_list())


def _given(tensor: tf.Tensor) -> Given:
    return Given(tensor.dtype.name, static_shape(tensor.shape))


def _lone_input(signature: Signature) -> str:
    if len(signature.inputs) != 1:
        names = ", ".join(signature.inputs) or "none"
        raise ModuleError(f"signature {signature.name}: give its inputs by name: {names}")
    return next(iter(signature.inputs))
