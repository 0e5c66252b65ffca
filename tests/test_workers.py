"""What a worker process holds: one copy of the module, one pool of threads, whatever runs in it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import beamhub as library
import beamhub.modules.load as loading
from beamhub import transforms
from beamhub.engine import threads
from beamhub.engine.planning import Plan, make_plan
from beamhub.engine.worklist import RunPapers, read_worklist
from beamhub.features.ledger import Ledger
from beamhub.features.lineage import write_once
from beamhub.runners import make_options, processes_a_machine
from beamhub.spec import EmbedJob
from tests.jobs import start, succeed, tensor_column


def write_job(folder: Path, shards: int) -> list[object]:
    """A module of its own (so that no other test has loaded it) and a corpus; returns the flags."""
    saved = tf.Module()
    saved.weights = tf.Variable(np.random.default_rng().normal(size=(4, 2)).astype(np.float32))
    spec = tf.TensorSpec((None, 4), tf.float32, name="x")
    features = tf.function(lambda x: {"default": x @ saved.weights}, input_signature=[spec])
    doubled = tf.function(lambda x: {"default": 2 * x @ saved.weights}, input_signature=[spec])
    tf.saved_model.save(saved, str(folder / "module"), signatures={"serving_default": features, "doubled": doubled})
    (folder / "corpus").mkdir()
    for number in range(shards):
        vectors = np.full((5, 4), number, np.float32)
        pq.write_table(pa.table({"x": tensor_column(vectors)}), folder / "corpus" / f"{number}.parquet")
    return ["--module", folder / "module", "--corpus", f"{folder}/corpus/*"]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the modules that this process loads while the test runs; loading itself is not touched."""
    seen: list[str] = []
    genuine = loading.load_module

    def counted(path: str, tags: tuple[str, ...] | None = None) -> object:
        seen.append(path)
        return genuine(path, tags)

    monkeypatch.setattr(loading, "load_module", counted)
    return seen


def test_four_worker_threads_load_a_module_once(loads: list[str], tmp_path: Path) -> None:
    """Only the multi-threaded mode of the runner can tell: each of its workers sets up a DoFn of its own."""
    flags = write_job(tmp_path, 12)

    succeed(
        "embed", *flags, "--out", tmp_path / "out", "--direct_running_mode=multi_threading", "--direct_num_workers=4"
    )  # fmt: skip

    assert loads == [str(tmp_path / "module")]
    assert library.open(str(tmp_path / "out")).rows == 60


def test_two_workers_threads_setting_up_at_once_load_once(loads: list[str], tmp_path: Path) -> None:
    from beamhub.engine.pool import acquire_module
    from beamhub.modules import module_digest

    write_job(tmp_path, 1)
    path = str(tmp_path / "module")
    digest = module_digest(path)
    barrier = threading.Barrier(8)
    found: list[object] = []

    def acquire() -> None:
        barrier.wait()
        found.append(acquire_module(path, digest, ("serve",)))

    workers = [threading.Thread(target=acquire) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert loads == [path]
    assert len({id(each) for each in found}) == 1


def test_module_changed_since_the_run_began(tmp_path: Path) -> None:
    from beamhub.engine.pool import acquire_module
    from beamhub.errors import ModuleError

    write_job(tmp_path, 1)

    with pytest.raises(ModuleError, match="was changed since the run began"):
        acquire_module(str(tmp_path / "module"), "sha256:" + "0" * 64, ("serve",))


def printed(tmp_path: Path, python: list[str], flags: list[object], *more: str, **environment: str) -> str:
    """What a job in a process of its own prints, which must end well."""
    command = [*python, "embed", *map(str, flags), "--out", str(tmp_path / "out"), *more]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True).stdout


def test_operations_have_one_thread_each(tmp_path: Path) -> None:
    """In a fresh process, as a user's: TensorFlow is configured before it starts."""
    script = (
        "import sys; from beamhub.cli import main; status = main(sys.argv[1:]); import tensorflow as tf; "
        "print(status, tf.config.threading.get_intra_op_parallelism_threads())"
    )
    out = printed(tmp_path, [sys.executable, "-c", script], write_job(tmp_path, 1), "--runner=FnApiRunner")

    assert out.splitlines()[-1] == "0 1"


