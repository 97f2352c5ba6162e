"""The command line: exit codes, one clear line for each thing that is wrong, no traceback, no secret."""

import io
import os
import stat
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from ricloud_connector.emulator import Emulator
from ricloud_connector.errors import SettingsError
from ricloud_connector.model import Window
from ricloud_connector.report import _shown, ingest_with_progress
from ricloud_connector.settings import Settings
from tests.command import clean_environment, run_command

DAY = ("--since", "2026-11-20", "--until", "2026-11-21")
DATES = (date(2026, 11, 20), date(2026, 11, 21))


@pytest.fixture(scope="module")
def emulator():
    with Emulator(results=0, days=1, token="canary-token") as running:
        yield running


def one_line(process):
    """The one line on standard error, which is no traceback and holds no secret."""
    assert "Traceback" not in process.stderr + process.stdout
    assert "canary-token" not in process.stderr + process.stdout
    (line,) = process.stderr.strip().splitlines()
    return line


def test_a_missing_setting_is_one_line_and_exit_2(emulator, tmp_path):
    settings = {**emulator.environment(), "RICLOUD_LAKE": str(tmp_path / "lake")}
    del settings["RICLOUD_TOKEN"]
    process = run_command("ingest", *DAY, environment=settings)
    assert process.returncode == 2
    assert "RICLOUD_TOKEN is not set" in one_line(process)
    assert not (tmp_path / "lake").exists()


def test_a_wrong_token_is_one_line_and_exit_2(emulator, tmp_path):
    settings = {**emulator.environment(), "RICLOUD_LAKE": str(tmp_path), "RICLOUD_TOKEN": "wrong"}
    process = run_command("ingest", *DAY, environment=settings)
    assert process.returncode == 2
    assert "RICLOUD_TOKEN is not accepted" in one_line(process)


def test_a_wrong_url_is_one_line_and_exit_2(emulator, tmp_path):
    settings = {**emulator.environment(), "RICLOUD_LAKE": str(tmp_path), "RICLOUD_URL": "nonsense"}
    process = run_command("ingest", *DAY, environment=settings)
    assert process.returncode == 2
    assert "RICLOUD_URL" in one_line(process)


def test_an_api_that_cannot_be_reached_at_all_names_the_url(tmp_path):
    given = {"RICLOUD_URL": "http://127.0.0.1:9", "RICLOUD_TOKEN": "canary-token", "RICLOUD_LAKE": str(tmp_path)}
    settings = replace(Settings.from_environment(given), api_deadline_s=0.5)
    with pytest.raises(SettingsError, match="RICLOUD_URL"):
        ingest_with_progress(settings, Window.of_day(date(2026, 11, 20)), acknowledge=True, records=True)


def test_the_live_bar_tells_what_is_listed_of_all_days_until_something_is_done():
    shown = io.StringIO()
    with _shown(Console(file=shown, force_terminal=True, width=100)) as show:
        for given in ((DATES[0], 1_000, 0, 0), (DATES[1], 500, 0, 0), (DATES[1], 1_500, 700, 2_000_000)):
            time.sleep(0.25)  # as long as it is not drawn again, and then some
            show(*given)
        time.sleep(0.25)
    told = shown.getvalue()
    assert "1,000 listed" in told
    assert "1,500 listed" in told
    assert "700 of 1,500 results, 2.0 MB" in told


def test_a_path_that_the_api_does_not_know_names_the_url(emulator, tmp_path):
    settings = {**emulator.environment(), "RICLOUD_LAKE": str(tmp_path), "RICLOUD_URL": emulator.url + "/nowhere"}
    process = run_command("ingest", *DAY, environment=settings)
    assert process.returncode == 2
    assert "RICLOUD_URL" in one_line(process)


