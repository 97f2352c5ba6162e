"""The protocol as bytes in and facts or typed errors out: what a server may send, and what is made of it. Pure."""

import json
import math
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ricloud_connector import item as item_module
from ricloud_connector.errors import (
    ApiError,
    ApiRefused,
    ApiUnavailable,
    FilterRefused,
    TokenRefused,
    UntrustedAnswer,
)
from ricloud_connector.headers import MAX_RETRY_AFTER_S, retry_after_s
from ricloud_connector.item import JsonReader, parse_item
from ricloud_connector.listed import Listed
from ricloud_connector.model import Rejection, Result, Window, id_of
from ricloud_connector.quick_page import read_quickly
from ricloud_connector.redact import Secret
from ricloud_connector.wire import (
    Page,
    acknowledge_request,
    list_request,
    parse_acknowledgement,
    parse_page,
    parse_page_with_care,
    parse_result,
    retrieve_request,
)

TOKEN = Secret("canary/tok+en==")
MD5 = "0123456789abcdef0123456789abcdef"
DATE = "2026-11-20T10:15:30.123456Z"
MOMENT = datetime(2026, 11, 20, 10, 15, 30, 123456, tzinfo=UTC)
SIGNED = "https://bucket.example/key?X-Amz-Signature=cafe1234"


def make_item(**fields: object) -> dict[str, object]:
    """What the API documents of a result; a field set to `...` is left out."""
    facts: dict[str, object] = {
        "id": "5f0c",
        "resource": "result",
        "organisation": "org",
        "poll": "p1",
        "task": None,
        "identifier": "ios_messages.messages",
        "url": "s3://bucket/key",
        "type": "json",
        "checksum": MD5,
        "size": 12,
        "signed_url": {"url": SIGNED, "date_expires": "2026-11-20T11:15:30Z"},
        "state": "available",
        "date_created": DATE,
        "date_consumed": None,
        "date_deleted": None,
    }
    return {name: value for name, value in (facts | fields).items() if value is not ...}


def page_of(*items: object, has_more: object = False) -> Page:
    return parse_raw(json.dumps({"data": items, "has_more": has_more}).encode())


def parse_raw(body: bytes) -> Page:
    return parse_page(200, {"content-type": "application/json"}, body, TOKEN)


def one(**fields: object) -> Result | Rejection:
    """What comes of one item, which stands in a page beside a good one that must not be harmed by it."""
    return beside_a_good_one(page_of(make_item(**fields), make_item(id="good")))


def one_result(**fields: object) -> Result:
    found = one(**fields)
    assert isinstance(found, Result)
    return found


def one_raw(text: str) -> Result | Rejection:
    """What comes of an item given as JSON text, which stands beside a good one."""
    return beside_a_good_one(parse_raw(f'{{"data": [{text}, {json.dumps(make_item(id="good"))}], "has_more": false}}'.encode()))


def beside_a_good_one(page: Page) -> Result | Rejection:
    """The first item; the other is whole."""
    (good,) = [item for item in page.items if isinstance(item, Result) and item.id == "good"]
    assert good.size == make_item()["size"]
    (other,) = [item for item in page.items if item is not good and item != good]
    return other


def assert_hides(error: ApiError, *secrets: str) -> None:
    """The text alone: that the frames below are hidden too is the client's doing (`test_client.py`)."""
    for secret in secrets:
        assert secret not in f"{error} {error!r} {vars(error)}"


def error_of(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse_page(status, headers or {}, body, TOKEN)
    return caught.value


# -- requests


def test_a_listing_asks_for_a_state_and_a_half_open_window():
    window = Window(datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC))
    assert dict(list_request(window, "available", None).params) == {
        "limit": "1000",
        "state": "available",
        "date_created__gte": "2026-11-20T00:00:00Z",
        "date_created__lt": "2026-11-21T00:00:00Z",
    }
    asked = dict(list_request(window, "consumed", "a&b=c", date_filter=None, filters={"poll": "p"}).params)
    assert asked == {"limit": "1000", "state": "consumed", "poll": "p", "after_id": "a&b=c"}


def test_fault_047_the_filter_is_widened_to_whole_seconds():
    start = datetime(2026, 11, 20, 10, 0, 0, 999_999, tzinfo=UTC)
    asked = dict(list_request(Window(start, start + timedelta(microseconds=1)), "available", None).params)
    assert asked["date_created__gte"] == "2026-11-20T10:00:00Z"
    assert asked["date_created__lt"] == "2026-11-20T10:00:01Z"
    asked = dict(list_request(Window(start, start + timedelta(microseconds=2)), "available", None).params)
    assert asked["date_created__lt"] == "2026-11-20T10:00:02Z"


