"""A large document: looked through as a whole, then made rows of, a piece at a time. Reads the lake through the document.

What holds for a small document holds here: it gives all of its rows or says why it gives none, and all of its values decide
the types of new columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.errors import LakeError
from ricloud_connector.records.bulk import BulkReader
from ricloud_connector.records.columns import Columns, Inference
from ricloud_connector.records.cutting import (
    MAX_PIECE_BYTES,
    MAX_PIECE_VALUES,
    Cutter,
    Malformed,
    Piece,
    Uncuttable,
    values_in,
)
from ricloud_connector.records.document import Fault, decode, parse_document, records_of
from ricloud_connector.records.documents import Document, Documents
from ricloud_connector.records.rows import Built, Source, schema_of
from ricloud_connector.records.sources import MAX_DOCUMENT_VALUES

MAX_PLACES = 100_000
"""Different places of values in the records, as far as they are no columns yet."""

_OF_OTHERS = {"records_other_shape", "records_count_mismatch"}
"""What is no fault of a list that is not `data`."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What looking through a document has found: which of its lists are the records, how many, their new columns."""

    list: int
    records: int
    columns: Columns


class _Faulty(ValueError):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.fault = Fault(reason, detail)


class _List:
    """A list of a document while it is looked through."""

    def __init__(self, known: Columns) -> None:
        self.inference = Inference(known)
        self.records = 0
        self.fault: Fault | None = None


def look_through(document: Document, known: Columns, reader: BulkReader) -> Outline | Fault:
    """Read the whole document once. Raises: UnreadablePart."""
    lists: dict[int, _List] = {}
    cutter = Cutter(_counted(_chunks(document)))
    try:
        for piece in cutter:
            _look_at(document, piece, lists.setdefault(piece.list, _List(known)), known, reader)
    except _Faulty as error:
        return error.fault
    except Malformed:
        return Fault("records_not_json", "between two records stands no comma, or behind the last one stands one")
    except Uncuttable:
        least = f"{MAX_PIECE_BYTES} bytes or {MAX_PIECE_VALUES} values"
        return Fault("records_too_large", f"one record, or what stands beside the records, has more than {least}")
    skeleton = decode(cutter.skeleton)
    if isinstance(skeleton, Fault):
        return skeleton
    data = skeleton.get("data") if isinstance(skeleton, dict) else None
    found = next((number for number in lists if data == [cutter.mark(number)]), None)
    if found is None:
        records = records_of(skeleton)
        if isinstance(records, Fault) or not records:
            return records if isinstance(records, Fault) else Outline(-1, 0, {})
        return Fault("records_too_large", "a list beside the records is larger than they are")
    one = lists[found]
    if one.fault is not None:
        return one.fault
    skeleton["data"] = []
    agreed = records_of(skeleton, held=one.records)
    return agreed if isinstance(agreed, Fault) else Outline(found, one.records, one.inference.columns())


def rows_of(
    document: Document,
    outline: Outline,
    columns: Columns,
    reader: BulkReader,
    build: Callable[[Sequence[Source]], Built],
) -> Iterator[Built]:
    """The rows of a document that was looked through, a piece at a time. Raises: what `build` does, UnreadablePart."""
    first = 0
    for piece in Cutter(_chunks(document)):
        if piece.list == outline.list:
            part = _part(document, piece)
            tables = reader.read(Documents.of([part]), columns)[0] if columns else []
            built = Built(tables[0], Counter(), {}, 0, 0.0) if tables else build([_source(part)])
            yield _moved(built, first)
            first += piece.count


class Spool:
    """Tables on the local disk until all are there: `write` them, then iterate. A context manager; the file goes with it."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path = path
        with self._on_disk():
            self._file = pa.OSFile(str(path), "wb")
            self._writer = pa.ipc.new_stream(self._file, schema_of(columns))

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, table: pa.Table) -> None:
        """Raises: LakeError where the disk is at fault; what else Arrow raises is about the table."""
        with self._on_disk():
            self._writer.write_table(table)

    def __iter__(self) -> Iterator[pa.Table]:
        """Raises: LakeError."""
        with self._on_disk((OSError, pa.ArrowException)):
            self._writer.close()
            self._file.close()
            with pa.OSFile(str(self._path)) as file, pa.ipc.open_stream(file) as batches:
                for batch in batches:
                    yield pa.Table.from_batches([batch])

    @contextmanager
    def _on_disk(self, kinds: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
        try:
            yield
        except kinds as error:
            raise LakeError(f"{self._path.parent} cannot be written or read: {error}") from error


def _chunks(document: Document) -> Iterator[bytes]:
    assert document.chunks is not None
    return document.chunks()


def _counted(chunks: Iterator[bytes]) -> Iterator[bytes]:
    values = 0
    for chunk in chunks:
        values += values_in(chunk)
        if values > MAX_DOCUMENT_VALUES:
            raise _Faulty("records_too_large", f"the document has more than {MAX_DOCUMENT_VALUES} values")
        yield chunk


def _look_at(document: Document, piece: Piece, one: _List, known: Columns, reader: BulkReader) -> None:
    """Count the records of a piece and remember their kinds. Raises: _Faulty."""
    before = one.records
    one.records += piece.count
    if known and reader.read(Documents.of([_part(document, piece)]), known)[0]:
        return
    records = parse_document(piece.raw)
    if isinstance(records, Fault):
        fault = _Faulty(records.reason, f"{records.detail}, as counted in the part that begins with record {before}")
        if records.reason not in _OF_OTHERS:
            raise fault
        one.fault = one.fault or fault.fault
        return
    one.inference.add(records)
    if one.inference.places > MAX_PLACES:
        raise _Faulty("records_too_large", f"the records have values in more than {MAX_PLACES} different places")


def _part(document: Document, piece: Piece) -> Document:
    """Some records of a document, as a document of its own."""
    return replace(document, size=len(piece.raw), raw=piece.raw, chunks=None)


def _source(part: Document) -> Source:
    records = parse_document(part.raw)
    assert not isinstance(records, Fault)
    return Source(part.result_id, part.date_created, part.poll, records)


def _moved(built: Built, first: int) -> Built:
    """The same as of records that are numbered from `first`."""
    table, place = built.table, built.table.schema.get_field_index("record_index")
    index = pc.add(table.column(place), pa.scalar(first, pa.int64()))
    refused = {result_id: [first + number for number in numbers] for result_id, numbers in built.refused.items()}
    table = table.set_column(place, table.schema.field(place), index)
    return Built(table, built.misfits, refused, built.names, built.greatest)
