"""Where the content of a result is read: `url` and `signed_url` checked against what the settings allow. Pure.

A signed URL comes from a server and may point anywhere; what passes here is only a syntax and a policy. Whether the
address that is finally connected to is a public one is checked at the socket (`stores/signed_url.py`), since names can
resolve to anything.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

from ricloud_connector.errors import ContentError
from ricloud_connector.model import Result, SignedUrl
from ricloud_connector.redact import clean

MAX_URL_CHARACTERS = 16_384

_URL_CHARACTERS = re.compile(r"[!-\[\]-~]+")  # printable ASCII without space and backslash
_ORIGIN = re.compile(r"[^:/?#]*://[^/?#]*")
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.(?!-)[a-z0-9_-]{1,63})*\.?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a last label that makes a resolver read the whole name as an address
_UNPORTABLE = re.compile(r"[\x00\ud800-\udfff]")

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST = ipaddress.ip_network("2000::/3")  # all of IPv6 that is given out to the public
# What `is_global` of some Python versions lets through: Azure's host agent, protocol assignments, documentation.
_SPECIAL = tuple(map(ipaddress.ip_network, ("168.63.129.16/32", "192.0.0.0/24", "3fff::/20")))


@dataclass(frozen=True, slots=True)
class HttpLocation:
    """A signed URL. `host` is `name:port`; `trusted` means that the settings name it: http and private addresses pass."""

    url: str = field(repr=False)
    host: str
    trusted: bool


@dataclass(frozen=True, slots=True)
class LocalLocation:
    """A file under the one allowed root, as path segments below it."""

    segments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BucketLocation:
    """An object in a bucket. `key` is byte for byte what follows `scheme://bucket/`."""

    scheme: str
    bucket: str
    key: str

    @property
    def name(self) -> str:
        return f"{self.scheme}://{self.bucket}"


Location = HttpLocation | LocalLocation | BucketLocation


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be read: hosts allowed beyond https and public addresses, buckets, the root of `local://`, the order."""

    content_hosts: frozenset[str] = frozenset()
    buckets: frozenset[str] = frozenset()
    local_root: str | None = None
    read: tuple[str, ...] = ("signed_url", "bucket")

    @property
    def reads_buckets(self) -> bool:
        return bool(self.buckets) and "bucket" in self.read


def locate(result: Result, policy: Policy, tried: Collection[str] = ()) -> Location:
    """The place where the content is read, the first that the policy's order offers and that was not `tried`.

    Raises: ContentError naming the setting to change, of the first place that is not allowed.
    """
    refused: ContentError | None = None
    for kind in (*policy.read, "local"):
        is_local = result.url is not None and result.url.startswith("local://")
        try:
            if kind in tried:
                continue
            if kind == "signed_url" and result.signed_url is not None:
                return http_location(result.signed_url, policy)
            if kind == "bucket" and result.url is not None and not is_local:
                return bucket_location(result.url, policy)
            if kind == "local" and result.url is not None and is_local:
                return local_location(result.url, policy)
        except ContentError as error:
            refused = refused or error
    raise refused or ContentError("no_location", "the result has no signed_url, and no url that RICLOUD_READ allows")


def kind_of(location: Location) -> str:
    """The kind of place, as RICLOUD_READ names it."""
    if isinstance(location, HttpLocation):
        return "signed_url"
    return "bucket" if isinstance(location, BucketLocation) else "local"


def http_location(signed: SignedUrl, policy: Policy) -> HttpLocation:
    """A URL of which our parser and libcurl's cannot think differently: plain characters, no user, no backslash.

    Raises: ContentError `forbidden_url`.
    """
    found = _http_location(signed, policy)
    if isinstance(found, str):
        # Raised here, where no variable holds the URL in clear: some logs show a traceback's variables.
        raise ContentError("forbidden_url", f"the signed URL {found}")
    return found


def redirected_location(location: HttpLocation, target: SignedUrl, policy: Policy) -> HttpLocation:
    """Where a redirect leads, held to the same policy. Raises: ContentError `forbidden_url`."""
    try:
        absolute = SignedUrl(urljoin(location.url, target.url), None)
    except ValueError:
        absolute = target
    found = _http_location(absolute, policy)
    if isinstance(found, str):
        raise ContentError("forbidden_url", f"a redirect's target {found}")
    if location.url.startswith("https:") and found.url.startswith("http:"):
        raise ContentError("forbidden_url", f"a redirect leads from https to http, to {found.host}")
    return found


