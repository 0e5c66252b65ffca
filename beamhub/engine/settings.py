"""How workers do a run's work, where that changes none of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from beamhub.spec import Job


@dataclass(frozen=True, slots=True)
class Settings:
    """`isolate`: the module runs in processes of its own, of which one is ended after `call_seconds` without an answer."""

    isolate: bool = False
    call_seconds: float = 300.0

    @classmethod
    def of(cls, job: Job) -> Self:
        """As a job asks for."""
        return cls(job.isolate, job.call_seconds)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**values)


DEFAULT = Settings()
