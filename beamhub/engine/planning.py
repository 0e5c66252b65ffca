"""What a run has to do: the corpus as it is, against the table as it is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from beamhub import storage
from beamhub.corpus.globs import covers
from beamhub.corpus.listing import Corpus, list_corpus
from beamhub.corpus.shard_list import ShardList
from beamhub.engine.ranges import in_ranges
from beamhub.engine.settle import settle
from beamhub.engine.standing import gone_files
from beamhub.engine.tablespec import FORMAT_VERSION, TableSpec
from beamhub.engine.worklist import WorkItems
from beamhub.errors import TableError, UsageError
from beamhub.features.formats import FORMATS
from beamhub.features.intent import roll_forward
from beamhub.features.lineage import read_document
from beamhub.features.paths import META, VersionPaths
from beamhub.features.state import VersionState
from beamhub.importing import import_tensorflow
from beamhub.modules.digest import module_digest
from beamhub.modules.inspect import ModuleInfo, inspect_module
from beamhub.modules.resolve import resolve
from beamhub.spec import Job, flag
from beamhub.startup import memory_returned


@dataclass(frozen=True)
class Plan:
    """A run, before it begins.

    `todo` are the shards to compute, `changes` those to commit (`todo`, and what an earlier run finished and did not
    commit), `gone` the corpus files whose rows leave. `is_new` says that the version has no spec yet.
    """

    job: Job
    inspected: ModuleInfo | None
    corpus: Corpus
    spec: TableSpec
    paths: VersionPaths
    todo: WorkItems
    changes: ShardList
    gone: Sequence[str]
    is_new: bool

    @property
    def is_done(self) -> bool:
        """Nothing to compute, nothing to commit."""
        return not (self.todo or self.changes or self.gone)

    @cached_property
    def info(self) -> ModuleInfo:
        """What the module is. It is looked into only when somebody asks, where a table of it is there: that takes
        TensorFlow, which is most of what a run costs that finds nothing to do."""
        return self.inspected or _inspect(self.spec.call.handle)


@memory_returned()
def make_plan(job: Job) -> Plan:
    """Looks at module, corpus and table, and decides what to do. Finishes a commit that died, but for
    a dry run or a canary; else it writes nothing.

    Raises:
        InputError, UsageError: any of the three cannot be used, or they do not go together.
    """
    out = storage.absolute(job.out)
    known = read_specs(out)
    module = _Module(handle_for_workers(job.module), known)
    job = replace(job, module=module.handle)
    corpus = list_corpus(job.corpus, job.corpus_root)
    _check_apart(out, corpus)
    if job.schema is not None and corpus.format != "tfrecord":
        raise UsageError("--schema is for TFRecord; a Parquet corpus has its types in its files: leave it out")
    module.check()
    request = full_request(job)
    spec = _same_request(request, module, corpus, known)
    if spec is None:
        spec = settle(job, request, module.inspect(), corpus)
        begun = known.get(spec.version, spec)
        spec = replace(begun, call=replace(begun.call, handle=module.handle))
    _check_pinned(job, spec)
    corpus = _below_root(job, corpus, spec)
    paths = VersionPaths(out, spec.version)
    if spec.version in known and not job.dry_run and job.limit is None:
        roll_forward(paths)
    state = VersionState.load(paths)
    corpus = in_ranges(corpus, spec, state)
    found = state.find(corpus.shards)
    changes = corpus.shards.filter(~found.committed)
    missing = corpus.shards.filter(~found.done)
    todo = WorkItems(missing, state.waiting(missing))
    gone = gone_files(corpus, state)
    return Plan(job, module.inspected, corpus, spec, paths, todo, changes, gone, spec.version not in known)


class _Module:
    """The job's module: its digest, and what more is asked of it."""

    def __init__(self, handle: str, known: dict[str, TableSpec]) -> None:
        """Raises ModuleError where there is none."""
        self.handle = handle
        self.inspected: ModuleInfo | None = None
        self._known = {spec.call.digest for spec in known.values()}
        self.digest = module_digest(resolve(handle))

    def check(self) -> None:
        """Looks into a module that no table here was made with. TensorFlow is imported once the corpus is listed, for both
        take most memory while they are at it."""
        if self.digest not in self._known:
            self.inspect()

    def inspect(self) -> ModuleInfo:
        self.inspected = self.inspected or _inspect(self.handle)
        return self.inspected


