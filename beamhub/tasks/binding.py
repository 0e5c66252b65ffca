"""Which column feeds which input of a signature, and in what form: decided once, written into the version."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from beamhub.errors import CorpusError, ModuleError, UsageError
from beamhub.modules.signatures import Signature, TensorSpec
from beamhub.spec import RECORD, Job, nearest
from beamhub.tasks.columns import fixed_elements, is_bytes, is_permuted, list_depth, tensor_shape, value_type
from beamhub.tasks.pixels import PixelBinder, Pixels, is_image

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class BatchAxis:
    """How a signature takes records: `fixed` None: any number in a call; n: exactly n; 0: one, without a batch dimension."""

    fixed: int | None = None

    @classmethod
    def candidates(cls, specs: Sequence[TensorSpec]) -> list[BatchAxis]:
        """The axes that the inputs fed from columns may have, likeliest first; an unknown rank is taken to be batched.

        [height, width, 3] is one image without a batch dimension; [?,?,3] may be one, or a batch of sequences: what the
        column holds must tell. Raises UsageError where the inputs do not agree.
        """
        if all(spec.shape is not None and _is_lone_image(spec.shape) for spec in specs):
            return [cls(0)]
        sizes = {spec.shape[0] if spec.shape else 0 for spec in specs if spec.shape is not None}
        if len(sizes) > 1:
            lone = [spec.name for spec in specs if spec.shape == ()]
            hint = f"give {', '.join(lone)} by --constant" if lone else "give some of them by --constant"
            raise UsageError(
                f"inputs {', '.join(f'{s.name} ({s})' for s in specs)} differ in the number of records: {hint}"
            )
        axes = [cls(next(iter(sizes), None))]
        if all(spec.shape is not None and is_image(spec.shape) and spec.shape[:2] == (None, None) for spec in specs):
            axes.append(cls(0))
        return axes

    def record_shape(self, spec: TensorSpec) -> Shape | None:
        """The shape of one record's tensor; None where the rank is unknown."""
        if spec.shape is None:
            return None
        return spec.shape if self.fixed == 0 else spec.shape[1:]


def _is_lone_image(shape: Shape) -> bool:
    return is_image(shape) and shape[0] is not None and shape[1] is not None


@dataclass(frozen=True)
class Binding:
    """One input of the signature and the column that feeds it.

    `dtype` is that of the fed array, `shape` that of one record in it (None for a size that varies, None as a whole for an
    unknown rank), `narrow` whether integers are cast to a smaller type with a check of each record. Images have `pixels`.
    """

    input: str
    column: str
    dtype: str
    shape: Shape | None
    narrow: bool = False
    pixels: Pixels | None = None

    @property
    def is_open(self) -> bool:
        """Whether records may differ in shape."""
        return self.shape is not None and None in self.shape

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Binding:
        """The inverse of `to_json`."""
        pixels = values["pixels"]
        shape = values["shape"]
        return cls(
            values["input"],
            values["column"],
            values["dtype"],
            None if shape is None else tuple(shape),
            values["narrow"],
            None if pixels is None else Pixels.from_json(pixels),
        )


