"""Disks that are full, read-only, broken or unfit, and folders of runs that died. Mounts small file systems as root."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ricloud_connector.errors import LakeError, SettingsError, UnreadablePart, UnsafeStore
from ricloud_connector.lake import Lake
from ricloud_connector.parts import ContentsWriter
from ricloud_connector.schemas import ACKNOWLEDGEMENTS, CONTENTS
from ricloud_connector.staging import STALE_AFTER_S, opened_staging
from tests.exactness import assert_readable
from tests.lakes import (
    DAY,
    ORIGIN,
    acknowledgement_rows,
    commit,
    content_of,
    opened_lake,
    proven,
    small,
    stage,
    stored,
)
from tests.mounts import mounted_tmpfs, remount_read_only

KIB = 1024


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with opened_lake(tmp_path / "lake") as lake:
        yield lake


# Full disks


def fill(folder: Path, leave_kib: int) -> Path:
    """A file that takes all space but so much."""
    ballast = folder / "ballast"
    free = os.statvfs(folder)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leave_kib * KIB)
    return ballast


def test_fault_122_a_disk_that_is_full_at_any_point_leaves_the_lake_exact(tmp_path: Path) -> None:
    """From no space at all to enough of it: writing fails at the first page, the last, the footer, the cache, a folder."""
    kept, wanted = small(1), {"large": os.urandom(90 * KIB), "small": b"s"}
    outcomes, said = list[int](), set[bool]()
    with mounted_tmpfs(tmp_path / "disk", "size=1m") as place, opened_lake(place / "lake") as lake:
        commit(lake, kept)
        for leave_kib in range(0, 200, 8):
            ballast = fill(place, leave_kib)
            try:
                outcomes.append(commit(lake, wanted))
            except LakeError as error:
                outcomes.append(0)
                said.add("No space left" in str(error))
            assert not list(lake.staging.iterdir())
            ballast.unlink()
            assert stored(lake) == proven(kept if sum(outcomes) == 0 else kept | wanted)
            assert_readable(lake.root)
        assert sum(outcomes) == 2
        assert 0 < outcomes.index(2) < len(outcomes) - 1
        assert said == {True}


def test_fault_122_no_space_for_one_more_name(tmp_path: Path) -> None:
    """The file was written and made durable, and the folder has no room for its name: a tmpfs counts names as inodes."""
    with mounted_tmpfs(tmp_path / "disk", "size=4m,nr_inodes=20") as place, opened_lake(place / "lake") as lake:
        commit(lake, small(1))
        staged = stage(lake, small(2))
        number = 0
        while True:
            try:
                (place / f"filler{number}").touch()
            except OSError:
                break
            number += 1
        with pytest.raises(LakeError, match="No space left"):
            lake.commit(DAY, staged)
        assert not list(lake.staging.iterdir())
        for path in place.glob("filler*"):
            path.unlink()
        assert stored(lake) == proven(small(1))
        assert commit(lake, small(2)) == 1


def test_fault_122_opening_a_lake_on_a_full_disk_says_so(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path / "disk", "size=1m") as place:
        fill(place, 0)
        with pytest.raises(SettingsError, match=r"RICLOUD_LAKE=.*No space left"), opened_lake(place / "lake"):
            pass


def test_fault_122_a_staging_file_that_cannot_be_read_is_a_clear_error(lake: Lake, tmp_path: Path) -> None:
    content = content_of("a", b"x")
    gone = type(content)(content.result, content.md5, content.sha256, tmp_path / "gone")

    def add_what_is_gone() -> None:
        with lake.writer(CONTENTS) as writer:
            ContentsWriter(writer).add(gone)

    with pytest.raises(LakeError, match="cannot read the staging file"):
        add_what_is_gone()
    assert not list(lake.staging.iterdir())


# A disk that fails


def test_fault_123_a_file_whose_fsync_failed_is_thrown_away_and_never_synced_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, synced, broken, held = os.fsync, [], [], []

    def fail(handle: int) -> None:
        inode = os.fstat(handle).st_ino
        assert inode not in broken, "synced again after a failure"
        synced.append(inode)
        if len(synced) == 1:
            broken.append(inode)
            held.append(os.dup(handle))  # or a later file could be given the same inode
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(LakeError, match=r"cannot make .* durable: Input/output error"):
        commit(lake, small(1))
    assert stored(lake) == {}
    assert not list(lake.staging.iterdir())
    try:
        assert commit(lake, small(1)) == 1
    finally:
        os.close(held[0])
    assert stored(lake) == proven(small(1))


def test_fault_123_a_folder_whose_fsync_failed_is_an_error_and_the_rows_are_there_or_not(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(lake, small(1))
    fsync, folder = os.fsync, lake.folder(CONTENTS, DAY).stat().st_ino

    def fail(handle: int) -> None:
        if os.fstat(handle).st_ino == folder:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(LakeError, match="durable"):
            commit(lake, small(2))
    assert commit(lake, small(2)) == 0
    assert stored(lake) == proven(small(1, 2))


@pytest.mark.parametrize("name", ["link", "fsync"])
def test_whatever_the_system_answers_the_error_is_ours(lake: Lake, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for number in (errno.EIO, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.ESTALE):

        def fail(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(LakeError, match=os.strerror(number)):
                commit(lake, small(1))
        assert not list(lake.staging.iterdir())
    assert stored(lake) == {}
    assert commit(lake, small(1)) == 1


# Folders that may not be written


def test_fault_123_a_folder_above_the_lake_that_cannot_be_looked_at_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(Path, "is_mount", fail)
    with pytest.raises(SettingsError, match=r"cannot look at .*: Input/output error"), opened_lake(tmp_path / "lake"):
        pytest.fail("it opened")


def test_fault_123_a_part_that_was_read_and_does_not_close_is_no_error(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    close = pq.ParquetFile.close

    def fail(parquet: pq.ParquetFile, *arguments: object, **named: object) -> None:
        close(parquet, *arguments, **named)
        raise OSError("error closing file")

    monkeypatch.setattr(pq.ParquetFile, "close", fail)
    commit(lake, small(1))
    assert stored(lake) == proven(small(1))


def test_fault_124_a_lake_on_a_read_only_disk_is_refused_at_once(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path / "disk", "size=1m") as place:
        with opened_lake(place / "lake") as lake:
            commit(lake, small(1))
        remount_read_only(place)
        with pytest.raises(SettingsError, match=r"RICLOUD_LAKE=.*Read-only file system"), opened_lake(place / "lake"):
            pass
        with pytest.raises(SettingsError, match="Read-only file system"), opened_lake(place / "new"):
            pass


def test_fault_124_a_disk_that_becomes_read_only_under_a_run(tmp_path: Path) -> None:
    """As file systems do after an error. What was committed can still be read, and what is wrong is said."""
    with mounted_tmpfs(tmp_path / "disk", "size=4m") as place, opened_lake(place / "lake") as lake:
        commit(lake, small(1))
        staged = stage(lake, small(2))
        remount_read_only(place)
        with pytest.raises(LakeError, match="Read-only file system"):
            lake.commit(DAY, staged)
        with pytest.raises(LakeError, match="Read-only file system"):
            commit(lake, small(3))
        with pytest.raises(LakeError):
            lake.commit_table(ACKNOWLEDGEMENTS, DAY, acknowledgement_rows("1"))
        assert stored(lake) == proven(small(1))


_AS_NOBODY = """
import os, sys, pathlib
from ricloud_connector.errors import SettingsError
from ricloud_connector.lake import Lake
os.setgid(65534); os.setuid(65534)  # after the imports: nobody may not read every Python
for path in sys.argv[1:]:
    try:
        with Lake(pathlib.Path(path), origin="http://x", run_id="run").opened():
            print("opened")
    except SettingsError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="changes to another user")
