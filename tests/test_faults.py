"""Faults of the API, of downloads and of what is listed, end to end: what is in the lake afterwards, and what was acknowledged.

Each case befalls one run over four results, then heals, and the next run makes everything exact. After both, no token and no
signature is in the log at DEBUG, in an error with its variables, in the report or in any file.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ricloud_connector import client as client_module
from ricloud_connector import fetch as fetch_module
from ricloud_connector.errors import ApiRefused, ApiUnavailable, RicloudError, SettingsError, TokenRefused, UntrustedAnswer
from ricloud_connector.ingest.run import NAMED_AT_MOST
from ricloud_connector.report import faults_of
from ricloud_connector.sink import Sink
from tests.canary import assert_hides
from tests.hostile_server import CLOSE, HANG, RESET, Steps, answer, dripping, head, page, reply
from tests.scripted import MOMENT, SIGNATURE, TOKEN, Call, Script, contents_of, replaced, rows_of, run, secrets_in

ODD = bytes(range(256)) * 40
CONTENTS = {"a": b"the first", "odd": ODD, "empty": b"", "z": b"the last"}
NAMES, OTHERS = list(CONTENTS), ["a", "empty", "z"]


@dataclass(frozen=True)
class Stored:
    """Everything is stored and acknowledged in spite of it."""


@dataclass(frozen=True)
class SetAside:
    """The odd one is in quarantine for this reason, the others are stored and acknowledged."""

    reason: str


@dataclass(frozen=True)
class Lost:
    """The odd one is not seen, the others are stored and acknowledged."""


@dataclass(frozen=True)
class Fails:
    """The run ends with this error and has acknowledged nothing."""

    error: type[RicloudError]


STORED, LOST = Stored(), Lost()
Outcome = Stored | SetAside | Lost | Fails
Setup = Callable[[Script], object]


def on(kind: str, *steps: Steps, times: int = 10**9) -> Setup:
    return lambda script: script.on(kind, *steps, times=times)


def listed(**fields: object) -> Setup:
    return lambda script: script.items["odd"].update(fields)


def edited(pattern: str, by: str) -> Setup:
    return lambda script: setattr(script, "edit", replaced(pattern, by))


def in_odd(text: str) -> Setup:
    """Bytes, as Latin-1, put into the odd one's object."""
    return edited('"id":"odd"', f'{text},"id":"odd"')


def odd_id(text: str) -> Setup:
    """The odd one's id, as it is written."""
    return edited('"id":"odd"', f'"id":{text}')


def listing_again(script: Script) -> None:
    """The second page is the first one again, for ever."""
    script.page_size = 2
    first = page([script.items["a"], script.items["odd"]], has_more=True)
    script.twist(lambda call: first if call.kind == "list" else None)


def nothing_new(script: Script) -> None:
    """Each page has a cursor of its own, and the same results before it."""

    def turn(call: Call) -> Steps | None:
        malformed = {"id": f"new{call.number}" if call.number == 1 else "a"}
        return page([script.items["a"], malformed], has_more=True) if call.kind == "list" else None

    script.twist(turn)


def small_pages(script: Script) -> None:
    script.page_size = 1


def both(*setups: Setup) -> Setup:
    def set_up(script: Script) -> None:
        for each in setups:
            each(script)

    return set_up


def meanwhile(place: int) -> Setup:
    """Another result appears at that place of the list, between its pages."""

    def setup(script: Script) -> None:
        script.page_size = 2

        def turn(call: Call) -> None:
            if call.kind == "list" and call.number == 2:
                script.contents["new"] = b"newcomer"
                items = list(script.items.items())
                items.insert(place, ("new", script.item("new", MOMENT)))
                script.items = dict(items)

        script.twist(turn)

    return setup


def forgotten(status: int) -> Setup:
    """The first cursor is not known any more, once."""

    def setup(script: Script) -> None:
        script.page_size = 2
        script.twist(lambda call: answer({}, status) if call.kind == "list" and call.number == 2 else None)

    return setup


