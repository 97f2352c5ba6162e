"""Several runs of one partition at once, also with kills among them: each round is exact. Runs real processes."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ricloud_connector.emulator import Behaviour
from tests.exactness import ENGINES, assert_exact, assert_readable, read_pyarrow
from tests.nursery import Nursery, Plan
from tests.readers import polled
from tests.world import DAY, World, new_world


@pytest.fixture
def world(nursery: Nursery, tmp_path: Path) -> Iterator[World]:
    with new_world(nursery, tmp_path / "lake") as world:
        yield world


def race(world: World, runs: int, *, rounds: int, kills: bool = False, seed: int = 0) -> None:
    """So many runs at once, time and again; new results come before each round and while it goes on."""
    rng = random.Random(seed)
    for _ in range(rounds):
        world.publish(rng.randrange(1, 30))
        pids = []
        for _ in range(runs):
            pids.append(world.start())
            time.sleep(rng.choice([0, 0, rng.uniform(0, 0.08)]))
        world.publish(rng.randrange(3))
        killed = set()
        if kills:
            for pid in pids[1:]:
                time.sleep(rng.uniform(0, 0.1))
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        for pid in pids:
            ended = world.nursery.wait(pid)
            assert ended.status == 0 or (pid in killed and ended.status == -signal.SIGKILL), ended.said
        assert_readable(world.lake)
    world.recover()


RUNS = [pytest.param(2, marks=pytest.mark.ci), 3]


@pytest.mark.parametrize("runs", RUNS)
def test_fault_112_runs_of_one_partition_at_once(world: World, runs: int) -> None:
    race(world, runs, rounds=4)


@pytest.mark.parametrize("runs", RUNS)
def test_fault_112_runs_of_one_partition_at_once_all_but_one_killed(world: World, runs: int) -> None:
    race(world, runs, rounds=4, kills=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(4))
def test_fault_112_many_more_rounds(nursery: Nursery, tmp_path: Path, seed: int) -> None:
    for number in range(3):
        with new_world(nursery, tmp_path / f"lake{number}", large=number % 4 == 0) as world:
            race(world, 2 + number % 2, rounds=8, kills=seed % 2 == 1, seed=100 * seed + number)


def race_while_read(nursery: Nursery, lake: Path, *, rounds: int, seed: int) -> Counter[str]:
    """Rounds of 2, 3 and 8 runs of one partition, killed at random, while three engines poll it. Each round ends exact.

    Returns how many rounds, kills and polls it took.
    """
    rng = random.Random(seed)
    counts = Counter[str]()
    with new_world(nursery, lake, results=0, large=seed % 2 == 0) as world, polled(lake) as polls:
        for number in range(rounds):
            world.publish(rng.randrange(1, 20))
            pids = [world.start() for _ in range((2, 3, 8)[number % 3])]
            killed = rng.sample(pids, rng.randrange(len(pids) + 1))
            for pid in killed:
                time.sleep(rng.uniform(0, 0.4) / len(killed))
                os.kill(pid, signal.SIGKILL)
            for pid in pids:
                ended = world.nursery.wait(pid)
                counts["kills"] += ended.status == -signal.SIGKILL
                assert ended.status == 0 or (pid in killed and ended.status == -signal.SIGKILL), ended.said
            ended = world.run()
            assert ended.status == 0, ended.said
            assert_exact(lake, world.emulator)
            counts["rounds"] += 1
    return counts + Counter({f"polls by {engine}": count for engine, count in polls.items()})


@pytest.mark.ci
@pytest.mark.parametrize("seed", range(2))
def test_faults_112_and_121_runs_are_killed_while_engines_read(nursery: Nursery, tmp_path: Path, seed: int) -> None:
    counts = race_while_read(nursery, tmp_path / "lake", rounds=6, seed=seed)
    assert counts["kills"] > 3
    assert all(counts[f"polls by {engine}"] > 5 for engine in ENGINES)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_faults_112_and_121_hundreds_of_rounds(nursery: Nursery, tmp_path: Path) -> None:
    """In a new lake every so often, so that reading one stays fast."""
    counts = Counter[str]()
    for seed in range(20):
        counts += race_while_read(nursery, tmp_path / f"lake{seed}", rounds=18, seed=100 + seed)
    print(dict(counts))
    assert counts["kills"] > counts["rounds"]


def test_fault_112_eight_runs_with_one_listing_make_one_file_set(world: World) -> None:
    """All of them list before the first one commits."""
    world.emulator.behaviour = Behaviour(latency_s=0.2)
    for ended in [world.nursery.wait(pid) for pid in [world.start() for _ in range(8)]]:
        assert ended.status == 0, ended.said
    world.emulator.behaviour = Behaviour()
    parts = [path.relative_to(world.lake / "data").as_posix() for path in world.files()]
    assert [name for name in parts if name.startswith("contents/")] == [f"contents/created_date={DAY}/part-000000.parquet"]
    world.recover()


def test_fault_115_two_runs_acknowledge_the_same_at_the_same_time(world: World) -> None:
    """Both stand before their acknowledgement with everything proven; each row is written once, by whichever is first."""
    send = ("ricloud_connector.client:RicloudClient.send_acknowledgements",)
    pids = [world.start(plan=Plan(1, "before", send, action="stop")) for _ in range(2)]
    for pid in pids:
        world.nursery.wait_for_stop(pid)
    assert not world.emulator.acknowledged
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    for pid in pids:
        ended = world.nursery.wait(pid)
        assert ended.status == 0, ended.said
    assert len(world.witness.calls) == 2
    world.recover()


def test_fault_113_runs_with_overlapping_listings(world: World) -> None:
    """One run has listed {1..10} and waits; another lists, stores and acknowledges {1..15}; then the first goes on."""
    page = ("ricloud_connector.client:RicloudClient.fetch_page",)
    waiting = world.start(plan=Plan(1, "after", page, action="stop"))
    world.nursery.wait_for_stop(waiting)
    world.publish(5)
    assert world.run().status == 0
    os.kill(waiting, signal.SIGCONT)
    ended = world.nursery.wait(waiting)
    assert ended.status == 0, ended.said
    assert_exact(world.lake, world.emulator)
    world.recover()


def backfill(world: World, *, days: int, workers: int, kills: int, seed: int = 0) -> None:
    """Workers with spans that overlap, as a backfill that was started twice; some of them are killed on the way."""
    rng = random.Random(seed)
    first = DAY - timedelta(days=days - 1)
    for offset in range(days):
        noon = datetime(first.year, first.month, first.day, 12, tzinfo=UTC) + timedelta(days=offset)
        world.publish(3, moment=noon)
    pids = []
    for worker in range(workers):
        since = first + timedelta(days=max(0, worker * days // workers - days // 4))
        until = min(DAY + timedelta(days=1), since + timedelta(days=days // 2 + 1))
        pids.append(world.start("--since", str(since), "--until", str(until)))
    victims = rng.sample(pids, kills)
    for victim in victims:
        time.sleep(rng.uniform(0, 0.2))
        os.kill(victim, signal.SIGKILL)
    for pid in pids:
        ended = world.nursery.wait(pid)
        assert ended.status == 0 or pid in victims, ended.said
    assert_readable(world.lake)
    world.recover("--since", str(first), "--until", str(DAY + timedelta(days=1)))


def test_fault_119_a_backfill_by_several_workers(world: World) -> None:
    backfill(world, days=12, workers=4, kills=1)
    table = read_pyarrow(world.lake, "contents")
    assert table is not None
    assert len(set(table.column("created_date").to_pylist())) == 12


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fault_119_a_backfill_over_a_year_by_sixteen_workers(world: World) -> None:
    backfill(world, days=365, workers=16, kills=4)


def test_fault_117_two_runs_whose_clocks_are_a_day_apart(world: World) -> None:
    """No decision rests on the local clock: what is where is decided by the API's dates and by ids."""
    for pid in [world.start(plan=Plan(events=(), clock_ahead_s=ahead)) for ahead in (0, 86_400, -86_400)]:
        ended = world.nursery.wait(pid)
        assert ended.status == 0, ended.said
    world.recover()
