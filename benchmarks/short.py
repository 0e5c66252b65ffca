"""What `make bench-short` runs: one of each task, small enough for eight minutes with making the corpora."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.workloads import WORKLOADS

SHORT = {
    "text": replace(WORKLOADS["text"], rows=1_200_000, small=2, large=6),
    "vae": replace(WORKLOADS["vae"], large=4),
    "mobilenet035": replace(WORKLOADS["mobilenet035"], rows=1_000, large=4),
}
