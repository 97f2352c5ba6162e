"""A large document cut into small ones, so that memory never holds the whole of it. Pure.

A list in the outermost object, such as `data`, is cut behind elements that are objects or lists, about once in a MiB. What is
left of the document, its skeleton, has a mark in place of what was cut out. The text is not understood here: strings are told
from the rest, and brackets are counted. That is enough, because whoever decodes the skeleton and every piece has decoded the
document: it is valid if and only if they all are. Each piece is one or more elements, whole; with the comma between pieces
they are a list where the mark stands; and of a valid document, strings and brackets say where its elements end.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

STEP_BYTES = 1024 * 1024
"""What is looked at at once: a piece has at most about twice as many bytes, or is a single element."""

MAX_PIECE_BYTES = 8 * 1024 * 1024
MAX_PIECE_VALUES = 1_000_000
"""What one record may have, and all that stands beside the records: it is decoded as a whole."""

_SPACE = b" \t\r\n"
_QUOTE, _LIST = b'"['
_OPENING = np.isin(np.arange(256), list(b"{["))
_MARKS = np.isin(np.arange(256), list(b'"{}[]'))


class Uncuttable(ValueError):
    """There is too much between two cuts."""


class Malformed(ValueError):
    """Between two elements stands no comma, or behind the last one stands one."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some elements of the list of this number: `{"data": [...], "metadata": {"count": n}}`, for as many as end in it."""

    list: int
    raw: bytes
    count: int


class Cutter:
    """Iterate it once over the chunks of a document: its pieces. Then `skeleton` is what is left, with `mark(n)` for list n.

    Raises: Uncuttable, Malformed.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._token = secrets.token_hex(16)  # no document can know it
        self._skeleton: list[bytes] = []
        self._held = bytearray()  # what is neither in a piece nor in the skeleton yet
        self._scanner = _Scanner()
        self._lists = 0
        self._cutting = self._later = False  # within a list that is cut; behind its first piece
        self._opened: tuple[int, bool] | None = None  # the member that is open in the outermost object: where, whether a list
        self._ended = 0  # elements that ended in what is held

    def mark(self, number: int) -> str:
        return f"{self._token}-{number}"

    @property
    def skeleton(self) -> bytes:
        return b"".join(self._skeleton)

    def __iter__(self) -> Iterator[Piece]:
        for text in _steps(self._chunks):
            found = self._scanner.scan(text)
            start = len(self._held)
            self._held += text
            yield from self._cut(found.shifted(start))
            if len(self._held) > MAX_PIECE_BYTES:
                raise Uncuttable
        self._keep(len(self._held))
        if sum(map(len, self._skeleton)) > MAX_PIECE_BYTES or too_many_values(self.skeleton):
            raise Uncuttable

    def _cut(self, found: _Found) -> Iterator[Piece]:
        """Cut behind the last element that ends here, and where its list ends."""
        done = 0
        if not self._cutting:
            element = found.last_element
            opened = found.opened_before(element) or self._opened
            if element < 0 or opened is None or not opened[1]:
                self._opened = found.opened_before(len(self._held)) or self._opened
                return
            done = self._keep(opened[0] + 1)
            self._skeleton.append(f'"{self.mark(self._lists)}"'.encode())
            self._cutting, self._later, self._ended = True, False, 0
            found = found.after(done - 1).shifted(-done)
        closed = found.first_close
        inside = found.elements if closed < 0 else found.elements[found.elements < closed]
        self._ended += len(inside)
        if closed < 0 and not len(inside):
            return
        end = closed if closed >= 0 else int(inside[-1]) + 1
        yield from self._piece(end)
        if closed >= 0:
            self._cutting, self._lists = False, self._lists + 1
            self._opened = None
            yield from self._cut(found.after(closed).shifted(-end))

    def _keep(self, end: int) -> int:
        """Let what is held up to there be part of the skeleton."""
        self._skeleton.append(bytes(self._held[:end]))
        del self._held[:end]
        return end

    def _piece(self, end: int) -> Iterator[Piece]:
        text = bytes(self._held[:end])
        del self._held[:end]
        if self._later:
            text = text.lstrip(_SPACE)
            if not text:
                return
            if not text.startswith(b",") or not (text := text[1:].lstrip(_SPACE)):
                raise Malformed
        if len(text) > MAX_PIECE_BYTES or (len(text) > 2 * STEP_BYTES and too_many_values(text)):
            raise Uncuttable
        yield Piece(self._lists, b'{"data":[%b],"metadata":{"count":%d}}' % (text, self._ended), self._ended)
        self._later, self._ended = True, 0


def values_in(raw: bytes) -> int:
    """About how many values JSON holds, or more."""
    return raw.count(b",") + raw.count(b"{") + raw.count(b"[")


def too_many_values(raw: bytes) -> bool:
    return values_in(raw) > MAX_PIECE_VALUES


@dataclass(frozen=True, slots=True)
class _Found:
    """Positions in what is held: members of the outermost object that open, and close, and elements of those that end."""

    opens: np.ndarray
    lists: np.ndarray
    closes: np.ndarray
    elements: np.ndarray

    @property
    def last_element(self) -> int:
        return int(self.elements[-1]) if len(self.elements) else -1

    @property
    def first_close(self) -> int:
        return int(self.closes[0]) if len(self.closes) else -1

    def opened_before(self, position: int) -> tuple[int, bool] | None:
        """The last member that opens before a position, and whether it is a list."""
        number = int(np.searchsorted(self.opens, position)) - 1
        return None if number < 0 else (int(self.opens[number]), bool(self.lists[number]))

    def shifted(self, by: int) -> _Found:
        return _Found(self.opens + by, self.lists, self.closes + by, self.elements + by)

    def after(self, position: int) -> _Found:
        opens = self.opens > position
        return _Found(
            self.opens[opens],
            self.lists[opens],
            self.closes[self.closes > position],
            self.elements[self.elements > position],
        )


class _Scanner:
    """Tells strings from the rest, and counts brackets, over all that it is given."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = 0

    def scan(self, text: bytes) -> _Found:
        codes = np.frombuffer(text.replace(b"\\\\", b"__").replace(b'\\"', b"__"), np.uint8)
        places = np.flatnonzero(_MARKS[codes])
        kinds = codes[places]
        quotes = kinds == _QUOTE
        before = self._in_string + np.cumsum(quotes)
        self._in_string = int(before[-1]) % 2 if len(before) else self._in_string
        brackets = ~quotes & (before % 2 == 0)
        places, kinds = places[brackets], kinds[brackets]
        opening = _OPENING[kinds]
        depths = self._depth + np.cumsum(np.where(opening, 1, -1))
        self._depth = int(depths[-1]) if len(depths) else self._depth
        opens = opening & (depths == 2)
        return _Found(places[opens], kinds[opens] == _LIST, places[~opening & (depths == 1)], places[~opening & (depths == 2)])


def _steps(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The text a MiB at a time, never parted behind a backslash that belongs to what comes next."""
    carried = b""
    for chunk in chunks:
        for start in range(0, len(chunk), STEP_BYTES):
            text = carried + chunk[start : start + STEP_BYTES]
            odd = (len(text) - len(text.rstrip(b"\\"))) % 2
            carried = text[len(text) - odd :]
            yield text[: len(text) - odd]
    if carried:
        yield carried
