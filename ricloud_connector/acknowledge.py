"""Acknowledges at the API what is proven in the lake, and makes sure that it was applied. I/O: the API.

The one module that sends acknowledgements. It takes `VerifiedCommit`s and nothing else for proof: no listing, no memory
of having written something, leads here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from ricloud_connector.client import RicloudClient
from ricloud_connector.errors import ApiRefused
from ricloud_connector.model import AVAILABLE, CONSUMED, Proven, Rejection, Result, Window, id_of
from ricloud_connector.readback import VerifiedCommit

BATCH_IDS = 500
READ_EACH_UP_TO = 20
SENDS = 4  # the first, and three more for what is still available afterwards
READERS = 8


@dataclass(frozen=True, slots=True)
class Listed:
    """A result that the API calls available, as far as acknowledging it needs."""

    id: str
    wire_id: int | str
    checksum: str
    size: int
    date_created: datetime


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A result that was seen not to be available any more after its acknowledgement."""

    listed: Listed
    confirmed_by: Literal["listing", "result", "found"]


@dataclass(slots=True)
class Outcome:
    """What came of acknowledging: the confirmed, and those which the API still calls available."""

    confirmed: list[Confirmed] = field(default_factory=list)
    refused: list[Listed] = field(default_factory=list)


class Acknowledger:
    """Sends acknowledgements for proven results; `confirm` then settles all that were sent since."""

    def __init__(self, client: RicloudClient, *, batch_ids: int = BATCH_IDS) -> None:
        self._client = client
        self._batch_ids = batch_ids
        self._sent: list[Listed] = []

    def send(self, commit: VerifiedCommit, listed: Iterable[Listed]) -> None:
        """Acknowledge each listed result whose md5 and size are those proven by this commit; leave the others alone.

        Raises: ApiUnavailable; then some may be acknowledged, which the next run finds out.
        """
        eligible = [item for item in listed if commit.proven.get(item.id) == Proven(item.checksum, item.size)]
        self._send_batches(eligible)
        self._sent += eligible

    def confirm(self) -> Outcome:
        """Look which of the sent are still available, send those again up to three times, and tell."""
        outcome, open_ = Outcome(), self._sent
        self._sent = []
        for attempt in range(SENDS):
            if attempt:
                self._send_batches(open_)
            still, how = self._still_available(open_)
            outcome.confirmed += [Confirmed(item, how) for item in open_ if item.id not in still]
            open_ = [item for item in open_ if item.id in still]
            if not open_:
                break
        outcome.refused = open_
        return outcome

    def _send_batches(self, items: Sequence[Listed]) -> None:
        todo = [items[start : start + BATCH_IDS] for start in range(0, len(items), BATCH_IDS)]
        while todo:
            batch = todo.pop()
            halves = self._send(batch)
            todo += halves

    def _send(self, batch: Sequence[Listed]) -> list[Sequence[Listed]]:
        """Send one batch; the batches to send in its place where it is too long or holds an id that is not taken."""
        size = self._batch_ids
        if len(batch) > size:
            return [batch[start : start + size] for start in range(0, len(batch), size)]
        try:
            self._client.send_acknowledgements([item.wire_id for item in batch])
        except ApiRefused as error:
            if error.status not in (400, 413):
                raise
            if len(batch) == 1:
                return []  # refused for good: `confirm` finds it still available and names it
            half = len(batch) // 2
            if error.status == 413:
                self._batch_ids = half
            return [batch[:half], batch[half:]]
        return []

    def _still_available(self, items: Sequence[Listed]) -> tuple[set[str], Literal["listing", "result"]]:
        if len(items) <= READ_EACH_UP_TO:
            states = read_states(self._client, [item.id for item in items])
            return {item.id for item in items if states[item.id] == AVAILABLE}, "result"
        oldest, newest = min(item.date_created for item in items), max(item.date_created for item in items)
        span = Window(oldest, newest + timedelta(microseconds=1))
        sent = {item.id for item in items}
        still = set[str]()
        for item in self._client.list_results(span):
            if isinstance(item, Rejection) or item.state == AVAILABLE:
                still.add(id_of(item))
        return still & sent, "listing"


def read_states(client: RicloudClient, ids: Sequence[str]) -> dict[str, str | None]:
    """The present state of each result, read one by one; None where the API does not know it any more, or not a fact."""

    def read(result_id: str) -> str | None:
        try:
            answer = client.retrieve_result(result_id)
        except ApiRefused as error:
            if error.status in (404, 410):
                return None
            raise
        return answer.state if isinstance(answer, Result) else AVAILABLE

    if not ids:
        return {}
    with ThreadPoolExecutor(min(READERS, len(ids))) as pool:
        return dict(zip(ids, pool.map(read, ids), strict=True))


def find_consumed(client: RicloudClient, window: Window, ids: Sequence[str]) -> Iterator[str]:
    """Those of the ids that the API calls consumed: an earlier run acknowledged them and could not write it down."""
    if len(ids) > READ_EACH_UP_TO:
        wanted = set(ids)
        for item in client.list_results(window, CONSUMED):
            if isinstance(item, Result) and item.state == CONSUMED and item.id in wanted:
                yield item.id
    else:
        yield from (result_id for result_id, state in read_states(client, ids).items() if state == CONSUMED)
