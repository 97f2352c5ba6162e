"""What is read back from the lake and proven: the only place that makes a `VerifiedCommit`. I/O: local files.

An acknowledgement lets the API delete the content, so it takes more than having written it: the file is made durable,
opened anew, decoded, and every content in it hashed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ricloud_connector import disk
from ricloud_connector.errors import UnreadablePart
from ricloud_connector.model import DataFile, Proven
from ricloud_connector.partition import Partition
from ricloud_connector.parts import StagedPart, read_chunks, read_columns
from ricloud_connector.schemas import CONTENTS
from ricloud_connector.verify import prove_chunks

_SEAL: Final = object()


class VerifiedCommit:
    """Proof that a durable, committed file holds these results whole, as read back from it. Made by `read_back` alone."""

    __slots__ = ("file", "proven")

    def __init__(self, seal: object, file: DataFile, proven: Mapping[str, Proven]) -> None:
        if seal is not _SEAL:
            raise TypeError("a VerifiedCommit is made by read_back, from what the lake holds, and by nothing else")
        self.file = file
        self.proven = proven

    def __repr__(self) -> str:
        return f"VerifiedCommit({self.file.path.name}, {len(self.proven)} results)"

    def __reduce__(self) -> str:
        raise TypeError("a VerifiedCommit is not pickled: proof does not travel, read back again")


def read_back(partition: Partition, numbers: Iterable[int]) -> Iterator[VerifiedCommit]:
    """Step 8, part by part: durable first, then read fresh, decoded, md5 and size of every content in it.

    Raises: UnreadablePart at the first file that is not what was proven before it was committed; LakeError.
    """
    if partition.dataset is not CONTENTS:
        raise TypeError("only contents are read back for acknowledgement")
    for number in sorted(set(numbers)):
        file = partition.parts[number]
        disk.sync(file.path)
        disk.sync(file.path.parent)
        disk.sync(file.path.parent.parent)
        found = dict(prove_chunks(read_chunks(file.path), str(file.path)))
        yield VerifiedCommit(_SEAL, file, found)


def prove_staged(staged: StagedPart) -> None:
    """Step 4: decode a staged file; every key must be there and every content must hash to its checksum.

    A fault between the download and the file (memory, encoder) is found here, while it can still be thrown away.
    Raises: UnreadablePart.
    """
    columns = tuple(staged.keys.column_names)
    if not read_columns(staged.path, columns).equals(staged.keys.replace_schema_metadata(None)):
        raise UnreadablePart(f"{staged.path} does not decode to the rows that were written")
    if staged.dataset is CONTENTS:
        for _ in prove_chunks(read_chunks(staged.path), str(staged.path)):
            pass
