"""Whole runs on a lake in a bucket, killed at any moment and several at once: exact in the end. Runs real processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.buckets import place_on
from tests.exactness import assert_readable
from tests.nursery import EVENTS, Nursery, Plan
from tests.object_server import ObjectServer
from tests.test_races import race
from tests.world import World, new_world

# Every request to the bucket beside the events that a local disk has as well.
BUCKET_EVENTS = ("ricloud_connector.objects:call", *(name for name in EVENTS if "disk:" not in name))

GS = pytest.param("gs", marks=pytest.mark.ci)


@pytest.fixture(params=["s3", GS])
def world(request: pytest.FixtureRequest, nursery: Nursery, tmp_path: Path) -> Iterator[World]:
    if request.param == "s3":
        place = place_on(request.getfixturevalue("s3"), tmp_path)
        with new_world(nursery, place.mirror, environment=place.environment) as world:
            yield world
        return
    with ObjectServer() as server:
        place = place_on(server, tmp_path, scheme="gs")
        with new_world(nursery, place.mirror, environment=place.environment) as world:
            yield world


def events_of_a_run(world: World, folder: Path) -> int:
    log = folder / "log"
    assert world.run(plan=Plan(events=BUCKET_EVENTS, log=str(log))).status == 0
    return len(log.read_text().split())


def killed_at(world: World, numbers: list[int], moment: str) -> int:
    """Runs that are killed at these events, each with something new to do; how many were."""
    killed = 0
    for n in numbers:
        world.publish(2)
        ended = world.run(plan=Plan(n, moment, BUCKET_EVENTS))
        assert ended.status in (0, -signal.SIGKILL), ended.said
        killed += ended.status == -signal.SIGKILL
        assert_readable(world.lake)
    return killed


@pytest.mark.ci
def test_killed_at_events_of_all_kinds_the_next_run_is_exact(world: World, tmp_path: Path) -> None:
    count = events_of_a_run(world, tmp_path)
    assert count > 40
    assert killed_at(world, list(range(3, count, count // 5)), "before") >= 4
    assert killed_at(world, list(range(5, count, count // 3)), "after") >= 2
    world.recover()


@pytest.mark.ci
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("moment", "step"), [("after", 2), *(pytest.param(each, 1, marks=pytest.mark.slow) for each in ("before", "after"))]
)
def test_killed_at_every_event_the_next_run_is_exact(world: World, tmp_path: Path, moment: str, step: int) -> None:
    """In CI at every second one: the simulator dies at all of them, before and after."""
    count = events_of_a_run(world, tmp_path)
    world.publish_large()
    numbers = list(range(1, count + 1, step))
    assert killed_at(world, numbers, moment) > len(numbers) // 2
    world.recover()


@pytest.mark.parametrize("kills", [pytest.param(False, marks=pytest.mark.ci), True])
def test_fault_112_runs_of_one_partition_at_once(world: World, kills: bool) -> None:
    race(world, 3, rounds=2, kills=kills)


@pytest.mark.ci
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_fault_112_many_more_rounds(world: World, seed: int) -> None:
    race(world, 2 + seed % 2, rounds=8, kills=seed % 2 == 1, seed=seed)
