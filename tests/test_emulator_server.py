"""The emulator's life: start, stop, ports, folders, the program, the plugin, the missing extra."""

import ast
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

import ricloud_connector.emulator
from ricloud_connector.emulator import Emulator

ROOT = Path(ricloud_connector.emulator.__file__).parents[2]


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def is_listening(host: str) -> bool:
    name, _, port = host.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((name, int(port))) == 0


def test_start_and_stop_are_quick_and_leave_nothing() -> None:
    started = time.perf_counter()
    emulator = Emulator(results=600)
    emulator.start()
    up = time.perf_counter()
    assert up - started < 2
    folder, hosts = emulator.bucket, (urlsplit(emulator.url).netloc, emulator.contents_host)
    assert folder.is_dir()
    assert all(map(is_listening, hosts))
    emulator.stop()
    assert time.perf_counter() - up < 2
    assert not folder.exists()
    assert not any(map(is_listening, hosts))
    emulator.stop()
    assert repr(emulator) == "<Emulator stopped>"
    assert len(emulator.results()) == 720


def test_stop_does_not_wait_for_a_hook_that_hangs() -> None:
    def hang(request: Request) -> Response | None:
        time.sleep(30)
        return None

    with Emulator(results=0, intercept=hang) as emulator:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(emulator.url, timeout=0.1, trust_env=False)
        host = urlsplit(f"//{emulator.contents_host}")
        with socket.create_connection((host.hostname, host.port)) as idle:
            idle.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            stopping = time.perf_counter()
            emulator.stop()
    assert time.perf_counter() - stopping < 5


def test_each_start_is_a_new_state_with_the_same_token() -> None:
    emulator = Emulator(results=3, large_bytes=None)
    with emulator:
        token, first = emulator.token, emulator.results()
        emulator.add_result(content=b"x")
        headers = {"Authorization": f"Token {token}"}
        httpx.post(f"{emulator.url}/results/ack", json={"ids": [first[0].id]}, headers=headers, trust_env=False)
    assert len(emulator.requests) == 1
    with emulator:
        assert emulator.token == token
        assert [result.id for result in emulator.results()] == [result.id for result in first]
        assert emulator.acknowledged == []
        assert emulator.requests == []
        with pytest.raises(RuntimeError, match="already"):
            emulator.start()


def test_nothing_can_be_asked_before_the_start() -> None:
    emulator = Emulator()
    for name in ("url", "contents_host", "days", "bucket", "requests", "acknowledged"):
        with pytest.raises(RuntimeError, match="not been started"):
            getattr(emulator, name)
    with pytest.raises(ValueError, match="days"):
        Emulator(days=0)


def test_ports_and_token_can_be_chosen() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Emulator(results=0, token="mine", port=port) as emulator:
        assert emulator.url == f"http://127.0.0.1:{port}"
        assert emulator.token == "mine"
        with pytest.raises(OSError, match="in use") as caught:
            Emulator(results=0, port=port).start()
        assert str(port) in str(caught.value.__notes__)
        with pytest.raises(OSError, match="in use"):
            Emulator(results=0, contents_port=port).start()
    with Emulator(results=0, port=port):
        pass


@pytest.mark.slow
def test_100_000_results_page_as_quickly_as_a_few() -> None:
    with Emulator(results=100_000, large_bytes=None) as emulator:
        expected = [result.id for result in emulator.results() if result.state == "available"]
        listed: list[str] = []
        slowest = 0.0
        with httpx.Client(headers={"Authorization": f"Token {emulator.token}"}, trust_env=False) as api:
            for number in range(100):
                cursor = {"after_id": listed[-1]} if listed else {}
                started = time.perf_counter()
                response = api.get(f"{emulator.url}/results", params={"limit": "1000", **cursor})
                slowest = max(slowest, time.perf_counter() - started)
                page = response.json()
                listed += [str(item["id"]) for item in page["data"]]
                assert page["has_more"] == (number < 99)
    assert listed == expected
    assert slowest < 0.5


