"""Reading a lake: its feeds, their records as a frame, the bytes of one result. I/O: reads the lake, writes nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.audit import days_of
from ricloud_connector.cloud import BucketUrl, Cloud
from ricloud_connector.contents import read_content_chunks
from ricloud_connector.errors import SettingsError, UnreadablePart
from ricloud_connector.lake import Lake
from ricloud_connector.model import DataFile
from ricloud_connector.records.feed import REBUILD, Feed, feeds_of
from ricloud_connector.schemas import CONTENTS
from ricloud_connector.settings import absolute_lake

if TYPE_CHECKING:
    import pandas as pd

Engine = Literal["pandas", "arrow", "reader", "polars", "duckdb"]
_ENGINES = get_args(Engine)
Moment = datetime | date | str | None
LakePlace = str | os.PathLike[str] | BucketUrl
"""A folder, `s3://bucket/prefix` or `gs://bucket/prefix`; the environment says how buckets are reached, as for a run."""


def list_data_types(lake: LakePlace) -> list[str]:
    """The feeds that have records, by name; `""` stands for results without an identifier. Raises: SettingsError."""
    return [identifier or "" for identifier in feeds_of(_opened(lake))]


@overload
def read_records(lake: LakePlace, feed: str, since: Moment = None, until: Moment = None) -> pd.DataFrame: ...


@overload
def read_records(
    lake: LakePlace, feed: str, since: Moment = None, until: Moment = None, *, engine: Literal["arrow"]
) -> pa.Table: ...


@overload
def read_records(lake: LakePlace, feed: str, since: Moment = None, until: Moment = None, *, engine: Engine) -> Any: ...


def read_records(lake: LakePlace, feed: str, since: Moment = None, until: Moment = None, *, engine: Engine = "pandas") -> Any:
    """The records of a feed whose results were created in `[since, until)`, in UTC; None leaves an end open.

    A moment is a datetime, a day, or either as ISO text; without an offset it is in UTC. pandas gives nullable integers and
    booleans, so that no number loses digits. `reader`, a `pyarrow.RecordBatchReader`, and `duckdb`, a relation, read the files
    only while they are asked, so that a feed may be larger than memory.
    Raises: SettingsError for a feed, an engine or a moment that there is not; UnreadablePart.
    """
    found, first, end = Feed(_opened(lake), feed), _moment(since, "since"), _moment(until, "until")
    if engine not in _ENGINES:
        raise SettingsError(f"the engine is one of {', '.join(_ENGINES)}, not {engine!r}")
    if not found.exists():
        raise SettingsError(f"{lake} has no records of {feed!r}; it has {', '.join(list_data_types(lake)) or 'none at all'}")
    last = None if end is None else end.date()  # a file of that very day may hold rows before the end, or none
    files = list(found.files(None if first is None else first.date(), last))
    paths = [str(file.path) for file in files if isinstance(file.path, Path)]
    if engine == "duckdb" and paths:
        return _relation(paths, first, end)
    reader = _reader(found, files, first, end)
    if engine == "reader":
        return reader
    table = _all_of(reader)
    if engine == "pandas":
        return _frame(table)
    if engine == "arrow":
        return table
    if engine == "polars":
        import polars as pl  # noqa: PLC0415  # the caller's own

        return pl.from_arrow(table)
    import duckdb  # noqa: PLC0415  # likewise

    return duckdb.from_arrow(table)


def read_content(lake: LakePlace, result_id: str, *, day: date | None = None) -> Iterator[bytes]:
    """The bytes of a result, in chunks of at most 8 MiB. `day`, the UTC day of its `date_created`, saves looking for it.

    Raises: KeyError where the lake does not hold it whole; UnreadablePart after the last chunk if the bytes are not those of
    their md5, so that what was read is to be believed only when the iterator has ended.
    """
    opened = _opened(lake)
    for each in reversed(days_of(opened, CONTENTS)) if day is None else (day,):
        partition = opened.scan(CONTENTS, each)
        whole = partition.whole_results()
        rows = whole.filter(pc.equal(whole.column("result_id"), result_id)).to_pylist()
        if rows:
            return _proven(read_content_chunks(partition, result_id), rows[0]["checksum"], result_id)
    raise KeyError(f"the lake does not hold the content of result {result_id!r}")


def _proven(chunks: Iterator[bytes], checksum: str, result_id: str) -> Iterator[bytes]:
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != checksum:
        raise UnreadablePart(f"the content of result {result_id!r} has md5 {digest.hexdigest()}, not {checksum}")


def _reader(feed: Feed, files: list[DataFile], since: datetime | None, until: datetime | None) -> pa.RecordBatchReader:
    chosen = None
    import pyarrow.dataset as ds  # noqa: PLC0415  # it imports pandas: a third of a second for who only loads definitions

    created = ds.field("date_created")
    for bound in (None if since is None else created >= since, None if until is None else created < until):
        chosen = bound if chosen is None else chosen if bound is None else chosen & bound
    try:
        schema = feed.schema_of_files(files)
        if all(isinstance(file.path, Path) for file in files) and files:
            dataset = ds.dataset([str(file.path) for file in files], schema=schema, format="parquet")
            return dataset.scanner(filter=chosen).to_reader()
        return pa.RecordBatchReader.from_batches(schema, _batches(feed, files, schema, chosen))
    except (OSError, pa.ArrowException) as error:
        raise UnreadablePart(f"the records cannot be read: {error}; if files differ in a type, {REBUILD}") from error


def _batches(feed: Feed, files: list[DataFile], schema: pa.Schema, chosen: Any) -> Iterator[pa.RecordBatch]:
    """The rows of files in a bucket, a row group at a time."""
    for file in files:
        for table in feed.read(file, schema):
            yield from (table if chosen is None else table.filter(chosen)).to_batches()


def _all_of(reader: pa.RecordBatchReader) -> pa.Table:
    try:
        return reader.read_all()
    except (OSError, pa.ArrowException) as error:
        raise UnreadablePart(f"the records cannot be read: {error}") from error


def _frame(table: pa.Table) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415  # half a second that other engines need not wait for

    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    frame: pd.DataFrame = table.to_pandas(types_mapper=nullable.get)
    return frame


def _relation(paths: list[str], since: datetime | None, until: datetime | None) -> Any:
    import duckdb  # noqa: PLC0415  # the caller's own

    relation = duckdb.read_parquet(paths, union_by_name=True, hive_partitioning=False)
    if since is not None:
        relation = relation.filter(f"date_created >= TIMESTAMPTZ '{since.isoformat()}'")
    if until is not None:
        relation = relation.filter(f"date_created < TIMESTAMPTZ '{until.isoformat()}'")
    return relation


def _moment(value: Moment, name: str) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise SettingsError(f"{name} is a datetime, a day, or ISO text of one, not {value!r}") from None
    if isinstance(value, datetime):
        try:
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        except OverflowError:
            raise SettingsError(f"{name} lies beyond the years 1 to 9999 in UTC: {value}") from None
    return None if value is None else datetime.combine(value, time(tzinfo=UTC))


def _opened(lake: LakePlace) -> Lake:
    root = lake if isinstance(lake, BucketUrl) else absolute_lake(os.fspath(lake), Cloud.from_environment(os.environ))
    opened = Lake(root, origin="", run_id="reader")
    if not opened.storage.holds(opened.data):
        raise SettingsError(f"{root} holds no lake: there is no folder data in it")
    return opened
