"""The bytes of one stored result, chunk by chunk. I/O: reads the lake."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.part_reader import read_chosen
from ricloud_connector.partition import Partition
from ricloud_connector.schemas import CONTENTS


def read_content_chunks(partition: Partition, result_id: str) -> Iterator[bytes]:
    """The chunks of a result of a contents partition, in order, each at most 8 MiB; of a chunk stored twice the first.

    Raises: UnreadablePart.
    """
    rows = partition.index.filter(pc.equal(partition.index.column("result_id"), result_id))
    expected = 0
    for number in sorted(set(rows.column("part").to_pylist())):
        for table in read_chosen(
            partition.storage.open(partition.parts[number]), CONTENTS, lambda facts: _is(facts, result_id)
        ):
            for index, content in zip(table.column("chunk_index").to_pylist(), table.column("content"), strict=True):
                if index == expected:
                    yield content.as_py()
                    expected += 1


def _is(facts: pa.Table, result_id: str) -> pa.Array:
    return pc.equal(facts.column("result_id"), result_id).combine_chunks()
