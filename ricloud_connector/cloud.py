"""Where buckets are: `s3://` and `gs://` URLs, and the endpoints they are reached at. Pure.

Credentials are not among the settings: the chains of AWS and Google find them (`buckets.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ricloud_connector.errors import SettingsError
from ricloud_connector.redact import clean

SCHEMES = ("s3", "gs")

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_PREFIX = re.compile(r"[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*")


@dataclass(frozen=True, slots=True)
class Cloud:
    """How buckets are reached. Nothing given: the services of AWS and Google themselves.

    `user_project` is billed for what is read from Google's requester-pays buckets.
    """

    s3_endpoint: str | None = None
    s3_region: str | None = None
    gs_endpoint: str | None = None
    user_project: str | None = None
    proxy: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], proxy: str | None = None) -> Cloud:
        """Read the names that the tools of AWS and Google read. Raises: SettingsError."""

        def given(*names: str) -> str | None:
            return next((environment[name].strip() for name in names if environment.get(name, "").strip()), None)

        emulated = given("STORAGE_EMULATOR_HOST")
        if emulated is not None and "://" not in emulated:
            emulated = f"http://{emulated}"
        return cls(
            s3_endpoint=_endpoint("AWS_ENDPOINT_URL", given("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")),
            s3_region=given("AWS_REGION", "AWS_DEFAULT_REGION"),
            gs_endpoint=_endpoint("STORAGE_EMULATOR_HOST", emulated),
            user_project=given("GOOGLE_CLOUD_QUOTA_PROJECT"),
            proxy=proxy,
        )


@dataclass(frozen=True, slots=True)
class BucketUrl:
    """A folder in a bucket, such as a lake. `prefix` has no slash at either end and may be empty."""

    scheme: str
    bucket: str
    prefix: str = ""
    cloud: Cloud = field(default_factory=Cloud, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")


def lake_url(text: str, cloud: Cloud) -> BucketUrl:
    """The lake in a bucket that RICLOUD_LAKE names. Raises: SettingsError."""
    scheme, _, rest = text.partition("://")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if scheme not in SCHEMES:
        raise SettingsError(f"RICLOUD_LAKE takes a folder, s3://bucket/prefix or gs://bucket/prefix, not {clean(scheme)}://…")
    plain = not {".", ".."} & set(prefix.split("/"))
    if not _BUCKET.fullmatch(bucket) or (prefix and not (plain and _PREFIX.fullmatch(prefix))):
        raise SettingsError(
            f"RICLOUD_LAKE={clean(text)} names no bucket and prefix that every reader understands: letters, digits and "
            "._=- between single slashes"
        )
    return BucketUrl(scheme, bucket, prefix, cloud)


def _endpoint(name: str, url: str | None) -> str | None:
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and (parts.port or True)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise SettingsError(f"{name} must be like https://storage.example:9000")
    return url.rstrip("/")
