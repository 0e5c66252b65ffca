"""What a run says at its end. Every number comes from the plan, the outcome in the run's papers, or the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from beamhub import storage
from beamhub.engine.canary import Canary
from beamhub.engine.planning import Plan
from beamhub.engine.stages import COMPUTED
from beamhub.features.roots import Hole
from beamhub.features.table import current_version
from beamhub.tasks.classify import Classify

_WIDTH = 100


def finished(plan: Plan, outcome: dict[str, Any], seconds: float, counters: Mapping[str, int]) -> str:
    """The summary of a run that committed; `counters` are those of the pipeline, none where a runner does not tell."""
    totals, added = outcome["totals"], outcome["added"]
    lines = [
        f"{plan.spec.task.kind}: version {plan.spec.version} committed, generation {outcome['generation']}, "
        f"in {seconds:.1f} s",
        f"  module    {plan.spec.call.handle} ({plan.spec.call.digest[:19]}), signature {plan.spec.call.signature}",
        *_inputs(plan),
        f"  shards    {added['shards']:,} committed in this run, {totals['shards']:,} in the table"
        + (f", {outcome['removed']:,} replaced or removed" if outcome["removed"] else ""),
        f"  records   {added['read']:,} read = {added['produced']:,} produced + {added['dead']:,} dead + "
        f"{added['skipped']:,} skipped",
        f"  table     {totals['rows']:,} rows, {_size(totals['bytes'])}",
        *workload(counters),
    ]
    if added["dead"]:
        lines.append(f"  dead      {added['dead']:,} dead letters in {plan.paths.dead}")
    lines += [f"  hole      {Hole(**hole)}" for hole in outcome["holes"]]
    lines += _keys(outcome["keys"])
    return "\n".join([*lines, *how_to_read(plan)])


def _inputs(plan: Plan) -> Iterable[str]:
    for each in plan.spec.call.bindings:
        what = each.pixels.describe() if each.pixels is not None else each.dtype
        yield f"  input     {each.input} <- {each.column}: {what}"
    call = plan.spec.call
    sizes = ", ".join(map(str, call.sizes))
    precision = "" if call.precision == "float32" else f", in {call.precision}"
    yield f"  calls     of {sizes} records, with {'frozen' if call.frozen else 'plain'} variables{precision}"
    if isinstance(plan.spec.task, Classify):
        yield f"  scores    of {plan.spec.task.output}, taken as {plan.spec.task.scores}"
    for name, value in plan.spec.call.constants.items():
        yield f"  input     {name} = {value}"
    random = plan.info.signature(plan.spec.call.signature, plan.spec.call.tags).stateful_random
    if random:
        yield f"  note      the module draws random numbers ({', '.join(random)}): another run gives other values"


def workload(counters: Mapping[str, int]) -> Iterable[str]:
    """How busy the stages were, and what held them up."""
    if not counters.get("called"):
        return
    counters = Counter(counters)
    # A lane has a thread each that reads, writes and closes files; the other stages share the compute threads.
    shares = {
        "read": counters["read_us"] / counters["lanes_us"],
        **{stage: counters[f"{stage}_us"] / counters["compute_us"] for stage in COMPUTED},
        "write": counters["write_us"] / counters["lanes_us"],
        "close": counters["close_us"] / counters["lanes_us"],
    }
    most = max(COMPUTED, key=lambda stage: shares[stage])
    threads = {
        "reading": shares["read"],
        f"computing ({most})": sum(shares[stage] for stage in COMPUTED),
        "writing": shares["write"],
        "closing files": shares["close"],
    }
    bottleneck = max(threads, key=lambda each: threads[each])
    listed = ", ".join(f"{stage} {share:.0%}" for stage, share in shares.items())
    yield f"  busy      {listed} of their threads' time; bottleneck: {bottleneck}"
    padding = counters["padded"] / counters["called"]
    yield f"  calls     {counters['called']:,} records, {padding:.1%} of them padding; {counters['traces']} traces"
    if counters["others_threads"]:
        yield "  note      TensorFlow had been started before the job: its operations have the threads that were set then"


def _keys(keys: dict[str, Any] | None) -> Iterable[str]:
    if keys is None:
        return
    if keys["null"]:
        yield f"  keys      {keys['null']:,} records have no key, for example in {', '.join(keys['null_files'])}"
    if keys["repeated"]:
        examples = "; ".join(f"{key!r} in {one} and {other}" for key, one, other in keys["examples"])
        yield f"  keys      {keys['repeated']:,} records repeat a key: {examples}"


def how_to_read(plan: Plan) -> list[str]:
    """The lines that read a version's folder, and a note where another version is the current one."""
    root, out = plan.paths.root, plan.paths.out
    lines = [f"read it:  beamhub.open({out!r}, {plan.spec.version!r}).to_table()"]
    if plan.spec.output_format == "parquet":
        pattern = storage.join(storage.escape(root), "**/*.parquet").replace("'", "''")
        # Without partition folders DuckDB would still make a column of v=VERSION.
        hive = "" if any(plan.corpus.shards.partitions()) else ", hive_partitioning = false"
        lines = [f"pandas:   pd.read_parquet({root!r})", f"DuckDB:   SELECT * FROM read_parquet('{pattern}'{hive})"]
    current = current_version(out)
    if current != plan.spec.version:
        lines.append(
            f"note:     {current} is still the current version, which `beamhub path` names and beamhub.open({out!r}) reads"
        )
    return lines


def nothing_to_do(plan: Plan) -> str:
    """The line of a run that found everything done."""
    shards = len(plan.corpus.shards)
    lines = [f"nothing to do: version {plan.spec.version} has all {shards:,} shards of {plan.corpus.pattern}"]
    return "\n".join([*lines, *how_to_read(plan)])


def dry_run(plan: Plan) -> str:
    """What a run would do."""
    lines = [
        f"dry run of {plan.spec.task.kind}: version {plan.spec.version}"
        f"{' (new)' if plan.is_new else ''} in {plan.paths.root}",
        f"  module    {plan.spec.call.handle} ({plan.spec.call.digest[:19]}), signature {plan.spec.call.signature}",
        *_inputs(plan),
        f"  compute   {len(plan.todo):,} of {len(plan.corpus.shards):,} shards, {_size(plan.todo.shards.bytes)} of input",
        f"  commit    {len(plan.changes):,} shards; {len(plan.gone):,} deleted files leave",
        *(f"  column    {field.name}: {field.type}" for field in plan.spec.schema),
    ]
    return "\n".join([*lines, "nothing was written"])


def canary(plan: Plan, found: Canary) -> str:
    """Values of the first records."""
    lines = [f"canary of {plan.spec.task.kind}: {found.rows.num_rows:,} rows, {len(found.dead):,} dead letters"]
    lines += _inputs(plan)
    for row in found.rows.slice(0, 20).to_pylist():
        lines += [f"  {name}: {_short(value)}" for name, value in row.items()] + [""]
    lines += [f"  dead {letter.key}: {letter.stage}: {letter.error}" for letter in found.dead[:20]]
    return "\n".join([*lines, "nothing was committed"])


def _short(value: Any) -> str:
    text = str(
        [round(each, 6) if isinstance(each, float) else each for each in value[:8]]
        if isinstance(value, list)
        else value
    )
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:,.0f} B" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"
