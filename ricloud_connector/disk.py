"""Durable, atomic primitives of a POSIX file system: create-if-absent, fsync, folders. I/O: the local disk.

pyarrow, obstore, fsspec, polars and duckdb never call fsync, and none of them creates a file only if it is absent; these
few lines are why the commit protocol holds on a local disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import sys
from pathlib import Path

from ricloud_connector.errors import LakeError, UnsafeStore
from ricloud_connector.model import DataFile

_PART = re.compile(r"part-(\d{6,})\.parquet")


def make_folder(path: Path) -> None:
    """Make a folder and its parents, each durable before what lies in it. Raises: LakeError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync(folder.parent)
    except OSError as error:
        raise LakeError(f"cannot make the folder {path}: {error.strerror}") from error


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut. Raises: LakeError.

    After a failed fsync the kernel may have dropped the dirty pages: the caller must write anew, not sync again.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if sys.platform == "darwin":
                fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
            else:
                os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise LakeError(f"cannot make {path} durable: {error.strerror}") from error


def create(target: Path, staged: Path) -> bool:
    """Give a finished file its name unless the name is taken: one atomic step. False where it was taken.

    The caller looks at the folder afterwards whatever the answer was. Raises: UnsafeStore, LakeError.
    """
    try:
        os.link(staged, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise UnsafeStore(f"the file system of {target.parent} has no hard links: keep the lake elsewhere") from error
        if error.errno == errno.EXDEV:
            raise UnsafeStore(f"{staged.parent} and {target.parent} must be on one file system") from error
        raise LakeError(f"cannot create {target}: {error.strerror}") from error
    return True


def list_parts(folder: Path) -> list[DataFile]:
    """The parts of a partition by number; none where there is no folder. Gaps are not looked for. Raises: LakeError."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                match = _PART.fullmatch(entry.name)
                if match:
                    facts = entry.stat()
                    path = folder / entry.name
                    found.append(DataFile(int(match[1]), path, facts.st_size, facts.st_mtime_ns, facts.st_ino))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LakeError(f"cannot list {folder}: {error.strerror}") from error
    return sorted(found)


def part_path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}.parquet"


def replace(path: Path, staged: Path) -> None:
    """Swap a cache file in one step; it may be lost in a power cut, which is what caches are for."""
    os.replace(staged, path)


def probe(folder: Path) -> None:
    """Prove that this file system refuses to create what exists and shows what was written. Raises: UnsafeStore, LakeError.

    One fixed key: `probe`. It is created once in the life of a lake; every run asks for it to be refused again.
    """
    target, staged = folder / "probe", folder / f"probe-{os.getpid()}-{os.urandom(4).hex()}"
    text = b"This file must never be replaced.\n"
    try:
        staged.write_bytes(text)
        sync(staged)
        create(target, staged)
        sync(folder)
        if create(target, staged):
            raise UnsafeStore(f"{folder} lets a file be created twice: nothing would be acknowledged safely")
        if target.read_bytes() != text:
            raise UnsafeStore(f"{target} does not read back as it was written")
    except OSError as error:
        raise LakeError(f"the lake is not writable: {folder}: {error.strerror}") from error
    finally:
        staged.unlink(missing_ok=True)
