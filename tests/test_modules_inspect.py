"""What a module's files say about it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from beamhub.errors import ModuleError
from beamhub.modules import Signature, TensorSpec, Variant, format_info, image_size, info_json, inspect_module
from beamhub.modules.signatures import choose_signature, choose_variant, fits
from tests.shared import shared


def variant(*names: str, tags: tuple[str, ...] = ()) -> Variant:
    return Variant(tags, {name: Signature(name, {}, {}) for name in names})


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (("only",), "only"),
        (("default", "serving_default", "x"), "serving_default"),
        (("default", "x"), "default"),
    ],
)
def test_without_a_name_the_default_signature_is_meant(names: tuple[str, ...], meant: str) -> None:
    assert choose_signature(variant(*names), None, "m").name == meant


@pytest.mark.parametrize(
    ("names", "asked", "message"),
    [
        (("a", "b"), None, "m: several signatures and no default, name one of a, b"),
        ((), None, "m: the module has no signatures; save it again with signatures=..."),
        (("image", "text"), "imgae", "m: no signature 'imgae', only image, text; did you mean 'image'?"),
        (("image", "text"), "q", "m: no signature 'q', only image, text"),
    ],
)
def test_a_signature_that_is_not_there(names: tuple[str, ...], asked: str | None, message: str) -> None:
    with pytest.raises(ModuleError) as caught:
        choose_signature(variant(*names), asked, "m")

    assert str(caught.value) == message


def test_variants_are_chosen_by_tags() -> None:
    plain, train, serve, gpu = (variant(tags=tags) for tags in ((), ("train",), ("serve",), ("gpu", "serve")))

    assert choose_variant([train, plain], None, "m") is plain
    assert choose_variant([gpu, serve], None, "m") is serve
    assert choose_variant([train], None, "m") is train
    assert choose_variant([serve, gpu], ("serve", "gpu"), "m") is gpu
    with pytest.raises(ModuleError, match=r"m: no variant with tags \{x\}, only \{\}, \{train\}"):
        choose_variant([train, plain], ("x",), "m")
    with pytest.raises(ModuleError, match=r"m: no default variant, only \{gpu,serve\}, \{train\}"):
        choose_variant([train, gpu], None, "m")


def test_a_shape_fits_where_no_size_is_known_to_differ() -> None:
    assert fits((8, 96, 96, 3), (None, 96, 96, 3))
    assert fits((None, 96), (8, None))
    assert fits((1, 2), None)
    assert not fits((8, 95), (None, 96))
    assert not fits((8,), (None, 96))


@pytest.mark.shared
def test_a_tf1_hub_module_with_variants_and_an_attachment() -> None:
    info = inspect_module(shared("modules/tf1_hub_oracle/image"))

    assert (info.format, info.image_size, info.trainable) == ("tf1_hub", (16, 16), True)
    assert [each.tags for each in info.variants] == [(), ("train",)]
    assert list(info.variant().signatures) == ["default", "image_classification", "image_feature_vector"]
    assert info.signature("image_feature_vector").inputs == {
        "images": TensorSpec("images", "float32", (None, 16, 16, 3))
    }
    assert list(info.signature("image_feature_vector").outputs) == ["Net/conv", "Net/global_pool", "default"]


@pytest.mark.shared
def test_dropout_is_found_in_the_training_variant_only() -> None:
    # Both graphs also have random operations that only initialise variables; those do not count.
    info = inspect_module(shared("modules/tf1_hub_oracle/image"))

    assert info.stateful_random == ("RandomUniform",)
    assert info.signature("default", ("train",)).stateful_random == ("RandomUniform",)
    assert info.signature("default", ()).stateful_random == ()


@pytest.mark.shared
def test_sparse_outputs_and_constants() -> None:
    text = inspect_module(shared("modules/tf1_hub_oracle/text"))
    const = inspect_module(shared("modules/tf1_hub_oracle/const"))

    assert text.signature("words").outputs["ids"] == TensorSpec("ids", "int64", (None, None), "sparse")
    assert text.signature("words").inputs["text"] == TensorSpec("text", "string", (None,))
    assert (const.trainable, const.image_size) == (False, None)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        (
            "basic_pitch",
            "input_2 float32 [?,43844,1]",
            "contour float32 [?,172,264], note float32 [?,172,88], onset float32 [?,172,88]",
        ),
        ("mlperf_kws", "input_1 float32 [?,49,10,1]", "dense float32 [?,12]"),
        ("hub_half_plus_two_v1", "default float32 of unknown rank", "default float32 of unknown rank"),
        ("serving_testdata/saved_model_half_plus_two_tf2_cpu", "x float32 [1]", "y float32 [1]"),
        # An old graph, in which [] is written for an unknown shape.
        (
            "serving_testdata/saved_model_half_plus_three",
            "x float32 of unknown rank",
            "y float32 of unknown rank",
        ),
        ("tfx_taxi_serving", "inputs string [?]", "classes string [?,2], scores float32 [?,2]"),
        ("vww_mobilenet_v1/tf2", "images float32 [?,96,96,3]", "default float32 [?,256]"),
    ],
)
def test_the_default_signature_of_published_modules(name: str, inputs: str, outputs: str) -> None:
    signature = inspect_module(shared(f"modules/{name}")).signature()

    assert ", ".join(f"{each.name} {each}" for each in signature.inputs.values()) == inputs
    assert ", ".join(f"{each.name} {each}" for each in signature.outputs.values()) == outputs


def test_an_attached_image_size_is_height_and_width(tmp_path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    # Attachment: field 1 the key, field 2 the value; in it field 1 the size; in that fields 1 and 2.
    size = b"\x08\x10\x10\x20"
    attachment = b"\x0a\x11image_module_info\x12\x06\x0a\x04" + size
    saved_model = saved_model_pb2.SavedModel()
    attachments = saved_model.meta_graphs.add().collection_def["hub_module_attachments"].bytes_list.value
    attachments.append(attachment)

    (tmp_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())

    assert inspect_module(str(tmp_path)).image_size == (16, 32)


def test_inputs_of_two_sizes_are_no_image_size() -> None:
    def taking(height: int) -> Variant:
        spec = TensorSpec("x", "float32", (None, height, 32, 3))
        return Variant((), {"s": Signature("s", {"x": spec}, {})})

    assert image_size.from_inputs([taking(16), taking(16)]) == (16, 32)
    assert image_size.from_inputs([taking(16), taking(24)]) is None


@pytest.mark.shared
def test_image_size_comes_from_the_input_where_nothing_is_attached() -> None:
    assert inspect_module(shared("modules/vww_mobilenet_v1/tf2")).image_size == (96, 96)
    assert inspect_module(shared("modules/basic_pitch")).image_size is None


@pytest.mark.shared
def test_helpers_are_no_signatures() -> None:
    info = inspect_module(shared("modules/vww_mobilenet_v1/tf2"))

    assert list(info.variant().signatures) == [
        "image_classification",
        "image_feature_vector",
        "serving_default",
    ]


@pytest.mark.shared
def test_no_variable_is_read(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "variables.index").write_bytes(b"no checkpoint")
    shutil.copyfile(shared("modules/vww_mobilenet_v1/tf2/saved_model.pb"), tmp_path / "saved_model.pb")

    info = inspect_module(str(tmp_path))

    assert info.trainable
    assert info.signature().outputs["default"].shape == (None, 256)


@pytest.mark.parametrize("graph", [b"", b"\x00\x01 no protocol buffer", b"<html>"])
def test_a_broken_graph_file_is_one_line(tmp_path: Path, graph: bytes) -> None:
    (tmp_path / "saved_model.pb").write_bytes(graph)

    with pytest.raises(ModuleError, match="fetch it again") as caught:
        inspect_module(str(tmp_path))

    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.shared
def test_the_description_for_people_names_everything() -> None:
    info = inspect_module(shared("modules/tf1_hub_oracle/image"))

    lines = format_info(info).splitlines()

    assert lines[2:7] == [
        "format      TF1 Hub",
        f"digest      {info.digest}",
        "image size  16 x 16 (height x width)",
        "trainable   yes",
        "random ops  RandomUniform",
    ]
    assert lines[7:11] == [
        "tags {}",
        "  signature default",
        "    input   images   float32 [?,16,16,3]",
        "    output  default  float32 [?,10]",
    ]
    assert "  signature default  (random: RandomUniform)" in lines


@pytest.mark.shared
def test_the_description_for_programs_is_plain_json() -> None:
    info = inspect_module(shared("modules/tf1_hub_oracle/text"))

    read: dict[str, Any] = json.loads(json.dumps(info_json(info)))

    assert read["digest"] == info.digest
    assert read["variants"][0]["tags"] == []
    assert read["variants"][0]["signatures"]["words"] == {
        "inputs": {"text": {"dtype": "string", "shape": [None], "kind": "dense"}},
        "outputs": {
            "default": {"dtype": "float32", "shape": [None, 8], "kind": "dense"},
            "ids": {"dtype": "int64", "shape": [None, None], "kind": "sparse"},
        },
        "stateful_random": [],
    }