def test_environment_points_a_connector_here() -> None:
    with Emulator(results=0, days=5) as emulator:
        assert emulator.environment() == {
            "RICLOUD_URL": emulator.url,
            "RICLOUD_TOKEN": emulator.token,
            "RICLOUD_CONTENT_HOSTS": emulator.contents_host,
            "RICLOUD_START_DATE": emulator.days[0].isoformat(),
        }
        assert len(emulator.days) == 5
        assert emulator.results() == []


def test_given_bucket_is_kept(tmp_path: Path) -> None:
    with Emulator(results=0, bucket=tmp_path / "bucket") as emulator:
        path = emulator.add_result(content=b"kept").path
    assert path.read_bytes() == b"kept"
    assert path.parent == tmp_path / "bucket"


def test_logs_are_quiet() -> None:
    code = """
import logging, httpx
logging.basicConfig(level=logging.WARNING)
logging.getLogger("uvicorn").setLevel(logging.DEBUG)
from ricloud_connector.emulator import Emulator
with Emulator(results=3) as emulator:
    httpx.get(emulator.url, trust_env=False)
"""
    done = run_python(code, "-W", "error")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_program_runs_until_a_signal_and_cleans_up(number: signal.Signals) -> None:
    code = """
from ricloud_connector.emulator import run_emulator
run_emulator(results=5, days=2, token="t", on_ready=lambda e: print(e.url, e.bucket, len(e.days), flush=True))
print("stopped", flush=True)
"""
    program = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        url, folder, days = program.stdout.readline().split()
        assert days == "2"
        assert httpx.get(f"{url}/results", headers={"Authorization": "Token t"}, trust_env=False).status_code == 200
        program.send_signal(number)
        output, errors = program.communicate(timeout=20)
    finally:
        program.kill()
        program.wait()
    assert (program.returncode, output, errors) == (0, "stopped\n", "")
    assert not Path(folder).exists()


def test_plugin_gives_a_small_emulator(tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text(
        "def test_it(ricloud_emulator):\n"
        "    assert len([r for r in ricloud_emulator.results() if r.state == 'available']) == 60\n"
        "    assert len(ricloud_emulator.days) == 3\n"
    )
    assert run_plugin(test, "").startswith("1 passed")


def test_plugin_skips_with_the_reason_without_the_extra(tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text("def test_it(ricloud_emulator): pass\ndef test_other(): pass\n")
    outcome = run_plugin(test, "import sys; sys.modules['uvicorn'] = None")
    assert "1 passed, 1 skipped" in outcome
    assert "pip install 'ricloud-connector[emulator]'" in outcome


def run_plugin(test: Path, before: str) -> str:
    options = f"['-q', '-rs', '-p', 'no:cacheprovider', '--rootdir', {str(test.parent)!r}, {str(test)!r}]"
    code = f"{before}\nimport pytest\npytest.main({options}, plugins=['ricloud_connector.emulator.pytest_plugin'])"
    # The plugin may be registered with pytest already, where this distribution is installed.
    done = run_python(code, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_ADDOPTS="")
    return done.stdout.partition("[100%]")[2].strip() + done.stderr


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_missing_extra_is_named_with_the_line_to_run(missing: str) -> None:
    done = run_python(
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import ricloud_connector.emulator\n"
        "from ricloud_connector.emulator import Emulator\n"
    )
    assert done.returncode == 1
    assert "ImportError: " in done.stderr
    assert "pip install 'ricloud-connector[emulator]'" in done.stderr


def test_public_names() -> None:
    for name in ricloud_connector.emulator.__all__:
        assert getattr(ricloud_connector.emulator, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        ricloud_connector.emulator.nothing  # noqa: B018 the access is the test


def test_emulator_knows_nothing_of_the_connector() -> None:
    allowed = ("ricloud_connector.emulator", "starlette", "uvicorn", "pytest")
    for path in Path(ricloud_connector.emulator.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in sys.stdlib_module_names or name.startswith(allowed), (path.name, name)
