"""The guide: pages made from the code are up to date, links lead somewhere, and every snippet works as it stands."""

import configparser
import re
import shlex
from datetime import date
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from ricloud_connector.cli import cli
from ricloud_connector.emulator import Emulator
from tests import reference
from tests.test_dagster_component import TYPE, loaded

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(reference.GUIDE.glob("*.md"))]
BLOCK = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DAY = date(2026, 11, 20)


def snippets(kind: str, name: str | None = None) -> list:
    """The fenced blocks of a kind, and of a name where one is asked for, with where they are."""
    return [
        pytest.param(found[3], id=f"{page.stem}-{number}")
        for page in PAGES
        for number, found in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")), 1)
        if found[1] == kind and name in (None, found[2])
    ]


@pytest.fixture
def ready(tmp_path, monkeypatch):
    """A lake with a day of results in it, and every variable that a snippet takes for granted."""
    with Emulator(results=40, days=1, today=DAY, large_bytes=None) as emulator:
        for name, value in {**emulator.environment(), "RICLOUD_LAKE": str(tmp_path / "lake"), "ACME_TOKEN": "x"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        CliRunner().invoke(cli, ["ingest", "--since", "2026-11-20", "--until", "2026-11-21"])
        yield emulator


@pytest.mark.parametrize("name", list(reference.pages()))
def test_pages_made_from_the_code_are_what_it_says(name):
    written = (reference.GUIDE / name).read_text(encoding="utf-8")
    assert written == reference.pages()[name], "run: python -m tests.reference"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_the_tests_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
    for named in re.findall(r"\btest_\w+\.py\b", text):
        assert (ROOT / "tests" / named).exists(), named


@pytest.mark.parametrize("snippet", snippets("python"))
def test_python_snippets_run(snippet, ready):
    snippet = snippet.replace("/srv/ricloud-lake", str(Path.cwd() / "lake"))
    exec(compile(snippet, "snippet", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("snippet", [found for found in snippets("yaml") if TYPE in found.values[0]])
def test_components_load(snippet, ready):
    with loaded(yaml.safe_load(snippet)["attributes"]) as (_, defs):
        assert defs.resolve_asset_graph().get_all_asset_keys()


@pytest.mark.parametrize("snippet", snippets("sh", "run"))
def test_commands_work(snippet, ready):
    for line in snippet.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "ricloud-connector"
        done = CliRunner().invoke(cli, arguments)
        # The emulator's bad results make `ingest` exit 1.
        assert done.exit_code in (0, 1), done.output
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception


@pytest.mark.parametrize("snippet", [*snippets("sh"), *snippets("ini")])
def test_every_command_that_is_shown_exists(snippet):
    for line in re.findall(r"\bricloud-connector ([a-z][^|;&'\n]*)", snippet):
        command, words = cli, shlex.split(line, comments=True)
        for word in words:
            if word in getattr(command, "commands", {}):
                command = command.commands[word]
        assert command is not cli, line
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_the_compose_file_keeps_lake_and_database_on_volumes():
    (found,) = snippets("yaml", "compose")
    compose = yaml.safe_load(found.values[0])
    kept = set(compose["volumes"])
    for name in ("user_code", "webserver", "daemon"):
        service = compose["services"][name]
        assert "lake" in {volume.partition(":")[0] for volume in service["volumes"]} & kept
        assert service["environment"]["RICLOUD_LAKE"] == "/lake"
    assert compose["services"]["postgres"]["volumes"][0].partition(":")[0] in kept
    assert "${RICLOUD_TOKEN:?" in compose["services"]["daemon"]["environment"]["RICLOUD_TOKEN"]


def test_units_say_when_and_what():
    for name, section, key in (("service", "Service", "ExecStart"), ("timer", "Timer", "OnCalendar")):
        (found,) = snippets("ini", name)
        unit = configparser.RawConfigParser(strict=True)
        unit.optionxform = str
        unit.read_string(found.values[0])
        assert unit[section][key]
