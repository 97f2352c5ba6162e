"""One Parquet file of the lake as it is written, in staging. I/O: local files.

Parts of the contents dataset are made for bytes: one row is a chunk of at most 8 MiB, a row group holds one, or as many as
stay within 2 MiB, so that reading one is cheap, `content` has neither dictionary nor statistics. Every page has a checksum.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ricloud_connector.disk import discard
from ricloud_connector.errors import LakeError
from ricloud_connector.listed import Listed
from ricloud_connector.model import CHUNK_BYTES, Content, Result
from ricloud_connector.part_reader import fingerprint, plain_columns, spans
from ricloud_connector.schemas import CONTENTS, Dataset

ROW_GROUP_BYTES = 2 * 1024 * 1024
ROW_GROUP_ROWS = 10_000
ZSTD_LEVEL = 1
SAMPLES, SAMPLE_BYTES = 16, 8 * 1024


@dataclass(frozen=True, slots=True)
class StagedPart:
    """A finished, uncommitted file. `fingerprints` are those of its row groups, as they were given to be written.

    `md5s` has, by their sha256, the md5 of the contents in it, both as they were found in one pass over what came.
    `piece_md5` is set where it holds some chunks of one content and nothing else: the md5 of their bytes.
    """

    dataset: Dataset
    path: Path
    rows: int
    fingerprints: tuple[bytes, ...]
    md5s: Mapping[str, str] = field(default_factory=dict, repr=False)
    piece_md5: str | None = None


@dataclass(frozen=True, slots=True)
class ContentPart:
    """A downloaded content whose length and md5 match what was listed, in a part of its own."""

    result: Result
    part: StagedPart


@dataclass(frozen=True, slots=True)
class Contents:
    """Downloaded contents whose lengths and md5s match what was listed, as columns: their results, each one's sha256 and bytes.

    None is longer than a chunk.
    """

    listed: Listed
    sha256s: list[str]
    body: pa.Array = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes, of all of them."""
        offsets, _ = spans(self.body)
        return int(offsets[-1] - offsets[0])

    def slice(self, start: int, stop: int) -> Contents:
        """Some of them; all of them are these themselves."""
        if stop - start == len(self.body):
            return self
        return Contents(self.listed.slice(start, stop), self.sha256s[start:stop], self.body[start:stop])


class PartWriter:
    """Writes rows of one dataset into a staging file. Use as a context manager: what is not finished is removed.

    `compressed` says whether that is tried with contents' bytes.
    """

    def __init__(self, dataset: Dataset, path: Path, metadata: Mapping[str, str], *, compressed: bool = True) -> None:
        self._dataset, self._path = dataset, path
        self._fingerprints: list[bytes] = []
        self._finished = False
        self.rows = 0
        self.md5s: dict[str, str] = {}
        plain = plain_columns(dataset.schema)
        zstd = dataset.schema.names if compressed else plain
        try:
            self._file = pa.OSFile(str(path), "wb")
            self._parquet = pq.ParquetWriter(
                self._file,
                dataset.schema.with_metadata(dict(metadata)),
                compression={name: "zstd" if name in zstd else "none" for name in dataset.schema.names},
                compression_level=dict.fromkeys(zstd, ZSTD_LEVEL),
                use_dictionary=list(dataset.repeating),
                write_statistics=plain,
                write_page_checksum=True,
            )
        except OSError as error:
            discard(path)
            raise LakeError(f"cannot write in {path.parent}: {error}") from error

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.abandon()

    def abandon(self) -> None:
        """Remove the file, unless it is finished."""
        if not self._finished:
            self._finished = True
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
        return StagedPart(self._dataset, self._path, self.rows, tuple(self._fingerprints), self.md5s)


