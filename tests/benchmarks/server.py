"""The servers of one scenario: nginx for the contents, `api.py` for the results. Runs processes on loopback, ends them.

Contents are files in memory (`/dev/shm` where there is one), so that no disk is measured twice. nginx serves them at once
below `/c/`, and after a delay, each request for itself, below `/slow/` (its echo module sleeps without holding a worker).
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from ricloud_connector.emulator.feeds import FEEDS

DAY = date(2026, 11, 20)
TOKEN = "benchmark-token"
SMALL_BYTES = 4096

_SIGNATURE = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20261120%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20261120T000000Z&X-Amz-Expires=604800&X-Amz-SignedHeaders=host&X-Amz-Signature="
)

NGINX = """
{module}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 512; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {root};
    location /c/ {{ default_type application/octet-stream; }}
    {slow}
  }}
}}
"""
SLOW = "location ~ ^/slow/(.*)$ {{ echo_sleep {seconds}; echo_exec /c/$1; }}"
ECHO_MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")


@dataclass(frozen=True)
class Stored:
    """Contents on disk, and what an API would list of them: name, created, md5, size; and the type of all of them."""

    root: Path
    rows: list[tuple[str, datetime, str, int]]
    kind: str = "json"


@dataclass(frozen=True)
class Servers:
    """Both running. `urls` are the signed URLs of the contents, newest first."""

    api: str
    contents: str
    urls: list[str]

    def environment(self, lake: Path) -> dict[str, str]:
        return {
            "RICLOUD_URL": self.api,
            "RICLOUD_TOKEN": TOKEN,
            "RICLOUD_CONTENT_HOSTS": self.contents.removeprefix("http://"),
            "RICLOUD_LAKE": str(lake),
        }

    def stats(self) -> dict[str, int]:
        """`acknowledged`, `requests`, `lists`, since the last reset."""
        with urllib.request.urlopen(f"{self.api}/_stats") as answer:
            found: dict[str, int] = json.load(answer)
        return found

    def reset(self) -> None:
        with urllib.request.urlopen(f"{self.api}/_reset"):
            pass


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder in memory where the machine has one, gone at the end."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="ricloud-benchmark-", dir=shm if shm.is_dir() else None))
    folder.chmod(0o755)  # nginx's worker is another user where it is started by root
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def make_feeds(root: Path, count: int, *, size: int = SMALL_BYTES, day: date = DAY, first: int = 0) -> Stored:
    """JSON feeds of messages, each of exactly `size` bytes (JSON may end in spaces), all different."""
    templates = [_template(variant, size) for variant in range(64)]
    contents = (
        templates[number % len(templates)].replace(b"@token@", b"%07d" % number).replace(b"@day@", day.isoformat().encode())
        for number in range(first, first + count)
    )
    return _store(root, contents, day, first)


def make_blobs(root: Path, count: int, size: int, *, day: date = DAY) -> Stored:
    """Random bytes, all different."""
    rng = random.Random(5)
    return replace(_store(root, (rng.randbytes(size) for _ in range(count)), day, 0), kind="mp4")


def make_huge(root: Path, size: int) -> Stored:
    """One content of zeros, as a file with holes."""
    (root / "c").mkdir()
    path, md5, zeros = root / "c" / "r00000000", hashlib.md5(usedforsecurity=False), bytes(1024 * 1024)
    with path.open("wb") as file:
        file.truncate(size)
    for _ in range(size // len(zeros)):
        md5.update(zeros)
    return Stored(root, [("r00000000", datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC), md5.hexdigest(), size)], "mp4")


def make_listing(count: int, days: int = 1, *, day: date = DAY) -> Stored:
    """What is only listed and never read: no contents."""
    step = timedelta(days=days) / count
    created = datetime(day.year, day.month, day.day, tzinfo=UTC)
    rng = random.Random(6)
    rows = [(f"r{number:08d}", created + number * step, f"{rng.getrandbits(128):032x}", SMALL_BYTES) for number in range(count)]
    return Stored(Path("/nonexistent"), rows)


def _template(variant: int, size: int) -> bytes:
    """A document that is as long as its placeholders make it, plus spaces."""
    rng = random.Random(variant)
    records: list[object] = []
    text = b""
    while True:
        records.append(FEEDS["ios_messages.messages"](rng, len(records), variant))
        longer = json.dumps({"data": records, "metadata": {"count": len(records)}}, ensure_ascii=False).encode()
        filled = longer.replace(b"@day@", b"2026-11-20")
        if len(filled) > size:
            break
        text = longer
    filled = text.replace(b"@day@", b"2026-11-20")
    return text + b" " * (size - len(filled))


def _store(root: Path, contents: Iterable[bytes], day: date, first: int) -> Stored:
    created = datetime(day.year, day.month, day.day, tzinfo=UTC)
    (root / "c").mkdir(exist_ok=True)
    rows = []
    for number, content in enumerate(contents, first):
        name = f"r{number:08d}"
        (root / "c" / name).write_bytes(content)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        rows.append((name, created + timedelta(milliseconds=number), md5, len(content)))
    return Stored(root, rows)


@contextmanager
def running(stored: Stored, *, delay_ms: float = 0) -> Iterator[Servers]:
    """nginx and the API over some contents, every answer `delay_ms` late."""
    with tempfile.TemporaryDirectory(prefix="ricloud-benchmark-") as temporary:
        folder = Path(temporary)
        with _nginx(folder, stored.root, delay_ms) as contents:
            path = "slow" if delay_ms else "c"
            urls = [f"{contents}/{path}/{name}?{_SIGNATURE}{md5}{md5}" for name, _, md5, _ in reversed(stored.rows)]
            manifest = folder / "manifest"
            with manifest.open("w") as file:
                file.writelines(_line(row, url, stored.kind) for row, url in zip(reversed(stored.rows), urls, strict=True))
            with _api(manifest, delay_ms) as api:
                yield Servers(api, contents, urls)


def _line(row: tuple[str, datetime, str, int], url: str, kind: str) -> str:
    name, created, md5, size = row
    moment = created.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    item = {
        "id": name,
        "resource": "result",
        "organisation": "org-1",
        "poll": "poll-1",
        "task": f"task-{name}",
        "identifier": "ios_messages.messages" if kind == "json" else f"Media/DCIM/{name}.{kind}",
        "url": f"s3://results/{name}",
        "type": kind,
        "checksum": md5,
        "size": size,
        "state": "available",
        "date_created": moment,
        "date_consumed": None,
        "date_deleted": None,
        "signed_url": {"url": url, "date_expires": "2036-01-01T00:00:00Z"},
    }
    return f"{name}\t{moment}\t{json.dumps(item, separators=(',', ':'))}\n"


@contextmanager
def _nginx(folder: Path, root: Path, delay_ms: float) -> Iterator[str]:
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        raise SystemExit("nginx is needed: apt-get install nginx-light")
    if delay_ms and not ECHO_MODULE.exists():
        raise SystemExit("nginx's echo module is needed for the delay: apt-get install nginx-light")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    slow = SLOW.format(seconds=delay_ms / 1000) if delay_ms else ""
    module = f"load_module {ECHO_MODULE};" if delay_ms else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, port=port, root=root, slow=slow, module=module))
    process = subprocess.Popen([program, "-p", folder, "-c", configuration], stderr=subprocess.DEVNULL)
    try:
        _until_listening(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _api(manifest: Path, delay_ms: float) -> Iterator[str]:
    command = [sys.executable, str(Path(__file__).with_name("api.py")), str(manifest), "--delay-ms", str(delay_ms)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()  # it has nothing to lose, and inherits that SIGTERM is ignored where Dagster's caller ignores SIGINT
        process.wait(30)


def _until_listening(port: int) -> None:
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SystemExit("nginx did not start")
