"""Habits that are easily lost: installs by hash, exceptions with reasons, a security page whose tests exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("lock", ["requirements.lock", ".ci/lowest.lock"])
def test_every_file_that_is_installed_has_its_hash(lock):
    text = re.sub(r"(?m)^\s*#.*$", "", (ROOT / lock).read_text()).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) > 50
    for line in lines:
        assert re.match(r"[a-z0-9._-]+(\[[a-z0-9,._-]+\])?==", line), line
        assert "--hash=sha256:" in line, line


def test_tests_and_ci_install_what_is_locked_and_nothing_else():
    """The second install of each is of the checkout itself, built by what the first has installed."""
    (command,) = re.findall(r"```sh test\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    ran = command.split(" && ") + (ROOT / ".ci/run").read_text().splitlines()
    installs = [line for line in ran if " install " in line and "pip" in line]
    assert len(installs) == 4
    for line in installs:
        assert line.endswith((" -r requirements.lock", " -r .ci/lowest.lock", " --no-deps --no-build-isolation -e .")), line


def test_no_action_floats():
    for path in (ROOT / ".github").rglob("*.y*ml"):
        for used in re.findall(r"uses:\s*(\S+)", path.read_text()):
            assert re.search(r"@[0-9a-f]{40}$", used), f"{path}: {used}"


def test_each_exception_from_the_security_rules_says_why():
    found = 0
    for path in (ROOT / "ricloud_connector").rglob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            exception = re.search(r"# noqa: S\d+(.*)$", line)
            if exception is not None:
                found += 1
                assert len(exception[1].strip(" #")) > 5, f"{path}:{number}"
    assert found > 5


def test_what_the_security_page_names_is_there():
    text = (ROOT / "SECURITY.md").read_text()
    named = set(re.findall(r"tests/\w+\.(?:py|md)", text))
    assert len(named) > 6
    assert all((ROOT / name).exists() for name in named)
