"""What changes a module's digest, and what does not."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from beamhub.errors import ModuleError
from beamhub.modules import module_digest


@pytest.fixture
def module(tmp_path: Path) -> Path:
    folder = tmp_path / "module"
    (folder / "assets").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "assets" / "vocab.txt").write_bytes(b"a\nb\n")
    return folder


def test_the_digest_is_the_hash_of_names_sizes_and_contents(module: Path) -> None:
    expected = hashlib.sha256(b"assets/vocab.txt\x004\x00a\nb\n" + b"saved_model.pb\x005\x00graph").hexdigest()

    assert module_digest(str(module)) == f"sha256:{expected}"


def test_a_copy_has_the_same_digest(module: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(module, tmp_path / "elsewhere")

    assert module_digest(str(copy)) == module_digest(str(module))


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "tfhub_module.pb", "assets/new.txt", "variables/v", "assets.extra/x"]
)
def test_every_file_of_the_module_changes_the_digest(module: Path, name: str) -> None:
    before = module_digest(str(module))

    (module / name).parent.mkdir(exist_ok=True)
    (module / name).write_bytes(b"other")

    assert module_digest(str(module)) != before


def test_a_moved_byte_changes_the_digest(module: Path) -> None:
    (module / "assets" / "more.txt").write_bytes(b"ab")
    before = module_digest(str(module))

    (module / "assets" / "more.txt").write_bytes(b"a")
    (module / "assets" / "vocab.txt").write_bytes(b"ba\nb\n")

    assert module_digest(str(module)) != before


@pytest.mark.parametrize("name", ["fingerprint.pb", "README.md", "keras_metadata.pb"])
def test_files_that_compute_nothing_do_not_change_the_digest(module: Path, name: str) -> None:
    before = module_digest(str(module))

    (module / name).write_bytes(b"other")

    assert module_digest(str(module)) == before


def test_a_folder_that_is_a_link_counts_as_the_files_behind_it(module: Path, tmp_path: Path) -> None:
    before = module_digest(str(module))
    shutil.move(module / "assets", tmp_path / "blobs")

    (module / "assets").symlink_to(tmp_path / "blobs")

    assert module_digest(str(module)) == before


def test_a_link_that_never_ends_is_refused(module: Path) -> None:
    (module / "assets" / "loop").symlink_to(module / "assets")

    with pytest.raises(ModuleError, match="a link to a folder that holds it"):
        module_digest(str(module))
