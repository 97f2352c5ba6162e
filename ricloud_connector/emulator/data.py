"""What the emulated organisation has published: results and their contents, the same for the same seed. Pure.

Beside the available results there are consumed and expired ones, a tenth of their number each, three at least.
With 10 results or more, exactly one has a wrong checksum, one is empty, and one has an id of 30 digits; with 50
or more, two have no signed URL, and neither is among the newest 40; with 100 or more, one is large.

Only the times of today depend on the present moment: they are spread over what has passed of the day.
"""

import hashlib
import random
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import BinaryIO

from ricloud_connector.emulator.feeds import VARIANTS, make_feed
from ricloud_connector.emulator.media import iterate_mp4, make_jpeg, make_mp4, make_noise, make_png
from ricloud_connector.emulator.model import NOTHING, Content, Draft, Id, State, format_moment

ORGANISATION = "5b7d3a6ce1f04c2f9a3e8d10"
LARGE_BYTES = 64 * 1024 * 1024
MIN_LARGE_BYTES = 4096

# How often each comes up among twenty results.
_KINDS = (
    *("ios_messages.messages",) * 7,
    *("ios_call_history.calls",) * 2,
    *("ios_contacts.contacts",) * 1,
    *("ios_locations.locations",) * 2,
    *("jpg",) * 4,
    *("png",) * 2,
    *("mp4",) * 1,
    *("unknown",) * 1,
)
_PATHS = {
    "jpg": (
        "CameraRollDomain/Media/DCIM/{folder}APPLE/IMG_{number:04d}.JPG",
        "CameraRollDomain/Media/DCIM/{folder}APPLE/IMG_{number:04d}.JPG",
        "CameraRollDomain/Media/PhotoData/Größe & Söhne/Фото 東京 {number} ☕.jpg",
        'MediaDomain/Media/It\'s "here" 100%/a+b=c? #{number}.jpg',
    ),
    "png": (
        "HomeDomain/Library/SMS/Attachments/{folder}/Screenshot {number:04d} at 10.15.30.png",
        "CameraRollDomain/Media/DCIM/{folder}APPLE/IMG_{number:04d}.PNG",
    ),
    "mp4": ("CameraRollDomain/Media/DCIM/{folder}APPLE/IMG_{number:04d}.MP4",),
    "unknown": (
        "HomeDomain/Library/Preferences/com.example.app{number}",
        "AppDomain/Documents/キャッシュ/{number}.db-wal",
    ),
}
_EXTRA: tuple[dict[str, object], ...] = (
    {"retention_days": 30},
    {"device": {"model": "iPhone14,5", "os_version": "17.6.1", "name": "Eve's iPhone"}},
    {"region": "eu-west-1", "labels": ["backup", "2026"]},
)


@dataclass(slots=True)
class _Slot:
    """A result before it has contents: when, in which state, of which kind, in which role."""

    created: datetime
    state: State
    kind: str = ""
    role: str = ""


def make_drafts(
    *, results: int, days: Sequence[date], seed: int, now: datetime, large_bytes: int | None = LARGE_BYTES
) -> list[Draft]:
    """So many available results and some of other states, in the order of their publication.

    Raises: ValueError where the large one is to be smaller than 4 KiB.
    """
    if large_bytes is not None and large_bytes < MIN_LARGE_BYTES:
        raise ValueError(f"large_bytes must be None or at least {MIN_LARGE_BYTES}, but is {large_bytes}")
    rng = random.Random(f"ricloud emulator {seed}")  # noqa: S311 not a secret
    slots = _make_slots(results, days, now, rng)
    _assign_roles([slot for slot in reversed(slots) if slot.state == "available"], large_bytes, rng)
    return [_make_draft(number, slot, now, large_bytes, rng) for number, slot in enumerate(slots)]


def make_content(data: bytes) -> Content:
    """The content of bytes at hand."""

    def write(file: BinaryIO) -> None:
        file.write(data)

    return Content(md5=digest_md5([data]), size=len(data), write=write)


