"""Acknowledges at the API what is proven in the lake, and makes sure that it was applied. I/O: the API.

The one module that sends acknowledgements. It takes `VerifiedCommit`s and nothing else for proof: no listing, no memory
of having written something, leads here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector import overlap
from ricloud_connector.client import RicloudClient
from ricloud_connector.errors import ApiRefused, ApiUnavailable, TokenRefused
from ricloud_connector.model import AVAILABLE, CONSUMED, EXPIRED, Proven, Rejection, Result, Window, id_of
from ricloud_connector.readback import VerifiedCommit

BATCH_IDS = 500
READ_EACH_UP_TO = 20
PAUSES_S = (0.2, 0.5, 1.0)
"""Before each of three more sends of what is still available: a server may need a moment to apply one."""

SENDERS = 4
READERS = 8
MAX_REFUSED = 100

HowSeen = Literal["listing", "result", "found"]
WireId = int | str

LISTED = pa.schema(
    [
        ("result_id", pa.string()),
        ("numeric_id", pa.bool_()),
        ("checksum", pa.string()),
        ("size", pa.int64()),
        ("date_created", pa.timestamp("us", tz="UTC")),
    ]
)
"""What the API calls available, as far as acknowledging it needs: columns, since a day may have a million. `numeric_id` says
that the API writes the id as a number."""


@dataclass(slots=True)
class Confirmation:
    """What came of acknowledging: tables of `LISTED`, those seen not to be available any more with how that was seen, and
    those which the API still calls available after every send."""

    confirmed: list[tuple[pa.Table, HowSeen]]
    refused: pa.Table


class Acknowledger:
    """Sends acknowledgements for proven results; `confirm` then settles all that were sent since. For one thread."""

    def __init__(
        self, client: RicloudClient, *, batch_ids: int = BATCH_IDS, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._batch_ids = batch_ids
        self._sleep = sleep
        self._sent: list[pa.Table] = []
        self._refused = set[str]()
        self._unanswered: ApiUnavailable | None = None
        self._accepted = self._stopped = self._cancelled = False

    def cancel(self) -> None:
        """Send nothing more but what is on its way already. From any thread."""
        self._cancelled = True

    def send(self, commit: VerifiedCommit, listed: pa.Table) -> None:
        """Acknowledge each listed result whose md5 and size are those proven by this commit; leave the others alone.

        Where the API does not answer, nothing more is sent, and `confirm` looks what had come through. Raises: ApiRefused.
        """
        if type(commit) is not VerifiedCommit:
            raise TypeError("only what read_back has proven is acknowledged")
        ids, checksums, sizes = (listed.column(name).to_pylist() for name in ("result_id", "checksum", "size"))
        claimed = map(Proven, checksums, sizes)
        proven = [commit.proven.get(result_id) == claim for result_id, claim in zip(ids, claimed, strict=True)]
        eligible = listed.select(LISTED.names).filter(pa.array(proven, pa.bool_()))
        self._sent.append(eligible)
        self._send_all(eligible)

    def confirm(self) -> Confirmation:
        """Look which of the sent are still available, send those again up to three times, and tell.

        Raises: ApiUnavailable where some are still available because the API did not answer; what was applied all the same
        is found by the next run.
        """
        open_, self._sent = pa.concat_tables([LISTED.empty_table(), *self._sent]), []
        if not open_.num_rows:
            return Confirmation([], open_)
        confirmed: list[tuple[pa.Table, HowSeen]] = []
        for pause_s in (None, *PAUSES_S):
            if pause_s is not None:
                again = _without(open_, self._refused)
                if not again.num_rows or self._unanswered is not None:
                    break
                self._sleep(pause_s)
                self._send_all(again)
            still, how = self._still_available(open_)
            confirmed.append((_without(open_, still), how))
            open_ = _among(open_, still)
        unanswered, self._unanswered = self._unanswered, None
        if open_.num_rows and unanswered is not None:
            raise unanswered
        return Confirmation(confirmed, open_)

    def _send_all(self, listed: pa.Table) -> None:
        """Send in batches, a few at a time. After an error or a cancel nothing is sent but what is on its way already."""
        if self._unanswered is not None:
            return
        self._stopped = False
        with overlap.pool(SENDERS) as pool:
            futures = [pool.submit(self._send_or_stop, batch) for batch in _batches(listed, self._batch_ids)]
            try:
                for future in futures:
                    future.result()
            except ApiUnavailable as error:
                self._unanswered = error
            except BaseException:
                self._stopped = True  # also where it is this thread that was interrupted
                raise

    def _send_or_stop(self, batch: Sequence[WireId]) -> None:
        try:
            self._send(batch)
        except BaseException:
            self._stopped = True
            raise

    def _send(self, batch: Sequence[WireId]) -> None:
        """Send one batch; in parts where it is too long for the server or holds an id that the server will not take."""
        if self._stopped or self._cancelled:
            return
        if len(batch) > self._batch_ids:
            for part in _split(batch, self._batch_ids):
                self._send(part)
            return
        try:
            self._client.send_acknowledgements(list(batch))
            self._accepted = True
        except ApiRefused as error:
            if error.status not in (400, 413):
                raise
            if len(batch) == 1:
                self._note_refusal(batch[0], error)
                return
            half = len(batch) // 2
            if error.status == 413:
                self._batch_ids = min(self._batch_ids, half)
            self._send(batch[:half])
            self._send(batch[half:])

    def _note_refusal(self, wire_id: WireId, error: ApiRefused) -> None:
        """Refused for good: it is not sent again, and `confirm` names it where it is still available."""
        self._refused.add(str(wire_id))
        if not self._accepted and len(self._refused) >= MAX_REFUSED:
            raise error  # it is not the ids that this server refuses: 100,000 requests more would show nothing else

    def _still_available(self, listed: pa.Table) -> tuple[set[str], HowSeen]:
        """The ids that are, or may be, available. What can be neither read nor found in a complete listing is not."""
        ids = listed.column("result_id").unique()
        if len(ids) <= READ_EACH_UP_TO:
            states = read_states(self._client, sorted(ids.to_pylist()))
            if None not in states.values():
                return {result_id for result_id, state in states.items() if state not in (CONSUMED, EXPIRED)}, "result"
        span = pc.min_max(listed.column("date_created")).as_py()
        still = set[str]()
        for item in self._client.list_results(Window(span["min"], span["max"] + timedelta(microseconds=1))):
            if isinstance(item, Rejection) or item.state not in (CONSUMED, EXPIRED):
                still.add(id_of(item))
        return still and still.intersection(ids.to_pylist()), "listing"


def _batches(listed: pa.Table, size: int) -> Iterator[list[WireId]]:
    """The ids as the API writes them, so many at a time."""
    for start in range(0, listed.num_rows, size):
        batch = listed.slice(start, size)
        pairs = zip(batch.column("result_id").to_pylist(), batch.column("numeric_id").to_pylist(), strict=True)
        yield [int(result_id) if is_number else result_id for result_id, is_number in pairs]


def _split(batch: Sequence[WireId], size: int) -> Iterator[Sequence[WireId]]:
    return (batch[start : start + size] for start in range(0, len(batch), size))


def _among(listed: pa.Table, ids: Collection[str]) -> pa.Table:
    return listed.filter(pc.is_in(listed.column("result_id"), value_set=pa.array(ids, pa.string())))


def _without(listed: pa.Table, ids: Collection[str]) -> pa.Table:
    if not ids:
        return listed  # of a million, a copy would be felt
    return listed.filter(pc.invert(pc.is_in(listed.column("result_id"), value_set=pa.array(ids, pa.string()))))


def read_states(client: RicloudClient, ids: Sequence[str]) -> dict[str, str | None]:
    """The present state of each result, read one by one, `available` where it cannot be made out.

    None where the API does not know the result any more, or does not let it be asked for by id. Raises: ApiUnavailable,
    TokenRefused, UntrustedAnswer.
    """

    def read(result_id: str) -> str | None:
        try:
            answer = client.retrieve_result(result_id)
        except TokenRefused:
            raise
        except ApiRefused:
            return None
        return answer.state if isinstance(answer, Result) else AVAILABLE

    if not ids:
        return {}
    with overlap.pool(min(READERS, len(ids))) as pool:
        return dict(pool.map(lambda result_id: (result_id, read(result_id)), ids))


def find_consumed(client: RicloudClient, window: Window, ids: Sequence[str]) -> Iterator[str]:
    """Those of the ids that the API calls consumed: an earlier run acknowledged them and could not write it down."""
    if len(ids) > READ_EACH_UP_TO:
        wanted = set(ids)
        for item in client.list_results(window, CONSUMED):
            if isinstance(item, Result) and item.state == CONSUMED and item.id in wanted:
                yield item.id
    else:
        yield from (result_id for result_id, state in read_states(client, ids).items() if state == CONSUMED)