@given(st.text())
def test_an_id_is_one_path_segment_or_refused(result_id):
    try:
        path = retrieve_request(result_id).path
    except ApiRefused:
        assert result_id in ("", ".", "..") or not result_id.isprintable()
        return
    empty, results, segment = path.split("/")
    assert (empty, results) == ("", "results")
    assert segment not in ("", ".", "..")
    assert segment.isascii()
    assert not set(segment) & set("?#\\ ")
    assert unquote(segment) == result_id


@pytest.mark.parametrize("result_id", ["", ".", "..", "\ud800"])
def test_an_id_that_no_path_can_carry_is_refused(result_id):
    with pytest.raises(ApiRefused):
        retrieve_request(result_id)


def test_acknowledgements_carry_ids_as_the_api_wrote_them():
    request = acknowledge_request([7, "7", 10**30])
    assert (request.method, request.path) == ("POST", "/results/ack")
    assert json.dumps(request.json) == '{"ids": [7, "7", 1000000000000000000000000000000]}'


@pytest.mark.parametrize("status", [200, 201, 202, 204])
@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b"\xff", b'{"ids": [1]}'])
def test_fault_022_the_body_of_an_acknowledgement_is_not_believed_and_not_needed(status, body):
    assert parse_acknowledgement(status, {}, body, TOKEN) is None


# -- facts


def test_a_documented_result_comes_out_typed():
    assert one_result() == Result(
        id="5f0c",
        wire_id="5f0c",
        state="available",
        date_created=MOMENT,
        checksum=MD5,
        size=12,
        identifier="ios_messages.messages",
        type="json",
        url="s3://bucket/key",
        signed_url=one_result().signed_url,
        resource="result",
        organisation="org",
        poll="p1",
    )
    signed = one_result().signed_url
    assert signed is not None
    assert (signed.url, signed.expires_at) == (SIGNED, datetime(2026, 11, 20, 11, 15, 30, tzinfo=UTC))


def test_a_page_carries_its_cursor():
    page = page_of(make_item(id=1), make_item(id="2"), has_more=True)
    assert (page.has_more, page.cursor) == (True, "2")
    assert page_of() == Page(Listed.of([]), False, None)
    assert page_of(has_more=True) == Page(Listed.of([]), True, None)


@pytest.mark.parametrize(
    ("written", "microseconds"),
    [
        ("2026-11-20T10:15:30Z", 0),
        ("2026-11-20T10:15:30", 0),
        ("2026-11-20 10:15:30z", 0),
        ("2026-11-20t10:15:30.5Z", 500_000),
        ("2026-11-20T10:15:30,25Z", 250_000),
        ("2026-11-20T10:15:30.123456789Z", 123_456),
        ("2026-11-20T12:15:30+02:00", 0),
        ("2026-11-20T05:45:30-0430", 0),
    ],
)
def test_every_way_to_write_a_moment_is_the_same_utc(written, microseconds):
    assert one_result(date_created=written).date_created == datetime(2026, 11, 20, 10, 15, 30, microseconds, tzinfo=UTC)
    assert one_result(date_created=written).date_created.tzinfo is UTC


