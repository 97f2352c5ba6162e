"""Runs a command as a whole process and says what it cost: wall time, CPU and peak memory, its children's included."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# A small process in between: a child's peak also counts what its parent held when it was started.
_WATCH = """
import json, os, resource, subprocess, sys, time
started = time.monotonic()
code = subprocess.call(sys.argv[2:])
wall = time.monotonic() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump({"wall_s": wall, "cpu_s": used.ru_utime + used.ru_stime, "rss_mb": used.ru_maxrss / 1024}, file)
sys.exit(code)
"""


@dataclass(frozen=True)
class Cost:
    """Of one run: seconds of wall time and of CPU, and the largest process's peak in MB."""

    wall_s: float
    cpu_s: float
    rss_mb: float


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Run it to its end. Raises: SystemExit with what it said, where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "cost"
        whole = [sys.executable, "-S", "-c", _WATCH, str(found), *command]
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": folder, **(environment or {})}
        process = subprocess.run(whole, env=environment, capture_output=True, text=True, errors="replace")
        if process.returncode:
            raise SystemExit(
                f"{' '.join(command)[:500]} failed ({process.returncode}):\n{process.stdout[-2000:]}\n{process.stderr[-2000:]}"
            )
        return Cost(**json.loads(found.read_text()))
