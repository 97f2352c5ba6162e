"""The project that `init` writes: it loads, ingests from an emulated API, and what is built on top follows."""

import csv
import importlib
import runpy
import sys

import dagster as dg
import pytest

from ricloud_connector.emulator import Emulator
from ricloud_connector.errors import SettingsError
from ricloud_connector.project import create_project
from tests.command import run_command
from tests.days import assert_exact_days
from tests.exactness import assert_exact, provable
from tests.test_dagster_component import TYPE, dg_command

NAME = "walk_through"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def emulator():
    with Emulator(results=60, days=2, large_bytes=None, token="canary-token") as running:
        yield running


@pytest.fixture
def project(tmp_path, emulator, monkeypatch):
    """The project, importable, with its variables set."""
    folder = tmp_path / NAME
    create_project(folder, start_date=emulator.days[0])
    settings = {**emulator.environment(), "RICLOUD_LAKE": str(tmp_path / "lake"), "REPORTS": str(tmp_path / "reports")}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(folder / "src")
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


def test_it_ingests_a_day_and_builds_a_table_on_top(project, emulator, tmp_path):
    defs = importlib.import_module(f"{NAME}.definitions").defs()
    day = emulator.days[0].isoformat()
    assets = list(defs.resolve_asset_graph().assets_defs)
    with dg.DagsterInstance.ephemeral() as instance:
        for each in emulator.days:
            assert dg.materialize(assets, partition_key=each.isoformat(), instance=instance, run_config=QUIET).success
    assert_exact(tmp_path / "lake", emulator)
    with (tmp_path / "reports" / f"identifiers-{day}.csv").open() as file:
        rows = list(csv.DictReader(file))
    stored = [result for result in provable(emulator) if result.date_created.date().isoformat() == day]
    assert sum(int(row["results"]) for row in rows) == len(stored)


def test_its_query_asks_the_lake(project, emulator, tmp_path, capsys):
    span = ("--since", emulator.days[0].isoformat(), "--until", emulator.days[1].isoformat())
    run_command("ingest", *span, environment={**emulator.environment(), "RICLOUD_LAKE": str(tmp_path / "lake")})
    runpy.run_path(str(project / "query.py"))
    assert emulator.days[0].isoformat() in capsys.readouterr().out


def test_no_secret_and_no_name_of_the_template_is_left_in_it(project, emulator):
    texts = {path.name: path.read_text() for path in project.rglob("*") if path.is_file()}
    assert ".env.example" in texts
    assert "RICLOUD_TOKEN=\n" in texts[".env.example"]
    assert not any("canary-token" in text or "my_project" in text or "START_DATE" in text for text in texts.values())


@pytest.mark.parametrize("name", ["My-Project", "1st", "class name"])
def test_a_name_that_no_package_can_have_is_refused(tmp_path, name):
    with pytest.raises(SettingsError, match="as in my_project"):
        create_project(tmp_path / name, start_date=None)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    process = run_command("init", "mine", cwd=tmp_path)
    assert process.returncode == 2
    assert "is there already" in process.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]


@pytest.mark.ci
@pytest.mark.timeout(400)  # each command of dg loads the project in a process of its own
def test_dg_lists_scaffolds_checks_and_launches(tmp_path, emulator):
    assert run_command("init", NAME, cwd=tmp_path).returncode == 0
    project, home = tmp_path / NAME, tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    environment = {
        **emulator.environment(),
        "RICLOUD_LAKE": str(tmp_path / "lake"),
        "REPORTS": str(tmp_path / "reports"),
        "DAGSTER_HOME": str(home),
        "ACME_TOKEN": "canary-token",
        "PYTHONPATH": str(project / "src"),
    }

    def run(*arguments: str) -> str:
        return dg_command(*arguments, cwd=project, environment=environment).stdout

    assert TYPE in run("list", "components", "--json")
    run("scaffold", "defs", TYPE, "acme")
    with (project / "src" / NAME / "defs" / "acme" / "defs.yaml").open("a") as file:
        file.write('  key_prefix: acme\n  token: "{{ env.ACME_TOKEN }}"\nrequirements:\n  env: [ACME_TOKEN]\n')
    run("check", "defs")  # and of its YAML before that
    day = emulator.days[0]
    run("launch", "--assets", "key:ricloud/*", "--partition", day.isoformat())
    assert_exact_days(tmp_path / "lake", emulator, [day])
