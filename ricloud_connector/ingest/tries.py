"""When a quarantined result is tried again by runs that nobody asked for by hand. I/O: one small file a day under `control/`.

Runs launched by hand, and `ingest`, always try again. A run that the sensor asked for leaves a result alone for an hour
after its first failure, then for two, up to a day. The files may be deleted at any time: then everything is tried again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from ricloud_connector import disk
from ricloud_connector.lake import Lake
from ricloud_connector.model import Rejection, Result, id_of

FIRST_PAUSE = timedelta(hours=1)
LONGEST_PAUSE = timedelta(days=1)


class Tries:
    """The failed tries of one day's results: how many, and when the next one is due."""

    def __init__(self, lake: Lake, day: date) -> None:
        self._lake = lake
        self._path = lake.control / "tries" / f"{day.isoformat()}.json"
        self._found = self._read()

    def resting(self, result: Result | Rejection, now: datetime) -> bool:
        """Whether the result failed not long ago, with the md5 and size that are listed now."""
        found = self._found.get(_key(result))
        return found is not None and now < found[1]

    def failed(self, rejections: Iterable[Rejection], now: datetime) -> None:
        """Remember one more failed try of each."""
        for rejection in rejections:
            count = self._found.get(_key(rejection), (0, now))[0] + 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(count - 1, 10))
            self._found[_key(rejection)] = (count, now + pause)
        self._write()

    def _read(self) -> dict[str, tuple[int, datetime]]:
        try:
            found = json.loads(self._lake.storage.read(self._path))
            return {key: (int(count), datetime.fromtimestamp(due, UTC)) for key, (count, due) in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}  # absent, or cut short by a power cut: everything is tried again

    def _write(self) -> None:
        staged = self._lake.staging / f"tries-{os.urandom(4).hex()}"
        text = json.dumps({key: [count, due.timestamp()] for key, (count, due) in self._found.items()})
        try:
            staged.write_text(text, encoding="utf-8")
            self._lake.storage.replace(self._path, staged)
        except OSError:
            pass  # then everything is tried again
        finally:
            disk.discard(staged)


def _key(item: Result | Rejection) -> str:
    return f"{id_of(item)} {item.checksum} {item.size}"
