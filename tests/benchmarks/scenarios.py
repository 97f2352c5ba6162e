"""What is measured: each scenario runs its contestants in turn on one server and yields what every run cost.

Every contestant is a whole process, imports included, that begins with an empty folder on the disk under test. What a
contestant was asked for is checked after each of its runs, so that no figure stands for less work than its row says.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq

from tests.benchmarks.environments import python_of
from tests.benchmarks.measure import Cost, run
from tests.benchmarks.server import DAY, Servers, make_blobs, make_feeds, make_huge, make_listing, memory_folder, running

PEERS = Path(__file__).with_name("peers")
IN_FLIGHT = 64
DELAY_MS = 30
MIB = 1024 * 1024


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    small: int
    vendor: int
    vendor_late: int
    dlt: int
    large: int
    listed: int
    windows: int
    stored: int
    elsewhere: int
    memory: tuple[int, ...]
    huge_gib: int
    runs: int


FULL = Sizes(100_000, 6_000, 300, 20_000, 24, 1_000_000, 1_000_000, 100_000, 100, (2_000, 20_000, 200_000), 10, 3)
QUICK = Sizes(20_000, 2_000, 100, 3_000, 8, 100_000, 64_000, 20_000, 20, (2_000, 20_000), 2, 3)


@dataclass
class Row:
    """A contestant: how many results one run is about, what each run cost, what else it told."""

    scenario: str
    name: str
    results: int
    costs: list[Cost] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def wall_s(self) -> float:
        return statistics.median(cost.wall_s for cost in self.costs)

    @property
    def per_s(self) -> float:
        return self.results / self.wall_s

    @property
    def cpu_s_per_1000(self) -> float:
        return statistics.median(cost.cpu_s for cost in self.costs) / self.results * 1000

    @property
    def rss_mb(self) -> float:
        return statistics.median(cost.rss_mb for cost in self.costs)


@dataclass(frozen=True)
class Bench:
    """Where results of runs go for a moment, and how much is run."""

    sizes: Sizes
    disk: Path

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A name for a folder that does not exist yet, on the disk under test."""
        parent = Path(tempfile.mkdtemp(prefix="ricloud-benchmark-", dir=self.disk))
        try:
            yield parent / "made"
        finally:
            shutil.rmtree(parent)

    def turns(self, contestants: Sequence[Callable[[], Cost]], rows: Sequence[Row]) -> list[Row]:
        """Each contestant in turn, so often as is asked for: a machine that grows slower does so for all."""
        for _ in range(self.sizes.runs):
            for contestant, row in zip(contestants, rows, strict=True):
                row.costs.append(contestant())
                print(f"  {row.scenario}: {row.name}: {row.costs[-1].wall_s:.2f} s", flush=True)
        return list(rows)

    def ours(self, servers: Servers, results: int, *options: str, days: int = 1, together: bool = False) -> Cost:
        """The command itself, with everything that it does."""
        servers.reset()
        with self.folder() as lake:
            command = [*ingest_command(), "--since", str(DAY), "--until", str(DAY + timedelta(days=days)), *options]
            cost = run(command, servers.environment(lake), together=together)
        assert servers.stats()["acknowledged"] == results, servers.stats()
        return cost

    def vendor(self, servers: Servers, what: str, results: int) -> Cost:
        servers.reset()
        with self.folder() as folder:
            command = [python_of("vendor"), str(PEERS / "vendor.py"), what, str(folder), str(results)]
            cost = run(command, servers.environment(folder))
        assert what == "list" or servers.stats()["acknowledged"] == results, servers.stats()
        return cost

    def dlt(self, servers: Servers) -> Cost:
        servers.reset()
        with self.folder() as folder:
            return run([python_of("dlt"), str(PEERS / "dlt_rows.py"), str(folder)], servers.environment(folder))

    def tool(self, command: str) -> Cost:
        """A line of shell, in an empty folder."""
        with self.folder() as folder:
            folder.mkdir()
            return run(["bash", "-o", "pipefail", "-c", f"cd {folder}; {command}"])

    def told(self, servers: Servers, lake: Path, *arguments: str) -> tuple[Cost, dict[str, float]]:
        """`peers/ours.py`, and what it tells of itself."""
        answer = lake.parent / "told"
        code = f"exec {sys.executable} {PEERS / 'ours.py'} {' '.join(arguments)} > {answer}"
        cost = run(["bash", "-c", code], servers.environment(lake))
        return cost, json.loads(answer.read_text())


def ingest_command() -> list[str]:
    return [str(Path(sys.executable).with_name("ricloud-connector")), "ingest"]


