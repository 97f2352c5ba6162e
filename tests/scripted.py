"""An API with a bucket that does what a test says, and a run of the connector against it. Opens ports of loopback only.

    with Script({"a": b"...", "odd": b"..."}) as script:
        script.on("content", reply(503), times=2)          # the first two answers for `odd`
        report = run(script, lake)
        script.assert_exact(lake, ["a", "odd"])

The result named `odd` is the one that something befalls. Each acknowledgement that arrives is witnessed: all of its
contents are in the lake then, byte for byte. Nothing here uses the connector's own code but `run`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow.parquet as pq

from ricloud_connector import DayReport, Settings, Window, ingest_results, open_run
from ricloud_connector.ingest import days_of
from tests.hostile_server import HostileServer, Request, Steps, answer, reply

DAY = date(2026, 11, 20)
MOMENT = datetime(2026, 11, 20, 12, tzinfo=UTC)
TOKEN = "canary-token-7c1f5be0"
SIGNATURE = "canarysignature93d2a4"


@dataclass(frozen=True)
class Call:
    """One request: `kind` is list, read, ack or content, `number` counts from 1 those of its kind, `about` is a result's id."""

    kind: str
    number: int
    about: str | None
    request: Request


Twist = Callable[[Call], Steps | None]


class Script:
    """Up while a `with` block lasts. `items` are the results as the API lists them; a test may change them as it likes."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self.contents = dict(contents)
        self.items: dict[str, dict[str, Any]] = {}
        self.acknowledged: list[str] = []
        self.faults: list[str] = []
        self.page_size = 1000
        self.edit: Callable[[bytes], bytes] = lambda body: body
        self.calls: Counter[str] = Counter()
        self._twists: list[Twist] = []
        self.lake = Path()
        self.api = HostileServer(self._answer)
        self.bucket = HostileServer(self._answer)

    def __enter__(self) -> Script:
        self.api.__enter__()
        self.bucket.__enter__()
        for number, name in enumerate(self.contents):
            self.items[name] = self.item(name, MOMENT + timedelta(microseconds=number))
        return self

    def __exit__(self, *_: object) -> None:
        self.bucket.__exit__(None, None, None)
        self.api.__exit__(None, None, None)
        for request in self.bucket.requests:  # the token and what else is ours go to the API alone
            if {"authorization", "cookie", "referer"} & request.headers.keys() or TOKEN.encode() in request.raw:
                self.faults.append(f"a host of contents was told {request.raw!r}")
        assert self.faults == []

    def item(self, name: str, moment: datetime) -> dict[str, Any]:
        """A result as it should be listed."""
        content = self.contents[name]
        return {
            "id": name,
            "resource": "result",
            "organisation": "acme",
            "poll": None,
            "task": None,
            "identifier": "files.media",
            "url": f"s3://acme/{name}",
            "type": None,
            "checksum": hashlib.md5(content).hexdigest(),
            "size": len(content),
            "signed_url": {"url": self.url_of(name), "date_expires": None},
            "state": "available",
            "date_created": moment.isoformat().replace("+00:00", "Z"),
            "date_consumed": None,
            "date_deleted": None,
        }

    def url_of(self, name: str) -> str:
        return f"{self.bucket.url}/{name}?X-Amz-Signature={SIGNATURE}"

    def twist(self, twist: Twist) -> None:
        """Let it answer whatever calls it wants to; None leaves a call to the next one."""
        self._twists.append(twist)

    def on(self, kind: str, *steps: Steps, times: int = 10**9) -> None:
        """Answer so, one after the other and the last one again, the first `times` calls of a kind; of contents only `odd`."""

        def turn(call: Call) -> Steps | None:
            if call.kind != kind or call.number > times or call.about not in (None, "odd"):
                return None
            return steps[min(call.number, len(steps)) - 1]

        self.twist(turn)

    def heal(self) -> None:
        """From now on everything is as it should be."""
        self._twists.clear()
        self.edit = lambda body: body
        for number, name in enumerate(self.contents):
            state = self.items.get(name, {}).get("state")
            self.items[name] = self.item(name, MOMENT + timedelta(microseconds=number))
            if state == "consumed":
                self.items[name]["state"] = state

    def environment(self) -> dict[str, str]:
        return {"RICLOUD_URL": self.api.url, "RICLOUD_TOKEN": TOKEN, "RICLOUD_CONTENT_HOSTS": self.bucket.host}

    def serve(self, call: Call) -> Steps:
        """The answer that keeps to the rules."""
        if call.kind == "list":
            return self._page(parse_qs(urlsplit(call.request.target).query))
        if call.kind == "read":
            found = self.items.get(call.about or "")
            return answer({"error": "not_found"}, 404) if found is None else answer(found)
        if call.kind == "ack":
            self.consume(json.loads(call.request.body)["ids"])
            return answer({"resource": "list", "data": []})
        return self.content(call)

    def content(self, call: Call) -> Steps:
        """The bytes, from where they are asked for."""
        whole = self.contents.get(call.about or "")
        if whole is None:
            return reply(404)
        start = call.request.offset
        if not start:
            return reply(200, {"ETag": '"0"'}, whole)
        return reply(206, {"Content-Range": f"bytes {start}-{len(whole) - 1}/{len(whole)}"}, whole[start:])

    def consume(self, ids: list[Any]) -> None:
        """Apply an acknowledgement, which must find each of its contents whole in the lake."""
        held = contents_of(self.lake)
        for name in map(str, ids):
            if held.get(name) != [self.contents.get(name)]:
                self.faults.append(f"{name} is acknowledged and not in the lake as it is")
            self.acknowledged.append(name)
            self.items[name]["state"] = "consumed"

    def _page(self, query: dict[str, list[str]]) -> Steps:
        names = [str(item.get("id")) for item in self.items.values()]
        first = names.index(query["after_id"][0]) + 1 if "after_id" in query else 0
        (state,) = query["state"]
        items = [item for item in list(self.items.values())[first:] if item.get("state") in (state, "paused")]
        page, more = items[: self.page_size], len(items) > self.page_size
        body = json.dumps({"data": page, "has_more": more, "url": "/results"}).encode()
        return reply(200, {"Content-Type": "application/json"}, self.edit(body))

    def _answer(self, request: Request) -> Steps:
        path = unquote(urlsplit(request.target).path)
        kind, about = "content", path.removeprefix("/")
        if path == "/results" or path.startswith("/results/"):
            kind, about = ("ack", None) if request.method == "POST" else ("list", None)
            if path.startswith("/results/") and kind == "list":
                kind, about = "read", path.removeprefix("/results/")
        counted = f"{kind} {about}" if kind in ("content", "read") else kind
        self.calls[counted] += 1
        call = Call(kind, self.calls[counted], about, request)
        for twist in self._twists:
            steps = twist(call)
            if steps is not None:
                return steps
        return self.serve(call)

    def assert_exact(self, lake: Path, names: list[str], acknowledged: list[str] | None = None) -> None:
        """The lake holds the contents of these results, each once, and no other; each was acknowledged, and no other."""
        assert contents_of(lake) == {name: [self.contents[name]] for name in names}
        sent = names if acknowledged is None else acknowledged
        assert set(self.acknowledged) == set(sent)
        assert Counter(row["result_id"] for row in rows_of(lake, "acknowledgements")) == Counter(sent)


def rows_of(lake: Path, dataset: str) -> list[dict[str, Any]]:
    """All rows of a dataset."""
    paths = sorted(lake.glob(f"data/{dataset}/**/*.parquet"))
    return [row for path in paths for row in pq.read_table(path, partitioning=None).to_pylist()]


def contents_of(lake: Path) -> dict[str, list[bytes]]:
    """The bytes stored for each result, as often as they are stored."""
    found: dict[str, list[bytes]] = {}
    for row in rows_of(lake, "contents"):
        copies = found.setdefault(row["result_id"], [])
        if row["chunk_index"] == 0:
            copies.append(b"")
        copies[-1] += row["content"]
    return found


def run(script: Script, lake: Path, **changes: Any) -> DayReport:
    """One ingest of the day, with those changes of the settings."""
    script.lake = lake
    settings = Settings.from_environment({**script.environment(), "RICLOUD_LAKE": str(lake)})
    settings = dataclasses.replace(settings, **{"api_deadline_s": 20.0, "stall_s": 5, **changes})
    with open_run(settings) as opened:
        (report,) = ingest_results(opened, days_of(Window.of_day(DAY)))
    return report


def secrets_in(lake: Path) -> list[str]:
    """The files of a lake that hold a secret, in their bytes or in the values of their rows."""
    found = []
    for path in lake.rglob("*"):
        if not path.is_file():
            continue
        data = path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path, partitioning=None)
            data += repr(table.to_pylist()).encode() + repr(table.schema.metadata).encode()
        found += [str(path) for secret in (TOKEN, SIGNATURE) if secret.encode() in data]
    return found


def replaced(pattern: str, by: str) -> Callable[[bytes], bytes]:
    """An edit of a page: what matches first becomes something else."""
    return lambda body: re.sub(pattern.encode("latin-1"), lambda _: by.encode("latin-1"), body, count=1)
