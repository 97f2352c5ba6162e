"""What the parts of a run cost alone, in CPU seconds per 1,000 results of 4 KiB: `python -m tests.benchmarks.limits`.

The sum is what a run in this interpreter cannot go below without leaving something out. Needs nginx-light.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from ricloud_connector.listed import Listed
from ricloud_connector.location import HttpLocation
from ricloud_connector.model import Content, Result
from ricloud_connector.part_reader import read_groups
from ricloud_connector.parts import ContentsWriter, PartWriter, StagedPart
from ricloud_connector.readback import prove_staged
from ricloud_connector.records.bulk import BulkReader
from ricloud_connector.records.columns import infer_columns
from ricloud_connector.records.documents import Document, Documents
from ricloud_connector.schemas import CONTENTS, RESULTS, result_rows
from ricloud_connector.sink import Sink
from ricloud_connector.stores import Transfer
from ricloud_connector.stores.signed_url import SignedUrlStore
from ricloud_connector.wire import parse_page
from tests.benchmarks.server import Servers, make_feeds, memory_folder, running

COUNT = 20_000
PAGE = 1_000


@contextmanager
def measured(what: str) -> Iterator[None]:
    started = time.process_time()
    yield
    print(f"{what:<58}{(time.process_time() - started) / COUNT * 1000:8.4f}", flush=True)


def fetch(servers: Servers, staging: Path) -> list[bytes]:
    """Every content through libcurl into a sink: received, md5 and sha256."""
    host, store, found = servers.contents.removeprefix("http://"), SignedUrlStore(), list[bytes]()
    moment = datetime(2026, 11, 20, tzinfo=UTC)
    results = [Result(f"r{number}", f"r{number}", "available", moment, None, 4096) for number in range(COUNT)]
    transfers = [
        Transfer(HttpLocation(url, host, trusted=True), Sink(result, staging))
        for url, result in zip(servers.urls, results, strict=True)
    ]
    sinks = [transfer.sink for transfer in transfers]
    with measured("fetched by libcurl, 64 at a time, md5 and sha256"):
        for _, fault in store.transfer(transfers):
            assert fault is None, fault
    store.close()
    found += (b"".join(sink._chunks) for sink in sinks)
    return found


def pages(servers: Servers) -> list[bytes]:
    """List pages, as the API would answer them."""
    items = [
        {
            "id": f"r{number:08d}",
            "resource": "result",
            "identifier": "ios_messages.messages",
            "type": "json",
            "checksum": "0" * 32,
            "size": 4096,
            "state": "available",
            "date_created": "2026-11-20T10:15:30.123456Z",
            "signed_url": {"url": url, "date_expires": "2036-01-01T00:00:00Z"},
        }
        for number, url in enumerate(servers.urls)
    ]
    return [
        json.dumps({"data": items[start : start + PAGE], "has_more": True}, separators=(",", ":")).encode()
        for start in range(0, COUNT, PAGE)
    ]


def parquet(listed: list[Listed], bodies: list[bytes], staging: Path) -> StagedPart:
    contents = [
        Content(result._replace(checksum=md5), md5, hashlib.sha256(body).hexdigest(), body)
        for result, body in zip((result for page in listed for result in page.results()), bodies, strict=True)
        for md5 in [hashlib.md5(body, usedforsecurity=False).hexdigest()]
    ]
    with PartWriter(RESULTS, staging / "results", {}) as writer, measured("rows of metadata, to Parquet"):
        for page in listed:
            writer.write(result_rows(page, run_id="run", seen_at=datetime.now(UTC)))
        writer.finish()
    with PartWriter(CONTENTS, staging / "contents", {}) as writer, measured("contents, to Parquet with zstd and checksums"):
        rows = ContentsWriter(writer)
        for content in contents:
            rows.add(content)
        rows.flush()
        return writer.finish()


def records(staged: StagedPart) -> None:
    documents = []
    for group in read_groups(staged.path, CONTENTS):
        for name, body in zip(group.column("result_id").to_pylist(), group.column("content").to_pylist(), strict=True):
            documents.append(Document(name, "feed", datetime(2026, 11, 20, tzinfo=UTC), None, "", len(body), True, body))
    columns = infer_columns([record for each in documents[:PAGE] for record in json.loads(each.raw)["data"]], {})
    reader = BulkReader()
    with measured("JSON to typed columns, by Arrow"):
        for start in range(0, COUNT, PAGE):
            _, doubted = reader.read(Documents.of(documents[start : start + PAGE]), columns)
            assert not doubted, "these would be read by Python"


def loaded(code: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", code], check=True)


def main() -> None:
    pa.set_memory_pool(pa.system_memory_pool())
    pa.array([0])  # imports pandas if there is one, which the command keeps Arrow from
    print(f"CPU seconds per 1,000 of {COUNT:,} results")
    with memory_folder() as root, running(make_feeds(root, COUNT)) as servers, tempfile.TemporaryDirectory() as folder:
        bodies = fetch(servers, Path(folder))
        answers = pages(servers)
        with measured("pages of the list, parsed"):
            listed = [parse_page(200, {}, answer).items for answer in answers]
        staged = parquet(listed, bodies, Path(folder))
        with measured("decoded again and proven"):
            prove_staged(staged)
        records(staged)
    started = time.perf_counter()
    loaded("import ricloud_connector.cli")()
    print(f"{'the command, loaded (wall)':<58}{(time.perf_counter() - started) / COUNT * 1000:8.4f}")


if __name__ == "__main__":
    main()
