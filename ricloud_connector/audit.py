"""What the lake holds, and whether it is what it says. I/O: reads the lake; every byte of it where that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.errors import LakeError
from ricloud_connector.lake import Lake
from ricloud_connector.readback import read_back
from ricloud_connector.schemas import ACKNOWLEDGEMENTS, CONTENTS, DATASETS, QUARANTINE, RESULTS, Dataset


@dataclass(frozen=True, slots=True)
class DaySummary:
    """One day of the lake. Counts are of results; `quarantined` are those without stored contents.

    `oldest_unacknowledged` is when the oldest result was created that is stored and not acknowledged.
    """

    day: date
    results: int
    stored: int
    bytes: int
    acknowledged: int
    quarantined: int
    oldest_unacknowledged: datetime | None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be, in words, with the day where it was found."""

    day: date
    detail: str


def days_of(lake: Lake, dataset: Dataset | None = None) -> list[date]:
    """The days for which a dataset, or any, has a partition; oldest first."""
    found = set[date]()
    for each in DATASETS if dataset is None else (dataset,):
        names = lake.storage.folders(lake.data / each.name)
        found |= {date.fromisoformat(name.removeprefix("created_date=")) for name in names if name.startswith("created_date=")}
    return sorted(found)


def summarise(lake: Lake, day: date) -> DaySummary:
    """What the lake holds of a day, from the index of its parts. Raises: LakeError."""
    whole = lake.scan(CONTENTS, day).whole_results()
    quarantined = lake.scan(QUARANTINE, day).index.column("result_id").unique()
    open_ = quarantined.filter(pc.invert(pc.is_in(quarantined, value_set=whole.column("result_id").combine_chunks())))
    acknowledged = lake.scan(ACKNOWLEDGEMENTS, day).index.column("result_id")
    waiting = whole.filter(pc.invert(pc.is_in(whole.column("result_id"), value_set=acknowledged.combine_chunks())))
    return DaySummary(
        day=day,
        results=lake.scan(RESULTS, day).index.num_rows,
        stored=whole.num_rows,
        bytes=pc.sum(whole.column("size")).as_py() or 0,
        acknowledged=len(acknowledged),
        quarantined=len(open_),
        oldest_unacknowledged=pc.min(waiting.column("date_created")).as_py(),
    )


def audit(lake: Lake, days: list[date]) -> Iterator[tuple[date, int, list[Finding]]]:
    """Read every content of these days back and hash it; yields, by day, how many were proven and what is wrong.

    Looked for: gaps in a chain, files that do not decode, bytes that are not those of their md5, results that are stored in
    two partitions, acknowledgements of what is not stored.
    """
    seen: dict[str, date] = {}
    for day in days:
        proven, findings = set[str](), list[Finding]()
        try:
            contents = lake.scan(CONTENTS, day)
            for commit in read_back(contents, [part.number for part in contents.parts], md5=True):
                proven |= commit.proven.keys()
            whole = contents.whole_results().column("result_id")
            findings += [
                Finding(day, f"result {name!r} is stored in part only")
                for name in _not_in(contents.index.column("result_id"), whole)
            ]
            acknowledged = lake.scan(ACKNOWLEDGEMENTS, day).index.column("result_id")
            findings += [
                Finding(day, f"result {name!r} is acknowledged, but not stored") for name in _not_in(acknowledged, whole)
            ]
            for dataset in (RESULTS, QUARANTINE):
                lake.scan(dataset, day)
        except LakeError as error:
            findings.append(Finding(day, str(error)))
        for name in sorted(proven & seen.keys()):
            findings.append(Finding(day, f"result {name!r} is stored here and in {seen[name]}"))
        seen |= dict.fromkeys(proven, day)
        yield day, len(proven), findings


def _not_in(names: pa.ChunkedArray, others: pa.ChunkedArray) -> list[str]:
    names = names.unique()
    return sorted(names.filter(pc.invert(pc.is_in(names, value_set=others.combine_chunks()))).to_pylist())