def test_fault_124_folders_of_somebody_else_are_a_clear_error() -> None:
    """EACCES at each of: a parent that may not be searched, a root that may not be written, a lake that may only be read."""
    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        root.chmod(0o755)
        modes = {"closed": 0o700, "readable": 0o755, "open": 0o777, "unlisted/own": 0o777, "unlisted": 0o711}
        for name, mode in modes.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name).chmod(mode)
        with opened_lake(root / "lake"):
            pass
        places = [root / "closed" / "lake", root / "readable" / "lake", root / "lake"]
        fit = [root / "open" / "lake", root / "unlisted" / "own" / "lake"]
        command = [sys.executable, "-c", _AS_NOBODY, *map(str, places + fit)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for place, line in zip(places, said, strict=False):
        assert line.startswith(f"RICLOUD_LAKE={place} is not writable")
        assert "Permission denied" in line
    assert said[len(places) :] == ["opened"] * len(fit)


def test_a_file_where_a_folder_should_be_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "lake"):
        with pytest.raises(SettingsError, match=r"RICLOUD_LAKE=.*not writable"), opened_lake(place):
            pass
    with pytest.raises(SettingsError, match="File name too long"), opened_lake(tmp_path / ("x" * 300)):
        pass


# Disks that are unfit


def test_fault_125_staging_on_another_file_system_is_refused(tmp_path: Path) -> None:
    staging = tmp_path / "lake" / "control" / "staging"
    with (
        mounted_tmpfs(staging, "size=1m"),
        pytest.raises(UnsafeStore, match="must be on one file system"),
        opened_lake(tmp_path / "lake"),
    ):
        pass


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
def test_fault_126_a_file_system_without_hard_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """FAT and SMB answer so."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(UnsafeStore, match="no hard links"), opened_lake(tmp_path / "lake"):
        pass


def test_fault_135_a_file_system_that_creates_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overwrite(source: Path, target: Path) -> None:
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr(os, "link", overwrite)
    with pytest.raises(UnsafeStore, match="created twice"), opened_lake(tmp_path / "lake"):
        pass


def test_fault_135_a_probe_that_reads_back_as_something_else_is_refused(tmp_path: Path) -> None:
    with opened_lake(tmp_path / "lake") as lake:
        probe = lake.control / "probe"
        facts = probe.stat()
        assert facts.st_nlink == 1
    with opened_lake(tmp_path / "lake"):
        assert probe.stat().st_ino == facts.st_ino, "one fixed key, created once in the life of a lake"
    probe.write_bytes(b"something else")
    with pytest.raises(UnsafeStore, match="does not read back"), opened_lake(tmp_path / "lake"):
        pass


def test_fault_084_a_flip_between_the_rows_and_the_file_is_found_before_the_commit(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever column it hits: the file is decoded and compared before it gets its name."""
    staged = stage(lake, small(1))
    text = staged.path.read_bytes()
    wrong = stage(lake, small(2))
    staged.path.write_bytes(wrong.path.read_bytes())
    with pytest.raises(UnreadablePart, match="does not have the md5 that was proven"):
        lake.commit(DAY, staged)
    assert not staged.path.exists()
    staged.path.write_bytes(text[: len(text) // 2])
    with pytest.raises(UnreadablePart):
        lake.commit(DAY, staged)
    assert stored(lake) == {}


# Staging folders


def age(folder: Path, seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(folder, (moment, moment))


def test_a_staging_folder_goes_with_its_run(tmp_path: Path) -> None:
    with opened_staging(tmp_path / "run") as folder:
        (folder / "content-1").write_bytes(b"x")
        assert folder.parent == tmp_path
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt), opened_staging(tmp_path / "run"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["fstat", "close"])
def test_fault_123_a_staging_folder_that_cannot_be_removed_fails_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """`rmtree` raises what `fstat` does, whatever it was told to ignore."""

    def fail(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with opened_staging(tmp_path / "run"):
        monkeypatch.setattr(os, name, fail)
    monkeypatch.undo()


def test_one_run_may_open_its_staging_folder_several_times_at_once(tmp_path: Path) -> None:
    """Steps of one Dagster run carry the same run id, and may run beside each other."""
    with opened_staging(tmp_path / "run") as first:
        with opened_staging(tmp_path / "run") as second:
            assert first != second
            (first / "mine").touch()
        assert (first / "mine").exists()


def test_fault_118_only_stale_folders_of_dead_runs_are_swept(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time\nfrom ricloud_connector.staging import opened_staging\n"
        "with opened_staging(pathlib.Path(sys.argv[1])) as folder:\n    print(folder.name, flush=True)\n    time.sleep(60)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / name)], stdout=subprocess.PIPE, text=True)
        for name in ("live", "dead", "fresh")
    ]
    live, dead, fresh = (tmp_path / process.stdout.readline().strip() for process in started if process.stdout)
    for process in started[1:]:
        process.kill()
        process.wait()
    strangers = [tmp_path / "lock", tmp_path / "run-somebody", tmp_path / "pip-build"]
    for stranger in strangers:
        stranger.mkdir()
        (stranger / "lock").touch()
    (dead / "content-1").write_bytes(b"x")
    (dead / "deeper").mkdir()
    for folder in (live, dead, *strangers):
        age(folder, STALE_AFTER_S + 60)
    with opened_staging(tmp_path / "own") as own:
        assert {path.name for path in tmp_path.iterdir()} == {path.name for path in (own, live, fresh, *strangers)}
    started[0].kill()
    started[0].wait()
    with opened_staging(tmp_path / "own"):
        assert not live.exists()
        assert fresh.exists()


def test_fault_117_a_clock_that_is_a_day_wrong_sweeps_no_live_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Age is told by the file system's own clock: this machine's may be a day ahead."""
    folder = tmp_path / "ricloud-run-other-0badcafe"
    folder.mkdir()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 86_400)
    with opened_staging(tmp_path / "own"):
        assert folder.exists()
    age(folder, -86_400)
    with opened_staging(tmp_path / "own"):
        assert folder.exists()


def test_a_staging_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeError, match="cannot make the folder"), opened_staging(tmp_path / "file" / "run"):
        pass


def test_a_lake_object_before_it_is_opened_reads_and_writes_no_cache(tmp_path: Path) -> None:
    """As `status` and a sensor do."""
    with opened_lake(tmp_path / "lake") as lake:
        commit(lake, small(1))
    (lake.control / "index" / "contents" / f"{DAY}.arrow").unlink()
    reader = Lake(tmp_path / "lake", origin=ORIGIN, run_id="reader")
    assert stored(reader) == proven(small(1))
    assert not (lake.control / "index" / "contents" / f"{DAY}.arrow").exists()
