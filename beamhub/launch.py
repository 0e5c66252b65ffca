"""A job from its fields to its summary: plan, compute, commit, report."""

from __future__ import annotations

import datetime
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import beamhub
from beamhub import report
from beamhub.alone import run_alone
from beamhub.bar import progress_bar
from beamhub.engine.planning import Plan, describe_limits, make_plan
from beamhub.engine.tablespec import TableSpec
from beamhub.engine.worklist import RunPapers, commit_run, new_run_id, read_outcome
from beamhub.errors import BeamhubError, TableError
from beamhub.features.lineage import write_once
from beamhub.importing import import_tensorflow
from beamhub.runners import dealt, make_options, processes_a_machine, run_pipeline
from beamhub.spec import Job
from beamhub.startup import collection_paused, drop_garbage

PINS = ("apache-beam", "numpy", "pyarrow", "tensorflow", "tfx-bsl")
"""Packages whose versions can change the bytes of a table."""


def launch(job: Job, beam_arguments: Sequence[str] = ()) -> str:
    """Runs a job to its end.

    Returns:
        The summary, as text.

    Raises:
        BeamhubError: with the exit status that the command line gives; whatever is raised, what was committed before is
            unchanged, and finished shards are kept for the next run.
    """
    started = time.monotonic()
    with collection_paused():
        # Without flags of Beam's this process does the work, and Beam is not imported.
        options = make_options(beam_arguments) if beam_arguments else None
        plan = make_plan(job)
        drop_garbage()
    for warning in plan.corpus.warnings:
        print(f"beamhub: warning: {warning}", file=sys.stderr)
    if job.limit is not None:
        from beamhub.engine.canary import canary

        return report.canary(plan, canary(plan.spec, plan.corpus, job.limit))
    if job.dry_run:
        return report.dry_run(plan)
    if plan.is_done:
        return report.nothing_to_do(plan)
    run, worklists = _begin(plan, beam_arguments)
    if worklists:
        with collection_paused():
            import_tensorflow()
            if options is not None:
                from beamhub.transforms import ComputeTable
    ordered = plan.todo.shards.take(plan.todo.largest_first)
    folder = RunPapers(plan.paths, run).path("progress")
    counters: dict[str, int] = {}
    workers = dealt(options) if options is not None and len(worklists) == 1 else None
    with progress_bar(ordered, workers, folder) as progress:
        if not worklists:
            commit_run(plan.paths, run)
        elif options is None:
            counters = run_alone(plan.spec, plan.paths.out, run, worklists, progress)
        else:
            table = ComputeTable(plan.spec, plan.paths.out, run, processes_a_machine(options), progress)
            counters = run_pipeline(options, table, worklists)
    return report.finished(plan, read_outcome(plan.paths, run), time.monotonic() - started, counters)


def _begin(plan: Plan, beam_arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Writes the version's documents and the run's papers."""
    now = datetime.datetime.now(datetime.UTC)
    run = new_run_id(now)
    papers = RunPapers(plan.paths, run)
    document = {
        "started": now.isoformat(timespec="seconds"),
        "job": {
            "task": plan.job.task,
            **{name: value for name, value in vars(plan.job).items() if value not in (None, ())},
        },
        "beam": list(beam_arguments),
        "corpus": plan.corpus.pattern,
        "key": plan.spec.key,
        "gone": list(plan.gone),
        "limits": describe_limits(plan.job),
        "shards": len(plan.todo),
    }
    try:
        _check_same(plan, write_once(plan.paths.spec, plan.spec.to_json()))
        write_once(plan.paths.lineage, _lineage(plan))
        return run, papers.write(plan.todo, plan.changes, document)
    except OSError as error:
        raise TableError(f"{plan.paths.out} cannot be written ({error}): give a folder that can be") from error


def _check_same(plan: Plan, written: dict[str, Any]) -> None:
    """Raises BeamhubError where another run has begun the version meanwhile, with other settings."""
    begun = TableSpec.from_json(written)
    mine = replace(plan.spec, request=begun.request, call=replace(plan.spec.call, handle=begun.call.handle))
    if begun != mine:
        raise BeamhubError(
            f"{plan.paths.root}: another run has begun this version just now with other settings; run again"
        )


def _lineage(plan: Plan) -> dict[str, Any]:
    """What made the version. The input tokens are in the manifest, one for each shard."""
    spec = plan.spec
    return {
        "version": spec.version,
        "module": {
            "handle": spec.call.handle,
            "digest": spec.call.digest,
            "format": plan.info.format,
            "signature": spec.call.signature,
            "tags": list(spec.call.tags),
            "precision": spec.call.precision,
        },
        "identities": {c["name"]: c["identity"] for c in spec.to_json()["columns"] if c["identity"]},
        "corpus": {"root": spec.corpus_root, "format": spec.corpus_format, "first_pattern": plan.corpus.pattern},
        "task": {"kind": spec.task.kind, **spec.task.to_json()},
        "beamhub": beamhub.__version__,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PINS},
        "machine": platform.machine(),
    }
