"""The kernel refuses one call of a run, or kills the run there: strace does it, to real processes. Runs strace.

A call has a name, a path, and a number: strace counts the calls of one name on one path for each thread. The names of what
lies in staging are random; a run with `Plan.names` takes the same ones each time, so that a call can be told in advance.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.nursery import Ended, Plan
from tests.world import World

CHANGES = {"write", "pwrite64", "fsync", "link", "linkat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "ftruncate"}
REMOVES = {"unlink", "unlinkat", "rmdir", "flock"}
READS = {"openat", "read", "pread64", "getdents64", "newfstatat", "stat", "fstat", "statfs", "fadvise64", "close"}
SAID = {"EIO": "Input/output error", "ENOSPC": "No space left on device"}
FAULTS = (*SAID, "SIGKILL")

_LINE = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(.*)")
_PATH = re.compile(r'[<"](/[^<>"]*)[>"]')
_FIRST_TOUCH = Plan(1, "before", ("ricloud_connector.disk:make_folder",), action="stop", names=True)


class Call(NamedTuple):
    """The n-th call, from 1, of this name on this path by one thread."""

    name: str
    path: str
    n: int


def run_traced(world: World, log: Path, *, call: Call | None = None, fault: str = "EIO") -> tuple[Ended, list[str]]:
    """One ingest, traced from the moment before it first touches the lake; `fault` befalls it at `call`, if that comes.

    Returns how it ended and the lines of strace, each call in one.
    """
    pid = world.start(plan=_FIRST_TOUCH)
    world.nursery.wait_for_stop(pid)
    names = sorted(CHANGES | REMOVES | READS) if call is None else [call.name]
    what = ["-e", "trace=" + ",".join(f"?{name}" for name in names)]
    if call is not None:
        kind = "signal" if fault.startswith("SIG") else "error"
        what += ["-P", call.path, "-e", f"inject={call.name}:{kind}={fault}:when={call.n}"]
    command = ["strace", "-f", "-y", "-s", "0", "-e", "signal=none", *what, "-o", str(log), "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        while "attached" not in said:
            assert "ptrace" not in said, said
            said = strace.stderr.readline()
        os.kill(pid, signal.SIGCONT)
        ended = world.nursery.wait(pid)
        strace.communicate()
    return ended, _whole_lines(log.read_text())


def calls_of(lines: list[str], lake: Path) -> dict[Call, str]:
    """The calls on the lake, on what is in it, and on the folders above it; each with its line."""
    counts: Counter[tuple[str, str, str]] = Counter()
    above = {str(folder) for folder in lake.parents}
    calls = {}
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        thread, name, rest = match.groups()
        paths = [path for path in _PATH.findall(rest) if path in above or path == str(lake) or path.startswith(f"{lake}/")]
        if name == "openat" and len(paths) > 1:
            paths = paths[1:] if rest.startswith("(AT_FDCWD<") else paths
        for path in paths[:1] if name.startswith("rename") else paths[-1:]:  # by which strace finds it
            counts[thread, name, path] += 1
            calls.setdefault(Call(name, path, counts[thread, name, path]), line)
    return calls


def befalls(fault: str, call: Call, line: str) -> bool:
    """Whether a disk may do that to this call; a kill is looked at where something changes, since between it nothing does."""
    changes = call.name in CHANGES or "O_CREAT" in line
    if fault == "EIO":
        return True
    return changes if fault == "ENOSPC" else changes or call.name in REMOVES


def _whole_lines(text: str) -> list[str]:
    """The lines, with what strace wrote as begun and resumed put together."""
    begun: dict[str, str] = {}
    lines = []
    for line in text.splitlines():
        thread = line.partition(" ")[0]
        if line.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>")
        elif "resumed>" in line and thread in begun:
            lines.append(begun.pop(thread) + line.partition("resumed>")[2])
        else:
            lines.append(line)
    return lines + list(begun.values())
