"""Many documents straight to columns, by Arrow's own JSON reader: the way that nearly all of them take. Pure.

Arrow reads JSON several times as fast as Python does, and on all cores, but by rules of its own: it takes `1e999` and `NaN`
for numbers, rounds a large integer that meets a float64, and does not say which line was wrong. So its answer is taken only
where it is known to be the one that `document.py` and `fitting.py` would give. On any doubt there is no answer, and the
documents go their way.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from ricloud_connector.records.columns import TIMESTAMP, Columns, usable
from ricloud_connector.records.document import Fault, Record, parse_document
from ricloud_connector.records.documents import Document, Documents
from ricloud_connector.records.fitting import EXACT, as_moments
from ricloud_connector.records.rows import meta_arrays, schema_of

BLOCK_BYTES = 1024 * 1024
"""What one core reads at a time."""

DOUBTED_BYTES = 64 * 1024
"""Documents that Arrow's reader cannot be trusted with are looked for by halves, down to so many bytes together."""

MAX_BLANKS = 1_000

# Put around each document: what a line holds beside one document shows by it. No document can know it.
_TOKEN = secrets.token_hex(8).encode()
_LINE, _DOCUMENT = b"ricloud_line_" + _TOKEN, b"ricloud_document_" + _TOKEN


class _Doubt(Exception):
    """Raised inside; the documents may read otherwise the strict way."""


class BulkReader:
    """Reads the documents of one feed, and remembers its blanks: the fields that are there and hold nothing but null."""

    def __init__(self) -> None:
        self._blanks: set[str] = set()

    def read(self, documents: Documents, columns: Columns) -> tuple[list[pa.Table], list[Document]]:
        """The rows of those that Arrow's reader can be trusted with, and the others."""
        table = bulk_table(documents, columns, self._blanks)
        if table is not None:
            return [table], []
        self._learn(documents, columns)
        tables, doubted = self._by_halves(documents, columns)
        if doubted and self._learn(doubted, columns):
            more, doubted = self._by_halves(Documents.of(doubted), columns)
            tables += more
        return tables, doubted

    def _by_halves(self, documents: Documents, columns: Columns) -> tuple[list[pa.Table], list[Document]]:
        table = bulk_table(documents, columns, self._blanks)
        if table is not None:
            return [table], []
        if not columns or len(documents) <= 1 or documents.size <= DOUBTED_BYTES:
            return [], list(documents)
        middle = len(documents) // 2
        tables, doubted = self._by_halves(documents[:middle], columns)
        if not tables:  # where nothing is plain in one half, it is not worth while to search the other
            table = bulk_table(documents[middle:], columns, self._blanks)
            return ([], list(documents)) if table is None else ([table], doubted)
        more, others = self._by_halves(documents[middle:], columns)
        return tables + more, doubted + others

    def _learn(self, documents: Iterable[Document], columns: Columns) -> bool:
        """Look at some documents closely; whether they have blanks that were not known."""
        if not columns:
            return False
        records, taken = list[Record](), 0
        for document in documents:
            found = parse_document(document.raw)
            records += [] if isinstance(found, Fault) else found
            taken += len(document.raw)
            if taken >= DOUBTED_BYTES:
                break
        found_blanks = set(_blanks_of(records, columns, ""))
        new = bool(found_blanks - self._blanks) and len(self._blanks) < MAX_BLANKS
        self._blanks |= found_blanks if new else set()
        return new


def bulk_table(documents: Documents, columns: Columns, blanks: Collection[str] = ()) -> pa.Table | None:
    """The rows of some documents, all of whose records fit the columns exactly; None where that is not certain.

    `blanks` are the places of fields that may be there although they are no columns, as long as they hold null.
    """
    if not len(documents):
        return None
    try:
        data = _read(documents.column("raw"), columns, blanks)
        records = data.values
        arrays = [_typed(records.field(number), kind) for number, kind in enumerate(columns.values())]
    except (_Doubt, pa.ArrowException):
        return None
    ids, created, polls = (documents.column(name) for name in ("result_id", "date_created", "poll"))
    meta = meta_arrays(ids, created, polls, data.value_lengths().to_numpy())
    return pa.table([*meta, *arrays, pa.nulls(len(records), pa.string())], schema=schema_of(columns))


