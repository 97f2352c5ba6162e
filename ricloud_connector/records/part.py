"""One records file under way: row groups in, a complete file out, created only if it is absent. I/O: the local disk.

The columns may grow while it is written, which a Parquet file cannot: what was written before is a piece of its own, and the
pieces become one file with all columns at the end, a row group at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ricloud_connector.disk import discard, part_name
from ricloud_connector.errors import LakeError, UnreadablePart
from ricloud_connector.lake import Lake
from ricloud_connector.model import Place
from ricloud_connector.records.columns import Columns
from ricloud_connector.records.feed import Feed
from ricloud_connector.records.rows import PARSER, schema_of, widened
from ricloud_connector.schemas import FORMAT

Group = list[tuple[Columns, list[pa.Table]]]
"""The rows of one row group, in order, with the columns that each table has."""


MANY_CELLS = 8_000_000
"""Rows times columns that are held at once, as far as rows can be written one by one."""

SAMPLED_ROWS = 1_000


class RecordsPart:
    """Collects the rows of one feed from one contents part.

    Rows are added by one thread while another writes those before: `add` and `take_group` are the one's, the rest the other's.
    """

    def __init__(self, lake: Lake, feed: Feed) -> None:
        self._lake, self._feed = lake, feed
        self._group: Group = []
        self._pieces: list[Path] = []
        self._writer: pq.ParquetWriter | None = None
        self._columns: Columns = {}
        self._all_columns: dict[str, pa.DataType] = {}
        self._written = 0
        self.rows = 0

    def add(self, table: pa.Table, columns: Columns) -> None:
        """Append rows with these columns."""
        if not self._group or self._group[-1][0] != columns:
            self._group.append((columns, []))
        self._group[-1][1].append(table)
        self.rows += table.num_rows

    def take_group(self) -> Group:
        """What was added since the last time."""
        group, self._group = self._group, []
        return group

    def write(self, group: Group) -> None:
        """Write a row group, or one for each change of columns in it. Raises: LakeError when the disk refuses it."""
        for columns, tables in group:
            if columns != self._columns:
                self.pause()
            self._columns = columns
            self._all_columns |= columns
            table = pa.concat_tables(tables)
            try:
                if self._writer is None:
                    self._pieces.append(self._lake.staging / f"records-{os.urandom(8).hex()}")
                    self._writer = self._open(self._pieces[-1], columns, _repeating(table))
                self._writer.write_table(table, row_group_size=max(1, table.num_rows))
            except OSError as error:
                raise LakeError(f"cannot write in {self._lake.staging}: {error}") from error
            self._written += table.num_rows

    def pause(self) -> None:
        """Close the open file, if there is one: what comes next is another piece. Raises: LakeError."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except OSError as error:
                raise LakeError(f"cannot write in {self._lake.staging}: {error}") from error

    def commit(self, folder: Place, number: int) -> bool:
        """Give the rows their file; False where it exists, which has the same rows. Raises: LakeError."""
        storage = self._lake.storage
        try:
            self.pause()
            if not self._written or any(part.number == number for part in storage.list_parts(folder)):
                return False
            (staged,) = self._pieces if len(self._pieces) == 1 else (self._joined(),)
            self._prove(staged)
            return self._lake.create(folder / part_name(number), staged)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what is in staging."""
        self._writer, self._group = None, []
        for piece in self._pieces:
            discard(piece)
        self._pieces = []

    def _joined(self) -> Path:
        """All pieces as one file with the columns of all of them."""
        pieces, target = list(self._pieces), self._lake.staging / f"records-{os.urandom(8).hex()}"
        self._pieces.append(target)
        schema = schema_of(self._all_columns)
        rows = max(1, MANY_CELLS // len(schema))
        try:
            with self._open(target, self._all_columns, True) as writer:
                for piece in pieces:
                    with pq.ParquetFile(piece, page_checksum_verification=True) as parquet:
                        for group in range(parquet.num_row_groups):
                            table = parquet.read_row_group(group, use_threads=False)
                            for start in range(0, table.num_rows, rows):
                                writer.write_table(widened(table.slice(start, rows), schema), row_group_size=rows)
        except OSError as error:
            raise LakeError(f"cannot write in {target.parent}: {error}") from error
        return target

    def _open(self, path: Path, columns: Columns, dictionaries: list[str] | bool) -> pq.ParquetWriter:
        metadata = {
            "ricloud_format": str(FORMAT),
            "ricloud_organisation": self._lake.organisation or "",
            "ricloud_origin": self._lake.origin or self._lake.other_origin or "",
            "ricloud_parser": str(PARSER),
            "ricloud_feed": self._feed.identifier or "",
        }
        schema = schema_of(columns).with_metadata(metadata)
        return pq.ParquetWriter(
            path, schema, compression="zstd", compression_level=1, write_page_checksum=True, use_dictionary=dictionaries
        )

    def _prove(self, staged: Path) -> None:
        """Decode every row group, whose pages have checksums. Raises: UnreadablePart."""
        try:
            with pq.ParquetFile(staged, page_checksum_verification=True) as parquet:
                groups = range(parquet.num_row_groups)
                rows = sum(parquet.read_row_group(group).num_rows for group in groups)
        except (OSError, pa.ArrowException) as error:
            raise UnreadablePart(f"{staged} does not decode: {error}") from error
        if rows != self._written:
            raise UnreadablePart(f"{staged} decodes to {rows} rows, {self._written} were written")


def _repeating(rows: pa.Table) -> list[str]:
    """The Parquet columns that are worth a dictionary: all but those that differ in most of the first rows."""
    first = rows.slice(0, SAMPLED_ROWS)
    flat = [name for name in rows.schema.names if not pa.types.is_nested(rows.schema.field(name).type)]
    own = {name for name in flat if 2 * pc.count_distinct(first.column(name)).as_py() > first.num_rows}
    return [leaf for field in rows.schema if field.name not in own for leaf in _leaves(field.name, field.type)]


def _leaves(path: str, kind: pa.DataType) -> Iterator[str]:
    """The Parquet columns of an Arrow column, by their paths."""
    if pa.types.is_struct(kind):
        for member in kind:
            yield from _leaves(f"{path}.{member.name}", member.type)
    elif pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path
