"""Where contents may be read: what a URL of a server is refused for, by its letters and by the address it leads to."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ricloud_connector.errors import ContentError
from ricloud_connector.location import (
    BucketLocation,
    HttpLocation,
    LocalLocation,
    Policy,
    bucket_location,
    http_location,
    is_public,
    local_location,
    locate,
)
from ricloud_connector.model import Result, SignedUrl
from ricloud_connector.sink import Sink
from ricloud_connector.stores import Remedy, Transfer
from ricloud_connector.stores.signed_url import SignedUrlStore
from tests.canary import assert_hides
from tests.hostile_server import HostileServer, reply

STRICT = Policy()


def make_result(**facts: object) -> Result:
    known: dict[str, object] = {"id": "a", "wire_id": "a", "state": "available", "checksum": "0" * 32, "size": 4}
    return Result(**(known | {"date_created": datetime(2026, 11, 20, tzinfo=UTC)} | facts))  # type: ignore[arg-type]


def at(url: str, policy: Policy = STRICT) -> HttpLocation:
    return http_location(SignedUrl(url, None), policy)


def refusal(url: str, policy: Policy = STRICT) -> ContentError:
    with pytest.raises(ContentError) as caught:
        at(url, policy)
    assert caught.value.reason == "forbidden_url"
    assert not caught.value.transient
    return caught.value


# Each leads, in some parser or resolver, to a place inside: refused without asking any of them.
INSIDE = [
    # loopback and other special addresses, plain
    "https://127.0.0.1/",
    "https://127.0.0.1:8443/x?y=z",
    "https://127.255.255.254/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://192.168.1.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://169.254.170.2/v2/credentials",
    "https://100.64.0.1/",
    "https://100.100.100.200/latest/meta-data/",
    "https://168.63.129.16/machine",
    "https://192.0.0.192/opc/v1/",
    "https://192.0.2.1/",
    "https://198.18.0.1/",
    "https://198.51.100.7/",
    "https://203.0.113.7/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    # the same addresses in numbers that C libraries take
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7F000001/",
    "https://017700000001/",
    "https://127.1/",
    "https://127.0.1/",
    "https://0/",
    "https://0177.0.0.1/",
    "https://0x7f.0.0.1/",
    "https://127.0.0x1/",
    "https://127.0.0.01/",
    "https://127.0.0.1./",
    "https://2852039166/",
    "https://0xa9fea9fe/",
    "https://3232235777/",
    "https://example.127/",
    "https://1.2.3.4.5/",
    "https://256.256.256.256/",
    # IPv6, and IPv4 inside it
    "https://[::1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:169.254.169.254]/",
    "https://[::ffff:0:127.0.0.1]/",
    "https://[::127.0.0.1]/",
    "https://[::8.8.8.8]/",
    "https://[64:ff9b::127.0.0.1]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[64:ff9b:1::808:808]/",
    "https://[2002:7f00:1::]/",
    "https://[2002:a9fe:a9fe::1]/",
    "https://[2001:0:7f00:1::]/",
    "https://[2001:0:4136:e378:8000:63bf:80ff:fffe]/",
    "https://[2001:db8::1]/",
    "https://[3fff::1]/",
    "https://[fd00:ec2::254]/latest/",
    "https://[fc00::1]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[2606:4700::1111%25eth0]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[100::1]/",
    # schemes
    "http://bucket.example/key",
    "http://169.254.169.254/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "ftp://bucket.example/key",
    "gopher://127.0.0.1:6379/_INFO",
    "dict://127.0.0.1:11211/",
    "ldap://bucket.example/",
    "javascript:alert(1)",
    "data:text/plain,x",
    "s3://bucket/key",
    "local:///etc/passwd",
    "//bucket.example/key",
    "bucket.example/key",
    "/key",
    "https:bucket.example/key",
    "https:/bucket.example/key",
    "https:///key",
    "https://",
    "",
    # users, of whom parsers disagree where they end
    "https://user@bucket.example/",
    "https://user:word@bucket.example/",
    "https://bucket.example@127.0.0.1/",
    "https://bucket.example:443@127.0.0.1/",
    "https://@127.0.0.1/",
    "http://127.0.0.1:80\\@bucket.example/",
    "https://bucket.example\\@127.0.0.1/",
    "https://bucket.example\\.127.0.0.1/",
    "https:\\\\bucket.example\\key",
    # characters that one parser drops and another does not
    "https://bucket.example /",
    " https://bucket.example/",
    "https://bucket.example/\r\nHost: 127.0.0.1",
    "https://bucket.example\t/",
    "https://bucket.ex\u00e4mple/",
    "https://\uff11\uff12\uff17.0.0.1/",
    "https://\u2460\u2461\u2466.0.0.1/",
    "https://127\u30020\u30020\u30021/",
    "https://bucket.example/\x00",
    "https://%31%32%37.0.0.1/",
    "https://bucket%2eexample/",
    "https://bucket..example/",
    "https://.example/",
    "https://-bucket.example/",
    "https://bucket,example/",
    "https://bucket;example/",
    "https://[bucket.example]/",
    "https://[::1/",
    "https://::1/",
    "https://[::1]x/",
    "https://x[::1]/",
    "https://[v1.x]/",
    # ports
    "https://bucket.example:99999/",
    "https://bucket.example:-1/",
    "https://bucket.example:0/",
    "https://bucket.example:80:80/",
    "https://bucket.example:http/",
    "https://bucket.example:+443/",
    "https://bucket.example:\u0664\u0664\u0663/",
]


@pytest.mark.parametrize("url", INSIDE)
def test_fault_142_143_144_and_148_a_url_that_may_lead_inside_is_refused(url):
    refusal(url)


def test_there_are_enough_of_them():
    assert len(set(INSIDE)) == len(INSIDE) > 100


@pytest.mark.parametrize("url", INSIDE)
def test_a_refusal_shows_no_more_than_the_host(url):
    marked = f"{url}?X-Amz-Signature=cafe1234"
    try:
        at(marked)
    except ContentError as error:
        assert_hides(error, "cafe1234")


def test_a_signature_in_a_refused_url_is_in_no_variable_either():
    for url in (
        "http://bucket.example/key?s=cafe1234",
        "https://u@h/?s=cafe1234",
        "https://127.1/?s=cafe1234",
        "no?s=cafe1234",
    ):
        assert_hides(refusal(url), "cafe1234")


@pytest.mark.parametrize(
    ("url", "host", "kept"),
    [
        ("https://bucket.example/key?a=1&b=2", "bucket.example:443", "https://bucket.example:443/key?a=1&b=2"),
        ("HTTPS://Bucket.Example:8443/Key", "bucket.example:8443", "https://bucket.example:8443/Key"),
        ("https://bucket.example?q", "bucket.example:443", "https://bucket.example:443/?q"),
        ("https://bucket.example/a/../b//c/./%2e%2e/d", None, "https://bucket.example:443/a/../b//c/./%2e%2e/d"),
        ("https://bucket.example/key#part", None, "https://bucket.example:443/key"),
        ("https://bucket.example#@127.0.0.1:443@x/", None, "https://bucket.example:443/"),
        ("https://xn--bcket-kva.example/", "xn--bcket-kva.example:443", "https://xn--bcket-kva.example:443/"),
        ("https://bucket_with_lines.s3.amazonaws.com/k", None, "https://bucket_with_lines.s3.amazonaws.com:443/k"),
        ("https://1bucket.example/key", None, "https://1bucket.example:443/key"),
        ("https://8.8.8.8/", "8.8.8.8:443", "https://8.8.8.8:443/"),
        ("https://[2606:4700::1111]/k", "[2606:4700::1111]:443", "https://[2606:4700::1111]:443/k"),
        ("https://[2606:4700:0:0::1111]:8443/k", "[2606:4700::1111]:8443", "https://[2606:4700::1111]:8443/k"),
        ("https://[64:ff9b::8.8.8.8]/", "[64:ff9b::808:808]:443", "https://[64:ff9b::808:808]:443/"),
    ],
)
def test_a_good_url_is_read_as_it_is(url, host, kept):
    found = at(url)
    assert found.url == kept
    assert host is None or found.host == host
    assert not found.trusted
    assert url not in repr(found)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("http://127.0.0.1:9000/k", "127.0.0.1:9000"),
        ("http://127.0.0.1:9000/k", "127.0.0.1"),
        ("https://10.1.2.3/k", "10.1.2.3:443"),
        ("http://minio.internal/k", "minio.internal"),
        ("http://MinIO.internal/k", "minIO.Internal:80"),
        ("http://[::1]:9000/k", "[::1]:9000"),
        ("http://[0:0::1]:9000/k", "[::1]"),
    ],
)
def test_hosts_that_the_settings_name_may_be_http_and_inside(url, named):
    assert at(url, Policy(content_hosts=frozenset({named}))).trusted
    assert named.lower().removesuffix(":80").removesuffix(":443") in str(refusal(url))


@pytest.mark.parametrize("named", ["127.0.0.1:9001", "127.0.0.11", "0.0.1", "localhost", "127.0.0.1:90"])
def test_a_host_that_is_only_like_a_named_one_is_not_it(named):
    refusal("http://127.0.0.1:9000/k", Policy(content_hosts=frozenset({named})))


def test_the_refusal_names_the_line_to_set():
    assert "RICLOUD_CONTENT_HOSTS=[::1]:9000" in str(refusal("http://[::1]:9000/k?s=1"))
    assert "RICLOUD_CONTENT_HOSTS=10.1.2.3:443" in str(refusal("https://10.1.2.3/k?s=1"))


def test_fault_164_a_url_has_a_length():
    assert at("https://bucket.example/" + "x" * 10_000)
    assert "characters" in str(refusal("https://bucket.example/" + "x" * 16_384))


@given(
    st.text(st.characters(max_codepoint=0x2FF), max_size=40)
    | st.text(st.sampled_from("https:/@\\[]:.?#%127x0 \t"), max_size=30)
)
def test_any_text_is_a_location_or_a_typed_error(text):
    policy = Policy(content_hosts=frozenset({"127.0.0.1"}), local_root="/srv/x", buckets=frozenset({"b"}))
    for url in (text, f"https://{text}", f"https://bucket.example{text}", f"http://{text}", f"local://{text}", f"s3://{text}"):
        for parse in (at, local_location, bucket_location):
            with suppress(ContentError):
                found = parse(url, policy)
                if isinstance(found, HttpLocation):
                    assert "@" not in found.url.partition("://")[2].partition("/")[0]
                    assert found.url.startswith("https://") or found.trusted


# -- addresses


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
)
def test_public_addresses(address):
    assert is_public(address)


@given(st.ip_addresses(v=6))
def test_only_what_is_given_out_to_the_public_is_public_in_ipv6(address):
    if is_public(str(address)):
        assert address.packed[0] >> 5 == 1 or address.ipv4_mapped is not None or str(address).startswith("64:ff9b::")


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_judged_by_itself(address):
    number = int(address)
    for written in (f"::ffff:{address}", f"64:ff9b::{address}", f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1"):
        assert is_public(written) == is_public(str(address))
    assert not is_public(f"::{address}")


@pytest.mark.parametrize(
    "text", ["", "localhost", "1.2.3", "0x7f000001", "8.8.8.8/32", "fe80::1%eth0", "/run/socket", "256.1.1.1"]
)
def test_what_is_no_address_is_not_public(text):
    assert not is_public(text)


# -- at the socket


def refuse_to_connect(name: str, server: HostileServer, tmp_path) -> str:
    """The fault of a transfer from a name that passes the letters' check."""
    location = HttpLocation(f"https://{name}:{server.port}/key?s=cafe1234", f"{name}:{server.port}", trusted=False)
    sink = Sink(make_result(), tmp_path)
    store = SignedUrlStore(concurrency=1, stall_s=5)
    try:
        ((_, fault),) = store.transfer([Transfer(location, sink)])
    finally:
        store.close()
    assert fault is not None
    assert (fault.reason, fault.remedy) == ("forbidden_url", Remedy.NONE)
    assert "cafe1234" not in repr(fault)
    assert f"RICLOUD_CONTENT_HOSTS={name}:{server.port}" in fault.detail
    return fault.detail


