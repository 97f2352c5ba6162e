"""What the emulator publishes: the promises of its data, and that images and documents are real ones."""

import hashlib
import io
import json
import struct
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest
from PIL import Image

from ricloud_connector.emulator import Emulator, PublishedResult
from ricloud_connector.emulator.data import LARGE_BYTES, make_drafts
from ricloud_connector.emulator.feeds import FEEDS, VARIANTS, make_feed
from ricloud_connector.emulator.media import JPEG_VARIANTS, PNG_VARIANTS, make_jpeg, make_mp4, make_png
from ricloud_connector.emulator.model import Draft

TODAY = date(2026, 11, 20)
DAYS = [TODAY - timedelta(days=back) for back in (2, 1, 0)]
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
Item = dict[str, object]


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(results=600, days=3, large_bytes=5_000_000) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def items(emulator: Emulator) -> list[Item]:
    """Every available result as listed, newest first."""
    headers = {"Authorization": f"Token {emulator.token}"}
    response = httpx.get(f"{emulator.url}/results?limit=1000", headers=headers, trust_env=False)
    data: list[Item] = response.json()["data"]
    return data


@pytest.fixture(scope="module")
def available(emulator: Emulator) -> list[PublishedResult]:
    return [result for result in emulator.results() if result.state == "available"]


def draft(count: int, seed: int = 0, now: datetime = NOON, large_bytes: int | None = None) -> list[Draft]:
    return make_drafts(results=count, days=DAYS, seed=seed, now=now, large_bytes=large_bytes)


def facts_of(drafts: list[Draft]) -> list[tuple[object, ...]]:
    return [(d.id, d.identifier, d.checksum, d.size, d.date_created, d.state, d.signed, dict(d.fields)) for d in drafts]


def test_same_seed_gives_the_same_data() -> None:
    assert facts_of(draft(120)) == facts_of(draft(120))
    assert facts_of(draft(120)) != facts_of(draft(120, seed=1))
    later = draft(120, now=NOON + timedelta(hours=5))
    assert [(d.id, d.checksum) for d in draft(120)] == [(d.id, d.checksum) for d in later]
    assert {d.date_created for d in draft(120) if d.created.date() != TODAY} == {
        d.date_created for d in later if d.created.date() != TODAY
    }


