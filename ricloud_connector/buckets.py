"""Buckets behind `s3://` and `gs://`, by obstore. I/O: credential chains, HTTP.

Credentials: of AWS by botocore's chain where botocore is installed (environment, profiles, SSO, assumed roles, containers,
instances), else by obstore's own, which knows no profiles; of Google by obstore's (`GOOGLE_APPLICATION_CREDENTIALS`, gcloud,
instances).

What obstore raises holds whole URLs, signatures too: nothing of its text ever leaves this module (`refusal.py`).
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from threading import Lock
from typing import Any
from urllib.parse import quote

from ricloud_connector.cloud import Cloud
from ricloud_connector.errors import SettingsError
from ricloud_connector.refusal import Kind, Refused, refusal_of

RANGE_BYTES = 4 * 1024 * 1024
RANGES_AHEAD = 8
CREDENTIALS_KEPT = timedelta(minutes=5)  # their own chain is asked again then, and renews them in time
LEAST_BYTES_PER_S = 10 * 1024
LONGEST_CREATE_S = 900


@lru_cache(maxsize=1)
def load_obstore() -> Any:
    """The module `obstore`. Raises: SettingsError that says how to install it."""
    if importlib.util.find_spec("obstore") is None:
        raise SettingsError("s3:// and gs:// need obstore; run: pip install 'ricloud-connector[buckets]'")
    importlib.import_module("obstore.store")
    return importlib.import_module("obstore")


def call(bucket: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What the function returns. Raises: Refused, with no trace of what obstore raised: not even as its context."""
    try:
        return function(*arguments, **named)
    except Exception as error:  # noqa: BLE001  # obstore raises anything from OSError to its own
        refused = error if isinstance(error, Refused) else refusal_of(bucket, error)
    raise refused


class Buckets:
    """Opens buckets, each once, with the credentials that their chain finds. Threads may share it.

    A read ends after `stall_s` without a byte; one of an object is tried again `retries` times at once.
    """

    def __init__(self, cloud: Cloud, *, stall_s: int = 60, retries: int = 2) -> None:
        self._obstore = load_obstore()
        self._cloud, self._stall_s, self._retries = cloud, stall_s, retries
        self._opened: dict[tuple[str, ...], Any] = {}
        self._lock = Lock()
        self._aws: _BotocoreCredentials | Refused | None = None

    def open(self, scheme: str, bucket: str, *, creating: bool = False) -> Any:
        """The obstore store of a bucket; for `creating`, one that asks once and waits for long. Raises: Refused."""
        return self._kept((scheme, bucket, str(creating)), lambda: self._new(scheme, bucket, creating=creating))

    def place(self, scheme: str, bucket: str, key: str) -> tuple[Any, str]:
        """A store and the path in it that name this key, byte for byte. Raises: Refused.

        obstore's paths know no empty segments, so that keys with leading, double or trailing slashes are asked for at an
        endpoint that holds all but their last segment. Dots are refused: URLs with them lead elsewhere.
        """
        segments = key.split("/")
        if {".", ".."} & set(segments):
            raise Refused(Kind.BAD_KEY, "the key has a segment of dots, which no URL can name")
        if "" not in segments:
            return self.open(scheme, bucket), key
        *above, last = segments
        return self._new(scheme, bucket, above=above), last

    def _kept(self, name: tuple[str, ...], make: Callable[[], Any]) -> Any:
        with self._lock:
            if name not in self._opened:
                self._opened[name] = make()
            return self._opened[name]

    def _new(self, scheme: str, bucket: str, *, above: list[str] | None = None, creating: bool = False) -> Any:
        make = self._new_s3 if scheme == "s3" else self._new_gs
        return call(f"{scheme}://{bucket}", make, bucket, above, self._client(scheme, creating=creating))

    def _client(self, scheme: str, *, creating: bool) -> dict[str, Any]:
        """Time-outs, retries and headers."""
        endpoint = self._cloud.s3_endpoint if scheme == "s3" else self._cloud.gs_endpoint
        options: dict[str, Any] = {
            "allow_http": (endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=min(15, self._stall_s)),
            "timeout": timedelta(seconds=self._stall_s + RANGE_BYTES / LEAST_BYTES_PER_S),
        }
        if creating:
            options["timeout"] = timedelta(seconds=LONGEST_CREATE_S)
        else:
            options["read_timeout"] = timedelta(seconds=self._stall_s)
        if self._cloud.proxy is not None:
            options["proxy_url"] = self._cloud.proxy
        if scheme == "gs":
            # Google decompresses objects that were stored as gzip unless asked for gzip.
            options["default_headers"] = {"accept-encoding": "gzip"}
            if self._cloud.user_project is not None:
                options["default_headers"]["x-goog-user-project"] = self._cloud.user_project
        retry = {
            "max_retries": 0 if creating else self._retries,
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
            "retry_timeout": timedelta(seconds=self._stall_s),
        }
        return {"client_options": options, "retry_config": retry}

    def _new_s3(self, bucket: str, above: list[str] | None, client: dict[str, Any]) -> Any:
        given: dict[str, Any] = dict(client)
        provider = self._aws_credentials()
        region = self._cloud.s3_region or (provider.region if provider is not None else None) or "us-east-1"
        given["region"] = region
        endpoint = self._cloud.s3_endpoint
        if above is not None:
            endpoint = f"{endpoint or f'https://s3.{region}.amazonaws.com'}/{quote(bucket, safe='')}/{_quoted(above)}"
            given["virtual_hosted_style_request"] = True
        if endpoint is not None:
            given["endpoint"] = given["aws_endpoint_url_s3"] = endpoint
        if provider is not None:
            given["credential_provider"] = provider
        return self._obstore.store.S3Store(bucket, **given)

    def _new_gs(self, bucket: str, above: list[str] | None, client: dict[str, Any]) -> Any:
        given: dict[str, Any] = dict(client)
        endpoint = self._cloud.gs_endpoint
        if endpoint is not None:
            given["bearer_token"] = "none"  # noqa: S105  # an emulator asks for none, and obstore would look for one
        if above is not None:
            # The last but one segment stands where a bucket's name would.
            *outer, bucket = [bucket, *above]
            endpoint = "/".join([endpoint or "https://storage.googleapis.com", *([_quoted(outer)] if outer else [])])
        if endpoint is not None:
            given["base_url"] = endpoint
        return self._obstore.store.GCSStore(bucket, **given)

    def _aws_credentials(self) -> _BotocoreCredentials | None:
        """The chain, asked once: where it finds nothing, it may have waited for seconds. Raises: Refused."""
        if importlib.util.find_spec("botocore") is None:
            return None
        if self._aws is None:
            try:
                self._aws = _BotocoreCredentials()
            except Refused as refused:
                self._aws = refused
        if isinstance(self._aws, Refused):
            raise Refused(self._aws.kind, self._aws.detail)
        return self._aws


