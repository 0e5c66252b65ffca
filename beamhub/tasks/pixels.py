"""Image columns: what is in them, and what the module wants of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from beamhub.errors import CorpusError, UsageError
from beamhub.modules.signatures import TensorSpec
from beamhub.spec import Job
from beamhub.tasks.columns import fixed_elements, is_bytes, list_depth, value_type

MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF8": "GIF", b"BM": "BMP"}
"""First bytes of the encodings that TensorFlow decodes (the formats' own specifications)."""

CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Pixels:
    """How an image column becomes an input.

    `shape` is [height, width, channels] of raw pixels, None for encoded images. `size` is the module's (height, width),
    None where it takes any. `channels` and `dtype` are the module's. Integer pixels are scaled from 0..255 to `low`..`high`;
    float pixels are taken as they are (`integer` False).
    """

    shape: tuple[int, ...] | None
    size: tuple[int, int] | None
    channels: int
    dtype: str
    integer: bool
    low: float
    high: float
    method: str

    @property
    def feed_dtype(self) -> str:
        """The dtype of the fed array."""
        if self.shape is None:
            return "string"
        return "uint8" if self.integer else "float32"

    @property
    def feed_shape(self) -> tuple[int, ...]:
        """The shape of one record in the fed array."""
        return self.shape or ()

    def describe(self) -> str:
        """One phrase for the summary."""
        kind = "encoded" if self.shape is None else f"raw {'x'.join(map(str, self.shape))}"
        size = f", resized to {self.size[0]}x{self.size[1]} ({self.method})" if self.size else ", size as it is"
        scale = f", 0..255 scaled to {self.low:g}..{self.high:g}" if self.integer else ", float values as they are"
        return f"{kind} images{size}, {self.channels} channels{scale}"

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Pixels:
        """The inverse of `to_json`."""
        lists = {name: None if values[name] is None else tuple(values[name]) for name in ("shape", "size")}
        return cls(**{**values, **lists})


def is_image(shape: tuple[int | None, ...]) -> bool:
    """True for the shape of one record that may be an image: [height, width, channels]."""
    return len(shape) == 3 and shape[-1] in CHANNELS


@dataclass(frozen=True)
class PixelBinder:
    """Decides how `column` (of Arrow type `arrow`) feeds the image input `spec`, whose records have `shape` [H,W,C]."""

    job: Job
    spec: TensorSpec
    shape: tuple[int | None, ...]
    column: str
    arrow: pa.DataType
    sample: pa.RecordBatch

    def bind(self) -> Pixels | None:
        """How the column feeds the input; None where it holds plain numbers of the input's own shape.

        Raises:
            CorpusError: bytes that are neither encoded images nor raw pixels of a known shape, or pixels of a wrong shape.
            UsageError: the module takes any size, and none was given.
        """
        element = value_type(self.arrow)
        given = self.job.sizes("image_shape", 3)
        if is_bytes(element) and given is None:
            self._check_encoded()
            return self._pixels(None, integer=True)
        integer = bool(is_bytes(element) or pa.types.is_integer(element))
        if is_bytes(element) and list_depth(self.arrow):
            raise CorpusError(f"{self._refused()}: give raw pixels as one value of bytes")
        if not integer and not pa.types.is_floating(element):
            raise CorpusError(f"{self._refused()}: give bytes, integers or floats")
        source = given or self._nested_shape()
        if source is None and not pa.types.is_uint8(element):
            return None
        source = source or self._own_shape()
        count = None if is_bytes(element) else fixed_elements(self.arrow)
        if count not in (None, math.prod(source)):
            raise CorpusError(f"{self._refused()}: it has {count} values, not {'x'.join(map(str, source))}")
        if source[-1] not in (1, self.shape[-1]):
            raise CorpusError(f"{self._refused()}: it has {source[-1]} channels, and only grey becomes colour")
        return self._pixels(source, integer)

    def _pixels(self, source: tuple[int, ...] | None, integer: bool) -> Pixels:
        low, high = self._range()
        channels = self.shape[-1] or 3
        return Pixels(source, self._size(), channels, self.spec.dtype, integer, low, high, self.job.resize)

    def _refused(self) -> str:
        wanted = "x".join("?" if size is None else str(size) for size in self.shape)
        return f"column {self.column} is {self.arrow}, input {self.spec.name} wants images of {wanted}"

    def _first(self) -> list[Any]:
        if self.column not in self.sample.schema.names:
            return []
        return [value for value in self.sample.column(self.column).to_pylist() if value is not None][:32]

    def _check_encoded(self) -> None:
        heads = [value.encode() if isinstance(value, str) else value for value in self._first()]
        if heads and not any(head.startswith(tuple(MAGIC)) for head in heads):
            raise CorpusError(
                f"column {self.column} holds bytes that are no {', '.join(MAGIC.values())} image "
                f"(first bytes {heads[0][:8]!r}); for raw pixels give --image-shape H,W,C"
            )

    def _nested_shape(self) -> tuple[int, ...] | None:
        """The shape that nested lists or a tensor type give the pixels, grey given its channel; None for flat pixels."""
        dimensions: list[int] = []
        if isinstance(self.arrow, pa.FixedShapeTensorType):
            dimensions = list(self.arrow.shape)
        elif list_depth(self.arrow) > 1:
            value = next(iter(self._first()), None)
            while isinstance(value, list) and value:
                dimensions.append(len(value))
                value = value[0]
        if len(dimensions) == 2:
            dimensions.append(1)
        return tuple(dimensions) if len(dimensions) == 3 else None

    def _own_shape(self) -> tuple[int, ...]:
        """The input's own shape, for flat pixels."""
        wanted = tuple(size or 0 for size in self.shape)
        first = next(iter(self._first()), None)
        count = fixed_elements(self.arrow) or (len(first) if isinstance(first, list) else None)
        if 0 in wanted or count not in (None, math.prod(wanted)):
            raise CorpusError(f"{self._refused()}: it has {count} pixels of an unknown shape; give --image-shape H,W,C")
        return wanted

    def _range(self) -> tuple[float, float]:
        integer = "int" in self.spec.dtype
        given = self.job.numbers("image_range", 2)
        if given is None:
            return (0.0, 255.0) if integer else (0.0, 1.0)
        # 255 steps do not fit into less than 255 whole numbers.
        if given[0] == given[1] or (integer and abs(given[1] - given[0]) < 255):
            raise UsageError(
                f"--image-range {self.job.image_range}: input {self.spec.name} is {self.spec}; give a wider range"
            )
        return given[0], given[1]

    def _size(self) -> tuple[int, int] | None:
        given = self.job.sizes("image_size", 2)
        height, width = self.shape[0], self.shape[1]
        if given is not None:
            if height not in (None, given[0]) or width not in (None, given[1]):
                raise UsageError(
                    f"--image-size {self.job.image_size}: input {self.spec.name} takes {height}x{width} only; leave it out"
                )
            return given[0], given[1]
        if height is not None and width is not None:
            return height, width
        if self.spec.shape is not None and (len(self.spec.shape) == 3 or self.spec.shape[0] == 1):
            return None
        raise UsageError(
            f"input {self.spec.name} takes images of any size, but a batch needs one: give --image-size H,W"
        )
