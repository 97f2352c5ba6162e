"""How much of a part's documents is taken at a time, so that memory bears it as objects and as columns."""

from __future__ import annotations

from collections.abc import Iterator

from ricloud_connector.records.columns import Columns
from ricloud_connector.records.part import MANY_CELLS
from ricloud_connector.records.sources import Document

MAX_CELLS = 16_000_000
"""Records times columns that a document may have. One with all the values that it may have is dense at five million; but 1 MiB
of objects with other names in each would be a hundred million."""


class TooManyCells(ValueError):
    """So many records do not stand side by side in so many columns."""


def check_cells(records: int, columns: Columns) -> None:
    """Raises: TooManyCells."""
    if records * len(columns) > MAX_CELLS:
        raise TooManyCells(f"{records} records in {len(columns)} columns are more than {MAX_CELLS} cells")


def split(documents: list[Document], size: int) -> tuple[list[Document], list[Document]]:
    """The first documents, up to `size` bytes but at least one, and the others."""
    taken = 0
    for number, document in enumerate(documents):
        taken += document.size
        if taken > size and number:
            return documents[:number], documents[number:]
    return documents, []


def few_cells(documents: list[Document], columns: int) -> Iterator[tuple[list[Document], int]]:
    """The documents, some at a time, and how many cells they may give at most: each record begins with a brace."""
    some, cells = list[Document](), 0
    for document in documents:
        more = document.raw.count(b"{") * columns
        if some and cells + more > MANY_CELLS:
            yield some, cells
            some, cells = [], 0
        some.append(document)
        cells += more
    if some:
        yield some, cells
