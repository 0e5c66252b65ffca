"""A commit under way, written down so that anybody can finish it.

The intent of a generation exists from before the first file moves until after the last one is deleted, and
only one commit can have it: so there is never more than one commit at work, a dead one is finished by the
next process that comes by, and a process that wakes up late sees that there is nothing left to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from beamhub import storage
from beamhub.errors import TableError
from beamhub.features.lineage import encode_document, read_document
from beamhub.features.paths import VersionPaths
from beamhub.features.roots import Root, create_root, drop_old, latest_generation, read_root
from beamhub.features.steps import step


@dataclass(frozen=True, slots=True)
class Intent:
    """The root to be made, and by name the files to be moved before it and to be deleted after it."""

    root: Root
    moves: Sequence[tuple[str, str]]
    deletes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """A JSON document."""
        return {
            "root": self.root.to_json(),
            "moves": [list(move) for move in self.moves],
            "deletes": list(self.deletes),
        }

    @classmethod
    def read(cls, path: str) -> Self | None:
        """The intent in a file; None when there is none (any more).

        Raises TableError when it cannot be read.
        """
        try:
            document = read_document(path)
            moves = tuple((source, target) for source, target in document["moves"])
            return cls(Root.from_json(document["root"], path), moves, tuple(document["deletes"]))
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, ValueError) as error:
            raise TableError(f"{path}: not an intent ({error!r}); delete it and run again") from error


def roll_forward(paths: VersionPaths) -> None:
    """Finishes whatever commit is under way, dead or alive.

    Call it before a version's state is read for a run.
    """
    for file in storage.list_files(paths.intents):
        intent = Intent.read(file.path)
        if intent is not None:
            complete(paths, intent)


def complete(paths: VersionPaths, intent: Intent) -> bool:
    """Does all steps that are left, any of which another process may have done or be doing. True when its
    generation has its root; False when it came too late.

    Raises TableError when a file that it should publish is gone.
    """
    generation = intent.root.generation
    if latest_generation(paths) < generation and _publish(paths, intent):
        step("root")
        create_root(paths, intent.root)
    root = read_root(paths, generation)
    made = root is not None and root.content == intent.root.content
    if made and latest_generation(paths) == generation:
        step("current")
        storage.create_exclusive(paths.current, encode_document({"version": paths.version}))
        _delete(paths, intent)
        step("old generations")
        drop_old(paths)
    step("end of intent")
    storage.delete([paths.intent_file(generation)])
    return made


def _publish(paths: VersionPaths, intent: Intent) -> bool:
    """Gives replacements their names. False when another process has ended the commit."""
    generation = intent.root.generation
    for source, target in intent.moves:
        step("publish")
        if not _exists(paths.intent_file(generation)) or _exists(paths.root_file(generation)):
            return False
        try:
            storage.move(paths.path(source), paths.path(target))
        except FileNotFoundError as error:
            if not _exists(paths.intent_file(generation)):
                return False
            storage.delete([paths.intent_file(generation)])
            raise TableError(
                f"{paths.path(source)}: vanished before it was committed; nothing was committed: run again"
            ) from error
    return True


def _delete(paths: VersionPaths, intent: Intent) -> None:
    for name in intent.deletes:
        step("delete")
        # Without the intent others may have gone on, and what was to be deleted may be in use again.
        if not _exists(paths.intent_file(intent.root.generation)):
            return
        storage.delete([paths.path(name)])


def _exists(path: str) -> bool:
    return storage.info(path) is not None
