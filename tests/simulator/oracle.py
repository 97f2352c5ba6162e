"""What must be true, judged from outside: what was published and acknowledged, against the rows that readers find.

It sees each file of the lake at the moment at which it gets its name, each acknowledgement at the moment at which it
arrives, and the lake after each power cut. It reads Parquet with pyarrow and nothing of the connector's.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from tests.simulator.columnar import read_rows
from tests.simulator.servers import Published

_PART = re.compile(r"/?data/(\w+)(/ricloud_feed=[^/]+)?/created_date=(\d{4}-\d\d-\d\d)/part-(\d{6})\.parquet", re.ASCII)
_DATASETS = ("results", "contents", "acknowledgements", "quarantine")


class Violation(AssertionError):
    """A promise is broken: what kind (lost, duplicate, corrupt, unknown, stuck, untyped), and how."""

    def __init__(self, kind: str, said: str) -> None:
        super().__init__(f"{kind}: {said}")
        self.kind = kind


class Store(Protocol):
    """The lake's files as any reader finds them, by their path from the lake's root."""

    def paths(self) -> Iterable[str]: ...
    def body(self, path: str) -> bytes: ...
    def durable(self, path: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Part:
    dataset: str
    day: str
    number: int
    digest: bytes
    keys: tuple[str, ...]


class Oracle:
    """Judges one history. Everything raises: Violation.

    Contents are stored in chunks of `chunk_bytes`; those that have more than `longest_part` bytes may span parts, others never.
    """

    def __init__(self, published: Mapping[str, Published], store: Store) -> None:
        self._published, self._store = published, store
        self.chunk_bytes = 8 * 1024 * 1024
        self.longest_part: int | None = None
        self.parts: dict[str, _Part] = {}
        self.acknowledged: set[str] = set()
        self.rotten: set[str] = set()

    def appeared(self, path: str) -> None:
        """A file has got its name: a reader may look at it now."""
        if not path.lstrip("/").startswith("data/"):
            return
        match = _PART.fullmatch(path)
        if match is None:
            raise Violation("unknown", f"{path} is not a part")
        dataset, feed, day, number = match[1], match[2], match[3], int(match[4])
        if path in self.parts:
            raise Violation("corrupt", f"{path} was replaced")
        body = self._store.body(path)
        keys: tuple[str, ...] = ()
        if feed is None:
            keys = self._keys_of(dataset, day, path, body)
            before = [part for part in self.parts.values() if (part.dataset, part.day) == (dataset, day)]
            if number != len(before):
                raise Violation("corrupt", f"{path} follows {len(before)} parts")
            for part in before:
                for key in set(keys) & set(part.keys):
                    raise Violation("duplicate", f"{key} is in {path} and in part {part.number} of {dataset}, {day}")
        self.parts[path] = _Part(dataset, day, number, hashlib.sha256(body).digest(), keys)

    def _keys_of(self, dataset: str, day: str, path: str, body: bytes) -> tuple[str, ...]:
        try:
            rows = read_rows(body)
            if rows is None:
                with pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True) as parquet:
                    rows = parquet.read(use_threads=False).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise Violation("corrupt", f"{path} cannot be read: {error}") from error
        names = [row["id" if dataset == "results" else "result_id"] for row in rows]
        for name, row in zip(names, rows, strict=True):
            result = self._published.get(name)
            if result is None or result.created.date().isoformat() != day:
                raise Violation("unknown", f"{path} holds {name!r}")
            self._judge(dataset, path, result, row)
        if dataset == "contents":
            names = self._chunks_of(path, rows)
        if dataset == "quarantine":
            names = [f"{row['result_id']} {row['reason']} {row['expected_checksum']} {row['expected_size']}" for row in rows]
        if len(set(names)) < len(names):
            raise Violation("duplicate", f"{path} holds {sorted(names)}")
        return tuple(names)

    def _chunks_of(self, path: str, rows: list[dict[str, Any]]) -> list[str]:
        """A key for each chunk, where a reader finds in the file what it may: contents in order, whole where they must be."""
        keys = [_chunk_key(row["result_id"], row["chunk_index"], row["chunk_count"]) for row in rows]
        for name, chunks in itertools.groupby(rows, key=lambda row: row["result_id"]):
            found = list(chunks)
            first, count = found[0]["chunk_index"], found[0]["chunk_count"]
            if [chunk["chunk_index"] for chunk in found] != list(range(first, first + len(found))):
                raise Violation("corrupt", f"{path} holds chunks of {name} out of order")
            spans = self.longest_part is not None and found[0]["size"] > self.longest_part
            if len(found) != count and not (spans and len(found) == len(rows)):
                raise Violation("corrupt", f"{path} holds {len(found)} of {count} chunks of {name}")
        return keys

    def _judge(self, dataset: str, path: str, result: Published, row: dict[str, Any]) -> None:
        if dataset == "contents":
            if result.stored is None:
                raise Violation("corrupt", f"{path} holds {result.name}, which cannot be proven: {result.flaw}")
            index, count = row["chunk_index"], self._chunk_count(result.stored)
            chunk = result.stored[index * self.chunk_bytes : (index + 1) * self.chunk_bytes]
            digests = hashlib.md5(result.stored).hexdigest(), hashlib.sha256(result.stored).hexdigest()
            true = row["content"] == chunk and row["size"] == len(result.stored)
            if not (true and row["chunk_count"] == count and (row["checksum"], row["sha256"]) == digests):
                raise Violation("corrupt", f"{path}: a row of {result.name} is not what was published")
        if dataset == "acknowledgements" and (result.state != "consumed" or row["checksum"] != result.md5):
            raise Violation("unknown", f"{path} says that {result.name} was acknowledged, but the API has not applied it")

    def received(self, names: Iterable[str]) -> None:
        """An acknowledgement has arrived at the API: whatever happens from now on, these contents may be gone there."""
        for name in names:
            result = self._published.get(name)
            if result is None:
                raise Violation("unknown", f"{name!r} was acknowledged, and never published")
            if result.flaw is not None:
                raise Violation("lost", f"{name} was acknowledged, and cannot be proven: {result.flaw}")
            if not self.stores(result):
                raise Violation("lost", f"{name} was acknowledged, and is not in the lake")
            for path in self._chunks_stored(result).values():
                if not (self._intact(path) or self._still_reads(path)):
                    raise Violation("lost", f"{name} was acknowledged, and {path} is damaged")
                if not self._store.durable(path):
                    raise Violation("lost", f"{name} was acknowledged, and {path} would not survive a power cut")
            self.acknowledged.add(name)

    def _chunk_count(self, data: bytes) -> int:
        return max(1, -(-len(data) // self.chunk_bytes))

    def _chunks_stored(self, result: Published) -> dict[str, str]:
        """The chunks of a result that are in the lake, and the file of each."""
        count, day = self._chunk_count(result.stored or b""), result.created.date().isoformat()
        wanted = {_chunk_key(result.name, index, count) for index in range(count)}
        return {
            key: path
            for path, part in self.parts.items()
            if part.dataset == "contents" and part.day == day
            for key in wanted.intersection(part.keys)
        }

    def begun(self, result: Published) -> bool:
        """Whether the lake holds at least a chunk of a result."""
        return bool(self._chunks_stored(result))

    def stores(self, result: Published) -> bool:
        """Whether the lake holds the contents of a result whole."""
        return len(self._chunks_stored(result)) == self._chunk_count(result.stored or b"")

    def _intact(self, path: str) -> bool:
        return hashlib.sha256(self._store.body(path)).digest() == self.parts[path].digest

    def _still_reads(self, path: str) -> bool:
        """Whether the rows of a damaged file are what they were: not every byte of Parquet says something."""
        part = self.parts[path]
        try:
            return self._keys_of(part.dataset, part.day, path, self._store.body(path)) == part.keys
        except Violation:
            return False

    def power_came_back(self) -> None:
        """After a power cut: what is gone is forgotten, unless it was acknowledged; what is there is whole."""
        found = {path for path in self._store.paths() if path.lstrip("/").startswith("data/")}
        for path in [path for path in self.parts if path not in found]:
            part = self.parts.pop(path)
            lost = self.acknowledged.intersection(map(_name_of, part.keys)) if part.dataset == "contents" else ()
            if lost:
                raise Violation("lost", f"{sorted(lost)} were acknowledged; the power cut took {path}")
        for path in sorted(found):
            if path not in self.parts:
                raise Violation("unknown", f"{path} came out of a power cut")
            if path not in self.rotten and not self._intact(path):
                raise Violation("corrupt", f"{path} came torn out of a power cut")

    def converged(self, *, rows_of_acknowledgements: bool = True) -> None:
        """After the faults have stopped and runs came through: everything is as promised."""
        found = {path for path in self._store.paths() if path.lstrip("/").startswith("data/")}
        if found != self.parts.keys():
            raise Violation("unknown", f"not every file was seen to appear: {sorted(found ^ self.parts.keys())}")
        for path in found - self.rotten:
            if not self._intact(path):
                raise Violation("corrupt", f"{path} has changed")
        spoilt = {part.day for path, part in self.parts.items() if path in self.rotten}
        rows = {name: set[str]() for name in _DATASETS}
        for part in self.parts.values():
            rows.setdefault(part.dataset, set()).update(part.keys)
        quarantined = set(map(_name_of, rows["quarantine"]))
        for name, result in self._published.items():
            if result.created.date().isoformat() in spoilt:
                continue
            if name not in rows["results"]:
                raise Violation("stuck", f"{name} has no row in results")
            if result.flaw is None:
                if not self.stores(result):
                    raise Violation("stuck", f"{name} is not in the lake")
                if result.state != "consumed" or name not in self.acknowledged:
                    raise Violation("stuck", f"{name} is stored and not acknowledged")
                if rows_of_acknowledgements and name not in rows["acknowledgements"]:
                    raise Violation("stuck", f"{name} has no row in acknowledgements")
            elif name not in quarantined:
                raise Violation("stuck", f"{name} ({result.flaw}) is not in quarantine")


def _chunk_key(name: str, index: int, count: int) -> str:
    return f"{name} {index} of {count}"


def _name_of(key: str) -> str:
    return key.partition(" ")[0]
