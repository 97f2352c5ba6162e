"""A history: a few days of results, runs that die and meet, everything that can go wrong, then two runs that must mend it.

    play(seed)          raises Violation where a promise is broken
    play(seed).trace    what happened, touch by touch

All chance comes from the seed.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from ricloud_connector import acknowledge, part_reader, parts
from ricloud_connector.bucket_storage import BucketStorage
from ricloud_connector.client import RicloudClient
from ricloud_connector.cloud import BucketUrl, Cloud
from ricloud_connector.errors import LakeError, RicloudError
from ricloud_connector.fetch import Fetcher
from ricloud_connector.ingest import Run, acknowledge_results, deriving, ingest_results, open_parts, store_results
from ricloud_connector.lake import Lake
from ricloud_connector.location import Policy
from ricloud_connector.model import Window
from ricloud_connector.redact import Secret
from ricloud_connector.storage import DiskStorage, Storage
from tests.simulator.columnar import STAND_IN
from tests.simulator.disks import SimulatedKernel
from tests.simulator.inline import Inline
from tests.simulator.objects import SimulatedObjects
from tests.simulator.oracle import Oracle, Violation
from tests.simulator.processes import MOMENTS, Death, Process, Stage
from tests.simulator.servers import CONTENT_HOST, Published, SimulatedApi, SimulatedContents

FIRST_DAY = date(2026, 11, 20)
POLICY = Policy(content_hosts=frozenset({CONTENT_HOST}))
FLAWS = ("gone", "changed bytes", "wrong size", "no md5", "no place")
ORIGIN = "https://api.test"
ENDED_IN_ERROR = "runs that ended in an error"  # no fault: what became of some
NO_RECORDS = SimpleNamespace(rows={}, rejections=())
_TYPED = ("LakeError: ", "UnreadablePart: ", "BrokenChain: ")


class World:
    """A store, an API, an oracle, and runs of the connector between them. Close it."""

    def __init__(self, stage: Stage, base: Path, *, bucket: bool) -> None:
        self.stage, self.base = stage, base
        self.api, self.kernel = SimulatedApi(stage), SimulatedKernel(base, stage, quiet=bucket)
        self.contents = SimulatedContents(self.api, stage)
        self.objects = SimulatedObjects(stage) if bucket else None
        self.days: list[date] = []
        self.oracle = Oracle(self.api.results, BucketFiles(self.objects) if self.objects else DiskFiles(self.kernel, self.root))
        self.api.on_acknowledge = self.oracle.received
        if self.objects is not None:
            self.objects.on_create = self._appeared
        else:
            self.kernel.on_link = lambda path: self._appeared(path.removeprefix(f"{self.root}/"))
        self.rots = 0.0
        stage.on_power_cut = self._cut_power
        self._runs = 0

    @property
    def root(self) -> Path:
        return self.base / "new" / "lake"

    def _appeared(self, path: str) -> None:
        """A file has got its name; in some histories its medium is bad, and a byte of it is another from now on."""
        self.oracle.appeared(path)
        if path.startswith("data/") and self.rots and self.stage.befalls("store: a file rots", self.rots):
            self.oracle.rotten.add(path)
            place = self.stage.rng.random()
            if self.objects is not None:
                kept = self.objects.objects[path]
                kept.body = _spoilt(kept.body, place)
            else:
                body = (self.root / path).read_bytes()
                (self.root / path).write_bytes(_spoilt(body, place))

    def publish(self, number: int, moment: datetime, data: bytes, flaw: str | None = None) -> Published:
        checksum: str | None = hashlib.md5(data).hexdigest()
        size: int | None = len(data)
        truth = data
        if flaw == "no md5":
            checksum = None
        elif flaw == "wrong size":
            size = len(data) + 1
        elif flaw == "changed bytes":
            truth = data[:-1] + bytes([data[-1] ^ 1]) if data else data
        result = Published(number if number % 3 else f"r{number}", moment, truth, checksum, size, flaw)
        self.api.publish(result)
        return result

    def start(self, process: Process, days: list[date], *, halves: bool = False) -> None:
        """One run of the connector, in the process that acts now. Raises: what it raises."""
        stage = self.stage
        storage: Storage
        if self.objects is None:
            storage = DiskStorage(self.root, sleep=stage.sleep)
        else:
            url = BucketUrl("s3", "lake", "", Cloud())
            storage = BucketStorage(url, self.base / "scratch", objects=self.objects, sleep=stage.sleep)
        lake = Lake(storage, origin=ORIGIN, run_id=process.name)
        client = RicloudClient(ORIGIN, Secret("token"), sleep=stage.sleep, clock=stage.clock, exchange=self.api)
        with lake.opened():
            fetcher = Fetcher(
                client.retrieve_result, POLICY, lake.staging, http=self.contents, sleep=stage.sleep, clock=stage.clock
            )
            run = Run(client, lake, fetcher, process.name, now=self.now, sleep=stage.sleep)
            spans = [(day, Window.of_day(day)) for day in days]
            if halves:
                reports = [*store_results(run, spans), *acknowledge_results(run, spans)]
            else:
                reports = list(ingest_results(run, spans))
        for report in reports:
            if report.error is not None:
                raise report.error
            if report.records_error is not None and not report.records_error.startswith(_TYPED):
                raise Violation("untyped", report.records_error)

    def now(self) -> datetime:
        return datetime(2026, 11, 25, tzinfo=UTC) + timedelta(seconds=self.stage.seconds)

    def new_process(self, death: Death | None = None) -> Process:
        self._runs += 1
        return Process(f"run{self._runs}", death)

    def run_together(self, processes: list[Process], days: list[list[date]], halves: list[bool]) -> None:
        """Runs at once, some of which may die. Raises: Violation; what a run raised that is no error of the connector's."""
        together = list(zip(processes, days, halves, strict=True))
        self.stage.run([(process, partial(self.start, process, span, halves=half)) for process, span, half in together])
        for process in processes:
            self._judge(process.outcome)

    def _judge(self, outcome: BaseException | None) -> None:
        if outcome is None or isinstance(outcome, RicloudError):
            if outcome is not None:
                self.stage.counted[ENDED_IN_ERROR] += 1
                self.stage.say(f"    {type(outcome).__name__}: {outcome}")
            return
        if isinstance(outcome, Violation):
            raise outcome
        raise Violation("untyped", f"{type(outcome).__name__}: {outcome}") from outcome

    def converge(self, runs: int = 2) -> None:
        """Faults stop; after so many runs, which must come through, everything is as promised."""
        self.stage.faulty = False
        self.api.come_to_rest()
        if self.objects is not None:
            self.objects.come_to_rest()
        for _ in range(runs):
            process = self.new_process()
            self.run_together([process], [self.days], [False])
            if process.outcome is not None:
                if self.oracle.rotten and isinstance(process.outcome, LakeError):
                    return  # nothing that rests on a damaged file was acknowledged; to restore it is for people
                raise Violation("stuck", f"{type(process.outcome).__name__}: {process.outcome}") from process.outcome
        self.oracle.converged(rows_of_acknowledgements=not self.api.forgets)

    def _cut_power(self) -> None:
        if self.objects is None:
            self.kernel.cut_power(self.stage.rng)
        self.oracle.power_came_back()


