"""One day of results at an emulator, a lake, and runs of the command that live and die between them. Runs real processes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from ricloud_connector.emulator import Emulator
from tests.exactness import Witness, assert_exact
from tests.mirror import Mirror
from tests.nursery import Ended, Nursery, Plan

DAY = date(2026, 11, 20)
MOMENT = datetime(2026, 11, 20, 12, tzinfo=UTC)
SPAN = ("--since", str(DAY), "--until", str(DAY + timedelta(days=1)))
LARGE = random.Random(0).randbytes(9 * 1024 * 1024)


class World:
    """Every acknowledgement that arrives is witnessed: each of its ids is in the lake then, whole."""

    def __init__(self, nursery: Nursery, lake: Path | Mirror, emulator: Emulator, more: Mapping[str, str] = {}) -> None:
        self.nursery, self.emulator, self._lake, self._more = nursery, emulator, lake, more
        self.witness = Witness(lake, emulator) if isinstance(lake, Path) else Witness(lake.folder, emulator, look=lake.look)
        emulator.on_acknowledge = self.witness
        self._published = 0

    @property
    def lake(self) -> Path:
        """The lake; of one in a bucket a copy as it is now."""
        return self._lake if isinstance(self._lake, Path) else self._lake.look()

    @property
    def environment(self) -> dict[str, str]:
        url = str(self._lake) if isinstance(self._lake, Path) else self._lake.url
        return {**self.emulator.environment(), **self._more, "RICLOUD_LAKE": url}

    def publish(self, count: int, *, moment: datetime = MOMENT) -> None:
        """More results: some with integer ids, some with the same content or the same moment, the first one empty."""
        for number in range(self._published, self._published + count):
            self.emulator.add_result(
                content=f"content {number // 2}".encode() * (number % 1000),
                date_created=moment + timedelta(microseconds=number // 3),
                id=4_000_000_000 + number if number % 3 == 0 else None,
            )
        self._published += count

    def publish_large(self) -> None:
        """One of two chunks."""
        self.emulator.add_result(content=LARGE, date_created=MOMENT)

    def publish_huge(self) -> None:
        """One that has a part of its own, of five chunks."""
        self.emulator.add_result(content=LARGE * 4, date_created=MOMENT)

    def start(self, *arguments: str, plan: Plan | None = None) -> int:
        return self.nursery.start("ingest", *(arguments or SPAN), environment=self.environment, plan=plan)

    def run(self, *arguments: str, plan: Plan | None = None) -> Ended:
        return self.nursery.wait(self.start(*arguments, plan=plan))

    def recover(self, *arguments: str) -> None:
        """One more run makes everything exact, and the one after it has nothing to do."""
        ended = self.run(*arguments)
        assert ended.status == 0, ended.said
        assert_exact(self.lake, self.emulator)
        files, calls = self.files(), len(self.witness.calls)
        ended = self.run(*arguments)
        assert ended.status == 0, ended.said
        assert "nothing new" in ended.said
        assert (self.files(), len(self.witness.calls)) == (files, calls)

    def files(self) -> list[Path]:
        return sorted(self.lake.glob("data/**/*.parquet"))


@contextmanager
def new_world(
    nursery: Nursery, lake: Path | Mirror, *, results: int = 10, large: bool = False, environment: Mapping[str, str] = {}
) -> Iterator[World]:
    with Emulator(results=0, days=1, today=DAY) as emulator:
        world = World(nursery, lake, emulator, environment)
        world.publish(results)
        if large:
            world.publish_large()
        yield world


def until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait for something that another process does."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never happened"
        time.sleep(0.005)
