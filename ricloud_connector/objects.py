"""The objects of one bucket behind a single method: what a lake in a bucket has of the world outside. I/O: HTTP."""

from __future__ import annotations

from typing import Any, Protocol

from ricloud_connector.buckets import Buckets, call, load_obstore, read_range
from ricloud_connector.cloud import BucketUrl


class Objects(Protocol):
    """One request to the bucket, named as obstore names it, about a key or a prefix. Raises: Refused.

    `create` and `put` take a `body`; `get` gives bytes, `get_range` those from `start` to `end`; `list` gives the facts of
    every object, `list_with_delimiter` the common prefixes one level down.
    """

    def __call__(self, verb: str, key: str, /, **named: Any) -> Any: ...


class ObstoreObjects:
    """`Objects` of a real bucket."""

    def __init__(self, url: BucketUrl, *, retries: int) -> None:
        self._url, self._name = url, f"{url.scheme}://{url.bucket}"
        self._buckets = Buckets(url.cloud, retries=retries)

    def __call__(self, verb: str, key: str, /, **named: Any) -> Any:
        store = self._buckets.open(self._url.scheme, self._url.bucket, creating=verb == "create")
        if verb == "get_range":
            return read_range(self._name, store, key, **named)
        return call(self._name, getattr(self, f"_{verb}"), store, key, **named)

    @staticmethod
    def _create(store: Any, key: str, body: memoryview | bytes) -> None:
        load_obstore().put(store, key, body, mode="create", use_multipart=False)

    @staticmethod
    def _put(store: Any, key: str, body: bytes) -> None:
        load_obstore().put(store, key, body, use_multipart=False)

    @staticmethod
    def _get(store: Any, key: str) -> bytes:
        found: bytes = load_obstore().get(store, key).bytes().to_bytes()
        return found

    @staticmethod
    def _list(store: Any, key: str) -> list[Any]:
        return [facts for chunk in load_obstore().list(store, key, chunk_size=1000) for facts in chunk]

    @staticmethod
    def _list_with_delimiter(store: Any, key: str) -> list[str]:
        return [str(prefix) for prefix in load_obstore().list_with_delimiter(store, key)["common_prefixes"]]
