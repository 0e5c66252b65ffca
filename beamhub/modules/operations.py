"""Operations of TensorFlow that reach out of the computation: to files, the network, the process, or Python.

The lists are of TensorFlow 2.21; a test looks through all its operations for others whose inputs or attributes name a file or
an address.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

READS, WRITES, NETWORK, PYTHON = "reads files", "writes files", "reaches the network", "runs Python"
PROCESS = "ends the process"

_OPERATIONS: Mapping[str, tuple[str, ...]] = {
    READS: (
        "CSVDataset",
        "CSVDatasetV2",
        "ExperimentalCSVDataset",
        "ExperimentalLMDBDataset",
        "ExperimentalMatchingFilesDataset",
        "ExperimentalSqlDataset",
        "FixedLengthRecordDataset",
        "FixedLengthRecordDatasetV2",
        "FixedLengthRecordReader",
        "FixedLengthRecordReaderV2",
        "GenerateVocabRemapping",
        "ImmutableConst",
        "InitializeTableFromTextFile",
        "InitializeTableFromTextFileV2",
        "LMDBDataset",
        "LMDBReader",
        "ListSnapshotChunksDataset",
        "LoadAndRemapMatrix",
        "LoadDataset",
        "MatchingFiles",
        "MatchingFilesDataset",
        "ReadFile",
        "ReaderRead",
        "ReaderReadUpTo",
        "ReaderReadUpToV2",
        "ReaderReadV2",
        "RecordInput",
        "Restore",
        "RestoreSlice",
        "RestoreV2",
        "SnapshotChunkDataset",
        "SnapshotDatasetReader",
        "SnapshotNestedDatasetReader",
        "SqlDataset",
        "TFRecordDataset",
        "TFRecordDatasetV2",
        "TFRecordReader",
        "TFRecordReaderV2",
        "TextLineDataset",
        "TextLineReader",
        "TextLineReaderV2",
        "WholeFileReader",
        "WholeFileReaderV2",
    ),
    WRITES: (
        "CacheDataset",
        "CacheDatasetV2",
        "CloseSummaryWriter",
        "CreateSummaryDbWriter",
        "CreateSummaryFileWriter",
        "DatasetToTFRecord",
        "DistributedSave",
        "ExperimentalDatasetToTFRecord",
        "FlushSummaryWriter",
        "ImportEvent",
        "MergeV2Checkpoints",
        "Save",
        "SaveDataset",
        "SaveDatasetV2",
        "SaveSlices",
        "SaveV2",
        "SnapshotDataset",
        "SnapshotDatasetV2",
        "SummaryWriter",
        "WriteAudioSummary",
        "WriteFile",
        "WriteGraphSummary",
        "WriteHistogramSummary",
        "WriteImageSummary",
        "WriteRawProtoSummary",
        "WriteScalarSummary",
        "WriteSummary",
    ),
    NETWORK: (
        "BigQueryReader",
        "DataServiceDataset",
        "DataServiceDatasetV2",
        "DataServiceDatasetV3",
        "DataServiceDatasetV4",
        "DebugIdentity",
        "DebugIdentityV2",
        "DebugIdentityV3",
        "DebugNanCount",
        "DebugNumericSummary",
        "DebugNumericSummaryV2",
        "FileSystemSetConfiguration",
        "GenerateBigQueryReaderPartitions",
        "RegisterDataset",
        "RegisterDatasetV2",
        "RemoteCall",
        "Rpc",
        "RpcCall",
        "RpcClient",
        "RpcServer",
        "RpcServerRegister",
        "RpcServerStart",
        "TryRpc",
    ),
    PROCESS: ("Abort",),
    PYTHON: ("EagerPyFunc", "GeneratorDataset", "PyFunc", "PyFuncStateless"),
}

_DOES = {operation: does for does, operations in _OPERATIONS.items() for operation in operations}

_CONSOLE = ("stdout", "stderr", "log(info)", "log(warning)", "log(error)")
_INLINE = ("", "local://", "bytes://")


def _printed(node: Any) -> str:
    return "" if _text(node, "output_stream") in ("", *_CONSOLE) else WRITES


def _described(node: Any) -> str:
    source = _text(node, "descriptor_source")
    return "" if source in _INLINE or source.startswith("bytes://") else READS


def _with_vocabulary(node: Any) -> str:
    return READS if _text(node, "vocab_file") else ""


_BY_ATTRIBUTE: Mapping[str, Callable[[Any], str]] = {
    "PrintV2": _printed,
    "DecodeProtoV2": _described,
    "EncodeProto": _described,
    "FixedUnigramCandidateSampler": _with_vocabulary,
}
"""Operations that reach out where an attribute says so."""

KNOWN = frozenset(_DOES) | frozenset(_BY_ATTRIBUTE)


def does(node: Any) -> str:
    """What the operation of a `NodeDef` does beside computing, "" for nothing."""
    by_attribute = _BY_ATTRIBUTE.get(node.op)
    return by_attribute(node) if by_attribute else _DOES.get(node.op, "")


def _text(node: Any, attribute: str) -> str:
    return str(node.attr[attribute].s.decode(errors="replace")) if attribute in node.attr else ""
