"""Jobs killed at random, at any step and on any worker, and run again until they are through.

`BEAMHUB_KILLS=N` kills N times (`make chaos`: 200), otherwise a few times. What is compared with is what runs that nobody
disturbed have made of the same files.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from beamhub.features.paths import VersionPaths
from beamhub.features.roots import latest_generation
from beamhub.features.verify import verify
from tests.small import save

KILLS = int(os.environ.get("BEAMHUB_KILLS", "6"))
FILES, ROWS = 12, 2000

WAYS: tuple[tuple[str, ...], ...] = (
    (),
    ("--runner=FnApiRunner",),
    ("--direct_running_mode=multi_threading", "--direct_num_workers=2"),
    ("--direct_running_mode=multi_processing", "--direct_num_workers=2"),
    ("--direct_running_mode=multi_processing", "--direct_num_workers=3"),
)
STEPS = ("lease", "dead", "data", "ledger", "part", "intent", "publish", "root", "current", "delete", "end of intent")


def write(path: Path, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=ROWS).astype(np.float32)
    pq.write_table(
        pa.table({"id": np.arange(ROWS) + ROWS * seed, "x": [str(value) for value in [*values[1:], "bad"]]}), path
    )


def write_before(folder: Path) -> None:
    folder.mkdir()
    for number in range(FILES):
        write(folder / f"{number:02d}.parquet", number)


def write_after(folder: Path) -> None:
    """Of the files four are changed, two are gone, and two are new."""
    for number in range(4):
        write(folder / f"{number:02d}.parquet", 100 + number)
    for number in (4, 5):
        (folder / f"{number:02d}.parquet").unlink()
    for number in (20, 21):
        write(folder / f"{number:02d}.parquet", number)


def command(module: str, corpus: Path, out: Path, way: tuple[str, ...]) -> list[str]:
    job = ["--module", module, "--corpus", f"{corpus}/*.parquet", "--out", str(out), "--key=id", "--input=x"]
    settings = ["--batch-size=64", "--variables=plain", "--max-dead-fraction=0.5"]
    return [sys.executable, "-m", "beamhub", "extract", *job, *settings, *way]


def data(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("v=*/*.parquet")}


def killed(rng: random.Random, arguments: list[str], longest: float) -> bool:
    """Whether a run was killed: at a step, or after some time, all of it or one of its processes."""
    environment = dict(os.environ)
    at_step = rng.random() < 0.5
    if at_step:
        environment["BEAMHUB_KILL_AT"] = f"{rng.choice(STEPS)}:{rng.randint(1, 4)}"
    process = subprocess.Popen(
        arguments, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if not at_step:
        try:
            process.wait(rng.uniform(0, longest))
        except subprocess.TimeoutExpired:
            _kill(rng, process)
    try:
        status = process.wait(120)
    except subprocess.TimeoutExpired:
        # A launcher that waits for a worker that is gone.
        status = -signal.SIGKILL
    if status:
        for each in psutil.process_iter():
            if _group(each.pid) == process.pid:
                each.kill()
        process.wait()
    return status != 0


def _kill(rng: random.Random, process: subprocess.Popen[bytes]) -> None:
    """All processes of a job, or one of its workers."""
    workers = psutil.Process(process.pid).children(recursive=True)
    if workers and rng.random() < 0.5:
        with contextlib.suppress(psutil.NoSuchProcess):
            rng.choice(workers).kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> str:
    def number(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": 2 * tf.strings.to_number(x)}

    return save(tmp_path_factory.mktemp("chaos") / "m", number, tf.TensorSpec((None,), tf.string, "x"))


def test_killed_until_it_is_through(module: str, tmp_path: Path) -> None:
    corpus, undisturbed = tmp_path / "corpus", tmp_path / "undisturbed"
    write_before(corpus)
    wanted, longest = [], 0.0
    for change in (None, write_after):
        if change is not None:
            change(corpus)
        began = time.monotonic()
        subprocess.run(command(module, corpus, undisturbed, ()), check=True, stdout=subprocess.DEVNULL)
        longest = time.monotonic() - began
        wanted.append(data(undisturbed))
        shutil.copytree(corpus, tmp_path / f"corpus-{len(wanted)}", copy_function=shutil.copy2)

    rng = random.Random(0)
    kills = tables = 0
    while kills < KILLS:
        out = tmp_path / f"out-{tables}"
        tables += 1
        for phase, expected in enumerate(wanted):
            shutil.rmtree(corpus)
            shutil.copytree(tmp_path / f"corpus-{phase + 1}", corpus, copy_function=shutil.copy2)
            while killed(rng, command(module, corpus, out, rng.choice(WAYS)), 1.5 * longest):
                kills += 1
                for version in out.glob("v=*"):
                    paths = VersionPaths(str(out), version.name[2:])
                    if latest_generation(paths):
                        assert verify(paths, None).problems == (), kills
            assert data(out) == expected, (tables, phase, kills)
    print(f"{kills} kills, {tables} tables, rows lost: 0")
