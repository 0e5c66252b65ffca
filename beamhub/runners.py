"""What differs between Beam's runners: their options, and how many workers share this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from beamhub.errors import EndedEarlyError, UsageError
from beamhub.modules.reason import reason
from beamhub.spec import nearest

LOCAL = ("FnApiRunner", "DirectRunner", "BundleBasedDirectRunner", "SwitchingDirectRunner")


def check_beam_flags(arguments: Sequence[str], ours: Sequence[str]) -> None:
    """Refuses flags that neither beamhub nor Beam knows; Beam itself only warns.

    Raises:
        UsageError: naming the flag, and the nearest known one.
    """
    parser = _beam_parser()
    _, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        known = [option for action in parser._actions for option in action.option_strings]
        name = unknown[0].partition("=")[0]
        if not name.startswith("-"):
            raise UsageError(f"stray argument {name!r}: quote a glob, so that the shell does not expand it; see --help")
        raise UsageError(f"unknown flag {unknown[0]}{nearest(name, [*ours, *known])}; see --help")


def _beam_parser() -> Any:
    from apache_beam.options.pipeline_options import PipelineOptions

    def refuse(message: str) -> None:
        raise UsageError(f"Beam's flags: {message}")

    found: list[Any] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=found.append)
    parser = found[0]
    parser.error = refuse
    return parser


def make_options(arguments: Sequence[str]) -> Any:
    """Beam's options; without `--runner` a job runs in this process, on `FnApiRunner`.

    `DirectRunner` would first try to download Beam's Prism. Raises UsageError for a runner that Beam does not know.
    """
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    from apache_beam.runners.runner import create_runner

    options = PipelineOptions(list(arguments))
    standard = options.view_as(StandardOptions)
    if standard.runner is None or standard.runner == "FnApiRunner":
        standard.runner = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
    try:
        create_runner(standard.runner)
    except (ValueError, ImportError, AttributeError) as error:
        raise UsageError(f"--runner {standard.runner}: {' '.join(str(error).split())}") from error
    return options


def processes_a_machine(options: Any) -> int:
    """Worker processes that share the cores of a machine; 0: one for each core."""
    from apache_beam.options.pipeline_options import DebugOptions, DirectOptions, PortableOptions, StandardOptions

    runner = str(options.view_as(StandardOptions).runner).rpartition(".")[2]
    if runner.endswith(LOCAL):
        direct = options.view_as(DirectOptions)
        return 1 if direct.direct_running_mode != "multi_processing" else int(direct.direct_num_workers)
    if runner == "DataflowRunner":
        # It starts one for each core, unless it is told not to.
        return int(bool(options.view_as(DebugOptions).lookup_experiment("no_use_multiple_sdk_containers", False)))
    return int(options.view_as(PortableOptions).sdk_worker_parallelism)


def dealt(options: Any) -> int | None:
    """Worker processes among which the runner deals shards out before it starts any, one after the other.

    None where there is one process, or where each takes the next shard when it has done with one.
    """
    from apache_beam.options.pipeline_options import DirectOptions, StandardOptions

    direct = options.view_as(DirectOptions)
    runner = str(options.view_as(StandardOptions).runner)
    if not runner.endswith(LOCAL) or direct.direct_running_mode != "multi_processing":
        return None
    return int(direct.direct_num_workers) or os.cpu_count()


def run_pipeline(options: Any, table: Any, worklists: Sequence[str]) -> dict[str, int]:
    """Runs `table`, a `ComputeTable`, over worklist files, and waits for its end.

    Returns:
        The sums of beamhub's counters; none from a runner that does not tell them.

    Raises:
        EndedEarlyError: the runner failed.
    """
    import apache_beam as beam

    pipeline = beam.Pipeline(options=options)
    _ = pipeline | "Worklists" >> beam.Create(list(worklists)) | "ComputeTable" >> table
    # Beam logs the whole trace of what it then raises; ours is one line.
    log = logging.getLogger("apache_beam")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        result = pipeline.run()
        result.wait_until_finish()
        return _counters(result)
    except (RuntimeError, ValueError, OSError) as error:
        # What a runner raises for a worker that died or a step that failed.
        raise EndedEarlyError(reason(error)) from error
    finally:
        log.setLevel(level)


def _counters(result: Any) -> dict[str, int]:
    from apache_beam.metrics import MetricsFilter

    from beamhub.transforms import NAMESPACE

    try:
        found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    except NotImplementedError:
        # Not every runner keeps them.
        return {}
    totals: dict[str, int] = {}
    for each in found:
        totals[each.key.metric.name] = totals.get(each.key.metric.name, 0) + each.result
    return totals
