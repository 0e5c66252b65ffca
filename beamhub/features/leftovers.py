"""Files that nothing needs once a proposal is committed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beamhub.corpus.shard_list import Ids, Mask, as_mask
from beamhub.corpus.shards import WHOLE
from beamhub.features.found import NONE
from beamhub.features.ledger import results_to_table
from beamhub.features.paths import dead_names, parse_name, pending_names
from beamhub.features.proposal import Proposal
from beamhub.features.shard_index import numbers_of
from beamhub.features.state import VersionState


def leftovers(state: VersionState, proposal: Proposal) -> tuple[list[str], list[str]]:
    """Names of files that nothing needs once the proposal is committed: of rows and dead letters, and of the
    ledger.

    Files of shards that it replaces, or that were finished for a token or a corpus file that is no more.
    """
    removed = state.manifest.ids[proposal.removed]
    affected = np.unique(np.concatenate([proposal.added.ids, removed, _past(state, proposal)]))
    spare = state.files.others(*_needed(state, proposal)).to_pylist()
    parsed = ((name, ids) for name in spare if (ids := parse_name(name)) is not None)
    candidates = [(name, int(ids[0], 16)) for name, ids in parsed]
    is_affected = np.isin(np.array([number for _, number in candidates], np.uint64), affected).tolist()
    rows = [name for (name, _), is_one in zip(candidates, is_affected, strict=True) if is_one]
    return rows, _ledger_files(state, affected)


def _needed(state: VersionState, proposal: Proposal) -> list[pa.Array | pa.ChunkedArray]:
    """Names of the files of what is added or stays."""
    files = proposal.added.column("file")
    with_dead = files.filter(pc.greater(proposal.added.column("dead"), 0))
    waiting = files.filter(proposal.added.column("pending"))
    kept = pa.array(~proposal.removed)
    entries = state.manifest.column("file").filter(kept)
    entries_with_dead = entries.filter(pc.greater(state.manifest.column("dead").filter(kept), 0))
    return [files, dead_names(with_dead), pending_names(waiting), entries, dead_names(entries_with_dead)]


def _past(state: VersionState, proposal: Proposal) -> Ids:
    """Ids of results, which no commit has taken, for a token or a corpus file that is no more."""
    names = ["shard", "relative", "token", "start", "end"]
    recovered = results_to_table(state.recovered.values()).select(names)
    results = pa.concat_tables([state.ledger.table.select(names), recovered])
    relative = results.column("relative")
    coming = proposal.added.column("relative")
    places = pc.fill_null(pc.index_in(relative, coming), NONE).to_numpy()
    is_past = as_mask(pc.is_in(relative, proposal.gone))
    here = np.flatnonzero(places != NONE)
    tokens = proposal.added.column("token").take(places[here])
    is_past[here] |= as_mask(pc.not_equal(results.column("token").take(here), tokens))
    is_range = (results.column("start").to_numpy() != 0) | (results.column("end").to_numpy() != WHOLE)
    if is_range.any():
        is_past |= is_range & as_mask(pc.is_in(relative, coming.filter(pa.array(proposal.added.is_whole))))
    return numbers_of(results.column("shard").filter(pa.array(is_past)))


def _ledger_files(state: VersionState, affected: Ids) -> list[str]:
    """Ledger files that say nothing that the manifest will not."""
    ledger = state.ledger
    is_spare: Mask = np.isin(ledger.ids, affected)
    rows = state.manifest.index.firsts(ledger.ids)
    known = np.flatnonzero((rows != NONE) & ~is_spare)
    tokens = state.manifest.column("token").take(rows[known])
    is_spare[known] = as_mask(pc.equal(ledger.table.column("token").take(known), tokens))
    file = np.repeat(np.arange(len(ledger.files)), list(ledger.files.values()))
    needed = np.bincount(file[~is_spare], minlength=len(ledger.files)).tolist()
    return [state.paths.name(path) for path, count in zip(ledger.files, needed, strict=True) if not count]
