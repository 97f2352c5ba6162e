"""Runs that are killed or interrupted at any moment: the next one is exact. Runs real processes.

Whatever happened, one more run must leave lake, emulator and acknowledgement rows exact; and at no moment may an
acknowledgement arrive of what is not in the lake then.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response

from ricloud_connector.emulator import Behaviour
from tests.command import COMMAND, clean_environment
from tests.exactness import assert_readable, read_pyarrow
from tests.nursery import Nursery, Plan
from tests.world import SPAN, World, new_world, until

SEND = "ricloud_connector.client:RicloudClient.send_acknowledgements"


@pytest.fixture(scope="module")
def events(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every event of a run that nothing befalls, in their order."""
    folder = tmp_path_factory.mktemp("events")
    with new_world(nursery, folder / "lake") as world:
        assert world.run(plan=Plan(log=str(folder / "log"))).status == 0
    return [event.removeprefix("ricloud_connector.") for event in (folder / "log").read_text().split()]


@pytest.fixture
def world(nursery: Nursery, tmp_path: Path) -> Iterator[World]:
    with new_world(nursery, tmp_path / "lake") as world:
        yield world


def confirmations(lake: Path) -> Counter[str]:
    table = read_pyarrow(lake, "acknowledgements")
    assert table is not None
    return Counter(table.column("confirmed_by").to_pylist())


# Faults 92 to 101 are a kill before and after each of these ten.
STEPS = {
    "fault_092_step_1_list": ("client:RicloudClient.fetch_page",),
    "fault_093_step_2_scan": ("disk:list_parts", "partition:read_index"),
    "fault_094_step_3_fetch": ("parts:ContentsWriter.add",),
    "fault_095_step_4_build": ("parts:PartWriter.finish", "lake:prove_staged"),
    "fault_096_step_5_sync": ("disk:sync",),
    "fault_097_step_6_commit": ("disk:create",),
    "fault_098_step_7_folders": ("disk:make_folder", "disk:sync_upwards"),
    "fault_099_step_8_read_back": ("disk:settle", "readback:VerifiedCommit.__init__"),
    "fault_100_step_9_acknowledge": ("client:RicloudClient.send_acknowledgements", "client:RicloudClient.retrieve_result"),
    "fault_101_step_10_record": ("disk:replace", "disk:discard"),
}


