"""What a module says about itself: its variants, their signatures, and the tensors these take and give."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from beamhub.errors import ModuleError

Shape = tuple[int | None, ...] | None
"""Sizes, None for one that is not fixed; None alone for an unknown rank."""

Kind = Literal["dense", "sparse", "ragged"]

PREFERRED = ("serving_default", "default")
"""The signature that is meant when several are there and none is named: TF2's and the TF1 Hub format's."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A named input or output: `dtype` as TensorFlow names it ("string"), `shape` with the batch."""

    name: str
    dtype: str
    shape: Shape
    kind: Kind = "dense"

    def __str__(self) -> str:
        """For people: "float32 [?,96,96,3]", "sparse int64 [?,?]"."""
        kind = "" if self.kind == "dense" else f"{self.kind} "
        return f"{kind}{describe_tensor(self.dtype, self.shape)}"


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a module. Inputs and outputs are sorted by name.

    `stateful_random` names the operations on the way to the outputs that draw other numbers at every call
    (dropout in a training variant, sampling): where there are any, the same input does not give the same
    bytes.
    """

    name: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    stateful_random: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Variant:
    """One graph of a module, chosen by its tags; signatures by name, sorted, without TensorFlow's helpers."""

    tags: tuple[str, ...]
    signatures: dict[str, Signature]


def describe_tensor(dtype: str, shape: Shape) -> str:
    """For people: "float32 [?,96,96,3]", "string []" for a scalar, "float32 of unknown rank"."""
    if shape is None:
        return f"{dtype} of unknown rank"
    return f"{dtype} [{','.join('?' if size is None else str(size) for size in shape)}]"


def describe_tags(tags: Iterable[str]) -> str:
    """For people: "{serve}", "{}" where there are none."""
    return "{" + ",".join(tags) + "}"


def fits(shape: Sequence[int | None], wanted: Shape) -> bool:
    """True where no size is known to differ: [8,96,96,3] fits [?,96,96,3], and so does [?,?,?,3]."""
    if wanted is None:
        return True
    return len(shape) == len(wanted) and all(
        got is None or want is None or got == want for got, want in zip(shape, wanted, strict=True)
    )


def unknown(where: str, kind: str, name: str, known: Iterable[str]) -> ModuleError:
    """The error for a name that is not there, with what there is and, where one is near, the nearest."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return ModuleError(f"{where}: no {kind} '{name}', only {', '.join(names) or 'none'}{hint}")


def choose_variant(variants: Sequence[Variant], tags: Sequence[str] | None, where: str) -> Variant:
    """The variant with exactly these tags, in any order.

    With None the one without tags (TF1 Hub format), else the one for serving, else the only one. Raises
    ModuleError, which lists the tags that there are.
    """
    by_tags = {frozenset(variant.tags): variant for variant in variants}
    wanted = [frozenset(tags)] if tags is not None else [frozenset[str](), frozenset(("serve",))]
    for each in wanted:
        if each in by_tags:
            return by_tags[each]
    if tags is None and len(variants) == 1:
        return variants[0]
    got = f"no variant with tags {describe_tags(tags)}" if tags is not None else "no default variant"
    there = ", ".join(describe_tags(each) for each in sorted(variant.tags for variant in variants))
    raise ModuleError(f"{where}: {got}, only {there or 'none'}; choose one of these tags")


def choose_signature(variant: Variant, name: str | None, where: str) -> Signature:
    """The signature of that name; with None the only one, or 'serving_default', or 'default'.

    Raises ModuleError, which lists the signatures and names the nearest.
    """
    signatures = variant.signatures
    if name is not None:
        if name not in signatures:
            raise unknown(where, "signature", name, signatures)
        return signatures[name]
    if len(signatures) == 1:
        return next(iter(signatures.values()))
    for preferred in PREFERRED:
        if preferred in signatures:
            return signatures[preferred]
    if not signatures:
        raise ModuleError(f"{where}: the module has no signatures; save it again with signatures=...")
    raise ModuleError(f"{where}: several signatures and no default, name one of {', '.join(signatures)}")
