"""detect: batched detectors (TF2) and unbatched ones (TF1, one image a call, no batch dimension in the outputs)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import beamhub as library
from beamhub.tasks.detect import Detect
from tests.jobs import refused, succeed

SCORES = [0.2, 0.9, 0.9, 0.6, 0.1]
CLASSES = [1, 2, 3, 4, 5]


def boxes_of(images: tf.Tensor) -> tf.Tensor:
    """Five boxes for each image [n, 4, 4, 3]; their corners tell the image's brightness."""
    brightness = tf.reduce_mean(tf.cast(images, tf.float32), axis=(1, 2, 3))[:, tf.newaxis, tf.newaxis]
    return brightness + tf.reshape(tf.range(20, dtype=tf.float32), (1, 5, 4))


def save_batched(path: Path) -> str:
    """As the TensorFlow Object Detection API saves: uint8 images, float classes, `num_detections`; the fifth is padding."""

    @tf.function(input_signature=[tf.TensorSpec((None, 4, 4, 3), tf.uint8, name="input_tensor")])
    def detect(images: tf.Tensor) -> dict[str, tf.Tensor]:
        count = tf.shape(images)[0]
        return {
            "detection_boxes": boxes_of(images),
            "detection_scores": tf.tile([[*SCORES[:4], 0.95]], (count, 1)),
            "detection_classes": tf.tile([list(map(float, CLASSES))], (count, 1)),
            "num_detections": tf.fill([count], 4.0),
        }

    tf.saved_model.save(tf.Module(), str(path), signatures={"serving_default": detect})
    return str(path)


def save_unbatched(path: Path) -> str:
    """As detectors of the TF1 Hub format are: one image of any size a call, names as strings, nothing batched."""
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        images = tf.compat.v1.placeholder(tf.float32, (1, None, None, 3), name="images")
        outputs = {
            "detection_boxes": boxes_of(255 * images)[0],
            "detection_scores": tf.constant(SCORES),
            "detection_class_labels": tf.constant(CLASSES, tf.int64),
            "detection_class_entities": tf.constant([f"thing {each}" for each in CLASSES]),
        }
        builder = tf.compat.v1.saved_model.Builder(str(path))
        signature = tf.compat.v1.saved_model.predict_signature_def({"images": images}, outputs)
        builder.add_meta_graph_and_variables(session, [], {"default": signature})
        builder.save()
    (path / "tfhub_module.pb").write_bytes(b"\x08\x03")
    return str(path)


def write_images(path: Path, sizes: list[int]) -> list[float]:
    """Plain grey PNGs; returns the brightness of each."""
    levels = [10.0 * number for number in range(len(sizes))]
    pictures = [np.full((size, size, 3), level, np.uint8) for size, level in zip(sizes, levels, strict=True)]
    pq.write_table(pa.table({"image": [tf.io.encode_png(each).numpy() for each in pictures]}), path)
    return levels


def expected_boxes(level: float, chosen: list[int]) -> list[list[float]]:
    return [[level + 4 * box + corner for corner in range(4)] for box in chosen]


def check_rows(rows: list[dict[str, object]], levels: list[float], chosen: list[int], names: list[str]) -> None:
    for row, level in zip(rows, levels, strict=True):
        np.testing.assert_allclose(row["boxes"], expected_boxes(level, chosen), atol=1e-3)
        np.testing.assert_allclose(row["scores"], [SCORES[box] for box in chosen], atol=1e-6)
        assert row["classes"] == [CLASSES[box] for box in chosen]
        assert row["names"] == names


def test_batched(tmp_path: Path) -> None:
    """Above 0.3, best first, equal scores in the module's order, and what `num_detections` leaves out is left out."""
    levels = write_images(tmp_path / "corpus.parquet", [4] * 10)
    module = save_batched(tmp_path / "module")

    succeed("detect", "--module", module, "--corpus", tmp_path / "corpus.parquet", "--out", tmp_path / "out")

    rows = library.open(str(tmp_path / "out")).to_table().to_pylist()
    check_rows(rows, levels, [1, 2, 3], ["2", "3", "4"])


def test_unbatched_with_images_of_any_size(tmp_path: Path) -> None:
    levels = write_images(tmp_path / "corpus.parquet", [4, 9, 2])
    module = save_unbatched(tmp_path / "module")

    summary = succeed("detect", "--module", module, "--corpus", tmp_path / "corpus.parquet", "--out", tmp_path / "out")

    assert "size as it is" in summary
    rows = library.open(str(tmp_path / "out")).to_table().to_pylist()
    check_rows(rows, levels, [1, 2, 3], ["thing 2", "thing 3", "thing 4"])


def test_threshold_most_and_names_of_a_label_file(tmp_path: Path) -> None:
    levels = write_images(tmp_path / "corpus.parquet", [4] * 3)
    (tmp_path / "labels.txt").write_text("1,person\n2,bicycle\n3,car\n")

    succeed(
        "detect", "--module", save_batched(tmp_path / "module"), "--corpus", tmp_path / "corpus.parquet", "--out",
        tmp_path / "out", "--threshold=0.1", "--max-detections=2", f"--label-file={tmp_path}/labels.txt",
    )  # fmt: skip

    rows = library.open(str(tmp_path / "out")).to_table().to_pylist()
    check_rows(rows, levels, [1, 2], ["bicycle", "car"])


def test_images_without_objects_are_rows_too(tmp_path: Path) -> None:
    write_images(tmp_path / "corpus.parquet", [4] * 3)

    succeed(
        "detect", "--module", save_batched(tmp_path / "module"), "--corpus", tmp_path / "corpus.parquet", "--out",
        tmp_path / "out", "--threshold=0.99",
    )  # fmt: skip

    rows = library.open(str(tmp_path / "out")).to_table().to_pylist()
    assert [row["boxes"] for row in rows] == [[], [], []]


def test_module_that_detects_nothing(tmp_path: Path) -> None:
    write_images(tmp_path / "corpus.parquet", [4])
    identity = tf.function(lambda x: {"default": x}, input_signature=[tf.TensorSpec((None, 4, 4, 3), tf.float32, "x")])
    tf.saved_model.save(tf.Module(), str(tmp_path / "module"), signatures={"serving_default": identity})

    line = refused(
        2, "detect", "--module", tmp_path / "module", "--corpus", tmp_path / "corpus.parquet", "--out", tmp_path / "out"
    )  # fmt: skip

    assert "no output detection_boxes or boxes" in line
    assert "default" in line


@pytest.mark.parametrize("text", ["", "1,cat\n1,dog\n"])
def test_bad_label_file(text: str, tmp_path: Path) -> None:
    write_images(tmp_path / "corpus.parquet", [4])
    (tmp_path / "labels.txt").write_text(text)

    line = refused(
        2, "detect", "--module", save_batched(tmp_path / "module"), "--corpus", tmp_path / "corpus.parquet", "--out",
        tmp_path / "out", f"--label-file={tmp_path}/labels.txt",
    )  # fmt: skip

    assert "labels.txt" in line


def test_equal_scores_keep_the_modules_order() -> None:
    """Many, for sorting algorithms are stable by chance on few."""
    count = 300
    detect = Detect("boxes", "scores", "classes", None, None, 0.0, count)

    _, _, classes, _ = detect.encode(
        {
            "boxes": np.zeros((1, count, 4), np.float32),
            "scores": np.tile(np.array([0.5, 0.7], np.float32), count // 2)[np.newaxis],
            "classes": np.arange(count)[np.newaxis],
        }
    )

    assert classes.to_pylist() == [[*range(1, count, 2), *range(0, count, 2)]]