@pytest.mark.ci  # a simulated process dies at every point by default (`test_simulator.py`), a real one at random ones below
@pytest.mark.parametrize("step", STEPS)
def test_killed_around_each_step_the_next_run_is_exact(world: World, events: list[str], step: str) -> None:
    """Before and after the first of a step's events, at a middle one, at the last; there is something new to do each time."""
    count = sum(event in STEPS[step] for event in events)
    assert count > 0, f"a run has none of {STEPS[step]}"
    names = tuple(f"ricloud_connector.{event}" for event in STEPS[step])
    ends = []
    for n, moment in dict.fromkeys([(1, "before"), (1, "after"), ((count + 1) // 2, "before"), (count, "after")]):
        ends.append(world.run(plan=Plan(n, moment, names)))
        if world.lake.exists():
            assert_readable(world.lake)
        world.publish(3)
    assert ends[0].status == ends[1].status == -signal.SIGKILL, ends[0].said + ends[1].said
    assert {ended.status for ended in ends} <= {-signal.SIGKILL, 0}
    world.recover()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_every_single_event_the_next_run_is_exact(
    nursery: Nursery, tmp_path: Path, events: list[str], moment: str
) -> None:
    for n in range(1, len(events) + 1):
        with new_world(nursery, tmp_path / f"lake{n}", large=n % 5 == 0) as world:
            ended = world.run(plan=Plan(n, moment))
            assert ended.status == -signal.SIGKILL, ended.said
            world.recover()


def test_fault_094_killed_between_two_chunks_of_a_content(world: World) -> None:
    """No reader ever sees the first without the second."""
    world.publish_large()
    names = ("ricloud_connector.parts:ContentsWriter._add_chunk",)
    killed = 0
    for n in range(11, 14):
        killed += world.run(plan=Plan(n, "after", names)).status == -signal.SIGKILL
        assert_readable(world.lake)
    assert killed
    world.recover()


@pytest.mark.ci
def test_fault_094_killed_while_a_large_content_is_written_into_its_part(world: World) -> None:
    """Before and after its first chunk, before its last one and its end, and when it is about to get its name."""
    world.publish_huge()
    puts = ("ricloud_connector.part_sink:PartSink._put",)
    plans = [Plan(1, "before", puts), Plan(1, "after", puts), Plan(5, "before", puts), Plan(5, "after", puts)]
    plans.append(Plan(1, "after", ("ricloud_connector.part_sink:PartSink.finish",)))
    for plan in plans:
        assert world.run(plan=plan).status == -signal.SIGKILL
        assert_readable(world.lake)
    world.recover()


def test_fault_102_killed_again_and_again_while_recovering(world: World, events: list[str]) -> None:
    """A run that gets a little further each time, until one comes through."""
    rng = random.Random(102)
    killed = 0
    for n in range(4, len(events), 6):
        killed += world.run(plan=Plan(n, rng.choice(["before", "after"]))).status == -signal.SIGKILL
        world.publish(1)
    assert killed > 8
    world.recover()


@pytest.mark.ci
def test_faults_092_to_101_killed_at_twenty_random_moments(world: World) -> None:
    """From outside, at any moment of a run, or before it has begun."""
    rng = random.Random(92)
    longest_s, killed = 0.3, 0
    for _ in range(60):
        world.publish(3)
        pid = world.start()
        time.sleep(longest_s * rng.uniform(0.1, 1.0))
        os.kill(pid, signal.SIGKILL)
        if world.nursery.wait(pid).status == -signal.SIGKILL:
            killed, longest_s = killed + 1, longest_s * 1.1
        else:
            longest_s *= 0.8
        if world.lake.exists():
            assert_readable(world.lake)
        if killed == 20:
            break
    assert killed == 20
    world.recover()


@pytest.mark.ci
def test_faults_092_to_101_the_console_script_killed_at_random_moments(world: World) -> None:
    """As a user runs it, from its first import to its last row."""
    rng = random.Random(101)
    environment = clean_environment(world.environment)
    for place in range(5):
        started = time.monotonic()
        with subprocess.Popen(
            [*COMMAND, "ingest", *SPAN], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            if place == 0:
                assert process.wait() == 0
                longest_s = time.monotonic() - started
            else:
                time.sleep(longest_s * rng.uniform(0.5, 1.0))
                process.kill()
        assert_readable(world.lake)
        world.publish(3)
    world.recover()


def refuse_more_than(most: int) -> Callable[[Request], Awaitable[Response | None]]:
    """A server that takes so many ids in one call, and answers 413 to more."""

    async def refuse(request: Request) -> Response | None:
        if request.url.path == "/results/ack" and len(json.loads(await request.body())["ids"]) > most:
            return Response(status_code=413)
        return None

    return refuse


def test_fault_103_killed_between_two_acknowledgement_calls(world: World) -> None:
    """The rest is acknowledged by the next run, which also writes the rows of what was: too many to ask for one by one."""
    world.publish(110)
    world.emulator.intercept = refuse_more_than(20)
    ended = world.run(plan=Plan(6, "after", (SEND,)))
    assert ended.status == -signal.SIGKILL
    acknowledged = len(world.emulator.acknowledged)
    assert 20 < acknowledged < 120
    world.recover()
    assert confirmations(world.lake) == {"found": acknowledged, "listing": 120 - acknowledged}


@pytest.mark.parametrize("results", [10, 60])
def test_fault_101_rows_of_what_was_acknowledged_are_written_by_the_next_run(world: World, results: int) -> None:
    """Killed after the acknowledgement and before its rows: few are read one by one, many are listed."""
    world.publish(results - 10)
    assert world.run(plan=Plan(1, "after", (SEND,))).status == -signal.SIGKILL
    assert len(world.emulator.acknowledged) == results
    world.recover()
    assert confirmations(world.lake) == {"found": results}
    assert len(world.witness.calls) == 1, "what is consumed is not acknowledged again"


# Not killed, but stopped


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_fault_104_nothing_more_is_acknowledged_after_a_cancel(world: World, how: signal.Signals) -> None:
    """Of many small calls the one that was on its way arrives, and the others never do."""
    world.publish(190)
    world.emulator.intercept = refuse_more_than(20)
    witness, pids = world.witness, list[int]()

    def cancel(ids: list[str]) -> None:
        witness(ids)
        if len(witness.calls) == 3:
            os.kill(pids[0], how)
            time.sleep(0.3)

    world.emulator.on_acknowledge = cancel
    pids.append(world.start())
    ended = world.nursery.wait(pids[0])
    assert ended.status == (130 if how is signal.SIGINT else -signal.SIGTERM), ended.said
    time.sleep(0.5)
    assert len(witness.calls) == 3
    world.emulator.on_acknowledge = witness
    world.recover()
    assert confirmations(world.lake).total() == 200


def test_fault_104_interrupted_while_it_stores(world: World) -> None:
    """ctrl-C: what is committed stays, staging is cleared, and nothing is acknowledged."""
    world.emulator.behaviour = Behaviour(latency_s=0.05)
    world.publish(300)
    pid = world.start()
    until(lambda: any(request.server == "contents" for request in world.emulator.requests))
    os.kill(pid, signal.SIGINT)
    ended = world.nursery.wait(pid)
    assert ended.status == 130, ended.said
    assert not world.emulator.acknowledged
    assert not list((world.lake / "control" / "staging").iterdir())
    world.emulator.behaviour = Behaviour()
    world.recover()


@pytest.mark.parametrize(
    "event",
    [
        "parts:ContentsWriter.add",
        "lake:prove_staged",
        "client:RicloudClient.fetch_page",
        "sink:Sink.write",
    ],
)
def test_faults_105_and_110_out_of_memory_anywhere_fails_the_run_and_acknowledges_nothing(world: World, event: str) -> None:
    """In whatever thread it happens."""
    ended = world.run(plan=Plan(1 if "fetch_page" in event else 2, "before", (f"ricloud_connector.{event}",), action="raise"))
    assert ended.status not in (0, -signal.SIGKILL), ended.said
    assert not world.emulator.acknowledged
    assert not list((world.lake / "control" / "staging").iterdir())
    world.recover()


def test_fault_107_what_a_dead_run_leaves_is_invisible_and_swept_an_hour_later(world: World) -> None:
    assert world.run(plan=Plan(1, "before", ("ricloud_connector.disk:create",))).status == -signal.SIGKILL
    assert world.run(plan=Plan(3, "before", ("ricloud_connector.disk:create",))).status == -signal.SIGKILL
    left = list((world.lake / "control" / "staging").iterdir())
    assert len(left) == 2
    assert any(path.read_bytes() for folder in left for path in folder.iterdir())
    (left[0] / "part-99").touch()
    assert_readable(world.lake)
    hour_ago = time.time() - 4000
    for folder in left:
        os.utime(folder, (hour_ago, hour_ago))
    world.recover()
    assert not list((world.lake / "control" / "staging").iterdir())


def test_fault_114_a_slow_run_wakes_after_the_fast_one_has_acknowledged(world: World) -> None:
    """It was stopped with its file ready to be committed: it finds the ids and writes nothing (fault 115:
    if it acknowledges what it had seen to be available, that changes nothing)."""
    slow = world.start(plan=Plan(3, "before", ("ricloud_connector.disk:create",), action="stop"))
    world.nursery.wait_for_stop(slow)
    world.recover()
    files = world.files()
    os.kill(slow, signal.SIGCONT)
    ended = world.nursery.wait(slow)
    assert ended.status == 0, ended.said
    assert world.files() == files
    assert confirmations(world.lake).total() == 10
    world.recover()
