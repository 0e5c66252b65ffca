"""The kinds of task: what is asked of a module, and the columns that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beamhub.modules.signatures import Signature
from beamhub.spec import ClassifyJob, DetectJob, EmbedJob, ExtractJob, Job
from beamhub.tasks.base import Task
from beamhub.tasks.classify import Classify
from beamhub.tasks.detect import Detect
from beamhub.tasks.embed import Embed
from beamhub.tasks.extract import Extract

__all__ = ["Task", "from_json", "task_of"]

_KINDS: dict[str, type[Embed] | type[Classify] | type[Detect]] = {each.kind: each for each in (Embed, Classify, Detect)}


def task_of(job: Job, signature: Signature) -> Task:
    """The task that a job asks for. Raises ModuleError or InputError where the signature cannot do it."""
    match job:
        case EmbedJob():
            return Embed.of(job, signature)
        case ExtractJob():
            return Extract.of(job, signature)
        case ClassifyJob():
            return Classify.of(job, signature)
        case DetectJob():
            return Detect.of(job, signature)
    raise TypeError(f"no task for {type(job).__name__}")


def from_json(kind: str, values: Mapping[str, Any]) -> Task:
    """A task from the JSON values of its `to_json`."""
    if kind == Extract.kind:
        return Extract.from_json(values)
    return _KINDS[kind](**values)
