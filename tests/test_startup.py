"""Python's garbage collection while a process starts, and Arrow's allocator."""

import os
import subprocess
import sys

import pytest

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


BEFORE = "import pyarrow; from beamhub.startup import choose_allocator"
AFTER = "from beamhub.startup import choose_allocator; import pyarrow"


@pytest.mark.skipif(sys.platform != "linux", reason="pyarrow is built with jemalloc for Linux")
@pytest.mark.parametrize("imports", [BEFORE, AFTER])
@pytest.mark.parametrize(("named", "expected"), [(None, "jemalloc"), ("system", "system"), ("mimalloc", "mimalloc")])
def test_arrow_takes_memory_from_jemalloc_unless_the_user_chose(imports: str, named: str | None, expected: str) -> None:
    script = f"{imports}\nchoose_allocator()\nprint(pyarrow.default_memory_pool().backend_name)"
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    if named is not None:
        environment["ARROW_DEFAULT_MEMORY_POOL"] = named
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)

    assert (done.stdout.strip(), done.stderr) == (expected, "")


CODERS = """
import os
from beamhub.corpus.coders import example_coder
from beamhub.startup import choose_allocator
import pyarrow
choose_allocator()
assert example_coder().RecordBatchToExamplesEncoder().encode(pyarrow.record_batch({"n": pyarrow.array([[1]])}))
print(pyarrow.default_memory_pool().backend_name, os.environ["ARROW_DEFAULT_MEMORY_POOL"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pyarrow is built with jemalloc for Linux")
@pytest.mark.parametrize(("named", "expected"), [(None, "jemalloc"), ("mimalloc", "mimalloc")])
def test_the_arrow_in_tfx_bsl_complains_of_no_allocator(named: str | None, expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    if named is not None:
        environment["ARROW_DEFAULT_MEMORY_POOL"] = named
    done = subprocess.run([sys.executable, "-c", CODERS], capture_output=True, text=True, env=environment)

    assert (done.stdout.split(), done.stderr) == ([expected, expected], "")
