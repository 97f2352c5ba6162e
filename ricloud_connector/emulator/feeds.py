"""The JSON documents of data feeds: messages, calls, contacts, locations. Pure.

A document is a template, made once per process, in which a token and a day are put in place: records are unique
to their result, and 100,000 results are described in seconds.
"""

import json
import random
from collections.abc import Callable
from functools import cache

VARIANTS = 32
_TOKEN = "@token@"  # noqa: S105 a placeholder
_DAY = "@day@"

_PEOPLE = (
    ("Amina", "Okafor"),
    ("Björn", "Sørensen"),
    ("Chloé", "Lefèvre"),
    ("Dmitri", "Волков"),
    ("Eve", "O'Neill"),
    ("Fatima", "الحسن"),
    ("Grace", "Hopper"),
    ("Haruto", "佐藤"),
    ("Ines", "Gonçalves"),
    ("Jan", "de Vries"),
)
_TEXTS = (
    "On my way 🚗",
    "Did you see the photos from Größe & Söhne?",
    'She said "never again", then laughed.',
    "ok",
    "Meet at 7?\nBring the tickets.",
    "お疲れさまです 🍣",
    "مرحبا، كيف حالك؟",
    "👩‍👩‍👧‍👦 family dinner on Sunday",
    "The invoice is 1,250.00 € — please check <b>line 3</b>.",
    "C:\\Users\\eve\\Desktop\\notes.txt",
    "",
)
_PLACES = (("London", 51.5072, -0.1276), ("München", 48.1372, 11.5756), ("東京", 35.6764, 139.65))


def make_feed(identifier: str, variant: int, token: str, day: str) -> bytes:
    """A document `{"data": [...], "metadata": {"count": n}}` of some hundreds of bytes to some tens of kB.

    `day` is the UTC day (`2026-11-20`) its records are of, `token` becomes part of their ids.
    """
    return _make_template(identifier, variant % VARIANTS).replace(_TOKEN, token).replace(_DAY, day).encode()


@cache
def _make_template(identifier: str, variant: int) -> str:
    rng = random.Random(f"ricloud emulator {identifier} {variant}")  # noqa: S311 not a secret
    count = 1 + int(48 * (variant / VARIANTS) ** 2)
    make = FEEDS[identifier]
    records = [make(rng, number, variant) for number in range(count)]
    return json.dumps({"data": records, "metadata": {"count": count}}, ensure_ascii=False)


def _make_message(rng: random.Random, number: int, variant: int) -> dict[str, object]:
    person = _pick_person(rng)
    from_me = rng.random() < 0.5
    return {
        "message_id": f"{_TOKEN}-{number:04d}",
        "conversation_id": f"chat-{rng.randrange(40)}",
        "type": rng.choice(("iMessage", "SMS")),
        "from_me": from_me,
        "contact": person,
        "text": rng.choice(_TEXTS),
        "date_sent": _pick_moment(rng),
        "date_read": None if rng.random() < 0.3 else _pick_moment(rng),
        "attachments": [_make_attachment(rng, number, part, variant) for part in range(rng.choice((0, 0, 0, 1, 2)))],
        "is_deleted": rng.random() < 0.05,
    }


def _make_attachment(rng: random.Random, number: int, part: int, variant: int) -> dict[str, object]:
    extension, mime_type = rng.choice((("jpg", "image/jpeg"), ("png", "image/png"), ("mov", "video/quicktime")))
    file_id = f"{_TOKEN}-{number:04d}-{part}"
    # Releases of the API differ in these two names; a reader has to bear both.
    names = ("id", "data_type") if variant % 8 == 7 else ("file_id", "type")
    return {
        names[0]: file_id,
        names[1]: "attachment",
        "name": f"IMG_{rng.randrange(10_000):04d}.{extension.upper()}",
        "extension": extension,
        "mime_type": mime_type,
        "size": rng.randrange(10_000, 5_000_000),
        "checksum": f"{rng.getrandbits(128):032x}",
    }


def _make_call(rng: random.Random, number: int, variant: int) -> dict[str, object]:
    missed = rng.random() < 0.25
    return {
        "call_id": f"{_TOKEN}-{number:04d}",
        "contact": _pick_person(rng),
        "direction": rng.choice(("incoming", "outgoing")),
        "service": rng.choice(("telephony", "facetime_audio", "facetime_video")),
        "date_started": _pick_moment(rng),
        "duration": None if missed else round(rng.uniform(1, 3600), 1 if variant % 2 else None),
        "missed": missed,
        "location": rng.choice((None, "United Kingdom", "Deutschland")),
    }


def _make_contact(rng: random.Random, number: int, _variant: int) -> dict[str, object]:
    person = _pick_person(rng)
    return {
        "contact_id": f"{_TOKEN}-{number:04d}",
        **person,
        "company": rng.choice((None, "Analytical Engines Ltd", "Société Générale d'Exemples")),
        "phones": [{"label": rng.choice(("mobile", "home", "work")), "value": person["phone"]}],
        "emails": [{"label": "home", "value": f"person{rng.randrange(1000)}@example.com"}][: rng.choice((0, 1, 1))],
        "addresses": [
            {"label": "home", "street": f"{rng.randrange(1, 200)} Example Street", "city": rng.choice(_PLACES)[0]}
            for _ in range(rng.choice((0, 1, 2)))
        ],
        "birthday": None if rng.random() < 0.6 else f"19{rng.randrange(50, 99)}-0{rng.randrange(1, 9)}-11",
        "date_modified": _pick_moment(rng),
    }


def _make_location(rng: random.Random, number: int, _variant: int) -> dict[str, object]:
    city, latitude, longitude = rng.choice(_PLACES)
    return {
        "location_id": f"{_TOKEN}-{number:04d}",
        "date": _pick_moment(rng),
        "coordinates": {
            "latitude": round(latitude + rng.uniform(-0.05, 0.05), 6),
            "longitude": round(longitude + rng.uniform(-0.05, 0.05), 6),
            "altitude": rng.choice((None, 12, 35.5)),
            "accuracy": rng.choice((5, 10, 65)),
        },
        "place": {"city": city, "country_code": None},
        "source": rng.choice(("gps", "wifi", "cell")),
    }


def _pick_person(rng: random.Random) -> dict[str, object]:
    first, last = rng.choice(_PEOPLE)
    # Ofcom keeps this range of numbers for fiction.
    return {"first_name": first, "last_name": last, "phone": f"+447700900{rng.randrange(1000):03d}"}


def _pick_moment(rng: random.Random) -> str:
    return f"{_DAY}T{rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}Z"


FEEDS: dict[str, Callable[[random.Random, int, int], dict[str, object]]] = {
    "ios_messages.messages": _make_message,
    "ios_call_history.calls": _make_call,
    "ios_contacts.contacts": _make_contact,
    "ios_locations.locations": _make_location,
}
