"""Checks of a call against a signature: TensorFlow takes a wrong size, and casts, without a word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub.errors import ModuleError
from beamhub.modules.signatures import Shape, Signature, TensorSpec, describe_tensor, fits, unknown

RawInputs = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class Given:
    """What is given for an input: TensorFlow's name of its dtype, and its shape as far as it is known."""

    dtype: str
    shape: Shape


def check_call(signature: Signature, raw: RawInputs) -> None:
    """Raises ModuleError, naming the input, unless all are there, of the right dtype, rank and sizes."""
    check_inputs(signature, {name: Given(dtype_name(array), array.shape) for name, array in raw.items()})


def check_inputs(signature: Signature, given: Mapping[str, Given]) -> None:
    """`check_call` for tensors of which only the type is known."""
    where = f"signature {signature.name}"
    for name in given:
        if name not in signature.inputs:
            raise unknown(where, "input", name, signature.inputs)
    for name, spec in signature.inputs.items():
        if name not in given:
            got = ", ".join(sorted(given)) or "none"
            raise ModuleError(f"{where}: input '{name}' ({spec}) is missing; given: {got}")
        _check_tensor(where, spec, given[name])


def check_outputs(signature: Signature, outputs: Iterable[str]) -> None:
    """Raises ModuleError, naming the nearest, for an output that the signature lacks."""
    for name in outputs:
        if name not in signature.outputs:
            raise unknown(f"signature {signature.name}", "output", name, signature.outputs)


def dtype_name(array: np.ndarray[Any, Any]) -> str:
    """TensorFlow's name for an array's dtype: "string" for bytes and text, also as objects."""
    if array.dtype.kind in "SU":
        return "string"
    if array.dtype.kind == "O":
        # Objects may be anything, but an array of them comes from one column: the first tells.
        texts = array.size == 0 or isinstance(array.flat[0], (bytes, str))
        return "string" if texts else type(array.flat[0]).__name__
    return str(array.dtype.name)


def _check_tensor(where: str, spec: TensorSpec, given: Given) -> None:
    if given.dtype == spec.dtype and (given.shape is None or fits(given.shape, spec.shape)):
        return
    got = describe_tensor(given.dtype, given.shape)
    mend = "cast it" if given.dtype != spec.dtype else "resize or reshape it"
    raise ModuleError(f"{where}: input '{spec.name}' wants {spec}, got {got}; {mend} first")
