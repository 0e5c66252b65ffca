"""`python -m benchmarks.precision MODULE ...`: each module in float32 and in bfloat16, plain and frozen, on numbers in memory.

The settings take turns, every other time in the opposite order, each with one thread a core as a job has. Ratios are of
settings of one repetition; the error is the largest one, as a share of the largest value in float32.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from beamhub.engine.calibration import measure
from beamhub.engine.threads import configure_tensorflow, cores
from benchmarks.statistics import median

SETTINGS = [(frozen, precision) for frozen in (False, True) for precision in ("float32", "bf16")]
LEAST_BATCH, BATCH_BYTES = 8, 1 << 20


def batch_for(signature: Any) -> dict[str, Any]:
    """Numbers from 0 to 1 for the one input of images or vectors, as many as a job's default batch has."""
    (spec,) = signature.inputs.values()
    row = [size or 1 for size in spec.shape[1:]]
    size = max(LEAST_BATCH, 2 ** int(np.log2(BATCH_BYTES / (4 * np.prod(row)))))
    return {spec.name: np.random.default_rng(0).random((size, *row), np.float32)}


def compare(path: str, repeats: int) -> dict[str, Any]:
    """Ratios and errors of one module."""
    from beamhub.modules.load import load_module

    module = load_module(path)
    batch = batch_for(module.signature())
    bound = {each: module.bind(None, frozen=each[0], precision=each[1]) for each in SETTINGS}
    values = {each: np.concatenate([v.ravel() for v in call(batch).values()]) for each, call in bound.items()}
    rates: dict[Any, list[float]] = {each: [] for each in SETTINGS}
    with ThreadPoolExecutor(cores()) as pool:
        for repetition in range(repeats):
            for each in SETTINGS[:: -1 if repetition % 2 else 1]:
                rates[each].append(measure(functools.partial(bound[each], batch), cores(), pool))
    found = {"module": path, "batch": len(next(iter(batch.values()))), "repeats": repeats}
    exact = values[False, "float32"]
    for frozen in (False, True):
        name = "frozen" if frozen else "plain"
        pairs = zip(rates[frozen, "bf16"], rates[frozen, "float32"], strict=True)
        found[f"{name} bf16 / float32"] = str(median([short / plain for short, plain in pairs]))
        found[f"{name} error"] = f"{np.abs(values[frozen, 'bf16'] - exact).max() / np.abs(exact).max():.1e}"
    best = {p: np.maximum(rates[False, p], rates[True, p]) for p in ("float32", "bf16")}
    return {**found, "best bf16 / best float32": str(median((best["bf16"] / best["float32"]).tolist()))}


def main() -> None:
    """Prints a line of JSON for each module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description="float32 beside bfloat16")
    parser.add_argument("modules", nargs="+", metavar="MODULE")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    configure_tensorflow(cores())
    for path in arguments.modules:
        print(json.dumps(compare(path, arguments.repeats)), flush=True)


if __name__ == "__main__":
    main()
