"""What one partition of a dataset holds: its chain of parts and an index of their rows. I/O: its files, a cache.

Files never change, so each is read once for its index (`index_cache.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.errors import BrokenChain
from ricloud_connector.index_cache import Footer, IndexCache, Known
from ricloud_connector.model import DataFile, Place
from ricloud_connector.part_reader import read_index
from ricloud_connector.schemas import CONTENTS, Dataset
from ricloud_connector.storage import Storage

_SEPARATOR, _NULL = "\x1f", "\x1e"  # ids hold no control characters, so that these are unambiguous
_LISTINGS = 5  # a folder that grows while it is listed may show a part and not the one before it


@dataclass(frozen=True, slots=True)
class Partition:
    """A chain of parts 0, 1, ... and an index with a row for each of theirs: `part`, then the dataset's index columns."""

    dataset: Dataset
    day: date
    parts: tuple[DataFile, ...]
    index: pa.Table
    storage: Storage

    def missing(self, rows: pa.Table) -> pa.Array:
        """For each row of `rows` whether it is to be stored: neither here already nor a repetition among the rows themselves.

        Of a content that is stored whole no chunk is missing, not even where the rows hold another version of it.
        """
        keys, near = _joined(rows, self.dataset), self._of_results_in(rows)
        if not near.index.num_rows:
            return first_occurrences(keys)
        stored = pc.is_in(keys, value_set=_joined(near.index, self.dataset))
        if self.dataset is CONTENTS:
            whole = near.whole_results().column("result_id")
            stored = pc.or_(stored, pc.is_in(rows.column("result_id"), value_set=whole).combine_chunks())
        return pc.and_not(first_occurrences(keys), stored)

    def _of_results_in(self, rows: pa.Table) -> Partition:
        """As if there were no others: few of many, as a rule, and what is done with them costs more than to find them."""
        name = self.dataset.key[0]
        return replace(self, index=self.index.filter(pc.is_in(self.index.column(name), value_set=rows.column(name))))

    def whole_results(self) -> pa.Table:
        """Of a contents partition, a row per result of which every chunk is stored.

        Columns: `result_id`, `checksum`, `size`, `date_created`, and `part`, the number of the part with its last chunk.
        """
        index, count = (self.index.column(name).to_numpy() for name in ("chunk_index", "chunk_count"))
        rows = self.index.select(["result_id", "checksum", "size", "date_created", "part"])
        if (count == 1).all():
            return rows
        # Of a content that spans parts, one version may be stored in part when the API changes it: then neither is whole.
        versions = [pc.cast(rows.column(name), pa.string()) for name in ("result_id", "checksum", "size")]
        results, _ = _codes(pc.binary_join_element_wise(*versions, _SEPARATOR).combine_chunks())
        chunks_stored = np.bincount(results)[results]
        return rows.filter(pa.array((index == count - 1) & (chunks_stored == count)))

    def begun_results(self, whole: pa.Table) -> set[str]:
        """Of a contents partition with these whole results, the ids of those of which some chunks are stored and not all."""
        if whole.num_rows == self.index.num_rows:
            return set()
        ids = self.index.column("result_id")
        return set(ids.filter(pc.invert(pc.is_in(ids, value_set=whole.column("result_id")))).to_pylist())

    def parts_with(self, number: int) -> list[int]:
        """Of a contents partition, the parts that hold what a part completes: itself, and where a content spans parts, those.

        None for a part with nothing but the beginning or the middle of such a content.
        """
        here = self.index.filter(pc.equal(self.index.column("part"), number))
        index, count = (here.column(name).to_numpy() for name in ("chunk_index", "chunk_count"))
        if (count == 1).all():  # also of none
            return [number]
        result_id = here.column("result_id")[0]
        if pc.any(pc.not_equal(here.column("result_id"), result_id)).as_py() or here.num_rows == count[0]:
            return [number]
        if index[-1] != count[-1] - 1:
            return []
        rows = self.index.filter(pc.equal(self.index.column("result_id"), result_id))
        rows = rows.filter(pc.equal(rows.column("checksum"), here.column("checksum")[0]))
        return sorted(rows.column("part").unique().to_pylist())

    def ids_in(self, number: int) -> set[str]:
        """The ids of the results that a part of a contents partition holds."""
        rows = self.index.filter(pc.equal(self.index.column("part"), number))
        return set(rows.column("result_id").to_pylist())


