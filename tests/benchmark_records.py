"""How fast JSON becomes records, and in how much memory:  python -m tests.benchmark_records [megabytes]

Documents are those of the emulator's feeds, some hundreds of bytes to some tens of kB each. First the parsers alone, from
documents in memory to typed rows in memory: Arrow's way, which is that of documents that fit their feed's columns; and the
quick way, with a value in each document that fits none. Then all of it, from contents parts of 64 MB to records files: reading,
parsing, typing, writing Parquet, fsync, and decoding what was written. Three times: feeds that nobody has seen; the same again,
when their columns are known; and documents of which each has a misfit.
"""

from __future__ import annotations

import gc
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import harmonic_mean, median

from ricloud_connector.emulator.feeds import FEEDS, VARIANTS, make_feed
from ricloud_connector.lake import Lake
from ricloud_connector.records import RecordsReport, derive_records
from ricloud_connector.records.bulk import BulkReader
from ricloud_connector.records.columns import Columns, add_columns, infer_columns
from ricloud_connector.records.document import parse_quickly
from ricloud_connector.records.documents import Document, Documents
from ricloud_connector.records.filling import BATCH_BYTES, CHUNK_BYTES
from ricloud_connector.records.rows import Source, build_table
from tests.lakes import DAY, MOMENT, opened_lake, put

PART_BYTES = 64_000_000


def main(megabytes: int) -> None:
    _parsers()
    with tempfile.TemporaryDirectory() as folder:
        with opened_lake(Path(folder) / "known") as lake:
            _fill(lake, megabytes, _plain)
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


def _parsers() -> None:
    """Documents in memory to typed rows in memory, by the clock: the median of seven for each feed."""
    bulk, quick = list[float](), list[float]()
    for feed in FEEDS:
        count, size = 0, 0
        plain = list[bytes]()
        while size < BATCH_BYTES:
            plain.append(make_feed(feed, count % VARIANTS, f"{count}", str(DAY)))
            count, size = count + 1, size + len(plain[-1])
        records = [record for raw in plain for record in json.loads(raw)["data"]]
        columns = add_columns({}, infer_columns(records, {}))
        rows = (Document(str(n), feed, MOMENT, None, "", len(raw), True, raw) for n, raw in enumerate(plain))
        documents = Documents.of(rows)
        reader = BulkReader()
        assert not reader.read(documents, columns)[1]  # it has learnt the feed's blanks now
        bulk.append(_speed(plain, lambda reader=reader, documents=documents, columns=columns: reader.read(documents, columns)))
        misfits = [_with_misfits(raw) for raw in plain[: len(plain) * CHUNK_BYTES // BATCH_BYTES]]
        quick.append(_speed(misfits, lambda misfits=misfits, columns=columns: _quickly(misfits, columns)))
    for said, speeds in (("Arrow's way", bulk), ("a misfit in each document", quick)):
        by_feed = ", ".join(f"{speed:.0f}" for speed in speeds)
        print(f"JSON to typed rows, {said}: {harmonic_mean(speeds):.0f} MB/s (by feed {by_feed})")


def _quickly(raws: list[bytes], columns: Columns) -> None:
    gc.disable()
    try:
        found = [quick for raw in raws if (quick := parse_quickly(raw)) is not None]
        assert len(found) == len(raws)
        assert not infer_columns([record for quick in found for record in quick.records], columns)
        built = build_table([Source("0", MOMENT, None, quick.records) for quick in found], columns)
        assert built.misfits.total() == len(raws)
    finally:
        gc.enable()


def _speed(raws: list[bytes], work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return sum(map(len, raws)) / 1e6 / median(seconds)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 256)