def _inspect(handle: str) -> ModuleInfo:
    import_tensorflow()
    return inspect_module(handle)


def handle_for_workers(handle: str) -> str:
    """The handle as every worker process would write it: a local path made absolute, a URL as it is."""
    return storage.absolute(handle) if storage.is_local(handle) else handle


def read_specs(out: str) -> dict[str, TableSpec]:
    """The specs of the versions in an output folder, by version; empty for a folder that is not there yet.

    Raises:
        TableError: the folder holds something else, or a table of a newer format.
    """
    found = {}
    try:
        specs = storage.match(storage.join(storage.escape(out), "v=*", META, "spec.json"))
    except OSError as error:
        raise TableError(f"--out {out}: {error}; check the path, or whether the store can be reached") from error
    for file in specs:
        document = read_document(file.path)
        if document["format_version"] > FORMAT_VERSION:
            raise TableError(
                f"{file.path}: table format {document['format_version']} was written by a newer beamhub, this one knows "
                f"{FORMAT_VERSION}: upgrade beamhub"
            )
        spec = TableSpec.from_json(document)
        found[document["version"]] = spec
    if not found:
        _check_empty(out)
    return found


def _check_empty(out: str) -> None:
    if storage.info(out) is not None:
        raise TableError(f"{out}: is a file; --out names a folder, which is made where there is none")
    other = min((file.path for file in storage.walk(out) if f"/{META}/" not in file.path), default=None)
    if other is not None:
        raise TableError(f"{out}: holds something else than a feature table ({other}); give an empty or a new folder")


def full_request(job: Job) -> dict[str, Any]:
    """What was asked for, with the digest of each file that a field names: its content counts, not where it lies.

    Raises:
        UsageError: such a file cannot be read.
    """
    request = job.request()
    for name in ("schema", "label_file"):
        path = request.get(name)
        if path is not None:
            try:
                request[name] = "sha256:" + hashlib.sha256(storage.read_bytes(path)).hexdigest()
            except OSError as error:
                raise UsageError(f"{flag(name)} {path} cannot be read ({error}): give a file that is there") from error
    return request


def _check_apart(out: str, corpus: Corpus) -> None:
    """Raises UsageError where the table's files would be taken for the corpus's."""
    if corpus.shards.lies_below(out) or any(
        covers(corpus.pattern, storage.join(out, f"v=f0/part-0.{format}")) for format in FORMATS
    ):
        raise UsageError(
            f"--out {out} lies inside the corpus {corpus.pattern}: the next run would read it; give another"
        )


def _same_request(
    request: dict[str, Any], module: _Module, corpus: Corpus, known: dict[str, TableSpec]
) -> TableSpec | None:
    """The spec that an earlier run settled for the same request, so that types seen in the data stay as they were."""
    for spec in known.values():
        if spec.request == request and spec.call.digest == module.digest and spec.corpus_format == corpus.format:
            # The same content may lie elsewhere by now.
            return replace(spec, call=replace(spec.call, handle=module.handle))
    return None


def _check_pinned(job: Job, spec: TableSpec) -> None:
    call = spec.call
    for name, asked, begun in (
        ("split_bytes", job.split_bytes, spec.split_bytes),
        ("batch_size", job.batch_size, call.batch_size),
        ("variables", job.variables, "frozen" if call.frozen else "plain"),
    ):
        if asked not in (None, begun):
            raise UsageError(
                f"{flag(name)} {asked}: version {spec.version} was begun with {begun}, and another changes the files or the last "
                f"bits of its vectors: leave the flag out, or give another --out"
            )


def _below_root(job: Job, corpus: Corpus, spec: TableSpec) -> Corpus:
    """The corpus with its shards named below the version's own root."""
    if corpus.root == spec.corpus_root:
        return corpus
    if job.corpus_root is not None or not f"{corpus.root}/".startswith(f"{spec.corpus_root}/"):
        raise UsageError(
            f"corpus root {corpus.root}: version {spec.version} names its shards below {spec.corpus_root}; give a corpus below "
            f"it, or another --out"
        )
    return list_corpus(job.corpus, spec.corpus_root)


def describe_limits(job: Job) -> dict[str, Any]:
    """The limits of a commit, for the run's papers."""
    return {
        "max_dead_fraction": job.max_dead_fraction,
        "max_dead_rows": job.max_dead_rows,
        "allow_failed": job.allow_failed,
    }
