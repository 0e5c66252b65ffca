"""Where everything of a feature table lies.

    OUT/_beamhub/current.json                                     the version that readers should use
    OUT/v=VERSION/dt=2026-11-20/part-SHARD-TOKEN.parquet          data, below the corpus's own partition
    folders OUT/v=VERSION/_beamhub/                                       what is needed to trust the data

*Names* are relative to the version folder (they are what ledger and manifest hold), *paths* are whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from beamhub import storage
from beamhub.corpus.shards import Shard
from beamhub.errors import UsageError

FORMAT_VERSION = 1
"""Of the layout, the manifest and the footers. A reader refuses a newer one."""

META = "_beamhub"

_VERSION = re.compile(r"[a-z][a-z0-9]+")
_STEM = re.compile(r"part-([0-9a-f]{16})-([0-9a-f]{8})(?=[.-])")


def current_path(out: str) -> str:
    """The file that names the version readers should use."""
    return storage.join(out, META, "current.json")


def version_folder(out: str, version: str) -> str:
    """The folder that holds a version's data."""
    return storage.join(out, f"v={version}")


def parse_name(name: str) -> tuple[str, str] | None:
    """Shard id and token id of a data, pending or dead letters file; None for any other file."""
    found = _STEM.match(name.rpartition("/")[2])
    return (found[1], found[2]) if found else None


def dead_name(file: str) -> str:
    """The dead letters of the shard whose data file is named `file`."""
    return f"{META}/dead/{_stem(file)}.arrow"


def pending_name(file: str) -> str:
    """Where the replacement named `file` waits for its commit; does not end as data does, so that no reader
    takes it."""
    return f"{META}/pending/{file.rpartition('/')[2]}.pending"


def pending_names(files: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """`pending_name` of each."""
    return pc.replace_substring_regex(files, r"(?s)^(?:.*/)?([^/]*)$", rf"{META}/pending/\1.pending")


def dead_names(files: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """`dead_name` of each."""
    return pc.replace_substring_regex(files, r"(?s)^(?:.*/)?([^/]*)\.[^./]*$", rf"{META}/dead/\1.arrow")


def _stem(file: str) -> str:
    return file.rpartition("/")[2].rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class VersionPaths:
    """All paths of one version of a table.

    `version` begins with a letter, so that nothing reads the folder's name as a number. Raises UsageError
    otherwise.
    """

    out: str
    version: str

    def __post_init__(self) -> None:
        """Checks the version and makes `out` absolute."""
        if not _VERSION.fullmatch(self.version):
            raise UsageError(f"version {self.version!r}: wanted a letter followed by letters or digits, all lower case")
        object.__setattr__(self, "out", storage.absolute(self.out))

    @property
    def root(self) -> str:
        """The version's folder."""
        return version_folder(self.out, self.version)

    @property
    def meta(self) -> str:
        """The folder of all that is not data."""
        return self.path(META)

    @property
    def current(self) -> str:
        """`current.json`, which all versions of the table share."""
        return current_path(self.out)

    @property
    def spec(self) -> str:
        """The spec, a JSON document."""
        return self.path(META, "spec.json")

    @property
    def lineage(self) -> str:
        """The lineage, a JSON document."""
        return self.path(META, "lineage.json")

    @property
    def schema(self) -> str:
        """The Arrow schema of the rows, where the data files do not hold it themselves."""
        return self.path(META, "schema.arrow")

    @property
    def manifest(self) -> str:
        """The folder of manifest roots and parts."""
        return self.path(META, "manifest")

    @property
    def ledger(self) -> str:
        """The folder of ledger files."""
        return self.path(META, "ledger")

    @property
    def dead(self) -> str:
        """The folder of dead letters."""
        return self.path(META, "dead")

    @property
    def pending(self) -> str:
        """The folder where replacements wait for their commit."""
        return self.path(META, "pending")

    @property
    def intents(self) -> str:
        """The folder of commits under way."""
        return self.path(META, "intents")

    @property
    def runs(self) -> str:
        """The folder of run records."""
        return self.path(META, "runs")

    def path(self, *names: str) -> str:
        """The whole path of a name."""
        return storage.join(self.root, *names)

    def name(self, path: str) -> str:
        """The name of a path below the version folder."""
        return path[len(self.root) + 1 :]

    def data_name(self, shard: Shard, extension: str) -> str:
        """The name of a shard's data file: "dt=2026-11-20/part-SHARD-TOKEN.EXTENSION"."""
        file = f"part-{shard.id}-{shard.token_id}.{extension}"
        return f"{shard.partition}/{file}" if shard.partition else file

    def data_file(self, shard: Shard, extension: str) -> str:
        """The path of a shard's data file."""
        return self.path(self.data_name(shard, extension))

    def pending_file(self, shard: Shard, extension: str) -> str:
        """The path where a shard's replacement waits for its commit."""
        return self.path(pending_name(self.data_name(shard, extension)))

    def dead_file(self, shard: Shard) -> str:
        """The path of a shard's dead letters."""
        return self.path(dead_name(self.data_name(shard, "any")))

    def root_file(self, generation: int) -> str:
        """The manifest root of a generation."""
        return self.path(META, "manifest", f"gen-{generation:08d}.json")

    def intent_file(self, generation: int) -> str:
        """The intent of the commit that makes a generation."""
        return self.path(META, "intents", f"{generation:08d}.json")
