"""The indexes of partitions that this run has read, and files under `control/` of them for the next run. I/O: these files.

An index decides what is fetched, so that a torn or mixed-up file must not be believed: it ends in its own digest and names
the parts it was made from. It is never proof of anything: what is acknowledged is read back from the parts themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ricloud_connector import disk
from ricloud_connector.model import Place
from ricloud_connector.schemas import Dataset
from ricloud_connector.storage import Storage

KEPT, KEPT_ROWS = 24, 500_000
"""Partitions in memory, and their rows together: the datasets of the days at hand."""

KEPT_ANYHOW = 5
"""However many rows they have: the datasets of one day."""

WRITTEN_ANEW = 1.25
"""A file is replaced while a run goes on where its index has grown so much, and at the end of the run where it has at all."""

Identity = tuple[int, int, int, int]
Footer = dict[str, str]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a partition: the parts, their different footers, the index of their rows."""

    parts: list[Identity]
    footers: list[Footer]
    index: pa.Table

    @classmethod
    def nothing(cls, dataset: Dataset) -> Known:
        return cls([], [], dataset.empty_index)


@dataclass(frozen=True, slots=True)
class _Kept:
    """An index in memory, and the file that it was read from or written to: its version, and how many rows it has."""

    known: Known
    version: object
    written: int

    @property
    def grown(self) -> bool:
        """Whether the file lacks some of it."""
        return bool(self.known.index.num_rows != self.written)


class IndexCache:
    """What is known of the partitions of one lake. Threads may share it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._kept: OrderedDict[Place, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, dataset: Dataset, place: Place, scratch: Path) -> Known:
        """What is known of the partition whose file this is; nothing where the file is gone or cannot be believed.

        `scratch` is a local folder of this run alone.
        """
        version = self._storage.version(place)
        with self._lock:
            kept = self._kept.get(place)
        if kept is not None and version is not None and kept.version == version:
            return kept.known
        known = _read(dataset, self._storage, place)
        version = self._storage.version(place)  # one that has just taken its place is no reason to doubt what was read
        if version is not None and known.parts:
            self._keep(place, _Kept(known, version, known.index.num_rows), scratch)
        return known

    def add(self, place: Place, known: Known, scratch: Path) -> None:
        """Remember what is known now."""
        with self._lock:
            before = self._kept.get(place)
        lasts = before is not None and before.version == self._storage.version(place)
        if before is None or not lasts or known.index.num_rows > WRITTEN_ANEW * before.written:
            self._write(place, known, scratch)
        else:
            self._keep(place, _Kept(known, before.version, before.written), scratch)

    def flush(self, scratch: Path) -> None:
        """Write what is not in its file yet."""
        with self._lock:
            kept = list(self._kept.items())
        for place, each in kept:
            if each.grown:
                self._write(place, each.known, scratch)

    def _write(self, place: Place, known: Known, scratch: Path) -> None:
        _write(known, self._storage, place, scratch)
        self._keep(place, _Kept(known, self._storage.version(place), known.index.num_rows), scratch)

    def _keep(self, place: Place, kept: _Kept, scratch: Path) -> None:
        """The oldest ones go where there are many, each into its file if that lacks some of it."""
        with self._lock:
            self._kept[place] = kept
            self._kept.move_to_end(place)
            gone = [self._kept.popitem(last=False) for _ in range(self._too_many())]
        for old_place, old in gone:
            if old.grown:
                _write(old.known, self._storage, old_place, scratch)

    def _too_many(self) -> int:
        rows, kept = 0, 0
        for each in reversed(self._kept.values()):
            rows += each.known.index.num_rows
            if kept >= KEPT or (kept >= KEPT_ANYHOW and rows > KEPT_ROWS):
                break
            kept += 1
        return len(self._kept) - kept


def _read(dataset: Dataset, storage: Storage, place: Place) -> Known:
    """What the file says; nothing where it cannot be believed."""
    try:
        text = storage.read(place)
        body = memoryview(text)[: -hashlib.sha256().digest_size]
        if hashlib.sha256(body).digest() != text[len(body) :]:
            return Known.nothing(dataset)
        with pa.ipc.open_file(pa.py_buffer(body)) as reader:
            index = reader.read_all()
        said = json.loads((index.schema.metadata or {})[b"ricloud_index"])
        known = Known([tuple(part) for part in said["parts"]], said["footers"], index.replace_schema_metadata(None))
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError):
        return Known.nothing(dataset)  # absent, or of another version of this connector: it is made anew
    return known if known.index.schema.equals(dataset.index_schema) else Known.nothing(dataset)


def _write(known: Known, storage: Storage, place: Place, scratch: Path) -> None:
    """Replace the file. One that cannot be written costs the next run time, and a full disk is said elsewhere."""
    said = {"parts": known.parts, "footers": known.footers}
    table = known.index.replace_schema_metadata({"ricloud_index": json.dumps(said)})
    staged = scratch / f"index-{os.urandom(4).hex()}"
    try:
        with pa.OSFile(str(staged), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        with staged.open("r+b") as file:
            file.write(hashlib.file_digest(file, "sha256").digest())
        storage.replace(place, staged)
    except OSError:
        pass
    finally:
        disk.discard(staged)
