"""The proof of a content: length, md5 and sha256, taken chunk by chunk. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ricloud_connector.errors import ContentError, UnreadablePart
from ricloud_connector.model import Proven, Result


class Digest:
    """Length, md5 and sha256 of what passes; refuses the first byte beyond `limit`.

    The md5 is the API's checksum. The sha256, taken in the same pass, is what the same bytes are known by from then on: most
    processors have instructions for it, and md5 collisions can be made at will.
    """

    __slots__ = ("_limit", "_md5", "_sha256", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._md5: hashlib._Hash | None = None  # made at the first byte: thousands may wait for theirs
        self._sha256: hashlib._Hash | None = None
        self.size = 0

    def update(self, chunk: bytes | memoryview) -> None:
        """Raises: ContentError `size_mismatch` as soon as more comes than was listed."""
        self.size += len(chunk)
        if self.size > self._limit:
            raise ContentError("size_mismatch", f"more than the listed {self._limit} bytes came", actual_size=self.size)
        if self._md5 is None or self._sha256 is None:
            self._md5, self._sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        # In this order: a bit that flips in between makes the md5 a wrong one, and later ones are found by the sha256.
        self._sha256.update(chunk)
        self._md5.update(chunk)

    @property
    def md5(self) -> str:
        return (self._md5 or hashlib.md5(usedforsecurity=False)).hexdigest()

    @property
    def sha256(self) -> str:
        return (self._sha256 or hashlib.sha256()).hexdigest()


def check_content(result: Result, digest: Digest) -> None:
    """Nothing, where length and md5 are those listed.

    Raises: ContentError `size_mismatch` or `checksum_mismatch`, with expected and actual.
    """
    if digest.size != result.size:
        raise ContentError(
            "size_mismatch",
            f"{digest.size} bytes came, {result.size} are listed",
            actual_checksum=digest.md5,
            actual_size=digest.size,
        )
    if digest.md5 != result.checksum:
        raise ContentError(
            "checksum_mismatch",
            f"the content's md5 is {digest.md5}, {result.checksum} is listed",
            actual_checksum=digest.md5,
            actual_size=digest.size,
        )


class StoredChunk(NamedTuple):
    """One row of the contents dataset as it was read back."""

    result_id: str
    chunk_index: int
    chunk_count: int
    checksum: str
    sha256: str
    size: int
    content: memoryview


def prove_chunks(chunks: Iterable[StoredChunk], source: str, *, md5: bool) -> Iterator[tuple[str, Proven]]:
    """Each result whose rows, in the order in which they stand, hash to the sha256 and the length that they claim.

    With `md5` they must hash to that too: so a file is proven before it is committed, which binds the two to each other and
    to the bytes, and the sha256 alone proves ever after that the bytes are the same. Only whole results are yielded; what is
    claimed of md5 and size is compared with what is listed by `acknowledge.py`.

    Raises: UnreadablePart, naming `source`, at the first row that is not what it claims to be.
    """
    head: StoredChunk | None = None
    digest, listed, size, expected_index = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0, 0
    for chunk in chunks:
        result_id, index, count, checksum, sha256, listed_size, content = chunk
        if head is None:
            head, digest, size, expected_index = chunk, hashlib.sha256(content), 0, 0
            listed = hashlib.md5(usedforsecurity=False)
        elif chunk[:1] + chunk[2:6] == head[:1] + head[2:6]:
            digest.update(content)
        else:
            expected_index = -1  # of another result, or of another version of this one
        if index != expected_index:
            raise UnreadablePart(f"{source}: chunk {index} of result {result_id!r} is out of place")
        if md5:
            listed.update(content)
        size += len(content)
        expected_index += 1
        if expected_index == count:
            true = digest.hexdigest() == sha256 and (not md5 or listed.hexdigest() == checksum)
            if size != listed_size or not true or checksum is None:
                raise UnreadablePart(f"{source}: the bytes of result {result_id!r} are not those that were proven")
            yield result_id, Proven(checksum, listed_size)
            head = None
    if head is not None:
        raise UnreadablePart(f"{source}: the last chunks of result {head.result_id!r} are missing")
