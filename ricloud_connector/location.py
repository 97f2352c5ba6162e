"""Where the content of a result is read: `url` and `signed_url` checked against what the settings allow. Pure.

A signed URL comes from a server and may point anywhere; what passes here is only a syntax and a policy. Whether the
address that is finally connected to is a public one is checked at the socket (`stores/signed_url.py`), since names can
resolve to anything.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ricloud_connector.errors import ContentError
from ricloud_connector.model import Result
from ricloud_connector.redact import clean

_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)
_URL_CHARACTERS = re.compile(r"[!-\[\]-~]+")  # printable ASCII without space and backslash
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


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


Location = HttpLocation | LocalLocation | BucketLocation


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be read: hosts allowed beyond https and public addresses, buckets, the root of `local://`, the order."""

    content_hosts: frozenset[str] = frozenset()
    buckets: frozenset[str] = frozenset()
    local_root: str | None = None
    read: tuple[str, ...] = ("signed_url", "bucket")


def locate(result: Result, policy: Policy) -> Location:
    """The place where the content is read, the first that the policy's order offers.

    Raises: ContentError naming the setting to change.
    """
    for kind in policy.read:
        if kind == "signed_url" and result.signed_url is not None:
            return http_location(result.signed_url.url, policy)
        if kind == "bucket" and result.url is not None and not result.url.startswith("local://"):
            return bucket_location(result.url, policy)
    if result.url is not None and result.url.startswith("local://"):
        return local_location(result.url, policy)
    raise ContentError("no_location", "the result has no signed_url, and no url that RICLOUD_READ allows")


def http_location(url: str, policy: Policy) -> HttpLocation:
    """A URL of which our parser and libcurl's cannot think differently: plain characters, no user, no backslash.

    Raises: ContentError `forbidden_url`.
    """
    if not _URL_CHARACTERS.fullmatch(url):
        raise ContentError("forbidden_url", "the signed URL holds a space, a backslash or a character beyond ASCII")
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port
    except ValueError:
        raise ContentError("forbidden_url", "the signed URL cannot be parsed") from None
    if parts.scheme not in ("https", "http") or "@" in parts.netloc:
        raise ContentError("forbidden_url", f"the signed URL has the scheme {clean(parts.scheme)!r} or names a user")
    if not _is_host(name):
        raise ContentError("forbidden_url", f"the signed URL has no usable host: {clean(name)!r}")
    port = port if port is not None else (443 if parts.scheme == "https" else 80)
    host = f"{name}:{port}"
    trusted = host in policy.content_hosts or name in policy.content_hosts
    if parts.scheme == "http" and not trusted:
        raise ContentError("forbidden_url", f"{host} is not https; if it is yours, set RICLOUD_CONTENT_HOSTS={host}")
    bracketed = f"[{name}]" if ":" in name else name
    query = f"?{parts.query}" if parts.query else ""
    return HttpLocation(f"{parts.scheme}://{bracketed}:{port}{parts.path or '/'}{query}", host, trusted)


def local_location(url: str, policy: Policy) -> LocalLocation:
    """A `local:///path` below RICLOUD_LOCAL_ROOT. Raises: ContentError `forbidden_url`."""
    if policy.local_root is None:
        raise ContentError("forbidden_url", "local:// is read only below RICLOUD_LOCAL_ROOT, which is not set")
    path = url.removeprefix("local://")
    root = policy.local_root.rstrip("/")
    inside = path.removeprefix(root + "/") if path.startswith(root + "/") else path.removeprefix("/")
    segments = tuple(segment for segment in inside.split("/") if segment not in ("", "."))
    if not segments or ".." in segments or "\0" in path:
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
    """Whether an IP address is a public unicast one, looking through every form that embeds an IPv4 address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if embedded is None and (ip in _NAT64 or ip.packed[:12] == bytes(12)):
            embedded = ipaddress.IPv4Address(ip.packed[12:])
        if embedded is not None:
            return is_public(str(embedded))
    return ip.is_global and not ip.is_multicast


def _is_host(name: str) -> bool:
    if ":" in name:
        try:
            return ipaddress.ip_address(name).version == 6
        except ValueError:
            return False
    return bool(_HOST.fullmatch(name))
