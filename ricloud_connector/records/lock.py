"""Runs may derive records side by side, but not while they are rebuilt: types would mix for ever. I/O: a lock in the lake."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ricloud_connector.errors import LakeError
from ricloud_connector.lake import Lake


@contextmanager
def records_lock(lake: Lake, *, alone: bool) -> Iterator[None]:
    """Hold the lock of a lake's records with others, or alone. Raises: LakeError where somebody holds it otherwise.

    In a bucket there is none: what is rebuilt there has been removed by hand, with runs stopped.
    """
    if not isinstance(lake.control, Path):
        yield
        return
    path = lake.control / "records.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LakeError(f"cannot open {path}: {error.strerror}") from error
    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise LakeError(
            "a run derives records at the moment: stop it, and rebuild again"
            if alone
            else "records are being rebuilt: the next run derives what is missing"
        ) from None
    try:
        yield
    finally:
        os.close(handle)  # the lock goes with it
