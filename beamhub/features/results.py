"""Results as columns: rows of the ledger, and some that are at hand as objects."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa

from beamhub.corpus.shard_list import Ids, Integers, Mask, one_array
from beamhub.corpus.shards import WHOLE
from beamhub.features.ledger import ShardResult, results_to_table, table_to_results
from beamhub.features.shard_index import numbers_of


class Results:
    """A list of results that holds no second copy of the ledger: `rows` of it, then `others`."""

    def __init__(self, ledger: pa.Table, rows: Integers, pending: Mask, others: Sequence[ShardResult] = ()) -> None:
        """`pending` says of each of the `rows` where its file lies now."""
        self._ledger = ledger
        self._rows = rows
        self._pending = pending
        self._others = results_to_table(others)

    def __len__(self) -> int:
        return len(self._rows) + len(self._others)

    def column(self, name: str) -> pa.Array:
        """A column of all of them."""
        is_place = name == "pending"
        rows = [pa.array(self._pending)] if is_place else self._ledger.column(name).take(self._rows).chunks
        others = self._others.column(name)
        return one_array(pa.chunked_array([*rows, *others.chunks], others.type))

    def table(self, places: Integers) -> pa.Table:
        """All columns of those at these places, which ascend."""
        count = len(self._rows)
        noted = places[places < count]
        table = self._ledger.take(self._rows[noted])
        position = table.schema.get_field_index("pending")
        table = table.set_column(position, table.schema.field(position), pa.array(self._pending[noted]))
        return pa.concat_tables([table, self._others.take(places[places >= count] - count)])

    def result(self, place: int) -> ShardResult:
        """One of them."""
        return table_to_results(self.table(np.array([place])))[0]

    @cached_property
    def ids(self) -> Ids:
        """Their shard ids."""
        return numbers_of(pa.chunked_array([self.column("shard")]))

    @cached_property
    def is_whole(self) -> Mask:
        """Which are of whole files."""
        start, end = self.column("start").to_numpy(), self.column("end").to_numpy()
        whole: Mask = (start == 0) & (end == WHOLE)
        return whole
