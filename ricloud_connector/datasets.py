"""The columns of every dataset of the lake, in words. Pure, and without Arrow, whose schemas `schemas.py` makes of them.

A file's footer, the data dictionary and a Dagster asset say the same of a column, since all have it from here.
"""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """A column: its name, its type as Arrow spells it, what it means."""

    name: str
    type: str
    description: str


_STRING, _BINARY, _INT32, _INT64, _TIMESTAMP = "string", "binary", "int32", "int64", "timestamp[us, tz=UTC]"

_DATE_CREATED = Column("date_created", _TIMESTAMP, "When the API created the result; its UTC day names the partition")
_IDENTIFIER = Column("identifier", _STRING, "Names the contents: a data type, or a file's id or path")
_RUN_ID = Column("run_id", _STRING, "The run that wrote this row")

RESULTS_COLUMNS = (
    Column("id", _STRING, "The result's id, as exact text"),
    Column("resource", _STRING, "Always `result`"),
    Column("organisation", _STRING, "The organisation that owns the result"),
    Column("poll", _STRING, "The poll that produced it"),
    Column("task", _STRING, "The task that produced it"),
    _IDENTIFIER,
    Column("url", _STRING, "Where the API published the content"),
    Column("type", _STRING, "The file type, where the API could tell"),
    Column("checksum", _STRING, "md5 of the content, in lower-case hex"),
    Column("size", _INT64, "Bytes of the content"),
    _DATE_CREATED,
    Column("first_seen_state", _STRING, "The state when first listed"),
    Column("first_seen_date_consumed", _TIMESTAMP, "`date_consumed` when first listed"),
    Column("first_seen_date_deleted", _TIMESTAMP, "`date_deleted` when first listed"),
    Column("first_seen_at", _TIMESTAMP, "When this connector first listed it"),
    _RUN_ID,
    Column("extra", _STRING, "JSON text of the fields that this version does not know"),
)

CONTENTS_COLUMNS = (
    Column("result_id", _STRING, "The result's id, as exact text"),
    Column("chunk_index", _INT32, "Position of this chunk in the content, from 0"),
    Column("chunk_count", _INT32, "How many chunks the content has: 1 up to 8 MiB"),
    Column("content", _BINARY, "The bytes, as they were published"),
    _IDENTIFIER,
    Column("type", _STRING, "The file type, where the API could tell"),
    Column("checksum", _STRING, "md5 of the whole content, in lower-case hex: listed and proven"),
    Column("sha256", _STRING, "sha256 of the whole content, in lower-case hex; in the row of its last chunk"),
    Column("size", _INT64, "Bytes of the whole content"),
    _DATE_CREATED,
)

ACKNOWLEDGEMENTS_COLUMNS = (
    Column("result_id", _STRING, "The result's id, as exact text"),
    Column("checksum", _STRING, "md5 that was proven in the lake before the acknowledgement"),
    Column("size", _INT64, "Bytes that were proven in the lake before the acknowledgement"),
    _DATE_CREATED,
    Column("acknowledged_at", _TIMESTAMP, "When the API was seen to have applied it"),
    Column(
        "confirmed_by",
        _STRING,
        "How it was seen: `listing` (no longer available), `result` (read one by one), "
        "`found` (an earlier run had acknowledged it and died before it could write this row)",
    ),
    _RUN_ID,
)

QUARANTINE_COLUMNS = (
    Column("result_id", _STRING, "The result's id, as exact text"),
    Column("reason", _STRING, "A stable code: checksum_mismatch, size_mismatch, gone, ..."),
    Column("detail", _STRING, "The same in words"),
    Column("expected_checksum", _STRING, "The md5 that the API lists"),
    Column("actual_checksum", _STRING, "The md5 of what was downloaded, where something was"),
    Column("expected_size", _INT64, "The bytes that the API lists"),
    Column("actual_size", _INT64, "The bytes that were downloaded, where something was"),
    _IDENTIFIER,
    _DATE_CREATED,
    Column("first_seen_at", _TIMESTAMP, "When this was first found"),
    _RUN_ID,
)

RESULT_STATES_COLUMNS = (
    Column("result_id", _STRING, "The result's id, as exact text"),
    Column("state", _STRING, "consumed, expired, or deleted: one row for each that was ever seen"),
    Column("date", _TIMESTAMP, "When the API says that it happened, where it says so"),
    _DATE_CREATED,
    Column("first_seen_at", _TIMESTAMP, "When this connector first saw it"),
    _RUN_ID,
)

RECORDS_COLUMNS = (
    Column("result_id", _STRING, "The result that holds the record"),
    Column("record_index", _INT64, "Position of the record in its document, from 0"),
    _DATE_CREATED,
    Column("poll", _STRING, "The poll that produced the result, where the results dataset knows it"),
    Column("_extra", _STRING, "JSON text of what did not fit: an object of values by JSON Pointer"),
)
"""Those of every feed; a record's own stand before `_extra`."""
