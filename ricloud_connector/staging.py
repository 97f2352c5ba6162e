"""Folders for what is under way, one per run, which go with their run or are swept after it died. I/O: the local disk.

A folder is locked as long as its run lives: that, not its age, tells a dead run from a slow one. The age only covers the
instant between making a folder and locking it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ricloud_connector import disk
from ricloud_connector.errors import LakeError

STALE_AFTER_S = 3600
_PREFIX = "ricloud-run-"  # the parent may be anybody's, as `/tmp` is: nothing else in it is touched


@contextmanager
def opened_staging(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` and named after it, locked; removed at the end, as are those of dead runs now.

    Its name is never used again, not even by the same run. Raises: LakeError.
    """
    own = folder.with_name(f"{_PREFIX}{folder.name}-{os.urandom(4).hex()}")
    try:
        disk.make_folder(own)
        lock = _lock(own, fcntl.LOCK_SH)
    except OSError as error:
        raise LakeError(f"cannot lock the staging folder {own}: {error.strerror}") from error
    try:
        _sweep(own)
        yield own
    finally:
        with suppress(OSError):  # of which `ignore_errors` lets some through; what stays is swept by a later run
            disk.kernel(shutil.rmtree, own, True)
        with suppress(OSError):  # the lock goes with the process at the latest
            os.close(lock)


def _sweep(own: Path) -> None:
    """Remove folders that nobody has changed for an hour and whose lock nobody holds: theirs was a run that was killed."""
    try:
        now = own.stat().st_mtime  # by the clock of the file system, which may be another machine's
        siblings = [entry for entry in own.parent.iterdir() if entry.name.startswith(_PREFIX) and entry != own]
    except OSError as error:
        raise LakeError(f"cannot list {own.parent}: {error.strerror}") from error
    for folder in siblings:
        try:
            if now - folder.stat().st_mtime < STALE_AFTER_S:
                continue
            lock = _lock(folder, fcntl.LOCK_EX)
            try:
                shutil.rmtree(folder)
            finally:
                os.close(lock)
        except OSError:
            continue  # its run lives, or another run sweeps it at this moment


def _lock(folder: Path, kind: int) -> int:
    """A handle that holds the folder's lock until it is closed. Raises: OSError where somebody else holds it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle
