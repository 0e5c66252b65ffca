"""embed: one vector for each record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from beamhub.errors import ModuleError, RecordError
from beamhub.modules.signatures import Signature
from beamhub.spec import EmbedJob
from beamhub.tasks.base import Outputs, OutputShape, Task, dense, require_output


@dataclass(frozen=True)
class Embed(Task):
    """Column `embedding`: fixed-size list of float32, `size` long, from `output`."""

    kind: ClassVar[str] = "embed"

    output: str
    size: int | None = None

    @classmethod
    def of(cls, job: EmbedJob, signature: Signature) -> Embed:
        """The task for a signature. Raises ModuleError when the output cannot be told."""
        return cls(require_output(signature, job.output, ("default", "feature_vector", "embedding"), cls.kind))

    @property
    def wanted(self) -> tuple[str, ...]:
        """The outputs that must be computed."""
        return (self.output,)

    def settle(self, shapes: Mapping[str, OutputShape]) -> Embed:
        """Takes the vector's size. Raises ModuleError where the output is no vector of floats."""
        found = shapes[self.output]
        # [n, 1, 1, d] is a vector too: many image modules end in a pooling that keeps its dimensions.
        sizes = found.sample.shape[1:] if isinstance(found.sample, np.ndarray) else ()
        if not sizes or sum(size != 1 for size in sizes) > 1 or "float" not in found.dtype:
            shape = ",".join("?" if size is None else str(size) for size in found.shape)
            raise ModuleError(
                f"output {found.name} is {found.kind} {found.dtype} [{shape}] for each record; "
                f"embed keeps one vector of floats: name another with --output, or use extract"
            )
        return replace(self, size=int(np.prod(sizes)))

    def fields(self) -> dict[str, tuple[pa.DataType, tuple[str, ...]]]:
        """The column `embedding`."""
        return {"embedding": (pa.list_(pa.float32(), self.size or 0), (self.output,))}

    def encode(self, outputs: Outputs) -> list[pa.Array]:
        """The vectors. Raises RecordError for a vector of another size."""
        values = dense(outputs, self.output)
        if values[0].size != self.size:
            raise RecordError("encode", f"output {self.output} has {values[0].size} values, the table {self.size}")
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        return [pa.FixedSizeListArray.from_arrays(pa.array(flat), self.size)]

    def to_json(self) -> dict[str, Any]:
        """The task as JSON values."""
        return asdict(self)
