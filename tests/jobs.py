"""Runs beamhub's command line as a user would, in this process or in one of its own: on a runner that is named, or, where a
test says so, without Beam."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

RUNNER = "--runner=FnApiRunner"


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str


def beamhub(command: str, *arguments: object, runner: bool = True) -> Ran:
    """`beamhub COMMAND ...` in this process; jobs get the runner."""
    from beamhub.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(_line(command, arguments, runner))
    return Ran(status, out.getvalue(), err.getvalue())


def succeed(command: str, *arguments: object, runner: bool = True) -> str:
    """`beamhub`, which must end with status 0; returns what it printed."""
    ran = beamhub(command, *arguments, runner=runner)
    assert ran.status == 0, ran.err
    return ran.out


def refused(status: int, command: str, *arguments: object, runner: bool = True) -> str:
    """`beamhub`, which must end with this status and one line on standard error; returns the line."""
    ran = beamhub(command, *arguments, runner=runner)
    assert ran.status == status, ran
    assert ran.err.startswith("beamhub: "), ran.err
    assert ran.err.count("\n") == 1, ran.err
    return ran.err


def start(command: str, *arguments: object, runner: bool = True, **environment: str) -> subprocess.Popen[str]:
    """`python -m beamhub COMMAND ...` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "beamhub", *_line(command, arguments, runner)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _line(command: str, arguments: tuple[object, ...], runner: bool) -> list[str]:
    jobs = ("embed", "extract", "classify", "detect")
    return [command, *map(str, arguments), *([RUNNER] if runner and command in jobs else [])]


def tensor_column(values: np.ndarray) -> pa.Array:
    """[n, ...] as a column of fixed-shape tensors, or fixed-size lists for vectors."""
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))