def test_operations_of_worker_processes_have_one_thread_each(tmp_path: Path) -> None:
    """Two processes that compute with a thread each have no more threads than that at work."""
    seen = tmp_path / "seen"
    seen.mkdir()
    (tmp_path / "site").mkdir()
    # Every process of the run notes, when its TensorFlow has run, what its threads are.
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import atexit, os, sys\n"
        "def note():\n"
        "    tf = sys.modules.get('tensorflow')\n"
        "    if tf is not None:\n"
        "        get = tf.config.threading\n"
        "        found = get.get_intra_op_parallelism_threads(), get.get_inter_op_parallelism_threads()\n"
        f"        open(os.path.join({str(seen)!r}, str(os.getpid())), 'w').write(repr(found))\n"
        "atexit.register(note)\n"
    )
    mode = ["--runner=FnApiRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    python = [sys.executable, "-m", "beamhub"]

    printed(tmp_path, python, write_job(tmp_path, 4), *mode, PYTHONPATH=str(tmp_path / "site"))

    each = max(1, len(os.sched_getaffinity(0)) // 2)
    found = sorted(path.read_text() for path in seen.iterdir())
    assert found.count(f"(1, {each})") >= 2, found
    assert all(text.startswith("(1, ") for text in found), found


def test_threads_of_the_program_stay_and_are_told_of(tmp_path: Path) -> None:
    script = (
        "import sys; import tensorflow as tf; tf.config.threading.set_intra_op_parallelism_threads(2); tf.constant(1); "
        "from beamhub.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    out = printed(tmp_path, [sys.executable, "-c", script], write_job(tmp_path, 1))

    assert "note      TensorFlow had been started before the job" in out


def test_cores_are_those_this_process_may_use(tmp_path: Path) -> None:
    assert threads.cores(tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("most", "wanted"), [("max", 2), ("100000", 1), ("50000", 1), ("150000", 2), ("900000", 2)])
def test_a_container_may_have_the_time_of_fewer_cores(most: str, wanted: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(f"{most} 100000\n")
    seen = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(seen)[:2])
    try:
        assert threads.cores(tmp_path) == min(wanted, len(seen))
    finally:
        os.sched_setaffinity(0, seen)


def test_workers_in_processes_of_their_own(tmp_path: Path) -> None:
    flags = write_job(tmp_path, 4)

    process = start(
        "embed", *flags, "--out", tmp_path / "out", "--direct_running_mode=multi_processing", "--direct_num_workers=2"
    )  # fmt: skip
    out, err = process.communicate()

    assert process.returncode == 0, err
    assert "20 read = 20 produced" in out
    # TensorFlow tells nothing of how it was built.
    assert "oneDNN" not in err
    assert "absl::InitializeLog" not in err


@pytest.mark.parametrize(("given", "wanted"), [({}, "True"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "False")])
def test_onednn_is_on_whatever_the_processor_unless_the_user_wants_it_off(given: dict[str, str], wanted: str) -> None:
    """TensorFlow leaves it off on x86 processors without AVX512-VNNI. A worker's process, which nobody has prepared."""
    script = (
        "from beamhub.engine.threads import configure_tensorflow; configure_tensorflow(1); "
        "from tensorflow.python.framework import test_util; print(test_util.IsMklEnabled())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}

    out = subprocess.run(
        [sys.executable, "-c", script], env=environment | given, capture_output=True, text=True, check=True
    ).stdout

    assert out.splitlines()[-1] == wanted


@pytest.mark.parametrize(
    ("flags", "processes"),
    [
        (["--runner=FnApiRunner"], 1),
        (["--runner=FnApiRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2"], 2),
        (["--runner=FnApiRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=0"], 0),
        (["--runner=DataflowRunner"], 0),
        (["--runner=DataflowRunner", "--experiments=no_use_multiple_sdk_containers"], 1),
        (["--runner=FlinkRunner"], 1),
        (["--runner=FlinkRunner", "--sdk_worker_parallelism=4"], 4),
        (["--runner=FlinkRunner", "--sdk_worker_parallelism=0"], 0),
    ],
)
def test_processes_that_share_a_machine_are_known_whatever_the_runner(flags: list[str], processes: int) -> None:
    """Where each had a thread for every core of the machine, there would be as many times too many."""
    assert processes_a_machine(make_options(flags)) == processes


@pytest.mark.parametrize(("processes", "expected"), [(1, 8), (3, 2), (0, 1), (20, 1)])
def test_processes_share_the_cores(
    processes: int, expected: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(transforms, "cores", lambda: 8)
    seen: list[int] = []
    monkeypatch.setattr(transforms, "Worker", lambda spec, out, threads, progress: seen.append(threads))

    transforms.ComputeShards(planned(tmp_path).spec.to_json(), str(tmp_path), processes, None).setup()

    assert seen == [expected]


def test_what_was_finished_of_a_bundle_that_is_broken_off_is_kept(tmp_path: Path) -> None:
    """Beam tears a DoFn down where `process` raises, and does not finish its bundle."""
    plan = planned(tmp_path)
    write_once(plan.paths.spec, plan.spec.to_json())
    (worklist,) = RunPapers(plan.paths, "run").write(plan.todo, plan.changes, {})
    compute = transforms.ComputeShards(plan.spec.to_json(), plan.paths.out, 1, None)
    compute.setup()
    compute.start_bundle()
    items = itertools.cycle(read_worklist(worklist))
    finished = next(filter(None, (list(compute.process(item)) for item in items)))

    compute.teardown()

    ledger = Ledger.read(str(path) for path in Path(plan.paths.ledger).glob("*"))
    assert list(ledger.results()) == finished


def planned(folder: Path) -> Plan:
    module, corpus = map(str, write_job(folder, 6)[1::2])
    return make_plan(EmbedJob(module=module, corpus=corpus, out=str(folder / "out")))
