"""A history: a few days of results, runs that die and meet, everything that can go wrong, then a run that must mend it.

    play(seed)          raises Violation where a promise is broken
    play(seed).trace    what happened, touch by touch

All chance comes from the seed.
"""

from __future__ import annotations

import gc
import logging
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from ricloud_connector import acknowledge, part_reader, part_sink, parts
from ricloud_connector.ingest import deriving, open_parts
from ricloud_connector.model import Window
from tests.simulator.columnar import STAND_IN
from tests.simulator.inline import Inline
from tests.simulator.processes import MOMENTS, Death, Stage
from tests.simulator.world import World

FIRST_DAY = date(2026, 11, 20)
FLAWS = ("gone", "changed bytes", "wrong size", "no md5", "no place")
NO_RECORDS = SimpleNamespace(rows={}, rejections=())


@dataclass(slots=True)
class Played:
    """A history that held: its faults by kind, and its trace where that was asked for."""

    seed: int
    counted: Counter[str]
    touches: int
    trace: list[str] | None = field(default=None, repr=False)


class Failed(AssertionError):
    """A history in which a promise was broken."""

    def __init__(self, seed: int, violation: BaseException, trace: list[str] | None) -> None:
        super().__init__(f"seed {seed}: {violation}\nreplay: python -m tests.simulator --seed {seed} --histories 1 -v")
        self.seed, self.violation, self.trace = seed, violation, trace


_INLINE = Inline()


@contextmanager
def simulated() -> Iterator[Path]:
    """Within it histories can be played; gives the folder in which they leave nothing."""
    logging.getLogger("ricloud_connector").setLevel(logging.CRITICAL)  # it tells of each of the thousands of faults
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder, _INLINE.in_place():
        yield Path(folder)


def play(seed: int, folder: Path, *, traced: bool = False, bucket: bool | None = None, lax_bucket: bool = False) -> Played:
    """Play one history in a folder that is given by `simulated`; `bucket` says where the lake lies, None where chance does.

    Raises: Failed.
    """
    rng = random.Random(seed)
    _INLINE.rng = rng
    random.seed(seed)  # the connector's own jitter
    stage = Stage(rng, traced=traced)
    base = folder / f"history-{seed}"
    base.mkdir()
    patch = pytest.MonkeyPatch()
    try:
        chance = rng.random() < 0.4
        world = World(stage, base, bucket=chance if bucket is None else bucket)
        if world.objects is not None:
            world.objects.conditional = not lax_bucket
        with world.kernel.in_place():
            _History(world, patch).play()
    except Exception as error:
        raise Failed(seed, error, stage.trace) from error
    finally:
        patch.undo()
        shutil.rmtree(base)
    return Played(seed, stage.counted, stage.touches, stage.trace)


def play_all(seeds: range) -> tuple[int, Counter[str], int, str | None]:
    """How many held, their faults, their touches, and the failure that ended it."""
    counted, touches = Counter[str](), 0
    with simulated() as folder, _without_collecting():
        for number, seed in enumerate(seeds):
            try:
                played = play(seed, folder)
            except Failed as failure:
                return number, counted, touches, str(failure)
            counted += played.counted
            touches += played.touches
            if number % 50 == 49:
                gc.collect()
    return len(seeds), counted, touches, None


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Collecting garbage on its own costs a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@dataclass(frozen=True, slots=True)
class Size:
    """How large a history is: how many days, results, meetings and processes there are is drawn from what stands here.

    A run that dies does so before its `latest_death`th touch; the others are chances. Most histories are small: a run that
    something befalls and one that mends it show most bugs, and nothing shows them for less. What only many results, days,
    processes or meetings show is left to the large ones.
    """

    days: Sequence[int]
    results: Sequence[int]
    meetings: Sequence[int]
    processes: Sequence[int]
    latest_death: int
    publishes_more: float
    runs_again: float
    in_parquet: float


SMALL = Size(
    days=(1, 1, 1, 1, 1, 2),
    results=(1, 1, 2, 2, 3),
    meetings=(1,),
    processes=(1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3),
    latest_death=75,
    publishes_more=0.15,
    runs_again=0.1,
    in_parquet=0.03,
)
LARGE = Size(
    days=(1, 1, 1, 1, 2, 3),
    results=(2, 3, 4, 5),
    meetings=(1, 1, 1, 2),
    processes=(1, 1, 1, 1, 2, 2, 3),
    latest_death=90,
    publishes_more=0.25,
    runs_again=0.25,
    in_parquet=0.1,
)
LARGE_ONES = 0.1  # of all histories


