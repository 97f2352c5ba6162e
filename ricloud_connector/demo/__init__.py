"""The demo: an emulated API, ingested day by day through Dagster into a lake that stays. Starts servers, writes, prints.

It takes nothing from the `RICLOUD_*` variables, so that it can never write into a real lake or acknowledge at a real API.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ricloud_connector.audit import days_of
from ricloud_connector.cloud import BucketUrl, Cloud, lake_url
from ricloud_connector.errors import SettingsError
from ricloud_connector.lake import Lake
from ricloud_connector.schemas import DATASETS
from ricloud_connector.settings import absolute_lake

if TYPE_CHECKING:
    import dagster as dg

DAYS = 3
_HOME = Path("ricloud-demo") / "control"  # what belongs to a demo whose lake is in a bucket
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_DAGSTER_YAML = "telemetry: {enabled: false}\nnux: {enabled: false}\n"


def run_demo(lake: str, *, results: int, ui: bool, s3_server: bool = False) -> int:
    """Run the demo into the folder or bucket `lake`; returns the exit status.

    With `s3_server` the bucket is on a server of the demo's own. Raises: SettingsError, ImportError without its extra.
    """
    from ricloud_connector.emulator import Emulator

    console = Console(highlight=False)
    if ui and importlib.util.find_spec("dagster_webserver") is None:
        raise SettingsError("--ui needs Dagster's web server; run: pip install 'ricloud-connector[ui]'")
    with ExitStack() as stack:
        if s3_server:
            stack.enter_context(_s3_server(lake, console))
        root = absolute_lake(lake, Cloud.from_environment(os.environ))
        held = Lake(root, origin="", run_id="demo")
        if isinstance(root, BucketUrl):
            with held.opened():  # a bucket that cannot be written is said before anything starts
                pass
        emulator = stack.enter_context(Emulator(results=results, days=DAYS))
        stack.enter_context(_environment(root, emulator.environment()))
        console.print(f"An emulated ricloud API with {results} available results runs at {emulator.url}", soft_wrap=True)
        before = _files(held)
        rows = list(_ingest(emulator.days, console))
        console.print(_table(rows))
        _tell(console, root, rows, unchanged=before == _files(held))
        if ui:
            return _open_ui(console)
    return 0 if all(row["success"] for row in rows) else 1


@contextmanager
def _s3_server(lake: str, console: Console) -> Iterator[None]:
    """An S3 server with the lake's bucket, whose objects stay in the demo's folder, and an environment that leads to it."""
    from ricloud_connector.emulator.seaweedfs import SeaweedFS

    if not lake.startswith("s3://"):
        raise SettingsError("--s3-server serves s3:// alone; give for example --lake s3://demo/lake")
    try:
        with SeaweedFS(_HOME.absolute() / "seaweedfs", buckets=(lake_url(lake, Cloud()).bucket,)) as server:
            console.print(f"An S3 server runs at {server.url}; its objects stay in {_HOME / 'seaweedfs'}", soft_wrap=True)
            with _replaced("AWS_", server.environment()):
                yield
    except FileNotFoundError as error:
        raise SettingsError(f"--s3-server: {error}") from None


@contextmanager
def _environment(root: Path | BucketUrl, settings: Mapping[str, str]) -> Iterator[None]:
    """The demo's own settings in place of every `RICLOUD_*` variable, and a Dagster home beside the lake's data."""
    home = (root / "control" if isinstance(root, Path) else _HOME.absolute()) / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text(_DAGSTER_YAML, encoding="utf-8")
    with _replaced("RICLOUD_", {**settings, "RICLOUD_LAKE": str(root), "DAGSTER_HOME": str(home)}):
        yield


@contextmanager
def _replaced(prefix: str, variables: Mapping[str, str]) -> Iterator[None]:
    """These variables in place of all that begin with the prefix."""
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(prefix)]:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def _ingest(days: Sequence[date], console: Console) -> Iterator[dict[str, Any]]:
    """Run the job `ricloud_ingest` for each day; yields what its materialisations say."""
    import dagster as dg

    from ricloud_connector.demo.definitions import defs

    job = defs.resolve_job_def("ricloud_ingest")
    columns = (TextColumn("ricloud_ingest"), BarColumn(), MofNCompleteColumn(), TextColumn("days"), TimeElapsedColumn())
    with dg.DagsterInstance.get() as instance, Progress(*columns, console=console) as progress:
        for day in progress.track(days):
            started = time.monotonic()
            run = job.execute_in_process(
                partition_key=day.isoformat(), instance=instance, run_config=_QUIET, raise_on_error=False
            )
            said = _said(run)
            yield {"day": day, "success": run.success, "seconds": time.monotonic() - started, **said}


def _said(run: dg.ExecuteInProcessResult) -> dict[str, float]:
    """The numbers under `ricloud/` of all materialisations of a run, by their last word."""
    found: dict[str, float] = {}
    for event in run.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        for name, value in materialization.metadata.items():
            if name.startswith("ricloud/") and isinstance(value.value, int | float):
                asset = materialization.asset_key.path[-1]
                found[f"{asset}/{name.removeprefix('ricloud/')}"] = value.value
    return found


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="What became of each day", box=SIMPLE, padding=(0, 1), pad_edge=False)
    for name in ("day", "results", "MB", "stored", "known", "quarantined", "acked", "seconds"):
        table.add_column(name, justify="left" if name == "day" else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["day"].isoformat(),
            str(row.get("contents/listed", "failed")),
            f"{row.get('contents/bytes', 0) / 1e6:.1f}",
            str(row.get("contents/new", 0)),
            str(row.get("contents/already_stored", 0)),
            str(row.get("contents/quarantined", 0)),
            str(row.get("acknowledgements/acknowledged", 0)),
            f"{row['seconds']:.1f}",
        )
    return table


def _tell(console: Console, root: Path | BucketUrl, rows: list[dict[str, Any]], *, unchanged: bool) -> None:
    stored = int(sum(row.get("contents/already_stored", 0) for row in rows))
    if unchanged and stored:
        console.print(f"Nothing new: all {stored} results were in the lake, and no file under its data/ was added or changed.")
    quarantined = int(sum(row.get("contents/quarantined", 0) for row in rows))
    if quarantined:
        console.print(
            f"{quarantined} results are in quarantine on purpose (a wrong checksum, and some without a signed URL): "
            "they are neither stored nor acknowledged."
        )
    console.print(f"\nThe lake: {root}", soft_wrap=True)
    if isinstance(root, Path):
        query = "SELECT created_date, identifier, count(*) AS chunks, sum(octet_length(content)) AS bytes FROM read_parquet"
        glob = f"{root}/data/contents/*/*.parquet"
        console.print(f"Try:  duckdb -c \"{query}('{glob}') GROUP BY ALL ORDER BY bytes DESC LIMIT 10\"", soft_wrap=True)
    console.print(
        "See it in Dagster's UI (extra ricloud-connector[ui]):  ricloud-connector demo --ui", markup=False, soft_wrap=True
    )


def _open_ui(console: Console) -> int:
    """Dagster's UI on the demo, until interrupted; the emulated API goes on beside it."""
    console.print("Dagster's UI starts at http://127.0.0.1:3000 (Ctrl-C ends it)")
    command = [sys.executable, "-m", "dagster", "dev", "-m", "ricloud_connector.demo.definitions", "-h", "127.0.0.1"]
    with subprocess.Popen(command) as process:  # noqa: S603  # our own interpreter, no text from outside
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            return 0


def _files(lake: Lake) -> set[tuple[str, int, int]]:
    """Every part of the lake with its size and time of change."""
    folders = (lake.folder(dataset, day) for dataset in DATASETS for day in days_of(lake, dataset))
    return {(str(part.path), part.size, part.mtime_ns) for folder in folders for part in lake.storage.list_parts(folder)}
