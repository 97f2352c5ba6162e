"""A sink receives one content while it is downloaded: counted, hashed, and kept. I/O: staging files for the larger ones."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from ricloud_connector.errors import ContentError, LakeError
from ricloud_connector.model import Content, Result
from ricloud_connector.verify import Digest, check_content

MEMORY_BYTES = 1024 * 1024
"""Contents up to this length stay in memory: with 64 in flight, at most 64 MiB."""


class Sink:
    """The bytes of one result so far. `fault` is why it refused a chunk, since libcurl's callbacks cannot raise."""

    __slots__ = ("_buffer", "_digest", "_file", "_path", "fault", "result")

    def __init__(self, result: Result, staging: Path) -> None:
        self.result = result
        self.fault: ContentError | LakeError | None = None
        self._path = staging / f"content-{id(self):x}"
        self._file: BinaryIO | None = None
        self._start()

    def _start(self) -> None:
        self._digest = Digest(self.result.size or 0)
        self._buffer = bytearray()

    @property
    def size(self) -> int:
        """Bytes received: where a broken transfer goes on."""
        return self._digest.size

    @property
    def in_memory(self) -> int:
        """Bytes held in memory."""
        return len(self._buffer)

    def write(self, chunk: bytes) -> int | None:
        """Take a chunk. Returns None, or -1 after setting `fault`, which makes libcurl stop."""
        try:
            self._digest.update(chunk)
            if self._file is None and self._digest.size <= MEMORY_BYTES:
                self._buffer += chunk
            else:
                self._to_file(chunk)
        except ContentError as error:
            self.fault = error
            return -1
        except OSError as error:
            self.fault = LakeError(f"cannot write to the staging folder {self._path.parent}: {error.strerror}")
            return -1
        return None

    def _to_file(self, chunk: bytes) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb")
            self._file.write(self._buffer)
            self._buffer = bytearray()
        self._file.write(chunk)

    def restart(self) -> None:
        """Forget all that came."""
        self.discard()
        self.fault = None
        self._start()

    def discard(self) -> None:
        """Give back memory and disk."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._path.unlink(missing_ok=True)
        self._buffer = bytearray()

    def finish(self) -> Content:
        """The content, once its length and md5 are those listed. Raises: ContentError."""
        check_content(self.result, self._digest)
        body: bytes | Path = bytes(self._buffer)
        if self._file is not None:
            self._file.close()
            self._file = None
            body = self._path
        sha256 = self._digest.sha256
        self._start()  # a batch holds its sinks to the end; what they held goes with the content
        return Content(self.result, sha256, body)
