"""Everything that is published: results, and the objects they point at. Writes the bucket's folder."""

import functools
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from ricloud_connector.emulator.behaviour import Order
from ricloud_connector.emulator.body import render_head
from ricloud_connector.emulator.bucket import Bucket, make_key
from ricloud_connector.emulator.data import digest_md5, make_content
from ricloud_connector.emulator.media import BLOCK_BYTES
from ricloud_connector.emulator.model import Content, Draft, PublishedResult
from ricloud_connector.emulator.state import Entry, ResultStore


class Catalogue:
    """The results of one organisation and its bucket. Safe to share between threads."""

    def __init__(self, bucket: Bucket, order: Order) -> None:
        self.bucket = bucket
        self.store = ResultStore(order)

    def load(self, drafts: Iterable[Draft]) -> None:
        """Publishes many; their bytes are written when they are first asked for."""
        self.store.load([self._make_entry(draft) for draft in drafts])

    def publish(self, draft: Draft) -> PublishedResult:
        """Publishes one, its bytes first: whoever sees the result can read them. Raises: ValueError for a known id."""
        # Held throughout, so that nothing comes between the check of the id and its use.
        with self.store.lock:
            if self.store.get(str(draft.id)) is not None:
                raise ValueError(f"a result with the id {str(draft.id)!r} is there already")
            entry = self._make_entry(draft)
            self.bucket.locate(entry.key)
            self.store.add(entry)
            return self._describe(entry)

    def describe_all(self) -> list[PublishedResult]:
        """The truth about every result of every state, newest first."""
        with self.store.lock:
            return [self._describe(entry) for entry in self.store.newest_first()]

    def _make_entry(self, draft: Draft) -> Entry:
        key = make_key(draft)
        url = f"s3://{self.bucket.name}/{key}" if draft.url is None else draft.url
        self.bucket.put(key, str(draft.id), draft.content, deleted=draft.date_deleted is not None)
        return Entry(
            draft=draft,
            key=key,
            url=url,
            head=render_head(draft, url),
            state=draft.state,
            date_consumed=draft.date_consumed,
            date_deleted=draft.date_deleted,
        )

    def _describe(self, entry: Entry) -> PublishedResult:
        draft = entry.draft
        return PublishedResult(
            id=entry.id,
            identifier=draft.identifier,
            type=draft.type,
            state=entry.state,
            url=entry.url,
            signed=draft.signed,
            date_created=draft.created,
            checksum=draft.checksum,
            size=draft.size,
            md5=draft.content.md5,
            byte_size=draft.content.size,
            _locate=functools.partial(self.bucket.locate, entry.key),
        )


def read_content(content: bytes | Path) -> Content:
    """The content of bytes or of a file; a file is read now for its digest, and again to be copied."""
    if isinstance(content, bytes):
        return make_content(content)

    def write(file: BinaryIO) -> None:
        with content.open("rb") as source:
            shutil.copyfileobj(source, file, BLOCK_BYTES)

    with content.open("rb") as source:
        md5 = digest_md5(iter(lambda: source.read(BLOCK_BYTES), b""))
        return Content(md5=md5, size=source.tell(), write=write)