@pytest.mark.parametrize("written", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z"])
def test_fault_049_moments_far_away_are_moments(written):
    assert one_result(date_created=written).date_created.year in (1, 1970, 9999)


@pytest.mark.parametrize(
    "written",
    [
        None,
        ...,
        "",
        "yesterday",
        "2026-11-20",
        "20261120T101530Z",
        "2026-W47-5T10:15:30Z",
        "2026-11-20T10:15Z",
        "2026-11-20T101530.5Z",
        "2026-11-20T25:00:00Z",
        "2026-13-20T10:15:30Z",
        "2026-02-30T10:15:30Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-11-20T10:15:30+99:00",
        " 2026-11-20T10:15:30Z",
        "2026-11-20T10:15:30Z\n",
        "٢٠٢٦-11-20T10:15:30Z",
        "2026-11-20T10:15:30Z" * 5000,
        True,
        {},
        [DATE],
    ],
)
def test_fault_050_a_date_that_is_none_sets_the_item_aside(written):
    found = one(date_created=written)
    assert isinstance(found, Rejection)
    assert (found.result_id, found.reason, found.date_created) == ("5f0c", "malformed", None)
    assert "date_created" in found.detail
    assert len(found.detail) < 200


@pytest.mark.parametrize("written", [1_795_000_000, 1_795_000_000_000, 1_795_000_000_000_000, 1.795e9, "1795000000"])
def test_fault_052_nobody_can_tell_seconds_from_milliseconds(written):
    assert isinstance(one(date_created=written), Rejection)


@pytest.mark.parametrize("size", [-1, "12", 1.5, 1.0, None, ..., 2**63, 10**40, True, [], math.pi])
def test_fault_160_a_size_that_is_none_is_not_made_one(size):
    found = one_result(size=size)
    assert found.size is None
    assert (found.extra is None) == (size is None or size is ...)


@pytest.mark.parametrize("size", [0, 1, 2**63 - 1])
def test_fault_160_sizes_that_fit_are_exact(size):
    assert one_result(size=size).size == size


@pytest.mark.parametrize(
    "checksum", [None, ..., "", "d41d8", MD5 + "0", "g" * 32, f'"{MD5}"', 7, [MD5], "1B2M2Y8AsgTpgAmY7PhCfg=="]
)
def test_fault_082_a_checksum_that_is_no_md5_is_none(checksum):
    assert one_result(checksum=checksum).checksum is None


def test_checksums_are_compared_in_lower_case():
    assert one_result(checksum=MD5.upper()).checksum == MD5


@pytest.mark.parametrize("state", ["available", "consumed", "expired", "AVAILABLE", "frozen", "", 3, None, [], ...])
def test_fault_161_only_available_is_available(state):
    assert (one_result(state=state).state == "available") == (state == "available")


@pytest.mark.parametrize("signed", [None, ..., "", {}, {"url": ""}, {"url": None}, {"url": 5}, [SIGNED], 7, True])
def test_a_signed_url_that_is_none_is_none(signed):
    found = one_result(signed_url=signed)
    assert found.signed_url is None
    assert found.extra is None


def test_a_signed_url_may_be_a_plain_string():
    signed = one_result(signed_url=SIGNED).signed_url
    assert signed is not None
    assert (signed.url, signed.expires_at) == (SIGNED, None)


def test_fault_162_unknown_fields_are_kept_and_capped():
    assert json.loads(one_result(extra_one={"a": [1, None]}, extra_two="x").extra or "") == {
        "extra_one": {"a": [1, None]},
        "extra_two": "x",
    }
    capped = one_result(huge="x" * 100_000).extra or ""
    assert len(capped) < 200
    assert "huge" not in json.loads(capped)


def test_fault_163_a_known_field_of_another_type_is_kept_beside_its_column():
    found = one_result(identifier={"name": "x"}, type=7, poll=False, date_deleted="soon")
    assert (found.identifier, found.type, found.poll, found.date_deleted) == (None, "7", None, None)
    assert json.loads(found.extra or "") == {"identifier": {"name": "x"}, "poll": False, "date_deleted": "soon"}


def test_fault_164_caps_hold_for_texts_and_for_many_keys():
    rejected = one(identifier="x" * 16_385)
    assert isinstance(rejected, Rejection)
    assert rejected.detail == "identifier has 16385 characters"
    assert one_result(identifier="x" * 16_384).identifier == "x" * 16_384
    many = one_result(**{f"key{number}": number for number in range(100_000)})
    assert many.extra is not None
    assert "100000 unknown fields" in many.extra


@pytest.mark.parametrize(
    "identifier",
    [
        "../../etc/x",
        "..\\",
        "/abs",
        "a\0b",
        "x" * 5000,
        "CON",
        "trailing.",
        "\u202egnp.exe\u200d",
        "<script>",
        "javascript:alert(1)",
    ],
)
def test_fault_141_and_166_an_identifier_is_text_and_nothing_else(identifier):
    assert one_result(identifier=identifier).identifier == identifier


def test_field_names_that_differ_only_in_case_do_not_meet():
    found = one_result(Id="other", ID=3)
    assert found.id == "5f0c"
    assert json.loads(found.extra or "") == {"Id": "other", "ID": 3}


# -- ids


@given(
    st.one_of(st.integers(-(10**40), 10**40), st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60))
)
@example(2**64)
@example(2**53 + 1)
@example(123_456_789_012_345_678_901_234_567_890)
@example("007")
@example("1e3")
@example("a&b=c#d?e/../%2e")
def test_fault_154_ids_are_exact(value):
    found = one_result(id=value)
    assert found.id == str(value)
    assert found.wire_id == value
    assert type(found.wire_id) is type(value)
    assert json.loads(json.dumps(acknowledge_request([found.wire_id]).json)) == {"ids": [value]}
    assert page_of(make_item(id=value), has_more=True).cursor == str(value)