@pytest.mark.parametrize("count", [0, 1, 9, 10, 49, 50, 100, 600])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_promises_hold_for_any_number(count: int, seed: int) -> None:
    drafts = draft(count, seed, large_bytes=100_000)
    states = Counter(d.state for d in drafts)
    others = max(3, count // 10) if count else 0
    assert states == Counter(available=count, consumed=others, expired=others)
    assert len({str(d.id) for d in drafts}) == len(drafts)
    assert all(d.created <= NOON and d.created.date() in DAYS for d in drafts)
    assert drafts == sorted(drafts, key=lambda d: d.created)
    open_ = [d for d in reversed(drafts) if d.state == "available"]
    assert [d.created.date() for d in open_].count(TODAY) >= count // 3 - max(3, others)
    assert sum(d.checksum != d.content.md5 for d in drafts) == (count >= 10)
    assert sum(d.checksum != d.content.md5 for d in open_) == (count >= 10)
    assert sum(d.size == 0 for d in open_) == (count >= 10)
    assert sum(len(str(d.id)) == 30 for d in open_) == (count >= 10)
    assert sum(d.size == 100_000 for d in open_) == (count >= 100)
    unsigned = [index for index, d in enumerate(open_) if not d.signed]
    assert len(unsigned) == (2 if count >= 50 else 0)
    assert all(index >= 40 for index in unsigned)
    assert all(d.size == d.content.size for d in drafts)


def test_days_end_today_and_no_result_is_of_the_future(emulator: Emulator, available: list[PublishedResult]) -> None:
    now = datetime.now(UTC)
    assert len(emulator.days) == 3
    assert (now.date() - emulator.days[-1]).days in (0, 1)
    assert all(result.date_created <= now for result in available)
    by_day = Counter(result.date_created.date() for result in available)
    assert sorted(by_day) == emulator.days
    assert all(count >= 150 for count in by_day.values())


def test_listing_has_all_kinds_of_oddities(items: list[Item]) -> None:
    assert len(items) == 600
    types = Counter(item["type"] for item in items)
    assert types.keys() == {"json", "jpg", "png", "mp4", "txt", None}
    assert types["json"] > 300
    assert sum(item["poll"] is None for item in items) > 30
    assert sum(item["task"] is None for item in items) > 30
    numbers = [item["id"] for item in items if isinstance(item["id"], int)]
    assert 90 <= len(numbers) <= 150
    assert sum(number > 2**64 for number in numbers) == 1
    known = {
        *("id", "resource", "organisation", "poll", "task", "identifier", "url", "type", "checksum", "size"),
        *("signed_url", "state", "date_created", "date_consumed", "date_deleted"),
    }
    assert {name for item in items for name in item.keys() - known} == {"retention_days", "device", "region", "labels"}
    dates = Counter(item["date_created"] for item in items)
    assert sum(count > 1 for count in dates.values()) > 20
    assert all(len(str(moment)) == len("2026-11-20T10:15:30.123456Z") for moment in dates)
    assert len({item["organisation"] for item in items}) == 1


def test_identifiers_are_paths_as_phones_have_them(available: list[PublishedResult]) -> None:
    identifiers = " ".join(result.identifier for result in available)
    assert "CameraRollDomain/Media/DCIM/100APPLE/IMG_0" in identifiers
    for mark in "東 \"'%+?#&☕":
        assert mark in identifiers
    assert identifiers.count("ios_") > 300


def test_every_content_is_what_its_facts_say(emulator: Emulator, items: list[Item]) -> None:
    facts = {result.id: result for result in emulator.results()}
    wrong = 0
    with httpx.Client(trust_env=False) as client:
        for item in items:
            fact = facts[str(item["id"])]
            signed = item["signed_url"]
            assert (signed is not None) == fact.signed
            if not isinstance(signed, dict):
                content = fact.path.read_bytes()
            else:
                content = client.get(signed["url"]).raise_for_status().content
            assert hashlib.md5(content, usedforsecurity=False).hexdigest() == fact.md5
            assert len(content) == fact.byte_size == item["size"]
            wrong += fact.md5 != item["checksum"]
    assert wrong == 1


def test_contents_decode(available: list[PublishedResult]) -> None:
    sizes: dict[str | None, list[int]] = {}
    for result in available:
        content = result.path.read_bytes()
        sizes.setdefault(result.type, []).append(len(content))
        if result.type == "json":
            document = json.loads(content)
            assert document.keys() == {"data", "metadata"}
            assert document["metadata"] == {"count": len(document["data"])}
        elif result.type in ("jpg", "png"):
            check_image(content, "JPEG" if result.type == "jpg" else "PNG")
        elif result.type == "mp4":
            assert check_boxes(content) == ["ftyp", "mdat"]
    assert min(sizes["json"]) < 600
    assert 15_000 < max(sizes["json"]) < 60_000
    assert sizes["txt"] == [0]
    assert max(sizes["mp4"]) == 5_000_000


def check_image(content: bytes, form: str) -> None:
    with Image.open(io.BytesIO(content)) as image:
        image.verify()
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert image.format == form
        assert image.mode == "RGB"
        assert image.width >= 48
        assert "progressive" not in image.info
        assert len(set(image.resize((8, 8)).get_flattened_data())) > 8


def check_boxes(content: bytes) -> list[str]:
    names, place = [], 0
    while place < len(content):
        size, name = struct.unpack_from(">I4s", content, place)
        if size == 1:
            (size,) = struct.unpack_from(">Q", content, place + 8)
        names.append(name.decode())
        place += size
    assert place == len(content)
    return names


def test_every_image_is_unique_and_decodes() -> None:
    for make, count, form in ((make_jpeg, JPEG_VARIANTS, "JPEG"), (make_png, PNG_VARIANTS, "PNG")):
        images = {make(variant, token) for variant in range(count) for token in ("0123456789abcdef", "f" * 16)}
        assert len(images) == 2 * count
        for image in images:
            check_image(image, form)


@pytest.mark.parametrize("size", [64, 1000, 2**20, 2**20 + 1, 3 * 2**20 + 77])
def test_video_has_exactly_its_size(size: int) -> None:
    video = make_mp4(size, "0123456789abcdef")
    assert len(video) == size
    assert check_boxes(video) == ["ftyp", "mdat"]


def test_feeds_nest_and_differ_between_releases() -> None:
    names: set[str] = set()
    for feed in FEEDS:
        for variant in range(VARIANTS):
            document = json.loads(make_feed(feed, variant, "0123456789abcdef", "2026-11-20"))
            assert document["data"]
            ids = {record[next(name for name in record if name.endswith("_id"))] for record in document["data"]}
            assert len(ids) == len(document["data"])
            assert all(str(id).startswith("0123456789abcdef-") for id in ids)
            assert "@" not in json.dumps([r for r in document["data"] if "emails" not in r])
            for record in document["data"]:
                for attachment in record.get("attachments", ()):
                    names |= attachment.keys()
    assert {"id", "file_id", "type", "data_type", "name", "extension", "mime_type", "size", "checksum"} == names


def test_large_content_is_64_mib_unless_told_otherwise() -> None:
    assert LARGE_BYTES == 64 * 1024 * 1024
    drafts = make_drafts(results=100, days=DAYS, seed=0, now=NOON)
    (large,) = [d for d in drafts if d.size == LARGE_BYTES]
    assert large.identifier.endswith(".MP4")
    assert max(d.size for d in draft(100, large_bytes=None)) < 100_000
    with pytest.raises(ValueError, match="large_bytes"):
        draft(100, large_bytes=10)
