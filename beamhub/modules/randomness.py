"""Which operations of a graph draw other numbers at every call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from beamhub.modules.callgraph import CallGraph

# Of TensorFlow 2.21's stateful operations those that draw random numbers; `Stateless...` ones take a seed
# instead.
_RANDOM = frozenset(
    {
        "AllCandidateSampler",
        "CudnnRNN",
        "CudnnRNNV2",
        "CudnnRNNV3",
        "FixedUnigramCandidateSampler",
        "LearnedUnigramCandidateSampler",
        "LogUniformCandidateSampler",
        "Multinomial",
        "NonDeterministicInts",
        "ParameterizedTruncatedNormal",
        "RandomCrop",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "RngReadAndSkip",
        "RngSkip",
        "SampleDistortedBoundingBox",
        "SampleDistortedBoundingBoxV2",
        "Skipgram",
        "StatefulRandomBinomial",
        "StatefulStandardNormal",
        "StatefulStandardNormalV2",
        "StatefulTruncatedNormal",
        "StatefulUniform",
        "StatefulUniformFullInt",
        "StatefulUniformInt",
        "ThreadUnsafeUnigramCandidateSampler",
        "TruncatedNormal",
        "UniformCandidateSampler",
    }
)


class RandomOps:
    """Finds random operations on the way to a tensor, in one `GraphDef` and its function library.

    What only initialises variables is in the graph as well, but on the way to no output.
    """

    def __init__(self, graph: Any) -> None:
        """`graph` is a `GraphDef`."""
        self._graph = CallGraph(graph)

    def behind(self, tensors: Iterable[str]) -> tuple[str, ...]:
        """Types of the random operations behind tensors ("Net/add:0"), sorted: ("RandomUniform",)."""
        return tuple(sorted({place.node.op for place in self._graph.run(tensors)} & _RANDOM))
