"""One Parquet file of the lake: written in staging, read back row by row. I/O: local files.

Parts of the contents dataset are made for bytes: one row is a chunk of at most 8 MiB, a row group holds at most 8 MiB of
them so that reading one is cheap, `content` has neither dictionary nor statistics. Every page has a checksum, which every
read here verifies: a bit that flips in a column that no md5 covers is found as well.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ricloud_connector.disk import discard
from ricloud_connector.errors import LakeError, UnreadablePart
from ricloud_connector.model import CHUNK_BYTES, Content, Result
from ricloud_connector.schemas import CONTENTS, Dataset
from ricloud_connector.verify import StoredChunk

ROW_GROUP_BYTES = 8 * 1024 * 1024
ROW_GROUP_ROWS = 10_000

# What the decoder raises for a damaged file, down to names that are not UTF-8.
_UNDECODABLE = (OSError, pa.ArrowException, ValueError, LookupError, ArithmeticError)

Source = Path | io.RawIOBase
"""A Parquet file that is read: on a local disk, or as far as it is asked for."""

_CHUNK_FACTS = ("result_id", "chunk_index", "chunk_count", "checksum", "sha256", "size")


@dataclass(frozen=True, slots=True)
class StagedPart:
    """A finished, uncommitted file. `fingerprints` are those of its row groups, as they were given to be written.

    `piece_md5` is set where it holds some chunks of one content and nothing else: the md5 of their bytes.
    """

    dataset: Dataset
    path: Path
    fingerprints: tuple[bytes, ...]
    piece_md5: str | None = None


class PartWriter:
    """Writes rows of one dataset into a staging file. Use as a context manager: what is not finished is removed."""

    def __init__(self, dataset: Dataset, path: Path, metadata: Mapping[str, str]) -> None:
        self._dataset, self._path = dataset, path
        self._fingerprints: list[bytes] = []
        self._finished = False
        self.rows = 0
        plain = plain_columns(dataset.schema)
        try:
            self._file = pa.OSFile(str(path), "wb")
            self._parquet = pq.ParquetWriter(
                self._file,
                dataset.schema.with_metadata(dict(metadata)),
                compression="zstd",
                compression_level=1,
                use_dictionary=plain,
                write_statistics=plain,
                write_page_checksum=True,
            )
        except OSError as error:
            discard(path)
            raise LakeError(f"cannot write in {path.parent}: {error}") from error

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._finished:
            # Closing writes the footer, which a full disk refuses once more; the reason why is under way already.
            with suppress(OSError, pa.ArrowException):
                self._parquet.close()
            self._parquet.is_open = False  # or its finaliser tries again
            with suppress(OSError):
                self._file.close()
            discard(self._path)

    def write(self, table: pa.Table) -> None:
        """Append rows, as one row group. Raises: LakeError when the disk refuses them."""
        try:
            self._parquet.write_table(table, row_group_size=max(1, table.num_rows))
        except OSError as error:
            raise LakeError(f"cannot write in {self._path.parent}: {error}") from error
        self._fingerprints.append(fingerprint(table))
        self.rows += table.num_rows

    def finish(self) -> StagedPart:
        """Close the file. It is complete, but neither durable nor visible yet. Raises: LakeError."""
        try:
            self._parquet.close()
            self._file.close()
        except OSError as error:
            raise LakeError(f"cannot write in {self._path.parent}: {error}") from error
        self._finished = True
        return StagedPart(self._dataset, self._path, tuple(self._fingerprints))


class ContentsWriter:
    """Collects contents into row groups of a `PartWriter`."""

    def __init__(self, writer: PartWriter) -> None:
        self._writer = writer
        self._columns: dict[str, list[Any]] = {name: [] for name in CONTENTS.schema.names}
        self._pending_bytes = 0

    def add(self, content: Content) -> None:
        """Append one content, chunk by chunk; a staging file is read in chunks and then removed."""
        self.add_chunks(content, range(chunk_count(content)))
        if isinstance(content.body, Path):
            discard(content.body)

    def add_chunks(self, content: Content, indexes: range) -> None:
        """Append some of a content's chunks; its staging file stays."""
        count = chunk_count(content)
        if isinstance(content.body, bytes):
            self._add_chunk(content.result, content.sha256, content.body, 0, count)
            return
        try:
            with content.body.open("rb") as file:
                file.seek(indexes.start * CHUNK_BYTES)
                for index in indexes:
                    self._add_chunk(content.result, content.sha256, file.read(CHUNK_BYTES), index, count)
        except OSError as error:
            raise LakeError(f"cannot read the staging file {content.body}: {error.strerror}") from error

    def _add_chunk(self, result: Result, sha256: str, chunk: bytes, index: int, count: int) -> None:
        if self._pending_bytes + len(chunk) > ROW_GROUP_BYTES or len(self._columns["result_id"]) >= ROW_GROUP_ROWS:
            self.flush()
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

    def flush(self) -> None:
        """Write what is pending as one row group."""
        if self._columns["result_id"]:
            self._writer.write(pa.table(self._columns, schema=CONTENTS.schema))
            self._columns = {name: [] for name in CONTENTS.schema.names}
            self._pending_bytes = 0


