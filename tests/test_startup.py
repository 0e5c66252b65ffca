"""Python's garbage collection while a process starts."""

import subprocess
import sys

SCRIPT = """
import gc
from beamhub.startup import collection_paused, started

def frozen():
    made = [[] for _ in range(100_000)]
    before = gc.get_freeze_count()
    with collection_paused():
        assert not gc.isenabled()
        with collection_paused():
            pass
        assert not gc.isenabled(), "the inner block ended the outer one's pause"
        assert gc.get_freeze_count() == before
    assert gc.isenabled()
    return gc.get_freeze_count() - before

assert frozen() > 100_000
assert frozen() > 100_000, "what a second import leaves would be collected at once"
started()
assert frozen() == 0

gc.disable()
with collection_paused():
    pass
assert not gc.isenabled(), "someone else had it off"
"""


def test_what_imports_leave_is_not_looked_at_again_until_the_start_is_over() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