def _spoilt(body: bytes, place: float) -> bytes:
    at = int(place * len(body))
    return body[:at] + bytes([body[at] ^ 0x10]) + body[at + 1 :]


class DiskFiles:
    def __init__(self, kernel: SimulatedKernel, root: Path) -> None:
        self._kernel, self._root = kernel, root

    def paths(self) -> Iterable[str]:
        root = str(self._root)
        for folder, _, names in os.walk(f"{root}/data"):
            for name in names:
                yield f"{folder}/{name}".removeprefix(f"{root}/")

    def body(self, path: str) -> bytes:
        with open(f"{self._root}/{path}", "rb") as file:
            return file.read()

    def durable(self, path: str) -> bool:
        return self._kernel.durable(f"{self._root}/{path}")


class BucketFiles:
    def __init__(self, objects: SimulatedObjects) -> None:
        self._objects = objects

    def paths(self) -> Iterable[str]:
        return list(self._objects.objects)

    def body(self, path: str) -> bytes:
        return self._objects.objects[path].body

    def durable(self, path: str) -> bool:
        return True


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


class _History:
    def __init__(self, world: World, patch: pytest.MonkeyPatch) -> None:
        self.world, self.rng, self._patch = world, world.stage.rng, patch
        self._published = 0

    def play(self) -> None:
        rng, world = self.rng, self.world
        world.days = [FIRST_DAY + timedelta(days=number) for number in range(rng.choice([1, 1, 1, 1, 2, 3]))]
        self._set_up()
        self._publish(rng.randrange(2, 6))
        for _ in range(rng.choice([1, 1, 1, 2])):
            self._meet()
            if rng.random() < 0.25:
                self._publish(rng.randrange(1, 4))
            self._spoil_control()
            self._change_one()
        world.converge(runs=rng.choice([1, 1, 1, 2]))

    def _set_up(self) -> None:
        rng, world, patch = self.rng, self.world, self._patch
        api = world.api
        api.page = rng.choice([1000, 1000, 1, 2, 3])
        api.order = rng.choice(["newest", "newest", "oldest", "shuffled"])
        api.date_filter = rng.choice(["apply", "apply", "apply", "ignore", "reject"])
        api.longest_batch = rng.choice([500, 500, 2])
        api.forgets = rng.random() < 0.15
        api.lags = rng.choice([0.0, 0.0, 0.3])
        api.fault_rate = rng.choice([0.0, 0.02, 0.02, 0.1])
        world.contents.fault_rate = rng.choice([0.0, 0.02, 0.1, 0.3])
        world.kernel.fault_rate = rng.choice([0.0, 0.0, 0.01, 0.04])
        if world.objects is not None:
            world.objects.fault_rate = rng.choice([0.0, 0.02, 0.05, 0.15])
            world.objects.stale = rng.choice([0.0, 0.0, 0.3])
        world.stage.switching = rng.choice([0.05, 0.15, 0.4])
        if rng.random() < 0.9:
            patch.setattr(deriving, "derive_records", lambda *_, **__: NO_RECORDS)  # they are made of what is settled
            patch.setattr(parts, "pq", STAND_IN)
            patch.setattr(part_reader, "pq", STAND_IN)
        world.rots = rng.choice([0.0] * 15 + [0.1])
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
        """One run, or two or three at once; some die, and sometimes everything does."""
        rng, world = self.rng, self.world
        count = rng.choice([1, 1, 1, 1, 2, 2, 3])
        processes = [world.new_process(self._death()) for _ in range(count)]
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
        if waiting and rng.random() < 0.15:
            changed = rng.choice(waiting)
            world.stage.say(f"    {changed.name} is changed at the API")
            changed.change(b"changed " + changed.data)

    def _death(self) -> Death | None:
        rng = self.rng
        if rng.random() < 0.35:
            return None
        return Death(rng.randrange(1, 90), rng.choice(MOMENTS), power=rng.random() < 0.3)

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
