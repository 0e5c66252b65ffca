"""How many records a call has, where nobody says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from beamhub.engine.batches import BATCH_BYTES
from beamhub.modules.ragged import Ragged
from beamhub.tasks.base import OutputShape
from beamhub.tasks.binding import Binding
from beamhub.tasks.gather import Feed

CALL_BYTES = 4 << 20
"""Of one call, about, its input and outputs: smaller ones pay for the way of a batch through the stages (texts of 64 values took
5 to 10 % longer in calls of 8,192 than of 16,384, and 2 to 9 % longer in those than in calls of 32,768), larger ones leave a
core's cache."""
MOST_CALL_BYTES, MOST_HEAVY_CALL_BYTES = 12 << 20, 8 << 20
"""Of one call, at most, but for the smallest batch: each thread holds it several times over. Of records that a call has few of,
the module holds much more: to try one of 12 MiB with photographs in MobileNetV2 1.0 took .15 GB."""
MOST_PINNED_BYTES = 1 << 30
"""Of one call whose size was asked for: no call is faster for being so large, and a mistyped number takes all memory."""
SHORTEST_SHARE, SHORTEST_CALL_SHARE = 8, 32
"""Of a second: less work pays for what the way of a batch through the stages costs, or for what a call costs, whatever its
size; in a call that takes more, a module holds much that it computes on its way. MobileNetV2 0.35 took as long in calls of 4 as
of 8, which are .05 and .1 of a second (six pairs), and 60 MB less."""
RESULT_BYTES = 16 << 20
"""Outputs of records that go through the stages together, at most."""
LARGEST_BATCH = 32768
SMALLEST_BATCH = 4
"""Below it, the cost of a call shows. MobileNetV2 1.0 holds 16 MB for each of its images, and is no faster with 8 of them."""
LARGE_RECORD, LARGE_BATCH = 32 << 20, 2
"""Of records that feed more bytes than that a call has so few, and no other settings are measured with several threads."""
HUGE_RECORD = 128 << 20
"""Of records that feed more than that a call has one: two would hold four times the largest."""
TEXT_BYTES = 64
BATCH_ROWS = 32
TOGETHER_ROWS = 4096
TOGETHER_BYTES = 8 << 20
"""Records are gathered up to the first; those that differ in length up to the second, or so many bytes that they feed."""


@dataclass(frozen=True)
class Load:
    """What decides how many records a call has: of one record the bytes `read`, `fed` and in the `result`.

    `most` records are a call of one second, where that is known.
    """

    fed: int
    result: int
    read: int = 0
    most: int | None = None

    @property
    def held(self) -> int:
        """Bytes of one record in a call."""
        return max(1, self.fed + self.result)

    @property
    def default(self) -> int:
        """A power of two from 4 to 32,768; 2 for large records, 1 for huge ones."""
        held, most = self.held, self.most or 0
        short = min(most // SHORTEST_SHARE, MOST_CALL_BYTES // held)
        if short <= BATCH_ROWS:
            # A batch has more records than that, in several calls.
            short = min(most // SHORTEST_CALL_SHARE, MOST_HEAVY_CALL_BYTES // held)
        # More would not be read for one batch.
        by_reading = BATCH_BYTES // max(self.read, 1)
        by_time = LARGEST_BATCH if self.most is None else self.most
        size = min(max(CALL_BYTES // held, short), by_reading, by_time, LARGEST_BATCH)
        return max(self.fewest, power_of_two(size))

    @property
    def fewest(self) -> int:
        """Records that a call has at least, however much they hold."""
        if self.fed > HUGE_RECORD:
            return 1
        return LARGE_BATCH if self.fed > LARGE_RECORD else SMALLEST_BATCH

    @property
    def worth_measuring(self) -> tuple[int, ...]:
        """Batch sizes, the default first; no larger ones, for memory and time bound it before speed does."""
        default = self.default
        half = default // 2
        return (default, half) if half >= SMALLEST_BATCH else (default,)


def power_of_two(most: int) -> int:
    """The largest that is no larger, 1 at least."""
    return 1 << max(1, most).bit_length() - 1


def rows_together(fed: int, result: int, is_open: bool) -> int:
    """How many records go through the stages together, at least; see `Load`.

    Small calls share the cost of what is done once for a batch. Of records that differ in length (`is_open`) there are more,
    so that those of one length share calls.
    """
    most = RESULT_BYTES // max(result, 1)
    wanted = min(TOGETHER_ROWS, TOGETHER_BYTES // max(fed, 1)) if is_open else BATCH_ROWS
    return max(1, min(wanted, most))


def fed_bytes(bindings: Sequence[Binding], feeds: Mapping[str, Feed]) -> int:
    """Bytes that a record feeds, by the feeds of a sample, of which there may be none.

    Of numbers as many as the longest record has; of texts and encoded images the mean, for one may be far longer than all
    others, and batches are bounded by what they hold.
    """
    return sum(_fed(each, feeds.get(each.input)) for each in bindings)


def _fed(binding: Binding, feed: Feed | None) -> int:
    if binding.pixels is not None and binding.pixels.size is not None:
        return 4 * binding.pixels.channels * int(np.prod(binding.pixels.size))
    length = 1 if feed is None else int(feed.lengths.max(initial=0))
    if binding.dtype != "string":
        return np.dtype(binding.dtype).itemsize * length
    mean = 0 if feed is None else feed.text_bytes // max(1, len(feed.lengths))
    return max(TEXT_BYTES * length, mean)


def result_bytes(outputs: Mapping[str, OutputShape]) -> int:
    """Bytes of all outputs of one record, about."""
    total = 0
    for each in outputs.values():
        values = each.sample.values if isinstance(each.sample, Ragged) else each.sample
        total += values.nbytes // max(1, len(each.sample))
    return total
