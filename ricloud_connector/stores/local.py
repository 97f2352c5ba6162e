"""Contents at `local:///path`, below one allowed root. I/O: opens files for reading.

Every segment of the path is opened relative to the one before it and never through a symbolic link, and the last must
be a regular file: no path, however written, leads out of the root or into a device.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator

from ricloud_connector.location import LocalLocation
from ricloud_connector.stores import Remedy, Transfer, TransferFault

READ_BYTES = 1024 * 1024

# What the path itself is to blame for: symbolic links, pipes and sockets, names that no file system takes.
_FORBIDDEN = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL})
_DENIED = frozenset({errno.EACCES, errno.EPERM})


class LocalStore:
    """Reads files below `root`, one after the other."""

    def __init__(self, root: str) -> None:
        self._root = root

    def transfer(self, transfers: Iterable[Transfer | None]) -> Iterator[tuple[Transfer, TransferFault | None]]:
        for transfer in transfers:
            if transfer is not None:
                yield transfer, self._read(transfer)

    def _read(self, transfer: Transfer) -> TransferFault | None:
        assert isinstance(transfer.location, LocalLocation)
        try:
            root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            return TransferFault("unreachable", f"RICLOUD_LOCAL_ROOT cannot be opened: {error.strerror}", Remedy.RESUME)
        try:
            handle = _open_below(root, transfer.location.segments)
        except OSError as error:
            return _fault_of(error)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return TransferFault("forbidden_url", "not a regular file", Remedy.NONE)
            os.lseek(handle, transfer.sink.size, os.SEEK_SET)
            while chunk := os.read(handle, READ_BYTES):
                if not transfer.sink.write(chunk):
                    break  # the sink's own fault says why
            return None
        except OSError as error:
            return TransferFault("unreachable", f"the file cannot be read: {error.strerror}", Remedy.RESUME)
        finally:
            os.close(handle)


def _open_below(folder: int, segments: tuple[str, ...]) -> int:
    """A descriptor of the file; closes the folder's. Raises: OSError."""
    try:
        for segment in segments[:-1]:
            inner = os.open(segment, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Not blocking, so that opening a pipe that nobody writes to cannot hang.
        return os.open(segments[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)


def _fault_of(error: OSError) -> TransferFault:
    said = f"the file cannot be opened: {error.strerror}"
    if error.errno == errno.ENOENT:
        return TransferFault("gone", "there is no such file below RICLOUD_LOCAL_ROOT", Remedy.RENEW)
    if error.errno in _FORBIDDEN:
        return TransferFault("forbidden_url", said, Remedy.NONE)
    if error.errno in _DENIED:
        return TransferFault("access_denied", said, Remedy.NONE)
    return TransferFault("unreachable", said, Remedy.RESUME)
