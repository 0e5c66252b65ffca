"""What a summary says of the work: which threads were busiest, and with what."""

from __future__ import annotations

import pytest

from beamhub.report import workload

QUIET = {f"{stage}_us": 100 for stage in ("read", "prepare", "infer", "encode", "write", "close")}
RUN = {**QUIET, "lanes_us": 1000, "compute_us": 2000, "called": 40, "padded": 10, "traces": 3}


@pytest.mark.parametrize(
    ("busy", "bottleneck"),
    [
        ({"read_us": 700}, "reading"),
        # Two threads compute: 1,400 of 2,000 microseconds, more than any other did of 1,000.
        ({"infer_us": 1200, "write_us": 600}, "computing (infer)"),
        ({"prepare_us": 1200, "write_us": 600}, "computing (prepare)"),
        ({"infer_us": 1200, "write_us": 800}, "writing"),
        ({"close_us": 900, "write_us": 800}, "closing files"),
    ],
)
def test_the_busiest_threads_are_named_and_their_largest_stage(busy: dict[str, int], bottleneck: str) -> None:
    line, _ = workload({**RUN, **busy})

    assert line.endswith(f"bottleneck: {bottleneck}")


def test_shares_are_of_the_threads_that_a_stage_has() -> None:
    busy, calls = workload({**RUN, "read_us": 250, "infer_us": 250})

    assert "read 25%, prepare 5%, infer 12%, encode 5%, write 10%, close 10% of their threads' time" in busy
    assert calls.endswith("calls     40 records, 25.0% of them padding; 3 traces")


def test_threads_of_a_program_that_had_started_tensorflow_are_told_of() -> None:
    assert "had been started before the job" in [*workload({**RUN, "others_threads": 1})][-1]
    assert len([*workload(RUN)]) == 2


def test_nothing_is_said_of_a_run_without_calls() -> None:
    assert [*workload({"read_us": 5, "lanes_us": 10})] == []
