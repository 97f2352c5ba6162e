"""One Parquet file of the lake as it is read: its footer, its columns, its row groups, its bytes. I/O: the lake's files.

Every page has a checksum, which every read here verifies: a bit that flips in a column that no md5 covers is found as well.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ricloud_connector.errors import UnreadablePart
from ricloud_connector.schemas import CONTENTS, Dataset
from ricloud_connector.verify import StoredChunks

# What the decoder raises for a damaged file, down to names that are not UTF-8.
_UNDECODABLE = (OSError, pa.ArrowException, ValueError, LookupError, ArithmeticError)

Source = Path | io.RawIOBase
"""A Parquet file that is read: on a local disk, or as far as it is asked for."""

_TEXT, _NUMBER = pa.string(), pa.int64()
_CHUNK_FACTS = ("result_id", "chunk_index", "chunk_count", "checksum", "sha256", "size")


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


def read_chunks(path: Path, name: str | None = None) -> Iterator[StoredChunks]:
    """The rows of a contents part, in order; a row group at a time, without copying the bytes.

    `name` is what errors call it, where it is not its path. Raises: UnreadablePart.
    """
    return chunks_of(read_groups(path, CONTENTS, name=name), name or str(path))


def file_size(path: Path) -> int:
    """Bytes of a file. Raises: UnreadablePart."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise UnreadablePart(f"{path} cannot be read: {error}") from error


def file_sha256(path: Path) -> bytes:
    """Of the whole file, as it is read now. Raises: UnreadablePart."""
    try:
        with path.open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise UnreadablePart(f"{path} cannot be read: {error}") from error


def read_chosen(path: Source, dataset: Dataset, choose: Callable[[pa.Table], pa.Array]) -> Iterator[pa.Table]:
    """The rows that `choose` says of the columns without bytes; the bytes of a group without any are not read.

    Raises: UnreadablePart.
    """
    names, plain = dataset.schema.names, plain_columns(dataset.schema)
    with _opened(path, dataset, names) as parquet:
        for group in range(parquet.num_row_groups):
            facts = parquet.read_row_group(group, columns=plain, use_threads=False)
            chosen = choose(facts)
            if chosen.true_count:
                others = parquet.read_row_group(group, columns=[name for name in names if name not in plain], use_threads=False)
                rows = pa.table([(facts if name in plain else others).column(name) for name in names], names)
                yield rows if chosen.true_count == len(chosen) else rows.filter(chosen)


def chunks_of(groups: Iterable[pa.Table], name: str) -> Iterator[StoredChunks]:
    """The rows of a contents part's row groups, in order, without copying the bytes. Raises: UnreadablePart.

    The groups hold all columns: those that nobody asks for are verified by decoding them.
    """
    for group in groups:
        for batch in group.to_batches():
            offsets, data = spans(batch.column("content"))
            try:
                facts = {name: batch.column(name).to_pylist() for name in _CHUNK_FACTS}
            except UnicodeDecodeError as error:
                raise UnreadablePart(f"{name} cannot be decoded: {error}") from error
            yield StoredChunks(**facts, content=[data[start:end] for start, end in pairwise(offsets.tolist())])


def fingerprint(rows: pa.Table) -> bytes:
    """A digest of all values but those of `content`: the same for the same rows, however they lie in memory."""
    digest = hashlib.sha256(b"%d:" % rows.num_rows)
    for name in plain_columns(rows.schema):
        column = rows.column(name).combine_chunks()
        nulls = column.null_count
        digest.update(b"%d," % nulls)
        if nulls == rows.num_rows:
            continue  # that is all there is to say of it
        is_text = column.type == _TEXT
        if not is_text and column.type != _NUMBER:
            column = column.view(_NUMBER) if column.type.bit_width == 64 else column.cast(_NUMBER)
        if nulls:
            digest.update(pc.is_null(column).cast(pa.uint8()).to_numpy())
            column = pc.fill_null(column, "" if is_text else 0)
        if is_text:
            offsets, data = spans(column)
            digest.update(offsets[1:] - offsets[:-1])
            digest.update(data[offsets[0] : offsets[-1]])
        else:
            digest.update(column.to_numpy())
    return digest.digest()


def plain_columns(schema: pa.Schema) -> list[str]:
    """The columns that are not made of contents' bytes."""
    return [name for name in schema.names if name != "content"]


def spans(array: pa.Array) -> tuple[Any, memoryview]:
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
                    self._close()
                    raise UnreadablePart(f"{self._name} has no column {name} as {self._dataset.name} need it")
        return self._parquet

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()
        if isinstance(error, _UNDECODABLE):
            raise UnreadablePart(f"{self._name} cannot be decoded: {error}") from error

    def _close(self) -> None:
        with suppress(OSError):  # what was read has come, and its checksums were right
            self._parquet.close()