def scan(
    dataset: Dataset,
    day: date,
    folder: Place,
    *,
    storage: Storage,
    indexes: IndexCache,
    cache: Place,
    scratch: Path,
    check: Callable[[Footer], None],
) -> Partition:
    """The partition as it is now. `check` is given each different footer of its parts.

    `cache` names the partition among the indexes; `scratch` is a local folder of this run alone.
    Raises: BrokenChain for a gap, UnreadablePart, LakeError, and what `check` raises.
    """
    # The cache first: another run may add a part and cache it at any time, and what is cached must be in the listing.
    known = indexes.of(dataset, cache, scratch)
    parts = _chain(storage, folder)
    identities = [(part.number, part.size, part.mtime_ns, part.inode) for part in parts]
    if known.parts != identities[: len(known.parts)]:
        known = Known.nothing(dataset)
    fresh = [(part.number, *read_index(storage.open(part), dataset)) for part in parts[len(known.parts) :]]
    footers = known.footers + [footer for _, footer, _ in fresh]
    footers = [footer for place, footer in enumerate(footers) if footer not in footers[:place]]
    for footer in footers:
        check(footer)
    index = known.index
    if fresh:
        tables = [_numbered(dataset, number, rows) for number, _, rows in fresh]
        index = pa.concat_tables([index, *tables])
        indexes.add(cache, Known(identities, footers, index), scratch)
    return Partition(dataset, day, parts, index, storage)


def _chain(storage: Storage, folder: Place) -> tuple[DataFile, ...]:
    """The parts, proven to be numbered from zero without a gap."""
    for attempt in range(_LISTINGS):
        parts = storage.list_parts(folder)
        if [part.number for part in parts] == list(range(len(parts))):
            return tuple(parts)
        storage.sleep(0.02 * attempt)
    missing = sorted(set(range(parts[-1].number)) - {part.number for part in parts})
    raise BrokenChain(
        f"{folder}: part {missing[0]} is missing below part {parts[-1].number}. Somebody removed a file: restore it, or "
        "remove the whole created_date= folder from every dataset (acknowledged results do not come back)"
    )


def _numbered(dataset: Dataset, number: int, rows: pa.Table) -> pa.Table:
    numbers = pa.repeat(number, rows.num_rows)
    return pa.table([numbers, *rows.columns], schema=dataset.index_schema)


def _joined(table: pa.Table, dataset: Dataset) -> pa.Array:
    """The key columns as one column of text."""
    columns = [_text(table.column(name)) for name in dataset.key]
    joined = columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, _SEPARATOR)
    return joined.combine_chunks()


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as text, with a text of its own for what is null."""
    column = column.cast(pa.string())
    return pc.fill_null(column, _NULL) if column.null_count else column


def first_occurrences(keys: pa.Array) -> pa.Array:
    """For each text whether it stands there for the first time."""
    codes, distinct = _codes(keys)
    if distinct == len(keys):  # as nearly always: nothing is to be sorted
        return pa.array(np.ones(distinct, dtype=bool))
    first = np.zeros(len(keys), dtype=bool)
    first[np.unique(codes, return_index=True)[1]] = True
    return pa.array(first)


def _codes(texts: pa.Array) -> tuple[Any, int]:
    """A number for each text, the same for the same text, and how many different ones there are."""
    encoded = texts.dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy(zero_copy_only=False), len(encoded.dictionary)
