"""What `beamhub inspect` prints: a module's description, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from beamhub.modules.inspect import ModuleInfo
from beamhub.modules.signatures import Signature, TensorSpec, describe_tags

_FORMATS = {"tf1_hub": "TF1 Hub", "saved_model": "SavedModel"}


def format_info(info: ModuleInfo) -> str:
    """Several lines of text: what the module is, then each variant's signatures with inputs and outputs."""
    size = "not fixed" if info.image_size is None else "{} x {} (height x width)".format(*info.image_size)
    random = ", ".join(info.stateful_random) or "none"
    lines = [
        f"module      {info.handle}",
        f"folder      {info.path}",
        f"format      {_FORMATS[info.format]}",
        f"digest      {info.digest}",
        f"image size  {size}",
        f"trainable   {'yes' if info.trainable else 'no'}",
        f"random ops  {random}",
    ]
    for variant in info.variants:
        lines.append(f"tags {describe_tags(variant.tags)}")
        for signature in variant.signatures.values():
            lines += _signature_lines(signature)
    return "\n".join(lines)


def info_json(info: ModuleInfo) -> dict[str, Any]:
    """The same as a dict of JSON's own types; a size that is not fixed and an unknown rank are null."""
    return {
        "handle": info.handle,
        "path": info.path,
        "format": info.format,
        "digest": info.digest,
        "image_size": None if info.image_size is None else list(info.image_size),
        "trainable": info.trainable,
        "stateful_random": list(info.stateful_random),
        "variants": [
            {
                "tags": list(variant.tags),
                "signatures": {name: _signature_json(each) for name, each in variant.signatures.items()},
            }
            for variant in info.variants
        ],
    }


def _signature_lines(signature: Signature) -> Iterator[str]:
    random = f"  (random: {', '.join(signature.stateful_random)})" if signature.stateful_random else ""
    yield f"  signature {signature.name}{random}"
    width = max((len(name) for name in (*signature.inputs, *signature.outputs)), default=0)
    for direction, specs in (("input ", signature.inputs), ("output", signature.outputs)):
        for spec in specs.values():
            yield f"    {direction}  {spec.name.ljust(width)}  {spec}"


def _signature_json(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {name: _spec_json(spec) for name, spec in signature.inputs.items()},
        "outputs": {name: _spec_json(spec) for name, spec in signature.outputs.items()},
        "stateful_random": list(signature.stateful_random),
    }


def _spec_json(spec: TensorSpec) -> dict[str, Any]:
    shape = None if spec.shape is None else list(spec.shape)
    return {"dtype": spec.dtype, "shape": shape, "kind": spec.kind}
