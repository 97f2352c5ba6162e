"""The simulator catches bugs: each mutant breaks the protocol in one place, and some history must tell."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ricloud_connector.errors import UnsafeStore
from ricloud_connector.model import Window
from tests.simulator.history import FIRST_DAY, Failed, play, simulated
from tests.simulator.mutants import MUTANTS, Mutant, applied
from tests.simulator.oracle import Violation
from tests.simulator.points import deaths_and_then_a_power_cut
from tests.simulator.processes import Stage
from tests.simulator.world import World

SEEDS = 800  # of histories in which a mutant must be caught: most are within the first ten, all within about two hundred


@pytest.fixture
def folder() -> Iterator[Path]:
    with simulated() as folder:
        yield folder


def caught(mutant: Mutant, folder: Path, seeds: int) -> bool:
    with applied(mutant):
        try:
            if mutant.by_points:
                deaths_and_then_a_power_cut(folder)
            for seed in range(0 if mutant.by_points else seeds):
                play(seed, folder, bucket=mutant.bucket, lax_bucket=mutant.lax_bucket)
        except (Failed, Violation):
            return True
    return False


@pytest.mark.ci
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_bug_in_the_protocol_is_caught(folder: Path, mutant: Mutant) -> None:
    assert caught(mutant, folder, SEEDS)


QUICK = [
    "a name per batch",
    "acknowledged before it is synced",
    "nothing is subtracted",
    "what is in quarantine is acknowledged",
]


@pytest.mark.parametrize("name", QUICK)
def test_a_bug_that_any_history_shows_is_caught_at_once(folder: Path, name: str) -> None:
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == name)
    assert caught(mutant, folder, 5)


def test_there_are_mutants_of_each_kind() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20
    for mutant in MUTANTS:
        with applied(mutant):
            pass


def test_without_its_probe_alone_a_bucket_that_ignores_conditions_would_be_used(folder: Path) -> None:
    stage = Stage(random.Random(0))
    world = World(stage, folder, bucket=True)
    assert world.objects is not None
    world.objects.conditional = False
    world.days = [FIRST_DAY]
    world.publish(1, Window.of_day(FIRST_DAY).since, b"content")
    process = world.new_process()
    with world.kernel.in_place():
        world.run_together([process], [world.days], [False])
    assert isinstance(process.outcome, UnsafeStore)
    assert world.api.results["1"].state == "available"
    assert list(world.objects.objects) == ["control/probe"]
