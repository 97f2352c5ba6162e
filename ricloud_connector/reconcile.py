"""What the API and the lake disagree on, whatever its age: which days a run should visit. I/O: lists at the API, reads indexes.

The sensor decides by what is new; this looks at everything that is still available, and at what was consumed lately, and so
finds what arrived late, what a dead run left behind, and what somebody else acknowledged.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache, partial

import pyarrow.compute as pc

from ricloud_connector.acknowledge import find_consumed
from ricloud_connector.audit import days_of
from ricloud_connector.ingest import Run
from ricloud_connector.model import AVAILABLE, CONSUMED, Rejection, Result, Window
from ricloud_connector.options import Selection
from ricloud_connector.schemas import ACKNOWLEDGEMENTS, CONTENTS, QUARANTINE, RESULT_STATES, RESULTS, Dataset

SOON = timedelta(days=1)
BEGIN, END = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
DAYS_REMEMBERED = 64  # indexes of days held at a time: lists come in the order of time, or nearly so


@dataclass(slots=True)
class Survey:
    """Results by day and by what is wrong with them.

    `missing` are available and neither stored nor in quarantine, `unacknowledged` are stored and still available,
    `quarantined` may work now, `lost` are called consumed by the API and the lake knows nothing of them, `unrecorded` were
    stored and acknowledged by a run that died before it could write that down. `cut` says that time ran out. `expiring`
    counts what is not stored and has a signed URL that ends within a day, after which the API may give none.
    """

    missing: Counter[date] = field(default_factory=Counter)
    unacknowledged: Counter[date] = field(default_factory=Counter)
    quarantined: Counter[date] = field(default_factory=Counter)
    lost: Counter[date] = field(default_factory=Counter)
    unrecorded: Counter[date] = field(default_factory=Counter)
    undated: int = 0
    expiring: int = 0
    oldest_unacknowledged: datetime | None = None
    cut: bool = False

    @property
    def days(self) -> list[date]:
        """The days that a run should visit, oldest first."""
        return sorted({*self.missing, *self.unacknowledged, *self.quarantined, *self.lost, *self.unrecorded})

    @property
    def days_to_store(self) -> list[date]:
        """The same for runs that do not acknowledge."""
        return sorted({*self.missing, *self.quarantined, *self.lost})


def survey(run: Run, *, lookback: timedelta, budget_s: float, selection: Selection | None = None) -> Survey:
    """Compare everything available, and what was created within `lookback` and consumed, with the lake.

    A `selection` narrows it to the results that runs are about. Its states do not matter here.

    Raises: ApiError; LakeError for a partition that cannot be read.
    """
    found, held, now = Survey(), _Held(run), run.now()
    ends = time.monotonic() + budget_s
    for compare in _comparisons(run, held, found, Window(now - lookback, now), selection or Selection()):
        compare()
        if time.monotonic() > ends:
            found.cut = True
            break
    return found


def _comparisons(run: Run, held: _Held, found: Survey, recent: Window, selection: Selection) -> Iterator[Callable[[], None]]:
    """What there is to compare, a page or a day at a time."""
    for span, state, compare in ((Window(BEGIN, END), AVAILABLE, _compare_available), (recent, CONSUMED, _compare_consumed)):
        for page in run.client.list_results(span, state, filters=selection.filters).by_page():
            yield partial(compare, [item for item in page if selection.wants(item)], held, found)
    for day in reversed(days_of(run.lake, CONTENTS)):
        yield partial(_compare_stored, run, day, found)


def _compare_available(page: Iterable[Result | Rejection], held: _Held, found: Survey) -> None:
    for item in page:
        if isinstance(item, Rejection):
            found.undated += 1
            continue
        if item.state != AVAILABLE:
            continue
        if found.oldest_unacknowledged is None or item.date_created < found.oldest_unacknowledged:
            found.oldest_unacknowledged = item.date_created
        if item.id in held.ids(CONTENTS, item.day):
            found.unacknowledged[item.day] += 1
            continue
        ends = None if item.signed_url is None else item.signed_url.expires_at
        found.expiring += ends is not None and ends < held.soon
        if item.id in held.ids(QUARANTINE, item.day):
            found.quarantined[item.day] += 1
        else:
            found.missing[item.day] += 1


def _compare_consumed(page: Iterable[Result | Rejection], held: _Held, found: Survey) -> None:
    for item in page:
        if isinstance(item, Result) and item.state == CONSUMED and not held.anything(item):
            found.lost[item.day] += 1


def _compare_stored(run: Run, day: date, found: Survey) -> None:
    """Results of a day that are stored, have no acknowledgement row, and are consumed all the same."""
    whole = run.lake.scan(CONTENTS, day).whole_results().column("result_id")
    recorded = run.lake.scan(ACKNOWLEDGEMENTS, day).index.column("result_id")
    silent = whole.filter(pc.invert(pc.is_in(whole, value_set=recorded))).to_pylist()
    if silent and day not in found.unacknowledged:  # a run visits those days anyhow
        consumed = sum(1 for _ in find_consumed(run.client, Window.of_day(day), silent))
        found.unrecorded += Counter({day: consumed})


class _Held:
    """The ids that the lake knows, by dataset and day."""

    def __init__(self, run: Run) -> None:
        self._lake = run.lake
        self.soon = run.now() + SOON
        self.ids = lru_cache(maxsize=DAYS_REMEMBERED)(self._ids)

    def _ids(self, dataset: Dataset, day: date) -> frozenset[str]:
        return frozenset(self._lake.scan(dataset, day).index.column(dataset.key[0]).to_pylist())

    def anything(self, result: Result) -> bool:
        return any(result.id in self.ids(dataset, result.day) for dataset in (CONTENTS, RESULTS, RESULT_STATES))
