"""Which contents parts of a day have their records: a note under `control/` that may be deleted. I/O: the local disk.

A part without records leaves no file behind, so that files alone could not tell. The note is believed as far as the contents
part is the very file it speaks of and each records file that it names is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import date
from typing import Any

import pyarrow.compute as pc

from ricloud_connector.disk import discard
from ricloud_connector.lake import Lake
from ricloud_connector.model import DataFile, Rejection
from ricloud_connector.part_reader import read_groups
from ricloud_connector.records.feed import RECORDS
from ricloud_connector.records.rows import PARSER
from ricloud_connector.schemas import QUARANTINE


class Derived:
    """The contents parts of one day that are done."""

    def __init__(self, lake: Lake, day: date) -> None:
        self._lake, self._day = lake, day
        self._path = lake.control / RECORDS / f"{day.isoformat()}.json"
        self._parts = self._read()
        self._found: dict[str, set[int]] = {}

    def holds(self, part: DataFile) -> bool:
        """Whether the part's records are all in the lake."""
        said = self._parts.get(str(part.number))
        if said is None or said["contents"] != _identity(part):
            return False
        return all(part.number in self._numbers(feed) for feed in said["feeds"])

    def _numbers(self, feed: str) -> set[int]:
        """The parts that a feed has of the day, looked up once."""
        if feed not in self._found:
            folder = self._lake.data / RECORDS / feed / f"created_date={self._day}"
            self._found[feed] = {part.number for part in self._lake.storage.list_parts(folder)}
        return self._found[feed]

    def faults(self) -> set[tuple[str, str]]:
        """By result id and reason, the documents that gave no records, or not all, when they were last read."""
        return {(result_id, reason) for part in self._parts.values() for result_id, reason in part["faults"]}

    def add(self, part: DataFile, feeds: list[str], faults: Iterable[Rejection]) -> None:
        """Note that a part is done; a note that cannot be written costs the next run time."""
        told = [[fault.result_id, fault.reason] for fault in faults]
        self._parts[str(part.number)] = {"contents": _identity(part), "feeds": feeds, "faults": told}
        staged = self._lake.staging / f"derived-{os.urandom(8).hex()}"
        try:
            staged.write_text(json.dumps({"parser": PARSER, "parts": self._parts}), encoding="utf-8")
            self._lake.storage.replace(self._path, staged)
        except OSError:
            discard(staged)

    def _read(self) -> dict[str, Any]:
        try:
            said = json.loads(self._lake.storage.read(self._path))
            parts = said["parts"] if said["parser"] == PARSER else {}
            return {
                number: {name: list(part[name]) for name in ("contents", "feeds", "faults")} for number, part in parts.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}


def faults_of_day(lake: Lake, day: date) -> list[dict[str, Any]]:
    """The rows of the quarantine dataset of the day's documents that give no records, or not all, as things are."""
    faults = Derived(lake, day).faults()
    found: list[dict[str, Any]] = []
    for part in lake.scan(QUARANTINE, day).parts if faults else ():
        for rows in read_groups(lake.storage.open(part), QUARANTINE):
            told = rows.filter(pc.starts_with(rows.column("reason"), "records_")).to_pylist()
            found += [row for row in told if (row["result_id"], row["reason"]) in faults]
    return found


def _identity(part: DataFile) -> list[int]:
    return [part.size, part.mtime_ns, part.inode]
