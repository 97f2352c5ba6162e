"""Runs the command line as a user would: a process of its own, its environment, its output."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

COMMAND = [str(Path(sys.executable).with_name("ricloud-connector"))]


def clean_environment(given: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with no `RICLOUD_*` or `DAGSTER_*` variable but those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RICLOUD_", "DAGSTER_"))}
    return {**kept, **given}


def run_command(
    *arguments: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None, timeout_s: float = 90
) -> subprocess.CompletedProcess[str]:
    """The finished process of `ricloud-connector ARGUMENTS`."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=clean_environment(environment or {}),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
