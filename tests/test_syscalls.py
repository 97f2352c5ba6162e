"""The machine fails: EIO, ENOSPC or SIGKILL at a system call of a small ingest. The next run is exact. Runs real processes.

The calls are those of a run that nothing befalls: on the lake, on what lies in it, on the folders above it. Each is met in a
new lake. The run must end as its help says, with the reason and without a traceback; what it calls a success is one.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ricloud_connector import read_records
from tests.documents import document
from tests.exactness import assert_exact, assert_readable
from tests.mounts import run_or_skip
from tests.nursery import Ended, Nursery
from tests.syscalls import FAULTS, SAID, Call, befalls, calls_of, run_traced
from tests.world import MOMENT, World, new_world

MEDIUM = random.Random(1).randbytes(1024 * 1024 + 1)  # goes to a staging file
LARGE = random.Random(2).randbytes(8 * 1024 * 1024 + 1)  # is stored in two chunks
ENGINE = "pyarrow"  # looks at so many lakes; that the others read the same is seen elsewhere
COMMITS = ("fsync", "link", "mkdir", "rename")
TRIES = 3


class NeverCameError(AssertionError):
    """The run had no such call."""


class Machine:
    """One small ingest, time and again, in a lake that is new each time and always at the same path."""

    def __init__(self, nursery: Nursery, folder: Path, *, large: bool) -> None:
        self._nursery, self._folder, self._large = nursery, folder, large
        self.calls: dict[Call, str] = {}
        with self._world() as world:
            ended, lines = run_traced(world, folder / "trace")
            assert ended.status == 0, ended.said
            self.calls = calls_of(lines, world.lake)

    @contextmanager
    def _world(self) -> Iterator[World]:
        with new_world(self._nursery, self._folder / "lake", results=3) as world:
            world.emulator.add_result(content=MEDIUM, date_created=MOMENT, id="medium")
            if self._large:
                world.emulator.add_result(content=LARGE, date_created=MOMENT, id="large")
            rows = document([{"number": 1, "text": "one"}, {"number": 2}])
            world.emulator.add_result(content=rows, identifier="feed", type="json", date_created=MOMENT, id="rows")
            try:
                yield world
            finally:
                shutil.rmtree(world.lake, ignore_errors=True)

    def meet(self, fault: str, call: Call) -> int:
        """Let a fault befall one call, then run again: everything is exact. Returns how the first run ended.

        Threads may do without a call, or give its file to another content: then the run is begun anew, up to three times.
        """
        for _ in range(TRIES - 1):
            with suppress(NeverCameError):
                return self._meet(fault, call)
        return self._meet(fault, call)

    def _meet(self, fault: str, call: Call) -> int:
        with self._world() as world:
            ended, lines = run_traced(world, self._folder / "trace", call=call, fault=fault)
            befallen = ended.status == -signal.SIGKILL if fault == "SIGKILL" else any("(INJECTED)" in line for line in lines)
            if not befallen:
                raise NeverCameError(f"{fault} at {call} never came: {ended}")
            try:
                self._check(world, ended, fault)
                ended_again = world.run()
                assert ended_again.status == 0, ended_again.said
                assert_exact(world.lake, world.emulator, engines=[ENGINE])
                assert sorted(read_records(world.lake, "feed")["number"]) == [1, 2]
            except AssertionError as error:
                raise AssertionError(f"{fault} at {call}: {ended}") from error
        return ended.status

    def _check(self, world: World, ended: Ended, fault: str) -> None:
        """What is acknowledged was looked at when it was (`World.witness`)."""
        if world.lake.exists():
            assert_readable(world.lake, engines=[ENGINE])
        if fault == "SIGKILL":
            return
        assert ended.status in (0, 1, 2)
        assert "Traceback" not in ended.said
        if ended.status == 0:
            assert_exact(world.lake, world.emulator, engines=[ENGINE])
        else:
            assert re.search(SAID[fault] + r"|error (closing|stat\(\)ing) file", ended.said)  # all that Arrow says of some


@pytest.fixture(scope="module", autouse=True)
def strace() -> None:
    run_or_skip("strace", "-o", os.devnull, "true")


def alike(call: Call) -> bool:
    """Whether there are hundreds of that call: contents go into their staging files a few KiB at a time."""
    return call.name == "write" and "/content-" in call.path


def in_the_other_file(call: Call) -> Call:
    """Which of the two larger contents is in which file is for the network to say."""
    return call._replace(path=re.sub(r"content-[01]$", lambda name: f"content-{1 - int(name[0][-1])}", call.path))


def sampled(calls: list[Call], count: int) -> list[Call]:
    return random.Random(0).sample(calls, min(count, len(calls)))


@pytest.mark.ci
@pytest.mark.timeout(300)
@pytest.mark.parametrize("shard", range(4))
def test_faults_122_and_123_at_each_call_that_commits_and_at_some_others(nursery: Nursery, tmp_path: Path, shard: int) -> None:
    """One of the three faults each, in turn."""
    machine = Machine(nursery, tmp_path, large=False)
    commits = [call for call in machine.calls if call.name in COMMITS]
    others = [call for call in machine.calls if call.name not in COMMITS]
    assert {call.name for call in commits} == set(COMMITS)
    for number, call in enumerate(commits + sampled(others, 12)):
        if number % 4 == shard:
            machine.meet(FAULTS[(number // 4) % 3], call)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("shard", range(4))
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_122_and_123_at_every_call(nursery: Nursery, tmp_path: Path, fault: str, shard: int) -> None:
    """Of the writes into staging files of contents, 24."""
    machine = Machine(nursery, tmp_path, large=True)
    able = [call for call, line in machine.calls.items() if befalls(fault, call, line)]
    calls = [call for call in able if not alike(call)] + sampled([call for call in able if alike(call)], 24)
    ends, faults = Counter[int](), list[str]()
    for call in calls[shard::4]:
        try:
            try:
                ends[machine.meet(fault, call)] += 1
            except NeverCameError:
                ends[machine.meet(fault, in_the_other_file(call))] += 1
        except AssertionError as error:
            faults.append(str(error))
            print(error, flush=True)
    print(f"{fault}: {ends.total()} of {len(calls)} calls met, {len(able)} there are; exits {dict(ends)}")
    assert not faults, "\n".join(faults)
