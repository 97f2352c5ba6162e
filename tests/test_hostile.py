"""Everything hostile at once: URLs that lead inside, answers without end, bombs. In processes that are watched from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bombs import CONTENTS, LISTS, Ingests
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


@pytest.mark.ci
def test_faults_068_164_and_170_no_bomb_takes_more_than_512_mib(tmp_path):
    """Lists and contents that are small on the wire and large in memory, or without end; nothing of a list is acknowledged."""
    with Ingests() as ingests:
        for number, (name, bomb) in enumerate(LISTS.items()):
            with Script({"a": b"good"}) as script:
                script.on("list", bomb())
                ended, peak = ingests.run(script, tmp_path / f"list{number}")
                assert ended in ("UntrustedAnswer", "done"), name
                assert script.acknowledged == []
            assert peak < 512 * 1024**2, name
        for number, (name, content) in enumerate(CONTENTS.items()):
            with Script({"odd": content()}) as script:
                script.items["odd"]["type"] = "json"
                ended, peak = ingests.run(script, tmp_path / f"content{number}")
                script.assert_exact(tmp_path / f"content{number}", ["odd"])
                assert len(rows_of(tmp_path / f"content{number}", "quarantine")) == 1
                print(name, peak >> 20)
            assert (ended, peak < 512 * 1024**2) == ("done", True), name
