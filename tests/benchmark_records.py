"""How fast JSON becomes records, and in how much memory:  python -m tests.benchmark_records [megabytes]

Documents are those of the emulator's feeds, some hundreds of bytes to some tens of kB each, in contents parts of 64 MB. What
is timed is all of it: reading the contents, parsing, typing, writing Parquet, fsync, and reading it back.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ricloud_connector.emulator.feeds import FEEDS, VARIANTS, make_feed
from ricloud_connector.records.document import parse_document
from tests.lakes import opened_lake
from tests.test_derive import derive, put

PART_BYTES = 64_000_000


def main(megabytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder, opened_lake(Path(folder) / "lake") as lake:
        number = total = 0
        while total < megabytes * 1_000_000:
            for feed in FEEDS:
                documents: dict[str, bytes] = {}
                size = 0
                while size < PART_BYTES / len(FEEDS):
                    documents[f"{number}"] = make_feed(feed, number % VARIANTS, f"{number}", "2026-11-20")
                    size += len(documents[f"{number}"])
                    number += 1
                put(lake, documents, feed=feed)
                total += size
        plain = _seconds(lambda: [json.loads(raw) and None for raw in documents.values()])
        strict = _seconds(lambda: [parse_document(raw) and None for raw in documents.values()])
        print(f"CPU: json.loads alone {size / plain / 1e6:.0f} MB/s, strict parsing alone {size / strict / 1e6:.0f} MB/s")
        documents = {}
        before = _peak()
        for said in ("new feeds", "known feeds"):
            shutil.rmtree(lake.data / "records", ignore_errors=True)
            started = time.process_time()
            report = derive(lake)
            cpu, mb, rows = time.process_time() - started, report.json_bytes / 1e6, sum(report.rows.values())
            print(f"{said}: {report.documents:,} documents, {mb:.0f} MB of JSON, {rows:,} records in {report.files} files")
            print(f"  contents to records: {mb / report.seconds:.1f} MB/s by the clock, {mb / cpu:.1f} MB/s of CPU time")
        print(f"peak memory {_peak():.0f} MB, {before:.0f} MB before; {sum(report.misfits.values())} values in _extra")


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
