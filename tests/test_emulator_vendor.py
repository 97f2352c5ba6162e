"""The vendor's own client, `ricloud` 3.2.0, against the emulator: the judge of whether it is the same API.

Its requirements conflict with those of Dagster's web server, so it runs in a process of its own, with the
interpreter in RICLOUD_VENDOR_PYTHON, else this one where `ricloud` imports, else one of a virtual environment that
is built once and kept in pytest's cache, or for this run where there is no cache.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ricloud_connector.emulator import Emulator, RecordedRequest

REQUIREMENT = "ricloud==3.2.0"
Told = dict[str, Any]

# What the vendor's client does, told in JSON. It runs elsewhere, so it can use nothing of this file.
SCENARIO = """
import datetime, json, sys
import ricloud
from ricloud import Result
from ricloud.exceptions import RequestError

def refused(call, *arguments, **parameters):
    try:
        call(*arguments, **parameters)
    except RequestError as error:
        return [error.status, error.error, error.params]

def page_through(**parameters):
    ids, page = [], Result.list(limit=7, **parameters)
    while True:
        ids += [result.id for result in page]
        if not page.has_more:
            return ids
        page = Result.list(limit=7, after_id=page[-1], **parameters)

told = {"version": ricloud.__version__}
latest = Result.list(limit=1)
told["latest"] = [dict(result) for result in latest]
told["list"] = [latest.has_more, latest.url, latest.total_count, type(latest[0]).__name__]
told["all"] = page_through()
told["consumed"] = page_through(state="consumed")
day = datetime.datetime.fromisoformat(sys.argv[1])
told["day"] = page_through(date_created__gte=day, date_created__lt=day + datetime.timedelta(days=1))
told["none"] = len(Result.list(identifier="nothing"))
told["retrieved"] = [dict(Result.retrieve(id)) for id in told["all"][:20]]

one, two, three, four, five = Result.list(limit=5)
one.acknowledge()
told["acknowledged"] = [dict(one), dict(Result.acknowledge_with_id(two.id))]
batch = {"ids": [three, four.id, str(five.id), "nobody"]}
told["batch_status"] = Result.request_handler.post(Result.resource_url() + "/ack", data=batch)[1]
told["left"] = page_through()

told["refused"] = {
    "limit": refused(Result.list, limit=0),
    "parameter": refused(Result.list, colour="red"),
    "retrieve": refused(Result.retrieve, "nobody"),
    "acknowledge": refused(Result.acknowledge_with_id, "nobody"),
}
ricloud.token = "wrong"
told["refused"]["token"] = refused(Result.list)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def vendor_python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that can import the vendor's client."""
    given = os.environ.get("RICLOUD_VENDOR_PYTHON")
    if given:
        return given
    if importlib.util.find_spec("ricloud") is not None:
        return sys.executable
    has_cache = request.config.pluginmanager.has_plugin("cacheprovider")
    folder = request.config.cache.mkdir("ricloud-vendor") if has_cache else tmp_path_factory.mktemp("ricloud-vendor")
    return str(build_environment(folder / f"{REQUIREMENT}-py{sys.version_info.major}.{sys.version_info.minor}"))


def build_environment(target: Path) -> Path:
    """The interpreter of the virtual environment at `target`, which is built if it is not there."""
    python = target / "bin" / "python"
    if python.exists():
        return python
    # Built elsewhere and moved as a whole: a build that was cut short is never taken for a finished one.
    building = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        subprocess.run([sys.executable, "-m", "venv", building], check=True, capture_output=True, timeout=120)
        done = subprocess.run(
            [building / "bin" / "python", "-m", "pip", "install", "-q", "--retries=1", "--timeout=10", REQUIREMENT],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            reason = f"cannot install {REQUIREMENT}: {done.stderr.strip()[-500:]}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        if not python.exists():
            building.rename(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return python


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(results=60, days=3, large_bytes=None) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def before(emulator: Emulator) -> list[str]:
    """The available ids before the vendor's client came, newest first."""
    return [result.id for result in emulator.results() if result.state == "available"]


@pytest.fixture(scope="module")
def told(emulator: Emulator, before: list[str], vendor_python: str, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What the vendor's client saw."""
    assert len(before) == 60
    home = tmp_path_factory.mktemp("home")
    done = subprocess.run(
        [vendor_python, "-c", SCENARIO, f"{emulator.days[1].isoformat()}T00:00:00+00:00"],
        # Nothing else of the environment: neither a proxy nor a configuration of the vendor's client.
        env={**emulator.environment(), "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: Told = json.loads(done.stdout)
    return told


def test_it_lists_the_latest_and_pages_by_after_id(told: Told, before: list[str], emulator: Emulator) -> None:
    assert told["version"] == "3.2.0"
    assert [str(result["id"]) for result in told["latest"]] == before[:1]
    assert told["latest"][0]["signed_url"]["url"].startswith(f"http://{emulator.contents_host}/")
    assert told["list"] == [True, "/results", 60, "Result"]
    assert [str(id) for id in told["all"]] == before
    assert {type(id) for id in told["all"]} == {int, str}
    assert told["none"] == 0


def test_it_filters_by_state_and_by_its_own_datetimes(told: Told, emulator: Emulator, before: list[str]) -> None:
    consumed = [result.id for result in emulator.results() if result.state == "consumed" and result.id not in before]
    assert [str(id) for id in told["consumed"]] == consumed
    day = {result.id for result in emulator.results() if result.date_created.date() == emulator.days[1]}
    assert [str(id) for id in told["day"]] == [id for id in before if id in day]
    assert 10 < len(told["day"]) < 30


def test_it_retrieves_results_by_ids_of_both_kinds(told: Told) -> None:
    assert [result["id"] for result in told["retrieved"]] == told["all"][:20]
    assert {result["state"] for result in told["retrieved"]} == {"available"}


def test_it_acknowledges_one_and_many(told: Told, emulator: Emulator, before: list[str]) -> None:
    assert [str(result["id"]) for result in told["acknowledged"]] == before[:2]
    assert {result["state"] for result in told["acknowledged"]} == {"consumed"}
    assert all(result["date_consumed"] for result in told["acknowledged"])
    assert told["batch_status"] == 200
    assert emulator.acknowledged == [*before[:5], "nobody"]
    assert [str(id) for id in told["left"]] == before[5:]


def test_it_understands_the_errors(told: Told) -> None:
    refused = told["refused"]
    assert refused["limit"][0] == refused["parameter"][0] == 400
    assert refused["limit"][2].keys() == {"limit"}
    assert refused["parameter"][2].keys() == {"colour"}
    assert refused["retrieve"] == refused["acknowledge"] == [404, "not_found", None]
    assert refused["token"] == [401, "not_authenticated", None]


def test_it_sends_what_the_emulator_expects_of_it(told: Told, emulator: Emulator) -> None:
    def is_single(request: RecordedRequest) -> bool:
        return request.method == "POST" and request.path != "/results/ack"

    assert told["version"]
    assert all(request.server == "api" for request in emulator.requests)
    assert all(request.headers["user-agent"] == "ricloud-py/3.2.0" for request in emulator.requests)
    # A single acknowledgement has the body `null`, without a content type.
    singles = [request.headers for request in emulator.requests if is_single(request)]
    assert len(singles) == 3
    assert all(headers["content-length"] == "4" and "content-type" not in headers for headers in singles)