@pytest.mark.parametrize(
    "value", [None, ..., "", True, 1.0, 1e300, {}, [], "a\nb", "a\0", "\x7f", "x" * 513, 10**520, "\ud800"]
)
def test_fault_035_an_unusable_id_sets_its_item_aside_and_is_no_cursor(value):
    found = one(id=value)
    assert isinstance(found, Rejection)
    assert found.reason == "malformed"
    assert len(found.result_id) < 200
    page = page_of(make_item(id="good"), make_item(id=value), has_more=True)
    assert page.cursor == "good"
    assert [type(item) for item in page.items] == [Result, Rejection]


def test_a_cursor_is_never_larger_than_an_id_may_be():
    page = page_of(make_item(id="good"), make_item(id="x" * 1_000_000), has_more=True)
    assert page.cursor == "good"


@pytest.mark.parametrize("items", [[None], ["text"], [[]], [{}], [{"id": None}], [make_item(id=1.5)], [1, {}, None]])
def test_a_page_without_any_usable_id_is_not_believed(items):
    with pytest.raises(UntrustedAnswer):
        page_of(*items)


# -- pages that cannot be believed


@pytest.mark.parametrize("document", [[], None, "text", 7, 1.5, True, [make_item()]])
def test_fault_019_a_page_is_an_object(document):
    with pytest.raises(UntrustedAnswer, match="not an object") as caught:
        parse_raw(json.dumps(document).encode())
    assert not caught.value.cut_short


@pytest.mark.parametrize("data", [..., None, {}, "x", 0, {"0": make_item()}])
def test_fault_020_data_is_a_list(data):
    document = {"has_more": False} if data is ... else {"data": data, "has_more": False}
    with pytest.raises(UntrustedAnswer, match="`data` is"):
        parse_raw(json.dumps(document).encode())


@pytest.mark.parametrize("has_more", ["true", 1, 0, None, [], {}, "", 1.0])
def test_fault_033_has_more_is_a_boolean(has_more):
    with pytest.raises(UntrustedAnswer, match="has_more"):
        page_of(make_item(), has_more=has_more)
    with pytest.raises(UntrustedAnswer, match="has_more"):
        parse_raw(b'{"data": []}')


def test_fault_007_html_is_no_answer_and_its_text_is_cut():
    body = b"<!doctype html><title>Log in</title>" + b"x" * 5000 + TOKEN.reveal().encode()
    with pytest.raises(UntrustedAnswer, match="Log in") as caught:
        parse_page(200, {"content-type": "text/html"}, body, TOKEN)
    assert not caught.value.cut_short
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("body", [b"", b"   ", b"nul", b'{"data": [', json.dumps({"data": [make_item()]}).encode()[:-40]])
def test_fault_008_and_009_an_answer_cut_short_may_be_asked_for_again_and_is_not_shown(body):
    with pytest.raises(UntrustedAnswer) as caught:
        parse_raw(body)
    assert caught.value.cut_short
    assert caught.value.retryable
    assert "bucket.example" not in str(caught.value)


@pytest.mark.parametrize("status", [201, 202, 204, 206, 304])
def test_fault_010_only_200_is_a_page(status):
    error = error_of(status, {}, json.dumps({"data": [], "has_more": False}).encode())
    assert isinstance(error, ApiRefused)
    assert error.status == status


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("depth", [300, 900, 990, 1_000, 100_000])
def test_fault_152_nesting_ends_in_a_typed_error_or_a_row(opening, depth):
    closing = "]" if opening == "[" else "}"
    deep = opening * depth + "1" + closing * depth
    item = json.dumps(make_item(id="deep"))[:-1] + f', "deep": {deep}}}'
    body = f'{{"data": [{item}, {json.dumps(make_item(id="good"))}], "has_more": false}}'.encode()
    try:
        page = parse_raw(body)
    except UntrustedAnswer:
        assert depth >= 900  # a document that the parser gives up has no items that could be told apart
    else:
        assert isinstance(beside_a_good_one(page), Result | Rejection)


def test_fault_152_what_could_be_read_but_not_written_again_is_set_aside():
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    for doubtful in (True, False):
        for name in ("unknown", "identifier"):
            found = parse_item(make_item(**{name: deep}), doubtful=doubtful)
            assert isinstance(found, Rejection)
            assert "nested too deeply" in found.detail


@pytest.mark.parametrize("name", ["size", "identifier", "unknown", "date_created"])
def test_fault_153_a_number_without_end_is_its_item_s_fault(name):
    found = one_raw(json.dumps(make_item(**{name: ...}))[:-1] + f', "{name}": {"9" * 5000}}}')
    assert isinstance(found, Rejection)
    assert found.result_id == "5f0c"


