"""The commands that look at a module or a table: inspect, status, path, commit, run-shard."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from beamhub import storage
from beamhub.errors import TableError

AddCommand = Callable[..., argparse.ArgumentParser]


def add_commands(command: AddCommand) -> None:
    """Adds the commands to the parser."""
    inspect = command("inspect", "What a module is: signatures, inputs, outputs, tags, image size, digest.")
    inspect.add_argument("handle", metavar="HANDLE", help="folder, .tar.gz or URL of a module")
    _json(inspect)
    inspect.set_defaults(action=_inspect)
    for name, text, action in (
        ("status", "How far a table is: shards done, missing, stale and failed, and records.", _status),
        ("path", "The folder that readers should use.", _path),
        ("commit", "Commits what the last run has finished.", _commit),
    ):
        parser = command(name, text)
        _table(parser)
        if name == "status":
            _json(parser)
        parser.set_defaults(action=action)
    run_shard = command("run-shard", "Computes one shard in this process, for a debugger.")
    _table(run_shard)
    run_shard.add_argument("shard", metavar="SHARD", help="id of the shard, or its file's path below the corpus root")
    run_shard.set_defaults(action=_run_shard)


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def _table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", help="folder of the feature table")
    parser.add_argument("--version", dest="table_version", metavar="V", help="version (default: the current one)")


def _inspect(arguments: argparse.Namespace) -> int:
    from beamhub.importing import import_tensorflow
    from beamhub.modules.describe import format_info, info_json
    from beamhub.modules.inspect import inspect_module

    import_tensorflow()
    info = inspect_module(arguments.handle)
    _show(info_json(info) if arguments.json else format_info(info))
    return 0


def _path(arguments: argparse.Namespace) -> int:
    import beamhub

    print(beamhub.open(arguments.out, arguments.table_version).path)
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from beamhub.engine.standing import describe, standing

    found = standing(_paths(arguments))
    _show(asdict(found) if arguments.json else describe(found))
    return 0


def _commit(arguments: argparse.Namespace) -> int:
    from beamhub.engine.worklist import commit_run, last_run, read_outcome

    paths = _paths(arguments)
    run = last_run(paths)
    commit_run(paths, run)
    outcome = read_outcome(paths, run)
    print(
        f"generation {outcome['generation']}: {outcome['totals']['shards']:,} shards, {outcome['totals']['rows']:,} rows"
    )
    return 0


def _run_shard(arguments: argparse.Namespace) -> int:
    from beamhub.engine.standing import run_shard

    print(run_shard(_paths(arguments), arguments.shard))
    return 0


def _paths(arguments: argparse.Namespace) -> Any:
    """The version named, the current one, or the only one there is (before its first commit)."""
    from beamhub.features.paths import META, VersionPaths
    from beamhub.features.table import current_version

    out = storage.absolute(arguments.out)
    begun = [
        f.path.split("/v=")[-1].split("/")[0]
        for f in storage.match(storage.join(storage.escape(out), "v=*", META, "spec.json"))
    ]
    if arguments.table_version is not None:
        if arguments.table_version not in begun:
            raise TableError(f"{out}: no version {arguments.table_version}; there are {', '.join(begun) or 'none'}")
        return VersionPaths(out, arguments.table_version)
    if len(begun) == 1:
        return VersionPaths(out, begun[0])
    if not begun:
        raise TableError(f"{out}: not a feature table; give the --out of a job")
    return VersionPaths(out, current_version(out))


def _show(value: Any) -> None:
    print(value if isinstance(value, str) else json.dumps(value, indent=2, sort_keys=True))
