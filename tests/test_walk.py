"""A newcomer's walk through the real UI: a project is written, started, its sensor switched on; what arrives is seen there.

By hand: needs Debian's `chromium` and the package `playwright`. With SCREENSHOTS=<folder> the pictures are kept there.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from ricloud_connector.emulator import Emulator
from tests.command import clean_environment, run_command
from tests.exactness import assert_exact, provable

CHROMIUM = shutil.which("chromium")
NAME = "my_project"
TICK_S = 60
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def keep():
    """Where pictures go, or None."""
    folder = os.environ.get("SCREENSHOTS")
    return None if folder is None else Path(folder).absolute()


@contextmanager
def served(project: Path, environment: dict[str, str], log: Path):
    """`dg dev` on a free port; the address of its UI once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("dg")), "dev", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as said:
        process = subprocess.Popen(
            command, cwd=project, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(url), seconds=180)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def until(condition: Callable[[], bool], *, seconds: float) -> float:
    """Wait for it; returns how long that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it never happened"
        time.sleep(0.5)
    return time.monotonic() - started


class Browser:
    """One page of the UI at a time: what it says, and a picture of it."""

    def __init__(self, page, url: str, keep: Path | None):
        self.page, self.url, self.keep = page, url, keep

    def sees(self, path: str, *words: str, tab: str | None = None, picture: str | None = None) -> None:
        """Open a page and wait for each of these words on it; the last one comes into the picture."""
        self.page.goto(self.url + path)
        if tab is not None:
            self.page.get_by_text(tab, exact=True).first.click(timeout=60_000)
        for word in words:
            self.page.get_by_text(word, exact=False).first.wait_for(timeout=60_000)
        self.page.get_by_text(words[-1], exact=False).first.scroll_into_view_if_needed()
        self.page.wait_for_timeout(2_000)  # plots and graphs are drawn after their words
        if picture and self.keep:
            self.keep.mkdir(parents=True, exist_ok=True)
            taken = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
            taken.quantize(256, method=Image.Quantize.FASTOCTREE).save(self.keep / f"{picture}.png", optimize=True)

    def switch_on(self, name: str) -> None:
        """The switch beside a sensor's name, as a hand would move it."""
        self.page.goto(f"{self.url}/locations/{NAME}/sensors/{name}")
        switch = self.page.locator("input[type=checkbox]").first
        switch.wait_for(state="attached", timeout=60_000)
        assert not switch.is_checked(), "it is stopped until somebody starts it"
        switch.locator("xpath=..").click()
        until(switch.is_checked, seconds=30)


def test_a_newcomer_sees_results_arrive(tmp_path, keep):
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
    assert run_command("init", NAME, cwd=tmp_path).returncode == 0
    settings = tmp_path / NAME / "src" / NAME / "defs" / "ricloud" / "defs.yaml"
    # As it comes, a day has a run every five minutes at most, so that a busy one does not become thousands of files.
    settings.write_text(settings.read_text().replace("  sensor:\n", "  sensor:\n    pause_minutes: 0\n"))
    home, lake = tmp_path / "home", tmp_path / "lake"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    with Emulator(results=300, days=3, large_bytes=None) as emulator:
        environment = clean_environment(
            {
                **emulator.environment(),
                "RICLOUD_LAKE": str(lake),
                "REPORTS": str(tmp_path / "reports"),
                "DAGSTER_HOME": str(home),
                "PYTHONPATH": str(tmp_path / NAME / "src"),
            }
        )
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        with served(tmp_path / NAME, environment, tmp_path / "dev.log") as url, sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            ui = Browser(chromium.new_page(viewport={"width": 1500, "height": 900}), url, keep)
            ui.sees("/automation", "ricloud_new_results", "ricloud_reconcile")
            ui.switch_on("ricloud_new_results")
            good = {result.id for result in provable(emulator)}
            until(lambda: good <= set(emulator.acknowledged), seconds=300)

            moment = datetime.now(UTC) - timedelta(seconds=1)
            arrived = {str(emulator.add_result(content=b"new", date_created=moment).id) for _ in range(5)}
            took = until(lambda: arrived <= set(emulator.acknowledged), seconds=2 * TICK_S + 60)
            assert_exact(lake, emulator)

            today, day = moment.date().isoformat(), emulator.days[0].isoformat()
            graph = f"/locations/{NAME}/asset-groups/ricloud/lineage"
            ui.sees(graph, "results", "acknowledgements", "identifiers", "Parquet", "Passed", picture="graph")
            partition = f"/assets/ricloud/contents?view=partitions&partition={today}"
            ui.sees(partition, "dagster/partition_row_count", "ricloud/new", "ricloud/mb_per_s", picture="partition")
            ui.sees(f"/assets/ricloud/results?view=partitions&partition={day}", "ricloud/preview", picture="preview")
            checks = "/assets/ricloud/contents?view=checks&checkDetail=none_quarantined"
            ui.sees(checks, "contents_proven", "counts_agree", "results are in quarantine", picture="checks")
            overview = "/assets/ricloud/contents?view=overview"
            ui.sees(overview, "result_id", "Position of this chunk in the content", picture="columns")
            ui.sees(overview, "ricloud/lag_s", "ricloud/mb_per_s", tab="Plots", picture="plots")
            ui.sees(f"/locations/{NAME}/sensors/ricloud_new_results", "ricloud_ingest", picture="sensor")
            chromium.close()
    print(f"new results were acknowledged {took:.0f} s after they had appeared")
