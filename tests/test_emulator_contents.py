"""The emulated contents' host: signatures, ranges, a bucket's errors. Talks to an emulator over loopback."""

import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ricloud_connector.emulator import Behaviour, Emulator, PublishedResult
from ricloud_connector.emulator.bucket import find_expiry, is_portable
from ricloud_connector.emulator.contents import CHUNK_BYTES, parse_range

# Nothing here speaks TLS, but httpx loads the system's certificates for each client that is given none.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
BIG = bytes(range(251)) * 5000
assert len(BIG) > 2 * CHUNK_BYTES


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def emulator(clock: Clock) -> Iterator[Emulator]:
    with Emulator(results=0, clock=clock) as emulator:
        yield emulator


def sign(emulator: Emulator, result: PublishedResult) -> str:
    """A fresh signed URL of a result."""
    headers = {"Authorization": f"Token {emulator.token}"}
    response = httpx.get(f"{emulator.url}/results/{result.id}", headers=headers, verify=TLS, trust_env=False)
    url: str = response.raise_for_status().json()["signed_url"]["url"]
    return url


def read(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, verify=TLS, trust_env=False)


def code_of(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/xml"
    return response.text.partition("<Code>")[2].partition("</Code>")[0]


@pytest.mark.parametrize("content", [b"", b"x", b"12345" * 1000, BIG], ids=["empty", "one", "small", "big"])
def test_contents_are_served_whole(emulator: Emulator, content: bytes) -> None:
    result = emulator.add_result(content=content)
    response = read(sign(emulator, result))
    assert response.status_code == 200
    assert response.content == content == result.path.read_bytes()
    assert response.headers["content-length"] == str(len(content))
    assert response.headers["accept-ranges"] == "bytes"
    assert "content-encoding" not in response.headers
    assert response.headers["etag"].strip('"') != hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert result.md5 == result.checksum == hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_contents_can_come_from_a_file(emulator: Emulator, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(BIG)
    result = emulator.add_result(content=source)
    source.unlink()
    assert read(sign(emulator, result)).content == BIG
    assert result.size == result.byte_size == len(BIG)


def test_host_is_another_than_the_api_s(emulator: Emulator) -> None:
    result = emulator.add_result(content=b"x")
    url = urlsplit(sign(emulator, result))
    assert url.netloc == emulator.contents_host
    assert url.netloc != urlsplit(emulator.url).netloc
    assert httpx.get(f"http://{emulator.contents_host}/results", verify=TLS, trust_env=False).status_code == 403


def test_credentials_beside_a_signature_are_refused(emulator: Emulator) -> None:
    url = sign(emulator, emulator.add_result(content=b"x"))
    response = read(url, Authorization=f"Token {emulator.token}")
    assert (response.status_code, code_of(response)) == (400, "InvalidArgument")
    assert emulator.requests[-1].headers["authorization"] == f"Token {emulator.token}"


def test_signature_expires_and_is_renewed_by_reading_the_result(emulator: Emulator, clock: Clock) -> None:
    result = emulator.add_result(content=b"x")
    first = sign(emulator, result)
    clock.now += 3599.9
    assert read(first).status_code == 200
    second = sign(emulator, result)
    assert second != first
    clock.now += 1
    response = read(first)
    assert (response.status_code, code_of(response)) == (403, "AccessDenied")
    assert "expired" in response.text
    assert read(second).content == b"x"


def test_signature_lasts_as_long_as_the_behaviour_says(emulator: Emulator, clock: Clock) -> None:
    result = emulator.add_result(content=b"x")
    emulator.behaviour = Behaviour(signature_lifetime_s=5)
    url = sign(emulator, result)
    clock.now += 5
    assert read(url).status_code == 200
    clock.now += 1
    assert read(url).status_code == 403
    emulator.behaviour = Behaviour(signature_lifetime_s=0)
    assert read(sign(emulator, result)).status_code == 403


def test_date_expires_is_the_moment_of_the_signature(emulator: Emulator) -> None:
    result = emulator.add_result(content=b"x")
    headers = {"Authorization": f"Token {emulator.token}"}
    signed = httpx.get(f"{emulator.url}/results/{result.id}", headers=headers, verify=TLS, trust_env=False).json()["signed_url"]
    assert signed.keys() == {"url", "date_expires"}
    assert "Expires=1800003601&" in signed["url"]
    assert signed["date_expires"] == "2027-01-15T09:00:01Z"


@given(now=st.floats(0, 2e9), lifetime=st.floats(0, 1e6))
def test_expiry_is_never_sooner_than_promised(now: float, lifetime: float) -> None:
    expiry = find_expiry(now, lifetime)
    assert expiry <= now if lifetime == 0 else now + lifetime <= expiry <= now + lifetime + 1


def test_tampered_signatures_are_refused(emulator: Emulator) -> None:
    result, other = emulator.add_result(content=b"x"), emulator.add_result(content=b"y")
    url = sign(emulator, result)
    base, query = url.split("?")
    expires, signature = query.split("&")
    other_base = sign(emulator, other).split("?")[0]
    last = "0" if signature[-1] != "0" else "1"
    expected = {
        base: "AccessDenied",
        f"{base}?{expires}": "AccessDenied",
        f"{base}?{signature}": "AccessDenied",
        f"{base}?Expires=soon&{signature}": "AccessDenied",
        f"{base}?Expires=99999999999999&{signature}": "AccessDenied",
        f"{base}?Expires=1900000000&{signature}": "SignatureDoesNotMatch",
        f"{base}?{expires}&{signature[:-1]}{last}": "SignatureDoesNotMatch",
        f"{base}?{expires}&Signature=%FF%00": "SignatureDoesNotMatch",
        f"{other_base}?{query}": "SignatureDoesNotMatch",
        f"{base}/x?{query}": "SignatureDoesNotMatch",
    }
    for tampered, code in expected.items():
        response = read(tampered)
        assert (response.status_code, code_of(response)) == (403, code), tampered
        assert response.text.startswith("<?xml")
    assert httpx.head(url, verify=TLS, trust_env=False).status_code == 403
    assert httpx.put(url, content=b"z", verify=TLS, trust_env=False).status_code == 403
    assert read(url).content == b"x"


def test_missing_object_is_404_with_a_good_signature(emulator: Emulator) -> None:
    result = emulator.add_result(content=b"x")
    url = sign(emulator, result)
    result.path.unlink()
    response = read(url)
    assert (response.status_code, code_of(response)) == (404, "NoSuchKey")


def test_file_is_the_truth_once_it_is_written(emulator: Emulator) -> None:
    result = emulator.add_result(content=b"good")
    url = sign(emulator, result)
    tag = read(url).headers["etag"]
    result.path.write_bytes(b"rotten")
    response = read(url)
    assert response.content == b"rotten"
    assert response.headers["etag"] != tag
    assert result.md5 == hashlib.md5(b"good", usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", range(1)),
        ("bytes=5-9", range(5, 10)),
        ("bytes=5-", range(5, 10)),
        ("bytes=5-500", range(5, 10)),
        ("bytes=-3", range(7, 10)),
        ("bytes=-300", range(10)),
    ],
)
def test_ranges_are_served(emulator: Emulator, header: str, expected: range) -> None:
    response = read(sign(emulator, emulator.add_result(content=b"0123456789")), Range=header)
    assert response.status_code == 206
    assert response.content == b"0123456789"[expected.start : expected.stop]
    assert response.headers["content-range"] == f"bytes {expected.start}-{expected.stop - 1}/10"
    assert response.headers["content-length"] == str(len(expected))


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=999999999999999999-"])
def test_range_past_the_end_is_416(emulator: Emulator, header: str) -> None:
    response = read(sign(emulator, emulator.add_result(content=b"0123456789")), Range=header)
    assert (response.status_code, code_of(response)) == (416, "InvalidRange")
    assert response.headers["content-range"] == "bytes */10"


@pytest.mark.parametrize("header", ["bytes=", "bytes=-", "bytes=5-3", "bytes=0-1,3-4", "items=0-1", "0-1", "bytes=a-b"])
def test_range_that_is_none_is_ignored(emulator: Emulator, header: str) -> None:
    response = read(sign(emulator, emulator.add_result(content=b"0123456789")), Range=header)
    assert (response.status_code, response.content) == (200, b"0123456789")


def test_empty_object_has_no_range(emulator: Emulator) -> None:
    assert read(sign(emulator, emulator.add_result(content=b"")), Range="bytes=0-").status_code == 416


def test_big_content_can_be_resumed_anywhere(emulator: Emulator) -> None:
    url = sign(emulator, emulator.add_result(content=BIG))
    for start in (1, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 1, len(BIG) - 1):
        response = read(url, Range=f"bytes={start}-")
        assert response.status_code == 206
        assert response.content == BIG[start:]


def test_resuming_can_be_made_conditional(emulator: Emulator) -> None:
    result = emulator.add_result(content=b"0123456789")
    url = sign(emulator, result)
    whole = read(url)
    tag = whole.headers["etag"]
    assert read(url, Range="bytes=5-", **{"If-Range": tag}).content == b"56789"
    assert read(url, Range="bytes=5-", **{"If-Range": whole.headers["last-modified"]}).status_code == 206
    assert read(url, **{"If-Match": tag}).status_code == 200
    result.path.write_bytes(b"9876543210!")
    changed = read(url, Range="bytes=5-", **{"If-Range": tag})
    assert (changed.status_code, changed.content) == (200, b"9876543210!")
    refused = read(url, **{"If-Match": tag})
    assert (refused.status_code, code_of(refused)) == (412, "PreconditionFailed")


@given(size=st.integers(0, 50), first=st.none() | st.integers(0, 60), last=st.none() | st.integers(0, 60))
def test_parsed_range_always_lies_inside(size: int, first: int | None, last: int | None) -> None:
    asked = parse_range(f"bytes={'' if first is None else first}-{'' if last is None else last}", size)
    if asked is not None:
        assert all(0 <= place < size for place in asked)
        assert list(asked) == [
            place
            for place in range(size)
            if (place >= first and (last is None or place <= last) if first is not None else place >= size - (last or 0))
        ]


@pytest.mark.parametrize(
    "identifier",
    [
        "CameraRollDomain/Media/DCIM/100APPLE/IMG_0001.JPG",
        "Größe & Söhne/Фото 東京 ☕.jpg",
        "a+b=c? #1 100%.jpg",
        'It\'s "here".png',
        "%2e%2e%2f",
        "a;b,c:d@e!f$g*(h)~[i]{j}|k^l`m<n>",
        "🚗/مرحبا",
        # Not to be had as a key: the object gets a name of its own.
        "../../etc/passwd",
        "a//b",
        "/absolute",
        "trailing/",
        "a\\b",
        "nul\0byte",
        "line\nbreak",
        "surrogate\ud800",
        "",
        "x" * 5000,
    ],
)
def test_any_identifier_can_be_read(emulator: Emulator, identifier: str) -> None:
    result = emulator.add_result(content=b"here", identifier=identifier)
    assert read(sign(emulator, result)).content == b"here"
    assert result.path.parent == emulator.bucket
    key = result.url.removeprefix("s3://ricloud-emulator/")
    assert is_portable(key)
    assert key.endswith(identifier) == is_portable(f"x/{identifier}") or not identifier


def test_what_the_api_says_can_be_overridden(emulator: Emulator) -> None:
    emulator.add_result(
        id=7,
        content=b"x",
        checksum="0" * 32,
        size=99,
        url="gs://elsewhere/key",
        type="jpg",
        poll=3,
        date_created="garbage",
        fields={"identifier": None, "state": "archived", "colour": [1, {"a": None}], "date_consumed": 5},
        without=("task", "date_deleted"),
    )
    headers = {"Authorization": f"Token {emulator.token}"}
    item = httpx.get(f"{emulator.url}/results", headers=headers, verify=TLS, trust_env=False).json()["data"][0]
    assert {name: value for name, value in item.items() if name not in ("signed_url", "organisation")} == {
        "id": 7,
        "resource": "result",
        "poll": 3,
        "identifier": None,
        "url": "gs://elsewhere/key",
        "type": "jpg",
        "checksum": "0" * 32,
        "size": 99,
        "date_created": "garbage",
        "colour": [1, {"a": None}],
        "state": "archived",
        "date_consumed": 5,
    }
    fact = emulator.results()[0]
    assert (fact.md5, fact.byte_size, fact.checksum, fact.size) == (hashlib.md5(b"x").hexdigest(), 1, "0" * 32, 99)
    assert emulator.add_result(content=b"x", signed=False).signed is False


def test_content_served_to_64_connections_at_once(emulator: Emulator) -> None:
    results = [emulator.add_result(content=bytes([number]) * (4096 + number * 997)) for number in range(64)]
    urls = [sign(emulator, result) for result in results]
    start = threading.Barrier(64)

    def fetch(number: int) -> bool:
        with httpx.Client(verify=TLS, trust_env=False) as client:
            start.wait()
            bodies = [client.get(urls[(number + step) % 64]).content for step in range(4)]
        return all(body == results[(number + step) % 64].path.read_bytes() for step, body in enumerate(bodies))

    with ThreadPoolExecutor(64) as pool:
        assert all(pool.map(fetch, range(64)))
    assert len([request for request in emulator.requests if request.server == "contents"]) == 256


def test_reader_that_goes_away_leaves_the_host_well(emulator: Emulator) -> None:
    result = emulator.add_result(content=BIG * 8)
    url = sign(emulator, result)
    target = urlsplit(url)
    with socket.create_connection((target.hostname, target.port)) as connection:
        connection.sendall(f"GET {target.path}?{target.query} HTTP/1.1\r\nHost: {target.netloc}\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert read(url).content == BIG * 8
