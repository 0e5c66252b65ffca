"""What somebody else's exception says, in one line."""

from __future__ import annotations

import re

# An error from a running graph begins with a heading and the Python stack that built the graph, and ends with
# the node.
_AROUND = ("Graph execution error:", "Detected at node", "<stack traces", "File ", "[[{{")

# One from a single operation has both on the line itself.
_OPERATION = re.compile(r"^\{\{function_node [^}]*\}\} | \[Op:\w+\] name:.*$")


def reason(error: BaseException) -> str:
    """The first line of an exception's message that says what is wrong, or its type where none does."""
    lines = (_OPERATION.sub("", line.strip()) for line in str(error).splitlines())
    return next((line for line in lines if line and not line.startswith(_AROUND)), type(error).__name__)
