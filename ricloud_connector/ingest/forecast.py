"""What a run would do, found out without doing any of it: nothing is fetched, written or acknowledged. I/O: lists, reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from ricloud_connector.client import RicloudClient
from ricloud_connector.ingest.open_parts import whole_of
from ricloud_connector.ingest.settle import available_of, due_of
from ricloud_connector.lake import Lake
from ricloud_connector.ledger import open_quarantine
from ricloud_connector.listed import Listed
from ricloud_connector.model import AVAILABLE, Rejection, Result, Window
from ricloud_connector.plan import plan_batch
from ricloud_connector.readback import read_back
from ricloud_connector.schemas import CONTENTS


@dataclass(slots=True)
class DayForecast:
    """What a run would do about one day. Counts are of results that are available now.

    `fetch` would be downloaded, `fetch_again` of them are in quarantine; `set_aside` would go there as they are listed;
    `acknowledge` are stored with the md5 and size that are listed now. `proven` of those were read back, where asked for.
    """

    day: date
    listed: int = 0
    fetch: int = 0
    fetch_bytes: int = 0
    fetch_again: int = 0
    set_aside: int = 0
    acknowledge: int = 0
    acknowledge_bytes: int = 0
    proven: int | None = None


def forecast(client: RicloudClient, lake: Lake, window: Window, *, prove: bool = False) -> list[DayForecast]:
    """Compare what is available in a window with the lake, in one walk over the list; days in order.

    With `prove`, what would be acknowledged is read back from the lake, as a run would do before it acknowledges.
    Raises: ApiError, LakeError.
    """
    days = _Days(lake)
    for page in client.list_results(window).by_page():
        by_day = defaultdict[date, list[Result | Rejection]](list)
        for item in page:
            by_day[item.day].append(item)
        for day, items in by_day.items():
            days.add(day, items)
    return list(days.finish(prove=prove))


class _Days:
    """The forecasts under way, with what the lake holds of each day."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._forecasts: dict[date, DayForecast] = {}
        self._whole: dict[date, pa.Table] = {}
        self._quarantine: dict[date, set[str]] = {}
        self._available = defaultdict[date, list[pa.Table]](list)

    def add(self, day: date, items: list[Result | Rejection]) -> None:
        if day not in self._forecasts:
            self._forecasts[day] = DayForecast(day)
            self._whole[day] = self._lake.scan(CONTENTS, day).whole_results()
            self._quarantine[day] = {row["result_id"] for row in open_quarantine(self._lake, day)}
        found, listed = self._forecasts[day], Listed.of(items)
        plan = plan_batch(listed, whole_of(self._whole[day], listed.column("id")), state=AVAILABLE)
        found.listed += len(items)
        found.fetch += len(plan.fetch)
        found.fetch_bytes += plan.fetch.byte_size
        found.fetch_again += sum(result_id in self._quarantine[day] for result_id in plan.fetch.ids)
        found.set_aside += len(plan.rejected)
        found.acknowledge += len(plan.stored)
        found.acknowledge_bytes += plan.stored.byte_size
        if plan.stored:
            self._available[day].append(available_of([plan.stored]))

    def finish(self, *, prove: bool) -> Iterator[DayForecast]:
        for day, found in sorted(self._forecasts.items()):
            if prove:
                found.proven = self._prove(day)
            yield found

    def _prove(self, day: date) -> int:
        if day not in self._available:
            return 0
        partition = self._lake.scan(CONTENTS, day)
        due = due_of(self._whole[day], pa.concat_tables(self._available[day]))
        wanted, proven = set(due.column("result_id").to_pylist()), set[str]()
        for commit in read_back(partition, due.column("part").unique().to_pylist()):
            proven |= wanted & commit.proven.keys()
        return len(proven)
