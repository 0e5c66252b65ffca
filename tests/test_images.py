"""What a module is fed for images, against Pillow's decoders and resizing done by hand."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image

import beamhub as library
from beamhub.tasks.binding import Binding
from beamhub.tasks.gather import gather
from beamhub.tasks.pixels import Pixels
from beamhub.tasks.prepare import fit_images
from tests.jobs import refused, succeed, tensor_column


def save_identity(path: Path, shape: tuple[int | None, ...], dtype: tf.DType = tf.float32) -> str:
    """A module that gives back the images it is fed, as float32."""

    @tf.function(input_signature=[tf.TensorSpec(shape, dtype, name="images")])
    def echo(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"default": tf.cast(images, tf.float32)}

    tf.saved_model.save(tf.Module(), str(path), signatures={"serving_default": echo})
    return str(path)


def encode(picture: np.ndarray, name: str, **options: object) -> bytes:
    target = io.BytesIO()
    Image.fromarray(picture).save(target, name, **options)
    return target.getvalue()


def echoed(tmp_path: Path, module: str, column: pa.Array, *flags: object) -> np.ndarray:
    """What the module was fed for each record of a column."""
    pq.write_table(pa.table({"image": column}), tmp_path / "corpus.parquet")
    succeed(
        "extract", "--module", module, "--corpus", tmp_path / "corpus.parquet", "--out", tmp_path / "out", *flags
    )  # fmt: skip
    return library.open(str(tmp_path / "out")).to_numpy("default")


COLOUR = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
GREY = np.random.default_rng(1).integers(0, 256, (6, 5), dtype=np.uint8)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(COLOUR, "PNG"), COLOUR),
        (encode(COLOUR, "BMP"), COLOUR),
        (encode(GREY, "PNG"), np.repeat(GREY[..., np.newaxis], 3, axis=-1)),
        (encode(GREY, "GIF"), np.repeat(GREY[..., np.newaxis], 3, axis=-1)),
        (encode(np.dstack([COLOUR, GREY]), "PNG"), COLOUR),
    ],
    ids=["PNG", "BMP", "grey PNG", "GIF", "PNG with alpha"],
)
def test_encoded_images_become_three_channels(data: bytes, expected: np.ndarray, tmp_path: Path) -> None:
    module = save_identity(tmp_path / "module", (None, 6, 5, 3))

    found = echoed(tmp_path, module, pa.array([data] * 3, pa.binary()))

    np.testing.assert_allclose(found, np.stack([expected] * 3) / 255, atol=1e-6)


def test_jpeg_is_decoded_as_by_pillow(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(32) * 4, np.arange(32) * 3).astype(np.uint8)
    data = encode(np.dstack([smooth, smooth // 2, 255 - smooth]), "JPEG", quality=95)
    module = save_identity(tmp_path / "module", (None, 32, 32, 3))

    found = echoed(tmp_path, module, pa.array([data], pa.binary()))

    # The two libraries' inverse transforms and chroma upsampling may differ by a few steps of 255.
    np.testing.assert_allclose(found[0], np.asarray(Image.open(io.BytesIO(data))) / 255, atol=4 / 255)


def test_gif_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    target = io.BytesIO()
    frames[0].save(target, "GIF", save_all=True, append_images=frames[1:])
    module = save_identity(tmp_path / "module", (None, 6, 5, 3))

    found = echoed(tmp_path, module, pa.array([target.getvalue()], pa.binary()))

    np.testing.assert_allclose(found[0, ..., 0], GREY / 255, atol=1e-6)


def test_pictures_of_many_sizes_are_stretched(tmp_path: Path) -> None:
    """Bilinear by hand: doubling [0, 100] with half-pixel centres gives 0, 25, 75, 100."""
    row = np.array([[0, 100]], np.uint8)
    tall = np.array([[0], [100]], np.uint8)
    module = save_identity(tmp_path / "module", (None, 4, 4, 1))

    found = echoed(
        tmp_path, module, pa.array([encode(row, "PNG"), encode(tall, "PNG")], pa.binary()), "--image-range=0,255"
    )

    np.testing.assert_allclose(found[0, :, :, 0], np.tile([0, 25, 75, 100], (4, 1)), atol=1e-4)
    np.testing.assert_allclose(found[1, :, :, 0], np.tile([[0], [25], [75], [100]], (1, 4)), atol=1e-4)


def test_nearest(tmp_path: Path) -> None:
    module = save_identity(tmp_path / "module", (None, 1, 4, 1))

    found = echoed(
        tmp_path, module, pa.array([encode(np.array([[0, 100]], np.uint8), "PNG")], pa.binary()), "--resize=nearest",
        "--image-range=0,255",
    )  # fmt: skip

    assert found[0, 0, :, 0].tolist() == [0, 0, 100, 100]


@pytest.mark.parametrize(("flags", "low", "high"), [([], 0, 1), (["--image-range=-1,1"], -1, 1)])
def test_range_of_float_inputs(flags: list[str], low: float, high: float, tmp_path: Path) -> None:
    module = save_identity(tmp_path / "module", (None, 6, 5, 3))

    found = echoed(tmp_path, module, pa.array([encode(COLOUR, "PNG")], pa.binary()), *flags)

    np.testing.assert_allclose(found[0], COLOUR / 255 * (high - low) + low, atol=1e-6)


def test_uint8_inputs_get_pixels_as_they_are(tmp_path: Path) -> None:
    module = save_identity(tmp_path / "module", (None, 6, 5, 3), tf.uint8)

    found = echoed(tmp_path, module, pa.array([encode(COLOUR, "PNG")], pa.binary()))

    np.testing.assert_array_equal(found[0], COLOUR)


def nested(pictures: np.ndarray) -> pa.Array:
    return pa.array(pictures.tolist(), pa.list_(pa.list_(pa.list_(pa.uint8()))))


def flat(pictures: np.ndarray) -> pa.Array:
    return pa.array(pictures.reshape(len(pictures), -1).tolist(), pa.list_(pa.uint8()))


def raw_bytes(pictures: np.ndarray) -> pa.Array:
    return pa.array([picture.tobytes() for picture in pictures], pa.binary())


@pytest.mark.parametrize(
    ("column", "flags"),
    [
        (tensor_column, []),
        (nested, []),
        (flat, []),
        (flat, ["--image-shape=6,5,3"]),
        (raw_bytes, ["--image-shape=6,5,3"]),
    ],
)
def test_raw_pixels_by_shape(column: Callable[[np.ndarray], pa.Array], flags: list[str], tmp_path: Path) -> None:
    pictures = np.random.default_rng(2).integers(0, 256, (10, 6, 5, 3), dtype=np.uint8)
    module = save_identity(tmp_path / "module", (None, 6, 5, 3))

    found = echoed(tmp_path, module, column(pictures), *flags)

    np.testing.assert_allclose(found, pictures / 255, atol=1e-6)


@pytest.mark.parametrize(
    "kind",
    [pa.binary(), pa.large_binary(), pa.binary(4), pa.binary_view(), pa.string(), pa.large_string(), pa.string_view()],
)
def test_raw_pixels_are_taken_from_binaries_of_every_kind_and_from_parts_of_them(kind: pa.DataType) -> None:
    binding = Binding("x", "x", "uint8", (4,))
    values = [b"abcd", b"wxyz", None, b"0123", b"4567"]
    column = pa.array(values, pa.binary()).cast(kind)

    for first, last in ((0, 5), (1, 5), (3, 4), (2, 2), (5, 5)):
        feed = gather(binding, column[first:last])
        good = np.array([row for row, value in enumerate(values[first:last]) if value is not None], np.int64)

        assert feed.problems == {row: "is missing" for row in range(last - first) if row not in good}
        if len(good):
            assert feed.take(good, len(good)).tobytes() == b"".join(
                value for value in values[first:last] if value is not None
            )
    assert not gather(binding, pa.array([], kind)).lengths.size


@pytest.mark.parametrize("method", ["bilinear", "nearest", "bicubic", "area", "lanczos3"])
@pytest.mark.parametrize("size", [(9, 4), (3, 3)])
def test_resized_bytes_have_the_values_of_resized_floats(method: str, size: tuple[int, int]) -> None:
    """They are cast once they are small."""
    pictures = np.random.default_rng(4).integers(0, 256, (2, 6, 5, 3), dtype=np.uint8)
    pixels = Pixels((6, 5, 3), size, 3, "float32", True, 0, 255, method)

    found = fit_images(tf.constant(pictures), pixels)

    expected = tf.image.resize(tf.cast(pictures, tf.float32), size, method)
    assert found.numpy().tobytes() == expected.numpy().tobytes()


def test_raw_grey_pixels_of_another_size_become_colour(tmp_path: Path) -> None:
    pictures = np.array([[[0, 100]]], np.uint8)
    module = save_identity(tmp_path / "module", (None, 1, 4, 3))

    found = echoed(tmp_path, module, tensor_column(pictures), "--image-range=0,255")

    np.testing.assert_allclose(found[0, 0], [[value] * 3 for value in (0, 25, 75, 100)], atol=1e-4)


def test_float_pixels_are_taken_as_they_are(tmp_path: Path) -> None:
    pictures = np.random.default_rng(3).normal(size=(4, 6, 5, 3)).astype(np.float32)
    module = save_identity(tmp_path / "module", (None, 6, 5, 3))

    found = echoed(tmp_path, module, tensor_column(pictures))

    np.testing.assert_array_equal(found, pictures)


def test_integers_outside_0_255_are_dead_letters(tmp_path: Path) -> None:
    pixels = [[0, 255], [0, 256], [1, 2]]
    module = save_identity(tmp_path / "module", (None, 1, 2, 1))

    found = echoed(
        tmp_path, module, pa.array(pixels, pa.list_(pa.int64())), "--image-shape=1,2,1",
        "--image-range=0,255", "--max-dead-fraction=0.5",
    )  # fmt: skip

    assert found.reshape(2, 2).tolist() == [[0, 255], [1, 2]]
    (dead,) = library.open(str(tmp_path / "out")).dead_letters().to_pylist()
    assert "256, outside 0..255" in dead["error"]


def test_any_size_wants_image_size(tmp_path: Path) -> None:
    module = save_identity(tmp_path / "module", (None, None, None, 3))
    pq.write_table(pa.table({"image": pa.array([encode(COLOUR, "PNG")], pa.binary())}), tmp_path / "corpus.parquet")
    flags = ["--module", module, "--corpus", tmp_path / "corpus.parquet", "--out", tmp_path / "out"]

    line = refused(2, "extract", *flags)

    assert "--image-size H,W" in line
    succeed("extract", *flags, "--image-size=6,5")
    np.testing.assert_allclose(library.open(str(tmp_path / "out")).to_numpy("default")[0], COLOUR / 255, atol=1e-6)


def test_colour_does_not_become_grey(tmp_path: Path) -> None:
    module = save_identity(tmp_path / "module", (None, 6, 5, 1))
    pq.write_table(pa.table({"image": tensor_column(np.stack([COLOUR, COLOUR]))}), tmp_path / "corpus.parquet")

    line = refused(2, "extract", "--module", module, "--corpus", tmp_path / "corpus.parquet", "--out", tmp_path / "out")

    assert "only grey becomes colour" in line
