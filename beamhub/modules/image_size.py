"""The size of image that a module expects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from beamhub.modules.signatures import Variant

ImageSize = tuple[int, int]
"""Height and width in pixels."""

_CHANNELS = (1, 3, 4)


def attached(saved_model: Any) -> ImageSize | None:
    """The size that a TF1 Hub module says in its `image_module_info` attachment; None where it says none."""
    for graph in saved_model.meta_graphs:
        if "hub_module_attachments" in graph.collection_def:
            for attachment in graph.collection_def["hub_module_attachments"].bytes_list.value:
                if (size := _attached_size(attachment)) is not None:
                    return size
    return None


def from_inputs(variants: Iterable[Variant]) -> ImageSize | None:
    """The size of inputs of shape [?,H,W,C], C being 1, 3 or 4; None where there is none, or sizes differ."""
    sizes = set(_input_sizes(variants))
    return sizes.pop() if len(sizes) == 1 else None


def _input_sizes(variants: Iterable[Variant]) -> Iterator[ImageSize]:
    for variant in variants:
        for signature in variant.signatures.values():
            for spec in signature.inputs.values():
                match spec.shape:
                    case (_, int(height), int(width), channels) if channels in _CHANNELS:
                        yield height, width


def _attached_size(attachment: bytes) -> ImageSize | None:
    # tensorflow_hub's protocol buffers: ModuleAttachment {1: key, 2: value}, the value ImageModuleInfo {1:
    # ImageSize}, and ImageSize {1: height, 2: width}.
    fields = _fields(attachment)
    if fields.get(1) != b"image_module_info":
        return None
    size = _fields(_fields(fields.get(2, b"")).get(1, b""))
    return (size[1], size[2]) if 1 in size and 2 in size else None


def _fields(message: bytes) -> dict[int, Any]:
    # Read as an empty message, every field of a protocol buffer is an unknown one: number and value, no
    # schema needed.
    from google.protobuf import empty_pb2, unknown_fields

    unread = unknown_fields.UnknownFieldSet(empty_pb2.Empty.FromString(message))
    fields = (unread[index] for index in range(len(unread)))
    return {field.field_number: field.data for field in fields}
