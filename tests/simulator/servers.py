"""The API and its contents as a model in memory, with everything that servers do wrong. Pure but for chance.

`SimulatedApi` stands where `HttpExchange` does, `SimulatedContents` where `SignedUrlStore` does: one method each;
`SimulatedBulk` where `BulkFetch` does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ricloud_connector import wire
from ricloud_connector.bulk_fetch import Taken
from ricloud_connector.errors import ApiUnavailable, ContentError
from ricloud_connector.listed import Listed
from ricloud_connector.location import HttpLocation
from ricloud_connector.model import Content, Result
from ricloud_connector.parts import Contents, joined
from ricloud_connector.sink import Sink
from ricloud_connector.stores import Remedy, Transfer, TransferFault
from tests.simulator.processes import Stage

ORGANISATION = "o1"
CONTENT_HOST = "contents.test:443"

Answer = tuple[int, Mapping[str, str], bytes]


@dataclass(slots=True, eq=False)
class Published:
    """One result: what the API says of it (`checksum`, `size`), and what its content truly is (`data`).

    `flaw` is what is wrong with it for good: `gone`, `changed bytes`, `wrong size`, `no md5`, `no place`; None where it
    must end up in the lake. `lag` is how many more lists still call it available after its acknowledgement.
    """

    id: int | str
    created: datetime
    data: bytes
    checksum: str | None
    size: int | None
    flaw: str | None = None
    state: str = "available"
    consumed: datetime | None = None
    lag: int = 0

    @property
    def name(self) -> str:
        return str(self.id)

    def change(self, data: bytes) -> None:
        """From now on the API lists another content: the one that is stored must be kept, and not be acknowledged."""
        self.data, self.checksum, self.size = data, hashlib.md5(data).hexdigest(), len(data)
        self.flaw = "changed later"

    @property
    def md5(self) -> str:
        return hashlib.md5(self.data).hexdigest()


class SimulatedApi:
    """The API. `on_acknowledge` is told the ids of each acknowledgement as it arrives, before anything else happens.

    `page` is the longest page; `order` newest, oldest or shuffled; `date_filter` apply, ignore or reject; `forgets` says
    that a consumed result is answered by 404; `longest_batch` is how many ids it takes at once.
    """

    def __init__(self, stage: Stage, *, fault_rate: float = 0.0) -> None:
        self.results: dict[str, Published] = {}
        self.on_acknowledge: Callable[[list[str]], None] = lambda _: None
        self.page, self.order, self.date_filter, self.longest_batch = 1000, "newest", "apply", 500
        self.forgets = False
        self.lags = 0.0
        self.fault_rate = fault_rate
        self._stage = stage

    def publish(self, result: Published) -> None:
        self.results[result.name] = result

    def __call__(self, request: wire.Request, ends: float, /) -> Answer:
        shown = f"{request.method} {request.path}"
        if request.json is not None:
            shown += f" {request.json['ids']}"
            ids = request.json["ids"]

            def torn() -> None:
                self._acknowledge(ids, ids[: len(ids) // 2])

            return self._stage.touch(  # type: ignore[no-any-return]
                shown, lambda: self._answer(request), changes=True, torn=torn, lost=ApiUnavailable("simulated: no answer")
            )
        return self._stage.touch(  # type: ignore[no-any-return]
            shown, lambda: self._answer(request), lost=ApiUnavailable("simulated: no answer")
        )

    def _answer(self, request: wire.Request) -> Answer:
        befalls, rate = self._stage.befalls, self.fault_rate
        if rate:
            if befalls("API: cannot be reached", rate):
                raise ApiUnavailable("simulated: no connection", connected=False)
            if befalls("API: 500", rate):
                return _error(500, "internal_error")
            if befalls("API: 429", rate / 2):
                return 429, {"retry-after": "3"}, b"{}"
        answer = self._route(request)
        if rate:
            if befalls("API: reply lost", rate):
                raise ApiUnavailable("simulated: the connection broke")
            if befalls("API: 502 after the effect", rate / 2):
                return _error(502, "bad_gateway")
            if request.method == "GET" and befalls("API: body cut short", rate / 2):
                return answer[0], answer[1], answer[2][: len(answer[2]) // 2]
            if request.method == "GET" and befalls("API: a login page", rate / 4):
                return 200, {}, b"<html>log in</html>"
        return answer

    def _route(self, request: wire.Request) -> Answer:
        if request.path == "/results":
            return self._list(dict(request.params))
        if request.path == "/results/ack":
            return self._acknowledge_batch(request.json["ids"])
        return self._retrieve(unquote(request.path.removeprefix("/results/")))

    def come_to_rest(self) -> None:
        """Every acknowledgement is seen by everybody."""
        for result in self.results.values():
            result.lag = 0

    # Lists

    def _list(self, params: dict[str, str]) -> Answer:
        spans = [(name, params[name]) for name in wire.DATE_FILTER if name in params]
        if spans and self.date_filter == "reject":
            return _error(400, "invalid_parameter", {name: "Unknown parameter." for name, _ in spans})
        found = sorted(self.results.values(), key=self._rank)
        after = params.get("after_id")
        if after is not None:
            if after not in self.results:
                return _error(400, "invalid_parameter", {"after_id": "No result has this id."})
            found = [result for result in found if self._rank(result) > self._rank(self.results[after])]
        found = [result for result in found if self._seen_state(result) == params["state"]]
        if spans and self.date_filter == "apply":
            since, until = (datetime.fromisoformat(text) for _, text in spans)
            found = [result for result in found if since <= result.created < until]
        again = "API: an item again on the next page"
        if after is not None and self.fault_rate and self._stage.befalls(again, self.fault_rate):
            found = [self.results[after], *found]
        limit = min(int(params["limit"]), self.page)
        data = [self._rendered(result) for result in found[:limit]]
        return _ok({"data": data, "has_more": len(found) > limit, "total_count": len(found), "url": "/results"})

    def _rank(self, result: Published) -> tuple[Any, str]:
        if self.order == "shuffled":
            return hashlib.md5(result.name.encode()).digest(), result.name
        moment = result.created.timestamp()
        return (-moment if self.order == "newest" else moment), result.name

    def _seen_state(self, result: Published) -> str:
        """The state as a replica that lags behind shows it."""
        if result.lag > 0 and result.state == "consumed":
            result.lag -= 1
            self._stage.say("    an acknowledgement is not seen yet")
            return "available"
        return result.state

    def _rendered(self, result: Published, *, signed: bool = True) -> dict[str, Any]:
        url = f"https://{CONTENT_HOST}/{result.name}?signature=s"
        return {
            "id": result.id,
            "resource": "result",
            "organisation": ORGANISATION,
            "poll": None,
            "task": "t1",
            "identifier": "files",
            "url": f"s3://published/{result.name}",
            "type": None,
            "checksum": result.checksum,
            "size": result.size,
            "date_created": _text(result.created),
            "signed_url": None if result.flaw == "no place" else {"url": url, "date_expires": "2030-01-01T00:00:00Z"},
            "state": result.state,
            "date_consumed": None if result.consumed is None else _text(result.consumed),
            "date_deleted": None,
        }

    def _retrieve(self, name: str) -> Answer:
        result = self.results.get(name)
        if result is None or (self.forgets and result.state == "consumed"):
            return _error(404, "not_found")
        document = self._rendered(result)
        document["state"] = self._seen_state(result)
        return _ok(document)

    # Acknowledgements

    def _acknowledge_batch(self, ids: list[int | str]) -> Answer:
        if len(ids) > self.longest_batch:
            return _error(413, "too_large")
        if self.fault_rate and self._stage.befalls("API: half of a batch applied, then 500", 2 * self.fault_rate):
            self._acknowledge(ids, ids[: len(ids) // 2])
            return _error(500, "internal_error")
        if self.fault_rate and self._stage.befalls("API: 200, and nothing applied", 2 * self.fault_rate):
            self._acknowledge(ids, [])
        else:
            self._acknowledge(ids, ids)
        return _ok({"acknowledged": len(ids)})

    def _acknowledge(self, received: list[int | str], applied: list[int | str]) -> None:
        self.on_acknowledge([str(name) for name in received])
        for name in applied:
            result = self.results.get(str(name))
            if result is not None and result.state == "available":
                result.state, result.consumed = "consumed", datetime.fromtimestamp(1_800_000_000 + self._stage.seconds, UTC)
                if self.lags and self._stage.befalls("API: an acknowledgement is seen late", self.lags):
                    result.lag = self._stage.rng.randrange(1, 6)


class SimulatedContents:
    """Where the contents lie. What was acknowledged is deleted at once: it cannot be fetched a second time."""

    def __init__(self, api: SimulatedApi, stage: Stage, *, fault_rate: float = 0.0) -> None:
        self._api, self._stage, self.fault_rate = api, stage, fault_rate

    def transfer(self, transfers: Iterable[Transfer | None]) -> Iterator[tuple[Transfer, TransferFault | None]]:
        for transfer in transfers:
            if transfer is not None:
                yield transfer, self._stage.touch(f"content of {transfer.sink.result.id}", lambda t=transfer: self._send(t))

    def _send(self, transfer: Transfer) -> TransferFault | None:
        assert isinstance(transfer.location, HttpLocation)
        name = transfer.location.url.partition("?")[0].rpartition("/")[2]
        result = self._api.results.get(unquote(name))
        if result is None or result.state == "consumed" or result.flaw == "gone":
            return TransferFault("gone", f"{transfer.location.host} answered 404", Remedy.RENEW)
        data, sink = result.data[transfer.sink.size :], transfer.sink
        befalls, rate = self._stage.befalls, self.fault_rate
        if rate:
            if befalls("content: the host does not answer", rate):
                return TransferFault("unreachable", "simulated", Remedy.RESUME)
            if befalls("content: the host says slow down", rate / 2):
                return TransferFault("throttled", "simulated", Remedy.RESUME, retry_after_s=2.0)
            if befalls("content: the signed URL has expired", rate):
                return TransferFault("access_denied", "simulated", Remedy.RENEW)
            if befalls("content: broken off", rate):
                sink.write(data[: len(data) // 2])
                return TransferFault("unreachable", "simulated", Remedy.RESUME)
            if befalls("content: does not go on where it broke off", rate / 4):
                return TransferFault("unreadable", "simulated", Remedy.RESTART)
            if data and befalls("content: a bit flipped on the way", rate):
                data = bytes([data[0] ^ 2]) + data[1:]  # not the bit that a flawed content of one byte lacks
            elif data and befalls("content: cut, and nobody says so", rate / 2):
                data = data[:-1]
            elif befalls("content: more than there is", rate / 2):
                data = data + b"!"
        if data:
            sink.write(data)
        return None


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _ok(document: Any) -> Answer:
    return 200, {"content-type": "application/json"}, json.dumps(document).encode()


def _error(status: int, code: str, params: dict[str, str] | None = None) -> Answer:
    return status, {}, json.dumps({"error": code, "message": code, **({"params": params} if params else {})}).encode()


class SimulatedBulk:
    """Stands where `BulkFetch` does: takes on what chance says, and brings some of it whenever it is asked.

    Contents pass through a sink here, as they do in its process; what does not come as it should is left to others.
    """

    def __init__(self, contents: SimulatedContents, stage: Stage, folder: Path) -> None:
        self._contents, self._stage, self._folder = contents, stage, folder
        self._taken_on: list[Result] = []

    @property
    def pending(self) -> int:
        return len(self._taken_on)

    def put(self, listed: Listed, *, alone: bool) -> list[Result]:
        rng, results = self._stage.rng, listed.results()
        share = rng.choice([0.0, 0.5, 1.0])
        mine = [result.signed_url is not None and rng.random() < share for result in results]
        self._taken_on += [result for result, taken in zip(results, mine, strict=True) if taken]
        return [result for result, taken in zip(results, mine, strict=True) if not taken]

    def take(self, *, alone: bool) -> Taken:
        rng = self._stage.rng
        number = rng.randrange(1, len(self._taken_on) + 1)
        some = [self._taken_on.pop(rng.randrange(len(self._taken_on))) for _ in range(number)]
        came, left = list[Content](), list[Result]()
        for result in some:
            content = self._fetch(result)
            came.append(content) if content is not None else left.append(result)
        if not came:
            return Taken(left=left)
        bodies = [content.body for content in came]
        body = joined(b"".join(bodies), [*map(len, bodies)])
        return Taken(
            Contents(Listed.of([content.result for content in came]), [content.sha256 for content in came], body), left
        )

    def _fetch(self, result: Result) -> Content | None:
        assert result.signed_url is not None
        sink = Sink(result, self._folder)
        location = HttpLocation(result.signed_url.url, CONTENT_HOST, trusted=True)
        ((_, fault),) = self._contents.transfer([Transfer(location, sink)])
        try:
            content = None if fault is not None or sink.fault is not None else sink.finish()
        except ContentError:
            content = None
        return content if isinstance(content, Content) and isinstance(content.body, bytes) else None

    def drop(self) -> None:
        self._taken_on.clear()
