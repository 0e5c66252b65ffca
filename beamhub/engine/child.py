"""A process in which a module runs, so that it may hang or crash without the job: `python -m beamhub.engine.child FD`.

It is told which module, then answers calls, one after the other, until the other side is gone.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import traceback
from typing import Any

from beamhub.engine.tablespec import Call
from beamhub.engine.wire import Wire, WireError
from beamhub.errors import ModuleError
from beamhub.modules.reason import reason


def main() -> None:
    """Serves the socket whose number is the argument."""
    end = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_leave_with, args=(end,), daemon=True).start()
    wire = Wire(end)
    # What a module prints goes where errors go, not among what the job prints.
    os.dup2(2, 1)
    try:
        _serve(wire)
    except (WireError, ConnectionError):
        # The job has ended, or has no more use for this process.
        return


def _leave_with(end: socket.socket) -> None:
    """Ends the process when the other side is gone, also where the module hangs."""
    watched = select.poll()
    watched.register(end, select.POLLRDHUP)
    watched.poll()
    os._exit(0)


def _serve(wire: Wire) -> None:
    from beamhub.engine.pool import acquire_module, bind_caller
    from beamhub.engine.threads import configure_tensorflow

    document, _ = wire.receive()
    configure_tensorflow(1)
    try:
        module = acquire_module(document["handle"], document["digest"], tuple(document["tags"]))
    except ModuleError as error:
        wire.send({"lost": str(error)})
        return
    wire.send({"ready": True})
    while True:
        document, fed = wire.receive()
        arrays: Any = fed
        caller = bind_caller(module, Call.from_json(document["call"]), tuple(document["outputs"]))
        try:
            outputs = caller.bound(arrays)
        except caller.exhaustion as error:
            wire.send({"exhausted": reason(error)})
        except caller.refusals as error:
            wire.send(_told("refused", error))
        except (caller.breakdown, ModuleError) as error:
            wire.send(_told("broken", error))
        else:
            wire.send({"traces": caller.bound.traces}, outputs)


def _told(what: str, error: Exception) -> dict[str, Any]:
    return {what: reason(error), "traceback": "".join(traceback.format_exception(error))}


if __name__ == "__main__":
    main()
