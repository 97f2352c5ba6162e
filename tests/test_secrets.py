"""The token and a signature, each unlike any other text, are nowhere after runs of Dagster over whatever goes wrong."""

from __future__ import annotations

import logging
import os
import subprocess

import dagster as dg
import pytest

from ricloud_connector import build_ricloud_definitions
from ricloud_connector import client as client_module
from ricloud_connector import fetch as fetch_module
from tests.hostile_server import CLOSE, Steps, answer, head, reply
from tests.scripted import DAY, SIGNATURE, TOKEN, Call, Script, run, secrets_in

CONTENTS = {name: name.encode() for name in ("good", "odd", "redirected", "broken", "json")}


def everything_wrong(call: Call) -> Steps | None:
    """Of each kind of call some answers with the secrets in them."""
    if call.kind == "list" and call.number == 1:
        return answer({"error": TOKEN, "message": f"no {TOKEN} at https://h/?{SIGNATURE}", "params": {TOKEN: SIGNATURE}}, 503)
    if call.kind == "read" and call.number == 1:
        return reply(500, {"X-Echo": TOKEN}, f"<html>{TOKEN} https://h/k?X-Amz-Signature={SIGNATURE}".encode())
    if call.kind == "ack" and call.number == 1:
        return reply(502, {}, f"{TOKEN} https://h/?{SIGNATURE}".encode())
    if call.kind == "content" and call.about == "odd":
        return reply(403, {}, f"<Error>{SIGNATURE}</Error>".encode())
    if call.kind == "content" and call.about == "redirected":
        return reply(302, {"Location": f"http://127.0.0.1:1/?s={SIGNATURE}&t={TOKEN}"})
    if call.kind == "content" and call.about == "broken":
        return [head(200, {"X-Echo": SIGNATURE}, 99) + SIGNATURE.encode(), CLOSE]
    return None


@pytest.mark.parametrize(
    "fails", [pytest.param(False, id="some fail"), pytest.param(True, id="all fails", marks=pytest.mark.ci)]
)
def test_faults_175_to_180_no_secret_in_what_dagster_keeps(tmp_path, monkeypatch, caplog, capfd, fails):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(client_module, "FIRST_PAUSE_S", 0.005)
    monkeypatch.setattr(fetch_module, "FIRST_PAUSE_S", 0.005)
    with Script(CONTENTS) as script, dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        script.lake = tmp_path / "lake"
        for name, value in {**script.environment(), "RICLOUD_LAKE": str(script.lake)}.items():
            monkeypatch.setenv(name, value)
        script.items["json"]["type"] = "json"
        if fails:
            script.on("list", answer({"message": f"{TOKEN} is refused"}, 401))
        script.twist(everything_wrong)
        job = build_ricloud_definitions().resolve_job_def("ricloud_ingest")
        done = job.execute_in_process(instance=instance, partition_key=DAY.isoformat(), raise_on_error=False)
        assert done.success is not fails
        assert set(script.acknowledged) == (set() if fails else {"good", "json"})
        said = "".join(str(event) for event in done.all_events)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"ricloud_ingest" in kept, "the event storage is in here"
    out = "".join(capfd.readouterr())
    for secret in (TOKEN, SIGNATURE):
        assert secret.encode() not in kept
        for text in (said, caplog.text, out):
            assert secret not in text
    assert secrets_in(script.lake) == []


def test_fault_180_a_run_starts_no_process_that_could_show_them(tmp_path, monkeypatch):
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a process was started")

    for module, name in ((subprocess, "Popen"), (os, "fork"), (os, "posix_spawn"), (os, "system")):
        monkeypatch.setattr(module, name, refuse)
    with Script(CONTENTS) as script:
        assert run(script, tmp_path).complete
        assert not any(TOKEN in value for name, value in os.environ.items() if not name.startswith("RICLOUD_"))
