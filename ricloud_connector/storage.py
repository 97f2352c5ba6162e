"""Where a lake's files lie: the few things that the commit protocol asks of a store, and a local disk that does them. I/O.

A store never decides: what a failed or lost answer means, and what is looked at next, is said in `lake.py`.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from ricloud_connector import disk
from ricloud_connector.errors import LakeError, SettingsError, UnsafeStore
from ricloud_connector.model import DataFile, Place
from ricloud_connector.staging import opened_staging


class Storage(Protocol):
    """A lake's store. Places are below `root`; `staging` and what is staged in it always lie on a local disk.

    `longest_part` is how many bytes of contents a file may hold, None where there is no end to it.
    All methods raise LakeError where nothing else is said.
    """

    sleep: Callable[[float], None]
    """How a look at the store waits before it looks again."""

    @property
    def root(self) -> Place: ...

    @property
    def staging(self) -> Path: ...

    @property
    def longest_part(self) -> int | None: ...

    def opened(self, run_id: str) -> AbstractContextManager[Path]:
        """Make ready and prove what the protocol rests on (step 0); gives a staging folder that goes with the run.

        Raises: SettingsError where it cannot be written, UnsafeStore.
        """
        ...

    def holds(self, folder: Place) -> bool:
        """Whether there is such a folder."""
        ...

    def folders(self, folder: Place) -> list[str]:
        """The names of the folders in a folder; none where there is no such folder."""
        ...

    def names(self, folder: Place) -> list[str]:
        """The names of the files in a folder below `control/`; none where there is no such folder."""
        ...

    def list_parts(self, folder: Place) -> list[DataFile]:
        """The parts in a folder by number, gaps or not. A stray Parquet file is a LakeError: every engine reads it."""
        ...

    def first_part(self, folder: Place) -> DataFile | None:
        """Part 0 of a folder, if it is there; nothing else in the folder is looked at."""
        ...

    def prepare(self, folder: Place, staged: Path) -> None:
        """Before a staged file is created in a folder: what must be durable first (step 5)."""
        ...

    def create(self, target: Place, staged: Path) -> bool:
        """Give a staged file its name, durably, unless the name is taken: one atomic step (steps 6 and 7).

        False where it was taken. Raises: UncertainCommit where nobody knows.
        """
        ...

    def pause(self, tries: int) -> None:
        """After so many answers to `create` that what is listed does not bear out: wait, or raise LakeError."""
        ...

    def settle_folder(self, folder: Place) -> None:
        """Before parts of a folder are relied on (step 8): their names are durable, if there is such a folder."""
        ...

    def settled(self, file: DataFile) -> AbstractContextManager[Path]:
        """Before a part is relied on: durable, and for a while at a local path where it is read from the store itself."""
        ...

    def open(self, file: DataFile) -> Path | io.RawIOBase:
        """For reading some of a part."""
        ...

    def read(self, place: Place) -> bytes:
        """A small file under `control/`. Raises: OSError."""
        ...

    def version(self, place: Place) -> object:
        """What tells a small file from one that has taken its place; None where there is none."""
        ...

    def replace(self, place: Place, staged: Path) -> None:
        """Swap a small file under `control/` for a staged one; it may be lost or torn. Raises: OSError."""
        ...


class DiskStorage:
    """A folder on a local disk."""

    longest_part = None

    def __init__(self, root: Path, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.root, self.sleep = root, sleep
        self.staging = root / "control" / "staging"

    @contextmanager
    def opened(self, run_id: str) -> Iterator[Path]:
        data, control = self.root / "data", self.root / "control"
        with ExitStack() as stack:
            with _writable(self.root):
                disk.make_folder(data)
                disk.sync_upwards(data)
                staging = stack.enter_context(opened_staging(self.staging / run_id))
                disk.probe(control, staging)
            yield staging

    def holds(self, folder: Place) -> bool:
        return _local(folder).is_dir()

    def folders(self, folder: Place) -> list[str]:
        try:
            with disk.kernel(os.scandir, _local(folder)) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LakeError(f"cannot list {folder}: {error.strerror}") from error

    def names(self, folder: Place) -> list[str]:
        try:
            return sorted(disk.kernel(os.listdir, _local(folder)))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LakeError(f"cannot list {folder}: {error.strerror}") from error

    def list_parts(self, folder: Place) -> list[DataFile]:
        return disk.list_parts(_local(folder))

    def first_part(self, folder: Place) -> DataFile | None:
        path = disk.part_path(_local(folder), 0)
        try:
            facts = disk.kernel(os.stat, path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LakeError(f"cannot look at {path}: {error.strerror}") from error
        return DataFile(0, path, facts.st_size, facts.st_mtime_ns, facts.st_ino)

    def prepare(self, folder: Place, staged: Path) -> None:
        disk.sync(staged)  # once: a file whose fsync failed is thrown away
        disk.make_folder(_local(folder))

    def create(self, target: Place, staged: Path) -> bool:
        path = _local(target)
        if not disk.create(path, staged):
            return False
        disk.sync(path.parent)
        return True

    def pause(self, tries: int) -> None:
        """Nothing to wait for: a local disk shows at once what was created."""

    def settle_folder(self, folder: Place) -> None:
        path = _local(folder)
        if not path.exists():
            return
        for each in (path, *path.parents[:2]):  # created_date=, contents, data: `opened` saw to the rest
            disk.sync(each)

    @contextmanager
    def settled(self, file: DataFile) -> Iterator[Path]:
        path = _local(file.path)
        disk.settle(path)
        yield path

    def open(self, file: DataFile) -> Path:
        return _local(file.path)

    def read(self, place: Place) -> bytes:
        return disk.kernel(Path.read_bytes, _local(place))

    def version(self, place: Place) -> object:
        try:
            facts = _local(place).stat()
        except OSError:
            return None
        return facts.st_size, facts.st_mtime_ns, facts.st_ino

    def replace(self, place: Place, staged: Path) -> None:
        disk.replace(_local(place), staged)


@contextmanager
def _writable(root: Path) -> Iterator[None]:
    """What the system refuses is a setting to mend. Raises: SettingsError; UnsafeStore and other errors as they come."""
    try:
        yield
    except UnsafeStore:
        raise
    except LakeError as error:
        if isinstance(error.__cause__, OSError):
            raise SettingsError(f"RICLOUD_LAKE={root} is not writable: {error}") from error
        raise


def _local(place: Place) -> Path:
    assert isinstance(place, Path)
    return place
