"""What a kind of task is: the outputs it needs, and the columns it makes of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beamhub.errors import ModuleError, RecordError
from beamhub.modules.ragged import Output, Ragged
from beamhub.modules.signatures import Signature, unknown

Outputs = dict[str, Output]


@dataclass(frozen=True)
class OutputShape:
    """What is known of an output before the first shard.

    `shape` is that of one record, None for a size that varies from record to record; `sample` the values of the first
    records of the corpus.
    """

    name: str
    dtype: str
    kind: str
    shape: tuple[int | None, ...]
    sample: Output


class Task(ABC):
    """A kind of task, for one signature and its options.

    A task is made from the signature, told what its outputs look like (`settle`), written into the version as JSON, and
    used by every worker. `encode` is pure, and called by several threads.
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def wanted(self) -> tuple[str, ...]:
        """The outputs that must be computed."""

    @abstractmethod
    def settle(self, shapes: Mapping[str, OutputShape]) -> Task:
        """The task with everything decided that the outputs decide. Raises ModuleError where they do not suit it."""

    @abstractmethod
    def fields(self) -> dict[str, tuple[pa.DataType, tuple[str, ...]]]:
        """The columns, each with its Arrow type and the outputs that it is made of."""

    @abstractmethod
    def encode(self, outputs: Outputs) -> list[pa.Array]:
        """The columns of a batch, in the order of `fields`. Raises RecordError where a record's values cannot be kept."""

    def decisions(self) -> dict[str, Any]:
        """What of `to_json` decides the rows; the version is a hash of it, and of the columns' names and types."""
        return self.to_json()

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The task as JSON values, from which `beamhub.tasks.from_json` makes it again."""


def require_output(signature: Signature, name: str | None, preferred: Sequence[str], task: str) -> str:
    """The output to use: the one named, the only one, or the first of `preferred` that there is.

    Raises:
        ModuleError: no such output, or several and none is preferred.
    """
    outputs = signature.outputs
    if name is not None:
        return known_output(signature, name)
    if len(outputs) == 1:
        return next(iter(outputs))
    for each in preferred:
        if each in outputs:
            return each
    raise ModuleError(
        f"signature {signature.name} has the outputs {', '.join(outputs)}; {task} keeps one: give --output NAME"
    )


def known_output(signature: Signature, name: str) -> str:
    """The name, if the signature has such an output. Raises ModuleError otherwise."""
    if name not in signature.outputs:
        raise unknown(f"signature {signature.name}", "output", name, signature.outputs)
    return name


def dense(outputs: Outputs, name: str) -> npt.NDArray[Any]:
    """An output as an array [n, ...]. Raises RecordError for a ragged one."""
    value = outputs[name]
    if isinstance(value, Ragged):
        raise RecordError("encode", f"output {name} is ragged")
    return value


def texts(values: npt.NDArray[Any]) -> pa.Array:
    """UTF-8 strings from an array of bytes. Raises RecordError on bytes that are not UTF-8."""
    try:
        return pa.array(values.ravel(), pa.binary()).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise RecordError("encode", f"text that is not UTF-8 ({error})") from error


def is_text(values: npt.NDArray[Any]) -> bool:
    """True where all byte strings are UTF-8."""
    try:
        texts(values)
    except RecordError:
        return False
    return True


def list_offsets(lengths: npt.NDArray[np.int64]) -> pa.Array:
    """Arrow list offsets (int32) of rows with these lengths."""
    return pa.array(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32))