@pytest.mark.parametrize("written", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("name", ["size", "identifier", "unknown"])
def test_fault_156_numbers_that_are_none_are_their_item_s_fault(written, name):
    found = one_raw(json.dumps(make_item(**{name: ...}))[:-1] + f', "{name}": {written}}}')
    assert isinstance(found, Rejection)
    nested = one_raw(json.dumps(make_item())[:-1] + f', "deep": {{"a": [1, {written}]}}}}')
    assert isinstance(nested, Rejection)


@pytest.mark.parametrize(
    "item",
    [
        '{"id": "x", "size": 1, "size": 2}',
        '{"id": "x", "id": "x"}',
        '{"id": "x", "deep": {"a": [{"b": 1, "b": 1}]}}',
        '{"id": "x", "signed_url": {"url": "https://a/", "url": "https://b/"}}',
        '{"id": "x", "\\u0061": 1, "a": 2}',
    ],
)
def test_fault_157_a_key_that_stands_twice_is_nobody_s_fact(item):
    found = one_raw(item[:-1] + f', "date_created": "{DATE}"}}')
    assert isinstance(found, Rejection)
    assert found.detail == "a key stands twice in one object"


def test_fault_157_a_page_with_two_lists_is_not_believed():
    with pytest.raises(UntrustedAnswer, match="key that stands twice"):
        parse_raw(b'{"data": [], "has_more": false, "data": []}')


@pytest.mark.parametrize(
    "text", ['"\\ud800"', '"\\udc00\\ud800"', '"x\\uDfFfy"', '"\\\\\\ud83d\\ude00\\ude00"', '{"\\ud800": 1}']
)
@pytest.mark.parametrize("name", ["identifier", "unknown"])
def test_fault_158_half_a_character_sets_its_item_aside(text, name):
    found = one_raw(json.dumps(make_item(**{name: ...}))[:-1] + f', "{name}": {text}}}')
    assert isinstance(found, Rejection)
    assert found.detail == "text that is not valid Unicode"


def test_fault_158_whole_characters_are_kept_however_they_are_written():
    assert one_result(identifier="\U0001f600").identifier == "\U0001f600"
    found = one_raw(json.dumps(make_item(identifier=...), ensure_ascii=False)[:-1] + ', "identifier": "\U0001f600 \\\\ud800"}')
    assert isinstance(found, Result)
    assert found.identifier == "\U0001f600 \\ud800"


def test_fault_159_bytes_that_are_no_utf8_are_one_item_s_fault():
    good, bad = json.dumps(make_item(id="good")).encode(), json.dumps(make_item(identifier="@@")).encode()
    page = parse_raw(b'{"data": [' + good + b", " + bad.replace(b"@@", b"\xff\xfe") + b'], "has_more": false}')
    assert [type(item) for item in page.items] == [Result, Rejection]


def test_fault_159_a_byte_order_mark_is_no_fault():
    assert parse_raw(b'\xef\xbb\xbf{"data": [], "has_more": false}').items == Listed.of([])


def test_a_good_page_needs_no_second_look(monkeypatch):
    monkeypatch.setattr(item_module, "_look_closely", lambda item: pytest.fail("looked"))
    assert len(page_of(make_item(id=1), make_item(id=2, identifier="naïve \\u0041")).items) == 2


# -- errors


@pytest.mark.parametrize("status", [401, 403])
def test_fault_001_a_refused_token_names_the_setting_and_not_the_token(status):
    error = error_of(status, {}, json.dumps({"error": "denied", "message": f"Bad token {TOKEN.reveal()}"}).encode())
    assert isinstance(error, TokenRefused)
    assert "RICLOUD_TOKEN" in str(error)
    assert_hides(error, TOKEN.reveal())


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 599])
def test_overload_is_worth_another_try(status):
    error = error_of(status, {"retry-after": "7"})
    assert isinstance(error, ApiUnavailable)
    assert (error.retryable, error.retry_after_s) == (True, 7.0)


@pytest.mark.parametrize("status", [400, 402, 404, 405, 410, 413, 418, 451])
def test_other_refusals_are_final(status):
    error = error_of(status, {}, b'{"error": "no", "message": "not like this", "params": {"ids": "bad"}}')
    assert type(error) is ApiRefused
    assert (error.status, error.params, error.retryable) == (status, ("ids",), False)
    assert "not like this" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        {"error": "invalid_parameter", "message": "refused", "params": {"date_created__gte": "Unknown parameter."}},
        {"error": "invalid_parameter", "message": "date_created__lt is unknown"},
    ],
)
def test_a_400_that_names_the_date_filter_is_the_filter_s(body):
    assert isinstance(error_of(400, {}, json.dumps(body).encode()), FilterRefused)
    assert not isinstance(error_of(422, {}, json.dumps(body).encode()), FilterRefused)


