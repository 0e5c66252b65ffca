"""From a handle to a local folder: folders, archives, and a file system of Beam's."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

from beamhub.errors import ModuleError
from beamhub.modules import module_digest, resolve


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """The files of a module; nothing here reads what is in them."""
    folder = tmp_path / "module"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def pack(folder: Path, archive: Path, inside: str = ".") -> str:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=inside)
    return str(archive)


def pack_member(archive: Path, member: tarfile.TarInfo) -> str:
    """An archive of a whole module and then one more member."""
    with tarfile.open(archive, "w:gz") as tar:
        graph = tarfile.TarInfo("saved_model.pb")
        graph.size = 5
        tar.addfile(graph, io.BytesIO(b"graph"))
        tar.addfile(member)
    return str(archive)


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_resolving_imports_no_tensorflow(module: Path) -> None:
    code = (
        "import sys, beamhub.modules as m; m.module_digest(m.resolve(sys.argv[1]));"
        "print(sorted({'tensorflow', 'apache_beam'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code, str(module)], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_a_local_folder_is_used_in_place(module: Path, cache: Path) -> None:
    assert resolve(str(module)) == str(module)
    assert resolve(f"file://{module}") == str(module)
    assert resolve(f"{module}/") == str(module)
    assert not cache.exists()


@pytest.mark.parametrize("inside", [".", "my_module"])
@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz"])
def test_a_local_archive_is_unpacked_to_the_cache(
    module: Path, tmp_path: Path, cache: Path, inside: str, suffix: str
) -> None:
    path = resolve(pack(module, tmp_path / f"m{suffix}", inside))

    assert Path(path).parent == cache
    assert Path(path, "variables", "variables.index").read_bytes() == b"index"
    assert module_digest(path) == module_digest(str(module))


def test_a_local_archive_that_was_written_anew_is_unpacked_anew(module: Path, tmp_path: Path) -> None:
    archive = tmp_path / "m.tar.gz"
    first = resolve(pack(module, archive))
    (module / "saved_model.pb").write_bytes(b"another graph")

    second = resolve(pack(module, archive))

    assert Path(first, "saved_model.pb").read_bytes() == b"graph"
    assert Path(second, "saved_model.pb").read_bytes() == b"another graph"


@pytest.mark.parametrize(
    "hostile",
    [
        member("../evil"),
        member("variables/../../evil"),
        member("/evil"),
        member("link", tarfile.SYMTYPE, "../evil"),
        member("link", tarfile.SYMTYPE, "/evil"),
        member("variables/link", tarfile.SYMTYPE, "deeper/../../evil"),
        member("link", tarfile.LNKTYPE, "../evil"),
        member("device", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda info: f"{info.name} {info.linkname}".strip(),
)
def test_a_member_that_would_leave_the_folder_is_refused_before_anything_is_written(
    tmp_path: Path, cache: Path, hostile: tarfile.TarInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = pack_member(tmp_path / "m.tar.gz", hostile)
    unpacked = []
    monkeypatch.setattr(tarfile.TarFile, "extractall", lambda *_: unpacked.append(handle))

    with pytest.raises(ModuleError, match=f"member '{hostile.name}' .*nothing was unpacked"):
        resolve(handle)

    assert unpacked == []
    assert [file.name for file in cache.iterdir() if not file.name.endswith("lock")] == []
    assert not (tmp_path / "evil").exists()


def test_a_link_to_a_file_further_down_is_unpacked(tmp_path: Path) -> None:
    handle = pack_member(tmp_path / "m.tar.gz", member("copy.pb", tarfile.SYMTYPE, "saved_model.pb"))

    assert Path(resolve(handle), "copy.pb").read_bytes() == b"graph"


def test_bad_handles_say_what_is_wrong_in_one_line(module: Path, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "checkpoint").touch()
    (tmp_path / "text.tar.gz").write_bytes(b"<html>no</html>")
    whole = Path(pack(module, tmp_path / "whole.tar.gz")).read_bytes()
    (tmp_path / "half.tar.gz").write_bytes(whole[: len(whole) // 2])
    pack(tmp_path / "other", tmp_path / "other.tar.gz")
    wanted = {
        "nowhere": "no such folder",
        "nowhere.tar.gz": "no such folder",
        "empty": "not a module: neither saved_model.pb nor saved_model.pbtxt there, but nothing",
        "other": "not a module: neither saved_model.pb nor saved_model.pbtxt there, but checkpoint",
        "other/checkpoint": "a file, not a module",
        "text.tar.gz": "not a .tar.gz that can be unpacked",
        "half.tar.gz": "not a .tar.gz that can be unpacked",
        "other.tar.gz": "not a module",
    }
    for name, message in wanted.items():
        with pytest.raises(ModuleError) as caught:
            resolve(str(tmp_path / name))

        assert str(caught.value).startswith(f"{tmp_path / name}: {message}")
        assert "\n" not in str(caught.value)
    assert [file.name for file in cache.iterdir() if not file.name.endswith("lock")] == []


def test_a_cache_that_cannot_be_written_is_named(module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "file" / "cache"))

    with pytest.raises(ModuleError, match=r"cannot be kept in .*/file/cache: .*; set TFHUB_CACHE_DIR"):
        resolve(pack(module, tmp_path / "m.tar.gz"))


class ModuleStore(FileSystem):
    """A file system for Beam that keeps files in a dict, as an object store does: no folders, any name."""

    files: ClassVar[dict[str, bytes]] = {}

    @classmethod
    def scheme(cls) -> str:
        return "modulestore"

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for path in self.files:
            if path.startswith(dir_or_prefix):
                yield self.metadata(path)

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, self.size(path), self.last_updated(path))

    def open(self, path: str, mime_type: str = "", compression_type: str = "") -> io.BytesIO:
        if path not in self.files:
            raise BeamIOError(f"no file {path}")
        return io.BytesIO(self.files[path])

    def exists(self, path: str) -> bool:
        return path in self.files

    def size(self, path: str) -> int:
        return len(self.files[path])

    def last_updated(self, path: str) -> float:
        return 0.0

    def has_dirs(self) -> bool:
        return False

    def _unused(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    mkdirs = create = copy = rename = delete = join = split = _unused


@pytest.fixture
def store() -> Iterator[dict[str, bytes]]:
    yield ModuleStore.files
    ModuleStore.files.clear()


def test_a_folder_on_a_file_system_of_beams_is_copied_once(store: dict[str, bytes], module: Path) -> None:
    store["modulestore://bucket/m/saved_model.pb"] = b"graph"
    store["modulestore://bucket/m/variables/variables.index"] = b"index"
    store["modulestore://bucket/mine/saved_model.pb"] = b"of another module"

    path = resolve("modulestore://bucket/m/")
    store.clear()

    assert module_digest(path) == module_digest(str(module))
    assert resolve("modulestore://bucket/m/") == path


def test_an_archive_on_a_file_system_of_beams_is_unpacked(
    store: dict[str, bytes], module: Path, tmp_path: Path
) -> None:
    store["modulestore://bucket/m.tar.gz"] = Path(pack(module, tmp_path / "m.tar.gz")).read_bytes()

    assert module_digest(resolve("modulestore://bucket/m.tar.gz")) == module_digest(str(module))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("modulestore://bucket/hostile", r"file '\.\./\.\./evil' would leave the folder; nothing was copied"),
        ("modulestore://bucket/other", "not a module: neither .* there, but checkpoint"),
        ("modulestore://bucket/none", "no such folder, or an empty one"),
        ("modulestore://bucket/none.tar.gz", "cannot be copied: .* no such file"),
        ("nosuchscheme://bucket/m", "cannot be listed: Unable to get filesystem"),
    ],
)
def test_bad_handles_on_a_file_system_of_beams(store: dict[str, bytes], name: str, message: str) -> None:
    store["modulestore://bucket/hostile/saved_model.pb"] = b"graph"
    store["modulestore://bucket/hostile/../../evil"] = b""
    store["modulestore://bucket/other/checkpoint"] = b""

    with pytest.raises(ModuleError, match=message) as caught:
        resolve(name)

    assert "\n" not in str(caught.value)
