"""A module in processes of its own: what it does to itself, it does to none of ours.

A call that does not come back, or in which the process ends, is a refusal: the engine finds the record that causes it by
bisecting, and goes on with the others. Each time the process is started anew, which takes as long as TensorFlow's import and
the module's loading.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from beamhub.engine.tablespec import Call
from beamhub.engine.wire import Wire, WireError
from beamhub.errors import ModuleError
from beamhub.modules.ragged import Output

START_SECONDS = 600.0
"""For loading a module, which may be read from far away."""


class RefusedError(ValueError):
    """The module refuses the records of a call, crashes on them, or gives no answer."""


class BrokenError(Exception):
    """The module broke down by no fault of a record."""


class OutOfMemoryError(MemoryError):
    """The module's process had too little memory for a call."""


class Child:
    """A process with a loaded module."""

    def __init__(self, call: Call) -> None:
        """Starts it. Raises ModuleError where the module cannot be loaded there."""
        ours, theirs = socket.socketpair()
        self.wire = Wire(ours)
        with theirs:
            command = [sys.executable, "-m", "beamhub.engine.child", str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        weakref.finalize(self, _end, self.process)
        try:
            self.wire.send({"handle": call.handle, "digest": call.digest, "tags": list(call.tags)})
            answer, _ = self.wire.receive(START_SECONDS)
        except (WireError, OSError) as error:
            raise ModuleError(f"{call.handle}: its process {self.end(error)} while it was loaded") from error
        if "lost" in answer:
            self.end(None)
            raise ModuleError(answer["lost"])

    def end(self, error: Exception | None) -> str:
        """Ends the process; says how it ended, where an error of the connection tells that something went wrong."""
        self.wire.close()
        if isinstance(error, TimeoutError):
            _end(self.process)
            return "gave no answer"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10 if error else 0)
        _end(self.process)
        status = self.process.returncode
        return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


class Children:
    """Up to so many processes with the same module, each started when it is first needed. May be used by several threads."""

    def __init__(self, call: Call, most: int, seconds: float) -> None:
        """`call` tells the module; `seconds` are given for one call."""
        self._call = call
        self._seconds = seconds
        self._free: queue.LifoQueue[Child | None] = queue.LifoQueue()
        for _ in range(most):
            self._free.put(None)

    def run(self, document: Mapping[str, Any], fed: Mapping[str, Output]) -> tuple[dict[str, Any], dict[str, Output]]:
        """What a process answers. Raises RefusedError where it crashes or gives no answer, ModuleError where none can be
        started."""
        child = self._free.get()
        try:
            child = child or Child(self._call)
            child.wire.send(document, fed)
            return child.wire.receive(self._seconds)
        except (WireError, OSError) as error:
            ended = child.end(error) if child else ""
            child = None
            limit = f" within {self._seconds:g} s (--call-seconds)" if isinstance(error, TimeoutError) else ""
            raise RefusedError(f"the module's process {ended}{limit}") from error
        finally:
            self._free.put(child)

    def close(self) -> None:
        """Ends those that are not at work."""
        with contextlib.suppress(queue.Empty):
            while True:
                child = self._free.get_nowait()
                if child is not None:
                    child.end(None)


class Isolated:
    """Calls a signature of a module in other processes; stands where a `BoundSignature` does.

    `known` is the same bound in this process, where something is asked of it that is known without a run.
    """

    def __init__(self, children: Children, call: Call, outputs: tuple[str, ...], known: Any = None) -> None:
        self._children = children
        self._document = {"call": call.to_json(), "outputs": list(outputs)}
        self._known = known
        self._traces: dict[int, int] = {}
        self.outputs = outputs

    def __getattr__(self, name: str) -> Any:
        """What is known without a run: the signature, shapes."""
        return getattr(self._known, name)

    @property
    def traces(self) -> int:
        """The most that one process has traced."""
        return max(self._traces.values(), default=0)

    def keep(self, sizes: Any) -> None:
        """Graphs are in processes that end with the run."""

    def __call__(self, raw: Mapping[str, Any], turn: AbstractContextManager[Any]) -> dict[str, Output]:
        """As `BoundSignature`. Raises RefusedError, BrokenError or OutOfMemoryError."""
        fed = {name: np.asarray(each) for name, each in raw.items()}
        with turn:
            answer, outputs = self._children.run(self._document, fed)
        if "traces" in answer:
            self._traces[0] = max(self._traces.get(0, 0), int(answer["traces"]))
            return outputs
        if "exhausted" in answer:
            raise OutOfMemoryError(answer["exhausted"])
        error = RefusedError(answer["refused"]) if "refused" in answer else BrokenError(answer.get("broken", "nothing"))
        error.add_note(str(answer.get("traceback", "")))
        raise error


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