def _read(raw: pa.BinaryArray, columns: Columns, blanks: Collection[str]) -> pa.ListArray:
    """The member `data` of each document, proven to be a list of objects, as many as `metadata.count` says."""
    if not columns or not pc.all(pc.starts_with(raw, "{")).as_py():
        raise _Doubt
    numbers = pa.array(np.arange(len(raw)))
    texts = numbers.cast(pa.string()).cast(pa.binary())
    lines = pc.binary_join_element_wise(b'{"%s":' % _LINE, texts, b',"%s":' % _DOCUMENT, raw, b"}\n", b"")
    longest = pc.max(pc.binary_length(lines)).as_py()
    record = _as_read(pa.struct(list(columns.items())), "", blanks)
    document = pa.struct([("data", pa.list_(record)), ("metadata", pa.struct([("count", pa.int64())]))])
    schema = pa.schema([(_LINE.decode(), pa.int64()), (_DOCUMENT.decode(), document)])
    table = pj.read_json(
        pa.BufferReader(lines.buffers()[2]),
        read_options=pj.ReadOptions(block_size=max(BLOCK_BYTES, longest + 100)),
        parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
    ).combine_chunks()
    table.validate(full=True)  # texts are UTF-8
    line, read = (column.combine_chunks() for column in table.columns)
    data, metadata = (read.field(name) for name in ("data", "metadata"))
    if not line.equals(numbers) or read.null_count or data.null_count or metadata.null_count:
        raise _Doubt
    if data.values.null_count or not metadata.field("count").equals(data.value_lengths().cast(pa.int64())):
        raise _Doubt
    return data


def _as_read(kind: pa.DataType, place: str, blanks: Collection[str]) -> pa.DataType:
    """The type that Arrow is to read: with the blanks, and moments as texts, since it takes more for a moment than we do."""
    if pa.types.is_struct(kind):
        own = [(field.name, _as_read(field.type, _member(place, field.name), blanks)) for field in kind]
        names = [blank.rpartition("/")[2] for blank in blanks if blank.rpartition("/")[0] == place]
        return pa.struct([*own, *((_unescaped(name), pa.null()) for name in names)])
    if pa.types.is_list(kind):
        return pa.list_(_as_read(kind.value_type, place + "/*", blanks))
    return pa.string() if kind == TIMESTAMP else kind


def _typed(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The array without blanks and with its moments as such. Raises: _Doubt."""
    if pa.types.is_struct(kind):
        children = [_typed(child, field.type) for child, field in zip(array.flatten(), kind, strict=False)]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    if pa.types.is_list(kind):
        return pa.ListArray.from_arrays(array.offsets, _typed(array.values, kind.value_type), type=kind, mask=array.is_null())
    if pa.types.is_floating(kind) and pc.all(pc.less(pc.abs(array), float(EXACT))).as_py() is False:
        raise _Doubt  # infinity, NaN, or perhaps an integer that was rounded
    if kind == TIMESTAMP:
        moments = as_moments(array)
        if moments is None:
            raise _Doubt
        return moments
    return array


def _blanks_of(objects: Sequence[Record], columns: Columns, place: str) -> Iterator[str]:
    """The places of fields that are no columns and hold nothing but null in all of these objects."""
    blank, filled = dict[str, None](), set[str]()
    for each in objects:
        for name in each.keys() - columns.keys():
            if each[name] is not None:
                filled.add(name)
            elif len(blank) < MAX_BLANKS:
                blank[name] = None
    yield from (_member(place, name) for name in blank if name not in filled and usable(name))
    for name, column in columns.items():
        values, inside, kind = [each.get(name) for each in objects], _member(place, name), column
        while pa.types.is_list(kind):
            values = [element for value in values if type(value) is list for element in value]
            kind, inside = kind.value_type, inside + "/*"
        if pa.types.is_struct(kind):
            members = {field.name: field.type for field in kind}
            yield from _blanks_of([value for value in values if type(value) is dict], members, inside)


def _member(place: str, name: str) -> str:
    return place + "/" + name.replace("~", "~0").replace("/", "~1")


def _unescaped(name: str) -> str:
    return name.replace("~1", "/").replace("~0", "~")
