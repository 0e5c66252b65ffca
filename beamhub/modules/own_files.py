"""Whether a file name in a graph is that of one of the module's own assets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from beamhub.modules.callgraph import GRAPH, CallGraph, functions_of, node_name

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
"""Operations that hand their inputs to the function as they are. What other operations hand on is not followed."""

_COLLECTION = "saved_model_assets"

_OF_VARIABLES = ("AssignVariableOp", "ReadVariableOp", "VarIsInitializedOp")

_ASIDE = ("Identity", "StopGradient", "EnsureShape")


class OwnFiles:
    """Follows file names in one `MetaGraphDef` to where they come from."""

    def __init__(self, meta_graph: Any, graph: CallGraph) -> None:
        """`graph` is of the same."""
        self._graph = graph
        self._assets = {node_name(each.tensor_info.name) for each in _assets(meta_graph)}
        self._objects = meta_graph.object_graph_def
        self._callers: dict[str, list[tuple[str, Any]]] = {}
        for function, node in self._every_node():
            for called in functions_of(node):
                if called in graph.functions:
                    self._callers.setdefault(called, []).append((function, node))

    def __contains__(self, found: tuple[str, str]) -> bool:
        """Whether a tensor, of a function or of the graph, is an asset's path whoever calls the function."""
        return self._is_own(*found, frozenset())

    def _every_node(self) -> Iterator[tuple[str, Any]]:
        yield from ((GRAPH, node) for node in self._graph.nodes.values())
        for name, function in self._graph.functions.items():
            yield from ((name, node) for node in function.node_def)

    def _is_own(self, function: str, tensor: str, above: frozenset[tuple[str, str]]) -> bool:
        name = node_name(tensor)
        if (function, name) in above:
            return False
        below = above | {(function, name)}
        if function == GRAPH:
            if name in self._assets:
                return True
            node = self._graph.nodes.get(name)
        else:
            definition = self._graph.functions[function]
            arguments = [each.name for each in definition.signature.input_arg]
            if name in arguments:
                return self._is_always_own(function, arguments.index(name), len(arguments), below)
            node = next((each for each in definition.node_def if each.name == name), None)
        if node is None:
            return False
        if node.op == "ReadVariableOp" and function == GRAPH:
            return all(self._is_own(GRAPH, each, below) for each in self._assigned(node_name(node.input[0])))
        return node.op in _ASIDE and self._is_own(function, node.input[0], below)

    def _assigned(self, variable: str) -> list[str]:
        """What is assigned to a variable of the graph; its own name, which is no asset's, where that may be anything.

        TensorFlow 2 writes a graph that reads the paths of assets from variables, for programs that run it by a session.
        """
        handles = [_shared_name(node) for _, node in self._every_node() if node.op == "VarHandleOp"]
        here = self._graph.nodes.get(variable)
        users = [node for node in self._graph.nodes.values() if variable in map(node_name, node.input)]
        # Another handle of the same variable, or whoever is handed this one, may write to it.
        is_alone = here is not None and handles.count(_shared_name(here)) == 1
        if not is_alone or any(node.op not in _OF_VARIABLES for node in users):
            return [variable]
        return [node.input[1] for node in users if node.op == "AssignVariableOp"] or [variable]

    def _is_always_own(self, function: str, place: int, count: int, below: frozenset[tuple[str, str]]) -> bool:
        """Of an argument, by all who call the function: nodes, and TensorFlow's loader."""
        found = []
        for caller, node in self._callers.get(function, ()):
            given = [each for each in node.input if not each.startswith("^")]
            hands_on = (node.op in _CALLS or node.op == function) and len(given) == count
            found.append(hands_on and self._is_own(caller, given[place], below))
        if function in self._objects.concrete_functions:
            # What a function has captured comes last of its arguments.
            bound = self._objects.concrete_functions[function].bound_inputs
            captured = place - (count - len(bound))
            found.append(captured >= 0 and self._objects.nodes[bound[captured]].WhichOneof("kind") == "asset")
        return bool(found) and all(found)


def _shared_name(handle: Any) -> str:
    return handle.attr["shared_name"].s.decode() if "shared_name" in handle.attr else str(handle.name)


def _assets(meta_graph: Any) -> Iterator[Any]:
    """`AssetFileDef`s, in their own field, or in the collection where TensorFlow 1 has them."""
    from tensorflow.core.protobuf import meta_graph_pb2

    yield from meta_graph.asset_file_def
    if _COLLECTION in meta_graph.collection_def:
        for packed in meta_graph.collection_def[_COLLECTION].any_list.value:
            yield meta_graph_pb2.AssetFileDef.FromString(packed.value)
