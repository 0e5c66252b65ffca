"""Fetching over http to the cache: once, whole or not at all, and no dead process in the way."""

from __future__ import annotations

import contextlib
import hashlib
import io
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from beamhub.errors import ModuleError
from beamhub.modules import resolve

PROGRAM = "import sys; from beamhub.modules import resolve; print(resolve(sys.argv[1]))"


class Server(ThreadingHTTPServer):
    """Answers some paths with a module; keeps the requests; `hold` runs before each answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.hold: Callable[[], object] = lambda: None
        self.archive = tar_gz()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.server.hold()
        path = self.path.split("?")[0]
        if not path.endswith(("good", ".tar.gz", "half")):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.archive)))
        self.end_headers()
        body = self.server.archive
        self.wfile.write(body[: len(body) // 2] if path.endswith("half") else body)

    def log_message(self, *_: object) -> None:
        pass


def tar_gz() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        graph = tarfile.TarInfo("./saved_model.pb")
        graph.size = 5
        tar.addfile(graph, io.BytesIO(b"graph"))
    return buffer.getvalue()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def start(handle: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, handle], stdout=subprocess.PIPE, text=True)


def test_a_module_is_fetched_once_to_where_tensorflow_hub_puts_it(server: Server, cache: Path) -> None:
    handle = server.url("good")

    path = resolve(handle)

    assert path == str(cache / hashlib.sha1(handle.encode()).hexdigest())
    assert Path(path, "saved_model.pb").read_bytes() == b"graph"
    assert Path(f"{path}.descriptor.txt").read_text().splitlines()[0] == f"Module: {handle}"
    assert resolve(handle) == path
    assert server.requests == ["/good?tf-hub-format=compressed"]


def test_a_handle_that_names_an_archive_is_asked_for_as_it_is(server: Server) -> None:
    resolve(server.url("m.tar.gz"))
    resolve(server.url("good?version=1"))

    assert server.requests == ["/m.tar.gz", "/good?version=1&tf-hub-format=compressed"]


def test_without_a_setting_the_cache_is_in_the_temporary_folder(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TFHUB_CACHE_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert Path(resolve(server.url("good"))).parent == tmp_path / "tfhub_modules"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "the server answered 404 Not Found for http://"),
        ("half", "not a .tar.gz that can be unpacked"),
    ],
)
def test_what_fails_is_one_line_and_leaves_nothing(server: Server, cache: Path, name: str, message: str) -> None:
    with pytest.raises(ModuleError, match=message) as caught:
        resolve(server.url(name))

    assert "\n" not in str(caught.value)
    assert [file.name for file in cache.iterdir() if not file.name.endswith("lock")] == []


def test_a_server_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ModuleError, match=r"cannot be downloaded: .*refused"):
        resolve("http://127.0.0.1:9/module")


def test_two_processes_at_once_fetch_once(server: Server) -> None:
    # The first request is answered when a second one comes, or when none has come for long enough.
    second = threading.Barrier(2)

    def wait_for_a_second_request() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            second.wait(timeout=4)

    server.hold = wait_for_a_second_request
    handle = server.url("good")

    processes = [start(handle), start(handle)]
    paths = [process.communicate(timeout=60)[0].strip() for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    assert paths == [resolve(handle)] * 2
    assert len(server.requests) == 1


def test_threads_of_one_process_fetch_once(server: Server) -> None:
    handle, paths = server.url("good"), []
    threads = [threading.Thread(target=lambda: paths.append(resolve(handle))) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(paths) == 4
    assert len(server.requests) == 1


def test_a_killed_process_holds_no_lock_and_its_files_are_removed(server: Server, cache: Path) -> None:
    asked, never = threading.Event(), threading.Event()

    def hang() -> None:
        asked.set()
        never.wait(60)

    server.hold = hang
    handle = server.url("good")
    process = start(handle)
    assert asked.wait(60)
    process.kill()
    process.wait(60)
    abandoned = [file for file in cache.iterdir() if file.suffix == ".tmp"]
    server.hold = lambda: None

    path = resolve(handle)
    never.set()

    assert len(abandoned) == 1
    assert Path(path, "saved_model.pb").read_bytes() == b"graph"
    assert [file for file in cache.iterdir() if file.suffix == ".tmp"] == []
