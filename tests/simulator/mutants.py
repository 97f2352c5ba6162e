"""Bugs put into the connector on purpose, each a breach of its protocol; the simulator must catch every one.

A mutant is a change of a function's text. Where that text is not there any more the mutant must be written anew: `applied`
says so instead of testing nothing.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Change:
    """In a function, `module:name`, one text becomes another."""

    function: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """`bucket` says where the bug can be seen, None for both; `lax_bucket`, that the bucket ignores conditions.

    What needs a power cut at one moment and no other is met by chance too seldom: `by_points` has each moment tried.
    """

    name: str
    changes: tuple[Change, ...]
    bucket: bool | None = None
    lax_bucket: bool = False
    by_points: bool = False


def _mutant(name: str, *changes: tuple[str, str, str], **where: bool) -> Mutant:
    return Mutant(name, tuple(Change(*change) for change in changes), **where)


# A run that believes what it has committed to be there, without looking: what some of the bugs below need to do harm.
_BELIEVES = (
    "ingest.settle:Settlement.send_committed",
    "        partition = self._run.lake.scan(CONTENTS, day)\n",
    "        names = pa.array(ids, pa.string())\n"
    "        believed = available.filter(pc.is_in(available.column('result_id'), value_set=names))\n"
    "        self._acknowledger._sent.append(believed)\n"
    "        self._acknowledger._send_all(believed)\n"
    "        return available\n"
    "        partition = self._run.lake.scan(CONTENTS, day)\n",
)
_CREATED = "self.storage.create(folder / disk.part_name(number), staged.path)"
_CREATE = f"if {_CREATED}:"
_CREATED_NEXT = "self.storage.create(folder / disk.part_name(number + 1), staged.path)"
_PROVEN = "commit.proven.get(result_id) == claim"
_LINK = "kernel(os.link, staged, target)"
_TRUSTS_THE_INDEX = (
    "readback:read_back",
    "found = _proven_before(partition, file, proofs) if proofs and together == [file] else None",
    "found = {row['result_id']: Proven(row['checksum'], row['size']) for row in partition.index.to_pylist()"
    " if row['part'] == file.number}",
)

MUTANTS = (
    _mutant(
        "a name per batch",
        ("lake:Lake._commit", "number = len(found.parts)\n", "number = len(found.parts) + 7 * int(self.run_id[3:])\n"),
    ),
    _mutant(
        "the listing is acknowledged",
        (
            "ingest.settle:Settlement._send",
            "due = due_of(whole, available)\n",
            "due = due_of(whole, available)\n"
            "        self._acknowledger._sent.append(available)\n"
            "        self._acknowledger._send_all(available)\n",
        ),
    ),
    _mutant(
        "'exists' is taken for 'mine'",
        ("lake:Lake._commit", "added = lacking\n", "added = lacking\n                    return lacking\n"),
        _BELIEVES,
    ),
    _mutant(
        "a 409 is taken for 'exists', and the next number tried",
        ("lake:Lake._commit", _CREATE, f"if {_CREATED} or {_CREATED_NEXT}:"),
        bucket=True,
    ),
    _mutant(
        "a number is skipped after an unknown answer",
        ("lake:Lake._commit", "doubt = error\n", f"doubt = error\n                    {_CREATED_NEXT}\n"),
        bucket=True,
    ),
    _mutant(
        "what exists is overwritten, on a disk",
        ("disk:create", _LINK, f"target.unlink(missing_ok=True)\n        {_LINK}"),
        ("disk:probe", "        if create(target, staged):\n            raise", "        if False:\n            raise"),
        bucket=False,
    ),
    _mutant(
        "a bucket that ignores conditions is not noticed",
        ("bucket_storage:BucketStorage._probe", "if self._probe_create(target):", "if False:"),
        bucket=True,
        lax_bucket=True,
    ),
    _mutant(
        "a part is deleted on an error, on a disk",
        ("disk:_sync", "as error:\n", "as error:\n        path.unlink() if path.is_file() else None\n"),
        bucket=False,
    ),
    _mutant(
        "acknowledged before it is synced",
        ("storage:DiskStorage.create", "disk.sync(path.parent)\n", "pass\n"),
        ("storage:DiskStorage.settle_folder", "disk.sync(each)", "pass"),
        ("storage:DiskStorage.settled", "disk.settle(path)\n", "pass\n"),
        bucket=False,
    ),
    _mutant(
        "files of others are not synced",
        ("storage:DiskStorage.settle_folder", "disk.sync(each)", "pass"),
        ("storage:DiskStorage.settled", "disk.settle(path)\n", "pass\n"),
        bucket=False,
    ),
    _mutant(
        "a part is named before its bytes are synced",
        ("storage:DiskStorage.prepare", "disk.sync(staged)", "pass"),
        bucket=False,
    ),
    _mutant("no read-back: what the index says is acknowledged", _TRUSTS_THE_INDEX),
    _mutant("no read-back: what was committed is believed", _BELIEVES),
    _mutant(
        "no read-back: what was proven in staging is proof of whatever has its name",
        ("readback:_proven_before", "proofs.take(file_sha256(path))", "proofs.take(next(reversed(proofs._by_digest)))"),
    ),
    _mutant(
        "the confirmation is skipped",
        ("acknowledge:Acknowledger.confirm", "still, how = self._still_available(open_)", "still, how = set(), 'listing'"),
    ),
    _mutant(
        "acknowledgements are written down before they are confirmed",
        (
            "ingest.settle:Settlement._send",
            "self._acknowledger.send(commit,",
            "early = self._rows(_once(due.filter(pc.equal(due.column('part'), commit.file.number))), 'listing')\n"
            "            self._run.lake.commit_table(ACKNOWLEDGEMENTS, partition.day, early)\n"
            "            self._acknowledger.send(commit,",
        ),
    ),
    _mutant(
        "an acknowledgement that was never written down is not looked for",
        ("ingest.settle:Settlement._find_consumed", "list(find_consumed(self._run.client, span, ids))", "[]"),
    ),
    _mutant(
        "results of one moment are taken for one",
        (
            "listed:Listed.each_once",
            "pc.count_distinct(ids).as_py() < len(ids):\n            last = dict(zip(self.ids,",
            "True:\n            last = dict(zip(self.created.tolist(),",
        ),
    ),
    _mutant("a window is closed at its end", ("listed:Listed.within", "self.created < until", "self.created <= until")),
    _mutant("the md5 is not compared", ("verify:check_content", "digest.md5 != result.checksum", "False")),
    _mutant(
        "a large content is not compared with what was listed",
        ("part_sink:PartSink.finish", "check_content(self.result, self._digest)", "pass"),
    ),
    _mutant(
        "a large content is committed before the rows of results are",
        (
            "ingest.open_parts:OpenParts._add_part",
            "_Pair(results=self._open.results, finished=part, proven=proven)\n        self._open.results = None\n",
            "_Pair(finished=part, proven=proven)\n",
        ),
    ),
    _mutant("the size is not compared", ("verify:check_content", "digest.size != result.size", "False")),
    _mutant(
        "a result that has changed is acknowledged by its id",
        (
            "ingest.settle:due_of",
            "pc.index_in(_joined(available), value_set=_joined(whole), skip_nulls=True)",
            "pc.index_in(available.column('result_id'), value_set=whole.column('result_id'))",
        ),
        ("acknowledge:Acknowledger.send", _PROVEN, "result_id in commit.proven"),
    ),
    _mutant(
        "what is in quarantine is acknowledged",
        (
            "ingest.store:_Storing.quarantine",
            "        report.reject(open_)\n",
            "        report.reject(open_)\n        run.client.send_acknowledgements([item.result_id for item in open_])\n",
        ),
    ),
    _mutant("what cannot be proven is dropped", ("ingest.store:_Storing.quarantine", "if not rejected:", "if True:")),
    _mutant(
        "nothing is subtracted",
        ("partition:Partition.missing", "pc.and_not(first_occurrences(keys), stored)", "first_occurrences(keys)"),
    ),
    _mutant(
        "a cache is believed though there are newer parts",
        ("partition:scan", "fresh = [", "fresh = [] if known.parts else ["),
    ),
    _mutant("only the first page is read", ("listing:Listing._walk", "if not page.has_more or", "if True or")),
    _mutant(
        "the row of a result that another run wrote is not synced",
        ("ingest.settle:Settlement._send", "if due.num_rows:", "if False:"),
        bucket=False,
        by_points=True,
    ),
)  # fmt: skip


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """The connector with this bug. Raises: AssertionError where a text to be changed is not there exactly once."""
    patch = pytest.MonkeyPatch()
    try:
        for change in mutant.changes:
            _apply(change, patch)
        yield
    finally:
        patch.undo()


def _apply(change: Change, patch: pytest.MonkeyPatch) -> None:
    module_name, _, qualified = change.function.partition(":")
    module = importlib.import_module(f"ricloud_connector.{module_name}")
    *above, name = qualified.split(".")
    owner: Any = getattr(module, above[0]) if above else module
    original = inspect.unwrap(getattr(owner, name))
    text = inspect.getsource(original)
    assert text.count(change.old) == 1, f"{change.function} does not hold {change.old!r} once: write this mutant anew"
    space: dict[str, Any] = {}
    text = text.replace(change.old, change.new)
    if above:  # a method stands as far to the right as in its class
        text = f"class Holder:\n{text}"
    exec(compile(text, f"<mutant of {change.function}>", "exec"), vars(module), space)
    after = vars(space["Holder"])[name] if above else space[name]
    _replace_everywhere(owner, name, getattr(owner, name), after, patch)


def _replace_everywhere(owner: Any, name: str, before: Any, after: Any, patch: pytest.MonkeyPatch) -> None:
    """Also where a module has imported the function by its name."""
    patch.setattr(owner, name, after)
    if inspect.ismodule(owner):
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").startswith("ricloud_connector") and getattr(module, name, None) is before:
                patch.setattr(module, name, after)
