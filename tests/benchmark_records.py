"""How fast JSON becomes records, and in how much memory:  python -m tests.benchmark_records [megabytes]

Documents are those of the emulator's feeds, some hundreds of bytes to some tens of kB each, in contents parts of 64 MB. What
is timed is all of it: reading the contents, parsing, typing, writing Parquet, fsync, and reading it back. Three times: feeds
that nobody has seen; the same again, when their columns are known (nearly everything takes Arrow's way); and documents of
which each has a value that does not fit, so that all of them are parsed by Python and nothing takes Arrow's way.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ricloud_connector.emulator.feeds import FEEDS, VARIANTS, make_feed
from ricloud_connector.lake import Lake
from ricloud_connector.records import RecordsReport, derive_records
from ricloud_connector.records.document import parse_document
from tests.lakes import DAY, opened_lake, put

PART_BYTES = 64_000_000


def main(megabytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with opened_lake(Path(folder) / "known") as lake:
            sample = _fill(lake, megabytes, _plain)[:4_000]
            for said, parse in (("json.loads", json.loads), ("our strict parsing", parse_document)):
                print(f"{said} alone: {_speed(parse, sample):.0f} MB/s of CPU time")
            before = _peak()
            _derive(lake, "new feeds")
            shutil.rmtree(lake.data / "records")
            _derive(lake, "known feeds")
        with opened_lake(Path(folder) / "misfits") as lake:
            _fill(lake, 20, _plain)
            derive_records(lake, DAY, at=datetime.now(UTC))
            _fill(lake, megabytes // 4, _with_misfits)
            _derive(lake, "a misfit in every document")
        print(f"peak memory {_peak():.0f} MB, {before:.0f} MB before")


def _fill(lake: Lake, megabytes: int, alter: Callable[[bytes], bytes]) -> list[bytes]:
    """Contents of that many MB in all, feed by feed; returns the last documents."""
    number = total = 0
    while total < megabytes * 1_000_000:
        for feed in FEEDS:
            documents: dict[str, bytes] = {}
            size = 0
            while size < min(PART_BYTES, megabytes * 1_000_000) / len(FEEDS):
                documents[f"{alter.__name__}{number}"] = raw = alter(make_feed(feed, number % VARIANTS, f"{number}", str(DAY)))
                size += len(raw)
                number += 1
            put(lake, documents, feed=feed)
            total += size
    return list(documents.values())


def _plain(raw: bytes) -> bytes:
    return raw


def _with_misfits(raw: bytes) -> bytes:
    """The document with a field in its first record that no column can have."""
    return raw.replace(b'{"data": [{', b'{"data": [{"Poll": "named as one of ours is", ', 1)


def _derive(lake: Lake, said: str) -> None:
    started = time.process_time()
    report: RecordsReport = derive_records(lake, DAY, at=datetime.now(UTC))
    cpu, mb, rows = time.process_time() - started, report.json_bytes / 1e6, sum(report.rows.values())
    print(f"{said}: {report.documents:,} documents, {mb:.0f} MB of JSON, {rows:,} records in {report.files} files")
    misfits = sum(report.misfits.values())
    print(f"  {mb / report.seconds:.0f} MB/s by the clock, {mb / cpu:.0f} MB/s of CPU time; {misfits} misfits")


def _speed(parse: Callable[[bytes], object], documents: list[bytes]) -> float:
    started = time.process_time()
    for raw in documents:
        parse(raw)
    return sum(map(len, documents)) / 1e6 / (time.process_time() - started)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 256)