class _History:
    def __init__(self, world: World, patch: pytest.MonkeyPatch) -> None:
        self.world, self.rng, self._patch = world, world.stage.rng, patch
        self._size = LARGE if self.rng.random() < LARGE_ONES else SMALL
        self._published = 0

    def play(self) -> None:
        rng, world, size = self.rng, self.world, self._size
        world.days = [FIRST_DAY + timedelta(days=number) for number in range(rng.choice(size.days))]
        self._set_up()
        self._publish(rng.choice(size.results))
        for _ in range(rng.choice(size.meetings)):
            self._meet()
            if rng.random() < size.publishes_more:
                self._publish(rng.choice(size.results))
            self._spoil_control()
            self._change_one()
        world.converge(runs=2 if rng.random() < size.runs_again else 1)

    def _set_up(self) -> None:
        rng, world, patch = self.rng, self.world, self._patch
        api = world.api
        api.page = rng.choice([1000, 1000, 1000, 1, 1, 2])
        api.order = rng.choice(["newest", "newest", "oldest", "shuffled"])
        api.date_filter = rng.choice(["apply", "apply", "apply", "ignore", "reject"])
        api.longest_batch = rng.choice([500, 500, 2])
        api.forgets = rng.random() < 0.15
        api.lags = rng.choice([0.0, 0.0, 0.3])
        api.fault_rate = rng.choice([0.0, 0.02, 0.05, 0.1])
        world.contents.fault_rate = rng.choice([0.0, 0.02, 0.1, 0.2])
        world.kernel.fault_rate = rng.choice([0.0, 0.02, 0.06])
        if world.objects is not None:
            world.objects.fault_rate = rng.choice([0.0, 0.02, 0.05, 0.15])
            world.objects.stale = rng.choice([0.0, 0.0, 0.3])
        world.stage.calm = rng.choice([0, rng.randrange(80)])
        world.stage.switching = rng.choice([0.05, 0.15, 0.4])
        if rng.random() >= self._size.in_parquet:
            patch.setattr(deriving, "derive_records", lambda *_, **__: NO_RECORDS)  # they are made of what is settled
            patch.setattr(parts, "pq", STAND_IN)
            patch.setattr(part_reader, "pq", STAND_IN)
        world.rots = rng.choice([0.0] * 8 + [0.6])
        patch.setattr(part_sink, "LARGE_BYTES", rng.choice([1_000_000, 1_000_000, 1, 1000]))
        patch.setattr(acknowledge, "READ_EACH_UP_TO", rng.choice([20, 20, 2, 0]))
        patch.setattr(open_parts, "PART_ROWS", rng.choice([100_000] * 6 + [1, 2]))

    def _publish(self, count: int) -> None:
        rng = self.rng
        for _ in range(count):
            self._published += 1
            day = rng.choice(self.world.days)
            window = Window.of_day(day)
            moment = rng.choice(
                [
                    window.since,
                    window.since,
                    window.until - timedelta(microseconds=1),
                    window.since + timedelta(hours=12),
                    window.since + timedelta(microseconds=rng.randrange(86_400_000_000)),
                ]
            )
            data = rng.choice([b"", b"the same bytes", rng.randbytes(rng.randrange(1, 2000))])
            flaw = rng.choice(FLAWS) if rng.random() < 0.12 else None
            if flaw == "changed bytes" and not data:
                flaw = "gone"
            self.world.publish(self._published, moment, data, flaw)

    def _meet(self) -> None:
        """One run, or two or three at once; some die, and sometimes everything does. A dead one gets in nobody's way."""
        rng, world = self.rng, self.world
        count = rng.choice(self._size.processes)
        processes = [world.new_process(self._death(0.7 if count == 1 else 0.4)) for _ in range(count)]
        days = [world.days if rng.random() < 0.8 else [rng.choice(world.days)] for _ in processes]
        halves = [rng.random() < 0.3 for _ in processes]
        world.run_together(processes, days, halves)

    def _change_one(self) -> None:
        """Now and then the API lists another content for a result that is stored and not acknowledged yet."""
        rng, world = self.rng, self.world
        waiting = [
            result
            for result in world.api.results.values()
            if result.state == "available" and result.flaw is None and world.oracle.stores(result)
        ]
        if waiting and rng.random() < 0.3:
            changed = rng.choice(waiting)
            world.stage.say(f"    {changed.name} is changed at the API")
            changed.change(b"changed " + changed.data)

    def _death(self, chance: float) -> Death | None:
        rng = self.rng
        if rng.random() >= chance:
            return None
        return Death(rng.randrange(1, self._size.latest_death), rng.choice(MOMENTS), power=rng.random() < 0.3)

    def _spoil_control(self) -> None:
        """All under `control/` may be deleted, or be torn, without loss."""
        rng, world = self.rng, self.world
        if rng.random() > 0.15 or world.objects is not None:
            return
        control = world.root / "control"
        if rng.random() < 0.5:
            shutil.rmtree(control, ignore_errors=True)
            return
        for cache in sorted(control.glob("index/*/*.arrow")):
            text = bytearray(cache.read_bytes())
            if text:
                text[rng.randrange(len(text))] ^= 0x41
                cache.write_bytes(text)
