"""`plan`, `acknowledge`, `quarantine`, `results` and `completion`: what they show, what they leave alone, how they exit."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ricloud_connector.cli import cli
from ricloud_connector.emulator import Emulator
from ricloud_connector.schemas import CONTENTS
from tests.command import run_command
from tests.exactness import assert_exact
from tests.test_ingest import run_ingest

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = ("--since", "2026-11-20", "--until", "2026-11-21")


class Machine:
    """An emulated API with three good results and a bad one, and a lake that is empty at first."""

    def __init__(self, emulator: Emulator, lake, monkeypatch):
        self.emulator, self.lake = emulator, lake
        for name, value in {**emulator.environment(), "RICLOUD_LAKE": str(lake)}.items():
            monkeypatch.setenv(name, value)

    def run(self, *arguments: str):
        """In this process, for speed; the commands' exit codes through the installed command are tested below."""
        return CliRunner().invoke(cli, arguments, env={"COLUMNS": "100"})

    def json(self, *arguments: str) -> list[dict]:
        return [json.loads(line) for line in self.run(*arguments, "--json").stdout.splitlines()]

    def files(self):
        return sorted(path for path in self.lake.rglob("*") if path.is_file())


@pytest.fixture
def machine(tmp_path, monkeypatch):
    with Emulator(results=0, days=1, today=NOON.date()) as emulator:
        for number in range(3):
            emulator.add_result(id=f"good{number}", content=b"x" * 1000, date_created=NOON + timedelta(minutes=number))
        emulator.add_result(id="bad", content=b"y", checksum="0" * 32, date_created=NOON, identifier="[red]notes[/red]")
        yield Machine(emulator, tmp_path / "lake", monkeypatch)


def ingest(machine, **options):
    return run_ingest(machine.emulator, machine.lake, **options)


def test_plan_says_what_a_run_would_do_and_does_none_of_it(machine):
    (day,) = machine.json("plan", *DAY)
    assert day == {
        "day": "2026-11-20",
        "listed": 4,
        "fetch": 4,
        "fetch_bytes": 3001,
        "fetch_again": 0,
        "set_aside": 0,
        "acknowledge": 0,
        "acknowledge_bytes": 0,
        "proven": None,
    }
    assert not machine.lake.exists()
    assert [request for request in machine.emulator.requests if request.server == "contents"] == []
    machine.run("ingest", *DAY, "--no-acknowledge")
    before = machine.files()
    (day,) = machine.json("plan", *DAY)
    assert (day["fetch"], day["fetch_again"], day["acknowledge"]) == (1, 1, 3)
    assert "Nothing was fetched" in machine.run("plan", *DAY).stdout
    assert machine.files() == before
    assert machine.emulator.acknowledged == []


def test_acknowledge_alone_reads_back_first_and_its_dry_run_tells_the_api_nothing(machine):
    machine.run("ingest", *DAY, "--no-acknowledge")
    before = machine.files()
    (day,) = machine.json("acknowledge", *DAY, "--dry-run")
    assert (day["acknowledge"], day["proven"]) == (3, 3)
    assert machine.emulator.acknowledged == []
    assert machine.files() == before
    done = machine.run("acknowledge", *DAY)
    assert done.exit_code == 0
    assert "2026-11-20: 3 acknowledged" in done.stdout
    assert_exact(machine.lake, machine.emulator)
    assert "nothing to acknowledge" in machine.run("acknowledge", *DAY).stdout


def test_a_dry_run_over_a_lake_that_is_broken_fails_as_the_run_would(machine):
    machine.run("ingest", *DAY, "--no-acknowledge")
    (part,) = machine.lake.glob("data/contents/*/part-000000.parquet")
    blob = bytearray(part.read_bytes())
    content = pq.read_metadata(part).row_group(0).column(CONTENTS.schema.names.index("content"))
    blob[content.data_page_offset + content.total_compressed_size - 1] ^= 4
    part.write_bytes(blob)
    done = machine.run("acknowledge", *DAY, "--dry-run")
    assert done.exit_code == 1
    assert "part-000000" in str(done.exception)


