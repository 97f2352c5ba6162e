"""What messages and logs may show of text from outside: nothing secret, nothing that moves the cursor, nothing long. Pure."""

import copy
import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ricloud_connector.redact import Secret, clean, origin_of

TOKEN = Secret("s3cr/et+tok=en")


@pytest.mark.parametrize("show", [str, repr, "{}".format, "{!r:>20}".format, lambda secret: f"{[secret]} { ({'a': secret}) }"])
def test_a_secret_shows_stars(show):
    assert "s3cr" not in show(TOKEN)
    assert "***" in show(TOKEN)
    assert TOKEN.reveal() == "s3cr/et+tok=en"


@pytest.mark.parametrize("leave", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_does_not_leave_the_process(leave):
    with pytest.raises(TypeError) as caught:
        leave(TOKEN)
    assert "s3cr" not in str(caught.value)


def test_an_empty_secret_is_none():
    assert not Secret("")
    assert TOKEN
    assert clean("text", Secret("")) == "text"


@pytest.mark.parametrize(
    "text",
    ["s3cr/et+tok=en", "Authorization: Token s3cr/et+tok=en.", "?token=s3cr%2Fet%2Btok%3Den&x=1", "x" * 190 + "s3cr/et+tok=en"],
)
def test_fault_169_a_secret_is_taken_out_however_it_is_written(text):
    shown = clean(text, TOKEN)
    assert "s3cr" not in shown
    assert "tok=en" not in shown


def test_a_secret_is_taken_out_before_the_text_is_cut():
    shown = clean("x" * 195 + "s3cr/et+tok=en", TOKEN)
    assert "s3c" not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://b.example/key?X-Amz-Signature=cafe1234", "https://b.example/key?***"),
        ("see https://b.example/key?sig=cafe1234&x=1 there", "see https://b.example/key?*** there"),
        ("https://b.example?sig=cafe1234", "https://b.example?***"),
        ("https://b.example/#cafe1234", "https://b.example/?***"),
        ("HTTPS://B.example/k?sig=cafe1234", "HTTPS://B.example/k?***"),
        ("https://b.example/k?a='b'&sig=\"cafe1234\"<cafe1234>", "https://b.example/k?***"),
        ("https:\\/\\/b.example\\/k?sig=cafe1234", "https:\\/\\/b.example\\/k?***"),
        ("https:\\/\\/b.example\\/k\\u003fsig=cafe1234\\u003f", "https:\\/\\/b.example\\/k?***"),
        ("https://b.example/k?a\0sig=cafe1234", "https://b.example/k?***"),
        ("https://b.example/k?a\u200bsig=cafe1234", "https://b.example/k?***"),
        ("https://user:cafe1234@b.example/k", "https://b.example/k"),
        ("https://user:ca@fe@cafe1234@b.example/k?cafe1234", "https://b.example/k?***"),
        ("gs://b/k?cafe1234 s3://b/k#cafe1234", "gs://b/k?*** s3://b/k?***"),
        ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxhttps://b/k?cafe1234", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxhttps://b/k?***"),
    ],
)
def test_queries_and_users_of_urls_are_taken_out(text, shown):
    assert clean(text) == shown


def test_a_url_that_is_cut_loses_its_query_all_the_same():
    for length in range(150, 2100, 7):
        shown = clean("x" * length + " https://b.example/key?sig=cafe1234" + "y" * 3000)
        assert "cafe" not in shown
        assert len(shown) <= 200


@given(
    st.text(alphabet=st.characters(exclude_characters="?#")), st.text(st.characters(exclude_categories=["Z", "Cc"]), min_size=8)
)
def test_no_query_is_shown_whatever_stands_around_it(text, query):
    assert f"zq{query}" not in clean(f"{text} https://b.example/k?zq{query} {text}", limit=10_000)


@given(st.text(), st.integers(1, 300))
def test_what_is_shown_is_one_short_line_that_can_be_written(text, limit):
    shown = clean(text, TOKEN, limit=limit)
    assert len(shown) <= limit
    assert len(shown.splitlines()) <= 1
    assert shown.encode() is not None
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in shown)


@pytest.mark.parametrize("text", ["a\r\nb", "a\x1b[31mb", "a\u202eb", "a\u2028b", "a\ud800b", "a\x9bb", "a\ufeffb"])
def test_what_moves_or_hides_text_becomes_a_space(text):
    assert clean(text) in ("a b", "a [31mb")


def test_long_text_says_that_it_was_cut():
    assert clean("x" * 300) == "x" * 199 + "…"
    assert clean("x" * 200) == "x" * 200


@pytest.mark.parametrize("text", ["a" * 10**6, "a://" * 10**5, "a://x@" * 10**5, "http://" + "a?" * 10**5, "\\" * 10**5])
def test_no_text_takes_long(text):
    started = time.perf_counter()
    clean(text, TOKEN)
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://b.example/key?sig=cafe1234", "https://b.example"),
        ("http://user:cafe1234@b.example:8080/x", "http://b.example:8080"),
        ("http://[::1]:8080/x", "http://[::1]:8080"),
        ("http://b.example:notaport/", "an unreadable URL"),
        ("http://[::1", "an unreadable URL"),
        ("", "://?"),
    ],
)
def test_the_origin_is_all_that_is_shown_of_a_signed_url(url, origin):
    assert origin_of(url) == origin
