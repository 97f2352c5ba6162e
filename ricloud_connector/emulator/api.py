"""The results API: routes, the token, answers. Serves HTTP through starlette; knows no port."""

import hmac
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from ricloud_connector.emulator.body import render_error, render_page, render_result, render_signed_url
from ricloud_connector.emulator.bucket import Signer, find_expiry
from ricloud_connector.emulator.catalogue import Catalogue
from ricloud_connector.emulator.gate import Controls, Journal, run_in_thread
from ricloud_connector.emulator.query import BadQueryError, parse_query
from ricloud_connector.emulator.state import Entry


class Api:
    """Handles requests to the API. `clock` answers seconds since 1970."""

    def __init__(
        self,
        token: str,
        catalogue: Catalogue,
        signer: Signer,
        controls: Controls,
        journal: Journal,
        clock: Callable[[], float],
    ) -> None:
        self._authorization = f"Token {token}".encode()
        self._store = catalogue.store
        self._bucket = catalogue.bucket
        self._signer = signer
        self._controls = controls
        self._journal = journal
        self._clock = clock
        self._dropping = controls.behaviour
        self._dropped = 0

    async def handle(self, request: Request) -> Response:
        given = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, self._authorization):
            return _refuse(401, "not_authenticated", "No valid credentials were provided.")
        # The raw path: an id may hold an escaped slash.
        segments = [unquote(segment) for segment in request.scope["raw_path"].decode("latin-1").split("/")[1:]]
        match request.method, segments:
            case "GET", ["results"]:
                return self._list(request)
            case "POST", ["results", "ack"]:
                return await self._acknowledge_batch(request)
            case "GET", ["results", id]:
                return self._retrieve(id)
            case "POST", ["results", id, "ack"]:
                return await self._acknowledge_one(id)
            case _, ["results"] | ["results", _] | ["results", _, "ack"]:
                return _refuse(405, "method_not_allowed", "The method is not allowed here.")
        return _refuse(404, "not_found", "There is nothing at this path.")

    def _list(self, request: Request) -> Response:
        try:
            query = parse_query(request.query_params.multi_items(), self._controls.behaviour.date_filter)
            with self._store.lock:
                page = self._store.find_page(query)
                rendered = self._render(page.entries)
        except BadQueryError as error:
            return _refuse(400, "invalid_parameter", "The query was refused.", error.params)
        return _answer(render_page(rendered, has_more=page.has_more, total_count=page.total))

    def _retrieve(self, id: str) -> Response:
        with self._store.lock:
            entry = self._store.get(id)
            if entry is None:
                return _refuse(404, "not_found", "No result has this id.")
            return _answer(self._render([entry])[0])

    async def _acknowledge_one(self, id: str) -> Response:
        if self._store.get(id) is None:
            return _refuse(404, "not_found", "No result has this id.")
        await self._acknowledge([id])
        return self._retrieve(id)

    async def _acknowledge_batch(self, request: Request) -> Response:
        ids = parse_ids(await request.body())
        most = self._controls.behaviour.max_ack_batch
        if ids is None:
            return _refuse(400, "invalid_request", "The body was refused.", {"ids": "Must be a list of ids."})
        if len(ids) > most:
            return _refuse(400, "invalid_request", "The body was refused.", {"ids": f"At most {most} ids at once."})
        await self._acknowledge(ids)
        # What the real API answers is not documented, so nothing here may be relied on.
        return _answer(b"{}")

    async def _acknowledge(self, ids: list[str]) -> None:
        with self._journal.lock:
            self._journal.acknowledged.extend(ids)
        hook = self._controls.on_acknowledge
        if hook is not None:
            await run_in_thread(lambda: hook(list(ids)))
        behaviour = self._controls.behaviour
        if behaviour is not self._dropping:
            self._dropping, self._dropped = behaviour, 0
        if self._dropped < behaviour.dropped_acknowledgements:
            self._dropped += 1
            return
        now = datetime.fromtimestamp(self._clock(), UTC)
        with self._store.lock:
            for entry in self._store.acknowledge(ids, now):
                if behaviour.delete_acknowledged:
                    self._bucket.delete(entry.key)
                    entry.date_deleted = now

    def _render(self, entries: Sequence[Entry]) -> list[bytes]:
        expires = find_expiry(self._clock(), self._controls.behaviour.signature_lifetime_s)
        date_expires = f"{datetime.fromtimestamp(expires, UTC):%Y-%m-%dT%H:%M:%SZ}"
        return [
            render_result(
                entry,
                render_signed_url(self._signer.sign(entry.key, expires), date_expires)
                if entry.draft.signed and entry.date_deleted is None
                else b"null",
            )
            for entry in entries
        ]


def parse_ids(body: bytes) -> list[str] | None:
    """The ids of an acknowledgement, integers and strings alike, as strings; None where the body is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    ids = document.get("ids") if isinstance(document, dict) else None
    if not isinstance(ids, list) or any(isinstance(id, bool) or not isinstance(id, int | str) for id in ids):
        return None
    return [str(id) for id in ids]


def _answer(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _refuse(status: int, error: str, message: str, params: dict[str, str] | None = None) -> Response:
    return Response(render_error(error, message, params), status_code=status, media_type="application/json")
