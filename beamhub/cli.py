"""The command line: `beamhub COMMAND ...`; `python -m beamhub` and `jobs/COMMAND.py` are the same."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from beamhub.errors import BeamhubError, UsageError
from beamhub.spec import JOBS, Job, flag, from_mapping, nearest, value_type

EPILOG = """exit status:
  0  done, or nothing to do
  1  anything not listed here
  2  bad usage or bad input (corpus, module, output folder)
  3  more dead letters than --max-dead-fraction or --max-dead-rows allow
  4  shards failed
Whatever the status, what was committed before is unchanged."""


BEAM = """All other flags are Apache Beam's own (--runner, --direct_num_workers, ...). Without any of them this process does the
work, with all cores and without Beam."""


class _Once(argparse.Action):
    """Stores a value, and refuses a second one, which argparse would silently take instead of the first."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if hasattr(namespace, self.dest):
            raise UsageError(f"{option} is given twice; give it once")
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    """Raises UsageError instead of printing the usage and leaving."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status. Errors that beamhub foresees are one line on standard error."""
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except BeamhubError as error:
        print(f"beamhub: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough.
        sys.stderr.close()
        return 0
    except OSError as error:
        # A file system that refuses: its own words say what and where.
        print(f"beamhub: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("beamhub: interrupted; finished shards are kept, run again to go on", file=sys.stderr)
        return 130


def command(*arguments: str) -> NoReturn:
    """`main` as a process of its own, with further arguments before those of the command line."""
    from beamhub.startup import leave

    leave(main([*arguments, *sys.argv[1:]]))


def _run(arguments: list[str]) -> int:
    parser, subparsers = _parser()
    known, rest = parser.parse_known_args(arguments)
    if known.command is None:
        if rest:
            raise UsageError(f"unknown argument {rest[0]!r}{nearest(rest[0], subparsers)}; see beamhub --help")
        parser.print_help()
        return 0
    if known.command in JOBS:
        return _run_job(known, rest)
    if rest:
        flags = [option for action in subparsers[known.command]._actions for option in action.option_strings]
        raise UsageError(f"{known.command}: unknown argument {rest[0]!r}{nearest(rest[0].partition('=')[0], flags)}")
    action: Callable[[argparse.Namespace], int] = known.action
    return action(known)


def _parser() -> tuple[_Parser, dict[str, argparse.ArgumentParser]]:
    import beamhub

    parser = _Parser(
        prog="beamhub",
        description="Runs TensorFlow Hub modules and SavedModels over TFRecord and Parquet corpora, into feature tables.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"beamhub {beamhub.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    made: dict[str, argparse.ArgumentParser] = {}

    def command(name: str, help_text: str, **options: Any) -> argparse.ArgumentParser:
        # Abbreviated flags would change their meaning as flags are added, here or in Beam.
        made[name] = commands.add_parser(name, help=help_text, description=help_text, allow_abbrev=False, **options)
        return made[name]

    for name, job in JOBS.items():
        _add_job_flags(
            command(
                name,
                (job.__doc__ or "").splitlines()[0],
                epilog=f"{BEAM}\n\n{EPILOG}",
                formatter_class=argparse.RawDescriptionHelpFormatter,
            ),
            job,
        )
    from beamhub import inspection

    inspection.add_commands(command)
    return parser, made


def _add_job_flags(parser: argparse.ArgumentParser, job: type[Job]) -> None:
    parser.add_argument("--spec", metavar="FILE.yaml", help="a YAML file with the same fields; flags come before it")
    for each in dataclasses.fields(job):
        kind = value_type(job, each.name)
        options: dict[str, Any] = {"help": each.metadata["help"], "default": argparse.SUPPRESS}
        if kind is bool:
            options["action"] = "store_true"
        else:
            options["metavar"] = each.metadata["metavar"]
            options["choices"] = each.metadata["choices"] or None
            options["type"] = kind if kind in (int, float) else str
            options["action"] = "append" if each.name in ("input", "constant") else _Once
        parser.add_argument(flag(each.name), dest=each.name, **options)


def _run_job(known: argparse.Namespace, rest: list[str]) -> int:
    job_type = JOBS[known.command]
    values = {
        each.name: getattr(known, each.name) for each in dataclasses.fields(job_type) if hasattr(known, each.name)
    }
    if known.spec is not None:
        values = {**_read_spec(known.spec, known.command), **values}
    job = from_mapping(job_type, values, known.spec or "command line")
    from beamhub.runners import check_beam_flags
    from beamhub.startup import collection_paused

    mine = [flag(each.name) for each in dataclasses.fields(job_type)] + ["--spec"]
    with collection_paused():
        if rest:
            check_beam_flags(rest, mine)
        from beamhub.launch import launch
    print(launch(job, rest))
    return 0


def _read_spec(path: str, command: str) -> dict[str, Any]:
    import yaml

    from beamhub import storage

    try:
        found = yaml.safe_load(storage.read_bytes(path))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--spec {path} cannot be read ({reason}): give a YAML file with the job's fields") from error
    if not isinstance(found, dict):
        raise UsageError(f"--spec {path} holds {type(found).__name__}: give `field: value` lines")
    fields = {str(name).replace("-", "_"): value for name, value in found.items()}
    task = fields.pop("task", command)
    if task != command:
        raise UsageError(f"--spec {path} is for {task}, the command is {command}; run beamhub {task}")
    return fields
