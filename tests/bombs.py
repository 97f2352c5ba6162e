"""Answers and contents that want more memory than there is, and a process that ingests them and tells of its peak.

As a program it answers lines of JSON, each an environment, with how an ingest under it has ended and the peak in bytes.
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from ricloud_connector import Settings, Window, cli, ingest_results, open_run
from ricloud_connector import fetch as fetch_module
from ricloud_connector.client import MAX_BODY_BYTES
from ricloud_connector.errors import RicloudError
from ricloud_connector.ingest import days_of
from tests.hostile_server import Steps, head, reply
from tests.scripted import DAY, Script

MIB = 1024 * 1024
MOST = MAX_BODY_BYTES - 100_000
WIDE = "\U0001f600".encode() * 10_000
PAGE, END = b'{"has_more": false, "data": [', b"null]}"
ITEM = b'{"id": "odd", "state": "available", "date_created": "2026-11-20T00:00:00Z", "size": 4, "x": "'


def repeated(chunk: bytes, total: int, start: bytes = PAGE, end: bytes = END) -> Steps:
    """An answer of about that many bytes."""
    count = total // len(chunk)
    yield head(200, length=len(start) + count * len(chunk) + len(end)) + start
    for _ in range(count):
        yield chunk
    yield end


def compressed(times: int) -> bytes:
    """200 MiB of zeros, compressed that many times over."""
    return b"".join(_compressed(iter([bytes(MIB)] * 200), times))


def _compressed(chunks: Iterator[bytes], times: int) -> Iterator[bytes]:
    if times == 0:
        yield from chunks
        return
    deflate = zlib.compressobj(9, wbits=31)
    for chunk in _compressed(chunks, times - 1):
        yield deflate.compress(chunk)
    yield deflate.flush()


def encoded(encoding: str, body: bytes) -> Steps:
    return reply(200, {"Content-Encoding": encoding}, body)


LISTS: dict[str, Callable[[], Steps]] = {
    "a page without end": lambda: repeated(b'{"id": "a"}, ' * 5000, 2**40),
    "millions of lists": lambda: repeated(b"[]," * 20_000, MOST),
    "a million of lists": lambda: repeated(b"[]," * 20_000, 4 * MIB - 70_000),
    "millions of objects": lambda: repeated(b'{"id":1},' * 10_000, MOST),
    "half a million of objects": lambda: repeated(b'{"id":1},' * 10_000, 4 * MIB - 100_000),
    "a hundred thousand nulls": lambda: repeated(b"null," * 10_000, 500_000),
    "millions of texts": lambda: repeated(b'"a",' * 20_000, MOST),
    "one wide text": lambda: repeated(WIDE, MOST, PAGE + ITEM, b'"}]}'),
    "one wide text that is no UTF-8": lambda: repeated(WIDE, MOST, PAGE + ITEM + b"\xff", b'"}]}'),
    "gzip": lambda: encoded("gzip", compressed(1)),
    "gzip twice": lambda: encoded("gzip, gzip", compressed(2)),
    "gzip thrice": lambda: encoded("gzip, gzip, gzip", compressed(3)),
    "deflate": lambda: encoded("deflate", zlib.compress(bytes(50 * MIB), 9)),
    "brotli": lambda: encoded("br", b"\x8b\x00\x80" * 1000),
}


def document(data: bytes, count: int = 1) -> bytes:
    return b'{"data": [%b], "metadata": {"count": %d}}' % (data, count)


CONTENTS: dict[str, Callable[[], bytes]] = {
    "lists": lambda: document(b"[]," * (18 * MIB) + b"[]"),
    "objects": lambda: document(b"{}," * (18 * MIB) + b"{}"),
    "millions of objects": lambda: document(b"{}," * 1_500_000 + b"{}", 1_500_001),
    "numbers": lambda: document(b'{"x": [' + b"1," * 3_000_000 + b"1]}"),
    "one wide text": lambda: document(b'{"x": "' + WIDE * 750 + b'"}'),
    "wide texts": lambda: document(b",".join([b'{"x": "' + WIDE + b'"}'] * 1500), 1500),
    "many columns": lambda: document(b"{" + b",".join(b'"k%d": %d' % (n, n) for n in range(500_000)) + b"}"),
    "other columns in each": lambda: document(b",".join(b'{"k%d": %d}' % (n, n) for n in range(500_000)), 500_000),
    "deep": lambda: document(b"[" * MIB + b"]" * MIB),
    "gzip": lambda: compressed(1),
}

# Near the limits of a document, of a record or of what stands beside the records.
LARGE: dict[str, Callable[[], bytes]] = {
    "millions of rows": lambda: document(b'{"a":1},' * 2_400_000 + b'{"a":1}', 2_400_001),
    "64 MiB of rows": lambda: document(b",".join([_ROW % (n, n) for n in range(540_000)]), 540_000),
    "rows of wide texts": lambda: document(b",".join([b'{"x": "%b"}' % (b"x" * (8 * MIB - 100) + WIDE[:4])] * 7), 7),
    "rows of numbers": lambda: document(b",".join([b'{"x": [%b1]}' % (b"0.12345," * 990_000)] * 5), 5),
    "rows of small objects": lambda: document(b",".join([b'{"x": [%b{}]}' % (b'{"":1},' * 490_000)] * 2), 2),
    "rows of small lists": lambda: document(b",".join([b'{"x": [%b[]]}' % (b"[1]," * 490_000)] * 5), 5),
    "five million numbers": lambda: document(b'{"x": [' + b"0.1," * 4_900_000 + b"1]}"),
    "names of their own": lambda: document(b",".join(b'{"key%d":{"name%d":1}}' % (n, n) for n in range(900_000)), 900_000),
    "maps": lambda: document(b",".join(b'{"m":{%b}}' % _MAP for n in range(15_000)), 15_000),
    "deep rows": lambda: document(b",".join([b'{"x":%b%b}' % (b"[" * 900, b"]" * 900)] * 4_000), 4_000),
}
_ROW = b'{"id": %d, "text": "message number %d of a year", "date": "2026-11-20T10:15:30Z", "at": {"x": 1.5, "y": [1, 2]}}'
_MAP = b",".join(b'"name of a field %d":"value"' % n for n in range(100, 200))


class Ingests:
    """A process of its own that ingests what it is told, while a `with` block lasts; nothing else is in its memory."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.bombs"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)

    def run(self, script: Script, lake: Path) -> tuple[str, int]:
        """How it ended, and the peak of the process's memory so far in bytes."""
        script.lake = lake
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**script.environment(), "RICLOUD_LAKE": str(lake)}) + "\n")
        self._process.stdin.flush()
        ended, peak = json.loads(self._process.stdout.readline())
        return ended, peak


def main() -> None:
    cli._manage_memory()  # as the command does
    fetch_module.FIRST_PAUSE_S = 0.01
    for line in sys.stdin:
        settings = dataclasses.replace(Settings.from_environment(json.loads(line)), api_deadline_s=5.0)
        try:
            with open_run(settings) as opened:
                for report in ingest_results(opened, days_of(Window.of_day(DAY))):
                    assert report.records_error is None
            ended = "done"
        except RicloudError as error:
            ended = type(error).__name__
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        print(json.dumps([ended, int(peak) * 1024]), flush=True)


if __name__ == "__main__":
    main()
