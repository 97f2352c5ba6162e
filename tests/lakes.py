"""Lakes for tests, filled without an API: contents from bytes at hand. Writes through the connector's own modules."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from ricloud_connector.lake import Lake
from ricloud_connector.model import Content, Proven, Result
from ricloud_connector.parts import ContentsWriter, StagedPart
from ricloud_connector.schemas import ACKNOWLEDGEMENTS_SCHEMA, CONTENTS

DAY = date(2026, 11, 20)
MOMENT = datetime(2026, 11, 20, 10, 15, 30, 123456, tzinfo=UTC)
FEED = "ios_messages.messages"
ORIGIN = "http://127.0.0.1:8000"
ORGANISATION = "5b7d3a6ce1f04c2f9a3e8d10"


@contextmanager
def opened_lake(root: Path, *, run_id: str = "run", organisation: str | None = ORGANISATION) -> Iterator[Lake]:
    """A lake that is ready to be written."""
    lake = Lake(root, origin=ORIGIN, run_id=run_id)
    with lake.opened():
        lake.claim(organisation)
        yield lake


def content_of(result_id: str, data: bytes, *, number: int = 0) -> Content:
    """A content as the fetcher hands it over."""
    result = Result(
        id=result_id,
        wire_id=result_id,
        state="available",
        date_created=MOMENT + timedelta(microseconds=number),
        checksum=hashlib.md5(data).hexdigest(),
        size=len(data),
        identifier="ios_messages.messages" if number % 3 else None,
        type="json" if number % 2 else None,
    )
    return Content(result, hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest(), data)


def stage(lake: Lake, contents: Mapping[str, bytes], *, scratch: Path | None = None) -> StagedPart:
    """A finished staging file that holds these contents, by id; those above 8 MiB pass through a file, as downloads do."""
    with lake.writer(CONTENTS) as writer:
        rows = ContentsWriter(writer)
        for number, (result_id, data) in enumerate(contents.items()):
            content = content_of(result_id, data, number=number)
            if len(data) > 8 * 1024 * 1024:
                body = (scratch or lake.staging) / f"content-{number}"
                body.write_bytes(data)
                content = replace(content, body=body)
            rows.add(content)
        rows.flush()
        return writer.finish()


def commit(lake: Lake, contents: Mapping[str, bytes], day: date = DAY) -> int:
    """Put the contents into the lake; returns how many rows this call added."""
    return lake.commit(day, stage(lake, contents))


def stored(lake: Lake, day: date = DAY) -> dict[str, Proven]:
    """What a scan says is stored whole."""
    rows = lake.scan(CONTENTS, day).whole_results().to_pylist()
    found = {row["result_id"]: Proven(row["checksum"], row["size"]) for row in rows}
    assert len(found) == len(rows), "an id is there twice"
    return found


def proven(contents: Mapping[str, bytes]) -> dict[str, Proven]:
    """What a scan, or a read-back, should say of these contents."""
    return {result_id: Proven(hashlib.md5(data).hexdigest(), len(data)) for result_id, data in contents.items()}


def small(*ids: object) -> dict[str, bytes]:
    """A few bytes for each id, other ones for each."""
    return {str(result_id): f"content of {result_id}".encode() for result_id in ids}


def parts_of(lake: Lake, dataset: str = "contents", day: date = DAY) -> list[Path]:
    """The files of a partition, by name."""
    return sorted((lake.data / dataset / f"created_date={day}").glob("*"))


def acknowledgement_rows(*ids: str) -> pa.Table:
    rows = [
        {
            "result_id": result_id,
            "checksum": hashlib.md5(result_id.encode()).hexdigest(),
            "size": 1,
            "date_created": MOMENT,
            "acknowledged_at": MOMENT,
            "confirmed_by": "listing",
            "run_id": "run",
        }
        for result_id in ids
    ]
    return pa.Table.from_pylist(rows, schema=ACKNOWLEDGEMENTS_SCHEMA)


def result_of(name: str, raw: bytes, *, feed: str | None = FEED, kind: str | None = "json", day: date = DAY) -> Result:
    moment = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    md5 = hashlib.md5(raw).hexdigest()
    return Result(name, name, "available", moment, md5, len(raw), identifier=feed, type=kind, poll=f"poll of {name}")


def put(lake: Lake, documents: dict[str, bytes], **options) -> None:
    """One more contents part with these documents."""
    day = options.get("day", DAY)
    with lake.writer(CONTENTS) as writer:
        rows = ContentsWriter(writer)
        for name, raw in documents.items():
            result, body = result_of(name, raw, **options), raw
            if len(raw) > 8 * 1024 * 1024:
                body = lake.staging / "large"
                body.write_bytes(raw)
            rows.add(Content(result, hashlib.md5(raw).hexdigest(), hashlib.sha256(raw).hexdigest(), body))
        rows.flush()
        lake.commit(day, writer.finish())