# `localhost` passes as a name, as any name of an attacker's would; the others are what libcurl's own parser makes of
# numbers, should they ever pass the letters' check.
@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "017700000001", "0", "0.0.0.0"]
)
def test_fault_143_and_145_the_address_is_checked_on_the_socket(name, tmp_path):
    with HostileServer(reply(200, body=b"four")) as server:
        assert "no public address" in refuse_to_connect(name, server, tmp_path)
        assert server.connections == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
@pytest.mark.parametrize("name", ["[::1]", "[::ffff:127.0.0.1]", "[::]"])
def test_fault_143_and_145_ipv6_is_checked_on_the_socket_as_well(name, tmp_path):
    with HostileServer(reply(200, body=b"four"), host="::1") as server:
        assert "no public address" in refuse_to_connect(name, server, tmp_path)
        assert server.connections == 0


def test_a_named_host_may_resolve_to_an_address_inside(tmp_path):
    with HostileServer(reply(200, body=b"four")) as server:
        policy = Policy(content_hosts=frozenset({f"localhost:{server.port}"}))
        sink = Sink(make_result(), tmp_path)
        store = SignedUrlStore(concurrency=1)
        ((_, fault),) = store.transfer([Transfer(at(f"http://localhost:{server.port}/key", policy), sink)])
        store.close()
        assert fault is None
        assert sink.size == 4
        assert server.connections == 1


