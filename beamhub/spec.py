"""A job's fields, declared once: flags, YAML spec and reference page all come from these dataclasses."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from beamhub.errors import UsageError

RECORD = "@record"
"""The column name that stands for the whole serialized record of a TFRecord corpus."""

J = TypeVar("J", bound="Job")

_WORDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    tuple: "a list",
}


def _option(
    text: str, default: Any = dataclasses.MISSING, *, metavar: str | None = None, choices: tuple[str, ...] = ()
) -> Any:
    metadata = {"help": text, "metavar": metavar, "choices": choices}
    return field(metadata=metadata) if default is dataclasses.MISSING else field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every job that runs a module over a corpus is told. See each field's help for its meaning."""

    task: ClassVar[str] = ""
    # Fields that change neither a row nor a column: a later run may differ in them and still continue the same version.
    FREE: ClassVar[frozenset[str]] = frozenset(
        {"module", "corpus", "corpus_root", "out", "split_bytes", "batch_size", "variables", "max_dead_fraction"}
        | {"max_dead_rows", "allow_failed", "limit", "dry_run"}
    )
    # Fields that came after the first tables: at their default they are left out of the request, so that those go on.
    LATER: ClassVar[frozenset[str]] = frozenset({"precision"})

    module: str = _option("folder, .tar.gz or URL of a TF Hub module or SavedModel", metavar="HANDLE")
    corpus: str = _option("TFRecord or Parquet files", metavar="GLOB")
    out: str = _option("folder of the feature table", metavar="OUT")
    signature: str | None = _option("signature to call (default: the only one, serving_default or default)", None)
    tags: tuple[str, ...] | None = _option("tags of the graph variant, for example train", None, metavar="A,B")
    input: tuple[str, ...] = _option(
        f"column that feeds a signature's input; {RECORD} is the whole serialized record; may be repeated",
        (),
        metavar="NAME=COLUMN",
    )
    constant: tuple[str, ...] = _option("value of a signature's input; may be repeated", (), metavar="NAME=VALUE")
    key: str | None = _option("column that names a record (default: the record's address)", None, metavar="COLUMN")
    keep: tuple[str, ...] = _option("columns to pass through unchanged", (), metavar="A,B")
    schema: str | None = _option("TFMD schema of a TFRecord corpus (default: inferred)", None, metavar="FILE.pbtxt")
    corpus_root: str | None = _option(
        "folder that shard names are relative to (default: the glob's)", None, metavar="FOLDER"
    )
    resize: str = _option(
        "how images are resized to the module's size",
        "bilinear",
        choices=("bilinear", "nearest", "bicubic", "area", "lanczos3"),
    )
    image_range: str | None = _option(
        "range that integer pixels are scaled to (default: 0,1, and 0,255 where the input is of integers)",
        None,
        metavar="LOW,HIGH",
    )
    image_size: str | None = _option("size of images where the module takes any", None, metavar="H,W")
    image_shape: str | None = _option("shape of raw pixels in a flat column", None, metavar="H,W,C")
    output_format: str = _option("files of the table", "parquet", choices=("parquet", "tfrecord"))
    split_bytes: int | None = _option(
        "cut larger files into ranges of about N bytes; 0 leaves them whole (default: 268435456)", None, metavar="N"
    )
    batch_size: int | None = _option(
        "records in one call (default: by the size of a record and by measuring)", None, metavar="N"
    )
    variables: str | None = _option(
        "plain variables or frozen to constants (default: the faster, measured)", None, choices=("plain", "frozen")
    )
    precision: str = _option(
        "bf16 computes convolutions and products of matrices in bfloat16; the columns stay float32, and are others",
        "float32",
        choices=("float32", "bf16"),
    )
    max_dead_fraction: float = _option("share of the run's records that may become dead letters", 0.01, metavar="SHARE")
    max_dead_rows: int | None = _option("number of records that may become dead letters", None, metavar="N")
    allow_failed: int = _option("commit although up to N shards failed; the manifest names them", 0, metavar="N")
    limit: int | None = _option("a canary: run the first N records, show values, commit nothing", None, metavar="N")
    dry_run: bool = _option("show what would be done", False)

    def __post_init__(self) -> None:
        """Raises UsageError when a value is out of its range."""
        if not 0 <= self.max_dead_fraction <= 1:
            raise UsageError(f"--max-dead-fraction is {self.max_dead_fraction}: give a share between 0 and 1")
        for name in ("batch_size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{flag(name)} is {value}: give a number of at least 1")
        for name in ("max_dead_rows", "allow_failed", "split_bytes"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UsageError(f"{flag(name)} is {value}: give a number of at least 0")
        if self.batch_size == 1:
            raise UsageError("--batch-size is 1: one row changes the last bits of its vector; give at least 2")
        self.sizes("image_size", 2)
        self.sizes("image_shape", 3)
        self.numbers("image_range", 2)
        for each in dataclasses.fields(self):
            choices = each.metadata["choices"]
            if choices and getattr(self, each.name) not in (*choices, each.default):
                raise UsageError(f"{flag(each.name)} is {getattr(self, each.name)!r}: give one of {', '.join(choices)}")

    def request(self) -> dict[str, Any]:
        """What was asked for, as JSON values, without the fields that change no row."""
        asked = {
            each.name: getattr(self, each.name)
            for each in dataclasses.fields(self)
            if each.name not in self.FREE and not (each.name in self.LATER and getattr(self, each.name) == each.default)
        }
        return {"task": self.task, **{name: list(v) if isinstance(v, tuple) else v for name, v in asked.items()}}

    def pairs(self, name: str) -> dict[str, str]:
        """The NAME=VALUE items of `input` or `constant`; a lone value stands under "". Raises UsageError on a repetition."""
        found: dict[str, str] = {}
        for item in getattr(self, name):
            key, equals, value = item.partition("=")
            key, value = (key, value) if equals else ("", key)
            if key in found:
                raise UsageError(f"{flag(name)} {item}: {key or 'a lone value'} was given before; give each once")
            found[key] = value
        return found

    def numbers(self, name: str, count: int) -> tuple[float, ...] | None:
        """The comma-separated numbers of a field, or None when it was not given. Raises UsageError on anything else."""
        text = getattr(self, name)
        if text is None:
            return None
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count or not all(map(math.isfinite, values)):
            raise UsageError(f"{flag(name)} is {text!r}: give {count} numbers with commas between them")
        return values

    def sizes(self, name: str, count: int) -> tuple[int, ...] | None:
        """Like `numbers`, for positive whole numbers."""
        values = self.numbers(name, count)
        if values is not None and any(value % 1 or value < 1 for value in values):
            raise UsageError(f"{flag(name)} is {getattr(self, name)!r}: give {count} positive whole numbers")
        return None if values is None else tuple(int(value) for value in values)


@dataclass(frozen=True, kw_only=True)
class EmbedJob(Job):
    """One vector for each record."""

    task: ClassVar[str] = "embed"
    output: str | None = _option("output to keep (default: the only one, or default)", None, metavar="NAME")


@dataclass(frozen=True, kw_only=True)
class ExtractJob(Job):
    """Any set of a signature's outputs, of any rank."""

    task: ClassVar[str] = "extract"
    outputs: tuple[str, ...] = _option("outputs to keep (default: all)", (), metavar="A,B")


@dataclass(frozen=True, kw_only=True)
class ClassifyJob(Job):
    """The top k labels of each record, with scores."""

    task: ClassVar[str] = "classify"
    output: str | None = _option("output with logits or probabilities (default: found by name)", None, metavar="NAME")
    scores: str = _option(
        "what that output holds (default: seen from its name or its first values)",
        "auto",
        choices=("auto", "logits", "probabilities"),
    )
    label_file: str | None = _option("one label a line, the first is class 0; or ID,LABEL lines", None, metavar="FILE")
    top_k: int = _option("labels for each record", 5, metavar="K")

    def __post_init__(self) -> None:
        """Raises UsageError when a value is out of its range."""
        super().__post_init__()
        if self.top_k < 1:
            raise UsageError(f"--top-k is {self.top_k}: give a number of at least 1")


@dataclass(frozen=True, kw_only=True)
class DetectJob(Job):
    """Boxes, scores, classes and names of the objects in each image."""

    task: ClassVar[str] = "detect"
    label_file: str | None = _option("one label a line, the first is class 0; or ID,LABEL lines", None, metavar="FILE")
    threshold: float = _option("lowest score to keep", 0.3, metavar="SCORE")
    max_detections: int = _option("objects to keep for each image, best first", 100, metavar="N")

    def __post_init__(self) -> None:
        """Raises UsageError when a value is out of its range."""
        super().__post_init__()
        if not math.isfinite(self.threshold):
            raise UsageError(f"--threshold is {self.threshold}: give a number")
        if self.max_detections < 1:
            raise UsageError(f"--max-detections is {self.max_detections}: give a number of at least 1")


JOBS: dict[str, type[Job]] = {job.task: job for job in (EmbedJob, ExtractJob, ClassifyJob, DetectJob)}


def flag(name: str) -> str:
    """A field's name as a flag."""
    return "--" + name.replace("_", "-")


def value_type(job: type[Job], name: str) -> type:
    """str, int, float, bool or tuple: a field's type without its None."""
    hint = typing.get_type_hints(job)[name]
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    chosen = next(option for option in options if option is not type(None))
    found: type = typing.get_origin(chosen) or chosen
    return found


def from_mapping(job: type[J], values: Mapping[str, Any], source: str) -> J:
    """A job from the fields of a YAML spec or of parsed flags.

    Raises:
        UsageError: an unknown or missing field, or a value of the wrong type; `source` is named.
    """
    known = {each.name: each for each in dataclasses.fields(job)}
    converted: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise UsageError(f"{source}: unknown field {name!r}{nearest(name, known)}")
        converted[name] = _convert(job, name, value, source)
    missing = [n for n, each in known.items() if each.default is dataclasses.MISSING and converted.get(n) is None]
    if missing:
        raise UsageError(f"{job.task}: {', '.join(map(flag, missing))} must be given, as a flag or in --spec")
    return job(**converted)


def _convert(job: type[Job], name: str, value: Any, source: str) -> Any:
    wanted = value_type(job, name)
    if value is None and "None" in str(typing.get_type_hints(job)[name]):
        return None
    if wanted is tuple:
        if isinstance(value, Mapping):
            value = [f"{k}={v}" for k, v in value.items()]
        items = value.split(",") if isinstance(value, str) else value
        if isinstance(items, list | tuple):
            return tuple(str(item).strip() for item in items if str(item).strip())
    elif wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif wanted is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    elif wanted is str and isinstance(value, list | tuple):
        return ",".join(map(str, value))
    elif type(value) is wanted:
        return value
    raise UsageError(f"{source}: {name} is {value!r}: give {_WORDS[wanted]}")


def nearest(name: str, names: Any) -> str:
    """ "; did you mean X?" with the closest of `names`, or "" where none is close."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""