class ContentsWriter:
    """Collects contents into row groups of a `PartWriter`."""

    def __init__(self, writer: PartWriter) -> None:
        self._writer = writer
        self._rows: list[tuple[Content, int, int]] = []
        self._chunks: list[bytes] = []
        self._pending_bytes = 0
        self._whole: list[pa.Table] = []
        self._whole_bytes = 0

    def add_whole(self, contents: Contents) -> None:
        """Append contents that are a chunk each."""
        if self._whole_bytes + contents.size > ROW_GROUP_BYTES:
            self.flush()  # also the last chunk of a content whose first ones are written: nothing may stand between them
        self._writer.md5s.update(zip(contents.sha256s, contents.listed.column("checksum").to_pylist(), strict=True))
        self._whole.append(whole_rows(contents))
        self._whole_bytes += contents.size

    def add(self, content: Content) -> None:
        """Append one content, chunk by chunk; a staging file is read in chunks and then removed."""
        self.add_chunks(content, range(chunk_count(content.result)))
        if isinstance(content.body, Path):
            discard(content.body)

    def add_chunks(self, content: Content, indexes: range) -> None:
        """Append some of a content's chunks; its staging file stays."""
        count = chunk_count(content.result)
        self._writer.md5s[content.sha256] = content.md5
        if isinstance(content.body, bytes):
            self._add_chunk(content, content.body, 0, count)
            return
        try:
            with content.body.open("rb") as file:
                file.seek(indexes.start * CHUNK_BYTES)
                for index in indexes:
                    self._add_chunk(content, file.read(CHUNK_BYTES), index, count)
        except OSError as error:
            raise LakeError(f"cannot read the staging file {content.body}: {error.strerror}") from error

    def _add_chunk(self, content: Content, chunk: bytes, index: int, count: int) -> None:
        if self._pending_bytes + len(chunk) > ROW_GROUP_BYTES or len(self._rows) >= ROW_GROUP_ROWS:
            self.flush()
        self._rows.append((content, index, count))
        self._chunks.append(chunk)
        self._pending_bytes += len(chunk)

    def flush(self) -> None:
        """Write what is pending as one row group."""
        if self._rows:
            contents, index, count = zip(*self._rows, strict=True)
            last = [content.sha256 if at + 1 == of else None for content, at, of in self._rows]
            results = [content.result for content in contents]
            content = joined(b"".join(self._chunks), [*map(len, self._chunks)])
            self._writer.write(chunk_rows(results, index, count, last, content))
            self._rows, self._chunks, self._pending_bytes = [], [], 0
        self._write_whole()

    def _write_whole(self) -> None:
        """Write contents that came as columns as one row group."""
        if self._whole:
            self._writer.write(pa.concat_tables(self._whole))
            self._whole, self._whole_bytes = [], 0


def chunk_rows(
    results: Sequence[Result], index: Sequence[int], count: Sequence[int], sha256: Sequence[str | None], content: pa.Array
) -> pa.Table:
    """Rows of the contents dataset: a chunk each, of so many; the sha256 of the whole beside the last one."""
    columns: dict[str, Any] = {
        "result_id": [result.id for result in results],
        "chunk_index": index,
        "chunk_count": count,
        "content": content,
        "identifier": [result.identifier for result in results],
        "type": [result.type for result in results],
        "checksum": [result.checksum for result in results],
        "sha256": sha256,
        "size": [result.size for result in results],
        "date_created": [result.date_created for result in results],
    }
    return pa.table([columns[name] for name in CONTENTS.schema.names], schema=CONTENTS.schema)


def whole_rows(contents: Contents) -> pa.Table:
    """Rows of the contents dataset, of contents that are one chunk each."""
    kinds = {name: CONTENTS.schema.field(name).type for name in CONTENTS.schema.names}
    listed, count = contents.listed, len(contents.body)
    columns: dict[str, Any] = {
        "result_id": listed.column("id"),
        "chunk_index": pa.repeat(pa.scalar(0, kinds["chunk_index"]), count),
        "chunk_count": pa.repeat(pa.scalar(1, kinds["chunk_count"]), count),
        "content": contents.body,
        "sha256": contents.sha256s,
    }
    columns |= {name: listed.column(name) for name in ("identifier", "type", "checksum", "size", "date_created")}
    return pa.table([columns[name] for name in CONTENTS.schema.names], schema=CONTENTS.schema)


def joined(data: bytes, lengths: Sequence[int]) -> pa.Array:
    """Chunks of these lengths, which lie one behind the other, as a column of the very bytes; none is copied."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.Array.from_buffers(pa.binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def one_chunk(chunk: bytearray | memoryview) -> pa.Array:
    """A chunk as a column, of its own bytes: they must stay as they are until the column is written."""
    offsets = np.array([0, len(chunk)], np.int32)
    return pa.Array.from_buffers(pa.binary(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(chunk)])


def is_compressible(chunk: memoryview) -> bool:
    """Whether samples of a long chunk become shorter by a tenth: photos and videos do not, and would only be copied about."""
    codec = pa.Codec("zstd", compression_level=ZSTD_LEVEL)
    step = max(SAMPLE_BYTES, len(chunk) // SAMPLES)
    samples = [chunk[start : start + SAMPLE_BYTES] for start in range(0, len(chunk), step)]
    compressed: int = sum(codec.compress(sample).size for sample in samples)
    return compressed < 0.9 * sum(map(len, samples))


def chunk_count(result: Result) -> int:
    return max(1, -(-(result.size or 0) // CHUNK_BYTES))


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