# -- other places


@pytest.mark.parametrize(
    "url",
    [
        "local://",
        "local:///",
        "local:///..",
        "local:///../etc/passwd",
        "local:///a/../../etc/passwd",
        "local:///a/..",
        "local:///./..//x",
        "local:///srv/root/../other",
        "local:///a\0b",
        "local:///a\udc80",
        "local://../x",
    ],
)
def test_fault_079_and_151_a_local_path_stays_below_its_root(url):
    with pytest.raises(ContentError, match="forbidden_url"):
        local_location(url, Policy(local_root="/srv/root"))


@pytest.mark.parametrize(
    ("url", "segments"),
    [
        ("local:///a/b.json", ("a", "b.json")),
        ("local:///srv/root/a/b.json", ("a", "b.json")),
        ("local:///srv/rooted/x", ("srv", "rooted", "x")),
        ("local:////etc/passwd", ("etc", "passwd")),
        ("local:///a//./b", ("a", "b")),
        ("local:///%2e%2e/%2e%2e/x", ("%2e%2e", "%2e%2e", "x")),
        ("local:///a\\..\\b", ("a\\..\\b",)),
        ("local://host/x", ("host", "x")),
        ("local:///proc/self/environ", ("proc", "self", "environ")),
    ],
)
def test_a_local_path_is_taken_below_the_root(url, segments):
    assert local_location(url, Policy(local_root="/srv/root/")) == LocalLocation(segments)


