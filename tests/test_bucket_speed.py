"""How fast contents come out of a bucket, beside obstore alone in the same run; and how much memory a large one takes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from ricloud_connector.buckets import Buckets
from ricloud_connector.cloud import Cloud
from ricloud_connector.emulator import Emulator
from ricloud_connector.emulator.seaweedfs import SeaweedFS
from ricloud_connector.fetch import Fetcher
from ricloud_connector.model import Content
from ricloud_connector.stores.bucket import BucketStore
from ricloud_connector.stores.signed_url import SignedUrlStore
from tests.command import clean_environment
from tests.test_memory import _WATCH
from tests.test_stores_bucket import POLICY, result_at

COUNT = 10_000
MIB = 1024 * 1024
COMMAND = str(Path(sys.executable).with_name("ricloud-connector"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_10_000_objects_of_4_kib_take_at_most_half_more_than_obstore_alone(s3: SeaweedFS, tmp_path: Path) -> None:
    """obstore alone: threads that get and throw away, as many as serve it best. Ours lists md5s, hashes and hands over."""
    store = S3Store("results", client_options={"allow_http": True})
    rng = random.Random(0)
    data = [rng.randbytes(4096) for _ in range(COUNT)]
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda number: obstore.put(store, f"speed/{number}", data[number]), range(COUNT)))
    results = [result_at(f"s3://results/speed/{number}", data[number], id=str(number)) for number in range(COUNT)]

    def alone(threads: int) -> float:
        started = time.monotonic()
        with ThreadPoolExecutor(threads) as pool:
            assert (
                sum(pool.map(lambda number: len(obstore.get(store, f"speed/{number}").bytes()), range(COUNT))) == COUNT * 4096
            )
        return time.monotonic() - started

    def ours() -> float:
        started = time.monotonic()
        with closing(SignedUrlStore()) as http:
            bucket = BucketStore(Buckets(Cloud.from_environment(os.environ)))
            fetcher = Fetcher(lambda _: results[0], POLICY, tmp_path, http=http, bucket=bucket)
            for first in range(0, COUNT, 4000):  # in batches, as a run plans them
                for outcome in fetcher.fetch(results[first : first + 4000]):
                    assert isinstance(outcome, Content)
        return time.monotonic() - started

    rounds = [(min(alone(16), alone(32), alone(64)), ours()) for _ in range(3)]
    base, mine = (min(times) for times in zip(*rounds, strict=True))
    print(f"{COUNT} x 4 KiB: obstore alone {base:.2f} s, through the fetcher {mine:.2f} s, {mine / base:.2f} times")
    assert mine < 1.5 * base


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("lake", ["disk", "bucket"])
def test_an_object_of_1_gib_takes_no_more_memory_than_one_of_300_mib(s3: SeaweedFS, tmp_path: Path, lake: str) -> None:
    """From bucket to lake, proven and acknowledged: peak RSS of the whole command."""
    store = S3Store("results", client_options={"allow_http": True})
    peaks = {}
    for mebibytes in (16, 300, 1024):
        content = tmp_path / f"{mebibytes}.bin"
        block = random.Random(mebibytes).randbytes(4 * MIB)
        with content.open("wb") as file:
            for number in range(mebibytes // 4):
                file.write(number.to_bytes(8, "big") + block[8:])
        obstore.put(store, f"large/{mebibytes}", content)
        created = datetime.now(UTC).replace(hour=0, minute=0, second=0)
        with Emulator(results=0, days=1) as emulator:
            emulator.add_result(content=content, date_created=created, signed=False, url=f"s3://results/large/{mebibytes}")
            day = emulator.days[-1]
            place = str(tmp_path / f"lake{mebibytes}") if lake == "disk" else f"s3://lake/large/{tmp_path.name}/{mebibytes}"
            environment = {**emulator.environment(), "RICLOUD_LAKE": place, "RICLOUD_BUCKETS": "results"}
            arguments = ["ingest", "--since", str(day), "--until", str(day + timedelta(days=1))]
            started = time.monotonic()
            ended = subprocess.run(
                [sys.executable, "-c", _WATCH, COMMAND, *arguments],
                env=clean_environment(environment),
                capture_output=True,
                text=True,
            )
            assert ended.returncode == 0, ended.stderr
            assert len(emulator.acknowledged) == 1
            peaks[mebibytes] = int(ended.stdout.rpartition("peak ")[2]) / 1024
            print(f"{lake}: {mebibytes} MiB in {time.monotonic() - started:.1f} s, peak RSS {peaks[mebibytes]:.0f} MB")
        content.unlink()
    assert peaks[1024] < peaks[300] + 100  # one part of 256 MiB is in memory while it is created, and no more