def test_quarantine_is_listed_with_reasons_as_they_are_and_tried_again(machine):
    machine.run("ingest", *DAY)
    listed = machine.run("quarantine", "list")
    assert listed.exit_code == 1
    assert "2026-11-20: bad ([red]notes[/red]): checksum_mismatch: the content's md5 is" in listed.stdout
    (row,) = machine.json("quarantine", "list")
    assert (row["result_id"], row["day"], row["actual_size"]) == ("bad", "2026-11-20", 1)
    assert machine.json("quarantine", "list", "--since", "2026-11-21") == []
    again = machine.run("quarantine", "retry", "bad")
    assert again.exit_code == 1, "it is as bad as before"
    assert "checksum_mismatch" in again.output
    wrong = machine.run("quarantine", "retry", "good0")
    assert "not in quarantine: good0" in str(wrong.exception)


def test_an_empty_quarantine_says_so_and_is_exit_0(tmp_path, monkeypatch):
    with Emulator(results=0, days=1, today=NOON.date()) as emulator:
        emulator.add_result(content=b"x", date_created=NOON)
        machine = Machine(emulator, tmp_path / "lake", monkeypatch)
        machine.run("ingest", *DAY)
        for arguments in (("quarantine", "list"), ("quarantine", "retry")):
            done = machine.run(*arguments)
            assert (done.exit_code, done.stdout) == (0, "Nothing is in quarantine.\n")


def test_results_show_tells_all_that_the_lake_knows_of_one_result(machine):
    machine.run("ingest", *DAY)
    assert [row["dataset"] for row in machine.json("results", "show", "good1")] == ["results", "contents", "acknowledgements"]
    rows = machine.json("results", "show", "bad")
    assert [(row["dataset"], row.get("reason")) for row in rows] == [("results", None), ("quarantine", "checksum_mismatch")]
    assert "content" not in rows[0]
    assert "[red]notes[/red]" in machine.run("results", "show", "bad").stdout
    assert machine.run("results", "show", "nobody").exit_code == 1


def test_status_draws_a_bar_for_each_day_and_says_how_long_something_waits(machine):
    machine.run("ingest", *DAY, "--no-acknowledge")
    (day,) = machine.json("status")
    assert day["oldest_unacknowledged"] == NOON.isoformat()
    shown = machine.run("status").stdout
    assert "▒▒▒" in shown
    assert "░" in shown
    assert "\x1b[" not in shown, "no colours where nobody looks"
    machine.run("ingest", *DAY)
    (day,) = machine.json("status")
    assert (day["acknowledged"], day["oldest_unacknowledged"]) == (3, None)


def test_what_only_looks_makes_no_lake(machine):
    for arguments in (("quarantine", "list"), ("quarantine", "retry"), ("results", "show", "x")):
        assert "holds no lake" in str(machine.run(*arguments).exception)
    assert not machine.lake.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_that_names_the_command(shell):
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert "_RICLOUD_CONNECTOR_COMPLETE" in done.stdout


def test_the_installed_command_completes_and_exits_as_its_help_says(tmp_path):
    asked = {"_RICLOUD_CONNECTOR_COMPLETE": "bash_complete", "COMP_WORDS": "ricloud-connector quar", "COMP_CWORD": "1"}
    assert run_command(environment=asked).stdout == "plain,quarantine\n"
    (tmp_path / "data").mkdir()
    unknown = run_command("results", "show", "x", environment={"RICLOUD_LAKE": str(tmp_path)})
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "holds nothing about result x" in unknown.stderr
    told = run_command("--help").stdout
    assert all(code in told for code in ("0  ", "1  ", "2  ", "130  "))


def test_the_bytes_of_a_result_go_to_standard_output(machine):
    assert machine.run("ingest", *DAY).exit_code in (0, 1)
    good = next(result for result in machine.emulator.results() if result.id in machine.emulator.acknowledged)
    shown = machine.run("content", good.id)
    assert shown.exit_code == 0
    assert hashlib.md5(shown.stdout_bytes).hexdigest() == good.checksum
    missing = machine.run("content", "nothing")
    assert missing.exit_code == 1
    assert "holds no content of result nothing" in missing.stderr
