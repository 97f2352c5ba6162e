"""What is read back from the lake and proven: the only place that makes a `VerifiedCommit`. I/O: the lake's files.

An acknowledgement lets the API delete the content, so it takes more than having written it: the file is made durable,
opened anew, decoded, and every content in it hashed; or, where this run has just done that before it gave the file its
name, hashed as a whole: the same bytes need no second decoding.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NoReturn

import pyarrow as pa

from ricloud_connector.errors import UnreadablePart
from ricloud_connector.model import DataFile, Proven
from ricloud_connector.part_reader import chunks_of, file_sha256, file_size, fingerprint, read_chunks, read_groups
from ricloud_connector.partition import Partition
from ricloud_connector.parts import StagedPart
from ricloud_connector.schemas import CONTENTS
from ricloud_connector.verify import StoredChunks, prove_chunks

PROOFS_KEPT = 4
"""Files that were proven and not read back yet: a run reads each back right after it has committed it."""

LARGE_BYTES = 1024 * 1024
"""Of a content, in a file of such on average."""

_SEAL: Final = object()


class VerifiedCommit:
    """Proof that a durable, committed file holds these results whole, as read back from it. Made by `read_back` alone.

    `proven` says by id what was proven of each. It cannot be changed, copied, pickled or derived from.
    """

    __slots__ = ("file", "proven")

    file: DataFile
    proven: Mapping[str, Proven]

    def __init__(self, seal: object, file: DataFile, proven: Mapping[str, Proven]) -> None:
        if seal is not _SEAL:
            raise TypeError("a VerifiedCommit is made by read_back, from what the lake holds, and by nothing else")
        object.__setattr__(self, "file", file)
        object.__setattr__(self, "proven", MappingProxyType(dict(proven)))

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("a VerifiedCommit is what read_back proved, and nothing is like it")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a VerifiedCommit says what was proven and cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a VerifiedCommit says what was proven and cannot be changed")

    def __repr__(self) -> str:
        return f"VerifiedCommit({self.file.path.name}, {len(self.proven)} results)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a VerifiedCommit is neither copied nor pickled: proof does not travel, read back again")


class Proofs:
    """What was proven of finished files while they were in staging, by the sha256 of the whole file. Of the last few.

    A file that reads back with the same sha256 is, byte for byte, one that was decoded and proven: it needs no decoding again.
    Only `prove_staged` can add to it.
    """

    def __init__(self) -> None:
        self._by_digest: OrderedDict[bytes, Mapping[str, Proven]] = OrderedDict()

    def add(self, seal: object, digest: bytes, proven: Mapping[str, Proven]) -> None:
        """Remember what was proven of a file. Raises: TypeError for whoever has not proven it here."""
        if seal is not _SEAL:
            raise TypeError("only prove_staged says what was proven of a file")
        self._by_digest[digest] = proven
        if len(self._by_digest) > PROOFS_KEPT:
            self._by_digest.popitem(last=False)

    def take(self, digest: bytes) -> Mapping[str, Proven] | None:
        """What was proven of the file with this sha256, once; None for any other file."""
        return self._by_digest.pop(digest, None)

    def __bool__(self) -> bool:
        return bool(self._by_digest)


def read_back(
    partition: Partition, numbers: Iterable[int], *, md5: bool = False, proofs: Proofs | None = None
) -> Iterator[VerifiedCommit]:
    """Step 8, part by part: durable first, then read fresh, decoded, sha256 and size of every content in it.

    Of a file among `proofs` the sha256 of its bytes is enough: they are those that were decoded and proven before.
    `md5` is hashed as well where asked for: it was before the commit, and the sha256 is that of the same bytes.

    Raises: UnreadablePart at the first file that is not what was proven before it was committed; LakeError.
    """
    if partition.dataset is not CONTENTS:
        raise TypeError("only contents are read back for acknowledgement")
    files = [partition.parts[number] for number in sorted(set(numbers))]
    if files:
        partition.storage.settle_folder(files[0].path.parent)
    for file in files:
        together = [partition.parts[number] for number in partition.parts_with(file.number)]
        if not together:
            continue  # a beginning alone proves nothing; it is read with the end of its content
        found = _proven_before(partition, file, proofs) if proofs and together == [file] else None
        if found is None:
            found = dict(prove_chunks(_settled_chunks(partition, together), str(file.path), md5=md5))
        if found.keys() != partition.ids_in(file.number):
            raise UnreadablePart(
                f"{file.path} holds other results than its index says. If the file is as it was written, remove the "
                "lake's folder control/index, and it is read anew"
            )
        yield VerifiedCommit(_SEAL, file, found)


def _proven_before(partition: Partition, file: DataFile, proofs: Proofs) -> Mapping[str, Proven] | None:
    """What was proven of the very bytes that a part has now, durable and read fresh; None where they are not known."""
    with partition.storage.settled(file) as path:
        return proofs.take(file_sha256(path))


def _settled_chunks(partition: Partition, files: list[DataFile]) -> Iterator[StoredChunks]:
    """The rows of some parts, one part after the other, each durable and read fresh."""
    for file in files:
        with partition.storage.settled(file) as path:
            yield from read_chunks(path, str(file.path))


def prove_staged(staged: StagedPart, proofs: Proofs | None = None) -> None:
    """Step 4: decode a staged file; every row must be there as it was given, and every content must hash to what names it.

    A fault between the download and the file (memory, encoder) is found here, while it can still be thrown away. What was
    proven of a contents part is added to `proofs`. Raises: UnreadablePart.
    """
    fingerprints: list[bytes] = []
    # Before the file is decoded: what changes in it later, even before it is read here, makes it another file than this.
    digest = file_sha256(staged.path) if _is_of_small(staged) else None
    groups = _noted(read_groups(staged.path, staged.dataset), fingerprints)
    proven: Mapping[str, Proven] = {}
    if staged.piece_md5 is not None:
        md5 = hashlib.md5(usedforsecurity=False)
        for rows in chunks_of(groups, str(staged.path)):
            for content in rows.content:
                md5.update(content)
        if md5.hexdigest() != staged.piece_md5:
            raise UnreadablePart(f"{staged.path} does not decode to the bytes that were written")
    elif staged.dataset is CONTENTS:
        proven = dict(prove_chunks(chunks_of(groups, str(staged.path)), str(staged.path), md5s=staged.md5s))
    else:
        for _ in groups:
            pass
    if tuple(fingerprints) != staged.fingerprints:
        raise UnreadablePart(f"{staged.path} does not decode to the rows that were written")
    if proofs is not None and proven and digest is not None:
        proofs.add(_SEAL, digest, proven)


def _is_of_small(staged: StagedPart) -> bool:
    """Whether it holds many small contents: large ones are decoded a second time as fast as the file is hashed twice."""
    return file_size(staged.path) < LARGE_BYTES * len(staged.md5s)


def _noted(groups: Iterable[pa.Table], fingerprints: list[bytes]) -> Iterator[pa.Table]:
    """The row groups as they pass, with their fingerprints written down."""
    for group in groups:
        fingerprints.append(fingerprint(group))
        yield group
