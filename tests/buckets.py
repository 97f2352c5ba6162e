"""Where the tests of a lake in a bucket have their buckets: SeaweedFS for S3, a double of our own for GCS. Starts servers.

GCS has no server of its own to run; `object_server.py` is written from its documentation, and nothing here was ever run
against Google.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ricloud_connector.cloud import Cloud, lake_url
from ricloud_connector.emulator.seaweedfs import SeaweedFS
from ricloud_connector.lake import Lake
from tests.lakes import ORGANISATION, ORIGIN
from tests.mirror import Mirror
from tests.object_server import ObjectServer

_numbers = itertools.count()


@dataclass
class BucketPlace:
    """A lake's place in a bucket, the environment that leads there, and a copy to look at."""

    url: str
    environment: Mapping[str, str]
    mirror: Mirror
    server: SeaweedFS | ObjectServer

    @contextmanager
    def opened(self, run_id: str = "run", organisation: str | None = ORGANISATION) -> Iterator[Lake]:
        """A lake that is ready to be written."""
        lake = self.lake(run_id)
        with lake.opened():
            lake.claim(organisation)
            yield lake

    def lake(self, run_id: str = "run") -> Lake:
        scratch = self.mirror.folder.with_name(f"{self.mirror.folder.name}-scratch")
        return Lake(lake_url(self.url, Cloud.from_environment(self.environment)), origin=ORIGIN, run_id=run_id, scratch=scratch)


def place_on(server: SeaweedFS | ObjectServer, folder: Path, *, scheme: str = "s3") -> BucketPlace:
    """A place that no other test has."""
    number = next(_numbers)
    url = f"{scheme}://lake/of-{folder.name}/{number}"
    environment = server.environment() if isinstance(server, SeaweedFS) else server.environment(scheme)
    return BucketPlace(url, environment, Mirror(url, folder / f"mirror{number}", environment), server)
