"""What a commit would change: which entries come and go, which shards are missing, which files move and
which go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from beamhub.corpus.shards import WHOLE, Shard
from beamhub.errors import BeamhubError
from beamhub.features.ledger import ShardResult
from beamhub.features.paths import dead_name, parse_name, pending_name
from beamhub.features.roots import Hole
from beamhub.features.state import VersionState

Results = Callable[[Shard], ShardResult | None]


@dataclass
class Proposal:
    """Entries `added`, shard ids `removed`, shards `failed` (of this commit) and all `holes` afterwards.

    `tokens` has the present token of each corpus file that is replaced or new; `gone` are files whose rows
    leave.
    """

    gone: frozenset[str]
    added: list[ShardResult] = field(default_factory=list)
    removed: set[str] = field(default_factory=set)
    failed: list[Hole] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)

    @cached_property
    def whole(self) -> frozenset[str]:
        """Corpus files that come whole; what was made of ranges of them goes."""
        return frozenset(result.relative for result in self.added if _is_whole(result))

    @property
    def moves(self) -> tuple[tuple[str, str], ...]:
        """Replacements: the name where each waits and the name that it gets."""
        return tuple((pending_name(result.file), result.file) for result in self.added if result.pending)


def propose(state: VersionState, changes: Sequence[Shard], gone: Iterable[str], results: Results) -> Proposal:
    """Compares what is wanted with the manifest.

    Raises BeamhubError when a corpus file comes with two tokens.
    """
    proposal = Proposal(frozenset(gone) - {shard.relative for shard in changes})
    files: dict[str, list[tuple[Shard, ShardResult | None]]] = {}
    for shard in changes:
        result = results(shard)
        if result is not None and result.outcome == "done":
            # Another process that does the same commit may have published the file since the caller saw it.
            result = state.located(result) or result
        if not _is_settled(state, shard, result):
            files.setdefault(shard.relative, []).append((shard, result))
    old: dict[str, list[ShardResult]] = {}
    for entry in state.manifest.where("relative", [*files, *proposal.gone]):
        old.setdefault(entry.relative, []).append(entry)
    for relative, shards in files.items():
        _replace_file(proposal, shards, old.get(relative, []))
    for relative in proposal.gone:
        proposal.removed |= {entry.shard for entry in old.get(relative, [])}
    proposal.holes = [*_old_holes(state, proposal, {s.id for s in changes}), *proposal.failed]
    return proposal


def _is_settled(state: VersionState, shard: Shard, result: ShardResult | None) -> bool:
    if not state.committed(shard):
        return False
    if result is None or not _is_finished(shard, result):
        return True
    entry = state.manifest.result(shard.id)
    return entry is not None and (entry.file, entry.checksum) == (result.file, result.checksum)


def _replace_file(
    proposal: Proposal, shards: Sequence[tuple[Shard, ShardResult | None]], old: Sequence[ShardResult]
) -> None:
    """The shards of one corpus file replace all that was made of it with another token, or nothing of it."""
    token = shards[0][0].token
    if any(shard.token != token for shard, _ in shards):
        raise BeamhubError(f"{shards[0][0].path}: shards of one file with different tokens; plan again")
    finished = [result for shard, result in shards if result is not None and _is_finished(shard, result)]
    failed = [_hole(shard, result) for shard, result in shards if result is None or not _is_finished(shard, result)]
    proposal.failed += failed
    if failed and any(result.begins is not None for result in finished):
        # Only from the file's start on, range by range, is it known whose each record is.
        missing = f"{failed[0].start}:{failed[0].end}"
        proposal.failed += [
            replace(_hole(shard, result), reason=f"waits for range {missing}, which failed")
            for shard, result in shards
            if result in finished
        ]
        return
    if failed and any(entry.token != token for entry in old):
        return
    if not finished:
        return
    ids = {result.shard for result in finished}
    # Where the file was done again whole, its ranges leave.
    again = any(map(_is_whole, finished))
    proposal.removed |= {entry.shard for entry in old if again or entry.token != token or entry.shard in ids}
    proposal.added += finished
    proposal.tokens[shards[0][0].relative] = token


def _is_finished(shard: Shard, result: ShardResult) -> bool:
    return result.outcome == "done" and result.token == shard.token


def _hole(shard: Shard, result: ShardResult | None) -> Hole:
    reason = result.reason if result is not None and result.reason else "it was never finished"
    return Hole(shard.id, shard.relative, shard.start, shard.end, shard.token, reason)


def _old_holes(state: VersionState, proposal: Proposal, changed: set[str]) -> list[Hole]:
    return [
        hole
        for hole in state.manifest.root.holes
        if hole.shard not in changed
        and hole.relative not in proposal.gone | proposal.whole
        and hole.token == proposal.tokens.get(hole.relative, hole.token)
    ]


def leftovers(state: VersionState, proposal: Proposal) -> tuple[list[str], list[str]]:
    """Names of files that nothing needs once the proposal is committed: of rows and dead letters, and of the
    ledger.

    Files of shards that it replaces, or that were finished for a token or a corpus file that is no more.
    """
    affected = {result.shard for result in proposal.added} | proposal.removed
    affected |= {result.shard for result in state.uncommitted() if _is_past(proposal, result)}
    entries = [*proposal.added, *state.manifest.where("shard", affected - proposal.removed)]
    needed = {result.file for result in entries} | {dead_name(result.file) for result in entries if result.dead}
    needed |= {source for source, _ in proposal.moves}
    names = ((name, parse_name(name)) for name in state.sizes)
    rows = [name for name, ids in names if ids is not None and ids[0] in affected and name not in needed]
    ledger = [
        state.paths.name(path)
        for path, results in state.ledger.files.items()
        if all(
            shard in affected or state.manifest.token(shard) == token
            for shard, token in zip(
                results.column("shard").to_pylist(), results.column("token").to_pylist(), strict=True
            )
        )
    ]
    return rows, ledger


def _is_past(proposal: Proposal, result: ShardResult) -> bool:
    if result.relative in proposal.whole and not _is_whole(result):
        return True
    return result.relative in proposal.gone or proposal.tokens.get(result.relative, result.token) != result.token


def _is_whole(result: ShardResult) -> bool:
    return (result.start, result.end) == (0, WHOLE)
