"""Documents as columns say of each document what it says of itself, however they are cut."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from ricloud_connector.records.documents import Document, Documents
from ricloud_connector.records.portions import few_cells
from tests.lakes import MOMENT

FEEDS = [None, "ios_messages.messages", "ios_notes.notes", ""]


@st.composite
def some_documents(draw: st.DrawFn) -> list[Document]:
    raws = draw(st.lists(st.binary(max_size=12) | st.just(b"{{{}"), max_size=12))
    feeds = [draw(st.sampled_from(FEEDS)) for _ in raws]
    return [
        Document(
            f"r{n}", feed, MOMENT + timedelta(microseconds=n), f"p{n}" if n % 3 else None, "c" * n, len(raw), n % 2 == 0, raw
        )
        for n, (raw, feed) in enumerate(zip(raws, feeds, strict=True))
    ]


@settings(max_examples=100)
@given(some_documents(), st.integers(0, 6), st.integers(0, 12))
def test_columns_and_their_slices_are_the_documents(documents: list[Document], start: int, stop: int):
    table = Documents.of(documents)
    assert list(table) == documents
    assert len(table) == len(documents)
    some = table[start:stop]
    assert list(some) == documents[start:stop]
    assert some.size == sum(document.size for document in documents[start:stop])
    assert some.count(ord("{")) == sum(document.raw.count(b"{") for document in documents[start:stop])
    assert list(Documents.together([some, table])) == documents[start:stop] + documents


@settings(max_examples=100)
@given(some_documents().filter(bool), st.integers(0, 3))
def test_by_feed_none_is_lost_and_the_order_stays(documents: list[Document], skipped: int):
    found = dict(Documents.of(documents)[skipped:].by_feed()) if len(documents) > skipped else {}
    feeds = list(dict.fromkeys(document.identifier for document in documents[skipped:]))
    assert list(found) == feeds
    for feed, some in found.items():
        assert list(some) == [document for document in documents[skipped:] if document.identifier == feed]


@settings(max_examples=100)
@given(some_documents().filter(bool), st.integers(1, 40))
def test_the_first_ones_have_the_size_that_is_asked_for(documents: list[Document], size: int):
    first, others = Documents.of(documents).parted(size)
    assert list(first) + list(others) == documents
    assert len(first) > 0
    assert first.size >= size or not len(others)
    assert sum(document.size for document in list(first)[:-1]) < size


def test_many_cells_are_taken_some_at_a_time(monkeypatch):
    monkeypatch.setattr("ricloud_connector.records.portions.MANY_CELLS", 20)
    documents = [Document(f"r{n}", None, MOMENT, None, "", n, True, b"{" * n) for n in (3, 1, 9, 1, 1, 1)]
    taken = list(few_cells(Documents.of(documents), 5))
    assert [document for some, _ in taken for document in some] == documents
    assert all(cells == 5 * sum(document.size for document in some) for some, cells in taken)
    assert all(cells <= 20 or len(some) == 1 for some, cells in taken)
    assert len(taken) < len(documents)
