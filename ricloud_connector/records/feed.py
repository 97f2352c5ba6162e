"""The feeds of the records dataset: their folders, their files, and the columns they have agreed on. I/O: the local disk.

Every file of a feed must have the same type for the same column, also when two runs meet a new field at the same moment. So
a feed's columns are a chain of versions under `control/schemas/`, and creating the next one only if it is absent is what
decides: whoever is late reads what was decided, and fits its rows into that. A version is durable before a file uses it.
Where the chain is missing, it starts anew from the files, whose columns can be no others.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq

from ricloud_connector import disk
from ricloud_connector.errors import LakeError, UnreadablePart
from ricloud_connector.lake import MAX_RACES, Lake
from ricloud_connector.model import DataFile, Place
from ricloud_connector.records.columns import Columns, add_columns
from ricloud_connector.records.known import KNOWN_FIELDS
from ricloud_connector.records.rows import PARSER, columns_of, schema_of, widened

RECORDS = "records"
_KEY = "ricloud_feed="
_NULL = "__HIVE_DEFAULT_PARTITION__"  # what every engine reads as null
_LONGEST = 200  # of a folder's name, in bytes; beyond it a digest keeps names apart
_COLUMNS_SHOWN = 1_000
_SHORTENED = re.compile(r"~[0-9a-f]{16}$")
_VERSION = re.compile(r"columns-([0-9]{6,})\.json")


@dataclass(frozen=True, slots=True)
class Version:
    """The columns of a feed from some moment on, what they were added to, and where that was found."""

    number: int
    columns: Columns
    added: tuple[str, ...]
    day: date | None
    run_id: str
    at: datetime | None


def folder_name(identifier: str | None) -> str:
    """`ricloud_feed=...` of a result's identifier, readable back by every engine."""
    if not identifier:
        return _KEY + _NULL
    escaped = quote(identifier, safe="")
    if identifier == _NULL:
        escaped = escaped.replace("_", "%5F")
    if len(escaped) > _LONGEST:
        escaped = re.sub("%.?$", "", escaped[:_LONGEST]) + "~" + hashlib.sha256(identifier.encode()).hexdigest()[:16]
    return _KEY + escaped


def identifier_of(folder: str) -> str | None:
    """The identifier that a folder's name stands for; None where the API gave none."""
    escaped = folder.removeprefix(_KEY)
    return None if escaped == _NULL else unquote(escaped)


def feeds_of(lake: Lake) -> list[str | None]:
    """The feeds that have records, by name."""
    names = lake.storage.folders(lake.data / RECORDS)
    found = (_identifier(lake, name) for name in names if name.startswith(_KEY))
    return sorted(found, key=lambda identifier: identifier or "")


def _identifier(lake: Lake, name: str) -> str | None:
    """The feed of a folder; where the name is too long for one, a file in it says it."""
    root = lake.data / RECORDS / name
    if _SHORTENED.search(name):
        for day in lake.storage.folders(root):
            for file in lake.storage.list_parts(root / day)[:1]:
                metadata = _footer(lake, file).schema.to_arrow_schema().metadata or {}
                return metadata.get(b"ricloud_feed", b"").decode() or None
    return identifier_of(name)


def day_rows(lake: Lake, day: date) -> dict[str, int]:
    """How many records there are of a day, by feed. Raises: LakeError."""
    found = {identifier or "": Feed(lake, identifier).parts(day) for identifier in feeds_of(lake)}
    return {name: sum(_footer(lake, part).num_rows for part in parts) for name, parts in found.items() if parts}


def day_schema(lake: Lake, day: date) -> pa.Schema:
    """The columns of the feeds of a day, each of them named `feed.column`, after our own. Raises: LakeError."""
    fields = list(schema_of({}))
    for name in day_rows(lake, day):
        fields += [
            pa.field(f"{name}.{column}", kind, metadata={"description": KNOWN_FIELDS.get(column, "")})
            for column, kind in Feed(lake, name).version().columns.items()
        ]
    return pa.schema(fields[:_COLUMNS_SHOWN])


