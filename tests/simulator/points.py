"""Every point at which a run can die, one after the other, and every pair of them; after each the next run must converge."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ricloud_connector import part_reader, parts
from ricloud_connector.ingest import deriving
from ricloud_connector.model import Window
from tests.simulator.columnar import STAND_IN
from tests.simulator.history import FIRST_DAY, NO_RECORDS
from tests.simulator.oracle import Violation
from tests.simulator.processes import AFTER, TORN, Death, Stage
from tests.simulator.world import World


def play_deaths(folder: Path, deaths: list[Death], *, bucket: bool, then_cut: bool = False) -> bool:
    """Runs that die one after the other, then one that must make everything exact; False where the last had ended before.

    With `then_cut` a run comes through after the last death, and after that the power goes.

    Raises: Violation that names the deaths.
    """
    stage = Stage(random.Random(0))
    stage.faulty = False
    base = folder / "world"
    base.mkdir()
    patch = pytest.MonkeyPatch()
    patch.setattr(parts, "pq", STAND_IN)
    patch.setattr(part_reader, "pq", STAND_IN)
    patch.setattr(deriving, "derive_records", lambda *_, **__: NO_RECORDS)
    try:
        world = World(stage, base, bucket=bucket)
        world.kernel.keeps = 0.0
        world.days = [FIRST_DAY]
        noon = Window.of_day(FIRST_DAY).since + timedelta(hours=12)
        world.publish(1, noon, b"first")
        world.publish(2, noon, b"")
        world.publish(3, noon, b"flawed", "changed bytes")
        with world.kernel.in_place():
            for number, death in enumerate(deaths):
                process = world.new_process(death)
                world.run_together([process], [world.days], [False])
                world.publish(4 + number, noon, b"%d" % number)
            if then_cut:
                world.run_together([world.new_process()], [world.days], [False])
                stage.on_power_cut()
            world.converge(runs=1)
    except Violation as violation:
        raise Violation(violation.kind, f"{deaths}, {'bucket' if bucket else 'disk'}: {violation}") from violation
    finally:
        patch.undo()
        shutil.rmtree(base)
    return process.dead or process.death is None


def single_deaths(folder: Path, moment: str, *, bucket: bool) -> int:
    """Every touch, at this moment of it, the process alone or the power of the machine; how many there were."""
    count = 0
    for power in (False,) if bucket else (False, True):  # a bucket keeps what it has said to keep
        count += _until_none([], Death(1, moment, power=power), folder, bucket=bucket)
    return count


def deaths_and_then_a_power_cut(folder: Path) -> int:
    """A death around every change, a run that comes through, and a power cut: what that run relied on, it made durable."""
    count = 0
    while play_deaths(folder, [Death(count + 1, AFTER, of_changes=True)], bucket=False, then_cut=True):
        count += 1
    return count


def double_deaths(folder: Path, *, bucket: bool, power_first: bool, part: int = 0, parts: int = 1) -> int:
    """Every pair of changes around which two runs die, one of them with the power of the machine; how many pairs there were.

    Of the first deaths only each `parts`-th is played, from `part` on.
    """
    count = 0
    for moment in (AFTER, TORN):
        for touch in range(1 + part, 1000, parts):
            first = Death(touch, moment, power=power_first and not bucket, of_changes=True)
            if not play_deaths(folder, [first], bucket=bucket):
                break
            for second in (AFTER, TORN):
                death = Death(1, second, power=not (power_first or bucket), of_changes=True)
                count += _until_none([first], death, folder, bucket=bucket)
    return count


def _until_none(before: list[Death], death: Death, folder: Path, *, bucket: bool) -> int:
    """Deaths like this one at each touch, until a run ends before it."""
    count = 0
    while play_deaths(folder, [*before, replace(death, touch=count + 1)], bucket=bucket):
        count += 1
    return count
