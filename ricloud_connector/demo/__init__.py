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
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ricloud_connector.errors import SettingsError

if TYPE_CHECKING:
    import dagster as dg

DAYS = 3
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_DAGSTER_YAML = "telemetry: {enabled: false}\nnux: {enabled: false}\n"


def run_demo(lake: str, *, results: int, ui: bool) -> int:
    """Run the demo into the folder `lake`; returns the exit status. Raises: SettingsError, ImportError without its extra."""
    from ricloud_connector.emulator import Emulator

    console = Console(highlight=False)
    root = Path(lake).expanduser().absolute()
    if "://" in lake:
        raise SettingsError("--lake of the demo is a local folder")
    if ui and importlib.util.find_spec("dagster_webserver") is None:
        raise SettingsError("--ui needs Dagster's web server; run: pip install 'ricloud-connector[ui]'")
    with Emulator(results=results, days=DAYS) as emulator, _environment(root, emulator.environment()):
        console.print(f"An emulated ricloud API with {results} available results runs at {emulator.url}", soft_wrap=True)
        before = _files(root / "data")
        rows = list(_ingest(emulator.days, console))
        console.print(_table(rows))
        _tell(console, root, rows, unchanged=before == _files(root / "data"))
        if ui:
            return _open_ui(console)
    return 0 if all(row["success"] for row in rows) else 1


@contextmanager
def _environment(root: Path, settings: Mapping[str, str]) -> Iterator[None]:
    """The demo's own settings in place of every `RICLOUD_*` variable, and a Dagster home beside the lake's data."""
    home = root / "control" / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text(_DAGSTER_YAML, encoding="utf-8")
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("RICLOUD_")]:
        del os.environ[name]
    os.environ.update(settings, RICLOUD_LAKE=str(root), DAGSTER_HOME=str(home))
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


def _tell(console: Console, root: Path, rows: list[dict[str, Any]], *, unchanged: bool) -> None:
    stored = int(sum(row.get("contents/already_stored", 0) for row in rows))
    if unchanged and stored:
        console.print(f"Nothing new: all {stored} results were in the lake, and no file under its data/ was added or changed.")
    quarantined = int(sum(row.get("contents/quarantined", 0) for row in rows))
    if quarantined:
        console.print(
            f"{quarantined} results are in quarantine on purpose (a wrong checksum, and some without a signed URL): "
            "they are neither stored nor acknowledged."
        )
    query = "SELECT created_date, identifier, count(*) AS chunks, sum(octet_length(content)) AS bytes FROM read_parquet"
    glob = f"{root}/data/contents/*/*.parquet"
    console.print(
        f"\nThe lake: {root}\nTry:  duckdb -c \"{query}('{glob}') GROUP BY ALL ORDER BY bytes DESC LIMIT 10\"", soft_wrap=True
    )
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


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its size and time of change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
