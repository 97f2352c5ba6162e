"""Everything hostile at once: URLs that lead inside, answers without end, bombs. In processes that are watched from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bombs import CONTENTS, LARGE, LISTS, Ingests
from tests.cut_off import NAMES
from tests.mounts import run_or_skip
from tests.scripted import Script, rows_of

ROOT = Path(__file__).parent.parent
OWN_NETWORK = ["unshare", "--net", "--mount", *(["--map-root-user"] if os.geteuid() else [])]


def test_faults_142_to_148_no_url_and_no_redirect_and_no_name_leads_inside(tmp_path):
    """In a network where this machine is at every address: the one public address there is the only one connected to."""
    run_or_skip(*OWN_NETWORK, "true")
    command = [*OWN_NETWORK, sys.executable, "-m", "tests.cut_off", str(tmp_path)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert process.returncode == 0, process.stderr
    said = json.loads(process.stdout)
    assert said["not_refused"] == []
    assert said["refused"] > 160
    assert said["connected"].keys() == {"8.8.8.8"}  # which also shows that a connection would have been seen
    assert said["reached"] == 0
    assert said["unforeseen"] == []
    assert said["acknowledged"] == ["good"]
    assert set(said["names"]) >= NAMES.keys()


LIMIT = 512 * 1024**2


@pytest.mark.ci
def test_faults_068_and_164_no_answer_of_the_api_takes_more_than_512_mib(tmp_path):
    """Lists that are small on the wire and large in memory, or without end, one after the other; nothing is acknowledged."""
    with Ingests() as ingests:
        for number, (name, bomb) in enumerate(LISTS.items()):
            with Script({"a": b"good"}) as script:
                script.on("list", bomb())
                ended, peak = ingests.run(script, tmp_path / f"list{number}")
                assert ended in ("UntrustedAnswer", "done"), name
                assert script.acknowledged == []
            assert peak < LIMIT, name


@pytest.mark.ci
@pytest.mark.parametrize("bomb", ["rows of wide texts", "rows of small objects", "five million numbers"])
def test_fault_171_a_document_near_the_limits_takes_no_more_than_512_mib(tmp_path, bomb):
    assert_ingested_below_the_limit(tmp_path / "lake", {"odd": LARGE[bomb]()}, rows=bomb != "five million numbers")


@pytest.mark.slow
@pytest.mark.parametrize("bomb", LARGE)
def test_fault_171_nor_do_three_such_documents_in_one_part(tmp_path, bomb):
    contents = {"odd": LARGE[bomb](), "rows": LARGE["64 MiB of rows"](), "wide": LARGE["rows of wide texts"]()}
    assert_ingested_below_the_limit(tmp_path / "lake", contents, rows=True)


def assert_ingested_below_the_limit(lake, contents, *, rows):
    with Ingests() as ingests, Script(contents) as script:
        for item in script.items.values():
            item["type"] = "json"
        ended, peak = ingests.run(script, lake)
        script.assert_exact(lake, list(contents))
    assert (ended, peak < LIMIT) == ("done", True)
    assert any((lake / "data" / "records").rglob("*.parquet")) == rows


@pytest.mark.ci
@pytest.mark.parametrize("bomb", CONTENTS)
def test_faults_170_and_171_no_content_takes_more_than_512_mib(tmp_path, bomb):
    """It is stored as it is, and its records are made or it is set aside."""
    with Ingests() as ingests, Script({"odd": CONTENTS[bomb]()}) as script:
        script.items["odd"]["type"] = "json"
        ended, peak = ingests.run(script, tmp_path / "lake")
        script.assert_exact(tmp_path / "lake", ["odd"])
        assert len(rows_of(tmp_path / "lake", "quarantine")) <= 1
    assert (ended, peak < LIMIT) == ("done", True)
