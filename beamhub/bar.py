"""The bar on a terminal: rows, rows/s, shards and the time left of a run, from what its workers tell."""

from __future__ import annotations

import contextlib
import datetime
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from beamhub.corpus.shards import Shard
from beamhub.engine.forecast import Forecast, Forecaster
from beamhub.engine.progress import Reports, interval

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_DRAWN_EVERY = 0.5


@contextlib.contextmanager
def progress_bar(shards: Sequence[Shard], dealt: int | None, folder: str) -> Iterator[str | None]:
    """Draws on standard error while the block computes `shards` and commits them; afterwards nothing is left of it.

    Args:
        shards: what is to do, in the order of the worklist.
        dealt: see `Forecaster`.
        folder: where the workers are to leave their reports, which are deleted in the end.

    Yields:
        `folder`, or None where there is no terminal: then nobody need report anything.
    """
    console = _terminal()
    if console is None:
        yield None
        return
    reports = Reports(folder)
    stop = threading.Event()
    with _drawn(console) as bar:
        thread = threading.Thread(
            target=_watch, args=(bar, Forecaster(shards, dealt), reports, folder, stop), daemon=True
        )
        thread.start()
        try:
            yield folder
        finally:
            stop.set()
            thread.join()
            with contextlib.suppress(OSError):
                reports.clear()


def _terminal() -> Console | None:
    """Standard error, if it is a terminal that can draw; rich is imported for such a one only."""
    if sys.stderr is None or sys.stderr.closed or not sys.stderr.isatty():
        return None
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_terminal and not console.is_dumb_terminal else None


@contextlib.contextmanager
def _drawn(console: Console) -> Iterator[Progress]:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.fields[figures]}"))
    # Standard output may be a pipe: what is printed there must not turn up here.
    bar = Progress(*columns, console=console, auto_refresh=False, transient=True, redirect_stdout=False)
    # Here and below: a terminal that goes away does not end the run.
    with contextlib.suppress(OSError):
        bar.start()
        # A process that is killed cannot bring back a cursor that it has hidden.
        console.show_cursor(True)
    try:
        yield bar
    finally:
        with contextlib.suppress(OSError):
            bar.stop()


def _watch(bar: Progress, forecaster: Forecaster, reports: Reports, folder: str, stop: threading.Event) -> None:
    task = bar.add_task("starting", total=None, figures="")
    due = 0.0
    is_last = False
    while True:
        if is_last or time.monotonic() >= due:
            started = time.monotonic()
            with contextlib.suppress(OSError):
                reports.refresh()
            # With many workers on an object store a look takes long: most of the time there is none.
            due = time.monotonic() + max(interval(folder) / 2, 4 * (time.monotonic() - started))
        found = forecaster.forecast(reports.told())
        phase, total = _phase(found, forecaster.shards)
        bar.update(
            task, description=phase, total=total, completed=found.share, figures=figures(found, forecaster.shards)
        )
        with contextlib.suppress(OSError):
            bar.refresh()
        if is_last:
            return
        # When the work ends, what was told last is drawn once more.
        is_last = stop.wait(_DRAWN_EVERY)


def _phase(found: Forecast, shards: int) -> tuple[str, float | None]:
    """What goes on, and how long the bar is; None for one that only moves."""
    if found.shards == shards:
        return "committing", None
    return ("computing", 1.0) if found.rows or found.shards else ("starting", None)


def figures(found: Forecast, shards: int) -> str:
    """The figures beside the bar: "43% 1,234 rows 567 rows/s 3/8 shards ETA 0:01:23"."""
    words = [f"{found.share:.0%}", f"{found.rows:,} rows"]
    if found.rows_per_second is not None:
        words.append(f"{found.rows_per_second:,.0f} rows/s")
    words.append(f"{found.shards:,}/{shards:,} shards")
    if found.seconds is not None and found.shards < shards:
        words.append(f"ETA {datetime.timedelta(seconds=round(found.seconds))}")
    return " ".join(words)