def twice(script: Script) -> None:
    """Pages overlap, and one holds an item twice."""
    items = script.items
    pages = [page([items["a"], items["odd"], items["odd"]], has_more=True), page([items["odd"], items["empty"], items["z"]])]
    script.twist(lambda call: pages[call.number - 1] if call.kind == "list" and call.number <= 2 else None)


def same_moment(script: Script) -> None:
    """Two hundred items of one moment, over many pages."""
    script.page_size = 30
    for number in range(200):
        name = f"r{number}"
        script.contents[name] = b"%d" % number
        script.items[name] = script.item(name, MOMENT)


def acknowledging(apply: Callable[[list[str]], list[str]], steps: Steps, times: int = 1) -> Setup:
    """Acknowledgements that are applied to some of their ids, or to all, and answered so."""

    def setup(script: Script) -> None:
        def turn(call: Call) -> Steps | None:
            if call.kind != "ack" or call.number > times:
                return None
            script.consume(apply(json.loads(call.request.body)["ids"]))
            return steps

        script.twist(turn)

    return setup


def refusing(wrong: Callable[[list[str]], bool], status: int) -> Setup:
    """Batches of which something is wrong are refused."""

    def setup(script: Script) -> None:
        def turn(call: Call) -> Steps | None:
            return answer({}, status) if call.kind == "ack" and wrong(json.loads(call.request.body)["ids"]) else None

        script.twist(turn)

    return setup


def consumed_meanwhile(script: Script) -> None:
    """Another run acknowledges it while this one reads its content."""

    def turn(call: Call) -> Steps | None:
        if call.kind == "content" and call.about == "odd":
            script.items["odd"]["state"] = "consumed"
            return reply(404)
        return None

    script.twist(turn)


def renewed(script: Script) -> None:
    """The listed URL has run out; the result read anew has a good one."""
    fresh = script.item("odd", MOMENT + timedelta(microseconds=1))
    item = script.items["odd"]
    item["signed_url"]["url"] = script.url_of("expired")
    script.twist(lambda call: reply(403) if call.about == "expired" else None)
    script.twist(
        lambda call: answer({**item, "signed_url": fresh["signed_url"]}) if (call.kind, call.about) == ("read", "odd") else None
    )


def redirecting(target: str, hops: int = 1) -> Setup:
    """A redirect, so often; `{bucket}` is where the contents are."""

    def setup(script: Script) -> None:
        script.on("content", reply(302, {"Location": target.format(bucket=script.bucket.url)}), times=hops)

    return setup


def broken(after: int, how: object) -> Setup:
    """A content that breaks off, once."""
    return on("content", [head(200, length=len(ODD)) + ODD[:after], 0.03, how], times=1)  # type: ignore[list-item]


def endless() -> Steps:
    yield head(200)
    while True:
        yield b"x" * 65_536


def without_end(script: Script) -> None:
    script.twist(lambda call: endless() if (call.kind, call.about) == ("content", "odd") else None)


def page_of(body: bytes, status: int = 200, **headers: str) -> Steps:
    return reply(status, {"Content-Type": "application/json", **headers}, body)


def chunked(*chunks: bytes, end: bool) -> list[object]:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return [head(200, {"Transfer-Encoding": "chunked"}) + body + (b"0\r\n\r\n" if end else b""), 0.03, CLOSE]


