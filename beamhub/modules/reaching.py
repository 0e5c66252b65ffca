"""What of a module reaches out of the computation: files, the network, Python, libraries. Read from its graph; nothing is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from beamhub.errors import ModuleError
from beamhub.modules import operations
from beamhub.modules.callgraph import GRAPH, CallGraph, Place
from beamhub.modules.own_files import OwnFiles
from beamhub.modules.protos import tensor_names

LIBRARY = "is of a library, not of TensorFlow"

_INITIALIZERS = ("saved_model_main_op", "legacy_init_op", "table_initializer")
"""Collections of the operations that TensorFlow runs when it loads a graph."""

_FILE_INPUT = {"InitializeTableFromTextFile": 1, "InitializeTableFromTextFileV2": 1, "ReadFile": 0}
"""Which input is the name of the file that is read."""


@dataclass(frozen=True, order=True, slots=True)
class Reach:
    """An operation ("ReadFile"), what it does ("reads files"), and the name of the first node of it that is found."""

    operation: str
    does: str
    node: str

    def __str__(self) -> str:
        """For people."""
        return f"{self.operation} {self.does} ({self.node})"


def check_reaches(found: Sequence[Reach], allowed: Sequence[str], handle: str) -> None:
    """Raises ModuleError where a module reaches out by operations that are not among those allowed."""
    refused = [each for each in found if each.operation not in allowed]
    if refused:
        names = ",".join(sorted({*allowed, *(each.operation for each in refused)}))
        raise ModuleError(
            f"{handle}: {'; '.join(map(str, refused))}: a module that reaches out is not loaded; if it may, give "
            f"--allow-operations {names}"
        )


def reaches(saved_model: Any) -> tuple[Reach, ...]:
    """The operations of a `SavedModel` that reach out and that may be run, each once, sorted.

    That is on the way to an output of a signature, when it is loaded, or in a function that it has by name. Those that save and
    restore variables stand beside, and are not run. A table that is filled from one of the module's own assets reaches nowhere
    else.
    """
    found: dict[tuple[str, str], str] = {}
    for meta_graph in saved_model.meta_graphs:
        for reach in _in_graph(meta_graph):
            found.setdefault((reach.operation, reach.does), reach.node)
    return tuple(sorted(Reach(operation, does, node) for (operation, does), node in found.items()))


def _in_graph(meta_graph: Any) -> Iterator[Reach]:
    graph = CallGraph(meta_graph.graph_def)
    own = OwnFiles(meta_graph, graph)
    for place in graph.run(_tensors(meta_graph), meta_graph.object_graph_def.concrete_functions):
        node = place.node
        does = operations.does(node) or ("" if _is_known(node.op, graph) else LIBRARY)
        if does and not _reads_own_file(place, own):
            yield Reach(node.op, does, node.name if place.function == GRAPH else f"{node.name} of {place.function}")


def _tensors(meta_graph: Any) -> Iterator[str]:
    for signature in meta_graph.signature_def.values():
        for info in signature.outputs.values():
            yield from tensor_names(info)
    for name in _INITIALIZERS:
        if name in meta_graph.collection_def:
            yield from meta_graph.collection_def[name].node_list.value


def _is_known(operation: str, graph: CallGraph) -> bool:
    from tensorflow.python.framework import op_def_registry

    return operation in graph.functions or op_def_registry.get(operation) is not None


def _reads_own_file(place: Place, own: OwnFiles) -> bool:
    named = _FILE_INPUT.get(place.node.op)
    return named is not None and named < len(place.node.input) and (place.function, place.node.input[named]) in own
