"""detect: the objects in each image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beamhub.errors import ModuleError
from beamhub.modules.signatures import Signature
from beamhub.spec import DetectJob
from beamhub.tasks.base import Outputs, OutputShape, Task, dense, list_offsets, texts
from beamhub.tasks.labels import read_labels

# Names that detectors on TF Hub and of the TensorFlow Object Detection API use.
_BOXES = ("detection_boxes", "boxes")
_SCORES = ("detection_scores", "scores")
_CLASSES = ("detection_classes", "detection_class_labels", "classes")
_NAMES = ("detection_class_entities", "detection_class_names")
_COUNT = ("num_detections",)


@dataclass(frozen=True)
class Detect(Task):
    """Columns `boxes` (list of [ymin,xmin,ymax,xmax], float32), `scores`, `classes` (int32) and `names`, best first.

    Boxes are as the module gives them (most give shares of the image's height and width). Takes batched detectors
    (`num_detections`, a batch dimension) and unbatched ones (one image a call, no batch dimension in the outputs).
    """

    kind: ClassVar[str] = "detect"

    boxes: str
    scores: str
    classes: str
    name_output: str | None
    count: str | None
    threshold: float
    max_detections: int
    names: dict[str, str] | None = None

    @classmethod
    def of(cls, job: DetectJob, signature: Signature) -> Detect:
        """The task for a signature. Raises ModuleError where it has no boxes, scores or classes, InputError for a label file."""
        names = None if job.label_file is None else {str(k): v for k, v in read_labels(job.label_file).items()}
        own = None if names is not None else _find(signature, _NAMES)
        return cls(
            _must(signature, _BOXES),
            _must(signature, _SCORES),
            _must(signature, _CLASSES),
            own,
            _find(signature, _COUNT),
            job.threshold,
            job.max_detections,
            names,
        )

    @property
    def wanted(self) -> tuple[str, ...]:
        """The outputs that must be computed."""
        chosen = (self.boxes, self.scores, self.classes, self.name_output, self.count)
        return tuple(name for name in chosen if name is not None)

    def settle(self, shapes: Mapping[str, OutputShape]) -> Detect:
        """Raises ModuleError where the boxes have not four numbers."""
        sample = shapes[self.boxes].sample
        if not isinstance(sample, np.ndarray) or sample.ndim not in (2, 3) or sample.shape[-1] != 4:
            raise ModuleError(
                f"output {self.boxes} is {list(shapes[self.boxes].shape)} for each record; detect wants [n,4]"
            )
        return self

    def fields(self) -> dict[str, tuple[pa.DataType, tuple[str, ...]]]:
        """The columns `boxes`, `scores`, `classes` and `names`."""
        return {
            "boxes": (pa.list_(pa.list_(pa.float32())), (self.boxes, self.scores)),
            "scores": (pa.list_(pa.float32()), (self.scores,)),
            "classes": (pa.list_(pa.int32()), (self.classes, self.scores)),
            "names": (pa.list_(pa.string()), (self.name_output or self.classes, self.scores)),
        }

    def encode(self, outputs: Outputs) -> list[pa.Array]:
        """The columns. Raises RecordError for a name that is not UTF-8."""
        values = {name: dense(outputs, name) for name in self.wanted}
        if values[self.boxes].ndim == 2:
            values = {name: value[np.newaxis] for name, value in values.items()}
        boxes = np.asarray(values[self.boxes], np.float32)
        scores = np.asarray(values[self.scores], np.float32)
        counts = None if self.count is None else values[self.count].reshape(len(boxes))
        chosen = [self._chosen(row, None if counts is None else int(counts[i])) for i, row in enumerate(scores)]
        lengths = np.array([len(each) for each in chosen], np.int64)
        records = np.repeat(np.arange(len(boxes)), lengths)
        places = np.concatenate(chosen) if chosen else np.empty(0, np.int64)
        offsets = list_offsets(lengths)
        classes = values[self.classes].reshape(scores.shape)[records, places]
        corners = pa.ListArray.from_arrays(
            list_offsets(np.full(len(places), 4, np.int64)), pa.array(boxes[records, places].ravel())
        )
        return [
            pa.ListArray.from_arrays(offsets, corners),
            pa.ListArray.from_arrays(offsets, pa.array(scores[records, places])),
            pa.ListArray.from_arrays(offsets, pa.array(classes.astype(np.int32))),
            pa.ListArray.from_arrays(offsets, self._named(values, classes, records, places)),
        ]

    def _chosen(self, scores: npt.NDArray[np.float32], count: int | None) -> npt.NDArray[np.int64]:
        best = np.argsort(-scores[:count], kind="stable")
        return best[scores[best] >= np.float32(self.threshold)][: self.max_detections]

    def _named(
        self,
        values: Mapping[str, npt.NDArray[Any]],
        classes: npt.NDArray[Any],
        records: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64],
    ) -> pa.Array:
        if self.name_output is not None:
            return texts(values[self.name_output].reshape(values[self.scores].shape)[records, places])
        ids = [str(int(each)) for each in classes]
        # A detector may give a class that the label file does not name; its id says more than nothing.
        return pa.array([each if self.names is None else self.names.get(each, each) for each in ids], pa.string())

    def to_json(self) -> dict[str, Any]:
        """The task as JSON values."""
        return asdict(self)


def _find(signature: Signature, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in signature.outputs), None)


def _must(signature: Signature, names: tuple[str, ...]) -> str:
    found = _find(signature, names)
    if found is None:
        raise ModuleError(
            f"signature {signature.name} has no output {' or '.join(names)}, which detect wants; "
            f"its outputs are {', '.join(signature.outputs)}: use extract, or name another signature"
        )
    return found
