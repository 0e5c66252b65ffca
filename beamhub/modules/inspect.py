"""What a module is, read from its files; nothing of it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from beamhub.modules import image_size, protos
from beamhub.modules.digest import module_digest
from beamhub.modules.folder import is_tf1_hub
from beamhub.modules.resolve import resolve
from beamhub.modules.signatures import Signature, Variant, choose_signature, choose_variant

Format = Literal["tf1_hub", "saved_model"]


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """A module as its files describe it.

    `handle` is what the user gave, `path` the local folder, `image_size` height and width where images are
    expected, `trainable` whether it has variables that training may change, `digest` as `module_digest` gives
    it.
    """

    handle: str
    path: str
    format: Format
    variants: tuple[Variant, ...]
    image_size: tuple[int, int] | None
    trainable: bool
    digest: str

    @property
    def stateful_random(self) -> tuple[str, ...]:
        """Types of random operations behind any signature's outputs, sorted (`Signature.stateful_random`)."""
        signatures = [each for variant in self.variants for each in variant.signatures.values()]
        return tuple(sorted({op for signature in signatures for op in signature.stateful_random}))

    def variant(self, tags: Sequence[str] | None = None) -> Variant:
        """The variant with these tags.

        By default the one without tags (TF1 Hub), else ("serve",), else the only one. Raises ModuleError,
        which lists the tags that there are.
        """
        return choose_variant(self.variants, tags, self.handle)

    def signature(self, name: str | None = None, tags: Sequence[str] | None = None) -> Signature:
        """The signature of that name; by default the only one, or 'serving_default', or 'default'.

        Raises ModuleError, which lists what there is and names the nearest.
        """
        return choose_signature(self.variant(tags), name, self.handle)


def inspect_module(handle: str) -> ModuleInfo:
    """Fetches the module where that is needed, and reads what it is.

    Raises ModuleError: what `resolve` raises, and where the graph file cannot be read.
    """
    path = resolve(handle)
    saved_model = protos.read_saved_model(path)
    variants = protos.variants(saved_model)
    return ModuleInfo(
        handle=handle,
        path=path,
        format="tf1_hub" if is_tf1_hub(path) else "saved_model",
        variants=variants,
        image_size=image_size.attached(saved_model) or image_size.from_inputs(variants),
        trainable=protos.is_trainable(saved_model),
        digest=module_digest(path),
    )