def test_a_lake_that_cannot_be_written_is_one_line_and_exit_2(emulator, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    settings = {**emulator.environment(), "RICLOUD_LAKE": str(tmp_path / "file" / "lake")}
    process = run_command("ingest", *DAY, environment=settings)
    assert process.returncode == 2
    assert "RICLOUD_LAKE" in one_line(process)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_lake_is_one_line_and_exit_2(emulator, tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    process = run_command("ingest", *DAY, environment={**emulator.environment(), "RICLOUD_LAKE": str(tmp_path)})
    assert process.returncode == 2
    assert "RICLOUD_LAKE" in one_line(process)


def test_since_must_lie_before_until(emulator, tmp_path):
    settings = {**emulator.environment(), "RICLOUD_LAKE": str(tmp_path)}
    process = run_command("ingest", "--since", "2026-11-21", "--until", "2026-11-21", environment=settings)
    assert process.returncode == 2
    assert "--since" in one_line(process)


@pytest.mark.parametrize("arguments", [("ingest", "--since", "yesterday", "--until", "2026-11-21"), ("nonsense",)])
def test_wrong_arguments_are_exit_2_without_a_traceback(arguments):
    process = run_command(*arguments)
    assert process.returncode == 2
    assert process.stderr.startswith("Usage:")
    assert "Traceback" not in process.stderr


def test_a_lake_of_another_organisation_is_one_line_and_exit_2(tmp_path):
    lake = {"RICLOUD_LAKE": str(tmp_path)}
    created = datetime(2026, 11, 20, 12, tzinfo=UTC)
    for organisation, status in (("one", 0), ("two", 2)):
        with Emulator(results=0, days=1, token="canary-token") as api:
            api.add_result(content=b"{}", date_created=created, organisation=organisation)
            process = run_command("ingest", *DAY, environment={**api.environment(), **lake})
        assert process.returncode == status, process.stderr
    line = one_line(process)
    assert "organisation 'one'" in line
    assert "'two'" in line
    assert "RICLOUD_LAKE" in line
    assert api.acknowledged == []


def test_a_span_may_be_given_in_datetimes_and_is_half_open(emulator, tmp_path):
    with Emulator(results=0, days=1) as api:
        for hour in (9, 10, 11):
            api.add_result(content=b"x" * hour, date_created=datetime(2026, 11, 20, hour, tzinfo=UTC), id=hour)
        settings = {**api.environment(), "RICLOUD_LAKE": str(tmp_path)}
        span = ("--since", "2026-11-20T09:00:00Z", "--until", "2026-11-20T12:00:00+01:00")
        process = run_command("ingest", *span, environment=settings)
        assert process.returncode == 0, process.stderr
        assert sorted(api.acknowledged) == ["10", "9"]


def test_nothing_new_is_a_success_that_says_so(emulator, tmp_path):
    process = run_command("ingest", *DAY, environment={**emulator.environment(), "RICLOUD_LAKE": str(tmp_path)})
    assert process.returncode == 0
    assert "nothing new" in process.stdout


def test_no_acknowledge_stops_before_the_last_step(tmp_path):
    with Emulator(results=0, days=1) as api:
        api.add_result(content=b"kept", date_created=datetime(2026, 11, 20, tzinfo=UTC))
        settings = {**api.environment(), "RICLOUD_LAKE": str(tmp_path)}
        assert run_command("ingest", *DAY, "--no-acknowledge", environment=settings).returncode == 0
        assert api.acknowledged == []
        assert len(list(tmp_path.glob("data/contents/*/part-000000.parquet"))) == 1
        assert run_command("ingest", *DAY, environment=settings).returncode == 0
        assert len(api.acknowledged) == 1


def test_no_records_leaves_json_as_it_is_until_a_run_makes_rows_of_it(tmp_path):
    with Emulator(results=0, days=1) as api:
        for number in (1, 2, 3):
            content = b'{"data": [{"a": %d}], "metadata": {"count": 1}}' % number
            api.add_result(content=content, type="json", date_created=datetime(2026, 11, 20, tzinfo=UTC))
        settings = {**api.environment(), "RICLOUD_LAKE": str(tmp_path)}
        stored = run_command("ingest", *DAY, "--no-records", environment=settings)
        assert stored.returncode == 0
        assert "rows" not in stored.stdout
        assert len(api.acknowledged) == 3
        assert not list(tmp_path.glob("data/records/**/*.parquet"))
        assert run_command("ingest", *DAY, environment=settings).returncode == 0
        (part,) = tmp_path.glob("data/records/**/*.parquet")
        assert sorted(pq.read_table(part).column("a").to_pylist()) == [1, 2, 3]
        assert len(api.acknowledged) == 3


def test_no_contents_stores_what_is_listed_and_leaves_the_rest_to_a_later_run(tmp_path):
    with Emulator(results=0, days=1) as api:
        for number in range(3):
            api.add_result(content=b"%d" % number, date_created=datetime(2026, 11, 20, tzinfo=UTC))
        settings = {**api.environment(), "RICLOUD_LAKE": str(tmp_path)}
        listed = run_command("ingest", *DAY, "--no-contents", environment=settings)
        assert (listed.returncode, listed.stderr) == (0, "")
        assert "2026-11-20: 3 listed, 3 new rows of them" in listed.stdout
        assert not api.acknowledged
        assert not list(tmp_path.glob("data/contents/**/*.parquet"))
        (part,) = tmp_path.glob("data/results/**/*.parquet")
        assert pq.read_metadata(part).num_rows == 3
        again = run_command("ingest", *DAY, "--no-contents", environment=settings)
        assert again.returncode == 0
        assert "nothing new: all that is listed has its row" in again.stdout
        assert "3 stored" in run_command("ingest", *DAY, environment=settings).stdout
        assert len(api.acknowledged) == 3
        assert list(tmp_path.glob("data/results/**/*.parquet")) == [part]


def test_help_teaches_and_version_is_told():
    assert "ricloud-connector ingest --since" in run_command("ingest", "--help").stdout
    assert run_command("--version").stdout.startswith("ricloud-connector")


def test_a_command_loads_no_pandas_and_whoever_needs_it_still_finds_it(tmp_path):
    code = (
        "import sys; from ricloud_connector import cli; sys.argv = ['ricloud-connector', 'status']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "assert 'pandas' not in sys.modules\n"
        "import pandas, pyarrow; assert pyarrow.table({'a': [1]}).to_pandas().a.sum() == 1"
    )
    environment = clean_environment({"RICLOUD_LAKE": str(tmp_path)})
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
