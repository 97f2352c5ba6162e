"""Readers that poll a lake while runs write it: one process for each engine, which tells of the first thing that is wrong.

As a program it is given an engine and a lake, polls until its input ends, and prints how often it did.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.command import clean_environment
from tests.exactness import ENGINES, assert_readable, read_keys


@contextmanager
def polled(lake: Path) -> Iterator[dict[str, int]]:
    """Every engine polls the lake in a process of its own. At the end: how often each did. Raises: AssertionError."""
    command = [sys.executable, "-m", "tests.readers"]
    readers = {
        engine: subprocess.Popen(
            [*command, engine, str(lake)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
            env=clean_environment({}),
        )
        for engine in ENGINES
    }
    polls = dict.fromkeys(ENGINES, 0)
    try:
        yield polls
    finally:
        ends = {engine: reader.communicate() for engine, reader in readers.items()}
    for engine, reader in readers.items():
        said, wrong = ends[engine]
        assert reader.returncode == 0, f"{engine}: {wrong}"
        polls[engine] = int(said)


def _poll(engine: str, lake: Path) -> int:
    """Nothing is there twice or in part, and what was there once stays. Returns how often it was looked at."""
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    polls, seen = 0, set[tuple[object, ...]]()
    while not ended.is_set():
        assert_readable(lake, engines=[engine])
        now = read_keys(lake, engine)
        assert seen <= now, f"gone: {sorted(map(str, seen - now))[:5]}"
        seen = now
        polls += 1
    return polls


if __name__ == "__main__":
    print(_poll(sys.argv[1], Path(sys.argv[2])))
