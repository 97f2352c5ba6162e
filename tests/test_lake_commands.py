"""`status`, `verify` and `doctor`: what they show, what they find, how they exit."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ricloud_connector.doctor import examine
from ricloud_connector.emulator import Emulator
from tests.command import run_command
from tests.hostile_server import HostileServer, reply
from tests.lakes import DAY, commit, opened_lake
from tests.test_ingest import run_ingest


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A lake of three days, and the emulator that it came from."""
    lake = tmp_path_factory.mktemp("lake")
    with Emulator(results=60, days=3, large_bytes=None, token="canary-token") as emulator:
        run_ingest(emulator, lake)
        yield lake, emulator


def files(lake):
    return {path: path.stat().st_mtime_ns for path in lake.rglob("*") if path.is_file()}


def test_status_counts_each_day_and_changes_nothing(stored):
    lake, emulator = stored
    before = files(lake)
    process = run_command("status", "--json", environment={"RICLOUD_LAKE": str(lake)})
    assert process.returncode == 0, process.stderr
    days = [json.loads(line) for line in process.stdout.splitlines()]
    assert sum(day["acknowledged"] for day in days) == len(set(emulator.acknowledged)) == sum(day["stored"] for day in days)
    assert sum(day["quarantined"] for day in days) >= 1
    assert files(lake) == before
    shown = run_command("status", environment={"RICLOUD_LAKE": str(lake)}).stdout
    assert days[0]["day"] in shown


def test_verify_reads_everything_back_and_finds_nothing(stored):
    lake, emulator = stored
    process = run_command("verify", environment={"RICLOUD_LAKE": str(lake)})
    assert process.returncode == 0, process.stderr
    assert f"{len(set(emulator.acknowledged))} contents" in process.stdout


def test_verify_finds_flipped_bytes_gaps_and_what_is_acknowledged_but_absent(tmp_path):
    with Emulator(results=60, days=3, large_bytes=None) as emulator:
        run_ingest(emulator, tmp_path)
    first, second, third = (tmp_path / "data" / "contents" / f"created_date={day}" for day in emulator.days)
    part = first / "part-000000.parquet"
    blob = bytearray(part.read_bytes())
    blob[len(blob) // 3] ^= 4
    part.write_bytes(blob)
    (second / "part-000000.parquet").rename(second / "part-000002.parquet")
    (third / "part-000000.parquet").unlink()
    process = run_command("verify", environment={"RICLOUD_LAKE": str(tmp_path)})
    assert process.returncode == 1
    for day, words in zip(emulator.days, ("part-000000", "part 0 is missing", "is acknowledged, but not stored"), strict=True):
        assert any(line.startswith(str(day)) and words in line for line in process.stderr.splitlines()), process.stderr
    window = ("--since", str(emulator.days[2]), "--until", "2999-01-01")
    only = run_command("verify", *window, environment={"RICLOUD_LAKE": str(tmp_path)})
    assert str(emulator.days[0]) not in only.stdout + only.stderr


@pytest.mark.parametrize("command", ["status", "verify"])
def test_a_folder_without_a_lake_is_exit_2(tmp_path, command):
    process = run_command(command, environment={"RICLOUD_LAKE": str(tmp_path)})
    assert process.returncode == 2
    assert "RICLOUD_LAKE" in process.stderr
    assert list(tmp_path.iterdir()) == []


def test_doctor_says_that_all_is_well_and_neither_stores_nor_acknowledges(tmp_path):
    with Emulator(results=20, days=1, large_bytes=None, token="canary-token") as emulator:
        process = run_command("doctor", environment={**emulator.environment(), "RICLOUD_LAKE": str(tmp_path / "lake")})
        assert process.returncode == 0, process.stdout
        assert [line.split()[1] for line in process.stdout.splitlines()] == ["settings:", "API:", "clock:", "lake:", "disk:"]
        assert "20 results are available" in process.stdout
        assert emulator.acknowledged == []
    assert "canary-token" not in process.stdout + process.stderr
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("date", "said"),
    [
        (-3600, "warning: this machine's clock is 3600 s ahead of the API's"),
        (7200, "warning: this machine's clock is 7200 s behind the API's"),
        (30, "as the API's"),
        (None, "does not say what time it is"),
        ("garbage", "does not say what time it is"),
    ],
)
def test_fault_054_doctor_compares_the_clocks(tmp_path, monkeypatch, date, said):
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    monkeypatch.setattr("ricloud_connector.doctor.now_utc", lambda: noon)
    header = format_datetime(noon + timedelta(seconds=date), usegmt=True) if isinstance(date, int) else date
    with HostileServer(reply(200, {"Date": header} if header else {}, b'{"data": [], "has_more": false}')) as server:
        settings = {"RICLOUD_URL": server.url, "RICLOUD_TOKEN": "t", "RICLOUD_LAKE": str(tmp_path / "lake")}
        checks = {check.name: check for check in examine(settings)}
    assert checks["clock"].well
    assert checks["clock"].detail.startswith(said) or said in checks["clock"].detail
    assert list(checks) == ["settings", "API", "clock", "lake", "disk"]


def test_doctor_warns_of_little_space_and_of_a_disk_that_goes(tmp_path, monkeypatch):
    with HostileServer(reply(200, {}, b'{"data": [], "has_more": false}')) as server:
        settings = {"RICLOUD_URL": server.url, "RICLOUD_TOKEN": "t", "RICLOUD_LAKE": str(tmp_path / "lake")}
        monkeypatch.setattr("ricloud_connector.doctor._file_system_of", lambda folder: "ext4")
        monkeypatch.setattr("ricloud_connector.doctor.LOW_DISK_BYTES", 10**18)
        assert "warning: " in {check.name: check.detail for check in examine(settings)}["disk"]
        monkeypatch.setattr("ricloud_connector.doctor._file_system_of", lambda folder: "tmpfs")
        assert "is gone at the next restart" in {check.name: check.detail for check in examine(settings)}["disk"]
        monkeypatch.setattr("ricloud_connector.doctor._file_system_of", lambda folder: None)
        monkeypatch.setattr("ricloud_connector.doctor.LOW_DISK_BYTES", 0)
        assert "are free on the file system" in {check.name: check.detail for check in examine(settings)}["disk"]


def test_verify_finds_a_result_that_is_stored_in_two_days(tmp_path):
    """As it would be if the server moved a result's date after its acknowledgement failed."""
    with opened_lake(tmp_path) as lake:
        commit(lake, {"twice": b"x", "once": b"y"}, DAY)
        commit(lake, {"twice": b"x"}, DAY + timedelta(days=1))
    process = run_command("verify", environment={"RICLOUD_LAKE": str(tmp_path)})
    assert process.returncode == 1
    assert f"result 'twice' is stored here and in {DAY}" in process.stderr
    assert "once" not in process.stderr


def test_doctor_names_what_is_wrong_and_what_to_do(tmp_path):
    assert "export RICLOUD_URL=" in run_command("doctor").stdout
    with Emulator(results=0, days=1) as emulator:
        settings = {**emulator.environment(), "RICLOUD_LAKE": str(tmp_path), "RICLOUD_TOKEN": "wrong"}
        process = run_command("doctor", environment=settings)
    assert process.returncode == 2
    assert "FAIL API: RICLOUD_TOKEN is not accepted" in process.stdout
