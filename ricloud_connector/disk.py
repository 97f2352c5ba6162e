"""Durable, atomic primitives of a POSIX file system: create-if-absent, fsync, folders. I/O: the local disk.

pyarrow, obstore, fsspec, polars and duckdb never call fsync, and none of them creates a file only if it is absent; these
few lines are why the commit protocol holds on a local disk.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from ricloud_connector.errors import LakeError, UnsafeStore
from ricloud_connector.model import DataFile

# Exactly what `part_name` makes: a second spelling of a number would be a second file of that number.
PART_NAME = re.compile(r"part-([0-9]{6}|[1-9][0-9]{6,})\.parquet")

T = TypeVar("T")


class Kernel(Protocol):
    """Makes one call of the file system. Raises: what the call raises."""

    def __call__(self, function: Callable[..., T], /, *arguments: object) -> T: ...


def _at_once(function: Callable[..., T], /, *arguments: object) -> T:
    return function(*arguments)


kernel: Kernel = _at_once
"""Whatever others can see of a lake on a disk, or a power cut can undo, is done by this; a simulator puts its own here."""

_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def make_folder(path: Path) -> None:
    """Make a folder and its parents; those that are new are durable when this returns. Raises: LakeError."""
    try:
        missing = list(itertools.takewhile(lambda folder: not folder.exists(), (path, *path.parents)))
        kernel(_make_folders, path)
    except OSError as error:
        raise LakeError(f"cannot make the folder {path}: {error.strerror}") from error
    for folder in missing:
        sync(folder.parent)


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut. Raises: LakeError.

    After a failed fsync the kernel may have dropped the dirty pages: the caller must write anew, not sync again.
    """
    _sync(path, forget=False)


def settle(path: Path) -> None:
    """Make a file durable and let go of the kernel's copy, so that what is read next comes from the disk. Raises: LakeError.

    A page whose write failed may still be read back from memory, right to the last bit, until the machine restarts.
    """
    _sync(path, forget=True)


def sync_upwards(folder: Path) -> None:
    """Make a folder's entries, its own name and those of its parents durable, up to the mount point. Raises: LakeError.

    Whoever made one of them may have died before syncing it. What we may not open, we did not make.
    """
    for above in (folder, *folder.parents):
        try:
            sync(above)
        except LakeError as error:
            if not isinstance(error.__cause__, PermissionError):
                raise
        try:
            if above.is_mount():
                return
        except OSError as error:
            raise LakeError(f"cannot look at {above}: {error.strerror}") from error


def _sync(path: Path, *, forget: bool) -> None:
    try:
        kernel(flush, path, forget)
    except OSError as error:
        raise LakeError(f"cannot make {path} durable: {error.strerror}") from error


def flush(path: Path, forget: bool) -> None:
    """fsync; `forget` lets go of the kernel's copy as well. Raises: OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if sys.platform == "darwin":
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
        else:
            os.fsync(handle)
            if forget:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def _make_folders(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)


def create(target: Path, staged: Path) -> bool:
    """Give a finished file its name unless the name is taken: one atomic step. False where it was taken.

    The caller looks at the folder afterwards whatever the answer was. Raises: UnsafeStore, LakeError.
    """
    try:
        kernel(os.link, staged, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in _NO_HARD_LINKS:
            raise UnsafeStore(f"the file system of {target.parent} has no hard links: keep the lake elsewhere") from error
        if error.errno == errno.EXDEV:
            raise UnsafeStore(f"{staged.parent} and {target.parent} must be on one file system") from error
        raise LakeError(f"cannot create {target}: {error.strerror}") from error
    return True


def list_parts(folder: Path) -> list[DataFile]:
    """The parts of a partition by number; none where there is no folder. Gaps are not looked for.

    Raises: LakeError, also for a Parquet file that is none of the parts, since every engine reads it beside them.
    """
    found = []
    try:
        try:
            entries = kernel(os.scandir, folder)
        except FileNotFoundError:
            return []
        with entries:
            for entry in entries:
                match = PART_NAME.fullmatch(entry.name)
                if match:
                    facts = entry.stat()
                    path = folder / entry.name
                    found.append(DataFile(int(match[1]), path, facts.st_size, facts.st_mtime_ns, facts.st_ino))
                elif entry.name.endswith(".parquet"):
                    stray = folder / entry.name
                    raise LakeError(f"{stray} is not part of the lake, but every reader takes it for a part: move it away")
    except OSError as error:
        raise LakeError(f"cannot list {folder}: {error.strerror}") from error
    return sorted(found)


def part_name(number: int) -> str:
    return f"part-{number:06d}.parquet"


def part_path(folder: Path, number: int) -> Path:
    return folder / part_name(number)


def replace(path: Path, staged: Path) -> None:
    """Swap a cache file in one step; it may be lost or torn in a power cut, which its reader finds out."""
    kernel(_make_folders, path.parent)
    kernel(os.replace, staged, path)


def discard(path: Path) -> None:
    """Remove a staging file that nobody needs."""
    with suppress(OSError):  # what cannot be removed goes with its folder, now or when a later run sweeps it
        kernel(os.unlink, path)


def probe(folder: Path, staging: Path) -> None:
    """Prove that this file system refuses to create what exists and shows what was written. Raises: UnsafeStore, LakeError.

    One fixed key: `probe`. It is created once in the life of a lake; every run asks for it to be refused again.
    """
    target, staged = folder / "probe", staging / "probe"
    text = b"This file must never be replaced.\n"
    try:
        staged.write_bytes(text)
        sync(staged)
        if create(target, staged):
            sync(folder)
        if create(target, staged):
            raise UnsafeStore(f"{folder} lets a file be created twice: nothing would be acknowledged safely")
        if target.read_bytes() != text:
            raise UnsafeStore(f"{target} does not read back as it was written; if somebody else wrote it, remove it")
    except OSError as error:
        raise LakeError(f"cannot write in {folder}: {error.strerror}") from error
    finally:
        discard(staged)
