"""What the lake's own books say of its days: what is proven, set aside, lacking, or waiting too long. I/O: reads indexes.

Nothing is recomputed and the API is not asked: `audit.py` reads every byte back, `reconcile.py` asks the API.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.errors import LakeError
from ricloud_connector.lake import Lake
from ricloud_connector.model import UNDATED, Window
from ricloud_connector.part_reader import read_groups
from ricloud_connector.schemas import ACKNOWLEDGEMENTS, CONTENTS, QUARANTINE, RESULT_STATES, RESULTS, Dataset

NAMED_AT_MOST = 20

_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Offender:
    """One result that is not as it should be, and why."""

    day: date
    result_id: str
    detail: str


@dataclass(slots=True)
class Verdict:
    """The answer to one question about some days: how many results were looked at, how many offend, the first of them."""

    looked_at: int = 0
    count: int = 0
    offenders: list[Offender] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.count == 0

    def blame(self, offenders: Iterable[Offender]) -> None:
        for offender in offenders:
            self.count += 1
            if len(self.offenders) < NAMED_AT_MOST:
                self.offenders.append(offender)


def proven(lake: Lake, days: Iterable[date]) -> Verdict:
    """Whether every stored result is there whole, under the md5 that it was proven against when it was committed."""
    return _judge(days, lambda day: _unproven(lake, day))


def quarantined(lake: Lake, days: Iterable[date]) -> Verdict:
    """Whether nothing is in quarantine."""

    def look(day: date) -> tuple[int, list[Offender]]:
        rows = open_quarantine(lake, day)
        return len(rows), [Offender(day, row["result_id"], f"{row['reason']}: {row['detail']}") for row in rows]

    return _judge(days, look)


def lacking(lake: Lake, days: Iterable[date]) -> Verdict:
    """Whether every result that the API has listed is stored, set aside with a reason, or said not to be available."""

    def look(day: date) -> tuple[int, list[Offender]]:
        listed = _ids(lake, RESULTS, day)
        return len(listed), [Offender(day, name, "listed, but neither stored nor set aside") for name in _missing(lake, day)]

    return _judge(days, look)


def expiring(lake: Lake, days: Iterable[date], *, now: datetime, after: timedelta) -> Verdict:
    """Whether nothing that is not stored yet is so old that its content may go. Ages are those of the UTC day's end."""

    def look(day: date) -> tuple[int, list[Offender]]:
        age = now - Window.of_day(day).until
        waiting = [*_missing(lake, day), *(row["result_id"] for row in open_quarantine(lake, day))]
        if day == UNDATED or age < after:
            return len(waiting), []
        return len(waiting), [Offender(day, name, f"not stored, at least {age.days} days old") for name in waiting]

    return _judge(days, look)


def overdue(lake: Lake, days: Iterable[date], *, now: datetime, after: timedelta) -> Verdict:
    """Whether nothing that is stored has been waiting for its acknowledgement for longer than `after`, by its age."""

    def look(day: date) -> tuple[int, list[Offender]]:
        whole = lake.scan(CONTENTS, day).whole_results()
        waiting = whole.filter(pc.invert(_is_in(whole.column("result_id"), _ids(lake, ACKNOWLEDGEMENTS, day))))
        late = waiting.filter(pc.less(waiting.column("date_created"), pa.scalar(now - after, pa.timestamp("us", tz="UTC"))))
        names, moments = late.column("result_id").to_pylist(), late.column("date_created").to_pylist()
        return whole.num_rows, [
            Offender(day, name, f"stored, created {moment.isoformat()}, not acknowledged")
            for name, moment in zip(names, moments, strict=True)
        ]

    return _judge(days, look)


def open_quarantine(lake: Lake, day: date) -> list[dict[str, Any]]:
    """The quarantine rows of a day whose result has no stored contents, the last row of each. Raises: LakeError."""
    partition = lake.scan(QUARANTINE, day)
    if not partition.parts:
        return []
    stored = set(_whole_ids(lake, day).to_pylist())
    rows = (
        row
        for part in partition.parts
        for group in read_groups(lake.storage.open(part), QUARANTINE)
        for row in group.to_pylist()
    )
    return list({row["result_id"]: row for row in rows if row["result_id"] not in stored}.values())


def find_rows(lake: Lake, dataset: Dataset, day: date, result_id: str) -> list[dict[str, Any]]:
    """The rows of one result in a partition, without the bytes of its contents. Raises: LakeError."""
    partition, name = lake.scan(dataset, day), dataset.key[0]
    numbers = set(partition.index.filter(pc.equal(partition.index.column(name), result_id)).column("part").to_pylist())
    columns = [column for column in dataset.schema.names if column != "content"]
    rows: list[dict[str, Any]] = []
    for part in partition.parts:
        if part.number in numbers:
            for group in read_groups(lake.storage.open(part), dataset, columns):
                rows += group.filter(pc.equal(group.column(name), result_id)).to_pylist()
    return rows


def _unproven(lake: Lake, day: date) -> tuple[int, list[Offender]]:
    contents = lake.scan(CONTENTS, day)
    whole = contents.whole_results()
    names, checksums = whole.column("result_id").to_pylist(), whole.column("checksum").to_pylist()
    offenders = [
        Offender(day, name, "stored without an md5")
        for name, checksum in zip(names, checksums, strict=True)
        if not _MD5.fullmatch(checksum or "")
    ]
    stored = contents.index.column("result_id").unique()
    partly = stored.filter(pc.invert(_is_in(stored, whole.column("result_id"))))
    offenders += [Offender(day, name, "stored in part only") for name in partly.to_pylist()]
    return len(stored), offenders


def _missing(lake: Lake, day: date) -> list[str]:
    listed = _ids(lake, RESULTS, day)
    for known in (_whole_ids(lake, day), _ids(lake, QUARANTINE, day), _ids(lake, RESULT_STATES, day)):
        listed = listed.filter(pc.invert(_is_in(listed, known)))
    return list(listed.to_pylist())


def _ids(lake: Lake, dataset: Dataset, day: date) -> pa.Array:
    return lake.scan(dataset, day).index.column(dataset.key[0]).unique()


def _whole_ids(lake: Lake, day: date) -> pa.Array:
    return lake.scan(CONTENTS, day).whole_results().column("result_id").combine_chunks()


def _is_in(names: pa.Array, others: pa.Array) -> pa.Array:
    return pc.is_in(names, value_set=others.combine_chunks() if isinstance(others, pa.ChunkedArray) else others)


def _judge(days: Iterable[date], look: Callable[[date], tuple[int, list[Offender]]]) -> Verdict:
    """One verdict over many days; a day that cannot be read is an offender itself."""
    verdict = Verdict()
    for day in days:
        try:
            looked_at, offenders = look(day)
        except LakeError as error:
            looked_at, offenders = 0, [Offender(day, "", str(error))]
        verdict.looked_at += looked_at
        verdict.blame(offenders)
    return verdict


def recent_days(days: Iterable[date], *, now: datetime, lookback: timedelta) -> Iterator[date]:
    """Those of the days that lie within `lookback` of now."""
    return (day for day in days if day >= (now - lookback).date())
