"""From settings to the edges of one run, opened and closed together. Runs the edges."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from ricloud_connector.buckets import Buckets
from ricloud_connector.bulk_fetch import BulkFetch
from ricloud_connector.client import RicloudClient
from ricloud_connector.fetch import Fetcher
from ricloud_connector.ingest import Progress, Run
from ricloud_connector.lake import Lake
from ricloud_connector.part_sink import PartSinks
from ricloud_connector.schemas import CONTENTS
from ricloud_connector.settings import Settings
from ricloud_connector.staging import opened_staging
from ricloud_connector.stores.bucket import BucketStore
from ricloud_connector.stores.local import LocalStore
from ricloud_connector.stores.signed_url import SignedUrlStore


def new_run_id() -> str:
    """A name for a run that no other run has."""
    return secrets.token_hex(8)


def open_client(settings: Settings) -> RicloudClient:
    """The API's client; close it, or use it as a context manager."""
    return RicloudClient(settings.url, settings.token, deadline_s=settings.api_deadline_s, proxy=settings.proxy)


def part_sinks_of(lake: Lake) -> PartSinks:
    """What writes large contents into parts of an opened lake while they arrive; close it."""
    return PartSinks(lambda compressed: lake.writer(CONTENTS, compressed=compressed), lake.staging, lake.storage.longest_part)


@contextmanager
def look_at(settings: Settings) -> Iterator[tuple[RicloudClient, Lake]]:
    """The client and the lake for those who only look: the lake is neither probed nor made."""
    with open_client(settings) as client:
        yield client, Lake(settings.lake, origin=settings.origin, run_id=new_run_id(), scratch=settings.staging)


@contextmanager
def open_run(
    settings: Settings, *, run_id: str | None = None, progress: Progress | None = None, patient: bool = False
) -> Iterator[Run]:
    """The client, the lake (probed) and the fetcher of one run. Raises: SettingsError, LakeError."""
    run_id = run_id or new_run_id()
    lake = Lake(settings.lake, origin=settings.origin, run_id=run_id, scratch=settings.staging)
    client = open_client(settings)
    concurrency, stall_s, proxy = settings.concurrency, settings.stall_s, settings.proxy
    http = SignedUrlStore(concurrency=concurrency, stall_s=stall_s, proxy=proxy, beside=lambda: bulk.reserved)
    bulk = BulkFetch(
        settings.policy,
        concurrency=concurrency,
        stall_s=stall_s,
        proxy=proxy,
        others=lambda: http.in_flight,
        throttled=http.slow_down,
    )
    local = LocalStore(settings.policy.local_root) if settings.policy.local_root else None
    bucket = BucketStore(Buckets(settings.cloud, stall_s=settings.stall_s)) if settings.policy.reads_buckets else None
    try:
        with client, lake.opened(), ExitStack() as stack:
            staging = lake.staging
            if settings.staging is not None and isinstance(settings.lake, Path):  # else the lake has its own there
                staging = stack.enter_context(opened_staging(settings.staging / run_id))
            parts = stack.enter_context(closing(part_sinks_of(lake)))
            fetcher = Fetcher(
                client.retrieve_result, settings.policy, staging, http=http, local=local, bucket=bucket, parts=parts
            )
            run = Run(client, lake, fetcher, run_id, patient=patient, bulk=bulk)
            if progress is not None:
                run.progress = progress
            yield run
    finally:
        try:
            bulk.close()
        finally:
            http.close()
