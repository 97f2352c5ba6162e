"""The connector's own code under a simulated clock, API and store: thousands of histories, and every point of death.

`tests/simulator/` says how, and `python -m tests.simulator --histories 100000` plays more of them. A failure names the
seed that plays the same history again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator.history import play, play_all, simulated
from tests.simulator.oracle import Violation
from tests.simulator.points import deaths_and_then_a_power_cut, double_deaths, single_deaths
from tests.simulator.processes import MOMENTS

ROOT = Path(__file__).parent.parent
DEFAULT = [range(first, first + 250) for first in range(0, 4_250, 250)]
MORE = [range(first, first + 500) for first in range(4_250, 21_250, 500)]


@pytest.fixture
def folder() -> Iterator[Path]:
    with simulated() as folder:
        yield folder


@pytest.mark.parametrize("seeds", DEFAULT, ids=str)
def test_every_promise_holds_in_every_history(seeds: range) -> None:
    played, counted, _, failure = play_all(seeds)
    assert failure is None, failure
    assert played == len(seeds)
    kinds = {kind.split(":")[0].split(",")[0] for kind in counted}
    assert kinds >= {"API", "content", "disk", "bucket", "store", "crash", "power cut", "reply lost"}, (
        "each kind of fault has come"
    )


@pytest.mark.ci
@pytest.mark.parametrize("seeds", MORE, ids=str)
def test_every_promise_holds_in_more_histories(seeds: range) -> None:
    _, _, _, failure = play_all(seeds)
    assert failure is None, failure


def test_a_seed_is_the_same_history_in_every_process() -> None:
    """Whatever the order of sets and of addresses in memory."""
    code = """
from tests.simulator.history import play, simulated
with simulated() as folder:
    for seed in range(40, 52):
        print("\\n".join(play(seed, folder, traced=True).trace).replace(str(folder), "folder"))
"""
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert told[0].count("\n") > 500
    assert told[0] == told[1]


def test_a_history_is_played_again_in_less_than_a_second(folder: Path) -> None:
    play(7, folder)
    started = time.process_time()
    first = play(7, folder, traced=True)
    assert time.process_time() - started < 1
    assert first.trace == play(7, folder, traced=True).trace


def test_nothing_of_the_connector_runs_beside_a_simulated_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a history would not be the same every time: what starts a thread in a run does so through `overlap`."""
    start = threading.Thread.start

    def watched(thread: threading.Thread) -> None:
        assert "_in_turn" in repr(getattr(thread, "_target", None)), f"{thread.name} is started outside of overlap.py"
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", watched)
    for seed in range(20):
        play(seed, folder)


def test_what_a_run_relied_on_survives_a_power_cut_whoever_wrote_it(folder: Path) -> None:
    """The row of a result in the results dataset too: once its content is acknowledged, the API lists it no more."""
    assert deaths_and_then_a_power_cut(folder) > 30


@pytest.mark.ci
@pytest.mark.timeout(600)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("bucket", [False, True], ids=["disk", "bucket"])
def test_after_a_death_at_any_touch_the_next_run_converges(folder: Path, moment: str, bucket: bool) -> None:
    assert single_deaths(folder, moment, bucket=bucket) > 40


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=pytest.mark.ci if part < 3 else pytest.mark.slow) for part in range(8)]
)
def test_after_deaths_around_any_two_changes_the_next_run_converges(folder: Path, part: int) -> None:
    """The first takes the power with it, the second the process alone."""
    assert double_deaths(folder, bucket=False, power_first=True, part=part, parts=8) > 60


@pytest.mark.ci
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(2))
def test_after_deaths_around_any_two_changes_of_a_bucket_the_next_run_converges(folder: Path, part: int) -> None:
    assert double_deaths(folder, bucket=True, power_first=False, part=part, parts=2) > 100


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_after_a_death_and_then_a_power_cut_around_any_two_changes_the_next_run_converges(folder: Path) -> None:
    assert double_deaths(folder, bucket=False, power_first=False) > 1000


def test_a_broken_promise_is_told_with_its_seed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge itself is not silent."""

    def refuse(*_: object, **__: object) -> None:
        raise Violation("lost", "as an example")

    monkeypatch.setattr("tests.simulator.oracle.Oracle.converged", refuse)
    _, _, _, failure = play_all(range(11, 12))
    assert failure is not None
    assert "seed 11: lost: as an example" in failure
    assert "--seed 11 --histories 1 -v" in failure
