"""The world of a history: a store, an API, an oracle that watches both, and runs of the connector between them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

from ricloud_connector.bucket_storage import BucketStorage
from ricloud_connector.client import RicloudClient
from ricloud_connector.cloud import BucketUrl, Cloud
from ricloud_connector.errors import LakeError, RicloudError
from ricloud_connector.fetch import Fetcher
from ricloud_connector.ingest import Run, acknowledge_results, ingest_results, store_results
from ricloud_connector.lake import Lake
from ricloud_connector.location import Policy
from ricloud_connector.model import Window
from ricloud_connector.redact import Secret
from ricloud_connector.session import part_sinks_of
from ricloud_connector.storage import DiskStorage, Storage
from tests.simulator.disks import SimulatedKernel
from tests.simulator.objects import SimulatedObjects
from tests.simulator.oracle import Oracle, Violation
from tests.simulator.processes import Death, Process, Stage
from tests.simulator.servers import CONTENT_HOST, Published, SimulatedApi, SimulatedBulk, SimulatedContents

POLICY = Policy(content_hosts=frozenset({CONTENT_HOST}))
ORIGIN = "https://api.test"
ENDED_IN_ERROR = "runs that ended in an error"  # no fault: what became of some
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
        rots = self.rots if path.startswith("data/contents/") else self.rots / 4 if path.startswith("data/") else 0.0
        if rots and self.stage.befalls("store: a file rots", rots):
            self.oracle.rotten.add(path)
            place = 1 - self.stage.rng.random() * self.stage.rng.choice([1, 0.2, 0.2])  # often where contents' bytes lie
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
                client.retrieve_result,
                POLICY,
                lake.staging,
                http=self.contents,
                parts=part_sinks_of(lake),
                sleep=stage.sleep,
                clock=stage.clock,
            )
            bulk = SimulatedBulk(self.contents, stage, self.base)
            run = Run(client, lake, fetcher, process.name, now=self.now, sleep=stage.sleep, bulk=bulk)  # type: ignore[arg-type]
            spans = [(day, Window.of_day(day)) for day in days]
            if halves:
                listed = store_results(run, spans, contents=False)
                reports = [*listed, *store_results(run, spans), *acknowledge_results(run, spans)]
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
        """Faults stop; after a run, which must come through, everything is as promised, and further ones change nothing."""
        self.stage.faulty = False
        self.api.come_to_rest()
        if self.objects is not None:
            self.objects.come_to_rest()
        for number in range(runs):
            done = self.oracle.done
            process = self.new_process()
            self.run_together([process], [self.days], [False])
            if process.outcome is not None:
                if self.oracle.rotten and isinstance(process.outcome, LakeError):
                    return  # nothing that rests on a damaged file was acknowledged; to restore it is for people
                raise Violation("stuck", f"{type(process.outcome).__name__}: {process.outcome}") from process.outcome
            if number and self.oracle.done != done:
                raise Violation("restless", "a run that had nothing to do has written or acknowledged something")
        self.oracle.converged(rows_of_acknowledgements=not self.api.forgets)

    def _cut_power(self) -> None:
        if self.objects is None:
            self.kernel.cut_power(self.stage.rng)
        self.oracle.power_came_back()


def _spoilt(body: bytes, place: float) -> bytes:
    at = min(int(place * len(body)), len(body) - 1)
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
