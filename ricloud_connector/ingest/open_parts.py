"""The parts of one day that are being filled: rows go in as they are proven, files come out whole. I/O: through the lake.

Results and contents are committed together and in that order, so that a content is never in the lake before its result.
While one pair of parts is proven, synced and named, in a thread of its own, the next one is filled already; and who is told of
what was committed does his work in another, beside the next commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector import overlap
from ricloud_connector.disk import discard
from ricloud_connector.lake import Lake
from ricloud_connector.listed import Listed
from ricloud_connector.model import CHUNK_BYTES, Content, Proven, Rejection, Result
from ricloud_connector.partition import Partition
from ricloud_connector.parts import ContentPart, Contents, ContentsWriter, PartWriter, StagedPart, chunk_count, piece_md5s
from ricloud_connector.schemas import CONTENTS, RESULTS, result_rows

PART_BYTES = 64 * 1024 * 1024
PART_ROWS = 10_000
"""Where a part is closed: what is held of it by id grows with its rows.

A larger content has a part of its own, or, where the store caps its files, several."""

LAST_ROWS = 4_000
"""When all is listed and the last contents are under way, a part of so many rows is closed: little is left for the end."""


@dataclass(slots=True)
class _Pair:
    """A results part and a contents part on their way: their writers, and what they hold by id.

    Instead of a writer there may be a finished part, that of a large content.
    """

    results: PartWriter | None = None
    contents: PartWriter | None = None
    rows: ContentsWriter | None = None
    finished: StagedPart | None = None
    proven: dict[str, Proven] = field(default_factory=dict)
    bytes: int = 0

    def abandon(self) -> None:
        """Remove what is not committed."""
        for writer in (self.results, self.contents):
            if writer is not None:
                writer.abandon()
        if self.finished is not None:
            discard(self.finished.path)


class OpenParts:
    """Fills the parts of one day. Use as a context manager: what is not committed is dropped.

    `committed` is told the ids of the contents that are in the lake now, in one thread and for one commit after the other.
    """

    def __init__(
        self, lake: Lake, day: date, *, run_id: str, committed: Callable[[Collection[str]], None] | None = None
    ) -> None:
        self._lake, self._day, self._run_id, self._committed = lake, day, run_id, committed
        self.new_results = 0
        self.new_contents = 0
        self.stored_by_others = 0
        self._open, self._closed = _Pair(), _Pair()
        self._commit: Future[None] | None = None
        self._committer = overlap.pool(1, "ricloud-commit")
        self._teller = overlap.pool(1, "ricloud-settle")
        self._told: Future[None] | None = None
        self._known: Partition | None = None
        self._whole: pa.Table | None = None
        self._begun: set[str] = set()

    def __enter__(self) -> OpenParts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._committer.shutdown()
        self._teller.shutdown()
        self._open.abandon()

    def stored(self, results: Listed) -> dict[str, Proven]:
        """What the lake holds whole of these results, or will with the next commit, by their ids.

        Looked up once per commit: what others add meanwhile is subtracted when it comes to it.
        """
        if self._whole is None:
            partition = self._lake.scan(CONTENTS, self._day)
            self._whole = partition.whole_results()
            self._begun = partition.begun_results(self._whole)
        found = whole_of(self._whole, results.column("id"))
        for proven in (self._closed.proven, self._open.proven):
            if proven:
                found |= {result_id: proven[result_id] for result_id in proven.keys() & results.ids}
        return found

    def add_results(self, results: Listed, seen_at: datetime) -> None:
        """Add a row for each result that the lake had none of when the first was added; committing leaves out the others."""
        rows = result_rows(results, run_id=self._run_id, seen_at=seen_at)
        if self._known is None:  # not looked up again: to search all of a large day for a few ids takes its time
            self._known = self._lake.scan(RESULTS, self._day)
        if self._known.index.num_rows:
            rows = rows.filter(self._known.missing(rows))
        if rows.num_rows:
            if self._open.results is None:
                self._open.results = self._lake.writer(RESULTS)
            self._open.results.write(rows)

    def add_content(self, content: Content | ContentPart) -> Rejection | None:
        """Add a proven content, after closing what is there where the file would become too large.

        Returns why not: of a content that spans parts another version is stored in part.
        """
        if isinstance(content, ContentPart):
            return self._add_part(content)
        size = content.result.size or 0
        longest = self._lake.storage.longest_part
        if longest is not None and size > longest:
            assert isinstance(content.body, Path)
            try:
                return self._commit_pieces(content, longest // CHUNK_BYTES)
            finally:
                discard(content.body)
        if content.result.id in self._begun and (changed := self._changed(content.result)) is not None:
            if isinstance(content.body, Path):
                discard(content.body)
            return changed
        pair, rows = self._with_room(size)
        rows.add(content)
        pair.bytes += size
        pair.proven[content.result.id] = Proven(content.result.checksum or "", size)
        return None

    def add_contents(self, contents: Contents) -> list[Result]:
        """Add proven contents together. Where a beginning of one is stored, returns them: each is to be fetched by itself."""
        if not self._begun.isdisjoint(contents.listed.ids):
            return contents.listed.results()
        added, count = 0, len(contents.body)
        while added < count:
            pair, rows = self._with_room(contents.size)
            some = contents.slice(added, min(count, added + max(1, PART_ROWS - len(pair.proven))))
            rows.add_whole(some)
            pair.bytes += some.size
            md5s, sizes = (some.listed.column(name).to_pylist() for name in ("checksum", "size"))
            pair.proven.update(zip(some.listed.ids, map(Proven, md5s, sizes), strict=True))
            added += len(some.body)
        return []

    def _with_room(self, size: int) -> tuple[_Pair, ContentsWriter]:
        """The open pair and its contents, once what is there is closed where so many bytes more would be too many."""
        pair = self._open
        if pair.proven and (pair.bytes + size > PART_BYTES or len(pair.proven) >= PART_ROWS):
            self._close()
            pair = self._open
        if pair.rows is None:
            pair.contents = self._lake.writer(CONTENTS)
            pair.rows = ContentsWriter(pair.contents)
        return pair, pair.rows

    def _add_part(self, content: ContentPart) -> Rejection | None:
        """Commit a content that has its own part, with the results that were added by now; what else is open stays so."""
        result, part = content.result, content.part
        if result.id in self._begun and (changed := self._changed(result)) is not None:
            discard(part.path)
            return changed
        self._settle()
        proven = {result.id: Proven(result.checksum or "", result.size or 0)}
        large = _Pair(results=self._open.results, finished=part, proven=proven)
        self._open.results = None
        self._begin(large)
        return None

    def _commit_pieces(self, content: Content, chunks_each: int) -> Rejection | None:
        """Commit a content that is too large for one part: its chunks in their order, so many in each part, alone there."""
        self.commit()
        count, added = chunk_count(content.result), 0
        pieces = [range(first, min(first + chunks_each, count)) for first in range(0, count, chunks_each)]
        for piece, piece_md5 in zip(pieces, piece_md5s(content, pieces), strict=True):
            if (changed := self._changed(content.result)) is not None:
                return changed
            with self._lake.writer(CONTENTS) as writer:
                rows = ContentsWriter(writer)
                rows.add_chunks(content, piece)
                rows.flush()
                added += self._lake.commit(self._day, replace(writer.finish(), piece_md5=piece_md5))
        self._whole = None
        self.new_contents += 1 if added else 0
        self.stored_by_others += 0 if added else 1
        self._tell([content.result.id])
        return None

    def _changed(self, result: Result) -> Rejection | None:
        """Why a content cannot be added: of another one under the result's id at least a beginning is stored."""
        index = self._lake.scan(CONTENTS, self._day).index
        of_result = index.filter(pc.equal(index.column("result_id"), result.id))
        for md5 in of_result.column("checksum").unique().to_pylist():
            if md5 != result.checksum:
                return Rejection.of(result, "changed", f"stored in part with md5 {md5}")
        return None

    def nearly_done(self) -> None:
        """The last contents are under way. Raises: LakeError."""
        if len(self._open.proven) >= LAST_ROWS:
            self._close()

    def commit(self) -> None:
        """Put everything added so far into the lake, results first; it is there, and told, when this returns.

        Raises: LakeError, and what being told raises.
        """
        self._close()
        self._settle()
        self._wait_until_told()

    def _close(self) -> None:
        """Begin to commit what is open, once the pair before it is committed, and start anew. Raises: LakeError."""
        self._settle()
        pair, self._open = self._open, _Pair()
        self._begin(pair)

    def _begin(self, pair: _Pair) -> None:
        self._closed = pair
        self._commit = self._committer.submit(self._commit_pair, pair)

    def _settle(self) -> None:
        commit, self._commit = self._commit, None
        if commit is not None:
            commit.result()
            self._closed, self._whole = _Pair(), None

    def _commit_pair(self, pair: _Pair) -> None:
        try:
            if pair.results is not None:
                self.new_results += self._lake.commit(self._day, pair.results.finish())
            part = pair.finished
            if pair.contents is not None and pair.rows is not None:
                pair.rows.flush()
                part = pair.contents.finish()
            if part is not None:
                lost = min(len(pair.proven), part.rows - self._lake.commit(self._day, part))
                self.new_contents += len(pair.proven) - lost
                self.stored_by_others += lost
        finally:
            pair.abandon()
        if pair.proven:
            self._tell(pair.proven.keys())

    def _tell(self, ids: Collection[str]) -> None:
        """Have it told what was committed, once that is done with what was told before."""
        if self._committed is not None:
            self._wait_until_told()
            self._told = self._teller.submit(self._committed, ids)

    def _wait_until_told(self) -> None:
        told, self._told = self._told, None
        if told is not None:
            told.result()


def whole_of(whole: pa.Table, ids: pa.Array) -> dict[str, Proven]:
    """Of a table of whole results, the md5 and size of these ids."""
    if not whole.num_rows:
        return {}
    whole = whole.filter(pc.is_in(whole.column("result_id"), value_set=ids))
    columns = [whole.column(name).to_pylist() for name in ("result_id", "checksum", "size")]
    return {result_id: Proven(checksum, size) for result_id, checksum, size in zip(*columns, strict=True)}
