"""The commit: makes finished shards part of the table, all of them or none, once.

roll forward -> reconcile -> write parts -> write intent -> publish replacements -> write root -> delete what
was replaced

Until the root is there readers see the generation before, whose files are untouched; from then on the new
one. A process may be killed anywhere: the next one finishes what the intent says. The same commit twice, or
in two processes at once, makes one generation; of two different ones at once, one is refused and has changed
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from beamhub import storage
from beamhub.corpus.shard_list import ShardList
from beamhub.corpus.shards import Shard
from beamhub.errors import BeamhubError, TableError
from beamhub.features.intent import Intent, complete, roll_forward
from beamhub.features.leftovers import leftovers
from beamhub.features.lineage import encode_document
from beamhub.features.manifest import revise
from beamhub.features.paths import VersionPaths
from beamhub.features.proposal import Proposal, Told, propose
from beamhub.features.reconcile import Limits, check
from beamhub.features.roots import Hole, Root, Totals, read_root
from beamhub.features.state import VersionState
from beamhub.features.steps import step

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class CommitOutcome:
    """What the table is after a commit.

    `committed` is False when there was nothing to do. `totals` are the table's, `added` those of the shards
    that this commit published; `removed` counts the entries that it took away or replaced.
    """

    generation: int
    committed: bool
    totals: Totals
    added: Totals
    removed: int
    holes: tuple[Hole, ...]


def commit(
    paths: VersionPaths,
    changes: Sequence[Shard],
    gone: Iterable[str],
    results: Told | None,
    limits: Limits,
    run_id: str,
) -> CommitOutcome:
    """Publishes the rows of `changes`, and takes away those of the corpus files `gone` (relative paths).

    `changes` are the shards whose rows the table lacks; of a corpus file that changed, all of them. They
    replace all that was made of the file before, or nothing where one of them failed and `limits` allow that:
    then its old rows stay. `results` gives what became of a shard; None: what the folder says by now
    (`VersionState.result`).

    Raises BeamhubError when counts or files do not agree, or when another commit came first;
    DeadLetterLimitError; ShardsFailedError. Whatever is raised, the table is unchanged.
    """
    state = _quiet_state(paths)
    proposal = propose(state, ShardList.of(changes), gone, results)
    check(state, proposal, limits)
    rows, ledger = leftovers(state, proposal)
    if not (len(proposal.added) or proposal.removed.any() or rows or _new_holes(state, proposal)):
        return _outcome(state.manifest.root, proposal, committed=False)

    def write(name: str, data: bytes) -> None:
        step("part")
        storage.write_bytes(storage.join(paths.manifest, name), data)

    root = revise(state.manifest, proposal.removed, proposal.added, proposal.holes, run_id, write)
    _carry_out(paths, Intent(root, proposal.moves, (*rows, *ledger)))
    return _outcome(root, proposal, committed=True)


def _quiet_state(paths: VersionPaths) -> VersionState:
    """The state at a moment when no commit was half done."""
    for _ in range(_ATTEMPTS):
        roll_forward(paths)
        state = VersionState.load(paths)
        if not storage.list_files(paths.intents):
            return state
    raise TableError(f"{paths.root}: commits follow each other too fast; try again")


def _carry_out(paths: VersionPaths, intent: Intent) -> None:
    generation = intent.root.generation
    path = paths.intent_file(generation)
    step("intent")
    if storage.create_exclusive(path, encode_document(intent.to_json())):
        made = complete(paths, intent)
    else:
        other = Intent.read(path)
        if other is not None and other.root.content == intent.root.content:
            made = complete(paths, other)
        else:
            root = read_root(paths, generation)
            made = root is not None and root.content == intent.root.content
    if not made:
        raise BeamhubError(
            f"{paths.root}: another commit made generation {generation} first; this one changed nothing: "
            "run again, and it "
            "goes on from there"
        )


def _new_holes(state: VersionState, proposal: Proposal) -> bool:
    return set(proposal.holes) != set(state.manifest.root.holes)


def _outcome(root: Root, proposal: Proposal, committed: bool) -> CommitOutcome:
    return CommitOutcome(
        root.generation, committed, root.totals, proposal.totals, int(proposal.removed.sum()), root.holes
    )
