"""What became of many shards, looked up all at once: rows of the manifest and the ledger, objects only where these do not say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beamhub.corpus.shard_list import Integers, Mask, ShardList, as_mask
from beamhub.features.ledger import RESULT_SCHEMA, ShardResult, conform, table_to_results
from beamhub.features.paths import pending_names

if TYPE_CHECKING:
    from beamhub.features.state import VersionState

NONE = -1
"""The row of what is not there."""


@dataclass(frozen=True, eq=False)
class Found:
    """For each shard of a list, by its place.

    `entries` has its row in the manifest where it is committed, `noted` the row of its result in the ledger; its data file
    lies in `pending/` or not. `others` are results of another kind: of a footer, or one of several attempts. `is_known` says
    that the shard was done or tried before, with whatever token.
    """

    state: VersionState
    shards: ShardList
    entries: Integers
    noted: Integers
    pending: Mask
    others: Mapping[int, ShardResult]
    is_known: Mask

    @property
    def committed(self) -> Mask:
        """As `VersionState.committed`."""
        committed: Mask = self.entries != NONE
        return committed

    @property
    def failed(self) -> Mask:
        """As `VersionState.failed`; those that are done too are left out."""
        is_noted = self.noted != NONE
        failed = np.zeros(len(self.shards), np.bool_)
        outcomes = self.state.ledger.table.column("outcome").take(self.noted[is_noted])
        failed[is_noted] = as_mask(pc.not_equal(outcomes, "done"))
        return failed

    @property
    def done(self) -> Mask:
        """As `VersionState.done`."""
        done: Mask = self.committed | ((self.noted != NONE) & ~self.failed)
        done[list(self.others)] = True
        return done

    def standings(self) -> Counter[str]:
        """How many there are of each `VersionState.standing`."""
        done, failed = self.done, self.failed
        stale = self.is_known & ~done & ~failed
        numbers = {"done": int(done.sum()), "failed": int(failed.sum()), "stale": int(stale.sum())}
        return Counter({**numbers, "missing": len(self.shards) - sum(numbers.values())})

    def results(self, places: Integers) -> list[ShardResult | None]:
        """`VersionState.result` of the shards at these places."""
        found: dict[int, ShardResult] = {place: self.others[place] for place in places.tolist() if place in self.others}
        committed = places[self.entries[places] != NONE]
        entries = self.state.manifest.entries.take(self.entries[committed])
        found |= zip(committed.tolist(), table_to_results(entries), strict=True)
        noted = places[self.noted[places] != NONE]
        results = table_to_results(self.state.ledger.table.take(self.noted[noted]))
        for place, result in zip(noted.tolist(), results, strict=True):
            found[place] = replace(result, pending=bool(self.pending[place]))
        return [found.get(place) for place in places.tolist()]

    def columns(self, names: list[str], places: Integers) -> pa.Table:
        """Columns of the results of shards that are done."""
        schema = pa.schema([RESULT_SCHEMA.field(name) for name in names])
        entries, noted = self.entries[places], self.noted[places]
        is_entry, is_noted = entries != NONE, noted != NONE
        others = np.flatnonzero(~is_entry & ~is_noted)
        values = [{name: getattr(self.others[place], name) for name in names} for place in places[others].tolist()]
        parts = [
            conform(self.state.manifest.entries.select([n for n in names if n != "pending"]), schema).take(
                entries[is_entry]
            ),
            self.state.ledger.table.select(names).take(noted[is_noted]),
            pa.Table.from_pylist(values, schema),
        ]
        order = np.concatenate([np.flatnonzero(is_entry), np.flatnonzero(is_noted), others])
        return pa.concat_tables(parts).take(np.argsort(order))


def find(state: VersionState, shards: ShardList) -> Found:
    """Looks the shards up."""
    entries, is_known = _committed(state, shards)
    noted, pending = np.full(len(shards), NONE), np.zeros(len(shards), np.bool_)
    others: dict[int, ShardResult] = {}
    rest = np.flatnonzero(entries == NONE)
    if len(rest):
        _note(state, shards, rest, noted, pending, others, is_known)
    pa.default_memory_pool().release_unused()
    return Found(state, shards, entries, noted, pending, others, is_known)


def _committed(state: VersionState, shards: ShardList) -> tuple[Integers, Mask]:
    """The manifest's row of each shard that is committed, and which shards it has with another token."""
    manifest = state.manifest
    rows = manifest.index.firsts(shards.ids)
    places = np.flatnonzero(rows != NONE)
    same = as_mask(pc.equal(shards.token.take(places), manifest.column("token").take(rows[places])))
    is_known = np.zeros(len(shards), np.bool_)
    is_known[places[~same]] = True
    places = places[same]
    sizes = state.files.look_up(manifest.column("file").take(rows[places]))
    places = places[sizes == manifest.column("bytes").to_numpy()[rows[places]]]
    entries = np.full(len(shards), NONE)
    entries[places] = rows[places]
    return entries, is_known


def _note(
    state: VersionState,
    shards: ShardList,
    rest: Integers,
    noted: Integers,
    pending: Mask,
    others: dict[int, ShardResult],
    is_known: Mask,
) -> None:
    """Fills in what the ledger and the footers know of the places `rest`."""
    table = state.ledger.table
    number, rows = state.ledger.index.pairs(shards.ids[rest])
    places = rest[number]
    is_known[places] = True
    same = as_mask(pc.equal(shards.token.take(places), table.column("token").take(rows)))
    places, rows = places[same], rows[same]
    is_done = as_mask(pc.equal(table.column("outcome").take(rows), "done"))
    # Tried in vain, last of all, and never done.
    noted[places[~is_done]] = rows[~is_done]
    noted[places[is_done]] = NONE
    places, rows = places[is_done], rows[is_done]
    is_there, waits = _located(state, rows)
    places, rows, waits = places[is_there], rows[is_there], waits[is_there]
    attempts = np.bincount(places, minlength=len(shards))
    one = attempts[places] == 1
    noted[places[one]], pending[places[one]] = rows[one], waits[one]
    several = np.unique(places[~one])
    # What a footer knows counts where the ledger knows of no file that is there.
    footers = np.array([int(shard, 16) for shard, _ in state.recovered], np.uint64)
    lost = rest[np.isin(shards.ids[rest], footers) & np.isin(rest, places, invert=True)]
    for place in [*several.tolist(), *lost.tolist()]:
        result = state.done(shards[place])
        if result is not None:
            others[place] = result
            noted[place] = NONE


def _located(state: VersionState, rows: Integers) -> tuple[Mask, Mask]:
    """As `VersionState.located`, of rows of the ledger: whether the file is there, and whether it waits."""
    table = state.ledger.table
    files = table.column("file").take(rows)
    sizes = table.column("bytes").take(rows).to_numpy()
    expected = as_mask(table.column("pending").take(rows))
    in_place = state.files.look_up(files) == sizes
    waits = np.zeros(len(rows), np.bool_)
    unsure = np.flatnonzero(expected | ~in_place)
    waits[unsure] = state.files.look_up(pending_names(files.take(unsure))) == sizes[unsure]
    return in_place | waits, waits
