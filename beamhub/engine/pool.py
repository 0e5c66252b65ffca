"""What a process holds once, however many threads and steps use it: its modules and its compute threads.

A DoFn's `setup` acquires; what no DoFn holds any more is freed, but for the module used last, which the next bundle may
want again.
"""

from __future__ import annotations

import functools
import json
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from beamhub.corpus.format import Stretch
from beamhub.engine.batches import BATCH_BYTES
from beamhub.engine.budget import BYTES, Budget
from beamhub.engine.caller import Caller
from beamhub.engine.inference import Inference
from beamhub.engine.sharing import alone, with_free_threads
from beamhub.engine.stages import Stages
from beamhub.engine.tablespec import Call, TableSpec
from beamhub.engine.threads import ComputeThreads, configure_tensorflow, cores
from beamhub.engine.work import Work
from beamhub.errors import ModuleError
from beamhub.modules.signatures import choose_signature
from beamhub.startup import choose_allocator
from beamhub.tasks import Task
from beamhub.tasks.prepare import make_prepare


class ComputePool:
    """A module that is loaded and bound, and the threads that call it."""

    def __init__(self, module: Any, inference: Inference, threads: ComputeThreads) -> None:
        # Held so that other pools of the process find them.
        self.module = module
        self.threads = threads
        self.inference = inference
        self.stages = inference.stages
        # However many threads there are, each has a batch, and the next one.
        most = 2 * (threads.callers + 1)
        self._budget = Budget(most, max(BYTES, most * BATCH_BYTES))
        self._taking = threading.Lock()
        self._traces = 0

    def submit(self, batch: Stretch) -> Work:
        """Hands a batch to the threads; waits while too much is on its way."""
        return Work(batch, self.inference, self.threads.executor, self._budget)

    def wait_for_room(self, size: int) -> None:
        """Waits until a batch of `size` bytes may be on its way."""
        self._budget.wait_for(size)

    def take_figures(self) -> dict[str, int]:
        """Counts since they were last taken: the stages' microseconds, `traces`, `called` and `padded` records,
        and `others_threads` where the program had started TensorFlow with threads of its own."""
        with self._taking:
            traces = self.inference.caller.bound.traces
            self.stages.count("traces", traces - self._traces)
            self._traces = traces
            return self.stages.take()


class _Once:
    """Makes one value for each key, even when several threads ask at once; forgets values that nobody holds."""

    def __init__(self) -> None:
        self._values: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
        self._locks: dict[Any, threading.Lock] = {}
        self._lock = threading.Lock()
        self._last: Any = None

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            value = self._values.get(key)
            if value is None:
                value = make()
                self._values[key] = value
            self._last = value
            return value


_modules = _Once()
_pools = _Once()
_threads = _Once()
_bound = _Once()


def acquire_module(handle: str, digest: str, tags: tuple[str, ...]) -> Any:
    """The loaded module with that content, loaded once for the process.

    Raises:
        ModuleError: it cannot be had, or what the handle names now has another digest.
    """

    def load() -> Any:
        from beamhub.modules.digest import module_digest
        from beamhub.modules.load import load_module
        from beamhub.modules.resolve import resolve

        path = resolve(handle)
        found = module_digest(path)
        if found != digest:
            raise ModuleError(
                f"module {handle} is {found}, the table wants {digest}: it was changed since the run began"
            )
        return load_module(path, tags)

    return _modules.get((digest, tags), load)


def acquire_pool(spec: TableSpec, threads: int | None = None) -> ComputePool:
    """The compute pool for a version's spec: made once for the process.

    Args:
        spec: what to run.
        threads: how many run the module at a time; by default as many as there are cores. Pools of one process share them.

    Raises:
        ModuleError: the module cannot be loaded or bound.
    """
    count = threads or cores()

    def make() -> ComputePool:
        choose_allocator()
        is_ours = configure_tensorflow(count)
        shared = _threads.get(count, lambda: ComputeThreads(count))
        module = acquire_module(spec.call.handle, spec.call.digest, spec.call.tags)
        # There are fewer batches of records that differ in length, and each has many calls.
        share = functools.partial(with_free_threads, shared.executor, count) if spec.call.is_open else alone
        caller = replace(bind_caller(module, spec.call, spec.task), turn=shared.turn)
        # One thread more than have a turn; to wait for it is a part of `infer`.
        inference = Inference(caller, spec.task, Stages(count + 1), share)
        if not is_ours:
            inference.stages.count("others_threads", 1)
        return ComputePool(module, inference, shared)

    # The version's name does not tell all that a call is: what was measured, such as frozen variables, is not in it.
    call = json.dumps(replace(spec.call, handle="").to_json(), sort_keys=True)
    pool: ComputePool = _pools.get((spec.version, call, count), make)
    return pool


def bind_caller(module: Any, call: Call, task: Task) -> Caller:
    """A loaded module, bound to the signature, the outputs and the preprocessing that a task wants.

    Bound once for all batch sizes: what was traced to settle a version is there when its first shard comes.
    """
    import tensorflow as tf

    from beamhub.modules.loaded import Feeding

    def bind() -> Any:
        signature = choose_signature(module.variant, call.signature, call.handle)
        prepare = make_prepare(call.bindings, call.constants, signature, call.batched)
        feeding = Feeding(prepare, {each.input: each.shape for each in call.bindings if each.is_open})
        return module.bind(call.signature, task.wanted, feeding, call.frozen, call.precision)

    same = replace(call.of_size(0), together=0, handle="", stacked=True)
    bound = _bound.get((json.dumps(same.to_json(), sort_keys=True), task.wanted), bind)
    # What TensorFlow raises for the values or the shape of a record; memory, a lost device or a missing file are not.
    faults = (
        tf.errors.InvalidArgumentError,
        tf.errors.DataLossError,
        tf.errors.OutOfRangeError,
        tf.errors.UnknownError,
    )
    return Caller(bound, call, (*faults, ValueError), tf.errors.OpError)
