"""A lake in a bucket: the commit protocol's store by `PUT If-None-Match: *` (S3) and `generation-match: 0` (GCS). I/O: HTTP.

A create holds its body in memory, so that a part has at most 256 MiB of contents. What was created is durable when the
bucket says so; it is read anew all the same before it is relied on.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import mmap
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from ricloud_connector import overlap
from ricloud_connector.buckets import RANGES_AHEAD, read_ranges
from ricloud_connector.cloud import BucketUrl
from ricloud_connector.disk import PART_NAME
from ricloud_connector.errors import LakeError, SettingsError, UncertainCommit, UnreadablePart, UnsafeStore
from ricloud_connector.model import DataFile, ObjectPath, Place
from ricloud_connector.objects import Objects, ObstoreObjects
from ricloud_connector.refusal import Kind, Refused
from ricloud_connector.staging import opened_staging

LONGEST_PART_BYTES = 256 * 1024 * 1024
WHOLE_BYTES = 4 * 1024 * 1024  # parts up to this length are read in one request
RETRIES = 6
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
MAX_PAUSES = 9

_PROBE = b"This object must never be replaced.\n"
_SETTINGS = frozenset({Kind.NO_BUCKET, Kind.DENIED, Kind.NO_CREDENTIALS, Kind.WRONG_REGION})
_UNCERTAIN = frozenset({Kind.UNREACHABLE, Kind.THROTTLED})


class BucketStorage:
    """A lake at `s3://bucket/prefix` or `gs://bucket/prefix`; `scratch` is a local folder, by default the system's."""

    longest_part = LONGEST_PART_BYTES

    def __init__(
        self,
        url: BucketUrl,
        scratch: Path | None = None,
        *,
        objects: Objects | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url, self._name = url, f"{url.scheme}://{url.bucket}"
        self.root = ObjectPath(self._name, url.prefix)
        self.staging = scratch or Path(tempfile.gettempdir())
        self.sleep = sleep
        self._objects = objects or ObstoreObjects(url, retries=RETRIES)
        self._versions: dict[Place, int] = {}
        self._count = itertools.count()

    @contextmanager
    def opened(self, run_id: str) -> Iterator[Path]:
        scratch = self.staging
        with ExitStack() as stack:
            try:
                self.staging = stack.enter_context(opened_staging(scratch / run_id))
            except LakeError as error:
                raise SettingsError(f"RICLOUD_STAGING={scratch} is not writable: {error}") from error
            stack.callback(setattr, self, "staging", scratch)
            self._probe()
            yield self.staging

    def holds(self, folder: Place) -> bool:
        return bool(self.folders(folder))

    def folders(self, folder: Place) -> list[str]:
        found = self._ask(f"list {folder}", "list_with_delimiter", _key(folder))
        return sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in found)

    def names(self, folder: Place) -> list[str]:
        names = (facts["path"].removeprefix(f"{_key(folder)}/") for facts in self._list(folder))
        return sorted(name for name in names if "/" not in name)

    def list_parts(self, folder: Place) -> list[DataFile]:
        found = []
        for facts in self._list(folder):
            name = facts["path"].removeprefix(f"{_key(folder)}/")
            if match := PART_NAME.fullmatch(name):
                found.append(_data_file(int(match[1]), folder / name, facts))
            elif name.endswith(".parquet"):
                raise LakeError(f"{folder / name} is not part of the lake, but every reader takes it for a part: move it away")
        return sorted(found)

    def first_part(self, folder: Place) -> DataFile | None:
        parts = [part for part in self.list_parts(folder) if part.number == 0]
        return parts[0] if parts else None

    def prepare(self, folder: Place, staged: Path) -> None:
        """Nothing: a bucket has no folders, and a staged file is of no use to anybody after this process."""

    def create(self, target: Place, staged: Path) -> bool:
        try:
            with staged.open("rb") as file:
                body = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # goes with the last that looks at it
        except OSError as error:
            raise LakeError(f"cannot read the staging file {staged}: {error.strerror}") from error
        return self._create(target, memoryview(body))

    def pause(self, tries: int) -> None:
        if tries > MAX_PAUSES:
            raise LakeError(f"{self.root} takes no more parts: what it says of them and what it lists do not agree")
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**tries)
        self.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # jitter

    def settle_folder(self, folder: Place) -> None:
        """Nothing: what a bucket has acknowledged, it keeps."""

    @contextmanager
    def settled(self, file: DataFile) -> Iterator[Path]:
        with tempfile.NamedTemporaryFile(dir=self.staging, prefix="ricloud-read-back-") as copy:
            try:
                copy.writelines(self._read_whole(file))
                copy.flush()
            except OSError as error:
                raise LakeError(f"cannot write in {self.staging}: {error.strerror}") from error
            yield Path(copy.name)

    def open(self, file: DataFile) -> io.RawIOBase:
        return _PartReader(file, lambda start, end: self._read_range(file, start, end))

    def read(self, place: Place) -> bytes:
        try:
            body: bytes = self._objects("get", _key(place))
        except Refused as refused:
            raise OSError(refused.detail) from None
        self._versions.setdefault(place, next(self._count))
        return body

    def version(self, place: Place) -> object:
        """What this run has read or written last: to ask the bucket would cost as much as reading. None before that."""
        return self._versions.get(place)

    def replace(self, place: Place, staged: Path) -> None:
        try:
            self._objects("put", _key(place), body=staged.read_bytes())
        except Refused as refused:
            raise OSError(refused.detail) from None
        self._versions[place] = next(self._count)

    def _ask(self, what: str, verb: str, key: str, **named: Any) -> Any:
        """Raises: LakeError that says what could not be done."""
        try:
            return self._objects(verb, key, **named)
        except Refused as refused:
            _raise(f"cannot {what}", refused)

    def _list(self, folder: Place) -> list[Any]:
        found: list[Any] = self._ask(f"list {folder}", "list", _key(folder))
        return found

    def _create(self, target: Place, body: memoryview | bytes) -> bool:
        """Whether it was this call that created it. Raises: UncertainCommit where the bucket does not say; LakeError."""
        try:
            self._objects("create", _key(target), body=body)
        except Refused as refused:
            if refused.kind is Kind.EXISTS:
                return False
            if refused.kind in _UNCERTAIN:
                raise UncertainCommit(f"cannot create {target}: {refused.detail}") from None
            _raise(f"cannot create {target}", refused)
        return True

    def _read_whole(self, file: DataFile) -> Iterator[bytes]:
        try:
            with overlap.pool(RANGES_AHEAD, "range") as pool:
                yield from read_ranges(pool, self._name, partial(self._range, _key(file.path)), 0, file.size)
        except Refused as refused:
            _raise(f"cannot read {file.path}", refused)

    def _read_range(self, file: DataFile, start: int, end: int) -> bytes:
        data: bytes = self._ask(f"read {file.path}", "get_range", _key(file.path), start=start, end=end)
        if len(data) != end - start:
            raise UnreadablePart(f"{file.path} is shorter than it was listed")
        return data

    def _range(self, key: str, start: int, end: int) -> bytes:
        data: bytes = self._objects("get_range", key, start=start, end=end)
        return data

    def _probe(self) -> None:
        """Step 0, on the one fixed key `control/probe`: a second create is refused, a read and a list see the first.

        Raises: UnsafeStore; SettingsError where the bucket cannot be written with these credentials; LakeError.
        """
        target = self.root / "control" / "probe"
        try:
            self._probe_create(target)
            if self._probe_create(target):
                raise UnsafeStore(f"{self._name} creates an object a second time: nothing would be acknowledged safely")
            if self._ask(f"read {target}", "get", target.key) != _PROBE:
                raise UnsafeStore(f"{target} does not read back as it was written; if somebody else wrote it, remove it")
            if target.key not in {facts["path"] for facts in self._list(target.parent)}:
                raise UnsafeStore(f"{self._name} does not list what it holds: nothing would be acknowledged safely")
        except LakeError as error:
            if isinstance(error.__cause__, Refused) and error.__cause__.kind in _SETTINGS:
                raise SettingsError(f"RICLOUD_LAKE={self._url}: {error}") from None
            raise

    def _probe_create(self, target: ObjectPath) -> bool:
        for tries in range(1, MAX_PAUSES + 1):
            try:
                return self._create(target, _PROBE)
            except UncertainCommit:
                if tries == MAX_PAUSES:
                    raise
                self.pause(tries)
        raise AssertionError("unreachable")


class _PartReader(io.RawIOBase):
    """A part of a lake as a file: small ones in one request, of large ones the ranges that are asked for."""

    def __init__(self, file: DataFile, read: Callable[[int, int], bytes]) -> None:
        self._file, self._read, self._at = file, read, 0
        self._whole: bytes | None = None

    def __str__(self) -> str:
        return str(self._file.path)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._file.size)
        if end <= self._at:
            return 0
        if self._file.size <= WHOLE_BYTES:
            if self._whole is None:
                self._whole = self._read(0, self._file.size)
            data = self._whole[self._at : end]
        else:
            data = self._read(self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _raise(what: str, refused: Refused) -> NoReturn:
    raise LakeError(f"{what}: {refused.detail}") from refused


def _data_file(number: int, path: Place, facts: Any) -> DataFile:
    """The facts of a listing. The ETag tells one object from another, and is nothing more than that."""
    moment = int(facts["last_modified"].timestamp() * 1_000_000) * 1000
    identity = hashlib.sha256(str(facts["e_tag"]).encode()).digest()
    return DataFile(number, path, facts["size"], moment, int.from_bytes(identity[:7]))


def _key(place: Place) -> str:
    assert isinstance(place, ObjectPath)
    return place.key