@pytest.mark.parametrize(
    "body",
    [
        {"error": "bad", "message": "after_id is unknown", "params": {"after_id": "No result has this id."}},
        {"error": "bad", "message": "no result before this date_created", "params": {"after_id": "unknown"}},
        {"error": "bad", "message": "no"},
    ],
)
def test_a_400_for_the_cursor_is_not_taken_for_the_filter_s(body):
    assert not isinstance(error_of(400, {}, json.dumps(body).encode()), FilterRefused)


@pytest.mark.parametrize(
    "target",
    [
        f"https://elsewhere.example/login?token={TOKEN.reveal()}",
        f"/login?next={TOKEN.reveal()}",
        "/login?signature=cafe1234",
        f"https://user:{TOKEN.reveal()}@elsewhere.example/login",
        "https://user:cafe1234@elsewhere.example/login#cafe1234",
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_fault_011_and_169_a_redirect_shows_where_it_points_without_secrets(status, target):
    error = error_of(status, {"location": target})
    assert isinstance(error, ApiRefused)
    assert "/login" in str(error)
    assert "RICLOUD_URL" in str(error)
    assert_hides(error, TOKEN.reveal(), "cafe1234")


@pytest.mark.parametrize(
    "body",
    [
        TOKEN.reveal(),
        f"<html>{TOKEN.reveal()}</html>",
        json.dumps({"error": TOKEN.reveal(), "message": TOKEN.reveal(), "params": {TOKEN.reveal(): 1}}),
        json.dumps({"message": f"see https://x.example/?sig=cafe1234 and {TOKEN.reveal()}"}),
        json.dumps({"message": "see https://x.example/?sig=cafe1234"}).replace("/", "\\/")[:-1],
        "canary%2Ftok%2Ben%3D%3D",
    ],
)
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 204])
def test_fault_169_an_echoed_token_is_not_shown(status, body):
    assert_hides(error_of(status, {}, body.encode()), TOKEN.reveal(), "cafe1234", "canary%2Ftok")


def test_fault_169_a_token_in_an_item_is_not_shown_in_its_rejection():
    found = one(date_created=TOKEN.reveal(), identifier=TOKEN.reveal())
    assert isinstance(found, Rejection)
    assert TOKEN.reveal() not in repr(found)
    assert TOKEN.reveal() not in repr(one(id=[TOKEN.reveal()]))
    assert TOKEN.reveal() not in repr(one(id=TOKEN.reveal() + "\n"))


def test_signed_urls_are_in_no_repr():
    assert "cafe1234" not in repr(one_result())
    assert "cafe1234" not in repr(page_of(make_item()))


NOW = "Fri, 20 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("2.5", 2.5),
        ("-5", 0.0),
        ("1000000000", 300.0),
        ("1" + "0" * 400, 300.0),
        ("inf", 300.0),
        ("Fri, 20 Nov 2026 10:00:42 GMT", 42.0),
        ("Fri, 20 Nov 2026 09:00:00 GMT", 0.0),
        ("Fri, 20 Nov 2126 10:00:00 GMT", 300.0),
        ("Fri, 20 Nov 2026 10:00:42 +0100", 0.0),
        ("abc", None),
        ("", None),
        ("nan", None),
        ("Fri, 99 Nov 2026 10:00:00 GMT", None),
        ("7 seconds", None),
    ],
)
def test_fault_003_and_004_retry_after(written, seconds):
    assert retry_after_s({"retry-after": written, "date": NOW}) == seconds


def test_fault_054_a_date_to_wait_for_is_taken_by_the_server_s_own_clock():
    later = {"retry-after": "Fri, 20 Nov 2026 10:00:42 GMT"}
    assert retry_after_s(later | {"date": "Fri, 20 Nov 2026 10:00:12 GMT"}) == 30.0
    assert retry_after_s(later) is None
    assert retry_after_s(later | {"date": "garbage"}) is None
    assert retry_after_s({}) is None


@given(st.text(), st.text())
@example("Mon, 1 Jan 99999999999 00:00:00", NOW)
@example("Mon, 1 Jan 2020 00:00:00 +99999999999999", NOW)
def test_any_retry_after_is_a_wait_within_bounds_or_none(value, date):
    found = retry_after_s({"retry-after": value, "date": date})
    assert found is None or 0.0 <= found <= MAX_RETRY_AFTER_S