def read_range(bucket: str, store: Any, path: str, start: int, end: int) -> bytes:
    """Some bytes of an object. Raises: Refused."""
    data: bytes = call(bucket, load_obstore().get_range, store, path, start=start, end=end).to_bytes()
    return data


def read_ranges(pool: Executor, bucket: str, ask: Callable[[int, int], bytes], start: int, end: int) -> Iterator[bytes]:
    """The bytes of an object from `start` to `end`, in order, a few ranges ahead of their turn. Raises: Refused."""

    def read(first: int) -> bytes:
        last = min(first + RANGE_BYTES, end)
        data = ask(first, last)
        if len(data) != last - first:
            raise Refused(Kind.UNREACHABLE, f"{bucket} gave {len(data)} of {last - first} bytes")
        return data

    firsts = iter(range(start, end, RANGE_BYTES))
    under_way = deque(pool.submit(read, first) for first in islice(firsts, RANGES_AHEAD))
    try:
        while under_way:
            data = under_way.popleft().result()
            under_way.extend(pool.submit(read, first) for first in islice(firsts, 1))
            yield data
    finally:
        for future in under_way:
            future.cancel()


class _BotocoreCredentials:
    """What botocore's chain finds, as obstore asks for it; `region` is the profile's."""

    def __init__(self) -> None:
        # Where it asks a service for credentials, it would log the request and the answer.
        logging.getLogger("botocore").setLevel(max(logging.INFO, logging.getLogger("botocore").level))
        session = importlib.import_module("botocore.session").get_session()
        self.region: str | None = session.get_config_variable("region")
        self._found = session.get_credentials()
        if self._found is None:
            raise Refused(
                Kind.NO_CREDENTIALS, "no AWS credentials were found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and others"
            )

    def __call__(self) -> dict[str, Any]:
        frozen = self._found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + CREDENTIALS_KEPT,
        }


def _quoted(segments: list[str]) -> str:
    return "/".join(quote(segment, safe="") for segment in segments)
