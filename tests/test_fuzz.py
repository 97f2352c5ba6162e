"""The run over bad inputs: it finds what is there to be found, and finds nothing in us."""

import pytest

from tests.fuzz import Target, Wrong, fuzz, targets


def read_planted(body: bytes) -> None:
    """Wrong for three bytes that nobody guesses at once, but one after the other, each being a branch of its own."""
    if body[:1] != b"k":
        return
    if body[1:2] != b"\x07":
        return
    if body[2:3] == b"\xf1":
        raise Wrong("planted")


def test_it_finds_by_branches_what_chance_alone_would_not():
    planted = Target("planted", read_planted, [b"..."])
    (finding,) = fuzz([planted], inputs=100_000, seconds=60, seed=5, traced=1).values()
    assert finding.body[:3] == b"k\x07\xf1"
    assert len(planted.corpus) >= 3


def test_a_finding_is_any_error_that_is_not_foreseen():
    found = fuzz([Target("broken", lambda body: body.decode("ascii"), [b"a"])], inputs=500, seconds=60, seed=1)
    assert {finding.what.partition(":")[0] for finding in found.values()} == {"UnicodeDecodeError"}


@pytest.mark.parametrize("inputs", [4_000, pytest.param(150_000, marks=pytest.mark.ci)])
def test_nothing_that_reads_what_others_wrote_raises_or_shows_a_secret(inputs):
    found = targets()
    findings = fuzz(found, inputs=inputs, seconds=100, seed=inputs)
    assert list(findings.values()) == []
    assert all(len(target.branches) > 10 for target in found)
