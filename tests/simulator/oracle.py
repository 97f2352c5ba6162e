"""What must be true, judged from outside: what was published and acknowledged, against the rows that readers find.

It sees each file of the lake at the moment at which it gets its name, each acknowledgement at the moment at which it
arrives, and the lake after each power cut. It reads Parquet with pyarrow and nothing of the connector's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from tests.simulator.columnar import read_rows
from tests.simulator.servers import Published

_PART = re.compile(r"/?data/(\w+)(/ricloud_feed=[^/]+)?/created_date=(\d{4}-\d\d-\d\d)/part-(\d{6})\.parquet", re.ASCII)
_JUDGED = {
    "results": ["id"],
    "contents": ["result_id", "chunk_index", "chunk_count", "content", "checksum", "sha256", "size"],
    "acknowledgements": ["result_id", "checksum"],
    "quarantine": ["result_id", "reason", "expected_checksum", "expected_size"],
}


class Violation(AssertionError):
    """A promise is broken: what kind (lost, duplicate, corrupt, unknown, stuck, restless, untyped), and how."""

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
    rows: list[dict[str, Any]]
    keys: tuple[str, ...]


class Oracle:
    """Judges one history. Everything raises: Violation."""

    def __init__(self, published: Mapping[str, Published], store: Store) -> None:
        self._published, self._store = published, store
        self.parts: dict[str, _Part] = {}
        self.acknowledged: set[str] = set()
        self.rotten: set[str] = set()
        self.done = 0  # files that got a name, and results that were acknowledged

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
        self.done += 1
        body = self._store.body(path)
        rows: list[dict[str, Any]] = []
        keys: tuple[str, ...] = ()
        if feed is None:
            rows = _read(dataset, path, body)
            keys = self._keys_of(dataset, day, path, rows)
            before = [part for part in self.parts.values() if (part.dataset, part.day) == (dataset, day)]
            if number != len(before):
                raise Violation("corrupt", f"{path} follows {len(before)} parts")
            for part in before:
                for key in set(keys) & set(part.keys):
                    raise Violation("duplicate", f"{key} is in {path} and in part {part.number} of {dataset}, {day}")
        self.parts[path] = _Part(dataset, day, number, hashlib.sha256(body).digest(), rows, keys)

    def _keys_of(self, dataset: str, day: str, path: str, rows: list[dict[str, Any]]) -> tuple[str, ...]:
        names = [row["id" if dataset == "results" else "result_id"] for row in rows]
        for name, row in zip(names, rows, strict=True):
            result = self._published.get(name)
            if result is None or result.created.date().isoformat() != day:
                raise Violation("unknown", f"{path} holds {name!r}")
            self._judge(dataset, path, result, row)
        if dataset == "quarantine":
            names = [f"{row['result_id']} {row['reason']} {row['expected_checksum']} {row['expected_size']}" for row in rows]
        if len(set(names)) < len(names):
            raise Violation("duplicate", f"{path} holds {sorted(names)}")
        return tuple(names)

    def _judge(self, dataset: str, path: str, result: Published, row: dict[str, Any]) -> None:
        if dataset == "contents":
            whole = (row["chunk_index"], row["chunk_count"]) == (0, 1)
            true = row["content"] == result.data and row["checksum"] == result.md5 and row["size"] == len(result.data)
            if result.flaw is not None:
                raise Violation("corrupt", f"{path} holds {result.name}, which cannot be proven: {result.flaw}")
            if not (whole and true and row["sha256"] == hashlib.sha256(result.data).hexdigest()):
                raise Violation("corrupt", f"{path}: the row of {result.name} is not what was published")
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
            path = self._path_of(result)
            if path is None:
                raise Violation("lost", f"{name} was acknowledged, and is not in the lake")
            if not (self._intact(path) or self._still_reads(path)):
                raise Violation("lost", f"{name} was acknowledged, and {path} is damaged")
            if not self._store.durable(path):
                raise Violation("lost", f"{name} was acknowledged, and {path} would not survive a power cut")
            self.acknowledged.add(name)
            self.done += 1

    def _path_of(self, result: Published) -> str | None:
        day = result.created.date().isoformat()
        for path, part in self.parts.items():
            if part.dataset == "contents" and part.day == day and result.name in part.keys:
                return path
        return None

    def stores(self, result: Published) -> bool:
        """Whether the lake holds the contents of a result."""
        return self._path_of(result) is not None

    def _intact(self, path: str) -> bool:
        return hashlib.sha256(self._store.body(path)).digest() == self.parts[path].digest

    def _still_reads(self, path: str) -> bool:
        """Whether the rows of a damaged file are what they were: not every byte of Parquet says something."""
        part = self.parts[path]
        try:
            return _read(part.dataset, path, self._store.body(path)) == part.rows
        except Violation:
            return False

    def power_came_back(self) -> None:
        """After a power cut: what is gone is forgotten, unless it was acknowledged; what is there is whole."""
        found = {path for path in self._store.paths() if path.lstrip("/").startswith("data/")}
        for path in [path for path in self.parts if path not in found]:
            part = self.parts.pop(path)
            lost = self.acknowledged.intersection(part.keys) if part.dataset == "contents" else ()
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
        rows = {name: set[str]() for name in _JUDGED}
        for part in self.parts.values():
            rows.setdefault(part.dataset, set()).update(part.keys)
        quarantined = {key.split(" ")[0] for key in rows["quarantine"]}
        for name, result in self._published.items():
            if result.created.date().isoformat() in spoilt:
                continue
            if name not in rows["results"]:
                raise Violation("stuck", f"{name} has no row in results")
            if result.flaw is None:
                if name not in rows["contents"]:
                    raise Violation("stuck", f"{name} is not in the lake")
                if result.state != "consumed" or name not in self.acknowledged:
                    raise Violation("stuck", f"{name} is stored and not acknowledged")
                if rows_of_acknowledgements and name not in rows["acknowledgements"]:
                    raise Violation("stuck", f"{name} has no row in acknowledgements")
            elif name not in quarantined:
                raise Violation("stuck", f"{name} ({result.flaw}) is not in quarantine")


def _read(dataset: str, path: str, body: bytes) -> list[dict[str, Any]]:
    """The rows of a part as any reader finds them, in the columns that are judged. Raises: Violation."""
    try:
        rows = read_rows(body, _JUDGED[dataset])
        if rows is None:
            with pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True) as parquet:
                rows = parquet.read(use_threads=False).select(_JUDGED[dataset]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise Violation("corrupt", f"{path} cannot be read: {error}") from error
    return rows