def test_fault_079_local_is_off_until_a_root_is_set():
    with pytest.raises(ContentError, match="RICLOUD_LOCAL_ROOT"):
        local_location("local:///a", STRICT)
    with pytest.raises(ContentError, match="RICLOUD_LOCAL_ROOT"):
        locate(make_result(url="local:///a"), STRICT)


def test_fault_150_a_bucket_must_be_allowed():
    allowed = Policy(buckets=frozenset({"ours"}))
    assert bucket_location("s3://ours/a//../b c", allowed) == BucketLocation("s3", "ours", "a//../b c")
    assert bucket_location("gs://ours/k", allowed) == BucketLocation("gs", "ours", "k")
    for url in (
        "s3://theirs/k",
        "s3://OURS/k",
        "s3://ours",
        "s3://ours/",
        "s3:///k",
        "s3://ours@theirs/k",
        "az://ours/k",
        "ours/k",
    ):
        with pytest.raises(ContentError, match="forbidden_url"):
            bucket_location(url, allowed)
    with pytest.raises(ContentError, match="RICLOUD_BUCKETS=theirs"):
        bucket_location("s3://theirs/k", STRICT)


def test_the_order_of_places_is_the_setting_s():
    signed = SignedUrl("https://bucket.example/k", None)
    both = make_result(signed_url=signed, url="s3://ours/k")
    allowed = frozenset({"ours"})
    assert isinstance(locate(both, Policy(buckets=allowed)), HttpLocation)
    assert isinstance(locate(both, Policy(buckets=allowed, read=("bucket", "signed_url"))), BucketLocation)
    assert isinstance(locate(make_result(url="s3://ours/k"), Policy(buckets=allowed)), BucketLocation)
    assert isinstance(locate(make_result(url="local:///k"), Policy(local_root="/srv")), LocalLocation)
    for result in (make_result(), make_result(url="s3://ours/k")):
        with pytest.raises(ContentError, match="no_location"):
            locate(result, Policy(buckets=allowed, read=("signed_url",)))
