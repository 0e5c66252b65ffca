"""What a graph runs on the way to a tensor: its nodes, and those of the functions that they call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

GRAPH = ""
"""The name of what is no function: the graph itself."""


@dataclass(frozen=True, slots=True)
class Place:
    """A `NodeDef` and the function whose body it is in, `GRAPH` for none."""

    node: Any
    function: str


class CallGraph:
    """One `GraphDef` and its function library."""

    def __init__(self, graph: Any) -> None:
        """`graph` is a `GraphDef`."""
        self.nodes = {node.name: node for node in graph.node}
        self.functions = {function.signature.name: function for function in graph.library.function}

    def run(self, tensors: Iterable[str], functions: Iterable[str] = ()) -> Iterator[Place]:
        """Every node that is run for tensors ("Net/add:0") of the graph, or where functions are called, once each.

        Of a function all nodes: TensorFlow runs its stateful operations even where no output needs them.
        """
        called: set[str] = set()
        waiting = [Place(node, GRAPH) for node in self._upstream(tensors)]
        waiting += self._bodies(functions, called)
        while waiting:
            place = waiting.pop()
            yield place
            waiting += self._bodies(functions_of(place.node), called)

    def _bodies(self, functions: Iterable[str], called: set[str]) -> Iterator[Place]:
        for name in functions:
            if name in self.functions and name not in called:
                called.add(name)
                yield from (Place(node, name) for node in self.functions[name].node_def)

    def _upstream(self, tensors: Iterable[str]) -> Iterator[Any]:
        waiting = [node_name(tensor) for tensor in tensors]
        seen: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in seen or name not in self.nodes:
                continue
            seen.add(name)
            yield self.nodes[name]
            waiting.extend(node_name(each) for each in self.nodes[name].input)


def node_name(tensor: str) -> str:
    """The node of a tensor ("Net/add:0", "add:z:0" in functions), or of a control input ("^add")."""
    return tensor.lstrip("^").split(":")[0]


def functions_of(node: Any) -> Iterator[str]:
    """The names of the functions that a node may call; its operation is among them, which may be one."""
    yield node.op
    for attribute in node.attr.values():
        if attribute.HasField("func"):
            yield attribute.func.name
        elif attribute.HasField("list"):
            yield from (function.name for function in attribute.list.func)
