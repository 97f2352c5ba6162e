"""Several writers on one lake, stopped at every step of the protocol, killed at any of them. Writes real lakes.

A writer runs in a thread that waits before each touch of the disk until the machine lets it go on, so that hypothesis
decides who does what next. A killed writer never touches the disk again: not even what cleans up runs.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, precondition, rule

from ricloud_connector import disk, lake, partition, storage
from ricloud_connector.model import Proven
from ricloud_connector.readback import read_back
from ricloud_connector.schemas import CONTENTS
from tests.exactness import assert_readable
from tests.lakes import DAY, opened_lake, proven, small, stage

IDS = st.sets(st.integers(0, 9), min_size=1, max_size=5)


class Killed(BaseException):
    """The process of a writer is gone."""


class Writer:
    """One commit in a thread of its own. `step` lets it touch the disk once more, then it waits again."""

    def __init__(self, root: Path, number: int, ids: set[int]) -> None:
        self.wanted = small(*ids)
        self.done = self.killed = self.interrupted = False
        self.failure: BaseException | None = None
        self._turn, self._waiting = threading.Semaphore(0), threading.Semaphore(0)
        self._stack = ExitStack()
        self._lake = self._stack.enter_context(opened_lake(root, run_id=f"writer{number}"))
        self._staged = stage(self._lake, self.wanted)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.writer = self  # type: ignore[attr-defined]  # how a patched function knows whose thread it is in
        self._thread.start()
        self._waiting.acquire()

    def _run(self) -> None:
        try:
            self._lake.commit(DAY, self._staged)
            self.done = True
        except (Killed, KeyboardInterrupt):
            pass
        except BaseException as failure:  # noqa: BLE001  # `step` raises it again
            self.failure = failure
        self._waiting.release()

    def wait_for_turn(self) -> None:
        """Called in the writer's thread, before and after each touch of the disk."""
        if self.interrupted:
            return  # it cleans up
        if not self.killed:
            self._waiting.release()
            self._turn.acquire()
        if self.killed:
            raise Killed
        if self.interrupted:
            raise KeyboardInterrupt

    def step(self) -> None:
        if self.failure is None and not self.done:
            self._turn.release()
            self._waiting.acquire()
        if self.failure is not None:
            raise self.failure

    def kill(self) -> None:
        """Its staging folder stays behind, as after SIGKILL."""
        self.killed = True
        self._turn.release()
        self._thread.join()
        self._stack.pop_all()

    def interrupt(self) -> None:
        """As by ctrl-C: what it does on its way out still runs."""
        self.interrupted = True
        self._turn.release()
        self._thread.join()
        self._stack.close()
        assert not self._lake.staging.exists()

    def finish(self) -> None:
        while not self.done:
            self.step()
        self._thread.join()
        self._stack.close()


def stepwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that stops before and after its work where a writer's thread calls it."""

    def stepped(*arguments: Any) -> Any:
        writer = getattr(threading.current_thread(), "writer", None)
        if writer is None:
            return function(*arguments)
        writer.wait_for_turn()
        answer = function(*arguments)
        writer.wait_for_turn()
        return answer

    return stepped


# Where a writer touches what others see: the listing, the parts' footers, the cache, folders, the name, what is durable.
BORDER = [
    (disk, "list_parts"),
    (disk, "make_folder"),
    (disk, "create"),
    (disk, "sync"),
    (disk, "replace"),
    (disk, "discard"),
    (partition, "read_index"),
]


class LakeMachine(RuleBasedStateMachine):
    """Whatever is done in whatever order: each key once, a chain without a gap, files that never change."""

    writers = Bundle("writers")

    def __init__(self) -> None:
        super().__init__()
        self.patches = pytest.MonkeyPatch()
        for module, name in BORDER:
            self.patches.setattr(module, name, stepwise(getattr(module, name)))
        assert lake.disk is disk is storage.disk  # they look the functions up in the module
        self.root = Path(tempfile.mkdtemp(prefix="machine-"))
        self.running: list[Writer] = []
        self.seen: dict[str, bytes] = {}
        self.committed: dict[str, Proven] = {}
        self.number = 0

    @initialize()
    def make_lake(self) -> None:
        with opened_lake(self.root):
            pass

    @precondition(lambda self: len(self.running) < 4)
    @rule(target=writers, ids=IDS)
    def start(self, ids: set[int]) -> Any:
        self.number += 1
        writer = Writer(self.root, self.number, ids)
        self.running.append(writer)
        return writer

    @rule(writer=writers, steps=st.integers(1, 6))
    def go_on(self, writer: Writer, steps: int) -> None:
        for _ in range(steps):
            if writer in self.running:
                writer.step()
                self.note(writer)

    @rule(writer=consumes(writers))
    def kill(self, writer: Writer) -> None:
        if writer in self.running:
            writer.kill()
            self.running.remove(writer)

    @rule(writer=consumes(writers))
    def interrupt(self, writer: Writer) -> None:
        if writer in self.running:
            writer.interrupt()
            self.running.remove(writer)

    @rule(target=writers, writer=consumes(writers), ids=IDS)
    def kill_and_start_again(self, writer: Writer, ids: set[int]) -> Any:
        """The next run of a killed one wants what it wanted, and perhaps more."""
        self.kill(writer)
        if len(self.running) >= 4:
            return multiple()
        return self.start({int(name) for name in writer.wanted} | ids)

    @rule()
    def delete_the_cache(self) -> None:
        shutil.rmtree(self.root / "control" / "index", ignore_errors=True)

    @rule(data=st.data())
    def spoil_the_cache(self, data: st.DataObject) -> None:
        for cache in self.root.glob("control/index/*/*.arrow"):
            text = bytearray(cache.read_bytes())
            text[data.draw(st.integers(0, len(text) - 1))] ^= 0x41
            cache.write_bytes(text)

    def note(self, writer: Writer) -> None:
        if writer.done and writer in self.running:
            writer.finish()
            self.running.remove(writer)
            self.committed |= proven(writer.wanted)

    @invariant()
    def committed_files_never_change_and_have_no_gap(self) -> None:
        paths = sorted(self.root.glob("data/contents/created_date=*/*"))
        assert [path.name for path in paths] == [f"part-{number:06d}.parquet" for number in range(len(paths))]
        for path in paths:
            digest = hashlib.sha256(path.read_bytes()).digest()
            assert self.seen.setdefault(path.name, digest) == digest
        assert self.seen.keys() == {path.name for path in paths}

    @invariant()
    def every_key_is_there_once_and_true(self) -> None:
        reader = lake.Lake(self.root, origin="http://127.0.0.1:8000", run_id="reader")
        found = reader.scan(CONTENTS, DAY)
        ids = found.index.column("result_id").to_pylist()
        assert len(ids) == len(set(ids))
        stored = {name: it for proof in read_back(found, range(len(found.parts))) for name, it in proof.proven.items()}
        assert stored == proven(small(*ids))
        assert self.committed.items() <= stored.items()

    def teardown(self) -> None:
        try:
            for writer in list(self.running):
                writer.finish()
                self.committed |= proven(writer.wanted)
            self.running.clear()
            if self.seen or self.committed:
                self.every_key_is_there_once_and_true()
                self.committed_files_never_change_and_have_no_gap()
                assert_readable(self.root)
        finally:
            for writer in self.running:
                writer.kill()
            self.patches.undo()
            shutil.rmtree(self.root)


TestLakeMachine = LakeMachine.TestCase
TestLakeMachine.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.reuse, Phase.generate],  # to shrink a failure on a real disk takes minutes; remove this line to do so
)