# -- whatever comes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.sampled_from([DATE, MD5, SIGNED]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELD = st.sampled_from([*make_item(), "unknown", "data", "has_more"])
ITEM = st.builds(lambda changes: make_item(**changes), st.dictionaries(FIELD, JSON, max_size=4))
DOCUMENT = st.fixed_dictionaries({"data": st.lists(ITEM | JSON, max_size=4) | JSON, "has_more": st.booleans() | JSON})


def assert_fit_for_a_row(found: Result | Rejection) -> None:
    for value in (id_of(found), found.identifier, getattr(found, "extra", None), getattr(found, "detail", None)):
        assert value is None or value.encode() is not None
    if isinstance(found, Result):
        assert isinstance(found.wire_id, int | str)
        assert str(found.wire_id) == found.id
        assert found.date_created.tzinfo is UTC
        assert found.size is None or 0 <= found.size < 2**63
        assert found.checksum is None or len(found.checksum) == 32
        for text in (found.type, found.url, found.organisation, found.poll, found.task, found.state, found.resource):
            assert text is None or text.encode() is not None
        assert found.extra is None or isinstance(json.loads(found.extra), dict)


def assert_facts_or_errors(status: int, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    for parse in (parse_page, parse_result):
        error: ApiError | None = None
        found: Page | Result | Rejection | None = None
        try:
            found = parse(status, headers, body, TOKEN)
        except ApiError as raised:
            error = raised
        if error is not None or found is None:
            assert len(str(error)) < 2000
            continue
        assert status == 200
        if isinstance(found, Page):
            assert type(found.has_more) is bool
            assert found.cursor is None or 0 < len(found.cursor) <= 512
        for item in found.items if isinstance(found, Page) else [found]:
            assert_fit_for_a_row(item)


@settings(max_examples=200)
@given(st.sampled_from([200, 200, 200, 204, 302, 400, 401, 404, 429, 500]), st.binary(max_size=200))
def test_any_bytes_are_facts_or_a_typed_error(status, body):
    assert_facts_or_errors(status, body)


@settings(max_examples=200)
@given(DOCUMENT | JSON | ITEM)
def test_any_json_is_facts_or_a_typed_error(document):
    assert_facts_or_errors(200, json.dumps(document).encode())
    assert_facts_or_errors(400, json.dumps(document).encode())


@settings(max_examples=200)
@given(DOCUMENT, st.data())
def test_any_damage_to_a_page_is_facts_or_a_typed_error(document, data):
    body = bytearray(json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body)))
        cut = data.draw(st.integers(0, 3))
        body[start : start + cut] = data.draw(st.binary(max_size=4) | st.sampled_from([b"\\ud800", b'"', b"NaN", b"9" * 600]))
    assert_facts_or_errors(200, bytes(body))


@settings(max_examples=200)
@given(ITEM)
def test_the_second_look_changes_nothing_where_nothing_is_wrong(item):
    body = json.dumps(item).encode()
    reader = JsonReader()
    document = reader.read(body)
    if not reader.doubtful:
        try:
            quick = parse_item(document, doubtful=False)
        except UntrustedAnswer:
            return
        assert quick == parse_item(document, doubtful=True)


def test_fault_164_a_page_of_too_many_items_is_not_believed():
    with pytest.raises(UntrustedAnswer, match="a page of 100001 items; 1000 were asked for"):
        parse_page(200, {}, b'{"has_more": false, "data": [' + b"null," * 100_000 + b"null]}")


@pytest.mark.parametrize("value", [b"[],", b"{},", b"1,", b'"",'])
def test_fault_164_a_document_of_too_many_values_is_not_parsed(value):
    body = b'{"has_more": false, "data": [' + value * 2_100_000 + b"1]}"
    with pytest.raises(UntrustedAnswer, match="more than 2000000 values") as caught:
        parse_page(200, {}, body)
    assert not caught.value.cut_short


# The quick way


def parse_both_ways(body: bytes) -> tuple[Page | None, Page]:
    """A page as it is read where nothing in it is in doubt, None where something is; and as it is read otherwise."""
    quick = read_quickly(body)
    try:
        careful = parse_page_with_care(200, {}, body)
    except UntrustedAnswer:
        assert quick is None
        raise
    return None if quick is None else Page(quick.items, quick.has_more, quick.items.ids[-1]), careful


def assert_both_agree(body: bytes) -> bool:
    try:
        quick, careful = parse_both_ways(body)
    except UntrustedAnswer:
        return False
    assert quick in (None, careful)
    return quick is not None


