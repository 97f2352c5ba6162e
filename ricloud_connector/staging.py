"""Folders for what is under way, one per run, which go with their run or are swept after it died. I/O: the local disk."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ricloud_connector.disk import make_folder

STALE_AFTER_S = 3600


@contextmanager
def opened_staging(folder: Path) -> Iterator[Path]:
    """The folder, made and locked; removed at the end. Siblings of dead runs are removed too. Raises: LakeError."""
    make_folder(folder)
    _sweep(folder)
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # what stays is swept by a later run


def _sweep(own: Path) -> None:
    """Remove folders older than an hour whose lock nobody holds: theirs was a run that was killed."""
    for folder in own.parent.iterdir():
        try:
            if folder == own or time.time() - folder.stat().st_mtime < STALE_AFTER_S:
                continue
            with (folder / "lock").open("r+b") as lock:  # a folder without a lock is none of ours
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
        except OSError:
            continue  # its run lives, or another run sweeps it at this moment