def small(bench: Bench) -> list[Row]:
    """Many contents of 4 KiB, with nothing between client and server."""
    sizes = bench.sizes
    name = "small"
    with memory_folder() as root, running(make_feeds(root, sizes.small)) as servers:
        urls = _curl_list(root, servers.urls)
        ours = Row(name, "ricloud-connector ingest, with records", sizes.small)
        rows = [
            ours,
            Row(name, "ricloud-connector ingest --no-records", sizes.small),
            Row(name, "vendor's client, md5, rows by pandas, result by result", sizes.vendor),
            Row(name, "vendor's client, md5, rows by pandas, page by page", sizes.vendor),
            Row(name, "vendor's client, md5, contents only", sizes.vendor),
            Row(name, "curl --parallel 64 into md5sum (limit)", sizes.small),
        ]
        bench.turns(
            [
                lambda: bench.ours(servers, sizes.small),
                lambda: bench.ours(servers, sizes.small, "--no-records"),
                lambda: bench.vendor(servers, "each", sizes.vendor),
                lambda: bench.vendor(servers, "pages", sizes.vendor),
                lambda: bench.vendor(servers, "contents", sizes.vendor),
                lambda: bench.tool(f"curl -sS -Z --parallel-max {IN_FLIGHT} --config {urls} | md5sum"),
            ],
            rows,
        )
        wrk = _wrk(servers.urls[0])
        if wrk:
            rows.append(wrk)
    with memory_folder() as root, running(make_feeds(root, sizes.dlt)) as servers:
        rows += bench.turns([lambda: bench.dlt(servers)], [Row(name, "dlt, contents and rows (no acknowledgement)", sizes.dlt)])
    return rows


def late(bench: Bench) -> list[Row]:
    """The same, with every answer 30 ms late."""
    sizes = bench.sizes
    name = f"{DELAY_MS} ms"
    with memory_folder() as root, running(make_feeds(root, sizes.small), delay_ms=DELAY_MS) as servers:
        urls = _curl_list(root, servers.urls)
        return bench.turns(
            [
                lambda: bench.ours(servers, sizes.small),
                lambda: bench.vendor(servers, "pages", sizes.vendor_late),
                lambda: bench.tool(f"curl -sS -Z --parallel-max {IN_FLIGHT} --config {urls} | md5sum"),
            ],
            [
                Row(name, "ricloud-connector ingest", sizes.small),
                Row(name, "vendor's client, md5, rows by pandas, page by page", sizes.vendor_late),
                Row(name, "curl --parallel 64 into md5sum (limit)", sizes.small),
            ],
        )


def large(bench: Bench) -> list[Row]:
    """Contents of 64 MiB, after one run that is not counted and fills the memory that the kernel will reuse."""
    count, name = bench.sizes.large, "64 MiB"
    with memory_folder() as root, running(make_blobs(root, count, 64 * MIB)) as servers:
        listed = root / "urls"
        listed.write_text("".join(f"{number} {url}\n" for number, url in enumerate(servers.urls)))
        pipe = 'curl -sS "$1" | tee $0 | md5sum'
        again = f"{pipe}; sync $0; md5sum $0"
        bench.ours(servers, count)
        return bench.turns(
            [
                lambda: bench.ours(servers, count),
                lambda: bench.tool(f"xargs -P 4 -L 1 bash -c '{pipe}' < {listed}"),
                lambda: bench.tool(f"xargs -P 4 -L 1 bash -c '{again}' < {listed}"),
            ],
            [
                Row(name, "ricloud-connector ingest", count),
                Row(name, "curl, tee, md5sum, 4 at a time (reads nothing back)", count),
                Row(name, "the same, sync, second md5sum", count),
            ],
        )


def listing(bench: Bench) -> list[Row]:
    """Results listed into Parquet, no contents; then eight windows against one where a page takes 50 ms."""
    sizes = bench.sizes
    rows = []

    def ours(servers: Servers, days: int, results: int) -> Callable[[], Cost]:
        span = ["--since", str(DAY), "--until", str(DAY + timedelta(days=days))]

        def turn() -> Cost:
            with bench.folder() as lake:
                cost = run([*ingest_command(), *span, "--no-contents"], servers.environment(lake))
                stored = sum(pq.read_metadata(part).num_rows for part in (lake / "data" / "results").rglob("*.parquet"))
            assert stored == results, stored
            return cost

        return turn

    with running(make_listing(sizes.listed, 8)) as servers:
        rows += bench.turns(
            [ours(servers, 8, sizes.listed), lambda: bench.vendor(servers, "list", sizes.listed)],
            [
                Row("listing", "ricloud-connector ingest --no-contents", sizes.listed),
                Row("listing", "vendor's client, pandas", sizes.listed),
            ],
        )
    for days in (8, 1):
        with running(make_listing(sizes.windows, days), delay_ms=50) as servers:
            row = Row("listing, 50 ms", f"ricloud-connector ingest --no-contents, {days} day{'s' * (days > 1)}", sizes.windows)
            rows += bench.turns([ours(servers, days, sizes.windows)], [row])
    return rows


def again(bench: Bench) -> list[Row]:
    """A run with nothing new; and what new results cost beside many stored in other partitions."""
    sizes, rows = bench.sizes, []
    with memory_folder() as root, bench.folder() as lake:
        old = make_feeds(root, sizes.stored, size=SMALLEST)
        with running(old) as servers:
            row = Row("nothing new", f"a run over {sizes.stored:,} stored results", sizes.stored)
            rows.append(row)
            bench.told(servers, lake, "1")
            servers_told: list[dict[str, float]] = []
            for _ in range(sizes.runs):
                cost, told = bench.told(servers, lake, "1")
                row.costs.append(cost)
                servers_told.append(told)
            row.facts = {key: statistics.median(told[key] for told in servers_told) for key in ("took_s", "requests")}
    for copies in (1, sizes.elsewhere):
        rows.append(_growth(bench, copies))
    return rows


SMALLEST = 1024
GROWTH_STORED, GROWTH_NEW = 10_000, 10_000


def _growth(bench: Bench, copies: int) -> Row:
    """New results into a lake with so many other days, each a copy of one that was ingested."""
    row = Row("growth", f"{GROWTH_NEW:,} new beside {copies * GROWTH_STORED:,} stored", GROWTH_NEW)
    with memory_folder() as root, bench.folder() as lake:
        old_root, new_root = root / "old", root / "new"
        for folder in (old_root, new_root):
            folder.mkdir()
        with running(make_feeds(old_root, GROWTH_STORED, size=SMALLEST)) as servers:
            bench.told(servers, lake, "1")
        for day in list((lake / "data").rglob("created_date=*")):
            for copy in range(copies):
                shutil.copytree(day, day.parent / f"created_date={DAY - timedelta(days=2 + copy)}")
            shutil.rmtree(day)
        shutil.rmtree(lake / "control" / "index")
        with running(make_feeds(new_root, GROWTH_NEW, first=GROWTH_STORED)) as servers:
            for _ in range(bench.sizes.runs):
                servers.reset()
                cost, _told = bench.told(servers, lake, "1")
                assert servers.stats()["acknowledged"] == GROWTH_NEW
                row.costs.append(cost)
                for day in list((lake / "data").rglob(f"created_date={DAY}")):
                    shutil.rmtree(day)
                shutil.rmtree(lake / "control" / "index")
    return row


def memory(bench: Bench) -> list[Row]:
    """Peak memory of all processes over the number of results, listed and stored, and for one huge content."""
    rows = []
    for count in bench.sizes.memory:
        with memory_folder() as root, running(make_feeds(root, count)) as servers:
            rows.append(Row("memory", f"{count:,} contents of 4 KiB", count, [bench.ours(servers, count, together=True)]))
    gib = bench.sizes.huge_gib
    with bench.folder() as root:
        root.mkdir(mode=0o755)
        root.parent.chmod(0o755)
        with running(make_huge(root, gib * 1024 * MIB)) as servers:
            rows.append(Row("memory", f"one content of {gib} GiB", 1, [bench.ours(servers, 1, together=True)]))
    return rows


def imports(bench: Bench) -> list[Row]:
    """What must load before anything happens."""
    commands = {
        "import ricloud_connector": "import ricloud_connector",
        "import dagster": "import dagster",
        "load definitions": "import definitions",
    }
    checkout = Path(__file__).parents[2]

    def loaded(code: str) -> Callable[[], Cost]:
        return lambda: run([sys.executable, "-c", code], {"PYTHONPATH": str(checkout)})

    return bench.turns([loaded(code) for code in commands.values()], [Row("imports", name, 1) for name in commands])


SCENARIOS: dict[str, Callable[[Bench], list[Row]]] = {
    "imports": imports,
    "small": small,
    "late": late,
    "large": large,
    "listing": listing,
    "again": again,
    "memory": memory,
}


def _curl_list(root: Path, urls: Sequence[str]) -> Path:
    path = root / "curl"
    path.write_text("".join(f'url = "{url}"\n' for url in urls))
    return path


def _wrk(url: str) -> Row | None:
    """The server's own limit, where wrk is installed."""
    if shutil.which("wrk") is None:
        return None
    said = subprocess.run(["wrk", "-t", "1", "-c", "16", "-d", "3", url], check=True, capture_output=True, text=True).stdout
    per_s = next(float(line.split()[1]) for line in said.splitlines() if line.startswith("Requests/sec:"))
    return Row("small", "wrk, 16 connections (limit of the server)", round(per_s * 3), [Cost(3.0, 0.0, 0.0)])
