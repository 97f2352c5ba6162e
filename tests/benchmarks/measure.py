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

def family(pid):
    yield pid
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            for child in file.read().split():
                yield from family(child)

def taken_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))

started = time.monotonic()
process = subprocess.Popen(sys.argv[3:])
together = 0
while sys.argv[2] == "together" and process.poll() is None:
    try:
        together = max(together, sum(map(taken_kb, family(process.pid))))
    except (OSError, StopIteration):
        pass  # one of them has just ended
    time.sleep(0.05)
code = process.wait()
wall = time.monotonic() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
peak = together or used.ru_maxrss
with open(sys.argv[1], "w") as file:
    json.dump({"wall_s": wall, "cpu_s": used.ru_utime + used.ru_stime, "rss_mb": peak / 1024}, file)
sys.exit(code)
"""


@dataclass(frozen=True)
class Cost:
    """Of one run: seconds of wall time and of CPU, and the peak in MB: of the largest process, or of all together."""

    wall_s: float
    cpu_s: float
    rss_mb: float


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, *, together: bool = False) -> Cost:
    """Run it to its end. Raises: SystemExit with what it said, where it fails.

    `together` asks for the memory of all of its processes, what they share counted once: to look costs time.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "cost"
        whole = [sys.executable, "-S", "-c", _WATCH, str(found), "together" if together else "largest", *command]
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": folder, **(environment or {})}
        process = subprocess.run(whole, env=environment, capture_output=True, text=True, errors="replace")
        if process.returncode:
            raise SystemExit(
                f"{' '.join(command)[:500]} failed ({process.returncode}):\n{process.stdout[-2000:]}\n{process.stderr[-2000:]}"
            )
        return Cost(**json.loads(found.read_text()))
