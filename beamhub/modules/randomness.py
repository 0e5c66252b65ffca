"""Which operations of a graph draw other numbers at every call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

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
        self._nodes = {node.name: node for node in graph.node}
        self._functions = {function.signature.name: function for function in graph.library.function}

    def behind(self, tensors: Iterable[str]) -> tuple[str, ...]:
        """Types of the random operations behind tensors ("Net/add:0"), sorted: ("RandomUniform",)."""
        found: set[str] = set()
        called: set[str] = set()
        for node in self._upstream(tensors):
            found |= self._in_node(node, called)
        return tuple(sorted(found))

    def _upstream(self, tensors: Iterable[str]) -> Iterator[Any]:
        waiting = [_node_name(tensor) for tensor in tensors]
        seen: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in seen or name not in self._nodes:
                continue
            seen.add(name)
            yield self._nodes[name]
            waiting.extend(_node_name(each) for each in self._nodes[name].input)

    def _in_node(self, node: Any, called: set[str]) -> set[str]:
        found: set[str] = set()
        waiting = [node]
        while waiting:
            each = waiting.pop()
            if each.op in _RANDOM:
                found.add(each.op)
            for function in _functions_of(each):
                if function in self._functions and function not in called:
                    called.add(function)
                    # All of it: TensorFlow runs a function's stateful operations even where no output needs
                    # them.
                    waiting.extend(self._functions[function].node_def)
        return found


def _node_name(tensor: str) -> str:
    return tensor.lstrip("^").split(":")[0]


def _functions_of(node: Any) -> Iterator[str]:
    yield node.op
    for attribute in node.attr.values():
        if attribute.HasField("func"):
            yield attribute.func.name
        elif attribute.HasField("list"):
            yield from (function.name for function in attribute.list.func)
