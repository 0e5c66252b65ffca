"""Every error that beamhub raises on purpose, as one tree.

BeamhubError                    exit status 1
    UsageError                  2   a flag, a field or a call that makes no sense
    InputError                  2   something that was given cannot be used
        CorpusError                 the input files
        ModuleError                 the module
        TableError                  the output folder, or a feature table that is read
    DeadLetterLimitError        3   more records failed than the run allows
    ShardsFailedError           4   shards failed; nothing was committed
    EndedEarlyError             1   the run ended by no fault of a shard
RecordError                     one record cannot be processed; never leaves the engine

A message is one line: what, where, what was wanted, what to do.
"""

from __future__ import annotations


class BeamhubError(Exception):
    """Base of all errors that end a command; `exit_status` is the process's exit status."""

    exit_status = 1


class UsageError(BeamhubError):
    """A flag, a field or a call that makes no sense."""

    exit_status = 2


class InputError(BeamhubError):
    """Something that was given (corpus, module, table) cannot be used."""

    exit_status = 2


class CorpusError(InputError):
    """Input files that are missing, broken, or lack a column."""


class ModuleError(InputError):
    """A module that cannot be found, read or called as asked."""


class TableError(InputError):
    """An output folder that cannot be written, or a feature table that cannot be read."""


class DeadLetterLimitError(BeamhubError):
    """More records became dead letters than the run allows; nothing was committed."""

    exit_status = 3


class ShardsFailedError(BeamhubError):
    """Some shards failed; nothing was committed, finished shards stay in the ledger."""

    exit_status = 4


class RecordError(Exception):
    """One record cannot be processed.

    `stage` is where: "read", "decode", "check", "infer" or "encode". The engine turns it into a dead letter.
    """

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


class EndedEarlyError(BeamhubError):
    """A run ended before its end, by no fault of a shard; the message says that running again goes on."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the run ended early ({reason}); nothing was lost: finished shards are kept, run again to go on"
        )