BOMB = gzip.compress(bytes(64 * 1024 * 1024), 9)
CASES: dict[str, tuple[Setup, Outcome]] = {
    # -- the API
    "fault_001 401": (on("list", answer({"message": TOKEN}, 401)), Fails(TokenRefused)),
    "fault_001 403": (on("list", answer({}, 403)), Fails(TokenRefused)),
    "fault_002 404": (on("list", answer({}, 404)), Fails(SettingsError)),
    "fault_003 seconds": (on("list", reply(429, {"Retry-After": "0.05"}), times=2), STORED),
    "fault_004 past": (on("list", reply(429, {"Retry-After": "Fri, 20 Nov 2026 00:00:00 GMT"}), times=1), STORED),
    "fault_004 negative": (on("list", reply(429, {"Retry-After": "-5"}), times=1), STORED),
    "fault_004 none": (on("list", reply(429, {"Retry-After": "abc"}), times=1), STORED),
    "fault_005 burst": (on("list", answer({}, 500), answer({}, 502), answer({}, 503), answer({}, 504), times=5), STORED),
    "fault_006 for ever": (on("list", answer({"message": TOKEN}, 500)), Fails(ApiUnavailable)),
    "fault_007 login": (
        on("list", reply(200, {"Content-Type": "text/html"}, b"<html>" + TOKEN.encode())),
        Fails(UntrustedAnswer),
    ),
    "fault_008 once": (on("list", page_of(b""), times=1), STORED),
    "fault_008 for ever": (on("list", page_of(b"")), Fails(UntrustedAnswer)),
    "fault_009 once": (on("list", page_of(b'{"data": [{"id": "a", "signed'), times=1), STORED),
    "fault_009 for ever": (on("list", page_of(b'{"data": [{"id": "a", "signed')), Fails(UntrustedAnswer)),
    "fault_010 204": (on("list", reply(204)), Fails(ApiRefused)),
    "fault_010 206": (on("list", page_of(b'{"data": [], "has_more": false}', 206)), Fails(ApiRefused)),
    "fault_011_and_169 redirect": (
        on("list", reply(302, {"Location": f"http://evil.example/?t={TOKEN}"})),
        Fails(ApiRefused),
    ),
    "fault_012 closed": (on("list", [CLOSE]), Fails(ApiUnavailable)),
    "fault_013 head": (on("list", [b"HTTP/1.1 200 OK\r\nContent-", RESET], times=2), STORED),
    "fault_013 body": (on("list", [head(200, length=500) + b'{"data": [', RESET], times=2), STORED),
    "fault_016 silent": (on("list", [head(200, length=500) + b'{"data": [', HANG]), Fails(ApiUnavailable)),
    "fault_017 drips": (on("list", dripping(head(200, length=10**6) + b"{" * 500, 0.02)), Fails(ApiUnavailable)),
    "fault_018 long": (on("list", reply(200, {"X-Long": "x" * 300_000}, b"{}")), Fails(RicloudError)),
    "fault_018 garbage": (on("list", [b"\x16\x03\x01\0\r\n\r\n", CLOSE]), Fails(RicloudError)),
    **{
        f"fault_019 {body.decode()}": (on("list", page_of(body)), Fails(UntrustedAnswer))
        for body in (b"[]", b"null", b'"x"', b"7")
    },
    **{
        f"fault_020 {data}": (on("list", page_of(b'{%b"has_more": false}' % data.encode())), Fails(UntrustedAnswer))
        for data in ("", '"data": null, ', '"data": {}, ')
    },
    "fault_021 some": (acknowledging(lambda ids: ids[:1], answer({"data": ["a"]})), STORED),
    "fault_022 unknown": (acknowledging(lambda ids: ids, reply(200, {}, b"<ok/>")), STORED),
    "fault_022 nothing applied": (acknowledging(lambda ids: [], reply(200, {}, b"\0")), STORED),
    "fault_025 lost": (acknowledging(lambda ids: ids, [RESET]), STORED),
    "fault_026 applied and 500": (acknowledging(lambda ids: ids, answer({}, 500), times=3), STORED),
    "fault_027 413": (refusing(lambda ids: len(ids) > 1, 413), STORED),
    "fault_029 empty": (on("list", page([], has_more=True)), Fails(UntrustedAnswer)),
    "fault_030 circle": (listing_again, Fails(UntrustedAnswer)),
    "fault_032 nothing new": (nothing_new, Fails(UntrustedAnswer)),
    **{
        f"fault_033 {more}": (on("list", page_of(b'{"data": []%b}' % more.encode())), Fails(UntrustedAnswer))
        for more in ("", ', "has_more": "true"', ', "has_more": 1', ', "has_more": null')
    },
    "fault_035 a megabyte": (odd_id(json.dumps("x" * 10**6)), SetAside("malformed")),
    "fault_035 control": (odd_id(r'"o\u0000\u000add"'), SetAside("malformed")),
    "fault_035 page by page": (small_pages, STORED),
    "fault_050 page by page": (both(small_pages, listed(date_created="never")), SetAside("malformed")),
    "fault_036 twice": (twice, STORED),
    "fault_038 in front": (meanwhile(0), STORED),
    "fault_039 behind": (meanwhile(4), STORED),
    **{f"fault_042 {status}": (forgotten(status), STORED) for status in (400, 404, 410)},
    "fault_045 one moment": (same_moment, STORED),
    # -- time
    **{
        f"fault_{number} {created!r}": (listed(date_created=created), SetAside("malformed"))
        for number, created in (
            ("050", None),
            ("050", "yesterday"),
            ("050", "2026-02-30T00:00:00.000001Z"),
            ("050", "2026-11-20T24:00:00.000001Z"),
            ("050", ["2026-11-20T00:00:00Z"]),
            ("052", 1_795_176_000),
            ("052", 1_795_176_000_000),
            ("052", "1795176000"),
        )
    },
    "fault_049 elsewhere": (listed(date_created="9999-12-31T23:59:59Z"), LOST),
    "fault_056 seems expired": (lambda s: s.items["odd"]["signed_url"].update(date_expires="2001-01-01T00:00:00Z"), STORED),
    # -- downloads
    "fault_057 expired": (renewed, STORED),
    "fault_057 for good": (on("content", reply(403)), SetAside("access_denied")),
    "fault_058 gone": (on("content", reply(404)), SetAside("gone")),
    "fault_058 consumed": (consumed_meanwhile, LOST),
    "fault_058 no url": (listed(signed_url=None, url=None), SetAside("no_location")),
    "fault_059 short": (on("content", [head(200, length=len(ODD)) + ODD[:999], CLOSE], times=1), STORED),
    "fault_060 long": (on("content", [head(200, length=len(ODD)) + ODD + b"more", CLOSE]), STORED),
    "fault_062 cut": (on("content", chunked(ODD[:500], ODD[500:999], end=False), times=1), STORED),
    "fault_063 all": (
        on("content", [head(200, length=len(ODD)) + ODD[:999], CLOSE], reply(200, {}, ODD), times=2),
        STORED,
    ),
    "fault_064 elsewhere": (
        on(
            "content",
            [head(200, length=len(ODD)) + ODD[:999], CLOSE],
            reply(206, {"Content-Range": f"bytes 0-{len(ODD) - 1}/{len(ODD)}"}, ODD),
            times=2,
        ),
        STORED,
    ),
    "fault_066 first byte": (broken(1, RESET), STORED),
    "fault_066 middle": (broken(len(ODD) // 2, RESET), STORED),
    "fault_066 last byte": (broken(len(ODD) - 1, RESET), STORED),
    "fault_067 416": (on("content", [head(200, length=len(ODD)) + ODD[:999], CLOSE], reply(416), times=2), STORED),
    "fault_068 said to be gzip": (on("content", reply(200, {"Content-Encoding": "gzip"}, ODD)), STORED),
    "fault_068 bomb": (on("content", reply(200, {"Content-Encoding": "gzip"}, BOMB)), SetAside("size_mismatch")),
    "fault_072 listed empty": (listed(size=0), SetAside("size_mismatch")),
    "fault_073 too much": (listed(size=2**62), SetAside("too_large")),
    "fault_074 endless": (
        lambda s: s.twist(lambda call: endless() if call.about == "odd" else None),
        SetAside("size_mismatch"),
    ),
    "fault_076 slow down": (on("content", reply(503, {"Retry-After": "0"}), times=2), STORED),
    "fault_079 local": (listed(signed_url=None, url="local:///etc/passwd"), SetAside("forbidden_url")),
    # -- integrity
    "fault_080 once": (on("content", reply(200, {}, ODD[::-1]), times=1), STORED),
    "fault_080 for ever": (on("content", reply(200, {}, ODD[::-1])), SetAside("checksum_mismatch")),
    "fault_081 size": (listed(size=len(ODD) + 1), SetAside("size_mismatch")),
    "fault_082 null": (listed(checksum=None), SetAside("checksum_missing")),
    # -- malice
    "fault_142 metadata": (
        lambda s: s.items["odd"]["signed_url"].update(url="http://169.254.169.254/latest/"),
        SetAside("forbidden_url"),
    ),
    "fault_145 a name": (
        lambda s: s.items["odd"]["signed_url"].update(url=f"https://localhost:{s.api.port}/results?{SIGNATURE}"),
        SetAside("forbidden_url"),
    ),
    "fault_146 inside": (redirecting("http://127.0.0.1:1/?s=" + SIGNATURE), SetAside("forbidden_url")),
    "fault_146 file": (redirecting("file:///etc/passwd"), SetAside("forbidden_url")),
    "fault_146 gopher": (redirecting("gopher://127.0.0.1:6379/_x"), SetAside("forbidden_url")),
    "fault_146 nowhere": (on("content", reply(302)), SetAside("redirected")),
    "fault_146 without end": (redirecting("/odd?again=" + SIGNATURE, hops=10**9), SetAside("redirected")),
    "fault_146 twice": (redirecting("{bucket}/odd?again=" + SIGNATURE, hops=2), STORED),
    "fault_150 bucket": (listed(signed_url=None, url="s3://theirs/key"), SetAside("forbidden_url")),
    "fault_152 a hundred thousand deep": (in_odd('"x":' + "[" * 100_000 + "]" * 100_000), Fails(UntrustedAnswer)),
    "fault_152 eight hundred deep": (in_odd('"x":' + "[" * 800 + "]" * 800), STORED),
    "fault_153 digits": (in_odd('"x":' + "9" * 5000), SetAside("malformed")),
    "fault_154 beyond 64 bits": (odd_id("1" + "0" * 600), SetAside("malformed")),
    **{
        f"fault_156 {value}": (in_odd(f'"x":{value}'), SetAside("malformed"))
        for value in ("NaN", "Infinity", "-Infinity", "1e999")
    },
    "fault_157 twice": (in_odd('"size":1'), SetAside("malformed")),
    "fault_157 deeper": (in_odd('"x":{"y":[{"k":1,"k":2}]}'), SetAside("malformed")),
    "fault_158 written": (in_odd(r'"x":"\ud800"'), SetAside("malformed")),
    "fault_158 as a key": (in_odd(r'"\udfff":1'), SetAside("malformed")),
    "fault_159 no utf8": (in_odd('"x":"\xff\xfe"'), SetAside("malformed")),
    "fault_159 byte order mark": (edited("^", "\xef\xbb\xbf"), STORED),
    "fault_159 NUL": (in_odd(r'"x":"a\u0000b"'), STORED),
    **{f"fault_160 {size!r}": (listed(size=size), SetAside("size_missing")) for size in (-1, "12", 1.5, None, 2**63, True)},
    "fault_161 paused": (listed(state="paused"), LOST),
    "fault_162 unknown": (listed(new={"deep": [1, None, {"x": "y"}]}), STORED),
    "fault_163 other types": (listed(identifier=7, type=["x"], poll={"a": 1}, url=False), STORED),
    "fault_164 keys": (listed(many={f"k{n}": n for n in range(30_000)}), STORED),
    "fault_164 text": (listed(identifier="x" * 2_000_000), SetAside("malformed")),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_PAUSE_S", 0.005)
    monkeypatch.setattr(fetch_module, "FIRST_PAUSE_S", 0.005)


def _cases() -> Iterator[object]:
    """Two of each fault by default, and all of them in CI: what differs beyond that is of `wire.py`, and tested there."""
    seen: Counter[str] = Counter()
    for case in CASES:
        seen[case[:9]] += 1
        yield pytest.param(case, marks=pytest.mark.ci) if seen[case[:9]] > 2 else case


@pytest.mark.parametrize("case", list(_cases()))
def test_one_fault_harms_nothing_else_and_the_next_run_is_exact(case, tmp_path, caplog):
    setup, outcome = CASES[case]
    caplog.set_level(logging.DEBUG)
    with Script(CONTENTS) as script:
        setup(script)
        if isinstance(outcome, Fails):
            with pytest.raises(outcome.error) as caught:
                run(script, tmp_path, api_deadline_s=0.6)
            assert_hides(caught.value, TOKEN, SIGNATURE)
            assert script.acknowledged == []
        else:
            report = run(script, tmp_path)
            stored = list(script.contents) if outcome == STORED else OTHERS
            stored = [name for name in stored if name in contents_of(tmp_path)] if "new" in script.contents else stored
            assert set(stored) >= set(NAMES if outcome == STORED else OTHERS)
            script.assert_exact(tmp_path, stored)
            reasons = [row["reason"] for row in rows_of(tmp_path, "quarantine")]
            assert reasons == ([outcome.reason] if isinstance(outcome, SetAside) else [])
            assert report.complete is (not isinstance(outcome, SetAside))
            for text in (repr(report), "\n".join(faults_of(report))):
                assert TOKEN not in text
                assert SIGNATURE not in text
        script.heal()
        report = run(script, tmp_path)
        if case == "fault_058 consumed":  # by another run, of which this lake knows nothing
            script.contents.pop("odd")
        assert report.complete
        script.assert_exact(tmp_path, list(script.contents))
    assert secrets_in(tmp_path) == []
    assert TOKEN not in caplog.text
    assert SIGNATURE not in caplog.text


def test_fault_023_one_id_that_is_refused_keeps_no_other_from_being_acknowledged(tmp_path):
    with Script(CONTENTS) as script:
        refusing(lambda ids: "odd" in ids, 400)(script)
        report = run(script, tmp_path)
        script.assert_exact(tmp_path, NAMES, acknowledged=OTHERS)
        assert report.unconfirmed_ids == ["odd"]
        script.heal()
        assert run(script, tmp_path).complete
        script.assert_exact(tmp_path, NAMES)


def test_fault_012_a_name_that_does_not_resolve(tmp_path):
    with Script(CONTENTS) as script:
        script.environment = lambda: {"RICLOUD_URL": "https://nobody.invalid", "RICLOUD_TOKEN": TOKEN}  # type: ignore[method-assign]
        with pytest.raises(ApiUnavailable, match=r"nobody\.invalid") as caught:
            run(script, tmp_path, api_deadline_s=0.5)
        assert_hides(caught.value, TOKEN)
        assert script.acknowledged == []


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/St_Johns", "Europe/London"])
def test_fault_053_a_machine_in_any_zone_has_the_same_days(tmp_path, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        with Script(CONTENTS) as script:
            script.items["odd"]["date_created"] = "2026-11-20T00:00:00Z"
            script.items["z"]["date_created"] = "2026-11-21T01:00:00+01:00"  # the next day's first instant
            run(script, tmp_path)
            script.assert_exact(tmp_path, ["a", "odd", "empty"])
    finally:
        monkeypatch.undo()
        time.tzset()
    assert {path.name for path in tmp_path.glob("data/contents/*")} == {"created_date=2026-11-20"}


# The two blocks of Wang and others (2004), whose md5 is the same.
ONE, OTHER = (
    bytes.fromhex(
        "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f89"
        "55ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b"
        "d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
        "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
    ),
    bytes.fromhex(
        "d131dd02c5e6eec4693d9a0698aff95c2fcab50712467eab4004583eb8fb7f89"
        "55ad340609f4b30283e4888325f1415a085125e8f7cdc99fd91dbd7280373c5b"
        "d8823e3156348f5bae6dacd436c919c6dd53e23487da03fd02396306d248cda0"
        "e99f33420f577ee8ce54b67080280d1ec69821bcb6a8839396f965ab6ff72a70"
    ),
)


def test_fault_089_two_contents_of_one_md5_are_told_apart_by_their_sha256(tmp_path):
    assert ONE != OTHER
    assert hashlib.md5(ONE).digest() == hashlib.md5(OTHER).digest()
    with Script({"one": ONE, "other": OTHER}) as script:
        run(script, tmp_path)
        script.assert_exact(tmp_path, ["one", "other"])
    rows = {row["result_id"]: row for row in rows_of(tmp_path, "contents")}
    assert rows["one"]["checksum"] == rows["other"]["checksum"]
    assert {name: row["sha256"] for name, row in rows.items()} == {
        "one": hashlib.sha256(ONE).hexdigest(),
        "other": hashlib.sha256(OTHER).hexdigest(),
    }


def test_fault_110_an_error_nobody_foresaw_while_a_content_is_read_fails_the_run(tmp_path, monkeypatch):
    def die(self: Sink, chunk: bytes) -> bool:
        raise RuntimeError("unforeseen")

    with Script(CONTENTS) as script:
        with monkeypatch.context() as patched:
            patched.setattr(Sink, "write", die)
            with pytest.raises(RuntimeError, match="unforeseen"):
                run(script, tmp_path)
        assert script.acknowledged == []
        assert run(script, tmp_path).complete
        script.assert_exact(tmp_path, NAMES)


def bombs() -> dict[str, bytes]:
    """Contents that would harm whoever opened them: archives, images of columns, documents."""
    zipped, columns = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50_000_000))
    pq.write_table(pa.table({"x": pa.array(["y" * 1000]).take(pa.array([0] * 100_000))}), columns)
    return {
        "zip": zipped.getvalue(),
        "parquet": columns.getvalue(),
        "gzip": BOMB,
        "deep": b'{"data": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
        "entities": b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><x>&b;</x>',
    }


@pytest.mark.parametrize("kind", [None, "json", "parquet"])
def test_faults_170_and_171_contents_are_bytes_whatever_they_are(tmp_path, kind):
    with Script(bombs()) as script:
        for item in script.items.values():
            item["type"] = kind
        report = run(script, tmp_path)
        script.assert_exact(tmp_path, list(script.contents))
        assert (report.quarantined, report.failed) == (0, 0)
    reasons = {row["result_id"]: row["reason"] for row in rows_of(tmp_path, "quarantine")}
    assert reasons.keys() == {"json": script.contents.keys(), None: {"deep"}}.get(kind, set())
    assert all(reason.startswith("records_") for reason in reasons.values())
    assert rows_of(tmp_path, "records") == []


def test_fault_172_of_thousands_of_errors_some_are_named_and_all_are_counted(tmp_path):
    count = 3000
    with Script(CONTENTS) as script:
        for number in range(count):
            script.items[f"bad{number}"] = {**script.items["a"], "id": f"bad{number}", "size": -1}
        report = run(script, tmp_path)
        script.assert_exact(tmp_path, NAMES)
        assert (report.quarantined, len(report.rejections)) == (count, NAMED_AT_MOST)
        told = list(faults_of(report))
        assert len(told) <= NAMED_AT_MOST + 2
        assert str(count - NAMED_AT_MOST) in told[-1]
        assert len({row["result_id"] for row in rows_of(tmp_path, "quarantine")}) == count
