"""Exactness: what an emulator has published beside what a lake holds, read by three engines. Reads the lake and the bucket.

    with Emulator(...) as emulator:
        emulator.on_acknowledge = Witness(lake, emulator)   # nothing is acknowledged that the lake does not hold
        ... run something, kill it, run it again ...
        assert_exact(lake, emulator)

Nothing here uses the connector's own code: an error in it must not hide itself.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from ricloud_connector.emulator import Emulator, PublishedResult

_DUCKDB = duckdb.connect()

CHUNK_BYTES = 8 * 1024 * 1024
_PART_PATH = re.compile(r"[a-z_]+(/ricloud_feed=[^/]+)?/created_date=\d{4}-\d\d-\d\d/part-\d{6,}\.parquet", re.ASCII)


def provable(emulator: Emulator) -> list[PublishedResult]:
    """The results that must end up in a lake: available, or until they were acknowledged; readable, and as the API says."""
    acknowledged = set(emulator.acknowledged)
    return [
        result
        for result in emulator.results()
        if (result.state == "available" or result.id in acknowledged)
        and result.signed
        and (result.checksum, result.size) == (result.md5, result.byte_size)
    ]


def assert_exact(
    lake: Path,
    emulator: Emulator,
    *,
    acknowledged: bool = True,
    expected: Iterable[PublishedResult] | None = None,
    engines: Iterable[str] = ("pyarrow", "duckdb", "polars"),
) -> None:
    """The lake holds the expected results (default: `provable`), each once, byte for byte, and no other content.

    acknowledged: whether each of them was to be acknowledged; nothing else may ever have been, either way.

    Raises: AssertionError that names every difference.
    """
    truth = {result.id: result for result in (provable(emulator) if expected is None else expected)}
    faults = [*_layout_faults(lake), *_chain_faults(lake)]
    for engine in engines:
        tables = {dataset: ENGINES[engine](lake, dataset) for dataset in _KEYS}
        found = [*_key_faults(tables), *_content_faults(tables["contents"], truth), *_results_faults(tables["results"], truth)]
        if acknowledged:
            found += _acknowledgement_faults(tables["acknowledgements"], truth)
        faults += [f"{engine}: {fault}" for fault in found]
    sent = set(emulator.acknowledged)
    faults += [f"acknowledged without being expected in the lake: {name}" for name in sorted(sent - truth.keys())]
    if acknowledged:
        faults += [f"never acknowledged: {name}" for name in sorted(truth.keys() - sent)]
        available = {result.id for result in emulator.results() if result.state == "available"}
        faults += [f"still available: {name}" for name in sorted(truth.keys() & available)]
    if faults:
        shown = faults[:50] + ([f"and {len(faults) - 50} more"] if len(faults) > 50 else [])
        raise AssertionError("\n".join([f"the lake {lake} is not exact:", *shown]))


def assert_readable(lake: Path, *, engines: Iterable[str] = ("pyarrow", "duckdb", "polars")) -> None:
    """At any moment, also while runs are under way: all engines read the lake, and no key is there twice or in part.

    Raises: AssertionError, or whatever an engine raises.
    """
    faults = []
    for engine in engines:
        tables = {dataset: ENGINES[engine](lake, dataset) for dataset in _KEYS}
        stored, broken = _stored(tables["contents"])
        untrue = [f"{name}: its bytes are not those of its checksum" for name, content in stored.items() if not content.true]
        faults += [f"{engine}: {fault}" for fault in (*_key_faults(tables), *broken, *untrue)]
    assert not faults, "\n".join(faults[:50])


def read_keys(lake: Path, engine: str) -> set[tuple[object, ...]]:
    """Every key that an engine finds, with its dataset in front of it."""
    found = set[tuple[object, ...]]()
    for dataset, key in _KEYS.items():
        table = ENGINES[engine](lake, dataset)
        if table is not None:
            found.update((dataset, *row) for row in zip(*(table.column(name).to_pylist() for name in key), strict=True))
    return found


def read_pyarrow(lake: Path, dataset: str) -> pa.Table | None:
    """A dataset as pyarrow finds it in its folder; None where it does not exist yet."""
    folder = lake / "data" / dataset
    return pads.dataset(folder, format="parquet", partitioning="hive").to_table() if _has_parts(folder) else None


def read_duckdb(lake: Path, dataset: str) -> pa.Table | None:
    """A dataset as DuckDB reads a plain glob of it."""
    folder = lake / "data" / dataset
    if not _has_parts(folder):
        return None
    with _DUCKDB.cursor() as connection:
        relation = connection.sql(f"SELECT * FROM read_parquet('{folder}/**/*.parquet', hive_partitioning = true)")
        return relation.to_arrow_table()


def read_polars(lake: Path, dataset: str) -> pa.Table | None:
    """A dataset as Polars scans its folder, which fails on any file that is not Parquet."""
    folder = lake / "data" / dataset
    return pl.scan_parquet(folder, hive_partitioning=True).collect().to_arrow() if _has_parts(folder) else None


Read = Callable[[Path, str], pa.Table | None]
ENGINES: dict[str, Read] = {"pyarrow": read_pyarrow, "duckdb": read_duckdb, "polars": read_polars}


class Witness:
    """Called with the ids of each acknowledgement as it arrives (`Emulator.on_acknowledge`): looks into the lake right then.

    Fails where one of them is not in a part, whole and with the md5 that was published. The emulator answers such a call
    with 500 and raises the failure when it stops. `calls` are the ids of each call. `look` brings `lake` up to date first,
    where that is a copy.
    """

    def __init__(self, lake: Path, emulator: Emulator, *, look: Callable[[], object] = lambda: None) -> None:
        self.calls: list[list[str]] = []
        self._lake, self._look = lake, look
        self._emulator = emulator
        self._published: dict[str, PublishedResult] = {}
        self._known: dict[Path, dict[str, tuple[str, int]]] = {}
        self._begun: dict[tuple[Path, str], _Begun] = {}  # contents of which a part held the beginning
        self._looking = threading.Lock()

    def __call__(self, ids: list[str]) -> None:
        if not self._published.keys() >= set(ids):
            self._published = {result.id: result for result in self._emulator.results()}
        stored: dict[str, tuple[str, int]] = {}
        with self._looking:  # runs acknowledge side by side, and a content may be read from part to part
            self._look()
            for path in sorted(self._lake.glob("data/contents/created_date=*/part-*.parquet")):
                if path not in self._known:
                    self._known[path] = _whole_contents_of(path, self._begun)
                stored |= self._known[path]
        for name in ids:
            truth = self._published[name]
            assert stored.get(name) == (truth.md5, truth.byte_size), f"{name} was acknowledged and is {stored.get(name)}"
        self.calls.append(list(ids))


@dataclass(frozen=True, slots=True)
class _Content:
    """A content as it was put together from its rows."""

    day: str
    checksum: str
    size: int
    sha256: str
    data: bytes

    @property
    def true(self) -> bool:
        digests = hashlib.md5(self.data).hexdigest(), hashlib.sha256(self.data).hexdigest()
        return digests == (self.checksum, self.sha256) and len(self.data) == self.size


def _content_faults(table: pa.Table | None, truth: dict[str, PublishedResult]) -> Iterator[str]:
    stored, broken = _stored(table)
    yield from broken
    yield from (f"{name}: not in the lake" for name in sorted(truth.keys() - stored.keys()))
    yield from (f"{name}: in the lake, and should not be" for name in sorted(stored.keys() - truth.keys()))
    for name in sorted(truth.keys() & stored.keys()):
        content, result = stored[name], truth[name]
        if content.day != result.date_created.date().isoformat():
            yield f"{name}: in the partition {content.day}, created at {result.date_created}"
        if not content.true or (content.checksum, content.size) != (result.md5, result.byte_size):
            yield f"{name}: its bytes are not those that were published"
        if result.path.exists() and result.path.read_bytes() != content.data:
            yield f"{name}: its bytes are not those in the bucket"


def _stored(table: pa.Table | None) -> tuple[dict[str, _Content], list[str]]:
    """The contents by id, and what is wrong with the rows they were put together from."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist() if table is not None else []:
        rows.setdefault(row["result_id"], []).append(row)
    stored, faults = dict[str, _Content](), list[str]()
    for name, chunks in rows.items():
        chunks.sort(key=lambda row: row["chunk_index"])
        first = chunks[0]
        count = max(1, -(-first["size"] // CHUNK_BYTES))
        indexes = [row["chunk_index"] for row in chunks]
        if indexes != list(range(count)) or {row["chunk_count"] for row in chunks} != {count}:
            faults.append(f"{name}: chunks {indexes} of {count}")
        if any(len(row["content"]) != CHUNK_BYTES for row in chunks[:-1]):
            faults.append(f"{name}: a chunk before the last is not {CHUNK_BYTES} bytes long")
        if any(row["sha256"] is not None for row in chunks[:-1]):
            faults.append(f"{name}: the sha256 is known before the last chunk")
        data = b"".join(row["content"] for row in chunks)
        stored[name] = _Content(str(first["created_date"]), first["checksum"], first["size"], chunks[-1]["sha256"], data)
    return stored, faults


def _results_faults(table: pa.Table | None, truth: dict[str, PublishedResult]) -> Iterator[str]:
    listed = set(table.column("id").to_pylist()) if table is not None else set()
    yield from (f"{name}: has no row in results" for name in sorted(truth.keys() - listed))


def _acknowledgement_faults(table: pa.Table | None, truth: dict[str, PublishedResult]) -> Iterator[str]:
    rows = {row["result_id"]: row for row in table.to_pylist()} if table is not None else {}
    yield from (f"{name}: has no acknowledgement row" for name in sorted(truth.keys() - rows.keys()))
    yield from (f"{name}: has an acknowledgement row, and should not" for name in sorted(rows.keys() - truth.keys()))
    for name in truth.keys() & rows.keys():
        if (rows[name]["checksum"], rows[name]["size"]) != (truth[name].md5, truth[name].byte_size):
            yield f"{name}: its acknowledgement row states another content"
        if rows[name]["confirmed_by"] not in ("listing", "result", "found"):
            yield f"{name}: its acknowledgement row was confirmed by {rows[name]['confirmed_by']!r}"


_KEYS = {
    "results": ("id",),
    "contents": ("result_id", "chunk_index"),
    "acknowledgements": ("result_id",),
    "quarantine": ("result_id", "reason", "expected_checksum", "expected_size"),
    "result_states": ("result_id", "state"),
}


def _key_faults(tables: dict[str, pa.Table | None]) -> Iterator[str]:
    """Keys that are there twice."""
    for dataset, key in _KEYS.items():
        table = tables[dataset]
        if table is not None:
            counted = Counter(zip(*(table.column(name).to_pylist() for name in (*key, "created_date")), strict=True))
            yield from (f"{dataset}: {row} is there {times} times" for row, times in counted.items() if times > 1)


def _layout_faults(lake: Path) -> Iterator[str]:
    """Under `data/` lie complete parts and nothing else, under `control/` no Parquet file."""
    for path in sorted(lake.glob("data/**/*")):
        relative = path.relative_to(lake / "data").as_posix()
        if path.is_symlink() or (path.is_file() and not _PART_PATH.fullmatch(relative)):
            yield f"data/{relative} is not a part"
    for path in lake.glob("control/**/*.parquet"):
        yield f"{path.relative_to(lake)}: Parquet under control"
    for path in lake.iterdir():
        if path.name not in ("data", "control"):
            yield f"{path.name} lies in the lake"


def _chain_faults(lake: Path) -> Iterator[str]:
    for folder in lake.glob("data/*/created_date=*"):
        names = sorted(path.name for path in folder.iterdir())
        if names != [f"part-{number:06d}.parquet" for number in range(len(names))]:
            yield f"{folder.relative_to(lake)}: the chain is {names}"


@dataclass
class _Begun:
    """The chunks of a content so far."""

    md5: Any = field(default_factory=hashlib.md5)
    size: int = 0
    chunks: int = 0


def _whole_contents_of(path: Path, begun: dict[tuple[Path, str], _Begun]) -> dict[str, tuple[str, int]]:
    """By id, md5 and length of the contents that a part completes. The parts of a folder are to be given in their order."""
    whole: dict[str, tuple[str, int]] = {}
    with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
        for group in range(parquet.num_row_groups):
            for row in parquet.read_row_group(group).to_pylist():
                name = row["result_id"]
                content = begun.setdefault((path.parent, name), _Begun())
                assert row["chunk_index"] == content.chunks, f"{path}: the chunks of {name} are not in order"
                content.md5.update(row["content"])
                content.size += len(row["content"])
                content.chunks += 1
                if content.chunks == row["chunk_count"]:
                    whole[name] = (content.md5.hexdigest(), content.size)
                    del begun[path.parent, name]
    return whole


def _has_parts(folder: Path) -> bool:
    return any(folder.glob("**/*.parquet"))
