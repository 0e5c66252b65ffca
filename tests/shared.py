"""Real modules and data, kept in a folder beside the checkout: tests that need them skip on a user's machine, not in CI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "shared"


def required(name: str) -> bool:
    """True where CI says that tests which need `name` may not be skipped."""
    return name in os.environ.get("BEAMHUB_REQUIRE", "").split(",")


def shared(relative: str) -> str:
    """The path of a file or folder in `../shared`; skips the test where it is missing, or fails it where CI requires it."""
    path = FOLDER / relative
    if path.exists():
        return str(path)
    if required("shared"):
        pytest.fail(f"{path} is missing, and BEAMHUB_REQUIRE names shared")
    pytest.skip(f"needs {path}")
