"""A lake in a bucket, copied to a local folder to be looked at: what was seen once must never change or go. Reads the bucket.

Knows nothing of the connector's own code: an error in it must not hide itself.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import obstore
from obstore.store import GCSStore, S3Store


class Mirror:
    """The copy of `scheme://bucket/prefix` in `folder`; `look` brings it up to date."""

    def __init__(self, url: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.url, self.folder = url, folder
        scheme, _, rest = url.partition("://")
        bucket, _, self._prefix = rest.partition("/")
        allow: Any = {"allow_http": True}
        if scheme == "gs":
            self._store: Any = GCSStore(
                bucket, base_url=environment["STORAGE_EMULATOR_HOST"], bearer_token="none", client_options=allow
            )
        else:
            self._store = S3Store(
                bucket,
                endpoint=environment["AWS_ENDPOINT_URL"],
                aws_endpoint_url_s3=environment["AWS_ENDPOINT_URL"],
                access_key_id=environment["AWS_ACCESS_KEY_ID"],
                secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
                region=environment["AWS_REGION"],
                client_options=allow,
            )
        self._seen: dict[str, tuple[int, str]] = {}
        self._lock = threading.Lock()

    def look(self) -> Path:
        """The folder as the bucket is now. Raises: AssertionError where a part was replaced or has gone."""
        with self._lock:
            found = {}
            for chunk in obstore.list(self._store, self._prefix, chunk_size=1000):
                for facts in chunk:
                    found[facts["path"].removeprefix(f"{self._prefix}/")] = (facts["size"], str(facts["e_tag"]))
            for name, identity in self._seen.items():
                assert name in found, f"{name} has gone"
                assert found[name] == identity or name.startswith("control/"), f"{name} was replaced"
            for name, identity in found.items():
                if self._seen.get(name) != identity:
                    path = self.folder / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    staged = self.folder.with_name(f"{self.folder.name}-staged")
                    staged.write_bytes(obstore.get(self._store, f"{self._prefix}/{name}").bytes().to_bytes())
                    staged.replace(path)
            self._seen = found
            for name in ("data", "control"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            return self.folder
