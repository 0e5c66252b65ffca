"""What a commit would change: which entries come and go, which shards are missing, which files move and
which go.

A file all of whose shards are done, and that replaces no range, is dealt with in columns, which is nearly all of them;
failures, and what else needs a look at the file's other shards, file by file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beamhub.corpus.shard_list import Integers, Mask, ShardList, as_mask, blocks_of
from beamhub.corpus.shards import WHOLE, Shard
from beamhub.errors import BeamhubError
from beamhub.features.found import NONE, Found
from beamhub.features.ledger import ShardResult, table_to_results
from beamhub.features.paths import pending_names
from beamhub.features.results import Results
from beamhub.features.roots import Hole, Totals
from beamhub.features.state import VersionState

Told = Callable[[Shard], ShardResult | None]


@dataclass(frozen=True)
class Proposal:
    """Results `added`, entries of the manifest `removed`, shards `failed` (of this commit) and all `holes` afterwards.

    `gone` are corpus files whose rows leave, `in_ranges` those that come and may have several shards.
    """

    gone: pa.Array
    added: Results
    removed: Mask
    failed: Sequence[Hole]
    holes: Sequence[Hole]
    in_ranges: pa.Array

    @cached_property
    def totals(self) -> Totals:
        """Sums of what is added."""
        return Totals.of_table(pa.table({name: self.added.column(name) for name in Totals.names()}))

    @property
    def moves(self) -> tuple[tuple[str, str], ...]:
        """Replacements: the name where each waits and the name that it gets."""
        files = self.added.column("file").filter(self.added.column("pending"))
        return tuple(zip(pending_names(files).to_pylist(), files.to_pylist(), strict=True))


def propose(state: VersionState, changes: ShardList, gone: Iterable[str], told: Told | None = None) -> Proposal:
    """Compares what is wanted with the manifest; `told` is as in `commit`.

    Raises BeamhubError when a corpus file comes with two tokens.
    """
    found = state.find(changes)
    if told is not None:
        found = _as_told(found, told)
    missing = pa.array(sorted(gone), pa.string())
    missing = missing.filter(pc.invert(pc.is_in(missing, changes.relative)))
    wanted = np.flatnonzero(~found.committed)
    is_plain = _are_plain(found, wanted)
    plain = wanted[is_plain]
    files = _Files(found, wanted[~is_plain])
    files.propose()
    entries = state.manifest.column("relative")
    whole = ~changes.is_range[plain]
    # Ranges that are plain replace nothing.
    leaving = pa.chunked_array([missing, changes.relative.take(plain[whole])])
    in_ranges = pc.unique(
        pa.chunked_array([changes.relative.take(plain[~whole]), pa.array(files.in_ranges, pa.string())])
    )
    removed = as_mask(pc.is_in(entries, leaving))
    removed[files.removed] = True
    places = np.concatenate([plain, np.array(files.added, np.int64)])
    noted = places[found.noted[places] != NONE]
    others = [found.others[place] for place in places[found.noted[places] == NONE].tolist()]
    added = Results(state.ledger.table, found.noted[noted], found.pending[noted], others)
    holes = [*_old_holes(state.manifest.root.holes, changes, missing, added), *files.failed]
    return Proposal(missing, added, removed, files.failed, holes, in_ranges)


def _are_plain(found: Found, wanted: Integers) -> Mask:
    """Which are of files that are done, whole or in ranges of one token of which nothing is committed yet."""
    shards = found.shards
    names = shards.relative.take(wanted).dictionary_encode()
    file = names.indices.to_numpy()
    whole = ~shards.is_range[wanted]
    is_done = found.done[wanted] & (found.noted[wanted] != NONE)
    tokens = shards.token.take(wanted).dictionary_encode().indices.to_numpy()
    first = np.empty(len(names.dictionary), np.int32)
    first[file] = tokens
    pieces = np.bincount(file, minlength=len(first))
    fits = np.where(whole, pieces[file] == 1, tokens == first[file]) & is_done
    fitting = np.bincount(file[fits], minlength=len(first))
    is_new = ~as_mask(pc.is_in(names.dictionary, found.state.manifest.column("relative")))
    plain: Mask = (fitting == pieces)[file] & (whole | is_new[file])
    return plain


def _as_told(found: Found, told: Told) -> Found:
    """What the caller says of the shards, in the place of what the folder says."""
    entries = found.entries.copy()
    others: dict[int, ShardResult] = {}
    for place, shard in enumerate(found.shards):
        result = told(shard)
        if result is not None and result.outcome == "done":
            # Another process that does the same commit may have published the file since the caller saw it.
            result = found.state.located(result) or result
        if not _is_settled(found, place, shard, result):
            entries[place] = NONE
            others |= {} if result is None else {place: result}
    return replace(found, entries=entries, noted=np.full(len(entries), NONE), others=others)


def _is_settled(found: Found, place: int, shard: Shard, result: ShardResult | None) -> bool:
    if found.entries[place] == NONE:
        return False
    if result is None or not _is_finished(shard, result):
        return True
    entry = found.state.manifest.result(shard.id)
    return entry is not None and (entry.file, entry.checksum) == (result.file, result.checksum)


class _Files:
    """Corpus files whose shards have to be seen together. Each replaces all that was made of it with another token, or nothing
    of it."""

    def __init__(self, found: Found, places: Integers) -> None:
        self._found = found
        self._places = places
        self.added: list[int] = []
        self.removed: list[int] = []
        self.failed: list[Hole] = []
        self.in_ranges: list[str] = []

    def propose(self) -> None:
        """Fills in `added` (places), `removed` (rows of the manifest), `failed` and `in_ranges`."""
        names = self._found.shards.relative.take(self._places).dictionary_encode()
        order = np.argsort(names.indices.to_numpy(), kind="stable")
        codes = names.indices.to_numpy()[order]
        column = self._found.state.manifest.column("relative")
        entries = pc.fill_null(pc.index_in(column, names.dictionary), NONE).to_numpy()
        rows = np.argsort(entries, kind="stable")
        first = 0
        for block in blocks_of(self._places[order], codes):
            inside = codes[first : first + len(block)]
            first += len(block)
            start, stop = np.searchsorted(entries[rows], [inside[0], inside[-1] + 1])
            self._propose_block(block, rows[start:stop])

    def _propose_block(self, places: Integers, rows: Integers) -> None:
        shards = zip(places.tolist(), self._found.shards.take(places), self._found.results(places), strict=True)
        entries = table_to_results(self._found.state.manifest.entries.take(rows))
        old: dict[str, list[tuple[int, ShardResult]]] = {}
        for row, entry in zip(rows.tolist(), entries, strict=True):
            old.setdefault(entry.relative, []).append((row, entry))
        for relative, file in groupby(shards, lambda each: each[1].relative):
            self._propose_file(list(file), old.get(relative, []))

    def _propose_file(
        self, shards: Sequence[tuple[int, Shard, ShardResult | None]], old: Sequence[tuple[int, ShardResult]]
    ) -> None:
        first = shards[0][1]
        if any(shard.token != first.token for _, shard, _ in shards):
            raise BeamhubError(f"{first.path}: shards of one file with different tokens; plan again")
        finished = [(place, shard, r) for place, shard, r in shards if r is not None and _is_finished(shard, r)]
        failed = [_hole(shard, r) for _, shard, r in shards if r is None or not _is_finished(shard, r)]
        self.failed += failed
        if failed and any(result.begins is not None for _, _, result in finished):
            # Only from the file's start on, range by range, is it known whose each record is.
            reason = f"waits for range {failed[0].start}:{failed[0].end}, which failed"
            self.failed += [replace(_hole(shard, result), reason=reason) for _, shard, result in finished]
            return
        if not finished or (failed and any(entry.token != first.token for _, entry in old)):
            return
        ids = {result.shard for _, _, result in finished}
        # Where the file was done again whole, its ranges leave.
        again = any((result.start, result.end) == (0, WHOLE) for _, _, result in finished)
        self.removed += [row for row, e in old if again or e.token != first.token or e.shard in ids]
        self.added += [place for place, _, _ in finished]
        self.in_ranges.append(first.relative)


def _is_finished(shard: Shard, result: ShardResult) -> bool:
    return result.outcome == "done" and result.token == shard.token


def _hole(shard: Shard, result: ShardResult | None) -> Hole:
    reason = result.reason if result is not None and result.reason else "it was never finished"
    return Hole(shard.id, shard.relative, shard.start, shard.end, shard.token, reason)


def _old_holes(holes: Sequence[Hole], changes: ShardList, gone: pa.Array, added: Results) -> Iterator[Hole]:
    """Those that stay: of shards that this commit does not speak of, in files that it does not replace."""
    if not holes:
        return
    relatives = pa.array([hole.relative for hole in holes], pa.string())
    is_changed = np.isin(np.array([int(hole.shard, 16) for hole in holes], np.uint64), changes.ids)
    leaves = is_changed | as_mask(pc.is_in(relatives, gone))
    coming = added.column("relative")
    leaves |= as_mask(pc.is_in(relatives, coming.filter(pa.array(added.is_whole))))
    tokens = added.column("token").take(pc.index_in(relatives, coming)).to_pylist()
    for hole, goes, token in zip(holes, leaves.tolist(), tokens, strict=True):
        if not goes and token in (None, hole.token):
            yield hole
