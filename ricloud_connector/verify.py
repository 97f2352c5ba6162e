"""The proof of a content: length, md5 and sha256, taken chunk by chunk. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ricloud_connector.errors import ContentError, UnreadablePart
from ricloud_connector.model import Proven, Result


class Digest:
    """Length, md5 and sha256 of what passes; refuses the first byte beyond `limit`.

    The md5 is the API's checksum. The sha256, taken in the same pass, is what the same bytes are known by from then on: most
    processors have instructions for it, and md5 collisions can be made at will.
    """

    __slots__ = ("_hashes", "_limit", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._hashes: tuple[hashlib._Hash, hashlib._Hash] | None = None  # made at the first byte: thousands may wait for theirs
        self.size = 0

    def update(self, chunk: bytes | memoryview) -> None:
        """Count and hash what came. Raises: ContentError `size_mismatch` as soon as more comes than was listed."""
        self.count(len(chunk))
        self.hash(chunk)

    def count(self, length: int) -> None:
        """Count what came and is hashed later. Raises: as `update`."""
        self.size += length
        if self.size > self._limit:
            raise ContentError("size_mismatch", f"more than the listed {self._limit} bytes came", actual_size=self.size)

    def hash(self, chunk: bytes | memoryview) -> None:
        """Hash what was counted, in the order in which it came."""
        if self._hashes is None:
            self._hashes = _new_hashes()
        md5, sha256 = self._hashes
        # In this order: a bit that flips in between makes the md5 a wrong one, and later ones are found by the sha256.
        sha256.update(chunk)
        md5.update(chunk)

    @property
    def md5(self) -> str:
        return (self._hashes or _new_hashes())[0].hexdigest()

    @property
    def sha256(self) -> str:
        return (self._hashes or _new_hashes())[1].hexdigest()


def _new_hashes() -> tuple[hashlib._Hash, hashlib._Hash]:
    """An md5 and a sha256 of nothing yet."""
    return hashlib.md5(usedforsecurity=False), hashlib.sha256()


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
    sha256: str | None
    size: int
    content: memoryview


class StoredChunks(NamedTuple):
    """Rows of the contents dataset as they were read back, by column: as many values in each as there are rows."""

    result_id: list[str]
    chunk_index: list[int]
    chunk_count: list[int]
    checksum: list[str]
    sha256: list[str | None]
    size: list[int]
    content: list[memoryview]


def prove_chunks(
    groups: Iterable[StoredChunks], source: str, *, md5: bool = False, md5s: Mapping[str, str] | None = None
) -> Iterator[tuple[str, Proven]]:
    """Each result whose rows, in the order in which they stand, hash to the sha256 and the length that they claim.

    The md5 that they claim must be the one that `md5s` has by that sha256, where it is given: both were taken of the same
    bytes in one pass, so that this binds the md5 to the bytes as well as hashing it again, which `md5` does. Only whole
    results are yielded; what is claimed is compared with what is listed by `acknowledge.py`.

    Raises: UnreadablePart, naming `source`, at the first row that is not what it claims to be.
    """
    proof = _Proof(source, md5=md5)
    for rows in groups:
        if md5s is not None and (false := _first_false(rows, md5s)) is not None:
            raise UnreadablePart(f"{source}: result {false!r} does not have the md5 that was proven with its bytes")
        if not proof.begun and _all_whole(rows, md5=md5):
            yield from zip(rows.result_id, map(Proven, rows.checksum, rows.size), strict=True)
        else:
            yield from proof.of_each(map(StoredChunk, *rows))
    proof.end()


def _first_false(rows: StoredChunks, md5s: Mapping[str, str]) -> str | None:
    """The first result whose md5 was not found together with its sha256, which stands beside a content's last chunk."""
    if [md5s.get(sha256 or "") for sha256 in rows.sha256] == rows.checksum and None not in rows.checksum:
        return None
    facts = zip(rows.result_id, rows.checksum, rows.sha256, strict=True)
    return next((name for name, md5, sha256 in facts if sha256 is not None and (md5 is None or md5s.get(sha256) != md5)), None)


def _all_whole(rows: StoredChunks, *, md5: bool) -> bool:
    """Whether each row is a result by itself, as nearly all are, and what it claims to be."""
    return (
        rows.chunk_count.count(1) == len(rows.chunk_count)
        and rows.chunk_index.count(0) == len(rows.chunk_index)
        and [*map(len, rows.content)] == rows.size
        and [hashlib.sha256(content).hexdigest() for content in rows.content] == rows.sha256
        and (not md5 or [hashlib.md5(each, usedforsecurity=False).hexdigest() for each in rows.content] == rows.checksum)
        and None not in rows.checksum
    )


class _Proof:
    """Follows the rows one by one: through the chunks of a content, and to the one that is wrong."""

    def __init__(self, source: str, *, md5: bool) -> None:
        self._source, self._md5 = source, md5
        self._head: tuple[object, ...] | None = None  # of the content that has begun: its id, and which version it is

    @property
    def begun(self) -> bool:
        """Whether a content has begun and not ended."""
        return self._head is not None

    def of_each(self, chunks: Iterable[StoredChunk]) -> Iterator[tuple[str, Proven]]:
        for chunk in chunks:
            if self._take(chunk):
                yield chunk.result_id, Proven(chunk.checksum, chunk.size)

    def _take(self, chunk: StoredChunk) -> bool:
        """Take the next row; whether it ends a content. Raises: UnreadablePart."""
        version = (chunk.result_id, chunk.chunk_count, chunk.checksum, chunk.size)
        if self._head is None:
            self._head, self._claimed, self._size, self._expected = version, chunk.sha256, 0, 0
            self._sha256, self._listed = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self._claimed = self._claimed or chunk.sha256  # beside the last chunk, or beside each
        other = version != self._head or chunk.sha256 not in (None, self._claimed)
        if other or chunk.chunk_index != self._expected:
            raise UnreadablePart(f"{self._source}: chunk {chunk.chunk_index} of result {chunk.result_id!r} is out of place")
        self._sha256.update(chunk.content)
        if self._md5:
            self._listed.update(chunk.content)
        self._size += len(chunk.content)
        self._expected += 1
        if self._expected != chunk.chunk_count:
            return False
        true = self._sha256.hexdigest() == chunk.sha256 and (not self._md5 or self._listed.hexdigest() == chunk.checksum)
        if self._size != chunk.size or not true or chunk.checksum is None:
            raise UnreadablePart(f"{self._source}: the bytes of result {chunk.result_id!r} are not those that were proven")
        self._head = None
        return True

    def end(self) -> None:
        """Raises: UnreadablePart where a content has not ended."""
        if self._head is not None:
            raise UnreadablePart(f"{self._source}: the last chunks of result {self._head[0]!r} are missing")