def _http_location(signed: SignedUrl, policy: Policy) -> HttpLocation | str:
    """The location, or what is wrong with the URL."""
    url = signed.url
    if len(url) > MAX_URL_CHARACTERS:
        return f"has {len(url)} characters"
    if not _URL_CHARACTERS.fullmatch(url):
        return "holds a space, a backslash or a character beyond ASCII"
    # What stands before the path is the same for most results of a run: it is looked at once.
    start = _ORIGIN.match(url)
    end = start.end() if start else len(url)
    origin = _origin_of(url[:end], policy)
    if isinstance(origin, str):
        return origin
    path, mark, query = url[end:].partition("#")[0].partition("?")
    return HttpLocation(f"{origin.url}{path or '/'}{mark if query else ''}{query}", origin.host, origin.trusted)


@lru_cache(maxsize=256)
def _origin_of(start: str, policy: Policy) -> HttpLocation | str:
    """Scheme, host and port of a URL as a location without a path, or what is wrong with them."""
    try:
        parts = urlsplit(start)
        name, address = _host_of(parts.hostname or "")
        port = parts.port if parts.port is not None else (443 if parts.scheme == "https" else 80)
        if port == 0 or ("[" in parts.netloc) != (":" in name):
            raise ValueError("a port that is none, or brackets around a name")
    except ValueError:
        return "has no host that every parser reads alike, or an impossible port"
    if parts.scheme not in ("https", "http"):
        return f"has the scheme {clean(parts.scheme)!r}"
    if "@" in parts.netloc:
        return "names a user"
    host = f"{name}:{port}"
    trusted = not {allowed.lower() for allowed in policy.content_hosts}.isdisjoint({host, name})
    if parts.scheme == "http" and not trusted:
        return f"is not https; if {host} is yours, set RICLOUD_CONTENT_HOSTS={host}"
    if address is not None and not trusted and not is_public(address):
        return not_public(host, address)
    return HttpLocation(f"{parts.scheme}://{host}", host, trusted)


def not_public(host: str, address: str) -> str:
    """What is wrong with a host at an address that is not public, and how to allow it."""
    return f"leads to {clean(address)}, which is no public address; if it is yours, set RICLOUD_CONTENT_HOSTS={clean(host)}"


def local_location(url: str, policy: Policy) -> LocalLocation:
    """A `local:///path` below RICLOUD_LOCAL_ROOT. Raises: ContentError `forbidden_url`."""
    if policy.local_root is None:
        raise ContentError("forbidden_url", "local:// is read only below RICLOUD_LOCAL_ROOT, which is not set")
    path = url.removeprefix("local://")
    root = policy.local_root.rstrip("/")
    inside = path.removeprefix(root + "/") if path.startswith(root + "/") else path.removeprefix("/")
    segments = tuple(segment for segment in inside.split("/") if segment not in ("", "."))
    if not segments or ".." in segments or _UNPORTABLE.search(path):
        raise ContentError("forbidden_url", "the local:// path does not name a file below RICLOUD_LOCAL_ROOT")
    return LocalLocation(segments)


def bucket_location(url: str, policy: Policy) -> BucketLocation:
    """An `s3://` or `gs://` object in an allowed bucket. Raises: ContentError `forbidden_url`."""
    scheme, separator, rest = url.partition("://")
    bucket, slash, key = rest.partition("/")
    if not separator or scheme not in ("s3", "gs") or not bucket or not slash or not key:
        raise ContentError("forbidden_url", f"the url is not s3://bucket/key or gs://bucket/key: {clean(url, limit=80)!r}")
    if bucket not in policy.buckets:
        raise ContentError("forbidden_url", f"the bucket is not allowed; to read it, set RICLOUD_BUCKETS={clean(bucket)}")
    return BucketLocation(scheme, bucket, key)


def is_public(address: str) -> bool:
    """Whether an IP address is a public unicast one, looking through the forms that embed an IPv4 address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour
        if embedded is None and ip in _NAT64:
            embedded = ipaddress.IPv4Address(ip.packed[12:])
        if embedded is not None:
            return is_public(str(embedded))
        if ip not in _UNICAST:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _SPECIAL)


def _host_of(name: str) -> tuple[str, str | None]:
    """A host as it is compared and connected to, and the address if it is one; an IPv6 address in its short form.

    Raises: ValueError for what is neither a name nor an address written in the one way that everybody reads alike.
    """
    if ":" in name:
        if "%" in name:
            raise ValueError("an address of one link only")
        address = ipaddress.IPv6Address(name).compressed
        return f"[{address}]", address
    if not _NAME.fullmatch(name):
        raise ValueError("not a name")
    if _NUMBER.fullmatch(name.removesuffix(".").rpartition(".")[2]):
        return name, str(ipaddress.IPv4Address(name))
    return name, None
