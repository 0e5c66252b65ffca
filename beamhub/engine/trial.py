"""A module tried on the first records, to learn what a version's spec must say of its outputs."""

from __future__ import annotations

import base64
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub.corpus.shards import Chunk
from beamhub.engine.caller import Caller, Failure, Gathered, Rows
from beamhub.engine.sizing import fed_bytes
from beamhub.engine.tablespec import Call
from beamhub.modules.ragged import Ragged
from beamhub.tasks.base import Outputs, OutputShape
from beamhub.tasks.binding import Binding
from beamhub.tasks.gather import Array

_BLACK_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
"""A grey PNG image of one black pixel."""


@dataclass(frozen=True)
class Trial:
    """Tries of one caller. Methods raise what `Caller.attempt` raises."""

    caller: Caller

    def first(self, batch: Chunk) -> tuple[Outputs | None, Rows, dict[int, Failure]]:
        """The outputs for the first records of a batch that the module takes, and which they are; None where it takes none.

        The failures are those of the records that it did not take.
        """
        gathered = Gathered(self.caller.call, batch)
        failures = gathered.failures
        size = self.caller.call.sizes[0]
        # The longest records first: the others take less time and memory.
        for rows in sorted(gathered.groups(), key=gathered.length, reverse=True):
            # Together, as the job will; one by one where a record is in the way.
            for some in (rows[:size], *(rows[place : place + 1] for place in range(len(rows)))):
                outputs = self.caller.attempt(gathered.feeds, some, size)
                if not isinstance(outputs, Exception):
                    return outputs, some, failures
                failures[int(some[0])] = Failure.of("infer", outputs, 1)
        return None, np.empty(0, np.int64), failures

    def empty(self) -> Outputs | None:
        """The outputs for zeros, empty texts and black images; None where the module does not take them."""
        call = self.caller.call
        outputs = self.caller.raw({each.input: _neutral(each, call.sizes[0]) for each in call.bindings})
        return None if isinstance(outputs, Exception) else self.caller.stack(outputs, call.sizes[0])

    def lacks_batch(self, batch: Chunk) -> bool:
        """Whether a call with one record gives, for some record of a batch, an output that has not one row."""
        gathered = Gathered(self.caller.call, batch)
        for row in itertools.chain.from_iterable(gathered.groups()):
            outputs = self.caller.raw({each.binding.input: each.take(np.array([row]), 1) for each in gathered.feeds})
            if isinstance(outputs, Exception):
                continue
            if any(isinstance(v, np.ndarray) and (v.ndim == 0 or len(v) != 1) for v in outputs.values()):
                return True
        return False

    def fed_bytes(self, batch: Chunk | None) -> int:
        """Bytes that a record feeds, as those of a batch do."""
        feeds = [] if batch is None else Gathered(self.caller.call, batch).feeds
        return fed_bytes(self.caller.call.bindings, {feed.binding.input: feed for feed in feeds})

    def known_result_bytes(self) -> int | None:
        """Bytes of all outputs of one record, where TensorFlow knows them without a run."""
        call, bound = self.caller.call, self.caller.bound
        shapes = {name: bound.signature.outputs[name].shape for name in bound.outputs}
        if all(shape and None not in shape[1:] for shape in shapes.values()):
            # A signature that says them needs no trace.
            shapes = {name: (call.sizes[0], *(shape or ())[1:]) for name, shape in shapes.items()}
        else:
            try:
                shapes = bound.output_shapes(_specs(call))
            except self.caller.refusals:
                return None
        total = 0
        for name, shape in shapes.items():
            spec = bound.signature.outputs[name]
            known = [size for size in shape or () if size is not None]
            if spec.kind != "dense" or spec.dtype == "string" or shape is None or len(known) < len(shape):
                return None
            total += math.prod(known) * np.dtype(spec.dtype).itemsize
        return total // call.sizes[0]

    def output_shapes(self, sample: Outputs) -> dict[str, OutputShape]:
        """What is known of each output: sizes that TensorFlow proves for every call of this shape; the others vary."""
        bound = self.caller.bound
        static = bound.output_shapes(_specs(self.caller.call))
        shapes = {}
        for name, value in sample.items():
            rank = 0 if isinstance(value, Ragged) else value.ndim - 1
            proven = static[name]
            # A static shape begins with the batch dimension, but for modules that take one record without it.
            shape = (None,) * rank if proven is None else tuple(proven[len(proven) - rank :])
            values = value.values if isinstance(value, Ragged) else value
            dtype = "string" if values.dtype == object else str(values.dtype)
            shapes[name] = OutputShape(name, dtype, bound.signature.outputs[name].kind, shape, value)
        return shapes


def _specs(call: Call) -> dict[str, Any]:
    import tensorflow as tf

    return {each.input: tf.TensorSpec((call.sizes[0], *(each.shape or ())), each.dtype) for each in call.bindings}


def _neutral(binding: Binding, size: int) -> Array:
    if binding.dtype == "string":
        return np.full(size, _BLACK_PIXEL if binding.pixels is not None else b"", object)
    return np.zeros((size, *(1 if each is None else each for each in binding.shape or ())), binding.dtype)
