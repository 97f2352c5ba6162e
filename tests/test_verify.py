"""The proof of a content, chunk by chunk: whatever is not what it claims to be is found, and named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from ricloud_connector.errors import ContentError, UnreadablePart
from ricloud_connector.model import Proven
from ricloud_connector.verify import Digest, StoredChunk, StoredChunks, check_content, prove_chunks
from tests.lakes import content_of

EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# As it is downloaded


def test_a_digest_is_that_of_all_that_passed() -> None:
    digest = Digest(6)
    for chunk in (b"ab", memoryview(b"cde"), b"", b"f"):
        digest.update(chunk)
    assert (digest.size, digest.md5, digest.sha256) == (6, md5(b"abcdef"), sha256(b"abcdef"))


def test_fault_071_a_digest_of_nothing_is_that_of_the_empty_content() -> None:
    digest = Digest(0)
    assert (digest.size, digest.md5, digest.sha256) == (0, EMPTY_MD5, EMPTY_SHA256)
    digest.update(b"")
    assert (digest.size, digest.md5, digest.sha256) == (0, EMPTY_MD5, EMPTY_SHA256)


def test_fault_074_the_first_byte_beyond_what_is_listed_is_refused() -> None:
    digest = Digest(3)
    digest.update(b"abc")
    with pytest.raises(ContentError, match=r"^size_mismatch: more than the listed 3 bytes came$") as caught:
        digest.update(b"d")
    error = caught.value
    assert (error.reason, error.transient, error.actual_checksum, error.actual_size) == ("size_mismatch", False, None, 4)
    assert digest.md5 == md5(b"abc"), "what was refused is not hashed"


def digest_of(data: bytes) -> Digest:
    digest = Digest(len(data))
    digest.update(data)
    return digest


def test_a_content_with_the_length_and_the_md5_that_are_listed_is_right() -> None:
    check_content(content_of("a", b"content").result, digest_of(b"content"))


@pytest.mark.parametrize("data", [b"conten", b"content."])
def test_fault_081_another_length_is_wrong_whatever_the_md5(data: bytes) -> None:
    expected = f"^size_mismatch: {len(data)} bytes came, 7 are listed$"
    with pytest.raises(ContentError, match=expected) as caught:
        check_content(content_of("a", b"content").result, digest_of(data))
    error = caught.value
    assert (error.reason, error.actual_checksum, error.actual_size) == ("size_mismatch", md5(data), len(data))


def test_fault_080_another_md5_is_wrong_whatever_the_length() -> None:
    expected = f"^checksum_mismatch: the content's md5 is {md5(b'CONTENT')}, {md5(b'content')} is listed$"
    with pytest.raises(ContentError, match=expected) as caught:
        check_content(content_of("a", b"content").result, digest_of(b"CONTENT"))
    error = caught.value
    assert (error.reason, error.actual_checksum, error.actual_size) == ("checksum_mismatch", md5(b"CONTENT"), 7)


# As it is read back


def chunks_of(name: str, *pieces: bytes) -> list[StoredChunk]:
    """The rows of one content."""
    data = b"".join(pieces)
    facts = (md5(data), sha256(data), len(data))
    return [StoredChunk(name, index, len(pieces), *facts, memoryview(piece)) for index, piece in enumerate(pieces)]


def proven(name: str, *pieces: bytes) -> tuple[str, Proven]:
    data = b"".join(pieces)
    return name, Proven(md5(data), len(data))


def group(*rows: StoredChunk) -> StoredChunks:
    return StoredChunks(*(list(column) for column in zip(*rows, strict=True)))


def prove(*groups: StoredChunks, **options) -> Iterator[tuple[str, Proven]]:
    return prove_chunks(groups, "the file", **options)


def fails(*groups: StoredChunks, match: str, before: tuple[tuple[str, Proven], ...] = (), **options) -> None:
    """After what stands `before` the first wrong row nothing is proven."""
    found: list[tuple[str, Proven]] = []
    with pytest.raises(UnreadablePart, match=f"^the file: {match}$"):
        found.extend(prove(*groups, **options))  # which keeps what came before it raised
    assert found == list(before)


WHOLE = [*chunks_of("a", b"1"), *chunks_of("b", b""), *chunks_of("c", b"333")]
WHOLE_PROVEN = [proven("a", b"1"), proven("b", b""), proven("c", b"333")]
PIECES = chunks_of("p", b"12", b"34", b"5")
PIECES_PROVEN = proven("p", b"12", b"34", b"5")
BOTH = pytest.mark.parametrize("hashed", [False, True])


@BOTH
def test_whole_results_are_proven_in_their_order(hashed: bool) -> None:
    assert list(prove()) == []
    assert list(prove(group(*WHOLE), md5=hashed)) == WHOLE_PROVEN
    assert list(prove(*(group(row) for row in WHOLE), md5=hashed)) == WHOLE_PROVEN


@BOTH
@pytest.mark.parametrize("sizes", [(5,), (1, 1, 1, 1, 1), (2, 2, 1), (3, 2), (4, 1)])
def test_contents_in_chunks_are_proven_wherever_groups_end(hashed: bool, sizes: tuple[int, ...]) -> None:
    rows = iter([WHOLE[0], *PIECES, WHOLE[2]])
    groups = [group(*(next(rows) for _ in range(size))) for size in sizes]
    assert list(prove(*groups, md5=hashed)) == [WHOLE_PROVEN[0], PIECES_PROVEN, WHOLE_PROVEN[2]]


def test_two_contents_in_chunks_are_told_apart() -> None:
    other = chunks_of("q", b"12", b"34", b"6")
    assert list(prove(group(*PIECES, *other), md5=True)) == [PIECES_PROVEN, proven("q", b"12", b"34", b"6")]


WRONG = {
    "the bytes": {"content": memoryview(b"X")},
    "the length of the bytes": {"content": memoryview(b"11")},
    "the sha256": {"sha256": sha256(b"another")},
    "the size": {"size": 2},
    "no md5": {"checksum": None},
}


@BOTH
@pytest.mark.parametrize("wrong", WRONG)
def test_a_whole_result_that_is_not_what_it_claims_is_named_and_those_before_it_are_proven(hashed: bool, wrong: str) -> None:
    row = WHOLE[0]._replace(result_id="wrong", **WRONG[wrong])
    fails(
        group(WHOLE[2], row, WHOLE[1]),
        match="the bytes of result 'wrong' are not those that were proven",
        before=(WHOLE_PROVEN[2],),
        md5=hashed,
    )


@BOTH
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_content_in_chunks_that_is_not_what_it_claims_is_named(hashed: bool, wrong: str, place: int) -> None:
    rows = list(PIECES)
    if "content" in WRONG[wrong]:
        rows[place] = rows[place]._replace(**WRONG[wrong])
    else:
        rows = [row._replace(**WRONG[wrong]) for row in rows]
    fails(group(*rows), match="the bytes of result 'p' are not those that were proven", md5=hashed)


def test_the_md5_is_hashed_where_it_is_asked_for_and_else_taken_as_claimed() -> None:
    for rows in ([WHOLE[0]], PIECES):
        false = [row._replace(checksum=EMPTY_MD5) for row in rows]
        name, size = rows[0].result_id, rows[0].size
        assert list(prove(group(*false))) == [(name, Proven(EMPTY_MD5, size))]
        fails(group(*false), match=f"the bytes of result '{name}' are not those that were proven", md5=True)


def md5s_of(*rows: StoredChunk) -> dict[str, str]:
    return {row.sha256: row.checksum for row in rows}


def test_an_md5_is_bound_to_the_bytes_by_the_sha256_that_was_taken_with_it() -> None:
    rows = [*WHOLE, *PIECES]
    assert list(prove(group(*rows), md5s=md5s_of(*rows))) == [*WHOLE_PROVEN, PIECES_PROVEN]
    assert list(prove(group(*WHOLE), md5s=md5s_of(*WHOLE))) == WHOLE_PROVEN


@pytest.mark.parametrize("rows", [WHOLE, PIECES])
@pytest.mark.parametrize("false", [EMPTY_MD5[::-1], None])
def test_an_md5_that_was_not_taken_with_its_sha256_is_named(rows: list[StoredChunk], false: str | None) -> None:
    """Before a row of that group is proven."""
    wrong = [*rows[:-1], rows[-1]._replace(checksum=false)]
    name = rows[-1].result_id
    match = f"result '{name}' does not have the md5 that was proven with its bytes"
    fails(group(*wrong), match=match, md5s=md5s_of(*rows))
    fails(group(*rows), match=f"result '{rows[0].result_id}' does not .*", md5s={})


def test_an_md5_that_is_missing_on_both_sides_is_not_proven() -> None:
    wrong = [WHOLE[0], WHOLE[2]._replace(checksum=None)]
    match = "result 'c' does not have the md5 that was proven with its bytes"
    fails(group(*wrong), match=match, md5s=md5s_of(WHOLE[0]))


@BOTH
def test_chunks_that_are_out_of_place_prove_nothing(hashed: bool) -> None:
    first, second, last = PIECES
    other = chunks_of("q", b"12", b"34", b"5")
    for rows, place, name in (
        ([second, last], 1, "p"),
        ([first, last], 2, "p"),
        ([first, first, second, last], 0, "p"),
        ([first, second, second], 1, "p"),
        ([first, second, WHOLE[0]], 0, "a"),
        ([first, other[1], last], 1, "q"),
        ([first, second._replace(checksum=EMPTY_MD5), last], 1, "p"),
        ([first, second._replace(sha256=EMPTY_SHA256), last], 1, "p"),
        ([first, second._replace(size=6), last], 1, "p"),
        ([first, second._replace(chunk_count=4), last], 1, "p"),
        ([last._replace(chunk_index=-1)], -1, "p"),
        ([WHOLE[0]._replace(chunk_index=1)], 1, "a"),
    ):
        match = f"chunk {place} of result '{name}' is out of place"
        fails(group(*rows), match=match, md5=hashed)
        fails(*(group(row) for row in rows), match=match, md5=hashed)


def test_a_whole_result_in_the_midst_of_another_ones_chunks_is_out_of_place() -> None:
    """Also where it fills a group by itself, and is what it claims to be."""
    fails(group(PIECES[0]), group(WHOLE[0]), match="chunk 0 of result 'a' is out of place")


@pytest.mark.parametrize("rows", [PIECES[:1], PIECES[:2]])
def test_chunks_that_are_missing_at_the_end_prove_nothing(rows: list[StoredChunk]) -> None:
    match = "the last chunks of result 'p' are missing"
    fails(group(*rows), match=match)
    fails(group(*WHOLE), group(*rows), match=match, before=tuple(WHOLE_PROVEN))


def test_a_count_that_no_index_reaches_never_ends() -> None:
    fails(group(WHOLE[0]._replace(chunk_count=0)), match="the last chunks of result 'a' are missing")
