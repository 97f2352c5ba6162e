"""Listed and stored facts side by side: what to fetch, what only awaits acknowledgement, what to set aside. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ricloud_connector.listed import Listed
from ricloud_connector.model import AVAILABLE, Proven, Rejection, Result

BATCH_RESULTS = 4_000
"""What is planned together: enough that looking it up in a large partition costs little, few enough to hold in memory."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about a batch.

    `seen` are the results that get a row in the results dataset, whatever becomes of their contents; `skipped` counts
    those of another state than was asked for, or of one that is not known.
    """

    seen: Listed
    fetch: Listed
    stored: Listed
    rejected: list[Rejection]
    skipped: int


def plan_batch(batch: Listed, stored: Mapping[str, Proven], *, state: str = AVAILABLE) -> Plan:
    """Decide by id, never by time. `stored` says what the lake holds of the batch's ids, `state` what was asked for.

    A result that was stored and is now listed with another md5 or size is set aside: the first one is kept.
    """
    once = batch.each_once()
    seen = once.in_state(state)
    wanted = seen if state == AVAILABLE else seen.filter(seen.column("signed_url").is_valid())
    skipped = len(once) - len(seen) - len(once.rejections)
    if not stored and not wanted.column("checksum").null_count and not wanted.column("size").null_count:
        return Plan(seen, wanted, wanted.take([]), [*once.rejections], skipped)  # all of them are new, as most often
    facts = zip(wanted.ids, wanted.column("checksum").to_pylist(), wanted.column("size").to_pylist(), strict=True)
    fetch, kept, odd = list[int](), list[int](), list[int]()
    for place, (result_id, checksum, size) in enumerate(facts):
        proven = stored.get(result_id)
        if proven is None and checksum is not None and size is not None:
            fetch.append(place)
        elif proven == (checksum, size):
            kept.append(place)
        else:
            odd.append(place)
    rejected = [_rejection(result, stored.get(result.id)) for result in wanted.take(odd).results()]
    return Plan(seen, wanted.take(fetch), wanted.take(kept), [*once.rejections, *rejected], skipped)


def _rejection(result: Result, kept: Proven | None) -> Rejection:
    """Why a result can be neither fetched nor acknowledged."""
    if kept is not None:
        return Rejection.of(result, "changed", f"stored with md5 {kept.checksum} and {kept.size} bytes")
    if result.checksum is None:
        return Rejection.of(result, "checksum_missing", "the API lists no md5: nothing could be proven")
    return Rejection.of(result, "size_missing", "the API lists no size in bytes")


def batches(pages: Iterable[Listed]) -> Iterator[Listed]:
    """The items of all pages, `BATCH_RESULTS` at a time; the first page by itself, so that fetching can begin."""
    held, count, least = list[Listed](), 0, 1
    for page in pages:
        held.append(page)
        count += len(page)
        while count >= least:
            whole = Listed.concat(held)
            yield whole.slice(0, BATCH_RESULTS)
            held, least = [whole.slice(BATCH_RESULTS)], BATCH_RESULTS
            count = len(held[0])
    if count:
        yield Listed.concat(held)
