"""extract: any set of a signature's outputs, of any rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pyarrow as pa

from beamhub.errors import ModuleError
from beamhub.modules.signatures import Signature
from beamhub.spec import ExtractJob
from beamhub.tasks.arrays import column_type, to_arrow
from beamhub.tasks.base import Outputs, OutputShape, Task, known_output
from beamhub.tasks.schema_text import type_from_text, type_to_text


@dataclass(frozen=True)
class Extract(Task):
    """One column for each output, under its name; its Arrow type is in `types`."""

    kind: ClassVar[str] = "extract"

    outputs: tuple[str, ...]
    types: dict[str, pa.DataType] = field(default_factory=dict)

    @classmethod
    def of(cls, job: ExtractJob, signature: Signature) -> Extract:
        """The task for a signature. Raises ModuleError for an output that it does not have."""
        names = tuple(known_output(signature, name) for name in job.outputs) or tuple(signature.outputs)
        if len(set(names)) < len(names):
            raise ModuleError(f"--outputs {','.join(names)}: an output is named twice; name each once")
        return cls(names)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The outputs that must be computed."""
        return self.outputs

    def settle(self, shapes: Mapping[str, OutputShape]) -> Extract:
        """Takes the columns' types. Raises ModuleError for a dtype that a table cannot hold."""
        types = {name: column_type(shapes[name]) for name in self.outputs}
        return replace(self, types={name: type_from_text(type_to_text(each)) for name, each in types.items()})

    def fields(self) -> dict[str, tuple[pa.DataType, tuple[str, ...]]]:
        """A column for each output."""
        return {name: (self.types[name], (name,)) for name in self.outputs}

    def encode(self, outputs: Outputs) -> list[pa.Array]:
        """The columns. Raises RecordError for a shape or a text that the column cannot hold."""
        return [to_arrow(outputs[name], self.types[name], name) for name in self.outputs]

    def decisions(self) -> dict[str, Any]:
        """The outputs; their types are those of the columns."""
        return {"outputs": list(self.outputs)}

    def to_json(self) -> dict[str, Any]:
        """The task as JSON values."""
        return {"outputs": list(self.outputs), "types": {name: type_to_text(t) for name, t in self.types.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Extract:
        """The inverse of `to_json`."""
        return cls(tuple(values["outputs"]), {name: type_from_text(text) for name, text in values["types"].items()})
