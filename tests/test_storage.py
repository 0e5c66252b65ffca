from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from beamhub import storage


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("a", "b", "c"), "a/b/c"),
        (("/", "b"), "/b"),
        (("/a/", "/b/", ""), "/a/b"),
        (("", "b"), "b"),
        (("gs://bucket", "b"), "gs://bucket/b"),
    ],
)
def test_join(parts: tuple[str, ...], expected: str) -> None:
    assert storage.join(*parts) == expected


def test_a_path_is_made_absolute_unless_it_has_a_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert storage.absolute("a/../b/") == f"{tmp_path}/b"
    assert storage.absolute("file:///a") == "/a"
    assert storage.absolute("gs://bucket/a/") == "gs://bucket/a"


def test_a_failing_write_leaves_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "folder" / "file")

    def fail() -> None:
        with storage.create(path) as file:
            file.write(b"half")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert os.listdir(tmp_path / "folder") == []

    storage.write_bytes(path, b"before")
    with pytest.raises(KeyError):
        fail()
    assert storage.read_bytes(path) == b"before"
    assert os.listdir(tmp_path / "folder") == ["file"]


def test_a_file_is_not_there_before_it_is_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    with storage.create(path) as file:
        file.write(b"all of it")
        file.flush()
        assert storage.info(path) is None
        assert storage.list_files(str(tmp_path)) == []
        assert storage.match(f"{tmp_path}/**") == []

    assert storage.read_bytes(path) == b"all of it"


def test_a_file_can_be_kept_from_being_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    storage.write_bytes(path, b"first")

    with pytest.raises(FileExistsError), storage.create(path, replace=False) as file:
        file.write(b"second")

    assert storage.read_bytes(path) == b"first"
    assert os.listdir(tmp_path) == ["file"]


def test_one_of_many_wins(tmp_path: Path) -> None:
    barrier = threading.Barrier(16)

    def attempt(path: str, number: int) -> bool:
        barrier.wait()
        return storage.create_exclusive(path, b"%d" % number * 1000)

    with ThreadPoolExecutor(16) as pool:
        for round in range(20):
            path = str(tmp_path / f"file-{round}")
            won = list(pool.map(attempt, [path] * 16, range(16)))
            assert won.count(True) == 1
            assert storage.read_bytes(path) == b"%d" % won.index(True) * 1000
    assert len(os.listdir(tmp_path)) == 20


def test_files_have_the_rights_of_this_process_from_many_threads_too(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: storage.write_bytes(f"{tmp_path}/{n}", b""), range(200)))
        modes = {stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(tmp_path)}
    finally:
        after = os.umask(before)

    assert (modes, after) == ({0o640}, 0o027)


def test_a_file_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    storage.write_bytes("a", b"x")
    storage.move("a", "b")

    assert os.listdir(".") == ["b"]


def test_the_token_changes_with_the_content(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    tokens = set()
    # The same size twice: then the time tells.
    for content in (b"one", b"two", b"three"):
        storage.write_bytes(path, content)
        os.utime(path, ns=(0, len(tokens)))
        info = storage.info(path)
        assert info is not None
        assert info.size == len(content)
        tokens.add(info.token)

    assert len(tokens) == 3


def test_listings_are_sorted_and_have_each_file_once(tmp_path: Path) -> None:
    names = ["a/b/x", "a/x", "x"]
    for name in reversed(names):
        storage.write_bytes(f"{tmp_path}/{name}", b"")
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling")

    assert [info.path for info in storage.list_files(str(tmp_path))] == [f"{tmp_path}/{name}" for name in names]
    assert [info.path for info in storage.match(f"{tmp_path}/**/**/x")] == [f"{tmp_path}/{name}" for name in names]
    assert storage.list_files(f"{tmp_path}/nowhere") == storage.match(f"{tmp_path}/nowhere/*") == []
    assert storage.info(f"{tmp_path}/a") is storage.info(f"{tmp_path}/x/y") is None


def test_deleting_and_moving_twice_are_no_errors(tmp_path: Path) -> None:
    storage.write_bytes(f"{tmp_path}/a", b"x")

    storage.move(f"{tmp_path}/a", f"{tmp_path}/deep/b")
    storage.move(f"{tmp_path}/a", f"{tmp_path}/deep/b")
    assert storage.read_bytes(f"{tmp_path}/deep/b") == b"x"

    storage.delete([f"{tmp_path}/deep/b"])
    storage.delete([f"{tmp_path}/deep/b"])
    with pytest.raises(FileNotFoundError):
        storage.move(f"{tmp_path}/a", f"{tmp_path}/deep/b")


def test_a_path_with_the_scheme_file_is_local(tmp_path: Path) -> None:
    storage.write_bytes(f"file://{tmp_path}/a", b"x")

    assert storage.read_bytes(f"{tmp_path}/a") == b"x"
