"""One Parquet file of the lake: written in staging, read back row by row. I/O: local files.

Parts of the contents dataset are made for bytes: one row is a chunk of at most 8 MiB, row groups stay near 32 MiB so that
reading one is cheap, `content` has neither dictionary nor statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ricloud_connector.errors import LakeError, UnreadablePart
from ricloud_connector.model import CHUNK_BYTES, Content, Result
from ricloud_connector.schemas import CONTENTS, Dataset
from ricloud_connector.verify import StoredChunk

ROW_GROUP_BYTES = 32 * 1024 * 1024

_CHUNK_COLUMNS = ["result_id", "chunk_index", "chunk_count", "checksum", "size", "content"]


@dataclass(frozen=True, slots=True)
class StagedPart:
    """A finished, uncommitted file. `keys` are the key columns of its rows, in the order of the rows."""

    dataset: Dataset
    path: Path
    keys: pa.Table
    metadata: Mapping[str, str]


class PartWriter:
    """Writes rows of one dataset into a staging file. Use as a context manager: what is not finished is removed."""

    def __init__(self, dataset: Dataset, path: Path, metadata: Mapping[str, str]) -> None:
        self._dataset, self._path, self._metadata = dataset, path, metadata
        self._keys: list[pa.Table] = []
        self._finished = False
        self.rows = 0
        plain = [name for name in dataset.schema.names if name != "content"]
        try:
            self._parquet = pq.ParquetWriter(
                path,
                dataset.schema.with_metadata(dict(metadata)),
                compression="zstd",
                compression_level=1,
                use_dictionary=plain,
                write_statistics=plain,
            )
        except OSError as error:
            raise LakeError(f"cannot write in {path.parent}: {error}") from error

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._finished:
            self._parquet.close()
            self._path.unlink(missing_ok=True)

    def write(self, table: pa.Table) -> None:
        """Append rows. Raises: LakeError when the disk refuses them."""
        try:
            self._parquet.write_table(table, row_group_size=max(1, table.num_rows))
        except OSError as error:
            raise LakeError(f"cannot write in {self._path.parent}: {error}") from error
        self._keys.append(table.select(list(self._dataset.key)))
        self.rows += table.num_rows

    def finish(self) -> StagedPart:
        """Close the file. It is complete, but neither durable nor visible yet."""
        try:
            self._parquet.close()
        except OSError as error:
            raise LakeError(f"cannot write in {self._path.parent}: {error}") from error
        self._finished = True
        keys = pa.concat_tables(self._keys) if self._keys else self._dataset.schema.empty_table()
        return StagedPart(self._dataset, self._path, keys, self._metadata)


class ContentsWriter:
    """Collects contents into row groups of a `PartWriter`."""

    def __init__(self, writer: PartWriter) -> None:
        self._writer = writer
        self._columns: dict[str, list[Any]] = {name: [] for name in CONTENTS.schema.names}
        self._pending_bytes = 0

    def add(self, content: Content) -> None:
        """Append one content, chunk by chunk; a staging file is read in chunks and then removed."""
        size = content.result.size or 0
        count = max(1, -(-size // CHUNK_BYTES))
        if isinstance(content.body, bytes):
            self._add_chunk(content.result, content.sha256, content.body, 0, count)
            return
        try:
            with content.body.open("rb") as file:
                for index in range(count):
                    self._add_chunk(content.result, content.sha256, file.read(CHUNK_BYTES), index, count)
        except OSError as error:
            raise LakeError(f"cannot read the staging file {content.body}: {error.strerror}") from error
        content.body.unlink()

    def _add_chunk(self, result: Result, sha256: str, chunk: bytes, index: int, count: int) -> None:
        values = (
            result.id,
            index,
            count,
            chunk,
            result.identifier,
            result.type,
            result.checksum,
            sha256,
            result.size,
            result.date_created,
        )
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(value)
        self._pending_bytes += len(chunk)
        if self._pending_bytes >= ROW_GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is pending as one row group."""
        if self._columns["result_id"]:
            self._writer.write(pa.table(self._columns, schema=CONTENTS.schema))
            self._columns = {name: [] for name in CONTENTS.schema.names}
            self._pending_bytes = 0


def read_metadata(path: Path) -> dict[str, str]:
    """What the footer says of a part: `ricloud_format`, `ricloud_organisation`, `ricloud_origin`. Raises: UnreadablePart."""
    with _opened(path) as parquet:
        found = parquet.schema_arrow.metadata or {}
    return {key.decode(): value.decode("utf-8", "replace") for key, value in found.items() if key.startswith(b"ricloud_")}


def read_columns(path: Path, columns: tuple[str, ...]) -> pa.Table:
    """Some columns of a part. Raises: UnreadablePart."""
    with _opened(path) as parquet:
        return parquet.read(columns=list(columns)).replace_schema_metadata(None)


def read_chunks(path: Path) -> Iterator[StoredChunk]:
    """The rows of a contents part, in order; a row group at a time, without copying the bytes. Raises: UnreadablePart."""
    with _opened(path) as parquet:
        for group in range(parquet.num_row_groups):
            try:
                table = parquet.read_row_group(group, columns=_CHUNK_COLUMNS)
            except (OSError, pa.ArrowException) as error:
                raise UnreadablePart(f"{path} cannot be decoded: {error}") from error
            for batch in table.to_batches():
                yield from _chunks_of(batch)


def _chunks_of(batch: pa.RecordBatch) -> Iterator[StoredChunk]:
    content = batch.column("content")
    _, offset_buffer, data_buffer = content.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[content.offset : content.offset + len(content) + 1].tolist()
    data = memoryview(data_buffer) if data_buffer is not None else memoryview(b"")
    facts = [batch.column(name).to_pylist() for name in _CHUNK_COLUMNS[:-1]]
    for row, (result_id, index, count, checksum, size) in enumerate(zip(*facts, strict=True)):
        yield StoredChunk(result_id, index, count, checksum, size, data[offsets[row] : offsets[row + 1]])


def read_groups(path: Path) -> Iterator[pa.Table]:
    """The row groups of a part, whole. Raises: UnreadablePart."""
    with _opened(path) as parquet:
        for group in range(parquet.num_row_groups):
            yield parquet.read_row_group(group)


class _opened:  # noqa: N801  # reads as a verb: with _opened(path)
    """A Parquet file opened for reading, with whatever its decoder raises turned into UnreadablePart."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> pq.ParquetFile:
        try:
            self._parquet = pq.ParquetFile(self._path, memory_map=False, pre_buffer=False)
        except (OSError, pa.ArrowException) as error:
            raise UnreadablePart(f"{self._path} cannot be read: {error}") from error
        return self._parquet

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._parquet.close()
        if isinstance(error, OSError | pa.ArrowException):
            raise UnreadablePart(f"{self._path} cannot be decoded: {error}") from error
