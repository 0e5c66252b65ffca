"""Where a module may come from: pins and trusted sources, before anything of it is fetched or loaded."""

from __future__ import annotations

import http.server
import json
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from beamhub.errors import ModuleError, UsageError
from beamhub.modules.digest import module_digest
from beamhub.modules.source import Source
from tests.jobs import refused, succeed
from tests.small import FLOATS, flags, identity

FLOATS_TABLE = pa.table({"x": FLOATS})
HEX = "0123456789abcdef" * 4


def test_handle_with_a_pin() -> None:
    assert Source.parse(f"/models/m@sha256:{HEX}") == Source("/models/m", f"sha256:{HEX}")
    assert Source.parse("gs://bucket/m@1") == Source("gs://bucket/m@1", None)


@pytest.mark.parametrize("pin", ["", "0123456789ab", HEX.upper(), HEX + "0"])
def test_pin_that_is_no_digest(pin: str) -> None:
    with pytest.raises(UsageError, match="64 hex digits"):
        Source.parse(f"/models/m@sha256:{pin}")


@pytest.mark.parametrize(
    "handle",
    [
        "https://me:hunter2@example.org/m.tar.gz",
        "https://hunter2@example.org/m.tar.gz",
        "https://example.org/m.tar.gz?X-Amz-Signature=hunter2",
        "https://example.org/m.tar.gz?a=1&access_token=hunter2",
    ],
)
def test_credentials_are_refused_and_not_repeated(handle: str, tmp_path: Path) -> None:
    line = refused(2, "extract", "--module", handle, "--corpus", "x", "--out", tmp_path / "out")

    assert "https://example.org/m.tar.gz: given with credentials" in line
    assert "hunter2" not in line
    assert "hunter2" not in refused(2, "inspect", handle)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("handle", "trusted", "is_taken"),
    [
        ("/models/m", None, True),
        ("/models/m", ("/models",), True),
        ("/models/m", ("/models/m",), True),
        ("file:///models/m", ("/models/",), True),
        ("/models2/m", ("/models",), False),
        ("/models/../secret/m", ("/models",), False),
        ("/models/m", (), False),
        ("/models/m", ("tfhub.dev",), False),
        ("https://tfhub.dev/google/m", None, False),
        ("https://tfhub.dev/google/m", ("tfhub.dev",), True),
        ("https://TFHUB.dev/google/m", ("tfhub.dev",), True),
        ("http://tfhub.dev/google/m", ("tfhub.dev",), False),
        ("http://tfhub.dev/google/m", ("http://tfhub.dev",), True),
        ("https://tfhub.dev.evil.example/m", ("tfhub.dev",), False),
        ("https://tfhub.dev/google/m", ("https://tfhub.dev/google",), True),
        ("https://tfhub.dev/google2/m", ("https://tfhub.dev/google",), False),
        ("https://tfhub.dev/google/../evil/m", ("https://tfhub.dev/google",), False),
        ("https://tfhub.dev/google/%2e%2e/evil/m", ("https://tfhub.dev/google",), False),
        ("gs://bucket/m", None, False),
        ("gs://bucket/m", ("/models", "gs://bucket"), True),
        ("gs://bucket2/m", ("gs://bucket",), False),
        ("gs://bucket/models/m", ("gs://bucket/models",), True),
        ("s3://bucket/m", ("gs://bucket",), False),
    ],
)
def test_trusted_sources(handle: str, trusted: tuple[str, ...] | None, is_taken: bool) -> None:
    if is_taken:
        Source.parse(handle).check_trust(trusted)
    else:
        with pytest.raises(ModuleError, match="no source that was said to be trusted: give --trust "):
            Source.parse(handle).check_trust(trusted)
    # What is known by its content may lie anywhere.
    Source.parse(f"{handle}@sha256:{HEX}").check_trust(trusted)


def test_link_out_of_a_trusted_folder(tmp_path: Path) -> None:
    (tmp_path / "trusted").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "trusted" / "m").symlink_to(tmp_path / "other")

    with pytest.raises(ModuleError, match="no source"):
        Source.parse(f"{tmp_path}/trusted/m").check_trust((f"{tmp_path}/trusted",))


def test_what_to_add_is_what_would_do(tmp_path: Path) -> None:
    for handle in ("https://tfhub.dev/google/m", "http://localhost:80/m", "gs://bucket/deep/m", f"{tmp_path}/m"):
        with pytest.raises(ModuleError) as caught:
            Source.parse(handle).check_trust(("/somewhere",))
        given = str(caught.value).split("give --trust ")[1].split(", or pin")[0]
        Source.parse(handle).check_trust(tuple(given.split(",")))


def test_pinned_module_of_a_job(tmp_path: Path) -> None:
    module = identity(tmp_path / "m", (None,))
    _, _, *rest = flags(tmp_path, module, FLOATS_TABLE)
    pinned = f"{module}@{module_digest(module)}"

    line = refused(2, "extract", "--module", f"{module}@sha256:{HEX}", *rest)
    assert f"pinned is sha256:{HEX}" in line
    assert "nothing was loaded" in line
    assert "committed" in succeed("extract", "--module", pinned, *rest)
    assert "nothing to do" in succeed("extract", "--module", module, *rest)
    assert json.loads(succeed("inspect", pinned, "--json"))["handle"] == module
    assert "nothing was loaded" in refused(2, "inspect", f"{module}@sha256:{HEX}")


class _Handler(http.server.SimpleHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The URL of a server of the folder `served`, and the paths that it was asked for."""
    (tmp_path / "served").mkdir()
    handler = type("Handler", (_Handler,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=tmp_path / "served")) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler.asked
        server.shutdown()
        thread.join()


def test_server_is_not_asked_before_it_is_trusted(
    tmp_path: Path, asked: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    url, paths = asked
    module = identity(tmp_path / "m", (None,))
    with tarfile.open(tmp_path / "served" / "m.tar.gz", "w:gz") as packed:
        packed.add(module, ".")
    _, _, *rest = flags(tmp_path, module, FLOATS_TABLE)

    line = refused(2, "extract", "--module", f"{url}/m.tar.gz", *rest)
    assert f"give --trust {url}, or pin the module" in line
    assert paths == []
    assert "committed" in succeed("extract", "--module", f"{url}/m.tar.gz", "--trust", url, *rest)
    assert paths == ["/m.tar.gz"]
    assert "nothing to do" in succeed("extract", "--module", f"{url}/m.tar.gz@{module_digest(module)}", *rest)
