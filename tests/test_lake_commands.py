"""`status`, `verify` and `doctor`: what they show, what they find, how they exit."""

import json

import pytest

from ricloud_connector.emulator import Emulator
from tests.command import run_command
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
        assert [line.split()[1] for line in process.stdout.splitlines()] == ["settings:", "API:", "lake:", "disk:"]
        assert "20 results are available" in process.stdout
        assert emulator.acknowledged == []
    assert "canary-token" not in process.stdout + process.stderr
    assert not list(tmp_path.rglob("*.parquet"))


def test_doctor_names_what_is_wrong_and_what_to_do(tmp_path):
    assert "export RICLOUD_URL=" in run_command("doctor").stdout
    with Emulator(results=0, days=1) as emulator:
        settings = {**emulator.environment(), "RICLOUD_LAKE": str(tmp_path), "RICLOUD_TOKEN": "wrong"}
        process = run_command("doctor", environment=settings)
    assert process.returncode == 2
    assert "FAIL API: RICLOUD_TOKEN is not accepted" in process.stdout
