"""Bad inputs by the million for everything that reads what others have written, guided by the branches that they reach.

    python -m tests.fuzz --inputs 1000000 --seconds 600 --seed 1

Inputs are mutated from a corpus that begins with good ones; of those that are traced, each that takes a branch that none took
before joins it. A finding is any exception that is not one of ours, a result that could not be a row, a secret that is shown,
or more than a second for one input. Prints what was tried, the branches taken and the findings; exits 1 where there is one.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from ricloud_connector import headers, location, redact, refusal, wire
from ricloud_connector.errors import ApiError, ContentError
from ricloud_connector.item import parse_datetime
from ricloud_connector.model import Rejection, Result, SignedUrl
from ricloud_connector.quick_page import read_quickly
from ricloud_connector.records.columns import infer_columns
from ricloud_connector.records.document import Fault, looks_like_document, parse_document, parse_quickly
from ricloud_connector.records.feed import folder_name, identifier_of
from ricloud_connector.watch import Watch

PACKAGE = str(Path(wire.__file__).parent)
TRACED = 8  # one input in so many: tracing costs several times what the input does
SLOW_S = 1.0  # of processor time: the machine may be busy
SECRET = redact.Secret("zq9secret")
POLICY = location.Policy(frozenset({"bucket.example"}), frozenset({"ours"}), "/srv/contents")

ITEM = {
    "id": "5f0c",
    "resource": "result",
    "organisation": 7,
    "poll": None,
    "identifier": "ios_messages.messages",
    "url": "s3://ours/key",
    "type": "json",
    "checksum": "d41d8cd98f00b204e9800998ecf8427e",
    "size": 0,
    "signed_url": {"url": "https://bucket.example/key?X-Amz-Signature=zq9secret", "date_expires": "2026-11-20T12:00:00Z"},
    "state": "available",
    "date_created": "2026-11-20T12:00:00.123456Z",
    "date_consumed": None,
}
TOKENS = [
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\u", b"\\ud800", b"\\udc00", b"null", b"true", b"NaN", b"-Infinity"),
    *(b"0", b"-", b"9" * 20, b"9" * 700, b"1e999", b'"id":', b'"data":', b'"has_more":', b'"size":', b'"date_created":'),
    *(b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"\n", b"\r\n", b" ", b"/", b"//", b"..", b"@", b"#", b"?", b"%2e"),
    *(b"http://", b"https://", b"s3://", b"local://", b"127.1", b"[::1]", b"0x7f000001", b"169.254.169.254", b":443", b"%00"),
    *(b"zq9secret", b"Z", b"+23:59", b"-00:00", b"9999-12-31T23:59:59Z", b"0001-01-01T00:00:00+01:00", b'"signed_url":'),
    *(b"status code: 403", b"<Code>SlowDown</Code>", b"<Region>eu-west-1</Region>", b'"metadata":{"count":1}', b"[" * 2000),
    *(b"localhost", b"Fri, 20 Nov 2026 12:00:00 GMT"),
]


class Wrong(Exception):
    """Raised by a target for an answer that should not be."""


@dataclass
class Target:
    """What reads bytes from outside; raises nothing but `Wrong` unless there is a fault."""

    name: str
    read: Callable[[bytes], object]
    seeds: list[bytes]
    branches: set[tuple[int, int, int]] = field(default_factory=set)
    corpus: list[bytes] = field(default_factory=list)
    tried: int = 0


@dataclass(frozen=True)
class Finding:
    """What a target did that it should not."""

    target: str
    what: str
    body: bytes


def demand(true: bool, what: str) -> None:
    if not true:
        raise Wrong(what)


def read_page(body: bytes) -> None:
    quick = read_quickly(body)
    if quick is not None:
        careful = wire.parse_page_with_care(200, {}, body, SECRET)
        demand(quick.items == careful.items and quick.has_more == careful.has_more, "a page that is read quickly and otherwise")
    for parse in (wire.parse_page, wire.parse_result):
        try:
            found: Any = parse(200, {}, body, SECRET)
        except ApiError as error:
            _check_error(error)
            continue
        for item in found.items if isinstance(found, wire.Page) else [found]:
            if isinstance(item, Rejection):
                demand("zq9secret" not in item.detail, "a secret in a rejection")
            else:
                _check_row(item)


def _check_error(error: ApiError) -> None:
    demand("zq9secret" not in str(error) and len(str(error)) < 2000, "a secret, or a flood, in an error")


def _check_row(result: Result) -> None:
    for text in (result.id, result.identifier, result.url, result.extra, result.state, result.type):
        (text or "").encode()  # an id or a text that is none is UnicodeEncodeError
    demand(0 < len(result.id) <= 512, "an id that is none")
    demand(result.size is None or 0 <= result.size < 2**63, "a size that is none")
    demand(result.checksum is None or len(result.checksum) == 32, "a checksum that is none")
    demand(result.date_created.tzinfo is not None, "a moment without a zone")


def read_error(body: bytes) -> None:
    status = (301, 302, 400, 401, 404, 413, 429, 500, 503)[body[0] % 9] if body else 500
    text = body.decode("latin-1")
    try:
        wire.parse_page(status, {"location": text, "retry-after": text, "date": text}, body, SECRET)
    except ApiError as error:
        _check_error(error)
    else:
        raise Wrong("no error")


def read_header(body: bytes) -> None:
    first, _, second = body.decode("latin-1").partition("\n")
    seconds = headers.retry_after_s({"retry-after": first, "date": second})
    demand(seconds is None or 0 <= seconds <= 300, "a wait without bounds")
    moment = parse_datetime(first)
    demand(moment is None or moment.utcoffset() is not None, "a moment without a zone")


def read_url(body: bytes) -> None:
    url = body.decode("utf-8", "surrogateescape")
    here = location.HttpLocation("https://bucket.example:443/key", "bucket.example:443", trusted=False)
    for look in (
        lambda: location.http_location(SignedUrl(url, None), POLICY),
        lambda: location.redirected_location(here, SignedUrl(url, None), POLICY),
    ):
        try:
            found = look()
        except ContentError as error:
            demand("zq9secret" in url.partition("?")[0].lower() or "zq9secret" not in str(error), "a signature in an error")
            continue
        netloc = found.url.partition("://")[2].partition("/")[0]
        demand(found.url.isascii() and not set(found.url) & set(" \\\r\n\t\0@") - set("@"), "characters that parsers differ on")
        demand("@" not in netloc and netloc == found.host, "another host than it says")
        demand(found.trusted == (found.host.partition(":")[0] == "bucket.example"), "trust that was not given")
        demand(found.url.startswith("https://") or found.trusted, "not https")
    for parse in (location.local_location, location.bucket_location):
        try:
            place = parse(url, POLICY)
        except ContentError:
            continue
        if isinstance(place, location.LocalLocation):
            demand(not {"", ".", ".."} & set(place.segments) and not any("/" in one for one in place.segments), "a way out")
        else:
            demand(place.bucket == "ours", "a bucket that is not allowed")


def read_text(body: bytes) -> None:
    text = body.decode("utf-8", "surrogateescape")
    shown = redact.clean(text, SECRET)
    demand(len(shown) <= 200 and len(shown.splitlines()) <= 1, "more than a line")
    demand("zq9secret" not in shown, "a secret")
    shown.encode()
    redact.origin_of(text)
    refused = refusal.refusal_of("s3://ours", ValueError(text))
    demand("<Code>" in text or "zq9secret" not in refused.detail, "a secret in a refusal")


def read_document(body: bytes) -> None:
    looks_like_document(body)
    quick, careful = parse_quickly(body), parse_document(body)
    if not isinstance(careful, Fault):
        infer_columns(careful, {})
    elif quick is not None and quick.records:
        # What the quick one lets pass the other refuses for two things alone, which its callers see to.
        demand(careful.reason in ("records_duplicate_key", "records_number_out_of_range", "records_too_deep"), careful.reason)


def read_name(body: bytes) -> None:
    name = body.decode("utf-8", "replace")
    folder = folder_name(name)
    demand("/" not in folder and folder not in (".", "..") and len(folder.encode()) < 255, "no name of a folder")
    demand("~" in folder or identifier_of(folder) == (name or None), "another name than it had")


def read_cursor(body: bytes) -> None:
    watch = Watch.load(body.decode("utf-8", "replace"))
    if watch is not None:
        demand(Watch.load(watch.dump()) is not None, "what was written down cannot be read")


def targets() -> list[Target]:
    page = json.dumps({"data": [ITEM, {**ITEM, "id": 7}], "has_more": False}, separators=(",", ":")).encode()
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    watch = Watch(newest=noon, seen={"5f0c": 7}, walk_since=noon, walk_newest=noon, pending={noon: 5}, asked={noon: noon})
    document = b'{"data": [{"text": "x", "at": "2026-11-20T12:00:00Z"}, {"deep": [{"a": 1.5}]}], "metadata": {"count": 2}}'
    return [
        Target("pages", read_page, [page, json.dumps({"data": [ITEM], "has_more": True}).encode(), json.dumps(ITEM).encode()]),
        Target("errors", read_error, [b'{"error": "bad", "message": "zq9secret", "params": {"date_created": 1}}', b"<html>"]),
        Target("headers", read_header, [b"5", b"Fri, 20 Nov 2026 12:00:09 GMT\nFri, 20 Nov 2026 12:00:00 GMT"]),
        Target(
            "urls",
            read_url,
            [b"https://bucket.example/k?s=zq9secret", b"https://[2606:4700::1111]:8443/", b"local:///a", b"s3://ours/k"],
        ),
        Target("texts", read_text, [b"see https://u:zq9secret@h/k?zq9secret", b"status code: 403 <Code>AccessDenied</Code>"]),
        Target("documents", read_document, [document]),
        Target("names", read_name, [b"ios_messages.messages", b"a/b=c"]),
        Target("cursors", read_cursor, [watch.dump().encode()]),
    ]


class Tracer:
    """The branches, as (code, line before, line), that a call takes inside the package and where it begins."""

    def __init__(self) -> None:
        self._begins = __file__
        self.taken: set[tuple[int, int, int]] = set()

    def run(self, read: Callable[[bytes], object], body: bytes) -> None:
        self._begins = read.__code__.co_filename
        sys.settrace(self._call)
        try:
            read(body)
        finally:
            sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(PACKAGE) and frame.f_code.co_filename != self._begins:
            return None
        before, code = 0, id(frame.f_code)

        def line(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
            nonlocal before
            if event == "line":
                self.taken.add((code, before, frame.f_lineno))
                before = frame.f_lineno
            return line

        return line


def mutated(corpus: list[bytes], chance: random.Random) -> bytes:
    """An input, with up to five things done to it."""
    body = bytearray(chance.choice(corpus))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        place = chance.randrange(len(body) + 1)
        kind = chance.randrange(7)
        if kind == 0 and body:
            body[place % len(body)] = chance.randrange(256)
        elif kind == 1 and body:
            body[place % len(body)] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del body[place : place + chance.choice((1, 2, 8, 64))]
        elif kind == 3:
            body[place:place] = body[place : place + chance.choice((1, 4, 32, 256))]
        elif kind == 4:
            other = chance.choice(corpus)
            start = chance.randrange(len(other) + 1)
            body[place : place + chance.randrange(8)] = other[start : start + chance.randrange(64)]
        else:
            body[place : place + chance.choice((0, 0, 1, 4))] = chance.choice(TOKENS)
    return bytes(body[:20_000])


def fuzz(
    found: list[Target], *, inputs: int, seconds: float, seed: int, traced: int = TRACED
) -> Mapping[tuple[str, str], Finding]:
    """Feed the targets in turn until so many inputs or seconds, one in `traced` of them watched; one finding of each kind."""
    chance, ends = random.Random(seed), time.monotonic() + seconds
    findings: dict[tuple[str, str], Finding] = {}
    tried = 0
    while tried < inputs and time.monotonic() < ends:
        target = found[tried % len(found)]
        if len(target.corpus) < len(target.seeds):
            body, watched = target.seeds[len(target.corpus)], True
        else:
            body, watched = mutated(target.corpus, chance), target.tried % traced == 0
        finding = _try(target, body, watched)
        if finding is not None:
            findings.setdefault((target.name, finding.what), finding)
        tried += 1
        target.tried += 1
    return findings


def _try(target: Target, body: bytes, traced: bool) -> Finding | None:
    tracer, started = Tracer(), time.thread_time()
    what = None
    try:
        if traced:
            tracer.run(target.read, body)
        else:
            target.read(body)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is a finding
        places = traceback.extract_tb(error.__traceback__)
        what = f"{type(error).__name__}: {error} ({places[-1].name}, line {places[-1].lineno})"[:300]
    if time.thread_time() - started > SLOW_S:
        what = what or "took more than a second"
    if traced and (tracer.taken - target.branches or len(target.corpus) < len(target.seeds)):
        target.branches |= tracer.taken
        target.corpus.append(body)
    return None if what is None else Finding(target.name, what, body)


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.fuzz")
    options.add_argument("--inputs", type=int, default=1_000_000)
    options.add_argument("--seconds", type=float, default=600.0)
    options.add_argument("--seed", type=int, default=int(time.time()))
    given, found = options.parse_args(), targets()
    started = time.monotonic()
    findings = fuzz(found, inputs=given.inputs, seconds=given.seconds, seed=given.seed)
    for target in found:
        print(f"{target.name}: {target.tried} inputs, {len(target.branches)} branches, {len(target.corpus)} in the corpus")
    for finding in findings.values():
        print(f"FOUND in {finding.target}: {finding.what}\n  {finding.body[:300]!r}")
    tried, branches = sum(target.tried for target in found), sum(len(target.branches) for target in found)
    seconds = time.monotonic() - started
    print(f"{tried} inputs, {branches} branches, {len(findings)} findings in {seconds:.0f} s, seed {given.seed}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
