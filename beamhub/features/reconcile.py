"""What has to hold before a commit: every record accounted for, every file there, few enough dead letters
and failures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from beamhub.corpus.shards import WHOLE
from beamhub.errors import BeamhubError, DeadLetterLimitError, ShardsFailedError
from beamhub.features.ledger import ShardResult
from beamhub.features.paths import dead_name, pending_name
from beamhub.features.proposal import Proposal
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
    for result in proposal.added:
        _check_result(state, result)
    _check_ranges(state, proposal)
    _check_dead(state, Totals.of(proposal.added), limits)
    _check_failed(proposal.failed, limits)


def _check_result(state: VersionState, result: ShardResult) -> None:
    what = f"{result.relative} (shard {result.shard})"
    if not result.balanced:
        raise BeamhubError(
            f"{what}: read {result.read} records, but {result.produced} produced + {result.dead} dead + "
            f"{result.skipped} skipped; nothing was committed: delete {result.file} and its ledger entry, "
            "run again"
        )
    name = pending_name(result.file) if result.pending else result.file
    if state.sizes.get(name) != result.bytes:
        raise BeamhubError(
            f"{what}: {state.paths.path(name)} has {state.sizes.get(name, 'no')} bytes, the ledger says "
            f"{result.bytes}; "
            "nothing was committed: run again"
        )
    if result.dead and dead_name(result.file) not in state.sizes:
        raise BeamhubError(
            f"{what}: its {result.dead} dead letters are not in {state.paths.path(dead_name(result.file))}; "
            "nothing was "
            f"committed: delete {state.paths.path(name)} and run again"
        )
    entry = state.manifest.result(result.shard)
    is_listed = entry is not None and entry.file == result.file and state.sizes.get(entry.file) == entry.bytes
    if is_listed and entry is not None and entry.checksum != result.checksum:
        raise BeamhubError(
            f"{what}: a replacement may not overwrite {result.file}, which is committed; nothing was "
            "committed: give the "
            "new file a name of its own"
        )


def _check_ranges(state: VersionState, proposal: Proposal) -> None:
    kept = state.manifest.where("relative", proposal.tokens)
    files: dict[str, list[ShardResult]] = {}
    for result in [*proposal.added, *(entry for entry in kept if entry.shard not in proposal.removed)]:
        files.setdefault(result.relative, []).append(result)
    for relative, found in files.items():
        wrong = disagreement(found)
        if wrong is not None:
            raise BeamhubError(f"{relative}: {wrong}; nothing was committed: run again, which reads the file whole")


def disagreement(ranges: Iterable[ShardResult]) -> str | None:
    """Why these finished ranges of one file cannot stand side by side: rows would be doubled or lost. None where they can.

    Of neighbours the later one has to begin where the earlier one ends. Where a range is missing (a hole), or has no record,
    or its format leaves no doubt, nothing is compared.
    """
    earlier: ShardResult | None = None
    for one, other in pairwise(sorted(ranges, key=lambda each: (each.start, each.end))):
        if one.end == WHOLE or one.end > other.start:
            return f"ranges {one.start}:{one.end} and {other.start}:{other.end} overlap, so rows would be doubled"
        if one.begins is not None:
            earlier = one
        if one.end != other.start:
            earlier = None
        if earlier is not None and other.begins is not None and earlier.ends != other.begins:
            return (
                f"range {earlier.start}:{earlier.end} ends at byte {earlier.ends}, range {other.start}:{other.end} begins at "
                f"byte {other.begins}, so rows would be lost or doubled"
            )
    return None


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
    named = "; ".join(f"{hole.relative} [{hole.start}:{hole.end}]: {hole.reason}" for hole in failed[:_NAMED])
    more = f"; and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    raise ShardsFailedError(
        f"{len(failed)} shards failed, {limits.allow_failed} allowed; nothing was committed, finished "
        "shards are kept: run "
        f"again, or commit without them by --allow-failed {len(failed)}: {named}{more}"
    )