class Feed:
    """One feed of a lake. `identifier` is the results' own."""

    def __init__(self, lake: Lake, identifier: str | None) -> None:
        self.identifier = identifier
        self.name = folder_name(identifier)
        self.root = lake.data / RECORDS / self.name
        self._lake = lake
        self._chain = lake.control / "schemas" / self.name

    def folder(self, day: date) -> Place:
        return self.root / f"created_date={day.isoformat()}"

    def parts(self, day: date) -> list[DataFile]:
        """The files of a day. Raises: LakeError."""
        return self._lake.storage.list_parts(self.folder(day))

    def files(self, since: date | None = None, until: date | None = None) -> Iterator[DataFile]:
        """The files of the days from `since` to `until`, both included, in order. Raises: LakeError."""
        for name in self._lake.storage.folders(self.root):
            if not name.startswith("created_date="):
                continue
            day = date.fromisoformat(name.removeprefix("created_date="))
            if (since is None or since <= day) and (until is None or day <= until):
                yield from self.parts(day)

    def exists(self) -> bool:
        return self._lake.storage.holds(self.root)

    def schema_of_files(self, files: Iterable[DataFile]) -> pa.Schema:
        """The columns of the feed and whatever more some of its files have, `_extra` last. Raises: LakeError."""
        fields = dict(self.version().columns)
        for file in files:
            fields |= columns_of(_footer(self._lake, file).schema.to_arrow_schema())
        return schema_of(fields)

    def read(self, file: DataFile, schema: pa.Schema) -> Iterator[pa.Table]:
        """The row groups of a file, with nulls where it lacks a column of the schema. Raises: UnreadablePart."""
        try:
            with pq.ParquetFile(self._lake.storage.open(file), page_checksum_verification=True) as parquet:
                for group in range(parquet.num_row_groups):
                    yield widened(parquet.read_row_group(group), schema)
        except (OSError, pa.ArrowException) as error:
            raise UnreadablePart(f"{file.path} cannot be read: {error}") from error

    def schema(self) -> pa.Schema:
        """The schema that holds every file's. Raises: LakeError."""
        return schema_of(self.version().columns)

    def versions(self) -> list[Version]:
        """How the columns came to be, oldest first. Raises: LakeError."""
        return [self._read(number) for number in self._numbers()]

    def version(self) -> Version:
        """The columns as they are now; number -1 where nobody has decided any. Raises: LakeError."""
        numbers = self._numbers()
        if numbers:
            return self._read(numbers[-1])
        recovered = self._columns_of_files()
        return Version(-1, recovered, tuple(recovered), None, "", None)

    def extend(self, proposed: Columns, *, day: date, at: datetime) -> Version:
        """The columns with those of the proposed that nobody else has decided otherwise. Raises: LakeError."""
        for _ in range(MAX_RACES):
            known = self.version()
            columns = add_columns(known.columns, proposed)
            added = tuple(name for name in columns if name not in known.columns)
            if not added and (known.number >= 0 or not columns):
                return known
            # What the files have is a version of its own: it was decided long ago.
            recovers = known.number < 0 and bool(known.columns)
            version = Version(
                known.number + 1,
                known.columns if recovers else columns,
                known.added if recovers else added,
                None if recovers else day,
                self._lake.run_id,
                at,
            )
            if self._create(version) and not recovers:
                return version
        raise LakeError(f"lost {MAX_RACES} races for the columns of {self.name}")

    def _numbers(self) -> list[int]:
        names = self._lake.storage.names(self._chain)
        return sorted(int(match[1]) for name in names if (match := _VERSION.fullmatch(name)))

    def _read(self, number: int) -> Version:
        path = self._chain / f"columns-{number:06d}.json"
        try:
            said = json.loads(self._lake.storage.read(path))
            parser = said["parser"]
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(said["arrow_schema"])))
            day = date.fromisoformat(said["day"]) if said["day"] else None
            version = Version(
                number, columns_of(schema), tuple(said["added"]), day, said["run_id"], datetime.fromisoformat(said["at"])
            )
        except (OSError, ValueError, KeyError, TypeError, binascii.Error, pa.ArrowException) as error:
            raise LakeError(f"{path} cannot be read ({error}): remove {self._chain}, it is made anew from the files") from error
        self._check_parser(parser, path)
        return version

    def _create(self, version: Version) -> bool:
        schema = schema_of(version.columns)
        said = {
            "feed": self.identifier,
            "parser": PARSER,
            "added": version.added,
            "day": version.day.isoformat() if version.day else None,
            "run_id": version.run_id,
            "at": version.at.isoformat() if version.at else None,
            "columns": {name: str(kind) for name, kind in version.columns.items()},
            "arrow_schema": base64.b64encode(schema.serialize()).decode(),
        }
        staged = self._lake.staging / f"columns-{os.urandom(8).hex()}"
        try:
            staged.write_text(json.dumps(said, indent=1), encoding="utf-8")
            created = self._lake.create(self._chain / f"columns-{version.number:06d}.json", staged)
        except OSError as error:
            raise LakeError(f"cannot write in {staged.parent}: {error.strerror}") from error
        finally:
            disk.discard(staged)
        return created

    def _columns_of_files(self) -> dict[str, pa.DataType]:
        columns: dict[str, pa.DataType] = {}
        for file in self.files():
            schema, path = _footer(self._lake, file).schema.to_arrow_schema(), file.path
            self._check_parser(int((schema.metadata or {}).get(b"ricloud_parser", b"0")), path)
            for name, kind in columns_of(schema).items():
                if columns.setdefault(name, kind) != kind:
                    raise LakeError(f"{path} has {name} as {kind}, others as {columns[name]}: {REBUILD}")
        return columns

    def _check_parser(self, parser: object, path: Place) -> None:
        if parser != PARSER:
            raise LakeError(f"{path} was written by parser {parser}, this version has parser {PARSER}: {REBUILD}")


def _footer(lake: Lake, file: DataFile) -> pq.FileMetaData:
    try:
        return pq.read_metadata(lake.storage.open(file))
    except (OSError, pa.ArrowException, ValueError) as error:
        raise UnreadablePart(f"{file.path} cannot be read: {error}") from error


REBUILD = "run `ricloud-connector rebuild records` with runs and readers stopped"
