"""Power cuts: what was acknowledged survives one at any moment. Mounts an ext4 in a file; runs real processes.

The file behind a mounted disk holds what the file system has written out, and nothing that only waits in memory. A copy of
it, taken while the disk is in use and mounted elsewhere, is that disk after a power cut at that moment.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ricloud_connector.lake import Lake
from ricloud_connector.readback import read_back
from ricloud_connector.schemas import ACKNOWLEDGEMENTS, CONTENTS
from tests.exactness import assert_readable, read_pyarrow
from tests.lakes import DAY, acknowledgement_rows, commit, opened_lake, parts_of, proven, small, stage
from tests.mounts import make_ext4, mounted_image
from tests.nursery import Nursery, Plan
from tests.world import World, new_world


class Disk:
    """An ext4 in a file, mounted at `place`; `cut` keeps a copy of it as it would be after a power cut now."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.image, self.place = folder / "disk", place
        self._folder = folder
        self._numbers = itertools.count()

    def cut(self) -> Path:
        copy = self._folder / f"cut-{next(self._numbers)}"
        shutil.copyfile(self.image, copy)
        return copy

    def ids_after(self, copy: Path) -> set[str]:
        """The contents that are there, whole and true, when the power is back."""
        with mounted_image(copy, self._folder / "after") as place:
            lake = place / "new" / "lake"
            assert_readable(lake)
            table = read_pyarrow(lake, "contents")
            found = set() if table is None else set(table.column("result_id").to_pylist())
        copy.unlink()
        return found


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    make_ext4(tmp_path / "disk", 16)
    with mounted_image(tmp_path / "disk", tmp_path / "mounted") as place:
        yield Disk(tmp_path, place)


@pytest.fixture
def world(nursery: Nursery, disk: Disk) -> Iterator[World]:
    with new_world(nursery, disk.place / "new" / "lake") as world:
        yield world


def cut_at_each_acknowledgement(world: World, disk: Disk) -> list[tuple[Path, set[str]]]:
    """Copies of the disk, each with the ids that have been acknowledged when it was taken."""
    cuts: list[tuple[Path, set[str]]] = []
    witness = world.witness

    def cut(ids: list[str]) -> None:
        witness(ids)
        cuts.append((disk.cut(), set(world.emulator.acknowledged)))

    world.emulator.on_acknowledge = cut
    return cuts


def test_the_copy_of_a_disk_holds_only_what_was_written_out(disk: Disk) -> None:
    """Or nothing here would prove anything."""
    (disk.place / "synced").write_text("synced")
    for path in (disk.place / "synced", disk.place):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    (disk.place / "not synced").write_text("not synced")
    with mounted_image(disk.cut(), disk.place.parent / "after") as after:
        assert (after / "synced").read_text() == "synced"
        assert not (after / "not synced").exists()


def test_fault_108_what_the_first_run_ever_acknowledges_survives(world: World, disk: Disk) -> None:
    """Every folder down to the file is new."""
    cuts = cut_at_each_acknowledgement(world, disk)
    assert world.run().status == 0
    ((copy, acknowledged),) = cuts
    assert len(acknowledged) == 10
    assert disk.ids_after(copy) >= acknowledged


STEPS = ["disk:sync", "disk:make_folder", "lake:prove_staged", "disk:settle"]


# In CI around the other steps too; the simulator cuts the power at each of them by default.
@pytest.mark.parametrize(
    "step", ["disk:create", "disk:sync_upwards", *(pytest.param(step, marks=pytest.mark.ci) for step in STEPS)]
)
def test_faults_106_and_106b_what_is_acknowledged_after_a_crash_survives(world: World, disk: Disk, step: str) -> None:
    """A run dies somewhere between the first folder and the last sync; the next one relies on what it finds."""
    cuts = cut_at_each_acknowledgement(world, disk)
    for n in (1, 2, 3, 4):
        ended = world.run(plan=Plan(n, "after", (f"ricloud_connector.{step}",)))
        assert ended.status in (0, -signal.SIGKILL), ended.said
        after = disk.cut()
        if (world.lake / "data").exists():
            assert disk.ids_after(after) >= set(world.emulator.acknowledged)
        world.publish(2)
    assert world.run().status == 0
    assert cuts
    for copy, acknowledged in cuts:
        assert disk.ids_after(copy) >= acknowledged
    world.recover()


