"""Listed and stored facts side by side: what to fetch, what only awaits acknowledgement, what to set aside. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ricloud_connector.model import AVAILABLE, Proven, Rejection, Result, id_of

BATCH_RESULTS = 4_000
"""What is planned together: enough that looking it up in a large partition costs little, few enough to hold in memory."""


@dataclass(slots=True)
class Plan:
    """What is to be done about a batch.

    `seen` are the results that get a row in the results dataset, whatever becomes of their contents; `skipped` counts
    those of another state than was asked for, or of one that is not known.
    """

    seen: list[Result] = field(default_factory=list)
    fetch: list[Result] = field(default_factory=list)
    stored: list[Result] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    skipped: int = 0


def plan_batch(batch: Iterable[Result | Rejection], stored: Mapping[str, Proven], *, state: str = AVAILABLE) -> Plan:
    """Decide by id, never by time. `stored` says what the lake holds of the batch's ids, `state` what was asked for.

    A result that was stored and is now listed with another md5 or size is set aside: the first one is kept.
    """
    plan = Plan()
    for item in {id_of(item): item for item in batch}.values():
        if isinstance(item, Rejection):
            plan.rejected.append(item)
        elif item.state != state:
            plan.skipped += 1
        else:
            plan.seen.append(item)
            if state == AVAILABLE or item.signed_url is not None:
                _decide(item, stored.get(item.id), plan)
    return plan


def _decide(item: Result, kept: Proven | None, plan: Plan) -> None:
    if kept is not None and (item.checksum, item.size) == (kept.checksum, kept.size):
        plan.stored.append(item)
    elif kept is not None:
        plan.rejected.append(Rejection.of(item, "changed", f"stored with md5 {kept.checksum} and {kept.size} bytes"))
    elif item.checksum is None:
        plan.rejected.append(Rejection.of(item, "checksum_missing", "the API lists no md5: nothing could be proven"))
    elif item.size is None:
        plan.rejected.append(Rejection.of(item, "size_missing", "the API lists no size in bytes"))
    else:
        plan.fetch.append(item)


def batches(pages: Iterable[list[Result | Rejection]]) -> Iterator[list[Result | Rejection]]:
    """The items of all pages, at most `BATCH_RESULTS` at a time; the first page by itself, so that fetching can begin."""
    batch: list[Result | Rejection] = []
    least = 1
    for page in pages:
        batch += page
        while len(batch) >= least:
            yield batch[:BATCH_RESULTS]
            batch, least = batch[BATCH_RESULTS:], BATCH_RESULTS
    if batch:
        yield batch
