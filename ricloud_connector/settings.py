"""The settings by name, checked. Pure: the faces pass in the environment.

An empty variable counts as unset. There is no default lake: a relative `./lake` in a container would be written, proven,
acknowledged and thrown away with the container.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

from ricloud_connector.cloud import BucketUrl, Cloud, lake_url
from ricloud_connector.errors import SettingsError
from ricloud_connector.location import Policy
from ricloud_connector.redact import Secret, clean, origin_of

VENDOR_URL = "https://ricloud-api.reincubate.com"
FIRST_DAY = date(2020, 1, 1)
READ_KINDS = ("signed_url", "bucket")

VARIABLES = {
    "RICLOUD_URL": "The API's base URL; https, or http to this machine.",
    "RICLOUD_TOKEN": "The API's key token.",
    "RICLOUD_LAKE": "The lake: a folder, `s3://bucket/prefix` or `gs://bucket/prefix`. There is no default: a relative folder "
    "in a container would be written, acknowledged and thrown away.",
    "RICLOUD_START_DATE": "First partition, `YYYY-MM-DD`; default `2020-01-01`.",
    "RICLOUD_STAGING": "A local folder for contents under way; default `<lake>/control/staging`, of a lake in a bucket "
    "the system's temporary folder. On a local lake, contents of 32 MiB and more go straight into a part in the default one.",
    "RICLOUD_CONTENT_HOSTS": "`host` or `host:port`, comma-separated: may be read although not https or not public.",
    "RICLOUD_LOCAL_ROOT": "The only folder below which `local://` contents are read; unset, none is.",
    "RICLOUD_READ": "`signed_url`, `bucket`, or both in the order to try.",
    "RICLOUD_BUCKETS": "Buckets whose contents may be read, comma-separated; unset, none is.",
    "RICLOUD_PROXY": "A proxy for both HTTP clients; what may be reached is then its decision.",
}
"""Every variable and what it means, as the configuration reference says it."""

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a run needs to know, checked.

    `staging` is for contents under way; the default lies in the lake, or in the system's temporary folder for one in a bucket.
    """

    url: str
    token: Secret
    lake: Path | BucketUrl
    start_date: date = FIRST_DAY
    staging: Path | None = None
    policy: Policy = field(default_factory=Policy)
    cloud: Cloud = field(default_factory=Cloud)
    proxy: str | None = None
    concurrency: int = 64
    api_deadline_s: float = 30.0
    stall_s: int = 60

    @property
    def origin(self) -> str:
        """The API's scheme, host and port."""
        return origin_of(self.url)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read every `RICLOUD_*` name. Raises: SettingsError naming the variable and the line to set."""
        given = _given(environment)
        hosts = _split(given.get("RICLOUD_CONTENT_HOSTS"))
        proxy = check_proxy(given.get("RICLOUD_PROXY"))
        cloud = Cloud.from_environment(environment, proxy)
        return cls(
            url=check_url(_needed(given, "RICLOUD_URL", VENDOR_URL), hosts),
            token=check_token(_needed(given, "RICLOUD_TOKEN", "<your key token>")),
            lake=absolute_lake(_needed(given, "RICLOUD_LAKE", "/srv/ricloud-lake"), cloud),
            start_date=check_start_date(given.get("RICLOUD_START_DATE")),
            staging=_absolute(given.get("RICLOUD_STAGING")),
            policy=check_policy(
                hosts=hosts,
                buckets=_split(given.get("RICLOUD_BUCKETS")),
                local_root=given.get("RICLOUD_LOCAL_ROOT"),
                read=_split(given.get("RICLOUD_READ")),
            ),
            cloud=cloud,
            proxy=proxy,
        )


def lake_of(environment: Mapping[str, str]) -> Path | BucketUrl:
    """The lake, for what needs nothing else. Raises: SettingsError."""
    given = _given(environment)
    cloud = Cloud.from_environment(environment, check_proxy(given.get("RICLOUD_PROXY")))
    return absolute_lake(_needed(given, "RICLOUD_LAKE", "/srv/ricloud-lake"), cloud)


def absolute_lake(text: str, cloud: Cloud | None = None) -> Path | BucketUrl:
    """The lake that RICLOUD_LAKE names: an absolute folder, or in a bucket. Raises: SettingsError."""
    if "://" in text:
        return lake_url(text, cloud or Cloud())
    return Path(os.path.abspath(os.path.expanduser(text)))


def check_url(url: str, content_hosts: tuple[str, ...] = ()) -> str:
    """The API's base URL: https, or http to this machine or to a host named in RICLOUD_CONTENT_HOSTS."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise SettingsError(f"RICLOUD_URL is not a URL: {clean(url)!r}; set RICLOUD_URL={VENDOR_URL}") from None
    if parts.scheme not in ("https", "http") or not host or "@" in parts.netloc or parts.query or parts.fragment:
        raise SettingsError(f"RICLOUD_URL must be like {VENDOR_URL}, not {clean(url)!r}")
    named = host in content_hosts or f"{host}:{port}" in content_hosts
    if parts.scheme == "http" and not _is_loopback(host) and not named:
        raise SettingsError(f"RICLOUD_URL would send the token in clear text; set RICLOUD_URL=https://{clean(parts.netloc)}")
    return url.rstrip("/")


def check_token(token: str) -> Secret:
    """The key token, as a header can carry it."""
    if not _TOKEN.fullmatch(token):
        raise SettingsError("RICLOUD_TOKEN holds a space, a line break or a character beyond ASCII; copy it again")
    return Secret(token)


def check_start_date(text: str | None) -> date:
    """The first partition's day."""
    if text is None:
        return FIRST_DAY
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"RICLOUD_START_DATE must be YYYY-MM-DD, not {clean(text)!r}") from None


def check_policy(
    *,
    hosts: tuple[str, ...] = (),
    buckets: tuple[str, ...] = (),
    local_root: str | None = None,
    read: tuple[str, ...] = (),
) -> Policy:
    """What may be read."""
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise SettingsError(f"RICLOUD_CONTENT_HOSTS takes host or host:port, separated by commas, not {clean(host)!r}")
    for kind in read:
        if kind not in READ_KINDS:
            raise SettingsError(f"RICLOUD_READ takes signed_url, bucket, or both in the order to try, not {clean(kind)!r}")
    if local_root is not None and not Path(local_root).is_absolute():
        raise SettingsError(f"RICLOUD_LOCAL_ROOT must be an absolute path, not {clean(local_root)!r}")
    return Policy(frozenset(hosts), frozenset(buckets), local_root, read or READ_KINDS)


def check_proxy(proxy: str | None) -> str | None:
    """The proxy that both HTTP clients use. Its own address is not checked, and what may be reached is then its decision."""
    if proxy is None:
        return None
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or True)
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError("RICLOUD_PROXY must be like http://proxy.example:3128")
    return proxy


def _given(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value.strip() for name, value in environment.items() if name.startswith("RICLOUD_") and value.strip()}


def _needed(given: Mapping[str, str], name: str, example: str) -> str:
    try:
        return given[name]
    except KeyError:
        raise SettingsError(f"{name} is not set; run: export {name}={example}") from None


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _absolute(text: str | None) -> Path | None:
    return None if text is None else Path(text).expanduser().absolute()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