@pytest.mark.ci
def test_fault_106_a_lake_goes_on_after_a_power_cut_at_any_event(nursery: Nursery, disk: Disk, tmp_path: Path) -> None:
    """The machine comes back with what the disk had kept: the next run makes it exact, caches and all."""
    for n in range(5, 100, 11):
        with new_world(nursery, disk.place / f"lake{n}") as world:
            ended = world.run(plan=Plan(n, "after"))
            copy = disk.cut()
            with mounted_image(copy, tmp_path / "after") as place:
                World(nursery, place / f"lake{n}", world.emulator).recover()
            copy.unlink()
        if ended.status == 0:
            break
    assert n > 60


# In which order things are made durable, on a file system that is less kind than ext4


class Syscalls:
    """What the process asks the kernel, as far as durability goes: `fsync` and `link` with the inodes they are about."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, int]] = []
        fsync, link = os.fsync, os.link

        def watched_fsync(handle: int) -> None:
            fsync(handle)
            self.calls.append(("fsync", os.fstat(handle).st_ino))

        def watched_link(source: Path, target: Path) -> None:
            link(source, target)
            self.calls.append(("link", os.stat(target).st_ino))

        patch.setattr(os, "fsync", watched_fsync)
        patch.setattr(os, "link", watched_link)

    def since(self) -> list[tuple[str, int]]:
        """The calls since the last time."""
        calls, self.calls[:] = list(self.calls), []
        return calls


@pytest.fixture
def syscalls(monkeypatch: pytest.MonkeyPatch) -> Syscalls:
    return Syscalls(monkeypatch)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with opened_lake(tmp_path / "new" / "lake") as lake:
        yield lake


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_a_file_is_durable_before_it_has_its_name_and_its_folder_afterwards(lake: Lake, syscalls: Syscalls) -> None:
    staged = stage(lake, small(1))
    syscalls.since()
    lake.commit(DAY, staged)
    calls = syscalls.since()
    (path,) = parts_of(lake)
    named = calls.index(("link", inode(path)))
    assert ("fsync", inode(path)) in calls[:named]
    assert ("fsync", inode(path.parent.parent)) in calls[:named], "the entry of the new partition"
    assert ("fsync", inode(lake.data)) in calls[:named], "the entry of the new dataset"
    assert ("fsync", inode(path.parent)) in calls[named:]
    commit(lake, small(2))
    assert ("fsync", inode(path.parent)) in syscalls.since()[-1:]


def test_fault_106b_before_anything_is_proven_all_that_leads_to_it_is_durable(lake: Lake, syscalls: Syscalls) -> None:
    """Whoever wrote it, and whoever made the folders: the file, its partition, the dataset, `data`."""
    for number in range(3):
        commit(lake, small(number))
    found = lake.scan(CONTENTS, DAY)
    paths = parts_of(lake)
    syscalls.since()
    proofs = read_back(found, [0, 2])
    assert dict(next(proofs).proven) == proven(small(0))
    synced = {number for call, number in syscalls.since() if call == "fsync"}
    folder = paths[0].parent
    assert synced == {inode(path) for path in (paths[0], folder, folder.parent, lake.data)}
    next(proofs)
    assert syscalls.since() == [("fsync", inode(paths[2]))]


def test_fault_108_opening_a_lake_makes_every_folder_above_it_durable(tmp_path: Path, syscalls: Syscalls) -> None:
    """Also those that are there already: whoever made them may have died before it could."""
    (tmp_path / "new" / "lake" / "data").mkdir(parents=True)
    with opened_lake(tmp_path / "new" / "lake") as lake:
        synced = {number for call, number in syscalls.since() if call == "fsync"}
        expected = {inode(lake.data)}
        for folder in lake.data.parents:
            expected.add(inode(folder))
            if folder.is_mount():
                break
        assert expected <= synced


def test_other_datasets_are_committed_by_the_same_rule(lake: Lake, syscalls: Syscalls) -> None:
    lake.commit_table(ACKNOWLEDGEMENTS, DAY, acknowledgement_rows("a"))
    calls = syscalls.since()
    (path,) = parts_of(lake, "acknowledgements")
    named = calls.index(("link", inode(path)))
    assert ("fsync", inode(path)) in calls[:named]
    assert ("fsync", inode(path.parent)) in calls[named:]