@settings(max_examples=300)
@given(DOCUMENT, st.booleans())
def test_what_is_read_quickly_is_what_is_read_with_care(document, plain):
    assert_both_agree(json.dumps(document, ensure_ascii=plain).encode("utf-8", "surrogatepass"))


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_page_is_read_with_care_or_both_ways_alike(data):
    items = [make_item(id=f"r{number}", size=number) for number in range(3)]
    body = bytearray(json.dumps({"data": items, "has_more": False}, separators=(",", ":")).encode())
    if data.draw(st.booleans()):
        name, value = data.draw(st.sampled_from(sorted(items[0]))), data.draw(st.sampled_from(ODD_VALUES))
        items[1][name] = "@"
        body = bytearray(json.dumps({"data": items, "has_more": False}, separators=(",", ":")).replace('"@"', value).encode())
    for _ in range(data.draw(st.integers(0, 2))):
        start = data.draw(st.integers(0, len(body)))
        pieces = [b"\\ud800", b'"', b"NaN", b"9" * 30, b"1e999", b'"id":"x",', b'"a":1,', b'\\":', b" ", b"\x80", b"W", b"\n"]
        body[start : start + data.draw(st.integers(0, 3))] = data.draw(st.sampled_from(pieces) | st.binary(max_size=2))
    assert_both_agree(bytes(body))


ODD_VALUES = [
    '""',
    "null",
    "true",
    "1",
    "-1",
    "1.5",
    "1e999",
    "18446744073709551616",
    "9223372036854775808",
    "{}",
    "[]",
    '"x\\u0000"',
    '"2026-W47-5T10:00:00Z"',
    '"20261120T101530Z"',
    '"2026-11-20 10:15:30"',
    '"2026-11-20T10:15:30.123456+02:00"',
    '"2026-13-20T10:15:30Z"',
    '"2026-11-20T10:15:30z"',
    '"0001-01-01T00:00:00.000000+23:59"',
    '"2026-11-20T24:00:00.000000Z"',
    '"ABCDEFABCDEFABCDEFABCDEFABCDEF01"',
    '"abcdefabcdefabcdefabcdefabcdefg1"',
    '{"url":""}',
    '{"url":"https://x/","a":[]}',
    '{"url":"https://x/","date_expires":1}',
    '{"url":"https://x/","url":"https://y/"}',
    '"\\ud83d\\ude00"',
    '"\\ud83d"',
    '"\u2028"',
]


DATED = {"date_consumed": "2026-11-20T10:15:30Z"}


@pytest.mark.parametrize("changes", [{}, {"id": 17}, {"type": None}, {"signed_url": None}, {"signed_url": "https://x/"}, DATED])
@pytest.mark.parametrize("around", [{}, {"total_count": 3}, {"total_count": None, "url": "/results"}])
def test_ordinary_pages_are_read_quickly(changes, around):
    items = [make_item(**{"id": f"r{number}"} | changes) for number in range(3)]
    assert assert_both_agree(json.dumps({"data": items, "has_more": True} | around, separators=(",", ":")).encode())


def test_what_is_in_doubt_is_read_with_care():
    for changes in ({"new": "field"}, {"checksum": None}, {"id": True}, {"task": 3}, {"url": "é" * 9_000}, {"size": 1.0}):
        items = [make_item(), make_item(id="other") | changes]
        assert not assert_both_agree(json.dumps({"data": items, "has_more": True}).encode())
    for end in (b"\0", b"{}", b"null", b'{"data":[],"has_more":false}', b",", b"]"):
        body = json.dumps({"data": [make_item()], "has_more": True}).encode() + end
        assert not assert_both_agree(body)
    for start in (b"null", b"\xef\xbb\xbf", b"[", b"\0"):
        assert not assert_both_agree(start + json.dumps({"data": [make_item()], "has_more": True}).encode())
    assert read_quickly(b"null") is read_quickly(b"") is read_quickly(b"{") is None


def test_a_page_with_emoji_that_are_written_as_pairs_is_read_quickly():
    body = json.dumps({"data": [make_item(identifier="😀 \\ 😀", task="\u00e9")], "has_more": True}).encode()
    assert body.count(b"\\ud83d\\ude00") == 2
    assert assert_both_agree(body)
    for half in (b"\\ud83d", b"\\ude00", b"\\ude00\\ud83d", b"\\\\ud83d\\ude00", b"\\ud83d\\\\ude00"):
        assert not assert_both_agree(body.replace(b"\\ud83d\\ude00", half))


def test_a_page_with_white_space_after_its_colons_is_read_quickly():
    assert assert_both_agree(json.dumps({"data": [make_item()], "has_more": True}, indent=1).encode())
