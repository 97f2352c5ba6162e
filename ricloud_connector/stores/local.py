"""Contents at `local:///path`, below one allowed root. I/O: opens files for reading.

Every segment of the path is opened relative to the one before it and never through a symbolic link, and the last must
be a regular file: no path, however written, leads out of the root or into a device.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from ricloud_connector.location import LocalLocation
from ricloud_connector.stores import Remedy, Transfer, TransferFault

READ_BYTES = 1024 * 1024


class LocalStore:
    """Reads files below `root`."""

    def __init__(self, root: str) -> None:
        self._root = root

    def transfer(self, transfers: Iterable[Transfer]) -> Iterator[tuple[Transfer, TransferFault | None]]:
        for transfer in transfers:
            yield transfer, self._read(transfer)

    def _read(self, transfer: Transfer) -> TransferFault | None:
        assert isinstance(transfer.location, LocalLocation)
        try:
            handle = self._open(transfer.location.segments)
        except FileNotFoundError:
            return TransferFault("gone", "there is no such file below RICLOUD_LOCAL_ROOT", Remedy.RENEW)
        except OSError as error:
            return TransferFault("forbidden_url", f"the file cannot be opened: {error.strerror}", Remedy.NONE)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return TransferFault("forbidden_url", "not a regular file", Remedy.NONE)
            os.lseek(handle, transfer.sink.size, os.SEEK_SET)
            while chunk := os.read(handle, READ_BYTES):
                if transfer.sink.write(chunk) is not None:
                    break  # the sink's own fault says why
            return None
        except OSError as error:
            return TransferFault("unreachable", f"the file cannot be read: {error.strerror}", Remedy.RESUME)
        finally:
            os.close(handle)

    def _open(self, segments: tuple[str, ...]) -> int:
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for segment in segments[:-1]:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                inner = os.open(segment, flags, dir_fd=folder)
                os.close(folder)
                folder = inner
            # Not blocking, so that opening a pipe that nobody writes to cannot hang.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            return os.open(segments[-1], flags, dir_fd=folder)
        finally:
            os.close(folder)
