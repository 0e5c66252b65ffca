"""classify: the top k labels of each record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beamhub.errors import ModuleError, RecordError
from beamhub.modules.signatures import Signature
from beamhub.spec import ClassifyJob
from beamhub.tasks.base import Outputs, OutputShape, Task, dense, list_offsets, require_output, texts
from beamhub.tasks.labels import read_labels

_PREFERRED = ("probabilities", "scores", "logits", "default", "predictions")


@dataclass(frozen=True)
class Classify(Task):
    """Columns `labels` (list of string), `scores` (list of float32) and `classes` (list of int32), best first.

    Scores are probabilities: `output` itself, or its softmax where `logits`. Of equal scores the lower class comes first.
    Labels come from the label file, else from the module's own output of strings `label_output`, else are the class ids.
    """

    kind: ClassVar[str] = "classify"

    output: str
    top_k: int
    scores: str = "auto"
    size: int | None = None
    label_output: str | None = None
    names: dict[str, str] | None = None

    @classmethod
    def of(cls, job: ClassifyJob, signature: Signature) -> Classify:
        """The task for a signature. Raises ModuleError when the output cannot be told, InputError for a label file."""
        output = require_output(signature, job.output, _PREFERRED, cls.kind)
        names = None if job.label_file is None else {str(k): v for k, v in read_labels(job.label_file).items()}
        own = signature.outputs.get("classes")
        same = own is not None and own.dtype == "string" and own.shape == signature.outputs[output].shape
        return cls(output, job.top_k, job.scores, None, "classes" if same and names is None else None, names)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The outputs that must be computed."""
        return (self.output,) if self.label_output is None else (self.output, self.label_output)

    def settle(self, shapes: Mapping[str, OutputShape]) -> Classify:
        """Tells logits from probabilities. Raises ModuleError where the output is no vector of scores, or labels lack."""
        found = shapes[self.output]
        sample = found.sample
        if not isinstance(sample, np.ndarray) or sample.ndim != 2 or "float" not in found.dtype:
            raise ModuleError(
                f"output {found.name} is {found.kind} {found.dtype} {list(found.shape)} for each record; "
                f"classify wants a vector of floats: name another with --output"
            )
        classes = sample.shape[1]
        if self.names is not None:
            _check_names(found.name, classes, set(map(int, self.names)))
        scores = self.scores if self.scores != "auto" else _seen(found.name, sample)
        return replace(self, scores=scores, size=classes, top_k=min(self.top_k, classes))

    def fields(self) -> dict[str, tuple[pa.DataType, tuple[str, ...]]]:
        """The columns `labels`, `scores` and `classes`."""
        return {
            "labels": (pa.list_(pa.string()), self.wanted),
            "scores": (pa.list_(pa.float32()), (self.output,)),
            "classes": (pa.list_(pa.int32()), (self.output,)),
        }

    def encode(self, outputs: Outputs) -> list[pa.Array]:
        """The columns. Raises RecordError for another number of classes, or a label of the module that is not UTF-8."""
        values = np.asarray(dense(outputs, self.output), np.float32)
        if values.shape[1:] != (self.size,):
            raise RecordError("encode", f"output {self.output} has {values.shape[1]} classes, the table {self.size}")
        values = softmax(values) if self.scores == "logits" else values
        best = np.argsort(-values, axis=1, kind="stable")[:, : self.top_k]
        offsets = list_offsets(np.full(len(best), best.shape[1], np.int64))
        return [
            pa.ListArray.from_arrays(offsets, self._labels(outputs, best)),
            pa.ListArray.from_arrays(offsets, pa.array(np.take_along_axis(values, best, axis=1).ravel())),
            pa.ListArray.from_arrays(offsets, pa.array(best.ravel().astype(np.int32))),
        ]

    def _labels(self, outputs: Outputs, best: npt.NDArray[np.int64]) -> pa.Array:
        if self.label_output is not None:
            return texts(np.take_along_axis(dense(outputs, self.label_output), best, axis=1))
        if self.names is None:
            return pa.array(best.ravel()).cast(pa.string())
        names = pa.array(
            [self.names[str(index)] for index in range(max(map(int, self.names)) + 1) if str(index) in self.names]
        )
        return names.take(pa.array(best.ravel()))

    def to_json(self) -> dict[str, Any]:
        """The task as JSON values."""
        return asdict(self)


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """exp(x) / sum(exp(x)) over the last axis, shifted by the maximum so that nothing overflows."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: npt.NDArray[np.float32] = powers / powers.sum(axis=-1, keepdims=True)
    return result


def _check_names(output: str, classes: int, named: set[int]) -> None:
    absent = set(range(classes)) - named
    # A list that goes on beyond the last class is one for another module, or has a background class that this one lacks;
    # ids given one by one may leave gaps, and name more.
    if absent or (len(named) > classes and named == set(range(len(named)))):
        raise ModuleError(
            f"output {output} has {classes} classes, the label file names {len(named)}"
            f"{f', not class {min(absent)}' if absent else ''}: give a label for each class"
        )


def _seen(name: str, sample: npt.NDArray[Any]) -> str:
    """Logits or probabilities, by the output's name, else by whether the first values lie in [0,1]."""
    if "logit" in name.lower():
        return "logits"
    if "prob" in name.lower() or "softmax" in name.lower():
        return "probabilities"
    if sample.min(initial=0) >= 0 and sample.max(initial=0) <= 1:
        return "probabilities"
    if sample.shape[1] == 1:
        raise ModuleError(f"output {name} has one class with values outside [0,1]: say what it holds with --scores")
    return "logits"
