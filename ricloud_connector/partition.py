"""What one partition of a dataset holds: its chain of parts and an index of their rows. I/O: local files, a cache.

Files never change, so each is read once for its index; the index is kept under `control/` and may be deleted at any time.
It is never proof of anything: what is acknowledged is read back from the parts themselves.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector import disk
from ricloud_connector.errors import BrokenChain
from ricloud_connector.model import DataFile
from ricloud_connector.parts import read_columns, read_metadata
from ricloud_connector.schemas import Dataset

_LISTINGS = 5  # a folder that grows while it is listed may show a part and not the one before it


@dataclass(frozen=True, slots=True)
class Partition:
    """A chain of parts 0, 1, ... and an index with a row for each of theirs: `part`, then the dataset's index columns."""

    dataset: Dataset
    day: date
    parts: tuple[DataFile, ...]
    index: pa.Table

    def missing(self, keys: pa.Table) -> pa.ChunkedArray:
        """For each row of `keys` (the dataset's key columns) whether this partition lacks it: booleans."""
        return pc.invert(pc.is_in(_joined(keys, self.dataset), value_set=_joined(self.index, self.dataset)))

    def whole_results(self) -> pa.Table:
        """Of a contents partition, a row per result of which every chunk is stored.

        Columns: `result_id`, `checksum`, `size`, `date_created`, and `part`, the number of the part with its last chunk.
        """
        several = pc.any(pc.greater(self.index.column("chunk_count"), 1)).as_py()
        if not several:
            return self.index.select(["result_id", "checksum", "size", "date_created", "part"])
        keys = ["result_id", "checksum", "size", "date_created", "chunk_count"]
        counted = self.index.group_by(keys, use_threads=False).aggregate([("chunk_index", "count"), ("part", "max")])
        whole = counted.filter(pc.equal(counted.column("chunk_index_count"), counted.column("chunk_count")))
        return whole.rename_columns({"part_max": "part"}).select(["result_id", "checksum", "size", "date_created", "part"])


def scan(dataset: Dataset, day: date, folder: Path, cache: Path, check: Callable[[dict[str, str]], None]) -> Partition:
    """The partition as it is now. `check` is given the footer of each part that no earlier scan has seen.

    Raises: BrokenChain for a gap, UnreadablePart, LakeError.
    """
    parts = _chain(folder)
    known, index = _read_cache(dataset, cache)
    if known != parts[: len(known)]:
        known, index = (), dataset.index_schema.empty_table()
    fresh = parts[len(known) :]
    for part in fresh:
        check(read_metadata(part.path))
        rows = read_columns(part.path, dataset.index)
        numbers = pa.repeat(pa.scalar(part.number, pa.int32()), rows.num_rows)
        rows = pa.table([numbers, *rows.columns], schema=dataset.index_schema)
        index = pa.concat_tables([index, rows])
    if fresh:
        _write_cache(parts, index, cache)
    return Partition(dataset, day, parts, index)


def _chain(folder: Path) -> tuple[DataFile, ...]:
    """The parts, proven to be numbered from zero without a gap."""
    for attempt in range(_LISTINGS):
        parts = disk.list_parts(folder)
        if [part.number for part in parts] == list(range(len(parts))):
            return tuple(parts)
        time.sleep(0.02 * attempt)
    missing = sorted(set(range(parts[-1].number)) - {part.number for part in parts})
    raise BrokenChain(
        f"{folder}: part {missing[0]} is missing below part {parts[-1].number}. Somebody removed a file: restore it, or "
        "remove the whole created_date= folder from every dataset (acknowledged results do not come back)"
    )


def _joined(table: pa.Table, dataset: Dataset) -> pa.ChunkedArray:
    """The key columns as one column of text. Ids hold no control characters, so the separator is unambiguous."""
    columns = [pc.fill_null(pc.cast(table.column(name), pa.string()), "\x1e") for name in dataset.key]
    return pc.binary_join_element_wise(*columns, "\x1f") if len(columns) > 1 else columns[0]


def _read_cache(dataset: Dataset, cache: Path) -> tuple[tuple[DataFile, ...], pa.Table]:
    """The files that the cache knows, and their index; nothing where it cannot be read."""
    nothing = (), dataset.index_schema.empty_table()
    try:
        with pa.OSFile(str(cache)) as file, pa.ipc.open_file(file) as reader:
            table = reader.read_all()
        facts = json.loads((table.schema.metadata or {})[b"parts"])
        known = tuple(DataFile(number, Path(path), *identity) for number, path, *identity in facts)
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError):
        return nothing  # absent, cut short by a power cut, or of another version: it is made anew
    table = table.replace_schema_metadata(None)
    return (known, table) if table.schema.equals(dataset.index_schema) else nothing


def _write_cache(parts: tuple[DataFile, ...], index: pa.Table, cache: Path) -> None:
    """Replace the cache. A cache that cannot be written costs the next run time, and a full disk is said elsewhere."""
    facts = [(part.number, str(part.path), part.size, part.mtime_ns, part.inode) for part in parts]
    table = index.replace_schema_metadata({"parts": json.dumps(facts)})
    staged = cache.with_name(f"{cache.name}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(staged), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        disk.replace(cache, staged)
    except OSError:
        staged.unlink(missing_ok=True)