@dataclass(frozen=True)
class Binder:
    """Decides which column feeds which input.

    `schema` are the columns of the corpus, `sample` its first records (they tell encoded images from other bytes).
    `one_integer` says that the format has one type of integer (TFRecord), so that integers may be narrowed, with a check
    of each record.
    """

    job: Job
    signature: Signature
    schema: pa.Schema
    sample: pa.RecordBatch
    one_integer: bool

    def bind(self) -> tuple[tuple[Binding, ...], BatchAxis]:
        """The binding of each input that has no constant, and how records are stacked.

        Raises:
            UsageError: an input that is not there, or is given twice, or not given.
            CorpusError: no column, several columns, or one of the wrong type.
        """
        constants = self.job.pairs("constant")
        given = self._given(constants)
        specs = [spec for name, spec in self.signature.inputs.items() if name not in constants]
        if not specs:
            raise UsageError(f"signature {self.signature.name}: every input is a constant; leave one for a column")
        first: CorpusError | None = None
        for axis in BatchAxis.candidates(specs):
            try:
                return tuple(
                    self.bind_column(axis, spec, given.get(spec.name) or self._only_fit(axis, spec)) for spec in specs
                ), axis
            except CorpusError as error:
                first = first or error
        raise first or CorpusError(f"signature {self.signature.name} cannot be fed")

    def _given(self, constants: Mapping[str, str]) -> dict[str, str]:
        name, inputs = self.signature.name, self.signature.inputs
        pairs = self.job.pairs("input")
        for each in [*pairs, *constants]:
            if each and each not in inputs:
                raise UsageError(
                    f"signature {name} has no input {each!r}{nearest(each, inputs)}; its inputs are {', '.join(inputs)}"
                )
        if "" in constants:
            raise UsageError(f"--constant {constants['']}: give NAME=VALUE; the inputs are {', '.join(inputs)}")
        free = [each for each in inputs if each not in constants]
        if "" in pairs:
            if len(free) != 1 or len(pairs) > 1:
                raise UsageError(f"--input {pairs['']}: several inputs ({', '.join(free)}); give NAME=COLUMN for each")
            return {free[0]: pairs[""]}
        both = sorted(set(pairs) & set(constants))
        if both:
            raise UsageError(f"input {both[0]} has both --input and --constant; give one")
        absent = [each for each in free if each not in pairs]
        if absent and len(free) > 1:
            raise UsageError(
                f"signature {name} has {len(free)} inputs without a constant: give --input NAME=COLUMN "
                f"for {', '.join(absent)}"
            )
        return pairs

    def _only_fit(self, axis: BatchAxis, spec: TensorSpec) -> str:
        fits: list[str] = []
        reasons: list[str] = []
        for column in self.schema.names:
            if column == self.job.key or column in self.job.keep:
                continue
            try:
                self.bind_column(axis, spec, column)
                fits.append(column)
            except CorpusError as error:
                reasons.append(str(error))
        if len(fits) == 1:
            return fits[0]
        choose = f"choose with --input {spec.name}=COLUMN"
        if fits:
            raise CorpusError(f"columns {', '.join(fits)} all fit input {spec.name} ({spec}); {choose}")
        why = "; ".join(reasons) or "none is left beside --key and --keep"
        raise CorpusError(f"no column fits input {spec.name} ({spec}): {why}; {choose}")

    def bind_column(self, axis: BatchAxis, spec: TensorSpec, column: str) -> Binding:
        """The binding of one input to one column. Raises CorpusError where the column does not fit."""
        if spec.kind != "dense":
            raise ModuleError(f"input {spec.name} is {spec.kind}; only dense inputs can be fed from a column")
        if column == RECORD:
            if spec.dtype != "string":
                raise CorpusError(f"input {spec.name} is {spec}; {RECORD} feeds strings only")
            return Binding(spec.name, column, "string", ())
        if column not in self.schema.names:
            raise CorpusError(
                f"no column {column!r} in the corpus{nearest(column, self.schema.names)}; "
                f"its columns are {', '.join(self.schema.names)}"
            )
        arrow = self.schema.field(column).type
        if is_permuted(arrow):
            raise CorpusError(f"column {column} is {arrow}: a permuted tensor; write it in the order of its dimensions")
        shape = axis.record_shape(spec)
        if shape is not None and is_image(shape):
            pixels = PixelBinder(self.job, spec, shape, column, arrow, self.sample).bind()
            if pixels is not None:
                return Binding(spec.name, column, pixels.feed_dtype, pixels.feed_shape, pixels=pixels)
        return self._bind_tensor(Binding(spec.name, column, spec.dtype, shape), arrow, spec)

    def _bind_tensor(self, binding: Binding, arrow: pa.DataType, spec: TensorSpec) -> Binding:
        got = value_type(arrow)
        refused = f"column {binding.column} is {arrow}, input {spec.name} wants {spec}"
        if spec.dtype == "string":
            if not is_bytes(got):
                raise CorpusError(f"{refused}: give a column of strings or bytes")
        else:
            narrow = _cast(got, np.dtype(spec.dtype), self.one_integer)
            if narrow is None:
                raise CorpusError(f"{refused}: only precision may change in a cast; convert the column")
            binding = replace(binding, narrow=narrow)
        if binding.shape is None:
            depth = list_depth(arrow)
            if depth > 1:
                raise CorpusError(
                    f"{refused}: its lists are nested {depth} deep; give a column of numbers or flat lists"
                )
            return replace(binding, shape=(None,) * depth)
        check_layout(arrow, binding.shape, refused)
        return binding


def _cast(got: pa.DataType, wanted: np.dtype[Any], only_wide: bool) -> bool | None:
    """None: refused; False: cast as it is; True: cast with a check of each value."""
    if pa.types.is_boolean(got):
        return False if wanted == np.bool_ else None
    if pa.types.is_floating(got):
        return False if wanted.kind == "f" else None
    if not pa.types.is_integer(got) or wanted.kind not in "iu":
        return None
    if np.can_cast(np.dtype(str(got)), wanted):
        return False
    return True if only_wide else None


def check_layout(arrow: pa.DataType, shape: Shape, refused: str) -> None:
    """Raises CorpusError where no record of a column can have a shape, whatever its values are."""
    depth = list_depth(arrow)
    if depth > 1 and depth not in (len(shape), len(shape) - (shape[-1:] == (1,))):
        raise CorpusError(f"{refused}: its lists are nested {depth} deep")
    size = fixed_elements(arrow)
    if size is not None and None not in shape and size != math.prod(s for s in shape if s is not None):
        raise CorpusError(f"{refused}: a record has {size} values")
    own = tensor_shape(arrow)
    if own is not None and not _same_but_for_ones(own, shape):
        raise CorpusError(f"{refused}: a record has the shape {list(own)}")
    if sum(each is None for each in shape) > 1:
        raise CorpusError(f"{refused}: more than one size is unknown; give a nested column of fixed shape")


def _same_but_for_ones(own: Shape, wanted: Shape) -> bool:
    """Whether a tensor can be fed as it lies: flat values to any shape, others where the sizes that are not 1 agree."""
    got = [size for size in own if size != 1]
    want = [size for size in wanted if size != 1]
    if len(got) < 2:
        return True
    return len(got) == len(want) and all(w in (None, g) for g, w in zip(got, want, strict=True))
