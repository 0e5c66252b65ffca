"""Label files: names of classes."""

from __future__ import annotations

import re

from beamhub import storage
from beamhub.errors import InputError

_NUMBERED = re.compile(r"\s*(\d+)\s*[,\t:]\s*(.*\S)\s*$")


def read_labels(path: str) -> dict[int, str]:
    """Names by class id: line n (from 0) names class n, or every line is `ID,LABEL` (a comma, a tab or a colon).

    Raises:
        InputError: no such file, not UTF-8, empty, or an id given twice.
    """
    try:
        text = storage.read_bytes(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"label file {path} cannot be read ({error}): give UTF-8 text, one label a line") from error
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise InputError(f"label file {path} is empty: give one label a line")
    numbered = [_NUMBERED.match(line) for line in lines if line.strip()]
    if not all(numbered):
        return {index: line.strip() for index, line in enumerate(lines)}
    labels: dict[int, str] = {}
    for match in numbered:
        if match is not None and int(match[1]) in labels:
            raise InputError(f"label file {path}: class {match[1]} is named twice; name each once")
        if match is not None:
            labels[int(match[1])] = match[2]
    return labels