def digest_md5(blocks: Iterable[bytes]) -> str:
    """The md5 in hex, as the API states it."""
    digest = hashlib.md5(usedforsecurity=False)
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def _make_slots(results: int, days: Sequence[date], now: datetime, rng: random.Random) -> list[_Slot]:
    others = max(3, results // 10) if results else 0
    counts: dict[State, int] = {"available": results, "consumed": others, "expired": others}
    states = [state for state, count in counts.items() for _ in range(count)]
    rng.shuffle(states)
    per_day = -(-len(states) // len(days))
    slots = [
        _Slot(_make_moment(days[number % len(days)], number // len(days), per_day, now), state)
        for number, state in enumerate(states)
    ]
    slots.sort(key=lambda slot: slot.created)
    for group in ([s for s in slots if s.state == "available"], [s for s in slots if s.state != "available"]):
        kinds = [_KINDS[number % len(_KINDS)] for number in range(len(group))]
        rng.shuffle(kinds)
        for slot, kind in zip(group, kinds, strict=True):
            slot.kind = kind
    return slots


def _make_moment(day: date, number: int, per_day: int, now: datetime) -> datetime:
    """When the day's result of that number was created: spread evenly, every fourth three at the same microsecond."""
    if number // 3 % 4 == 0:
        number -= number % 3
    midnight = datetime.combine(day, time(), UTC)
    passed = now - midnight if day == now.date() else timedelta(days=1)
    # A stride of its own keeps the microseconds from looking alike.
    return midnight + passed * ((number + (number * 7919 % 1000) / 1001) / per_day)


def _assign_roles(newest_first: Sequence[_Slot], large_bytes: int | None, rng: random.Random) -> None:
    count = len(newest_first)
    roles = ["wrong_checksum", "empty", "long_id"] if count >= 10 else []
    if count >= 100 and large_bytes is not None:
        roles.append("large")
    places = rng.sample(range(40, count), 2) if count >= 50 else []
    for place in places:
        newest_first[place].role = "unsigned"
    free = [slot for slot in newest_first if not slot.role]
    for role, slot in zip(roles, rng.sample(free, len(roles)), strict=True):
        slot.role = role


def _make_draft(number: int, slot: _Slot, now: datetime, large_bytes: int | None, rng: random.Random) -> Draft:
    bits = rng.getrandbits(128)
    identifier, file_type, content = _make_contents(number, slot, large_bytes, f"{bits >> 64:016x}", rng)
    checksum = digest_md5([b"other bytes"]) if slot.role == "wrong_checksum" else content.md5
    later = min(now, slot.created + timedelta(hours=1))
    return Draft(
        id=_make_id(number, slot, bits),
        identifier=identifier,
        type=file_type,
        organisation=ORGANISATION,
        poll=None if number % 9 == 4 else 7000 + slot.created.toordinal() % 1000 * 4 + slot.created.hour // 6,
        task=None if number % 7 == 2 else f"{bits % 2**64:016x}",
        content=content,
        checksum=checksum,
        size=content.size,
        created=slot.created,
        date_created=format_moment(slot.created),
        state=slot.state,
        date_consumed=later if slot.state == "consumed" else None,
        date_deleted=later if slot.state == "expired" else None,
        signed=slot.role != "unsigned",
        fields=_EXTRA[number // 6 % len(_EXTRA)] if number % 6 == 1 else NOTHING,
    )


def _make_id(number: int, slot: _Slot, bits: int) -> Id:
    """Mostly strings; one in five an integer, and one of those longer than any machine's integer."""
    if slot.role == "long_id":
        return 10**29 + bits % 10**29
    if number % 5 == 3:
        return 4_000_000_000 + number
    if number % 2:
        return str(uuid.UUID(int=bits, version=4))
    return f"{bits:032x}"[:24]


def _make_contents(
    number: int, slot: _Slot, large_bytes: int | None, token: str, rng: random.Random
) -> tuple[str, str | None, Content]:
    if slot.role == "large" and large_bytes is not None:
        return "CameraRollDomain/Media/DCIM/199APPLE/IMG_9999.MP4", "mp4", _make_large(large_bytes, token)
    if slot.role == "empty":
        return "HomeDomain/Library/Notes/empty note.txt", "txt", make_content(b"")
    variant = rng.randrange(VARIANTS)
    make = _choose_maker(slot, variant, token)
    data = make()

    def write(file: BinaryIO) -> None:
        # Made again when asked for: 100,000 contents in memory would be half a gigabyte.
        file.write(make())

    content = Content(md5=digest_md5([data]), size=len(data), write=write)
    paths = _PATHS.get(slot.kind)
    if paths is None:
        return slot.kind, "json", content
    path = paths[variant % len(paths)].format(folder=100 + number // 1000 % 900, number=number % 10_000)
    return path, None if slot.kind == "unknown" else slot.kind, content


def _choose_maker(slot: _Slot, variant: int, token: str) -> Callable[[], bytes]:
    if slot.kind == "jpg":
        return lambda: make_jpeg(variant, token)
    if slot.kind == "png":
        return lambda: make_png(variant, token)
    if slot.kind == "mp4":
        return lambda: make_mp4(2_000 + variant * 900, token)
    if slot.kind == "unknown":
        return lambda: b"bplist00" + token.encode() + make_noise()[: 200 + variant * 150]
    day = f"{slot.created:%Y-%m-%d}"
    return lambda: make_feed(slot.kind, variant, token, day)


def _make_large(size: int, token: str) -> Content:
    def write(file: BinaryIO) -> None:
        file.writelines(iterate_mp4(size, token))

    return Content(md5=digest_md5(iterate_mp4(size, token)), size=size, write=write)
