"""A cheap stand-in for Parquet: the same rows in Arrow's own format behind digests. Real files, wherever they lie.

Most histories are played with it, since encoding a handful of rows as Parquet costs more than all the rest; what is proven
of them, and when, is the connector's code either way. Like Parquet with page checksums it notices each changed bit of what
is read, and nothing of the contents' bytes where only other columns are.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

_MAGIC = b"SIMULATED"
_DIGEST, _LENGTH = hashlib.sha256().digest_size, 8
_HEAD = len(_MAGIC) + 2 * _DIGEST + _LENGTH
_NONE = hashlib.sha256(b"").digest()
_DECODED = 1000  # files whose tables are kept: what has the same bytes decodes to the same


class _Writer:
    """Writes two tables of the same rows: the contents' bytes, where there is a column of them, and everything else."""

    def __init__(self, file: Any, schema: pa.Schema, **_: Any) -> None:
        self._file, self._groups = file, list[pa.Table]()
        # Descriptions of columns take longer to read than their values.
        fields = [field.remove_metadata() for field in schema]
        self._plain = pa.schema([field for field in fields if field.name != "content"], schema.metadata)
        self._content = pa.schema([field for field in fields if field.name == "content"])
        self.is_open = True

    def write_table(self, table: pa.Table, row_group_size: int) -> None:
        self._groups.append(table)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            plain, content = _encode(self._plain, self._groups), _encode(self._content, self._groups)
            digests = hashlib.sha256(plain).digest() + hashlib.sha256(content).digest()
            self._file.write(_MAGIC + digests + len(plain).to_bytes(_LENGTH) + plain + content)


def _encode(schema: pa.Schema, groups: list[pa.Table]) -> bytes:
    """These columns of some row groups, a batch each."""
    if not schema.names:
        return b""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for group in groups:
            columns = [group.column(name).combine_chunks() for name in schema.names]
            writer.write_batch(pa.record_batch(columns, schema=schema))
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


class _File:
    def __init__(self, source: Path | io.RawIOBase, **_: Any) -> None:
        self._decoded = _decode(_body_of(source))
        self.schema_arrow = self._decoded.schema
        self.num_row_groups = len(self._decoded.plain)

    def read_row_group(self, group: int, columns: Sequence[str], use_threads: bool = False) -> pa.Table:
        return self._decoded.groups(columns)[group].select(columns)

    def read(self, columns: Sequence[str]) -> pa.Table:
        return pa.concat_tables(self._decoded.groups(columns)).select(columns)

    def close(self) -> None:
        pass


def _body_of(source: Path | io.RawIOBase) -> bytes:
    if not isinstance(source, Path):
        return source.read() or b""
    with open(source, "rb", buffering=0) as file:
        return file.readall()


STAND_IN = SimpleNamespace(ParquetWriter=_Writer, ParquetFile=_File)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """The row groups of a file: without the contents' bytes, and with them, None where one of those has changed."""

    schema: pa.Schema
    plain: list[pa.Table]
    whole: list[pa.Table] | None

    def groups(self, columns: Sequence[str]) -> list[pa.Table]:
        """Row groups with these columns. Raises: ArrowInvalid."""
        if "content" not in columns:
            return self.plain
        if self.whole is None:
            raise pa.ArrowInvalid("simulated: a checksum of contents does not fit")
        return self.whole


@lru_cache(_DECODED)
def _decode(body: bytes) -> _Decoded:
    """Raises: ArrowInvalid where a bit of what is not contents has changed."""
    at, end = len(_MAGIC), _HEAD + int.from_bytes(body[_HEAD - _LENGTH : _HEAD])
    of_plain, of_content = body[at : at + _DIGEST], body[at + _DIGEST : at + 2 * _DIGEST]
    plain, content = body[_HEAD:end], body[end:]
    if body[:at] != _MAGIC or hashlib.sha256(plain).digest() != of_plain or (content and of_content == _NONE):
        raise pa.ArrowInvalid("simulated: a checksum does not fit")
    schema, groups = _tables(plain)
    if of_content == _NONE:
        return _Decoded(schema, groups, groups)
    field, whole = pa.field("content", pa.binary()), None
    if hashlib.sha256(content).digest() == of_content:
        pairs = zip(groups, _tables(content)[1], strict=True)
        whole = [group.append_column(field, of_bytes.column(0)) for group, of_bytes in pairs]
    return _Decoded(schema.append(field), groups, whole)


def _tables(encoded: bytes) -> tuple[pa.Schema, list[pa.Table]]:
    with pa.ipc.open_stream(pa.py_buffer(encoded)) as reader:
        return reader.schema, [pa.Table.from_batches([batch]) for batch in reader]


def read_rows(body: bytes, columns: Sequence[str]) -> list[dict[str, Any]] | None:
    """The rows of such a file, all of which is verified; None where it is of another format. Raises: ArrowInvalid."""
    if body[: len(_MAGIC)] != _MAGIC:
        return None
    return [row for group in _decode(body).groups(["content"]) for row in group.select(columns).to_pylist()]
