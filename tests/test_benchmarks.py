"""Speed does not rot: ratios against what runs beside it on the same server in the same minute, never absolute times."""

import shutil
import statistics
import tempfile
from pathlib import Path

import pytest

from tests.benchmarks.scenarios import QUICK, Bench
from tests.benchmarks.server import make_feeds, memory_folder, running

RESULTS = 8_000
ROUNDS = 3

pytestmark = [
    pytest.mark.ci,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin") is None, reason="nginx-light is not installed"
    ),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


def times_of(delay_ms: float, results: int) -> tuple[float, float]:
    """Median seconds of the command, and of curl into md5sum, for the same contents."""
    bench = Bench(QUICK, Path(tempfile.gettempdir()))
    with memory_folder() as root, running(make_feeds(root, results), delay_ms=delay_ms) as servers:
        listed = root / "curl"
        listed.write_text("".join(f'url = "{url}"\n' for url in servers.urls))
        ours, limit = [], []
        for _ in range(ROUNDS):
            ours.append(bench.ours(servers, results).wall_s)
            limit.append(bench.tool(f"curl -sS -Z --parallel-max 64 --config {listed} | md5sum").wall_s)
    return statistics.median(ours), statistics.median(limit)


def test_an_ingest_with_its_proof_takes_few_times_what_curl_and_md5sum_take():
    """Loading what it needs is half a second of the difference, whatever is ingested."""
    ours_s, curl_s = times_of(0, RESULTS)
    print(f"{RESULTS} contents of 4 KiB: {ours_s:.2f} s, curl into md5sum {curl_s:.2f} s")
    assert ours_s < 12 * curl_s


def test_where_every_answer_is_late_an_ingest_keeps_as_many_in_flight_as_curl():
    ours_s, curl_s = times_of(30, RESULTS)
    print(f"{RESULTS} contents of 4 KiB, 30 ms late: {ours_s:.2f} s, curl into md5sum {curl_s:.2f} s")
    assert ours_s < 1.8 * curl_s
