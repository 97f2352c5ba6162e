"""The API's client against servers that break every rule: what is asked again, how long, and what is never shown."""

import base64
import gzip
import json
import logging
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import certifi
import pytest

from ricloud_connector import client as client_module
from ricloud_connector import wire
from ricloud_connector.client import LARGE_BODY_BYTES, RicloudClient
from ricloud_connector.errors import (
    ApiError,
    ApiRefused,
    ApiUnavailable,
    SettingsError,
    TokenRefused,
    UntrustedAnswer,
)
from ricloud_connector.model import Result
from ricloud_connector.redact import Secret
from tests.canary import assert_hides
from tests.certificates import EXPIRED, GOOD, OTHER_HOST, server_context, write_bundle
from tests.hostile_server import (
    CLOSE,
    HANG,
    RESET,
    HostileServer,
    Reply,
    answer,
    dripping,
    head,
    page,
    reply,
)
from tests.test_wire import SIGNED, make_item

TOKEN = Secret("canary/tok+en==")
SIGNATURE = SIGNED.rpartition("=")[2]
GOOD_PAGE = page([make_item()])


class Sleeps(list[float]):
    """A sleep that only remembers."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def open_client(server: HostileServer, **options: object) -> RicloudClient:
    return RicloudClient(server.url, TOKEN, **({"deadline_s": 5.0} | options))  # type: ignore[arg-type]


def read_list(*replies: Reply, **options: object) -> tuple[list[str], HostileServer]:
    """The ids that a server with these replies lists."""
    with HostileServer(*replies) as server, open_client(server, **options) as client:
        return [item.id for item in client.list_results() if isinstance(item, Result)], server


def fail_list(*replies: Reply, **options: object) -> tuple[ApiError, HostileServer]:
    """The error in which a listing of such a server ends, with nothing secret in it."""
    with (
        HostileServer(*replies) as server,
        open_client(server, **options) as client,
        pytest.raises((ApiError, SettingsError)) as caught,
    ):
        list(client.list_results())
    assert_hides(caught.value, TOKEN.reveal(), SIGNATURE)
    assert server.requests or not replies
    return caught.value, server  # type: ignore[return-value]


# -- what is sent


def test_a_request_carries_the_token_and_nothing_else_of_ours():
    _, server = read_list(GOOD_PAGE)
    (request,) = server.requests
    assert request.method == "GET"
    assert request.target == "/results?limit=1000&state=available"
    assert request.headers["authorization"] == f"Token {TOKEN.reveal()}"
    assert set(request.headers) == {"host", "authorization", "accept", "accept-encoding", "user-agent", "connection"}


def test_acknowledgements_are_posted_as_json():
    with HostileServer(answer({})) as server, open_client(server) as client:
        client.send_acknowledgements([1, "1", 10**25])
    (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/results/ack")
    assert request.body.replace(b" ", b"") == b'{"ids":[1,"1",10000000000000000000000000]}'
    assert request.headers["content-type"] == "application/json"
    assert "expect" not in request.headers


def test_fault_035_cursors_and_ids_are_encoded():
    weird = "a&b=c d/../e?f#g%2e\u00e9"
    pages = (page([make_item(id=weird)], has_more=True), page([]))
    _, server = read_list(*pages)
    query = server.requests[1].target.partition("?")[2]  # a space may be written in two ways
    assert query.replace("+", "%20").endswith("after_id=a%26b%3Dc%20d%2F..%2Fe%3Ff%23g%252e%C3%A9")
    with HostileServer(answer(make_item(id=weird))) as server, open_client(server) as client:
        client.retrieve_result(weird)
    assert server.requests[0].target == "/results/a%26b%3Dc%20d%2F..%2Fe%3Ff%23g%252e%C3%A9"


def test_a_base_path_stays():
    with HostileServer(GOOD_PAGE) as server, RicloudClient(server.url + "/v1/", TOKEN) as client:
        assert len(list(client.list_results())) == 1
    assert server.requests[0].target.startswith("/v1/results?")


def test_cookies_are_not_kept():
    _, server = read_list([head(200, {"Set-Cookie": "a=b; Path=/"}, 0), CLOSE], GOOD_PAGE, sleep=Sleeps())
    assert len(server.requests) == 2
    assert all("cookie" not in request.headers for request in server.requests)


def test_one_connection_serves_many_calls():
    with HostileServer(GOOD_PAGE) as server, open_client(server) as client:
        for _ in range(5):
            list(client.list_results())
    assert (len(server.requests), server.connections) == (5, 1)


def test_a_connection_that_died_while_it_was_idle_costs_nothing():
    sleeps = Sleeps()
    with HostileServer([*GOOD_PAGE, CLOSE]) as server, open_client(server, sleep=sleeps) as client:
        for _ in range(3):
            assert len(list(client.list_results())) == 1
            time.sleep(0.05)
    assert sleeps == []


def test_threads_do_not_meet():
    def echo(request):
        return answer(make_item(id=request.target.rpartition("/")[2]))

    with HostileServer(echo) as server, open_client(server) as client, ThreadPoolExecutor(8) as pool:
        ids = [str(number) for number in range(200)]
        assert [found.id for found in pool.map(client.retrieve_result, ids) if isinstance(found, Result)] == ids
        assert server.connections <= 8


# -- what is asked again


@pytest.mark.parametrize("status", [401, 403])
def test_fault_001_a_refused_token_fails_at_once(status):
    error, server = fail_list(answer({"error": "denied", "message": f"no {TOKEN.reveal()}"}, status))
    assert isinstance(error, TokenRefused)
    assert "RICLOUD_TOKEN" in str(error)
    assert len(server.requests) == 1


def test_fault_002_a_wrong_base_path_is_a_setting():
    error, server = fail_list(reply(404, body=b"<h1>Not Found</h1>"))
    assert isinstance(error, SettingsError)
    assert "RICLOUD_URL" in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("seconds", [6, 120, 300])
def test_fault_003_a_wait_that_is_asked_for_is_kept_even_beyond_the_deadline(status, seconds):
    sleeps = Sleeps()
    ids, _ = read_list(reply(status, {"Retry-After": str(seconds)}), GOOD_PAGE, sleep=sleeps, deadline_s=2.0)
    assert ids == ["5f0c"]
    assert sleeps == [seconds]


def test_fault_003_waits_are_kept_more_than_once_and_not_for_ever():
    sleeps = Sleeps()
    error, _ = fail_list(reply(429, {"Retry-After": "110"}), sleep=sleeps, deadline_s=2.0)
    assert isinstance(error, ApiUnavailable)
    assert sleeps == [110, 110]
    sleeps.clear()
    error, _ = fail_list(reply(429, {"Retry-After": "6"}), sleep=sleeps, deadline_s=2.0)
    assert 49 <= len(sleeps) <= 51


def test_fault_004_a_wait_has_an_upper_bound():
    sleeps = Sleeps()
    error, _ = fail_list(reply(429, {"Retry-After": "1000000000"}), sleep=sleeps)
    assert isinstance(error, ApiUnavailable)
    assert sleeps == [300]


@pytest.mark.parametrize("written", ["0", "-5", "abc", "", "nan", "Thu, 01 Jan 1970 00:00:00 GMT", "0.0000001"])
def test_fault_004_a_wait_of_nothing_is_no_busy_loop(written):
    started = time.monotonic()
    error, server = fail_list(reply(429, {"Retry-After": written, "Date": "Fri, 20 Nov 2026 10:00:00 GMT"}), deadline_s=0.3)
    assert isinstance(error, ApiUnavailable)
    assert time.monotonic() - started < 1.0
    assert 2 <= len(server.requests) <= 8


def test_fault_005_a_burst_of_errors_is_passed_with_growing_pauses():
    sleeps = Sleeps()
    ids, _ = read_list(*(reply(status) for status in (500, 502, 503, 504, 500)), GOOD_PAGE, sleep=sleeps, deadline_s=30.0)
    assert ids == ["5f0c"]
    assert len(sleeps) == 5
    for attempt, pause in enumerate(sleeps):
        assert 0.04 < pause <= 0.1 * 2**attempt
    assert len(set(sleeps)) == 5


def test_fault_006_errors_without_end_fail_within_the_deadline():
    started = time.monotonic()
    error, server = fail_list(reply(500, body=b"no"), deadline_s=0.6)
    assert isinstance(error, ApiUnavailable)
    assert "HTTP 500" in str(error)
    assert time.monotonic() - started < 1.2
    assert len(server.requests) >= 2


@pytest.mark.parametrize(("pause_s", "over"), [(8.5, False), (9.5, True), (10.5, True)])
def test_fault_006_no_last_try_without_time_for_an_answer(pause_s, over):
    # Its own time-out would hide what the tries before it were told.
    state = SimpleNamespace(upcoming_sleep=pause_s, outcome=None)
    assert client_module._Patience(10.0).is_over(state) == over  # type: ignore[arg-type]


def test_fault_007_a_login_page_is_not_asked_for_again():
    error, server = fail_list(reply(200, {"Content-Type": "text/html"}, b"<html>Log in" + TOKEN.reveal().encode()))
    assert isinstance(error, UntrustedAnswer)
    assert "Log in" in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"", GOOD_PAGE[0].partition(b"\r\n\r\n")[2][:-30]])
def test_fault_008_and_009_an_answer_cut_short_is_asked_for_again(body):
    ids, server = read_list(reply(200, {"Content-Type": "application/json"}, body), GOOD_PAGE, sleep=Sleeps())
    assert ids == ["5f0c"]
    error, server = fail_list(reply(200, {"Content-Type": "application/json"}, body), deadline_s=0.4)
    assert isinstance(error, UntrustedAnswer)
    assert len(server.requests) > 1


@pytest.mark.parametrize("broken", [answer([]), answer(None), answer({"data": {}, "has_more": False}), answer({"data": []})])
def test_fault_019_020_and_033_a_page_of_another_shape_is_not_asked_for_again(broken):
    error, server = fail_list(broken)
    assert isinstance(error, UntrustedAnswer)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [204, 206, 418])
def test_fault_010_other_answers_are_refused_at_once(status):
    error, server = fail_list([head(status, {}, 0)] if status != 204 else [head(204)])
    assert isinstance(error, ApiRefused)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_fault_011_a_redirect_is_not_followed(status):
    with HostileServer(GOOD_PAGE) as elsewhere:
        error, server = fail_list(reply(status, {"Location": f"{elsewhere.url}/login?t={TOKEN.reveal()}"}))
        assert isinstance(error, ApiRefused)
        assert f"{elsewhere.url}/login" in str(error)
        assert elsewhere.connections == 0
        assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid"])
def test_fault_012_nobody_there(url):
    with RicloudClient(url, TOKEN, deadline_s=0.4) as client:
        started = time.monotonic()
        with pytest.raises(ApiUnavailable) as caught:
            client.retrieve_result("a")
        assert time.monotonic() - started < 2.0
        assert not caught.value.connected
        assert client.requests > 1
        assert_hides(caught.value, TOKEN.reveal())


@pytest.mark.parametrize(
    "broken",
    [
        [RESET],
        [CLOSE],
        [b"HTTP/1.1 200 OK\r\nContent-Le", RESET],
        [head(200, {}, 500) + b'{"data": ', RESET],
        [head(200, {}, 500) + b'{"data": ', CLOSE],
        [head(200, {"Transfer-Encoding": "chunked"}) + b'5\r\n{"dat', CLOSE],
        [head(200, {"Transfer-Encoding": "chunked"}) + b"zz\r\n{}\r\n0\r\n\r\n", CLOSE],
        [head(200, {"Content-Encoding": "gzip"}, 4) + b"\x1f\x8b\xff\xff", CLOSE],
        [b"\x00\x01\x02 nonsense\r\n\r\n", CLOSE],
        [b"HTTP/1.1 200 OK\r\nContent-Length: nine\r\n\r\n{}", CLOSE],
    ],
)
def test_fault_013_a_broken_connection_is_asked_again(broken):
    ids, _ = read_list(broken, broken, GOOD_PAGE, sleep=Sleeps())
    assert ids == ["5f0c"]
    error, _ = fail_list(broken, deadline_s=0.25)
    assert isinstance(error, ApiUnavailable)
    assert error.connected


def test_a_compressed_page_is_read():
    body = gzip.compress(GOOD_PAGE[0].partition(b"\r\n\r\n")[2])
    ids, _ = read_list(reply(200, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, body))
    assert ids == ["5f0c"]


def test_fault_040_an_answer_is_cut_where_it_becomes_too_large(monkeypatch):
    monkeypatch.setattr(client_module, "MAX_BODY_BYTES", 100_000)
    endless = head(200, {"Transfer-Encoding": "chunked"}) + b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n"
    bomb = reply(200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 5_000_000))
    for steps in ([endless, *[b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n"] * 2000], bomb):
        error, server = fail_list(steps)
        assert isinstance(error, UntrustedAnswer)
        assert "larger than 100000 bytes" in str(error)
        assert len(server.requests) == 1


@pytest.mark.parametrize("encoding", ["gzip, gzip", "deflate", "br", "zstd", "GZIP,identity"])
def test_fault_068_encodings_that_were_not_asked_for_are_not_undone(encoding):
    """Each that is stacked on another would be a thousandfold, in one piece."""
    body = gzip.compress(gzip.compress(bytes(10_000_000)))
    error, server = fail_list(reply(200, {"Content-Encoding": encoding}, body))
    assert isinstance(error, UntrustedAnswer)
    assert "encoded as" in str(error)
    assert [request.headers["accept-encoding"] for request in server.requests] == ["gzip"]


@pytest.mark.parametrize(("size", "together"), [(LARGE_BODY_BYTES + 1, 1), (LARGE_BODY_BYTES, 8)])
def test_fault_164_one_large_answer_is_parsed_at_a_time(size, together):
    """However many listings are under way: what they hold together is bounded."""
    with HostileServer(reply(200, {}, bytes(size))) as server, open_client(server) as client:
        under_way, most = [], []

        def parse(*_: object) -> None:
            under_way.append(1)
            time.sleep(0.02 if together == 1 else 0.5)
            most.append(len(under_way))
            time.sleep(0.02)
            under_way.pop()

        ends = time.monotonic() + 10
        threads = [
            threading.Thread(target=client._ask, args=(wire.list_request(None, "available", None), parse, ends))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(most) == 8
    assert (max(most) == 1) == (together == 1)


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """Every certificate of the tests is a root."""
    bundle = write_bundle(tmp_path)
    monkeypatch.setattr(certifi, "where", lambda: str(bundle))


def test_tls_works_at_all(roots, tmp_path):
    with HostileServer(GOOD_PAGE, tls=server_context(tmp_path, GOOD)) as server, open_client(server) as client:
        assert len(list(client.list_results())) == 1


@pytest.mark.parametrize("certificate", [EXPIRED, OTHER_HOST], ids=["expired", "other host"])
def test_fault_014_a_certificate_that_is_not_valid_ends_it_at_once(roots, tmp_path, certificate):
    with HostileServer(GOOD_PAGE, tls=server_context(tmp_path, certificate)) as server, open_client(server) as client:
        with pytest.raises(ApiRefused, match="certificate is not valid"):
            list(client.list_results())
        assert (server.requests, server.connections) == ([], 1)


def test_fault_014_a_certificate_of_nobody_s_ends_it_at_once(tmp_path):
    with HostileServer(GOOD_PAGE, tls=server_context(tmp_path, GOOD)) as server, open_client(server) as client:
        with pytest.raises(ApiRefused, match="certificate is not valid"):
            list(client.list_results())
        assert (server.requests, server.connections) == ([], 1)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_fault_014_an_old_tls_is_not_spoken(roots, tmp_path):
    tls = server_context(tmp_path, GOOD, ssl.TLSVersion.TLSv1_1)
    with HostileServer(GOOD_PAGE, tls=tls) as server, open_client(server, deadline_s=0.5) as client:
        with pytest.raises(ApiUnavailable):
            list(client.list_results())
        assert server.requests == []
        assert server.connections < 8


def test_fault_015_proxies_and_passwords_of_the_surroundings_are_ignored(monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password netrc-word\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with HostileServer(reply(200)) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        ids, server = read_list(GOOD_PAGE)
        assert ids == ["5f0c"]
        assert server.requests[0].headers["authorization"] == f"Token {TOKEN.reveal()}"
        assert proxy.connections == 0


def test_a_proxy_of_the_settings_is_used():
    with HostileServer(GOOD_PAGE) as proxy, RicloudClient("http://api.invalid", TOKEN, proxy=proxy.url) as client:
        assert len(list(client.list_results())) == 1
        assert proxy.requests[0].target.startswith("http://api.invalid/results?")


def test_a_proxy_may_want_a_password_and_nobody_sees_it():
    with HostileServer(GOOD_PAGE, reply(407)) as proxy:
        url = proxy.url.replace("//", f"//user:{SIGNATURE}@")
        with RicloudClient("http://api.invalid", TOKEN, proxy=url, deadline_s=0.5) as client:
            assert len(list(client.list_results())) == 1
            with pytest.raises(ApiError) as caught:
                list(client.list_results())
            assert SIGNATURE not in repr(client)
    assert (
        base64.b64decode(proxy.requests[0].headers["proxy-authorization"].removeprefix("Basic "))
        == f"user:{SIGNATURE}".encode()
    )
    assert_hides(caught.value, SIGNATURE)


# -- time


def assert_ends_in_time(*replies: Reply, deadline_s: float = 0.3) -> ApiError:
    started = time.monotonic()
    error, _ = fail_list(*replies, deadline_s=deadline_s)
    took = time.monotonic() - started
    assert isinstance(error, ApiUnavailable)
    assert took < deadline_s + 0.5
    return error


def test_fault_016_a_server_that_says_nothing_more():
    assert_ends_in_time([HANG])
    assert_ends_in_time([head(200, {}, 100) + b"{", HANG])
    assert assert_ends_in_time([b"HTTP/1.1 200 OK\r\n", HANG]).connected


@pytest.mark.parametrize(
    "steps",
    [
        dripping(b"HTTP/1.1 200 " + b"O" * 1000, 0.05),
        dripping(head(200, {"X-Long": "x" * 1000}, 0), 0.05),
        [head(200, {}, 5000), *dripping(b" " * 1000, 0.05)],
        [head(200, {"Transfer-Encoding": "chunked"}), *[b"1\r\n \r\n", 0.05] * 200],
        [step for _ in range(200) for step in (b"HTTP/1.1 100 Continue\r\n\r\n", 0.05)],
        [step for _ in range(200) for step in (b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n", 0.05)],
    ],
    ids=["status", "headers", "body", "chunks", "continue", "hints"],
)
def test_fault_017_a_server_that_drips_outlives_no_deadline(steps):
    assert_ends_in_time(steps)


def test_fault_017_a_server_that_accepts_and_never_speaks_tls():
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, RicloudClient(f"https://127.0.0.1:{listener.getsockname()[1]}", TOKEN, deadline_s=0.5) as client:
        started = time.monotonic()
        with pytest.raises(ApiUnavailable):
            client.retrieve_result("a")
        assert time.monotonic() - started < 1.0


@pytest.mark.parametrize("headers", [{"X-Long": "x" * 300_000}, {f"X-{number}": "x" * 1000 for number in range(300)}])
def test_fault_018_headers_without_end_are_a_typed_error(headers):
    error, _ = fail_list([head(200, headers, 0)], deadline_s=0.5)
    assert isinstance(error, ApiError)


def test_a_signal_ends_a_call_that_waits_and_the_client_goes_on():
    class Alarm(Exception):
        pass

    def ring(*_: object) -> None:
        raise Alarm

    former = signal.signal(signal.SIGALRM, ring)
    try:
        with HostileServer([HANG], GOOD_PAGE) as server, open_client(server, deadline_s=30.0) as client:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            started = time.monotonic()
            with pytest.raises(Alarm):
                list(client.list_results())
            assert time.monotonic() - started < 2.0
            assert len(list(client.list_results())) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


# -- one result, acknowledgements


@pytest.mark.parametrize("item", [make_item(id="other"), make_item(id=5), make_item(id="5f0C"), make_item(id="5f0c ")])
def test_a_result_that_is_another_is_not_believed(item):
    with HostileServer(answer(item)) as server, open_client(server) as client, pytest.raises(UntrustedAnswer):
        client.retrieve_result("5f0c")


def test_an_id_may_be_a_number():
    with HostileServer(answer(make_item(id=10**30))) as server, open_client(server) as client:
        found = client.retrieve_result(str(10**30))
        assert isinstance(found, Result)
        assert found.wire_id == 10**30


@pytest.mark.parametrize("status", [404, 410])
def test_an_unknown_result_is_refused_with_its_status(status):
    with HostileServer(answer({"error": "not_found", "message": ""}, status)) as server, open_client(server) as client:
        with pytest.raises(ApiRefused) as caught:
            client.retrieve_result("a")
        assert caught.value.status == status
        assert len(server.requests) == 1


@pytest.mark.parametrize("broken", [[RESET], [CLOSE], [head(200, {}, 50), CLOSE], reply(502), reply(503, {"Retry-After": "0"})])
def test_fault_025_and_026_an_acknowledgement_whose_answer_is_lost_is_sent_again(broken):
    with HostileServer(broken, answer({})) as server, open_client(server, sleep=Sleeps()) as client:
        client.send_acknowledgements([1, "b"])
    assert [json.loads(request.body) for request in server.requests] == [{"ids": [1, "b"]}] * 2


@pytest.mark.parametrize("status", [400, 413])
def test_fault_023_and_027_a_batch_that_is_not_taken_is_refused_with_its_status(status):
    with HostileServer(answer({"error": "no", "message": "", "params": {"ids": "too many"}}, status)) as server:
        with open_client(server) as client, pytest.raises(ApiRefused) as caught:
            client.send_acknowledgements([1])
        assert (caught.value.status, caught.value.params) == (status, ("ids",))
        assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b'{"ids": [2]}', b"\xff\xfe", json.dumps({"data": [1]}).encode()])
def test_fault_021_and_022_the_answer_to_an_acknowledgement_proves_nothing(body):
    with HostileServer(reply(200, body=body)) as server, open_client(server) as client:
        assert client.send_acknowledgements([1]) is None


# -- secrets


def test_fault_175_to_180_no_secret_is_logged_or_shown(caplog):
    caplog.set_level(logging.DEBUG)
    token = TOKEN.reveal()
    echo = {"Location": f"https://x.example/?t={token}", "X-Echo": token, "Set-Cookie": token}
    cut = json.dumps({"data": [make_item()], "has_more": False}).replace("/", "\\/").encode()[:-9]
    with HostileServer(
        reply(500, echo, token.encode()),
        reply(429, echo, token.encode()),
        [head(200, echo, 900) + token.encode(), RESET],
        reply(200, echo, cut),
        page([make_item()], has_more=True),
        answer({"data": [make_item(), {"id": token + "\n"}], "has_more": token}),
    ) as server:
        with open_client(server, sleep=Sleeps()) as client, pytest.raises(UntrustedAnswer) as caught:
            list(client.list_results())
        assert token not in repr(client) + repr(vars(client))
    assert len(server.requests) == 6
    assert_hides(caught.value, token, SIGNATURE)
    for record in caplog.records:
        assert token not in repr(vars(record)) + record.getMessage()
        assert SIGNATURE not in repr(vars(record)) + record.getMessage()
    assert len(caplog.records) >= 4


@pytest.mark.parametrize(
    "make_reply",
    [
        lambda cut: reply(200, {"Content-Type": "application/json"}, cut),
        lambda cut: reply(200, {"Content-Type": "application/json"}, cut[:-30]),
        lambda cut: reply(500, {}, cut),
        lambda cut: reply(400, {}, cut),
        lambda cut: reply(302, {"Location": "/x?" + SIGNED}, cut),
        lambda cut: [head(200, {}, 99999) + cut, CLOSE],
    ],
)
def test_fault_175_a_signed_url_in_a_broken_answer_is_in_no_variable_of_the_traceback(make_reply: Callable[[bytes], Reply]):
    body = json.dumps({"data": [make_item(), make_item()], "has_more": "maybe"}).encode()
    error, _ = fail_list(make_reply(body), deadline_s=0.5)
    assert_hides(error, SIGNATURE, TOKEN.reveal())


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]):
    fail_list([RESET], deadline_s=0.5)
    read_list(GOOD_PAGE)
    assert capfd.readouterr() == ("", "")


def test_a_client_in_use_can_be_closed_and_leaves_no_descriptor():
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with HostileServer(GOOD_PAGE) as server:
        before = count()
        for _ in range(3):
            with open_client(server) as client:
                threads = [threading.Thread(target=lambda: list(client.list_results())) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
        time.sleep(0.2)
        assert count() <= before + 2
