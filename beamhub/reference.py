"""The reference page of the jobs' fields, made from their dataclasses: `python -m beamhub.reference > docs/reference.md`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from beamhub.cli import EPILOG
from beamhub.spec import JOBS, Job, flag, value_type


def reference() -> str:
    """The page, as Markdown."""
    return "\n".join([*_head(), *_table("All jobs", Job, frozenset()), *_jobs(), *_statuses()]) + "\n"


def _head() -> Iterator[str]:
    yield "# Fields of the jobs"
    yield ""
    yield "Made from the code by `python -m beamhub.reference`; a test compares the two. Each field is a flag, and a line of"
    yield "the YAML file that `--spec` names (`batch-size: 64`); flags come before the file. All other flags are Apache Beam's."


def _jobs() -> Iterator[str]:
    shared = frozenset(each.name for each in dataclasses.fields(Job))
    for name, job in JOBS.items():
        title = (
            f"beamhub {name}: {(job.__doc__ or '').splitlines()[0][0].lower()}{(job.__doc__ or '').splitlines()[0][1:]}"
        )
        yield from _table(title.rstrip("."), job, shared)


def _table(title: str, job: type[Job], left_out: frozenset[str]) -> Iterator[str]:
    yield from ("", f"## {title}", "", "| flag | type | default | meaning |", "|---|---|---|---|")
    for each in dataclasses.fields(job):
        if each.name in left_out:
            continue
        metavar = each.metadata["metavar"]
        kind = "switch" if value_type(job, each.name) is bool else metavar or value_type(job, each.name).__name__
        if each.metadata["choices"]:
            kind = ", ".join(each.metadata["choices"])
        yield f"| `{flag(each.name)}` | {kind} | {_default(each)} | {each.metadata['help']} |"


def _default(each: dataclasses.Field[object]) -> str:
    if each.default is dataclasses.MISSING:
        return "required"
    return "" if each.default is None or each.default is False or each.default == () else f"`{each.default}`"


def _statuses() -> Iterator[str]:
    yield from ("", "## Exit status", "", "```")
    yield from EPILOG.splitlines()
    yield "```"


if __name__ == "__main__":
    print(reference(), end="")
