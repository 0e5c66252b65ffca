"""Preprocessing as TensorFlow operations, so that it runs inside the module's own `tf.function`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beamhub.errors import UsageError
from beamhub.modules.signatures import Signature, TensorSpec
from beamhub.tasks.binding import Binding
from beamhub.tasks.pixels import Pixels

Tensors = dict[str, Any]


def make_prepare(
    bindings: Sequence[Binding], constants: Mapping[str, np.ndarray[Any, Any]], signature: Signature, batched: bool
) -> Callable[[Tensors], Tensors]:
    """A traceable function from fed tensors, by input name, to the signature's inputs.

    Args:
        bindings: how each fed tensor becomes an input.
        constants: JSON values of the other inputs, without a batch dimension where the signature has one.
        signature: the signature to feed.
        batched: whether records are stacked; otherwise the fed batch dimension, which is 1, is taken away.
    """

    def prepare(raw: Tensors) -> Tensors:
        import tensorflow as tf

        inputs = {}
        for binding in bindings:
            tensor = raw[binding.input]
            if binding.pixels is not None:
                tensor = decode_images(tensor, binding.pixels) if binding.pixels.shape is None else tensor
                tensor = fit_images(tensor, binding.pixels)
            inputs[binding.input] = tensor if batched else tensor[0]
        rows = tf.shape(raw[bindings[0].input])[0]
        for name, value in constants.items():
            constant = tf.constant(value, signature.inputs[name].dtype)
            if batched and _stacked(signature.inputs[name], constant.shape.rank):
                constant = tf.repeat(constant[tf.newaxis], rows, axis=0)
            inputs[name] = constant
        return inputs

    return prepare


def _stacked(spec: TensorSpec, rank: int) -> bool:
    return spec.shape is not None and rank == len(spec.shape) - 1


def parse_constants(pairs: Mapping[str, str], signature: Signature) -> dict[str, Any]:
    """The values of `--constant` as JSON values in the dtypes of their inputs, so that equal ones are equal.

    A text for an input of strings is taken as it is, a list of texts is JSON; numbers, booleans and lists of them are JSON.

    Raises:
        UsageError: a value that its input cannot take.
    """
    values = {}
    for name, text in pairs.items():
        spec = signature.inputs[name]
        refused = f"--constant {name}={text}: input {name} is {spec}"
        if spec.dtype == "string" and not (spec.shape and text.lstrip().startswith("[")):
            value: npt.NDArray[Any] = np.array(text, object)
        else:
            value = _parse_json(text, spec, refused)
        if spec.shape is not None and value.ndim not in (len(spec.shape), len(spec.shape) - 1):
            raise UsageError(f"{refused}: a value of rank {value.ndim} does not fit")
        values[name] = value.tolist()
    return values


def _parse_json(text: str, spec: TensorSpec, refused: str) -> npt.NDArray[Any]:
    try:
        given = np.array(json.loads(text))
    except ValueError as error:
        raise UsageError(f"{refused}: give a number, true, false, or a list of them ([1, 2])") from error
    wanted = np.dtype(object if spec.dtype == "string" else spec.dtype)
    kinds = {"f": "iuf", "i": "iu", "u": "iu", "b": "b", "O": "U"}.get(wanted.kind, "")
    if given.dtype.kind not in kinds:
        raise UsageError(f"{refused}: give a value of that type")
    value = given.astype(wanted)
    if wanted.kind in "iu" and not np.array_equal(value, given):
        raise UsageError(f"{refused}: out of its range")
    return value


def decode_images(encoded: Any, pixels: Pixels) -> Any:
    """Decodes a batch of JPEG, PNG, BMP or GIF (first frame) images and resizes them to the module's size.

    Args:
        encoded: string tensor [n].
        pixels: what the module wants.

    Returns:
        float32 [n, height, width, channels] in 0..255; where the module takes any size, n must be 1.
    """
    import tensorflow as tf

    def one(image: Any) -> Any:
        decoded = _decode(image, pixels.channels)
        return _resize(decoded[tf.newaxis], pixels)[0]

    if pixels.size is None:
        return one(encoded[0])[tf.newaxis]
    shape = tf.TensorSpec((*pixels.size, pixels.channels), tf.float32)
    return tf.map_fn(one, encoded, fn_output_signature=shape)


def _decode(image: Any, channels: int) -> Any:
    import tensorflow as tf

    def converted() -> Any:
        # TensorFlow decodes BMP and GIF with their own number of channels only.
        decoded = tf.io.decode_image(image, channels=0, expand_animations=False)
        depth = tf.shape(decoded)[-1]
        colour = tf.cond(
            depth == 1, lambda: tf.repeat(decoded[..., :1], 3, axis=-1), lambda: decoded[..., : tf.minimum(depth, 3)]
        )
        colour = tf.ensure_shape(colour, (None, None, 3))
        if channels == 1:
            return tf.image.rgb_to_grayscale(colour)
        return colour if channels == 3 else tf.pad(colour, ((0, 0), (0, 0), (0, 1)), constant_values=255)

    def direct() -> Any:
        if channels == 4:
            return tf.io.decode_png(image, channels=4)
        return tf.io.decode_image(image, channels=channels, expand_animations=False)

    rigid = tf.logical_or(tf.strings.substr(image, 0, 2) == b"BM", tf.strings.substr(image, 0, 4) == b"GIF8")
    if channels == 4:
        # JPEG has no alpha: opaque.
        rigid = tf.logical_or(rigid, tf.strings.substr(image, 0, 3) == b"\xff\xd8\xff")
    return tf.ensure_shape(tf.cond(rigid, converted, direct), (None, None, channels))


def fit_images(images: Any, pixels: Pixels) -> Any:
    """Resizes, adds channels to grey, scales and casts a batch of images [n, height, width, channels]."""
    import tensorflow as tf

    if pixels.shape is not None:
        images = _resize(images, pixels)
        if images.shape[-1] == 1 and pixels.channels > 1:
            images = tf.repeat(images, pixels.channels, axis=-1)
    if pixels.integer and (pixels.low, pixels.high) != (0.0, 255.0):
        images = images * ((pixels.high - pixels.low) / 255.0) + pixels.low
    dtype = tf.as_dtype(pixels.dtype)
    if dtype.is_integer:
        return tf.cast(tf.clip_by_value(tf.round(images), dtype.min, dtype.max), dtype)
    return tf.cast(images, dtype)


def _resize(images: Any, pixels: Pixels) -> Any:
    import tensorflow as tf

    if images.dtype != tf.uint8:
        images = tf.cast(images, tf.float32)
    if pixels.size is None or images.shape[1:3] == pixels.size:
        return tf.cast(images, tf.float32)
    # Cast when it is small: a photograph of 100 million pixels takes 1.2 GB in float32. The values are the same.
    resized = tf.cast(tf.image.resize(images, pixels.size, pixels.method), tf.float32)
    if images.shape[1] is None:
        # An image that has the size already is left as it is by every method: resizing to the same size is the identity.
        return tf.ensure_shape(resized, (1, *pixels.size, pixels.channels))
    return resized
