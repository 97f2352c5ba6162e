"""How much of a part's documents is taken at a time, so that memory bears it as objects and as columns."""

from __future__ import annotations

from collections.abc import Iterator

from ricloud_connector.records.columns import Columns
from ricloud_connector.records.documents import Document, Documents
from ricloud_connector.records.part import MANY_CELLS

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


def few_cells(documents: Documents, columns: int) -> Iterator[tuple[Documents, int]]:
    """The documents, some at a time, and how many cells they may give at most: each record begins with a brace."""
    cells = documents.count(ord("{")) * columns
    if cells <= MANY_CELLS or len(documents) == 1:
        yield documents, cells
        return
    middle = len(documents) // 2
    yield from few_cells(documents[:middle], columns)
    yield from few_cells(documents[middle:], columns)