def chunk_count(content: Content) -> int:
    return max(1, -(-(content.result.size or 0) // CHUNK_BYTES))


def piece_md5s(content: Content, pieces: Sequence[range]) -> list[str]:
    """The md5 of each piece of a content in a staging file, once the whole is still what was proven. Raises: LakeError."""
    assert isinstance(content.body, Path)
    whole, found = hashlib.md5(usedforsecurity=False), []
    try:
        with content.body.open("rb") as file:
            for piece in pieces:
                md5 = hashlib.md5(usedforsecurity=False)
                for _ in piece:
                    chunk = file.read(CHUNK_BYTES)
                    md5.update(chunk)
                    whole.update(chunk)
                found.append(md5.hexdigest())
    except OSError as error:
        raise LakeError(f"cannot read the staging file {content.body}: {error.strerror}") from error
    if whole.hexdigest() != content.result.checksum:
        raise LakeError(f"the staging file {content.body} does not hold any more what was downloaded into it")
    return found


def read_footer(path: Source) -> dict[str, str]:
    """What the footer says of a part: `ricloud_format`, `ricloud_organisation`, `ricloud_origin`. Raises: UnreadablePart."""
    with _opened(path) as parquet:
        return _footer_of(parquet)


def read_index(path: Source, dataset: Dataset) -> tuple[dict[str, str], pa.Table]:
    """What the footer says, and the index columns of each row. Raises: UnreadablePart."""
    with _opened(path, dataset, dataset.index) as parquet:
        return _footer_of(parquet), parquet.read(columns=list(dataset.index)).replace_schema_metadata(None)


def read_keys(path: Path, dataset: Dataset) -> pa.Table:
    """The key columns of each row. Raises: UnreadablePart."""
    with _opened(path, dataset, dataset.key) as parquet:
        return parquet.read(columns=list(dataset.key))


def read_groups(
    path: Source, dataset: Dataset, columns: Sequence[str] | None = None, *, name: str | None = None
) -> Iterator[pa.Table]:
    """The row groups of a part, one at a time; all columns where none are named. Raises: UnreadablePart."""
    names = list(dataset.schema.names if columns is None else columns)
    with _opened(path, dataset, names, name) as parquet:
        for group in range(parquet.num_row_groups):
            yield parquet.read_row_group(group, columns=names, use_threads=False)


def read_chunks(path: Path, name: str | None = None) -> Iterator[StoredChunk]:
    """The rows of a contents part, in order; a row group at a time, without copying the bytes.

    `name` is what errors call it, where it is not its path. Raises: UnreadablePart.
    """
    return chunks_of(read_groups(path, CONTENTS, name=name), name or str(path))


def read_chosen(path: Source, dataset: Dataset, choose: Callable[[pa.Table], pa.Array]) -> Iterator[pa.Table]:
    """The rows that `choose` says of the columns without bytes; the bytes of a group without any are not read.

    Raises: UnreadablePart.
    """
    names = dataset.schema.names
    with _opened(path, dataset, names) as parquet:
        for group in range(parquet.num_row_groups):
            chosen = choose(parquet.read_row_group(group, columns=plain_columns(dataset.schema), use_threads=False))
            if chosen.true_count:
                yield parquet.read_row_group(group, columns=names, use_threads=False).filter(chosen)


def chunks_of(groups: Iterable[pa.Table], name: str) -> Iterator[StoredChunk]:
    """The rows of a contents part's row groups, in order, without copying the bytes. Raises: UnreadablePart.

    The groups hold all columns: those that nobody asks for are verified by decoding them.
    """
    for group in groups:
        for batch in group.to_batches():
            offsets, data = _spans(batch.column("content"))
            try:
                facts = [batch.column(name).to_pylist() for name in _CHUNK_FACTS]
            except UnicodeDecodeError as error:
                raise UnreadablePart(f"{name} cannot be decoded: {error}") from error
            slices = (data[start:end] for start, end in pairwise(offsets.tolist()))
            yield from map(StoredChunk, *facts, slices)


def fingerprint(rows: pa.Table) -> bytes:
    """A digest of all values but those of `content`: the same for the same rows, however they lie in memory."""
    digest = hashlib.sha256()
    for name in plain_columns(rows.schema):
        column = rows.column(name).combine_chunks()
        digest.update(b"%d," % column.null_count)
        is_text = pa.types.is_string(column.type)
        if column.null_count:
            digest.update(pc.is_null(column).cast(pa.uint8()).to_numpy())
            column = pc.fill_null(column, "" if is_text else pa.scalar(0, pa.int64()).cast(column.type))
        if is_text:
            offsets, data = _spans(column)
            digest.update(offsets[1:] - offsets[:-1])
            digest.update(data[offsets[0] : offsets[-1]])
        else:
            digest.update(column.cast(pa.int64()).to_numpy())
    return digest.digest()


def plain_columns(schema: pa.Schema) -> list[str]:
    """The columns that are not made of contents' bytes."""
    return [name for name in schema.names if name != "content"]


def _spans(array: pa.Array) -> tuple[Any, memoryview]:
    """Of an array of strings or bytes, the offsets of its values, one more than there are, and what they point into."""
    _, offsets, data = array.buffers()
    found = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    return found, memoryview(data) if data is not None else memoryview(b"")


def _footer_of(parquet: pq.ParquetFile) -> dict[str, str]:
    found = parquet.schema_arrow.metadata or {}
    return {key.decode(): value.decode("utf-8", "replace") for key, value in found.items() if key.startswith(b"ricloud_")}


class _opened:  # noqa: N801  # reads as a verb: with _opened(path)
    """A Parquet file that has these columns of a dataset; whatever its decoder raises becomes UnreadablePart."""

    def __init__(
        self, source: Source, dataset: Dataset | None = None, columns: Sequence[str] = (), name: str | None = None
    ) -> None:
        self._source, self._dataset, self._columns = source, dataset, columns
        self._name = name or str(source)

    def __enter__(self) -> pq.ParquetFile:
        try:
            far = not isinstance(self._source, Path)  # then neighbouring columns are asked for together
            self._parquet = pq.ParquetFile(self._source, memory_map=False, pre_buffer=far, page_checksum_verification=True)
        except _UNDECODABLE as error:
            raise UnreadablePart(f"{self._name} cannot be read: {error}") from error
        if self._dataset is not None:
            schema = self._parquet.schema_arrow
            for name in self._columns:
                # Parquet's reader passes over a column that is not there, and reads another type as it comes.
                if schema.names.count(name) != 1 or schema.field(name).type != self._dataset.schema.field(name).type:
                    self._parquet.close()
                    raise UnreadablePart(f"{self._name} has no column {name} as {self._dataset.name} need it")
        return self._parquet

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._parquet.close()
        if isinstance(error, _UNDECODABLE):
            raise UnreadablePart(f"{self._name} cannot be decoded: {error}") from error
