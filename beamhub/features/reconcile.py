"""What has to hold before a commit: every record accounted for, every file there, few enough dead letters
and failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beamhub.corpus.shard_list import Integers, Mask, as_mask
from beamhub.errors import BeamhubError, DeadLetterLimitError, ShardsFailedError
from beamhub.features.file_sizes import NONE
from beamhub.features.ledger import ShardResult
from beamhub.features.paths import dead_name, dead_names, pending_name, pending_names
from beamhub.features.proposal import Proposal
from beamhub.features.ranges import COLUMNS, Ranges
from beamhub.features.results import Results
from beamhub.features.roots import Hole, Totals
from beamhub.features.state import VersionState

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a commit may lack: dead letters as a share of the records read and as a count, and failed
    shards."""

    max_dead_fraction: float = 0.01
    max_dead_rows: int | None = None
    allow_failed: int = 0


def check(state: VersionState, proposal: Proposal, limits: Limits) -> None:
    """Raises BeamhubError, DeadLetterLimitError or ShardsFailedError where the proposal must not be
    committed."""
    for place in np.flatnonzero(_look_wrong(state, proposal.added)).tolist():
        _check_result(state, proposal.added.result(place))
    _check_ranges(state, proposal)
    _check_dead(state, proposal.totals, limits)
    _check_failed(proposal.failed, limits)


def _look_wrong(state: VersionState, added: Results) -> Mask:
    """The results that `_check_result` refuses, found all at once."""
    read, produced, dead, skipped, size = (
        added.column(name).to_numpy() for name in ("read", "produced", "dead", "skipped", "bytes")
    )
    files, pending = added.column("file"), added.column("pending").to_numpy(zero_copy_only=False)
    wrong: Mask = read != produced + dead + skipped
    wrong[~pending] |= state.files.look_up(files.filter(pa.array(~pending))) != size[~pending]
    wrong[pending] |= state.files.look_up(pending_names(files.filter(pa.array(pending)))) != size[pending]
    letters = dead > 0
    wrong[letters] |= state.files.look_up(dead_names(files.filter(pa.array(letters)))) == NONE
    rows = state.manifest.index.firsts(added.ids)
    known = np.flatnonzero(rows != NONE)
    entries = state.manifest.entries.select(["file", "bytes", "checksum"]).take(rows[known])
    is_listed = as_mask(pc.equal(files.take(known), entries.column("file")))
    is_listed &= state.files.look_up(entries.column("file")) == entries.column("bytes").to_numpy()
    wrong[known] |= is_listed & as_mask(pc.not_equal(added.column("checksum").take(known), entries.column("checksum")))
    return wrong


def _check_result(state: VersionState, result: ShardResult) -> None:
    what = f"{result.relative} (shard {result.shard})"
    if not result.balanced:
        raise BeamhubError(
            f"{what}: read {result.read} records, but {result.produced} produced + {result.dead} dead + "
            f"{result.skipped} skipped; nothing was committed: delete {result.file} and its ledger entry, "
            "run again"
        )
    name = pending_name(result.file) if result.pending else result.file
    size = state.files.get(name)
    if size != result.bytes:
        raise BeamhubError(
            f"{what}: {state.paths.path(name)} has {'no' if size is None else size} bytes, the ledger says "
            f"{result.bytes}; "
            "nothing was committed: run again"
        )
    if result.dead and dead_name(result.file) not in state.files:
        raise BeamhubError(
            f"{what}: its {result.dead} dead letters are not in {state.paths.path(dead_name(result.file))}; "
            "nothing was "
            f"committed: delete {state.paths.path(name)} and run again"
        )
    entry = state.manifest.result(result.shard)
    is_listed = entry is not None and entry.file == result.file and state.files.get(entry.file) == entry.bytes
    if is_listed and entry is not None and entry.checksum != result.checksum:
        raise BeamhubError(
            f"{what}: a replacement may not overwrite {result.file}, which is committed; nothing was "
            "committed: give the "
            "new file a name of its own"
        )


def _check_ranges(state: VersionState, proposal: Proposal) -> None:
    """Of files that come in ranges; a whole one replaces all there was of it, so it is alone."""
    names = proposal.in_ranges
    added, entries = proposal.added, state.manifest.entries
    coming = _numbers(added.column("relative"), names)
    kept = np.where(proposal.removed, NONE, _numbers(entries.column("relative"), names))
    parts = [
        pa.table({name: added.column(name).filter(pa.array(coming != NONE)) for name in COLUMNS}),
        entries.select(COLUMNS).filter(pa.array(kept != NONE)),
    ]
    ranges = Ranges.of(np.concatenate([coming[coming != NONE], kept[kept != NONE]]), pa.concat_tables(parts))
    for file, wrong in ranges.conflicts():
        raise BeamhubError(
            f"{names[file].as_py()}: {wrong}; nothing was committed: run again, which reads the file whole"
        )


def _numbers(relative: pa.Array | pa.ChunkedArray, names: pa.Array) -> Integers:
    """The place of each among the names."""
    found: Integers = pc.fill_null(pc.index_in(relative, names), NONE).to_numpy().astype(np.int64)
    return found


def _check_dead(state: VersionState, totals: Totals, limits: Limits) -> None:
    share = totals.dead / totals.read if totals.read else 0.0
    if share > limits.max_dead_fraction:
        limit = f"{limits.max_dead_fraction:.2%} (--max-dead-fraction)"
    elif limits.max_dead_rows is not None and totals.dead > limits.max_dead_rows:
        limit = f"{limits.max_dead_rows} (--max-dead-rows)"
    else:
        return
    raise DeadLetterLimitError(
        f"{totals.dead:,} of {totals.read:,} records ({share:.2%}) are dead letters, more than {limit}; "
        "nothing was "
        f"committed: look into {state.paths.dead}, mend the cause or raise the limit, and run again"
    )


def _check_failed(failed: Sequence[Hole], limits: Limits) -> None:
    if len(failed) <= limits.allow_failed:
        return
    named = "; ".join(map(str, failed[:_NAMED]))
    more = f"; and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    raise ShardsFailedError(
        f"{len(failed)} shards failed, {limits.allow_failed} allowed; nothing was committed, finished "
        "shards are kept: run "
        f"again, or commit without them by --allow-failed {len(failed)}: {named}{more}"
    )
